//! Runs of jobs, and of what the application put into the queue: filtered, the newest first.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::target;
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, cell, empty, heading, number_cell, pager, section, table};
use super::super::visit::Visit;
use super::super::{states, words};

/// So many runs are on a page.
const LIMIT: &str = "50";
/// Whose runs are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Those of one job, which is named elsewhere.
    OneJob,
    /// Those of several jobs.
    Several,
}

/// All states, as the filter has them.
const STATES: [&str; 10] = [
    "queued",
    "running",
    "retrying",
    "completed",
    "failed",
    "cancelled",
    "skipped",
    "lost",
    "dead",
    "incompatible",
];

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let states = visit.all_asked("state");
    let (from, to) = (time_asked(visit, "from"), time_asked(visit, "to"));
    let query = [
        ("job", visit.asked("job")),
        ("state", states.as_str()),
        ("from", &from),
        ("to", &to),
        ("stale", visit.asked("stale")),
        ("system", visit.asked("system")),
        ("before", visit.asked("before")),
        ("limit", LIMIT),
    ];
    let told = visit.get(&target("/v1/runs", &query)).await;
    let body = html! {
        (heading("Runs", "What was started, by a schedule, by somebody, or by another job.", tabs(false)))
        section.card {
            (filters(visit, "/console/runs", true))
            (section(&told, |told| list(visit, told)))
        }
    };
    Page::new("Runs", "jobs", body)
}

/// Shows what the application put into the queue.
pub(in super::super) async fn tasks(visit: &Visit) -> Page {
    let states = visit.all_asked("state");
    let query = [
        ("job", visit.asked("job")),
        ("state", states.as_str()),
        ("before", visit.asked("before")),
        ("limit", LIMIT),
    ];
    let told = visit.get(&target("/v1/tasks", &query)).await;
    let body = html! {
        (heading(
            "Tasks",
            "What the application put into the queue. Unless states are chosen: those that came to nothing.",
            tabs(true),
        ))
        section.card {
            (filters(visit, "/console/tasks", false))
            (section(&told, |told| list(visit, told)))
        }
    };
    Page::new("Tasks", "jobs", body)
}

/// A time of a form, as the API wants it; what is none is left to the API to refuse.
fn time_asked(visit: &Visit, name: &str) -> String {
    let asked = visit.asked(name);
    words::from_input(asked).map_or_else(|| asked.to_owned(), |at_ms| at_ms.to_string())
}

fn tabs(tasks: bool) -> Markup {
    html! {
        a.button href="/console/runs" aria-current=[(!tasks).then_some("page")] { "Runs" }
        a.button href="/console/tasks" aria-current=[tasks.then_some("page")] { "Tasks" }
    }
}

fn filters(visit: &Visit, action: &str, all: bool) -> Markup {
    let chosen = visit.all_asked("state");
    let chosen: Vec<&str> = chosen.split(',').collect();
    html! {
        form.filters method="get" action=(action) {
            label {
                span { "Job" }
                input name="job" type="search" value=(visit.asked("job")) autocomplete="off" spellcheck="false";
            }
            @if all {
                label {
                    span { "Due from, UTC" }
                    input name="from" type="datetime-local" value=(visit.asked("from"));
                }
                label { span { "to" } input name="to" type="datetime-local" value=(visit.asked("to")); }
                label {
                    span { "Silent for s" }
                    input.short name="stale" type="number" min="0" value=(visit.asked("stale"));
                }
                label.check {
                    input type="checkbox" name="system" value="true" checked[visit.asked("system") == "true"];
                    span { "Those of Understudy too" }
                }
            }
            fieldset.states {
                legend.sr { "States" }
                @for state in STATES {
                    label.check {
                        input type="checkbox" name="state" value=(state) checked[chosen.contains(&state)];
                        span { (state) }
                    }
                }
            }
            button { "Show" }
            @if !visit.query.is_empty() { a.button href=(action) { "Clear" } }
        }
    }
}

fn list(visit: &Visit, told: &Value) -> Markup {
    let runs = told.list("runs");
    html! {
        @if runs.is_empty() { (empty("No runs", "Nothing matches. Choose fewer states, or a longer time.")) }
        @else { (table_of(visit, runs, Of::Several)) }
        (pager(visit, "before", &told.said("next")))
    }
}

/// A table of runs.
pub(super) fn table_of(visit: &Visit, runs: &[Value], of: Of) -> Markup {
    let columns: &[&str] = match of {
        Of::Several => &["Run", "Job", "State", "Due", "#Late", "#Took", "Node"],
        Of::OneJob => &["Run", "State", "Due", "#Late", "#Took", "Node"],
    };
    table("Runs", columns, html! { @for run in runs { (row(visit, run, of)) } })
}

fn row(visit: &Visit, run: &Value, of: Of) -> Markup {
    let cause =
        html! { @if run.text("cause") != "schedule" { " " span.tag { (run.text("cause")) } } };
    html! {
        tr {
            (cell("Run", html! {
                (parts::run_link(run.number("id").unwrap_or_default()))
                @if of == Of::OneJob { (cause) }
            }))
            @if of == Of::Several { (cell("Job", html! { (parts::job_link(run.text("job"))) (cause) })) }
            (cell("State", html! {
                (states::run_chip(run.text("state")))
                @if run.number("attempt").unwrap_or_default() > 1 {
                    " "
                    span.soft { "attempt " (run.said("attempt")) }
                }
            }))
            (cell("Due", html! { (parts::time(visit, run.number("fire_ms"))) }))
            (number_cell("Late", late(run)))
            (number_cell("Took", parts::span(took(visit, run))))
            (cell("Node", parts::node_link(run.text("node"))))
        }
    }
}

/// How late it started: for runs that had a due time.
fn late(run: &Value) -> Markup {
    let started = run.number("started_ms").zip(run.number("fire_ms"));
    let late =
        started.filter(|_| run.text("cause") == "schedule").map(|(at, due)| (at - due).max(0));
    parts::span(late)
}

/// How long it took, or takes so far.
pub(in super::super) fn took(visit: &Visit, run: &Value) -> Option<i64> {
    let end =
        run.number("finished_ms").or((run.text("state") == "running").then_some(visit.now_ms));
    Some((end? - run.number("started_ms")?).max(0))
}
