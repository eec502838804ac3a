//! Signs, drawn once in each page and used from there. Each state has a shape of its own, so that nothing depends on
//! seeing colours.

use maud::{Markup, PreEscaped, html};

/// The mark as a picture of its own: two discs, one in the light and one ready behind it.
pub(super) const FAVICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'%3E%3Crect width='24' height='24' rx='6' fill='%2314181f'/%3E%3Ccircle cx='14.5' cy='12' r='5.5' fill='none' stroke='%238fa6d8' stroke-width='1.6'/%3E%3Ccircle cx='9.5' cy='12' r='5.5' fill='%23f2b84b'/%3E%3C/svg%3E";

/// Name and drawing on a square of 16.
const SIGNS: [(&str, &str); 33] = [
    ("ok", r#"<circle cx="8" cy="8" r="6.2"/><path d="m5.2 8.2 2 2 3.8-4.2"/>"#),
    ("warn", r#"<path d="M8 2 14.6 13.5H1.4Z"/><path d="M8 6.4v3.4M8 11.6v.1"/>"#),
    (
        "bad",
        r#"<path d="M5.4 1.8h5.2l3.6 3.6v5.2l-3.6 3.6H5.4l-3.6-3.6V5.4Z"/><path d="m6 6 4 4M10 6l-4 4"/>"#,
    ),
    ("idle", r#"<circle cx="8" cy="8" r="6.2" stroke-dasharray="2.6 2.1"/>"#),
    ("off", r#"<circle cx="8" cy="8" r="6.2"/><path d="M5 8h6"/>"#),
    ("wait", r#"<circle cx="8" cy="8" r="6.2"/><path d="M8 4.6V8l2.3 1.6"/>"#),
    (
        "run",
        r#"<circle cx="8" cy="8" r="6.2"/><path d="M6.6 5.4v5.2L10.8 8Z" fill="currentColor"/>"#,
    ),
    ("again", r#"<path d="M13.5 8A5.5 5.5 0 1 1 11.6 3.8M13.6 1.8v3h-3"/>"#),
    ("info", r#"<circle cx="8" cy="8" r="6.2"/><path d="M8 7.4v3.8M8 4.9v.1"/>"#),
    ("lead", r#"<path d="m8 1.8 1.9 4 4.3.6-3.1 3 .8 4.3L8 11.6l-3.9 2.1.8-4.3-3.1-3 4.3-.6Z"/>"#),
    ("pause", r#"<circle cx="8" cy="8" r="6.2"/><path d="M6.4 5.6v4.8M9.6 5.6v4.8"/>"#),
    (
        "home",
        r#"<rect x="2" y="2" width="5" height="6"/><rect x="9" y="2" width="5" height="3.5"/><rect x="2" y="10" width="5" height="4"/><rect x="9" y="7.5" width="5" height="6.5"/>"#,
    ),
    (
        "nodes",
        r#"<rect x="2" y="2.5" width="12" height="4.4" rx="1"/><rect x="2" y="9.1" width="12" height="4.4" rx="1"/><path d="M4.6 4.7h.1M4.6 11.3h.1M7.5 4.7h4M7.5 11.3h4"/>"#,
    ),
    (
        "config",
        r#"<path d="M2 4.2h5M11 4.2h3M2 11.8h3M9 11.8h5"/><circle cx="9" cy="4.2" r="1.9"/><circle cx="7" cy="11.8" r="1.9"/>"#,
    ),
    (
        "jobs",
        r#"<rect x="2" y="3.2" width="12" height="10.8" rx="1.4"/><path d="M2 6.6h12M5.2 1.6v3M10.8 1.6v3M5 9.6h.1M8 9.6h.1M11 9.6h.1M5 11.8h.1M8 11.8h.1"/>"#,
    ),
    (
        "actors",
        r#"<circle cx="4.4" cy="4.6" r="2.4"/><circle cx="11.6" cy="4.6" r="2.4"/><circle cx="8" cy="11.8" r="2.4"/><path d="M6.8 4.6h2.4M5.5 6.8l1.4 2.8M10.5 6.8 9.1 9.6"/>"#,
    ),
    (
        "cache",
        r#"<ellipse cx="8" cy="4" rx="5.6" ry="2.2"/><path d="M2.4 4v8c0 1.2 2.5 2.2 5.6 2.2s5.6-1 5.6-2.2V4M2.4 8c0 1.2 2.5 2.2 5.6 2.2s5.6-1 5.6-2.2"/>"#,
    ),
    (
        "lock",
        r#"<rect x="3" y="7" width="10" height="7" rx="1.4"/><path d="M5.2 7V4.8a2.8 2.8 0 0 1 5.6 0V7"/>"#,
    ),
    (
        "sessions",
        r#"<circle cx="6" cy="5.4" r="2.6"/><path d="M1.6 13.6a4.4 4.4 0 0 1 8.8 0M10.4 3.1a2.6 2.6 0 0 1 0 4.6M12 10a4.4 4.4 0 0 1 2.4 3.6"/>"#,
    ),
    ("requests", r#"<path d="M2 5h10M9.4 2.4 12 5 9.4 7.6M14 11H4M6.6 8.4 4 11l2.6 2.6"/>"#),
    ("settings", r#"<path d="M8 2v5M8 11v3M3 2v7M3 13v1M13 2v2M13 8v6M6 9h4M1 11h4M11 6h4"/>"#),
    (
        "audit",
        r#"<path d="M4 1.8h6l2.6 2.6v9.8H4Z"/><path d="M6.2 6.6h4.2M6.2 9h4.2M6.2 11.4h2.6"/>"#,
    ),
    ("log", r#"<path d="M2 3.5h3M7 3.5h7M2 8h3M7 8h5M2 12.5h3M7 12.5h7"/>"#),
    ("token", r#"<circle cx="5" cy="11" r="3"/><path d="m7.2 8.8 6-6M10.6 5.4l2 2"/>"#),
    ("menu", r#"<path d="M2 4h12M2 8h12M2 12h12"/>"#),
    (
        "help",
        r#"<circle cx="8" cy="8" r="6.2"/><path d="M6.2 6.4a1.8 1.8 0 1 1 2.6 1.6c-.6.3-.8.7-.8 1.3M8 11.4v.1"/>"#,
    ),
    ("out", r#"<path d="M9 2.5H3v11h6M6.6 8h7M11 5.2 13.8 8 11 10.8"/>"#),
    (
        "auto",
        r#"<circle cx="8" cy="8" r="6"/><path d="M8 2a6 6 0 0 1 0 12Z" fill="currentColor"/>"#,
    ),
    (
        "light",
        r#"<circle cx="8" cy="8" r="3"/><path d="M8 1v1.8M8 13.2V15M1 8h1.8M13.2 8H15M3 3l1.3 1.3M11.7 11.7 13 13M13 3l-1.3 1.3M4.3 11.7 3 13"/>"#,
    ),
    ("dark", r#"<path d="M13.6 9.8A6 6 0 0 1 6.2 2.4a6 6 0 1 0 7.4 7.4Z"/>"#),
    ("plus", r#"<path d="M8 3v10M3 8h10"/>"#),
    ("next", r#"<path d="m6 3.5 4.5 4.5L6 12.5"/>"#),
    (
        "copy",
        r#"<rect x="5.4" y="5.4" width="8.4" height="8.4" rx="1.2"/><path d="M10.6 5.4V2.2H2.2v8.4h3.2"/>"#,
    ),
];

/// A sign; it says nothing by itself, so what it stands for must stand beside it.
pub(super) fn icon(name: &str) -> Markup {
    html! { svg.i aria-hidden="true" { use href={ "#i-" (name) } {} } }
}

/// All signs, to be used by name.
pub(super) fn sprite() -> Markup {
    html! {
        svg.sprite aria-hidden="true" {
            @for (name, drawing) in SIGNS {
                symbol id={ "i-" (name) } viewBox="0 0 16 16" { (PreEscaped(drawing)) }
            }
        }
    }
}

/// The mark of Understudy.
pub(super) fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 16" aria-hidden="true" {
            circle.behind cx="15.5" cy="8" r="6" {}
            circle.light cx="8.5" cy="8" r="6" {}
        }
    }
}
