//! One job: its definition, when it is due, how it went, and why it did or did not run.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::{Told, encoded, target};
use super::super::chart::{self, Bar};
use super::super::doing::button;
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{self, card, empty, fact, facts, heading, section, wide_card};
use super::super::states::{self, Look};
use super::super::visit::Visit;
use super::super::words;

mod definition;

/// So many past runs are drawn.
const DRAWN: usize = 60;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let name = visit.name("name");
    let path = format!("/v1/jobs/{}", encoded(name));
    let preview = format!("{path}/preview?count=20");
    let runs = target("/v1/runs", &[("job", name), ("limit", &DRAWN.to_string())]);
    let (told, preview, runs, explained, scheduler) = tokio::join!(
        visit.get(&path),
        visit.get(&preview),
        visit.get(&runs),
        explained(visit, &path),
        visit.get("/v1/scheduler"),
    );
    let job = match &told {
        Ok(job) => job,
        Err(trouble) => return super::gone(name, trouble),
    };
    let body = html! {
        (heading(
            html! { span.row { (name) (states::job_chip(job)) } },
            job.text("spec.description"),
            actions(visit, job),
        ))
        (super::jobs::pause_notice(visit, &scheduler))
        (notices(visit, job))
        (wide_card(
            "History",
            html! { a.button href=(target("/console/runs", &[("job", name)])) { "All runs" } },
            section(&runs, |runs| history(visit, runs)),
        ))
        div.columns {
            div.stack {
                (explain_card(visit, name, explained.as_ref()))
                (card("When", when(visit, job, &preview)))
            }
            div.stack {
                (card("How", definition::policies(visit, job)))
                (card("Definition", definition::whole(visit, job)))
            }
        }
    };
    Page::new(format!("Job {name}"), "jobs", body)
}

fn actions(visit: &Visit, job: &Value) -> Markup {
    let name = job.text("name");
    let values = [("name", name)];
    let by_operator = job.text("origin") == "api";
    html! {
        (button(visit, "jobs.run", &values))
        @if job.has("paused") {
            (button(visit, "jobs.resume", &values))
        } @else {
            (button(visit, "jobs.pause", &values))
        }
        @if job.flag("enabled") {
            (button(visit, "jobs.disable", &values))
        } @else {
            (button(visit, "jobs.enable", &values))
        }
        @if visit.may(understudy_runtime::admin::Role::Operator) {
            a.button href={ "/console/jobs/" (encoded(name)) "/edit" } { "Edit" }
        }
        (button(visit, "jobs.backfill", &values))
        (button(visit, "jobs.cancel", &values))
        @if job.flag("edited") { (button(visit, "jobs.revert", &values)) }
        @if by_operator { (button(visit, "jobs.delete", &values)) }
    }
}

fn notices(visit: &Visit, job: &Value) -> Markup {
    html! {
        @if job.has("paused") { (notice("warn", "Paused", &super::node::said_by(visit, job.at("paused")))) }
        @if !job.flag("enabled") { (notice("warn", "Switched off", "Its due times start nothing.")) }
        @if job.flag("edited") {
            (notice(
                "info",
                "Edited",
                &format!("by {}: stands before what the program or the file says.", job.text("changed_by")),
            ))
        }
    }
}

fn history(visit: &Visit, runs: &Value) -> Markup {
    let runs = runs.list("runs");
    if runs.is_empty() {
        return empty("It has not run yet", "Or so long ago that its runs were purged.");
    }
    let drawn: Vec<Bar> = runs.iter().rev().map(|run| bar(visit, run)).collect();
    let longest = drawn.iter().map(|bar| bar.value).max().unwrap_or_default();
    let top = chart::highest(&drawn);
    let wrong = runs.iter().filter(|run| states::of_run(run.text("state")).tone == "bad").count();
    let label = format!(
        "The last {} runs, {wrong} of which came to nothing; the longest took {}",
        runs.len(),
        words::span(longest)
    );
    html! {
        (chart::bars(&label, &drawn, DRAWN / 2))
        p.axis {
            span { "older" }
            span { "height: how long, up to " (words::span(top)) " · marked: came to nothing" }
            span { "latest" }
        }
        (super::runs::table_of(visit, &runs[..runs.len().min(10)], super::runs::Of::OneJob))
    }
}

fn bar(visit: &Visit, run: &Value) -> Bar {
    let state = run.text("state");
    let value = super::runs::took(visit, run).unwrap_or_default();
    let look = states::of_run(state);
    Bar {
        value,
        tone: look.tone,
        marked: look.tone == "bad",
        title: format!(
            "run {}: {state}, {}, due {}",
            run.said("id"),
            words::span(value),
            words::clock(run.number("fire_ms").unwrap_or_default())
        ),
    }
}

