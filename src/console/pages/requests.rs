//! Requests that a node is answering right now.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::target;
use super::super::doing::button;
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{self, cell, empty, heading, number_cell, section, table};
use super::super::visit::Visit;
use super::super::words;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let node = visit.asked("node");
    let path = target("/v1/requests", &[("node", node)]);
    let (told, nodes) = tokio::join!(visit.get(&path), visit.get("/v1/nodes"));
    let of = match (&told, node) {
        (Ok(told), _) if !told.text("node").is_empty() => {
            words::node_name(told.text("node")).to_owned()
        }
        (_, "") => visit.console.backstage.node(),
        (_, node) => node.to_owned(),
    };
    let choose = html! {
        @if let Ok(nodes) = &nodes {
            form.inline.filter method="get" action="/console/requests" {
                label { span.sr { "Node" } (super::node_select(nodes, &of, None)) }
                button { "Show" }
            }
        }
    };
    let body = html! {
        (heading(
            "Requests",
            html! { "What " (parts::node_link(&of)) " is answering right now, the oldest first." },
            choose,
        ))
        section.card { (section(&told, |told| list(visit, &of, told))) }
    };
    Page::new("Requests", "*", body)
}

fn list(visit: &Visit, node: &str, told: &Value) -> Markup {
    let mut requests: Vec<&Value> = told.list("requests").iter().collect();
    requests.sort_by_key(|request| std::cmp::Reverse(request.number("age_ms")));
    let blocked = told.number("blocked_workers").unwrap_or_default();
    html! {
        @if blocked > 0 {
            (notice(
                "bad",
                &format!("{} not answer", words::counted(blocked, "worker does", "workers do")),
                "A handler blocks its thread; what it is doing cannot be listed.",
            ))
        }
        @if requests.is_empty() {
            (empty("No request is under way", "This page looks again by itself."))
        } @else {
            (list_of(visit, node, &requests))
        }
    }
}

fn list_of(visit: &Visit, node: &str, requests: &[&Value]) -> Markup {
    table(
        "Requests",
        &["Request", "#Age", "Client", "Name", ""],
        html! {
            @for request in requests.iter().take(200) {
                tr {
                    (cell("Request", html! {
                        (parts::code(request.text("method")))
                        " "
                        span.cut { (words::shortened(request.text("path"), 200)) }
                    }))
                    (number_cell("Age", parts::span(request.number("age_ms"))))
                    (cell("Client", request.text("client")))
                    (cell("Name", parts::code(&request.said("id"))))
                    td.do {
                        div {
                            (button(visit, "requests.cancel", &[("id", &request.said("id")), ("node", node)]))
                        }
                    }
                }
            }
        },
    )
}
