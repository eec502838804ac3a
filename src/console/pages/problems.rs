//! What the nodes have found that somebody should do something about, and what.

use maud::{Markup, html};
use serde_json::Value;

use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, empty, heading, section};
use super::super::states;
use super::super::visit::Visit;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let told = visit.get("/v1/problems").await;
    let doctor = html! { a.button href="/console/problems/doctor" { "Ask the doctor" } };
    let body = html! {
        (heading("Problems", "What the nodes have found by themselves, the worst first.", doctor))
        section.card {
            (section(&told, |told| list(visit, told)))
        }
    };
    Page::new("Problems", "problems nodes", body)
}

fn list(visit: &Visit, told: &Value) -> Markup {
    let mut problems: Vec<&Value> = told.list("problems").iter().collect();
    problems.sort_by_key(|problem| rank(problem.text("severity")));
    let unreachable: Vec<&str> =
        told.list("unreachable").iter().filter_map(Value::as_str).collect();
    html! {
        @if !unreachable.is_empty() {
            (super::super::layout::notice(
                "warn",
                "Not asked",
                &format!("{}: no answer.", unreachable.join(", ")),
            ))
        }
        @if problems.is_empty() {
            (empty("No problems were found", html! {
                "Each node looks for them all the time. "
                a href="/console/problems/doctor" { "The doctor" }
                " looks deeper."
            }))
        }
        ul.problems { @for problem in problems { (line(visit, problem)) } }
        @if told.has("checked_ms") { p.soft { "Looked " (parts::time(visit, told.number("checked_ms"))) } }
    }
}

fn rank(severity: &str) -> u8 {
    match severity {
        "critical" => 0,
        "warning" => 1,
        _ => 2,
    }
}

/// The nodes that tell it.
fn told_by(problem: &Value) -> Vec<&str> {
    let nodes: Vec<&str> = problem.list("nodes").iter().filter_map(Value::as_str).collect();
    match (nodes.is_empty(), problem.text("node")) {
        (true, "") => Vec::new(),
        (true, node) => vec![node],
        (false, _) => nodes,
    }
}

/// One problem.
pub(in super::super) fn line(visit: &Visit, problem: &Value) -> Markup {
    html! {
        li {
            (states::severity_chip(problem.text("severity")))
            div {
                p { strong { (problem.text("text")) } }
                @if !problem.text("fix").is_empty() { p.fix { (problem.text("fix")) } }
                p.soft {
                    @for node in told_by(problem) { (parts::node_link(node)) " · " }
                    (parts::code(problem.text("code")))
                    @if problem.has("since_ms") {
                        " · for "
                        (parts::lasting(visit, problem.number("since_ms")))
                    }
                }
            }
        }
    }
}
