//! What is around every page: the frame, the way to the other pages, and what concerns all of them.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;
use understudy_runtime::admin::Role;

use super::api::Told;
use super::assets;
use super::cookies::{self, Flash};
use super::icons::{self, icon};
use super::look::Look as _;
use super::visit::{PACES, Theme, Visit};

/// Nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What the problems of the cluster may take to be told on pages that are about something else.
const PROBLEMS_LIMIT: std::time::Duration = std::time::Duration::from_millis(700);

/// A page.
pub(super) struct Page {
    /// Its name in the title.
    pub(super) title: String,
    /// The status of the answer.
    pub(super) status: StatusCode,
    /// The kinds of events after which it looks again.
    pub(super) topics: &'static str,
    /// What it shows.
    pub(super) body: Markup,
}

impl Page {
    /// Makes a page that looks again after events of these kinds.
    pub(super) fn new(title: impl Into<String>, topics: &'static str, body: Markup) -> Self {
        Self { title: title.into(), status: StatusCode::OK, topics, body }
    }

    /// Makes a page that stays as it is.
    pub(super) fn still(title: impl Into<String>, body: Markup) -> Self {
        Self::new(title, "", body)
    }

    /// Answers with another status.
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

/// What every page tells about the node and whoever looks.
pub(super) struct Head {
    about: Told,
    whoami: Told,
    problems: Option<Told>,
}

impl Visit {
    /// Asks for what every page tells.
    pub(super) async fn head(&self) -> Head {
        let problems = tokio::time::timeout(PROBLEMS_LIMIT, self.get("/v1/problems"));
        let (about, whoami, problems) =
            tokio::join!(self.get("/v1/about"), self.get("/v1/whoami"), problems);
        Head { about, whoami, problems: problems.ok() }
    }
}

/// A place to go to.
struct Place {
    path: &'static str,
    name: &'static str,
    icon: &'static str,
    /// The keys that lead there, after `g`.
    key: &'static str,
    role: Role,
}

const fn place(
    path: &'static str,
    name: &'static str,
    (icon, key): (&'static str, &'static str),
    role: Role,
) -> Place {
    Place { path, name, icon, key, role }
}

/// The places, in groups.
const PLACES: [(&str, &[Place]); 4] = [
    (
        "Cluster",
        &[
            place("/console", "Overview", ("home", "o"), Role::Viewer),
            place("/console/problems", "Problems", ("warn", "p"), Role::Viewer),
            place("/console/nodes", "Nodes", ("nodes", "n"), Role::Viewer),
            place("/console/leader", "Leader", ("lead", "l"), Role::Viewer),
            place("/console/config", "Configuration", ("config", "c"), Role::Viewer),
            place("/console/actors", "Actors", ("actors", "y"), Role::Viewer),
        ],
    ),
    (
        "Work",
        &[
            place("/console/jobs", "Jobs", ("jobs", "j"), Role::Viewer),
            place("/console/runs", "Runs", ("run", "r"), Role::Viewer),
            place("/console/locks", "Locks", ("lock", "k"), Role::Viewer),
            place("/console/caches", "Caches", ("cache", "h"), Role::Viewer),
            place("/console/files", "Files", ("copy", "i"), Role::Support),
        ],
    ),
    (
        "People",
        &[
            place("/console/sessions", "Sessions", ("sessions", "s"), Role::Support),
            place("/console/requests", "Requests", ("requests", "q"), Role::Admin),
        ],
    ),
    (
        "Operation",
        &[
            place("/console/maintenance", "Maintenance", ("pause", "m"), Role::Viewer),
            place("/console/settings", "Settings", ("settings", "e"), Role::Viewer),
            place("/console/log", "Log", ("log", "f"), Role::Admin),
            place("/console/audit", "Audit", ("audit", "a"), Role::Operator),
            place("/console/tokens", "Tokens", ("token", "t"), Role::Admin),
        ],
    ),
];

/// Begins an answer that is neither kept nor framed nor read by anybody else.
pub(super) fn answer(status: StatusCode) -> HttpResponseBuilder {
    let mut answer = HttpResponse::build(status);
    answer
        .insert_header((header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .insert_header((header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")))
        .insert_header((header::REFERRER_POLICY, HeaderValue::from_static("same-origin")))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"));
    answer
}

/// Has the browser ask once more, as if from here.
pub(super) fn again(next: &str) -> HttpResponse {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "Understudy" } }
            body { a href=(next) { "Go on" } }
        }
    };
    answer(StatusCode::OK).insert_header(("refresh", format!("0; url={next}"))).body(page.0)
}

/// Answers with a page, or with its changing part when only that is asked for.
pub(super) fn page(request: &HttpRequest, visit: &Visit, head: &Head, page: &Page) -> HttpResponse {
    let main = main(visit, head, page);
    if visit.fragment {
        return answer(page.status).body(main.0);
    }
    let mut answer = answer(page.status);
    if visit.flash.is_some() {
        answer.cookie(cookies::forgotten(request, cookies::FLASH));
    }
    let body = html! {
        a.skip href="#main" { "Skip to the content" }
        (bar(visit, head))
        (nav(visit, head))
        div.stale #stale role="status" hidden {}
        div.stage {
            @if let Some(flash) = &visit.flash { (told(flash)) }
            (main)
        }
        (help(visit))
        dialog #dialog aria-label="Confirmation" {}
    };
    answer.body(document(visit.theme, &page.title, "app", &body).0)
}

/// A page that stands alone, before anybody has signed in.
pub(super) fn alone(theme: Theme, title: &str, body: &Markup) -> String {
    document(theme, title, "alone", body).0
}

fn document(theme: Theme, title: &str, kind: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-theme=(theme.name()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) " · Understudy" }
                link rel="icon" href=(icons::FAVICON);
                link rel="stylesheet" href=(assets::style().path());
                script src=(assets::script().path()) defer {}
            }
            body class=(kind) {
                (icons::sprite())
                (body)
            }
        }
    }
}

