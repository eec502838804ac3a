//! The doctor: every check of a node, with what to do about those that are not well.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::target;
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, cell, empty, heading, number_cell, section, table};
use super::super::visit::Visit;
use super::super::{states, words};

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let node = visit.asked("node");
    let path = target("/v1/diag", &[("node", node)]);
    let (told, nodes) = tokio::join!(visit.get(&path), visit.get("/v1/nodes"));
    let of = match (told.as_ref().map(|told| told.text("node")), node) {
        (Ok(name), _) if !name.is_empty() => name.to_owned(),
        (_, "") => visit.console.backstage.node(),
        (_, name) => name.to_owned(),
    };
    let choose = html! {
        @if let Ok(nodes) = &nodes {
            form.inline.filter method="get" action="/console/problems/doctor" {
                label { span.sr { "Node" } (super::node_select(nodes, &of, None)) }
                button { "Examine" }
            }
        }
        a.button href="/console/problems" { "Problems" }
    };
    let body = html! {
        (heading("Doctor", html! { "Every check of " (parts::node_link(&of)) ", asked just now." }, choose))
        (section(&told, results))
    };
    Page::still("Doctor", body)
}

fn results(told: &Value) -> Markup {
    let checks = told.list("checks");
    let count = |result: &str| checks.iter().filter(|check| check.text("result") == result).count();
    let mut sorted: Vec<&Value> = checks.iter().collect();
    sorted.sort_by_key(|check| match check.text("result") {
        "critical" => 0,
        "warning" => 1,
        "ok" => 2,
        _ => 3,
    });
    html! {
        div.tiles.small {
            (parts::tile("Critical", count("critical"), states::check_chip("critical")))
            (parts::tile("Warnings", count("warning"), states::check_chip("warning")))
            (parts::tile("Well", count("ok"), states::check_chip("ok")))
            (parts::tile("Skipped", count("skipped"), states::check_chip("skipped")))
        }
        section.card {
            @if checks.is_empty() { (empty("There is nothing to check", "This node has no checks.")) }
            @else {
                (table("Checks", &["Result", "Check", "Found", "#Took"], html! {
                    @for check in sorted { (row(check)) }
                }))
            }
        }
    }
}

fn row(check: &Value) -> Markup {
    html! {
        tr {
            (cell("Result", states::check_chip(check.text("result"))))
            (cell("Check", html! { strong { (check.text("title")) } br; (parts::code(check.text("code"))) }))
            (cell("Found", html! {
                (check.text("text"))
                @if !check.text("fix").is_empty() && check.text("result") != "ok" {
                    p.fix { (check.text("fix")) }
                }
            }))
            (number_cell("Took", check.number("took_ms").map(words::span).unwrap_or_default()))
        }
    }
}
