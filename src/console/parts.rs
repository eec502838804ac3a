//! What pages are made of: cards, facts, tables, times, what is said when there is nothing, and the way to more.

use maud::{Markup, Render, html};
use serde_json::Value;

use super::api::{Kind, Told, Trouble, encoded, target};
use super::icons::icon;
use super::visit::Visit;
use super::words;

/// The head of a page.
pub(super) fn heading(title: impl Render, about: impl Render, actions: impl Render) -> Markup {
    html! {
        div.heading {
            div { h1 { (title) } p.lead { (about) } }
            div.actions { (actions) }
        }
    }
}

/// Nothing at all, where something could be.
pub(super) fn nothing() -> Markup {
    html! {}
}

/// A part of a page with a title.
pub(super) fn card(title: &str, body: impl Render) -> Markup {
    wide_card(title, nothing(), body)
}

/// A part of a page with a title and what can be done with it.
pub(super) fn wide_card(title: &str, actions: impl Render, body: impl Render) -> Markup {
    html! {
        section.card {
            div.head { h2 { (title) } div.actions { (actions) } }
            (body)
        }
    }
}

/// One line of facts; an empty one is a dash.
pub(super) fn fact(name: &str, value: impl Render) -> Markup {
    let value = value.render();
    html! { div { dt { (name) } dd { @if value.0.is_empty() { "–" } @else { (value) } } } }
}

/// Facts below each other.
pub(super) fn facts(facts: impl Render) -> Markup {
    html! { dl.facts { (facts) } }
}

/// What there is to see when there is nothing: that this is fine, or what to do.
pub(super) fn empty(title: &str, hint: impl Render) -> Markup {
    html! { div.empty { p { strong { (title) } } p { (hint) } } }
}

/// A part of a page that the API may not be able to tell.
pub(super) fn section(told: &Told, show: impl FnOnce(&Value) -> Markup) -> Markup {
    match told {
        Ok(value) => show(value),
        Err(trouble) => missing(trouble),
    }
}

/// Why a part of a page is not there.
pub(super) fn missing(trouble: &Trouble) -> Markup {
    match trouble.kind {
        Kind::NotThere => empty(
            "Not available on this node",
            "Its version, or the way it is set up, does not have this.",
        ),
        Kind::Forbidden => {
            empty("Not for this role", "Ask somebody who may, or sign in with another token.")
        }
        Kind::SignedOut => {
            html! {
                div.empty { p { strong { "Signed out" } } p { a href="/console/login" { "Sign in again" } } }
            }
        }
        Kind::Away => away(trouble),
        Kind::Unknown | Kind::Refused => empty(&trouble.title, &trouble.detail),
    }
}

fn away(trouble: &Trouble) -> Markup {
    html! {
        div.empty.bad {
            p { strong { (icon("bad")) " " (trouble.title) } }
            p { @if !trouble.detail.is_empty() { (trouble.detail) ". " } "This page looks again by itself." }
        }
    }
}

/// A time, told by how far away it is.
pub(super) fn time(visit: &Visit, at_ms: Option<i64>) -> Markup {
    match at_ms {
        Some(at_ms) => html! {
            time datetime=(words::rfc3339(at_ms)) title={ (words::clock(at_ms)) " UTC" } {
                (words::distance(at_ms, visit.now_ms))
            }
        },
        None => html! { span.soft { "–" } },
    }
}

/// For how long something has been so.
pub(super) fn lasting(visit: &Visit, since_ms: Option<i64>) -> Markup {
    match since_ms {
        Some(at_ms) => html! {
            time datetime=(words::rfc3339(at_ms)) title={ (words::clock(at_ms)) " UTC" } {
                (words::length(visit.now_ms - at_ms))
            }
        },
        None => html! { span.soft { "–" } },
    }
}