fn main(visit: &Visit, head: &Head, page: &Page) -> Markup {
    let problems = head.problems.as_ref().and_then(|told| told.as_ref().ok()).map(urgent);
    html! {
        main #main tabindex="-1" data-topics=(page.topics) data-title=(page.title) data-problems=[problems] {
            (notices(visit, head))
            (page.body)
        }
    }
}

/// How many problems want somebody to do something.
fn urgent(problems: &Value) -> usize {
    problems.list("problems").iter().filter(|problem| problem.text("severity") != "info").count()
}

/// What is wrong with the node itself, above whatever else there is to see.
fn notices(visit: &Visit, head: &Head) -> Markup {
    let about = match &head.about {
        Ok(about) => about,
        Err(trouble) => {
            return notice("bad", "This node does not answer its own API", &trouble.text());
        }
    };
    let unwell = about.list("services").iter().filter(|service| service.text("health") != "ready");
    let reasons = about.list("reasons");
    let known = |name: &str| reasons.iter().any(|reason| reason.text("code") == name);
    html! {
        @for reason in reasons {
            (notice(
                "bad",
                &format!("This node is not ready: {}", reason.text("code")),
                reason.text("detail"),
            ))
        }
        @for service in unwell {
            @if !known(service.text("name")) {
                (notice(
                    if service.text("health") == "failed" { "bad" } else { "warn" },
                    &format!(
                        "The service {} of this node is {}",
                        service.text("name"),
                        service.text("health"),
                    ),
                    service.text("reason"),
                ))
            }
        }
        @if visit.console.backstage.is_open() && visit.path == "/console" {
            (notice(
                "info",
                "Nobody can sign in",
                "Everybody who reaches this port may look, and nobody may change anything, until UNDERSTUDY_ADMIN_TOKEN is set."
                ,
            ))
        }
    }
}

/// A line across the page.
pub(super) fn notice(kind: &str, title: &str, detail: &str) -> Markup {
    html! {
        div class={ "notice " (kind) } {
            (icon(if kind == "info" { "info" } else { kind }))
            p { strong { (title) } @if !detail.is_empty() { " " span { (detail) } } }
        }
    }
}

fn told(flash: &Flash) -> Markup {
    let kind = if flash.good { "ok" } else { "bad" };
    html! {
        div class={ "notice flash " (kind) } role=(if flash.good { "status" } else { "alert" }) {
            (icon(kind))
            p { strong { (flash.title) } @if !flash.detail.is_empty() { " " span { (flash.detail) } } }
        }
    }
}

