//! One session: everything about it but what it holds.

use maud::html;

use super::super::api::encoded;
use super::super::doing::button;
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, card, fact, facts, heading};
use super::super::visit::Visit;
use super::super::words;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let id = visit.name("id");
    let told = visit.get(&format!("/v1/sessions/{}", encoded(id))).await;
    let session = match &told {
        Ok(session) => session,
        Err(trouble) => return super::gone("Session", trouble),
    };
    let user = session.text("user");
    let actions = html! {
        (button(visit, "sessions.end", &[("id", id)]))
        @if !user.is_empty() {
            (button(visit, "sessions.end_others", &[("id", id)]))
            (button(visit, "sessions.end_user", &[("user", user)]))
        }
    };
    let body = html! {
        (heading("Session", html! { "of " (super::sessions::who(session)) }, actions))
        div.columns {
            (card("About it", facts(html! {
                (fact("Name", parts::code(session.text("id"))))
                (fact("User", super::sessions::who(session)))
                (fact("Began", parts::both(visit, session.number("created_ms"))))
                (fact("Changed", parts::both(visit, session.number("changed_ms"))))
                (fact("Expires", parts::both(visit, session.number("expires_ms"))))
                (fact("Size", session.number("bytes").map(words::bytes).unwrap_or_default()))
            })))
            (card("Where it is", facts(html! {
                (fact("Resident on", super::sessions::residence(session)))
                (fact("Written by", parts::node_link(session.text("owner"))))
                (fact("Epoch", session.said("epoch")))
                (fact("Version", session.said("version")))
            })))
        }
    };
    Page::new("Session", "", body)
}
