//! Verbs about jobs and the scheduler.

use super::super::verb::{Kind, Manner, Parameter, Verb, Waits};
use super::super::view::View;
use super::super::views;
use super::{IF_REVISION, KEY, LIMIT, SYSTEM, WHY};

const JOB: Parameter = Parameter::path("name", "JOB", "Name of the job");
const COUNT: Parameter = Parameter::query("count", Kind::Count, "How many, 1 to 1000");
const FROM: Parameter =
    Parameter::query("from", Kind::Time, "Counted from then; from now if not said");
const IF_NEW: Parameter =
    Parameter::query("If-None-Match", Kind::Mark("*"), "Only if there is no such job")
        .called("if-new")
        .header();
const RESUME_WHY: Parameter =
    Parameter::body("why", Kind::Text("TEXT"), "Why, for those who read it later");

pub(super) const VERBS: &[Verb] = &[
    Verb::get("jobs.list", "jobs", "/v1/jobs", "Lists the jobs")
        .with(&[
            SYSTEM,
            Parameter::query("after", Kind::Text("JOB"), "Those behind this one"),
            LIMIT,
        ])
        .pages("jobs")
        .view(View::Parts(views::jobs::JOBS)),
    Verb::get(
        "jobs.due",
        "jobs due",
        "/v1/jobs-due",
        "Lists what is due soon, and what is overdue",
    )
    .with(&[
        Parameter::query("within_ms", Kind::Millis, "How soon; within a minute if not said")
            .called("within"),
        SYSTEM,
        LIMIT,
    ])
    .view(View::Parts(views::jobs::DUE)),
    Verb::get("jobs.show", "job show", "/v1/jobs/{name}", "Shows a job and its latest runs")
        .with(&[JOB])
        .view(View::Parts(views::jobs::JOB)),
    Verb::put(
        "jobs.put",
        "job put",
        "/v1/jobs/{name}",
        "Makes or replaces a job, from a definition in JSON",
    )
    .with(&[IF_REVISION, IF_NEW])
    .manner(Manner::Definition)
    .view(View::Parts(views::jobs::JOB)),
    Verb::delete(
        "jobs.delete",
        "job delete",
        "/v1/jobs/{name}",
        "Removes a job that an operator made",
    )
    .with(&[JOB])
    .asks("This removes the job and its definition.")
    .view(View::Nothing("the job is removed")),
    Verb::post(
        "jobs.pause",
        "job pause",
        "/v1/jobs/{name}/pause",
        "Lets the due times of a job start nothing",
    )
    .with(&[JOB, WHY])
    .view(View::Parts(views::jobs::JOB)),
    Verb::post("jobs.resume", "job resume", "/v1/jobs/{name}/resume", "Ends the pause of a job")
        .with(&[JOB, RESUME_WHY])
        .view(View::Parts(views::jobs::JOB)),
    Verb::post("jobs.enable", "job enable", "/v1/jobs/{name}/enable", "Turns a job on")
        .with(&[JOB])
        .view(View::Parts(views::jobs::JOB)),
    Verb::post("jobs.disable", "job disable", "/v1/jobs/{name}/disable", "Turns a job off")
        .with(&[JOB, RESUME_WHY])
        .view(View::Parts(views::jobs::JOB)),
    Verb::post(
        "jobs.revert",
        "job revert",
        "/v1/jobs/{name}/revert",
        "Lets what the program or the file says count again",
    )
    .with(&[JOB])
    .asks("What operators changed about this job is gone.")
    .view(View::Parts(views::jobs::JOB)),
    Verb::post("jobs.run", "job run", "/v1/jobs/{name}/run", "Starts a job now")
        .with(&[
            JOB,
            Parameter::body("params", Kind::Json, "What is given to the job, in place of its own"),
            Parameter::body("not_before_ms", Kind::Time, "Not before then").called("not-before"),
            KEY,
        ])
        .manner(Manner::Waits(Waits::Run)),
    Verb::post(
        "jobs.backfill",
        "job backfill",
        "/v1/jobs/{name}/backfill",
        "Starts due times of the past that have no run",
    )
    .with(&[
        JOB,
        Parameter::body("from", Kind::Time, "The first due time").required(),
        Parameter::body("to", Kind::Time, "The last due time").required(),
        Parameter::body(
            "again",
            Kind::Text("WORD"),
            "Those with a run too; a word of your own for this request",
        ),
    ]),
    Verb::post(
        "jobs.cancel",
        "job cancel",
        "/v1/jobs/{name}/cancel",
        "Cancels all runs of a job that wait or run",
    )
    .with(&[JOB])
    .asks("This ends all runs of the job that wait or run."),
    Verb::get(
        "jobs.explain",
        "job explain",
        "/v1/jobs/{name}/explain",
        "Says why a job did or did not run at a time",
    )
    .with(&[JOB, Parameter::query("at", Kind::Time, "When, to the millisecond; now if not said")])
    .view(View::Custom(views::jobs::explanation)),
    Verb::get(
        "jobs.preview",
        "job preview",
        "/v1/jobs/{name}/preview",
        "Lists the next due times of a job",
    )
    .with(&[JOB, COUNT, FROM])
    .view(View::Parts(views::jobs::PREVIEW)),
    Verb::post(
        "schedules.preview",
        "job preview-schedule",
        "/v1/jobs/preview",
        "Lists the due times of a schedule before there is a job",
    )
    .with(&[
        Parameter::body("count", Kind::Count, "How many, 1 to 1000"),
        Parameter::body("from", Kind::Time, "Counted from then; from now if not said"),
    ])
    .manner(Manner::Schedule)
    .view(View::Parts(views::jobs::PREVIEW)),
    Verb::get("scheduler.show", "scheduler", "/v1/scheduler", "Shows how the scheduler stands")
        .view(View::Parts(views::jobs::SCHEDULER)),
    Verb::post(
        "scheduler.pause",
        "scheduler pause",
        "/v1/scheduler/pause",
        "Lets no job start in the whole cluster",
    )
    .with(&[WHY])
    .view(View::Parts(views::cluster::SWITCH)),
    Verb::post(
        "scheduler.resume",
        "scheduler resume",
        "/v1/scheduler/resume",
        "Lets jobs start again",
    )
    .with(&[RESUME_WHY])
    .view(View::Parts(views::cluster::SWITCH)),
    Verb::put(
        "scheduler.jobs_enabled",
        "scheduler jobs-enabled",
        "/v1/scheduler/jobs-enabled",
        "Says which jobs are on",
    )
    .with(&[Parameter::body(
        "value",
        Kind::Text("LIST"),
        "`all`, `none`, or names separated by commas",
    )
    .positional()])
    .view(View::Parts(views::cluster::SWITCH)),
];