fn bar(visit: &Visit, head: &Head) -> Markup {
    let about = head.about.as_ref().ok();
    let cluster = about.map(|about| about.text("cluster")).filter(|name| !name.is_empty());
    let node = visit.console.backstage.node();
    let who = head.whoami.as_ref().ok();
    let name = who.map(|who| who.text("name")).filter(|name| !name.is_empty());
    html! {
        header.top {
            button.menu type="button" popovertarget="nav" aria-label="Menu" { (icon("menu")) }
            a.brand href="/console" aria-label="Understudy" { (icons::mark()) span { "Understudy" } }
            p.where {
                span.cluster { (cluster.unwrap_or("single node")) }
                span.node title="The node that shows this page" { (node) }
            }
            div.tools {
                label.pace {
                    span.sr { "Refresh" }
                    span.beat #beat aria-hidden="true" {}
                    select #pace name="pace" {
                        @for pace in PACES {
                            option value=(pace) selected[pace == visit.pace] {
                                @if pace == 0 { "off" } @else { (pace) " s" }
                            }
                        }
                    }
                }
                (theme_button(visit))
                button.quiet type="button" popovertarget="help" aria-label="Help and shortcuts" title="Help (?)" { (icon("help")) }
                p.who {
                    span { (name.unwrap_or(&visit.who.name)) }
                    span.role { (visit.who.role) }
                }
                (door(visit))
            }
        }
    }
}

fn theme_button(visit: &Visit) -> Markup {
    let next = visit.theme.next();
    html! {
        form method="post" action="/console/theme" {
            input type="hidden" name="back" value=(visit.here);
            button.quiet name="theme" value=(next.name())
                aria-label={ "Colours: " (visit.theme.name()) ". Change to " (next.name()) }
                title={ "Colours: " (visit.theme.name()) } { (icon(match visit.theme {
                    Theme::Auto => "auto",
                    Theme::Light => "light",
                    Theme::Dark => "dark",
                })) }
        }
    }
}

/// In or out.
fn door(visit: &Visit) -> Markup {
    if visit.console.backstage.is_open() {
        return html! {};
    }
    html! {
        form method="post" action="/console/logout" {
            button.quiet aria-label="Sign out" title="Sign out" { (icon("out")) }
        }
    }
}

fn nav(visit: &Visit, head: &Head) -> Markup {
    let problems = head.problems.as_ref().and_then(|told| told.as_ref().ok()).map_or(0, urgent);
    html! {
        nav #nav popover aria-label="Pages" {
            @for (group, places) in PLACES {
                @if places.iter().any(|place| visit.may(place.role)) {
                    p { (group) }
                    ul {
                        @for place in places.iter().filter(|place| visit.may(place.role)) {
                            li { (link(visit, place, problems)) }
                        }
                    }
                }
            }
        }
    }
}

fn link(visit: &Visit, place: &Place, problems: usize) -> Markup {
    let current = is_at(&visit.path, place.path);
    html! {
        a href=(place.path) data-key=(place.key) aria-current=[current.then_some("page")] {
            (icon(place.icon))
            span { (place.name) }
            @if place.path == "/console/problems" {
                span.badge #problems hidden[problems == 0] { (problems) }
            }
        }
    }
}

fn is_at(path: &str, place: &str) -> bool {
    let path = match path {
        // Runs that the application asked for.
        "/console/tasks" => "/console/runs",
        "/console/new-job" | "/console/schedule" => "/console/jobs",
        "/console/migrations" => "/console/config",
        path => path,
    };
    if place == "/console" {
        return path == place;
    }
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn help(visit: &Visit) -> Markup {
    let places = PLACES.iter().flat_map(|(_, places)| places.iter());
    let keys = [
        ("?", "this help"),
        ("/", "to the first field of the page"),
        ("u", "look again now"),
        ("Esc", "close what is open"),
    ];
    html! {
        div.help #help popover role="dialog" aria-label="Help and shortcuts" {
            h2 { "Keys" }
            dl {
                @for (key, meaning) in keys { div { dt { kbd { (key) } } dd { (meaning) } } }
                @for place in places.filter(|place| visit.may(place.role)) {
                    div { dt { kbd { "g" } " " kbd { (place.key) } } dd { (place.name) } }
                }
            }
            label.check { input #keys type="checkbox" checked; span { "Use these keys" } }
            p.soft {
                "Times are in UTC; point at one to see it in yours. Whatever is done here is done by the admin API and is in its audit log."
            }
            button type="button" popovertarget="help" popovertargetaction="hide" { "Close" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_page_is_marked() {
        for (path, place, marked) in [
            ("/console", "/console", true),
            ("/console/jobs", "/console", false),
            ("/console/jobs/nightly", "/console/jobs", true),
            ("/console/jobsx", "/console/jobs", false),
            ("/console/tasks", "/console/runs", true),
            ("/console/migrations", "/console/config", true),
        ] {
            assert_eq!(is_at(path, place), marked, "{path} {place}");
        }
    }

    #[test]
    fn every_place_has_its_own_key() {
        let mut keys: Vec<_> =
            PLACES.iter().flat_map(|(_, places)| places.iter().map(|place| place.key)).collect();
        keys.sort_unstable();
        let count = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
