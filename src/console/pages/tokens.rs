//! Tokens of people and programs: who has which role, and until when.

use maud::{Markup, html};
use serde_json::Value;

use super::super::doing::button;
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, cell, empty, heading, section, table};
use super::super::states::{self, Look};
use super::super::visit::Visit;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let told = visit.get("/v1/tokens").await;
    let body = html! {
        (heading(
            "Tokens",
            "One for each person and program, so that the audit log tells them apart. Those in the options of nodes are not listed."
            ,
            button(visit, "tokens.create", &[]),
        ))
        section.card { (section(&told, |told| list(visit, told))) }
    };
    Page::new("Tokens", "audit", body)
}

fn list(visit: &Visit, told: &Value) -> Markup {
    let tokens = told.list("tokens");
    if tokens.is_empty() {
        return empty("There are no tokens yet", "“New token” makes one; it is shown once.");
    }
    table(
        "Tokens",
        &["Whose", "Role", "State", "Made", "Used", "Good until", ""],
        html! {
            @for token in tokens { (row(visit, token)) }
        },
    )
}

fn row(visit: &Visit, token: &Value) -> Markup {
    let expired = token.number("expires_ms").is_some_and(|at| at <= visit.now_ms);
    let (revoked, id) = (token.has("revoked_ms"), token.said("id"));
    html! {
        tr {
            (cell("Whose", html! { strong { (token.text("name")) } }))
            (cell("Role", token.text("role")))
            (cell("State", match (revoked, expired) {
                (true, _) => states::chip(Look { tone: "idle", icon: "off" }, "revoked"),
                (false, true) => states::chip(Look { tone: "warn", icon: "wait" }, "expired"),
                (false, false) => states::chip(Look { tone: "ok", icon: "ok" }, "good"),
            }))
            (cell("Made", html! {
                (parts::time(visit, token.number("created_ms")))
                " by "
                (token.text("created_by"))
            }))
            (cell("Used", html! {
                @match token.number("used_ms") {
                    Some(at) => (parts::time(visit, Some(at))),
                    None => span.soft { "never" },
                }
            }))
            (cell("Good until", html! {
                @match token.number("expires_ms") {
                    Some(at) => (parts::both(visit, Some(at))),
                    None => "it is revoked",
                }
            }))
            td.do { div { @if !revoked { (button(visit, "tokens.revoke", &[("id", &id)])) } } }
        }
    }
}