/// A time in full.
pub(super) fn exactly(at_ms: i64) -> Markup {
    html! {
        time.exact datetime=(words::rfc3339(at_ms)) title={ (words::clock(at_ms)) " UTC" } {
            (words::clock(at_ms))
        }
    }
}

/// A time in full, with how far away it is.
pub(super) fn both(visit: &Visit, at_ms: Option<i64>) -> Markup {
    match at_ms {
        Some(at_ms) => {
            html! { (exactly(at_ms)) " " span.soft { (words::distance(at_ms, visit.now_ms)) } }
        }
        None => html! { span.soft { "–" } },
    }
}

/// How long something took, or takes.
pub(super) fn span(ms: Option<i64>) -> Markup {
    html! { @match ms { Some(ms) => (words::span(ms)), None => span.soft { "–" } } }
}

/// A way to a node.
pub(super) fn node_link(id: &str) -> Markup {
    let name = words::node_name(id);
    html! {
        @if name.is_empty() { span.soft { "–" } }
        @else { a href={ "/console/nodes/" (encoded(name)) } title=(id) { (name) } }
    }
}

/// A way to a job.
pub(super) fn job_link(name: &str) -> Markup {
    html! { a href={ "/console/jobs/" (encoded(name)) } { (name) } }
}

/// A way to a run.
pub(super) fn run_link(id: i64) -> Markup {
    html! { a.num href={ "/console/runs/" (id) } { "#" (id) } }
}

/// A table whose rows become cards where there is no room for columns: each cell repeats its column's name there.
pub(super) fn table(caption: &str, columns: &[&str], rows: impl Render) -> Markup {
    html! {
        table.cards {
            caption.sr { (caption) }
            thead { tr { @for column in columns { (column_head(column)) } } }
            tbody { (rows) }
        }
    }
}

/// A column's head; one that begins with `#` has numbers, to the right.
fn column_head(column: &str) -> Markup {
    match column.strip_prefix('#') {
        Some(column) => html! { th.num scope="col" { (column) } },
        None if column.is_empty() => html! { td {} },
        None => html! { th scope="col" { (column) } },
    }
}

/// A cell.
pub(super) fn cell(column: &str, value: impl Render) -> Markup {
    html! { td data-label=(column) { div { (value) } } }
}

/// A cell with a number.
pub(super) fn number_cell(column: &str, value: impl Render) -> Markup {
    html! { td.num data-label=(column) { div { (value) } } }
}

/// What is wider than the page scrolls by itself.
pub(super) fn scroll(label: &str, id: &str, body: impl Render) -> Markup {
    html! { div.scroll id=(id) role="region" aria-label=(label) tabindex="0" { (body) } }
}

/// The way to the next page of a list, and back to the first.
pub(super) fn pager(visit: &Visit, parameter: &str, next: &str) -> Markup {
    let begun = !visit.asked(parameter).is_empty();
    let others: Vec<(&str, &str)> = visit
        .query
        .iter()
        .filter(|(name, _)| name != parameter)
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut further = others.clone();
    further.push((parameter, next));
    html! {
        @if begun || !next.is_empty() {
            nav.pager aria-label="More of the list" {
                @if begun { a.button href=(target(&visit.path, &others)) { "To the first" } }
                @if !next.is_empty() {
                    a.button href=(target(&visit.path, &further)) { "Next" (icon("next")) }
                }
            }
        }
    }
}

/// A value of JSON for people to read, cut where it is long.
pub(super) fn json(label: &str, id: &str, value: &Value) -> Markup {
    const MOST: usize = 6_000;
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    scroll(label, id, html! { pre { code { (words::shortened(&text, MOST)) } } })
}

/// A word that programs use too.
pub(super) fn code(text: &str) -> Markup {
    html! { code { (text) } }
}

/// One big number with what it counts.
pub(super) fn tile(label: &str, value: impl Render, note: impl Render) -> Markup {
    html! { div.tile { p.label { (label) } p.value { (value) } p.note { (note) } } }
}
