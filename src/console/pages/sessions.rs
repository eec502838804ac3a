//! Sessions: found by their user, and ended. What they hold is shown to nobody.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::{encoded, target};
use super::super::doing::button;
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, card, cell, empty, heading, number_cell, pager, section, table};
use super::super::states::{self, Look};
use super::super::visit::Visit;
use super::super::words;

/// So many sessions are on a page.
const LIMIT: &str = "50";

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let user = visit.asked("user");
    let query = [("user", user), ("after", visit.asked("after")), ("limit", LIMIT)];
    let path = target("/v1/sessions", &query);
    let (told, count, online) = tokio::join!(
        visit.get(&path),
        visit.get("/v1/sessions/count"),
        visit.get("/v1/users/online?limit=20")
    );
    let about = match &count {
        Ok(count) => html! {
            strong.num { (words::count(count.number("sessions").unwrap_or_default())) } " sessions"
            @if let Some(users) = count.number("users") {
                " of "
                strong.num { (words::count(users)) }
                " users"
            }
            @if let Some(named) = count.number("named") {
                ", somebody is logged in in "
                strong.num { (words::count(named)) }
            }
            ". What they hold is not shown."
        },
        Err(_) => html! { "Found by their user. What they hold is not shown." },
    };
    let body = html! {
        (heading("Sessions", about, button(visit, "sessions.end_all", &[])))
        section.card {
            (find(visit, user))
            (section(&told, |told| list(visit, user, told)))
        }
        @if user.is_empty() {
            (card("Online", section(&online, |online| who_is_online(visit, online))))
        }
    };
    Page::new("Sessions", "", body)
}

fn find(visit: &Visit, user: &str) -> Markup {
    html! {
        form.filters method="get" action="/console/sessions" {
            label {
                span { "User" }
                input name="user" type="search" value=(user) autocomplete="off" spellcheck="false" placeholder="exactly as the application names them";
            }
            button { "Find" }
            @if !user.is_empty() {
                a.button href="/console/sessions" { "All" }
                (button(visit, "sessions.end_user", &[("user", user)]))
            }
        }
    }
}

fn list(visit: &Visit, user: &str, told: &Value) -> Markup {
    let sessions = told.list("sessions");
    html! {
        @if sessions.is_empty() {
            @if user.is_empty() {
                (empty("There are no sessions", "One begins with the first thing that is kept in it."))
            }
            @else {
                (empty("No session of this user", html! {
                    "Nobody is signed in as "
                    strong { (user) }
                    " now. The name must be exactly that of the application."
                }))
            }
        } @else {
            (table("Sessions", &["Session", "User", "#Changed", "#Expires", "#Size", "Resident on", ""], html! {
                @for session in sessions { (row(visit, session)) }
            }))
        }
        (pager(visit, "after", told.text("next")))
    }
}

/// Who was here lately.
fn who_is_online(visit: &Visit, online: &Value) -> Markup {
    let users = online.list("users");
    html! {
        p {
            strong.num { (words::counted(online.number("total").unwrap_or_default(), "user", "users")) }
            " and "
            strong.num {
                (words::counted(online.number("guests").unwrap_or_default(), "visitor", "visitors"))
            }
            " were here in the last "
            (words::counted(online.number("within_s").unwrap_or_default() / 60, "minute", "minutes"))
            "."
        }
        @if !users.is_empty() {
            (table("Online", &["User", "#Seen"], html! {
                @for user in users {
                    tr {
                        (cell("User", who(user)))
                        (number_cell("Seen", parts::time(visit, user.number("seen_ms"))))
                    }
                }
            }))
        }
        @if online.has("next") { p.soft { "and more" } }
    }
}

fn row(visit: &Visit, session: &Value) -> Markup {
    let id = session.text("id");
    html! {
        tr {
            (cell("Session", html! {
                a.num href={ "/console/sessions/" (encoded(id)) } { (parts::code(&words::shortened(id, 12))) }
            }))
            (cell("User", who(session)))
            (number_cell("Changed", parts::time(visit, session.number("changed_ms"))))
            (number_cell("Expires", parts::time(visit, session.number("expires_ms"))))
            (number_cell("Size", session.number("bytes").map(words::bytes).unwrap_or_default()))
            (cell("Resident on", residence(session)))
            td.do { div { (button(visit, "sessions.end", &[("id", id)])) } }
        }
    }
}

/// Whose it is, with the way to all of theirs.
pub(super) fn who(session: &Value) -> Markup {
    match session.text("user") {
        "" => html! { span.soft { "nobody by name" } },
        user => html! { a href=(target("/console/sessions", &[("user", user)])) { (user) } },
    }
}

/// Which node has it, and whether that node still has its lease.
pub(super) fn residence(session: &Value) -> Markup {
    let node = match session.text("lease.node") {
        "" => session.text("owner"),
        node => node,
    };
    html! {
        (parts::node_link(node))
        @if session.at("lease").is_object() && !session.flag("lease.live") {
            " " (states::chip(Look { tone: "warn", icon: "warn" }, "lease ended"))
        }
    }
}
