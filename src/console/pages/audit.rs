//! Who did what, and who was refused.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::target;
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, cell, empty, heading, pager, section, table};
use super::super::visit::Visit;
use super::super::{states, words};

/// So many entries are on a page.
const LIMIT: &str = "50";

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let time = |name: &str| {
        let asked = visit.asked(name);
        words::from_input(asked).map_or_else(|| asked.to_owned(), |at_ms| at_ms.to_string())
    };
    let (from, to) = (time("from"), time("to"));
    let query = [
        ("by", visit.asked("by")),
        ("action", visit.asked("action")),
        ("outcome", visit.asked("outcome")),
        ("from", &from),
        ("to", &to),
        ("before", visit.asked("before")),
        ("limit", LIMIT),
    ];
    let told = visit.get(&target("/v1/audit", &query)).await;
    let body = html! {
        (heading(
            "Audit",
            "Every change that was asked for, and every refusal, whichever way it came.",
            parts::nothing(),
        ))
        section.card {
            (filters(visit))
            (section(&told, |told| list(visit, told)))
        }
    };
    Page::new("Audit", "audit", body)
}

fn filters(visit: &Visit) -> Markup {
    html! {
        form.filters method="get" action="/console/audit" {
            label {
                span { "By" }
                input name="by" type="search" value=(visit.asked("by")) autocomplete="off";
            }
            label {
                span { "Action" }
                input name="action" type="search" value=(visit.asked("action")) placeholder="nodes.drain" autocomplete="off";
            }
            label { span { "Outcome" } select name="outcome" {
                @for (value, text) in [("", "any"), ("done", "done"), ("refused", "refused"), ("failed", "failed")] {
                    option value=(value) selected[visit.asked("outcome") == value] { (text) }
                }
            } }
            label {
                span { "From, UTC" }
                input name="from" type="datetime-local" value=(visit.asked("from"));
            }
            label { span { "to" } input name="to" type="datetime-local" value=(visit.asked("to")); }
            button { "Show" }
            @if !visit.query.is_empty() { a.button href="/console/audit" { "Clear" } }
        }
    }
}

fn list(visit: &Visit, told: &Value) -> Markup {
    let entries = told.list("entries");
    html! {
        @if entries.is_empty() { (empty("Nothing was done", "Or nothing matches what was asked for.")) }
        @else {
            (table("Audit log", &["When", "Who", "Action", "Outcome", "From"], html! {
                @for entry in entries { (row(visit, entry)) }
            }))
        }
        (pager(visit, "before", &told.said("next")))
    }
}

fn row(visit: &Visit, entry: &Value) -> Markup {
    html! {
        tr {
            (cell("When", parts::both(visit, entry.number("at_ms"))))
            (cell("Who", html! {
                @if entry.text("by").is_empty() {
                    span.soft { "unknown" }
                } @else {
                    strong { (entry.text("by")) }
                }
                " " span.soft { (entry.text("role")) }
            }))
            (cell("Action", html! {
                (parts::code(entry.text("action")))
                @if !entry.text("target").is_empty() { " " (words::shortened(entry.text("target"), 120)) }
                @if !entry.text("note").is_empty() {
                    p.soft.cut { (words::shortened(entry.text("note"), 300)) }
                }
            }))
            (cell("Outcome", html! {
                (states::outcome_chip(entry.text("outcome")))
                " "
                span.soft { (entry.said("status")) }
            }))
            (cell("From", html! {
                (entry.text("address"))
                br;
                span.soft title={ "request " (entry.text("request_id")) } {
                    "on "
                    (words::node_name(entry.text("node")))
                }
            }))
        }
    }
}
