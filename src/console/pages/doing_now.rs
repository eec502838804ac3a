//! What the process of a node is doing now: for somebody who asks why it is slow or silent.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::{encoded, target};
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{
    self, card, cell, empty, fact, facts, heading, number_cell, section, table,
};
use super::super::states::{self, Look};
use super::super::visit::Visit;
use super::super::words;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let name = visit.name("name");
    let told = visit.get(&target("/v1/diag/tasks", &[("node", name)])).await;
    let body = html! {
        (heading(
            html! { "What " (name) " is doing" },
            "The process as it was a moment ago.",
            html! {
                a.button href={ "/console/nodes/" (encoded(name)) } { "The node" }
                a.button href=(target("/console/requests", &[("node", name)])) { "Requests" }
            },
        ))
        (section(&told, |told| all_of_it(visit, told)))
    };
    Page::new(format!("What {name} is doing"), "jobs", body)
}

fn all_of_it(visit: &Visit, told: &Value) -> Markup {
    let blocked = told.number("blocked_workers").unwrap_or_default();
    let silent: Vec<&str> = told.list("silent").iter().filter_map(Value::as_str).collect();
    html! {
        @if blocked > 0 {
            (notice(
                "bad",
                &format!("{} not answer", words::counted(blocked, "worker does", "workers do")),
                "A handler blocks its thread.",
            ))
        }
        @if !silent.is_empty() {
            (notice("warn", "Not all work is known", &format!("{}: no answer.", silent.join(", "))))
        }
        div.columns {
            (card("Process", process(told)))
            (card("Held", held(told)))
        }
        section.card { div.head { h2 { "Tasks of the runtime" } } (tasks(visit, told)) }
        section.card { div.head { h2 { "Work under way" } } (work(visit, told)) }
        section.card { div.head { h2 { "Requests under way" } } (requests(told)) }
    }
}

fn process(told: &Value) -> Markup {
    let busy = told.list("threads.busy").iter().filter_map(Value::as_f64);
    let busy: Vec<String> = busy.map(|share| format!("{:.0} %", share * 100.0)).collect();
    facts(html! {
        (fact("Threads", told.said("threads.count")))
        (fact("Busy, each", busy.join(" · ")))
        (fact("Tasks alive", told.said("threads.alive_tasks")))
        (fact("Waiting for a thread", told.said("threads.queued")))
        (fact("Pauses", told.said("pauses.count")))
        (fact("Longest pause", parts::span(told.number("pauses.longest_ms"))))
    })
}

fn held(told: &Value) -> Markup {
    let locks = told.list("locks");
    html! {
        (facts(html! {
            (fact("Leases", format!("{} of {}", told.said("leases.held"), told.said("leases.buckets"))))
            (fact("The shortest for", parts::span(told.number("leases.shortest_ms"))))
        }))
        @if !locks.is_empty() {
            ul.lines {
                @for lock in locks {
                    li { (parts::code(lock.text("name"))) span.num { (parts::span(lock.number("trusted_ms"))) } }
                }
            }
        }
    }
}

fn tasks(visit: &Visit, told: &Value) -> Markup {
    table(
        "Tasks",
        &["Task", "State", "Since", "#Restarts", "Stopped"],
        html! {
            @for task in told.list("tasks") {
                tr {
                    (cell("Task", parts::code(task.text("name"))))
                    (cell("State", state_chip(task.text("state"))))
                    (cell("Since", parts::time(visit, task.number("since_ms"))))
                    (number_cell("Restarts", task.said("restarts")))
                    (cell("Stopped", html! {
                        @if task.has("last_stop") {
                            (parts::time(visit, task.number("last_stop.at_ms")))
                            p.soft.cut { (words::shortened(task.text("last_stop.why"), 300)) }
                        } @else { span.soft { "–" } }
                    }))
                }
            }
        },
    )
}

fn state_chip(state: &str) -> Markup {
    let look = match state {
        "runs" => Look { tone: "ok", icon: "ok" },
        "waits" => Look { tone: "warn", icon: "wait" },
        _ => Look { tone: "idle", icon: "off" },
    };
    states::chip(look, state)
}

fn work(visit: &Visit, told: &Value) -> Markup {
    let work = told.list("work");
    html! {
        @if work.is_empty() { (empty("No run is under way here", "")) }
        @else {
            (table("Work", &["Kind", "Which", "Of", "Since"], html! {
                @for one in work {
                    tr {
                        (cell("Kind", one.text("kind")))
                        (cell("Which", which(one)))
                        (cell("Of", one.text("of")))
                        (cell("Since", parts::time(visit, one.number("since_ms"))))
                    }
                }
            }))
        }
    }
}

/// A run is a way to its page.
fn which(work: &Value) -> Markup {
    match (work.text("kind"), work.text("id").parse::<i64>()) {
        ("run", Ok(id)) => parts::run_link(id),
        (_, _) => parts::code(work.text("id")),
    }
}

fn requests(told: &Value) -> Markup {
    let requests = told.list("requests");
    html! {
        @if requests.is_empty() { (empty("No request is under way", "")) }
        @else {
            (table("Requests", &["Request", "#Age", "Client"], html! {
                @for request in requests.iter().take(50) {
                    tr {
                        (cell("Request", html! {
                            (parts::code(request.text("method")))
                            " "
                            span.cut { (words::shortened(request.text("path"), 200)) }
                        }))
                        (number_cell("Age", parts::span(request.number("age_ms"))))
                        (cell("Client", request.text("client")))
                    }
                }
            }))
        }
    }
}
