//! Locks of which there is one holder in the cluster.

use maud::{Markup, html};
use serde_json::Value;

use super::super::doing::button;
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, cell, empty, heading, number_cell, section, table};
use super::super::visit::Visit;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let told = visit.get("/v1/locks").await;
    let body = html! {
        (heading(
            "Locks",
            "Held by one node of the cluster at a time, and free by themselves when that node dies.",
            parts::nothing(),
        ))
        section.card { (section(&told, |told| list(visit, told))) }
    };
    Page::new("Locks", "*", body)
}

fn list(visit: &Visit, told: &Value) -> Markup {
    let locks = told.list("locks");
    if locks.is_empty() {
        return empty(
            "No lock is held",
            "A handler takes one with `ClusterLocks`; jobs need none.",
        );
    }
    table(
        "Locks",
        &["Lock", "Holder", "Since", "#Left", "#Token", ""],
        html! {
            @for lock in locks {
                tr {
                    (cell("Lock", html! { strong { (lock.text("name")) } }))
                    (cell("Holder", parts::node_link(lock.text("node"))))
                    (cell("Since", parts::both(visit, lock.number("acquired_ms"))))
                    (number_cell("Left", parts::span(lock.number("remaining_ms"))))
                    (number_cell("Token", lock.said("token")))
                    td.do { div { (button(visit, "locks.clear", &[("name", lock.text("name"))])) } }
                }
            }
        },
    )
}