fn when(visit: &Visit, job: &Value, preview: &Told) -> Markup {
    html! {
        p.words { (job.text("words")) }
        (facts(html! {
            (fact("Decided up to", parts::both(visit, job.number("last_fire_ms"))))
            (fact("Next", parts::both(visit, job.number("next_fire_ms"))))
        }))
        (section(preview, |told| fires(visit, told)))
        @for cursor in job.list("cursors").iter().filter(|cursor| !cursor.text("scope").is_empty()) {
            p.soft { (cursor.text("scope")) ": next " (parts::time(visit, cursor.number("next_fire_ms"))) }
        }
    }
}

/// The next due times, in the zone of the schedule.
pub(in super::super) fn fires(visit: &Visit, told: &Value) -> Markup {
    let fires = told.list("fires");
    if fires.is_empty() {
        return empty(
            "It has no due times",
            "It runs when somebody, the program or another job starts it.",
        );
    }
    html! {
        details open {
            summary { "The next " (fires.len()) ", in " (told.text("zone")) }
            ol.fires {
                @for fire in fires {
                    li.skipped[fire.flag("skipped")] {
                        span.num { (local(fire.text("local"))) }
                        span.soft { (parts::time(visit, fire.number("at_ms"))) }
                        @if fire.has("note") { p.fix { (fire.text("note")) } }
                    }
                }
            }
        }
    }
}

/// `2026-03-29T03:00:00+02:00[Europe/Oslo]` as `2026-03-29 03:00:00 +02:00`.
fn local(text: &str) -> String {
    let text = text.split_once('[').map_or(text, |(time, _)| time).replacen('T', " ", 1);
    match text.char_indices().nth(19) {
        Some((end, _)) => format!("{} {}", &text[..end], text[end..].trim_start_matches('.')),
        None => text,
    }
}

/// Asks why, when the page was asked.
async fn explained(visit: &Visit, path: &str) -> Option<Told> {
    let at = visit.asked("at");
    if at.is_empty() {
        return None;
    }
    let at_ms = words::from_input(at).map(|at_ms| at_ms.to_string());
    // What is no time is refused by the API, in its words.
    let query = [("at", at_ms.as_deref().unwrap_or(at))];
    Some(visit.get(&target(&format!("{path}/explain"), &query)).await)
}

fn explain_card(visit: &Visit, name: &str, told: Option<&Told>) -> Markup {
    let at = match visit.asked("at") {
        "" => words::input(visit.now_ms),
        at => at.to_owned(),
    };
    card(
        "Why did it run, or not?",
        html! {
            form.filters method="get" action={ "/console/jobs/" (encoded(name)) } {
                label { span { "At, UTC" } input #at type="datetime-local" name="at" step="1" value=(at); }
                button { "Explain" }
            }
            @if let Some(told) = told { (section(told, |told| explanation(visit, told))) }
            @else { p.soft { "Every due time is either a run or a decision. Name one, and see which." } }
        },
    )
}

fn explanation(visit: &Visit, told: &Value) -> Markup {
    let look = match told.text("verdict") {
        "ran" => Look { tone: "ok", icon: "ok" },
        "decided" => Look { tone: "warn", icon: "warn" },
        "pending" | "future" => Look { tone: "go", icon: "wait" },
        _ => Look { tone: "idle", icon: "idle" },
    };
    html! {
        div.explained {
            p { (states::chip(look, &words::plain(told.text("verdict")))) " " (told.text("text")) }
            @for run in told.list("runs") {
                p {
                    (parts::run_link(run.number("id").unwrap_or_default()))
                    " "
                    (states::run_chip(run.text("state")))
                }
            }
            @for decision in told.list("decisions") {
                p {
                    strong { (words::plain(decision.text("outcome"))) }
                    ": "
                    (decision.text("reason"))
                    " "
                    span.soft { "decided " (parts::time(visit, decision.number("at_ms"))) }
                }
            }
            p.soft {
                "Due before: "
                (moment(told.number("previous_ms")))
                " · after: "
                (moment(told.number("next_ms")))
                @if told.has("term.node") { " · then led: " (words::node_name(told.text("term.node"))) }
            }
        }
    }
}

/// A due time that can be asked about next.
fn moment(at_ms: Option<i64>) -> Markup {
    html! {
        @match at_ms {
            Some(at_ms) => a href={ "?at=" (encoded(&words::rfc3339(at_ms))) } { (words::clock(at_ms)) },
            None => "none",
        }
    }
}

/// A cell for the way of a value in a list of facts.
fn said(value: &Value) -> String {
    match value {
        Value::String(text) => words::plain(text),
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_times_are_read_without_their_zone() {
        assert_eq!(local("2026-03-29T03:00:00+02:00[Europe/Oslo]"), "2026-03-29 03:00:00 +02:00");
        assert_eq!(local("nonsense"), "nonsense");
    }
}
