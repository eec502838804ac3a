//! Jobs: when they are due in words, how they last ended, and holding them back.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::{Told, target};
use super::super::doing::button;
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{
    self, cell, empty, heading, number_cell, pager, section, table, wide_card,
};
use super::super::visit::Visit;
use super::super::{states, words};

/// So many jobs are on a page.
const LIMIT: &str = "40";
/// What is due within this time is shown.
const SOON: &str = "300000";

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let query =
        [("after", visit.asked("after")), ("system", visit.asked("system")), ("limit", LIMIT)];
    let path = target("/v1/jobs", &query);
    let due_path = target("/v1/jobs-due", &[("within_ms", SOON), ("limit", "10")]);
    let (jobs, scheduler, due) =
        tokio::join!(visit.get(&path), visit.get("/v1/scheduler"), visit.get(&due_path));
    let body = html! {
        (heading("Jobs", about(&scheduler), actions(visit, &scheduler)))
        (pause_notice(visit, &scheduler))
        (enabled_notice(visit, &scheduler))
        section.card {
            (tools(visit))
            (section(&jobs, |jobs| list(visit, jobs)))
        }
        (due_card(visit, &due))
    };
    Page::new("Jobs", "jobs leader", body)
}

fn about(scheduler: &Told) -> String {
    let Ok(scheduler) = scheduler else { return "What runs by itself, and when.".to_owned() };
    let runs: i64 = scheduler.entries("runs").iter().filter_map(|(_, count)| count.as_i64()).sum();
    let leader = match scheduler.text("leaderNodeId") {
        "" => "Nobody leads, so nothing becomes due.".to_owned(),
        leader => format!("{leader} decides what is due."),
    };
    format!("{leader} {} under way.", words::counted(runs, "run", "runs"))
}

fn actions(visit: &Visit, scheduler: &Told) -> Markup {
    let paused = scheduler.as_ref().is_ok_and(|told| told.flag("paused"));
    let enabled =
        scheduler.as_ref().map(|told| told.text("switches.jobs_enabled.value")).unwrap_or_default();
    let enabled = if enabled.is_empty() { "all" } else { enabled };
    html! {
        @if visit.may(understudy_runtime::admin::Role::Operator) {
            a.button href="/console/new-job" { (super::super::icons::icon("plus")) "New job" }
        }
        (button(visit, "scheduler.jobs_enabled", &[("value", enabled)]))
        @if paused {
            (button(visit, "scheduler.resume", &[]))
        } @else {
            (button(visit, "scheduler.pause", &[]))
        }
    }
}

/// That all jobs are paused, by whom and why: so that nobody wonders.
pub(in super::super) fn pause_notice(visit: &Visit, scheduler: &Told) -> Markup {
    match scheduler {
        Ok(scheduler) if scheduler.flag("paused") => notice(
            "warn",
            "All jobs are paused",
            &super::node::said_by(visit, scheduler.at("switches.pause")),
        ),
        Ok(_) | Err(_) => html! {},
    }
}

fn enabled_notice(visit: &Visit, scheduler: &Told) -> Markup {
    let switch =
        scheduler.as_ref().map(|told| told.at("switches.jobs_enabled").clone()).unwrap_or_default();
    html! {
        @if !matches!(switch.text("value"), "" | "all") {
            (notice(
                "warn",
                &format!("Only these jobs are on: {}", switch.text("value")),
                &super::node::said_by(visit, &switch),
            ))
        }
    }
}

fn tools(visit: &Visit) -> Markup {
    let system = visit.asked("system") == "true";
    html! {
        form.filters method="get" action="/console/jobs" {
            label {
                span { "Names from" }
                input name="after" type="search" value=(visit.asked("after")) placeholder="beginning of a name";
            }
            label.check {
                input type="checkbox" name="system" value="true" checked[system];
                span { "Those of Understudy" }
            }
            button { "Show" }
        }
    }
}

fn list(visit: &Visit, jobs: &Value) -> Markup {
    let all = jobs.list("jobs");
    html! {
        @if all.is_empty() {
            (empty("There are no jobs here", html! {
                "Add one in the program, in the file of "
                code { "UNDERSTUDY_JOBS_FILE" }
                ", or with “New job”."
            }))
        } @else {
            (table("Jobs", &["Job", "Schedule", "#Next", "Last", "State", ""], html! {
                @for job in all { (row(visit, job)) }
            }))
        }
        (pager(visit, "after", jobs.text("next")))
    }
}

fn row(visit: &Visit, job: &Value) -> Markup {
    let name = job.text("name");
    let values = [("name", name)];
    html! {
        tr {
            (cell("Job", html! {
                strong { (parts::job_link(name)) }
                @if job.flag("edited") { " " span.tag { "edited" } }
                @if !job.text("spec.description").is_empty() { p.soft.cut { (job.text("spec.description")) } }
            }))
            (cell("Schedule", html! { (job.text("words")) (expression(job)) }))
            (number_cell("Next", parts::time(visit, job.number("next_fire_ms"))))
            (cell("Last", states::run_chip(job.text("last_state"))))
            (cell("State", html! {
                (states::job_chip(job))
                @if job.has("paused") {
                    p.soft.cut { (job.text("paused.why")) " (" (job.text("paused.by")) ")" }
                }
            }))
            td.do { div {
                (button(visit, "jobs.run", &values))
                @if !job.flag("enabled") { (button(visit, "jobs.enable", &values)) }
                @else if job.has("paused") { (button(visit, "jobs.resume", &values)) }
                @else { (button(visit, "jobs.pause", &values)) }
            } }
        }
    }
}

/// The cron expression, if it has one.
fn expression(job: &Value) -> Markup {
    html! {
        @if job.text("spec.schedule.kind") == "cron" {
            p.soft {
                (parts::code(job.text("spec.schedule.expression")))
                " "
                (job.text("spec.schedule.time_zone"))
            }
        }
    }
}

fn due_card(visit: &Visit, due: &Told) -> Markup {
    wide_card(
        "Due within five minutes",
        parts::nothing(),
        section(due, |told| {
            let due = told.list("due");
            html! {
                @if due.is_empty() {
                    (empty("Nothing is due", "No job of the application is due within five minutes."))
                }
                ul.lines {
                    @for one in due {
                        li {
                            span {
                                (parts::job_link(one.text("job")))
                                @if one.flag("paused") { " " (states::plain_chip("paused")) }
                            }
                            span.num { (parts::time(visit, one.number("fire_ms"))) }
                        }
                    }
                }
            }
        }),
    )
}
