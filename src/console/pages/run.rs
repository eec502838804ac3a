//! One run: how far it is, what it says, and what went wrong.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::{Told, encoded};
use super::super::doing::button;
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{
    self, card, cell, empty, fact, facts, heading, section, table, wide_card,
};
use super::super::visit::Visit;
use super::super::{states, words};

mod tail;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let id = visit.name("id");
    let path = format!("/v1/runs/{}", encoded(id));
    let (progress_path, errors_path) = (format!("{path}/progress"), format!("{path}/errors"));
    let (told, progress, errors) =
        tokio::join!(visit.get(&path), visit.get(&progress_path), visit.get(&errors_path));
    let run = match &told {
        Ok(run) => run,
        Err(trouble) => return super::gone(&format!("Run #{id}"), trouble),
    };
    let log = tail::of(visit, &path, run.number("attempt").unwrap_or(1)).await;
    let under_way = matches!(run.text("state"), "queued" | "running" | "retrying");
    let body = html! {
        (heading(
            html! { span.row { "Run #" (id) (states::run_chip(run.text("state"))) } },
            html! { "of " (parts::job_link(run.text("job"))) },
            actions(visit, id, run, under_way),
        ))
        (notices(visit, run))
        div.columns {
            (card("Progress", section(&progress, |progress| stages(visit, progress))))
            (card("About it", about(visit, run)))
        }
        (errors_card(visit, &errors))
        (wide_card(
            "Log",
            html! { span.soft { "the latest lines" } },
            section(&log, |log| tail::show(visit, log, under_way)),
        ))
        (values(run))
    };
    Page::new(format!("Run #{id}"), if under_way { "jobs" } else { "" }, body)
}

fn actions(visit: &Visit, id: &str, run: &Value, under_way: bool) -> Markup {
    html! {
        @if under_way && !run.has("cancel_ms") { (button(visit, "runs.cancel", &[("id", id)])) }
        @if !under_way && run.text("state") != "completed" { (button(visit, "runs.retry", &[("id", id)])) }
        @if !under_way { (button(visit, "jobs.run", &[("name", run.text("job"))])) }
    }
}

fn notices(visit: &Visit, run: &Value) -> Markup {
    let under_way = !run.has("finished_ms");
    html! {
        @if run.has("cancel_ms") && under_way {
            (notice(
                "warn",
                "It was told to end",
                &format!(
                    "by {}, {}",
                    run.text("cancel_by"),
                    words::distance(run.number("cancel_ms").unwrap_or_default(), visit.now_ms),
                ),
            ))
        }
        @if run.text("state") == "retrying" {
            (notice(
                "warn",
                "The next attempt waits",
                &format!(
                    "it starts {}",
                    words::distance(run.number("not_before_ms").unwrap_or_default(), visit.now_ms),
                ),
            ))
        }
    }
}

fn stages(visit: &Visit, told: &Value) -> Markup {
    let stages = told.list("progress.stages");
    if stages.is_empty() {
        return empty(
            "It tells no progress",
            html! { "A handler tells it with " code { "job.stage(..)" } "." },
        );
    }
    html! { ol.stages { @for stage in stages { (stage_of(visit, stage)) } } }
}

fn stage_of(visit: &Visit, stage: &Value) -> Markup {
    let (done, total) = (stage.number("done").unwrap_or_default(), stage.number("total"));
    let ended = stage.number("ended_ms");
    let began = stage.number("started_ms").unwrap_or_default();
    let failed = stage.number("failed").unwrap_or_default();
    html! {
        li.under-way[ended.is_none()] {
            p.row {
                strong { (stage.text("name")) }
                span.num {
                    (words::count(done)) @if let Some(total) = total { " of " (words::count(total)) }
                    @if failed > 0 { " · " span.bad { (words::count(failed)) " failed" } }
                    " · " (words::span(ended.unwrap_or(visit.now_ms) - began))
                }
            }
            @match (total, ended) {
                (Some(total), _)
                => progress aria-label=(stage.text("name")) value=(done.min(total)) max=(total.max(1)) {}
                ,
                (None, None) => progress aria-label=(stage.text("name")) {},
                (None, Some(_)) => progress aria-label=(stage.text("name")) value="1" max="1" {},
            }
            @if !stage.text("item").is_empty() { p.soft.cut { (stage.text("item")) } }
        }
    }
}

fn about(visit: &Visit, run: &Value) -> Markup {
    facts(html! {
        (fact("Cause", run.text("cause")))
        (fact("Due", parts::both(visit, run.number("fire_ms"))))
        (fact("Started", parts::both(visit, run.number("started_ms"))))
        (fact("Ended", parts::both(visit, run.number("finished_ms"))))
        (fact("Took", parts::span(super::runs::took(visit, run))))
        (fact("Node", parts::node_link(run.text("node"))))
        (fact("Attempt", run.said("attempt")))
        (fact("Node lost", html! { (run.said("orphaned")) " times" }))
        (fact("Last sign of life", parts::time(visit, run.number("heartbeat_ms"))))
        (fact(
            "Fence",
            parts::code(&format!("{}.{}.{}", run.said("epoch"), run.said("id"), run.said("attempt"))),
        ))
        (fact("Handler", parts::code(run.text("handler"))))
        (fact("Runs on", run.text("placement")))
    })
}

fn errors_card(visit: &Visit, told: &Told) -> Markup {
    let Ok(told) = told else { return html! {} };
    let attempts = told.list("attempts");
    html! {
        @if !attempts.is_empty() {
            (card("What went wrong", table("Attempts that went wrong", &["Attempt", "Node", "Ended", "Outcome", "Error"], html! {
                @for attempt in attempts {
                    tr {
                        (cell("Attempt", attempt.said("attempt")))
                        (cell("Node", parts::node_link(attempt.text("node"))))
                        (cell("Ended", parts::both(visit, attempt.number("ended_ms"))))
                        (cell("Outcome", states::run_chip(attempt.text("outcome"))))
                        (cell("Error", html! {
                            pre.error { (words::shortened(attempt.text("error"), 2_000)) }
                        }))
                    }
                }
            })))
        }
    }
}

fn values(run: &Value) -> Markup {
    html! {
        div.columns {
            @if run.has("params") {
                (card("Parameters", parts::json("Parameters", "params", run.at("params"))))
            }
            @if run.has("result") { (card("Result", parts::json("Result", "result", run.at("result")))) }
        }
    }
}
