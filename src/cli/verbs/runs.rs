//! Verbs about runs.

use super::super::verb::{Kind, Manner, Parameter, Verb, Waits};
use super::super::view::View;
use super::super::views;
use super::{KEY, LIMIT, SYSTEM};

const RUN: Parameter = Parameter::path("id", "RUN", "Number of the run");
const JOB: Parameter = Parameter::query("job", Kind::Text("JOB"), "Only of this job");
const STATE: Parameter = Parameter::query(
    "state",
    Kind::Text("STATES"),
    "Only in these states, separated by commas: queued, running, retrying, completed, failed, cancelled, skipped, \
     lost, dead, incompatible",
);
const BEFORE: Parameter = Parameter::query("before", Kind::Whole, "Those older than this run");

pub(super) const VERBS: &[Verb] = &[
    Verb::get("runs.list", "runs", "/v1/runs", "Lists runs, the newest first")
        .with(&[
            JOB,
            STATE,
            Parameter::query(
                "stale",
                Kind::Seconds,
                "Only those that run and have been silent for so long",
            ),
            Parameter::query("from", Kind::Time, "Only due from then on"),
            Parameter::query("to", Kind::Time, "Only due until then"),
            SYSTEM,
            BEFORE,
            LIMIT,
        ])
        .pages("runs")
        .view(View::Parts(views::runs::RUNS)),
    Verb::get(
        "tasks.list",
        "tasks",
        "/v1/tasks",
        "Lists what the application put into the queue; without --state what came to nothing",
    )
    .with(&[JOB, STATE, BEFORE, LIMIT])
    .pages("runs")
    .view(View::Parts(views::runs::RUNS)),
    Verb::get("runs.show", "run show", "/v1/runs/{id}", "Shows a run in full")
        .with(&[RUN])
        .view(View::Parts(views::runs::RUN)),
    Verb::get("runs.progress", "run progress", "/v1/runs/{id}/progress", "Shows how far a run is")
        .with(&[RUN])
        .view(View::Parts(views::runs::PROGRESS)),
    Verb::get("runs.log", "run log", "/v1/runs/{id}/log", "Prints the log of a run")
        .with(&[
            RUN,
            Parameter::query(
                "after",
                Kind::Text("PLACE"),
                "What follows this place, <attempt>:<line>",
            ),
            LIMIT,
        ])
        .manner(Manner::RunLog)
        .view(View::Custom(views::runs::log)),
    Verb::get(
        "runs.errors",
        "run errors",
        "/v1/runs/{id}/errors",
        "Shows what went wrong with a run",
    )
    .with(&[RUN])
    .view(View::Parts(views::runs::ERRORS)),
    Verb::post("runs.cancel", "run cancel", "/v1/runs/{id}/cancel", "Tells a run to end")
        .with(&[RUN])
        .asks("This ends the run before it is done.")
        .view(View::Parts(views::runs::RUN)),
    Verb::post(
        "runs.retry",
        "run retry",
        "/v1/runs/{id}/retry",
        "Starts a run again that came to nothing",
    )
    .with(&[RUN, KEY])
    .manner(Manner::Waits(Waits::Run)),
];
