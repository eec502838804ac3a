//! What can be asked of the scheduler's resources, and who may.

use understudy_runtime::admin::{Operation, Parameter, Role};

const TEXT: &str = r#"{"type":"string"}"#;
const FLAG: &str = r#"{"type":"boolean"}"#;
const TIME: &str = r#"{"type":"string","description":"ms since 1970, or RFC 3339"}"#;
const NUMBER: &str = r#"{"type":"integer","minimum":0}"#;

const LIMIT: Parameter = Parameter::new(
    "limit",
    r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#,
    "How many at most",
);
const SYSTEM: Parameter = Parameter::new("system", FLAG, "Those of Understudy itself");
const KEY: Parameter = Parameter::new("Idempotency-Key", TEXT, "The same key gives the same run");
const IF_MATCH: Parameter =
    Parameter::new("If-Match", TEXT, "Only when the job has this revision; * for any");

const WHY: &str = r#"{"type":"object","required":["why"],"additionalProperties":false,"properties":{
    "why":{"type":"string","minLength":1,"maxLength":1000}}}"#;
const PERHAPS_WHY: &str = r#"{"type":"object","additionalProperties":false,"properties":{
    "why":{"type":"string","minLength":1,"maxLength":1000}}}"#;
const NOTHING: &str = r#"{"type":"object","additionalProperties":false,"properties":{}}"#;
const HOLD: &str = r#"{"type":"object","additionalProperties":false,"properties":{
    "hold_ms":{"type":"integer","minimum":0,"maximum":86400000}}}"#;
const DEFINITION: &str = r#"{"type":"object","required":["schedule"],"properties":{
    "name":{"type":"string"},"handler":{"type":"string"},"schedule":{"type":"object"}}}"#;
const SCHEDULE: &str = r#"{"type":"object","required":["schedule"],"additionalProperties":false,"properties":{
    "schedule":{"type":"object"},"count":{"type":"integer"},"from":{}}}"#;
const RUN: &str = r#"{"type":"object","additionalProperties":false,"properties":{
    "params":{},"not_before_ms":{"type":"integer","minimum":0}}}"#;
const BACKFILL: &str = r#"{"type":"object","required":["from","to"],"additionalProperties":false,"properties":{
    "from":{},"to":{},"again":{"type":"string"}}}"#;
const ROLLING: &str = r#"{"type":"object","required":["why"],"additionalProperties":false,"properties":{
    "why":{"type":"string","minLength":1,"maxLength":1000},
    "settle_ms":{"type":"integer","minimum":0,"maximum":3600000,"default":5000},
    "limit_ms":{"type":"integer","minimum":1000,"maximum":86400000,"default":300000}}}"#;
const ENABLED: &str = r#"{"type":"object","required":["value"],"additionalProperties":false,"properties":{
    "value":{"type":"string","description":"all, none, or names of jobs separated by commas"}}}"#;

const DOCUMENT: &str = r#"{"type":"object","required":["understudy_definitions","jobs"],"additionalProperties":false,
    "properties":{"understudy_definitions":{"const":1},"jobs":{"type":"array","items":{"type":"object"}}}}"#;

const STARTED: &[(u16, &str)] = &[
    (202, "The run"),
    (404, "unknown_job, unknown_run"),
    (409, "already_running, runs_everywhere, run_not_ended, run_completed"),
    (422, "invalid_params"),
];
const HANDED_OVER: &[(u16, &str)] = &[
    (200, "Who leads now"),
    (202, "Nobody leads yet"),
    (409, "no_other_node, no_leader, leader_changed"),
    (503, "leader_unreachable"),
];
const JOB: &[(u16, &str)] = &[(200, "The job"), (404, "unknown_job")];

/// The operations of the scheduler.
pub(crate) const OPERATIONS: &[Operation] = &[
    // The leader.
    Operation::get("leader.show", "/v1/leader", "Shows who leads")
        .cli("leader show")
        .console("leader"),
    Operation::get(
        "leader.history",
        "/v1/leader/history",
        "Lists the latest terms, the newest first",
    )
    .query(&[LIMIT])
    .cli("leader history")
    .console("leader"),
    Operation::post(
        "leader.step_down",
        "/v1/leader/step-down",
        "Has the leader let another node lead",
    )
    .optional_body(HOLD)
    .answers(HANDED_OVER)
    .cli("leader step-down")
    .console("leader"),
    Operation::post("leader.drill", "/v1/leader/drill", "Changes the leader as an exercise")
        .optional_body(HOLD)
        .answers(HANDED_OVER)
        .cli("leader drill")
        .console("leader"),
    Operation::post(
        "leader.freeze",
        "/v1/leader/freeze",
        "Keeps the leader where it is, whatever the priorities say",
    )
    .body(WHY)
    .cli("leader freeze")
    .console("leader"),
    Operation::post("leader.unfreeze", "/v1/leader/unfreeze", "Lets priorities count again")
        .optional_body(PERHAPS_WHY)
        .cli("leader unfreeze")
        .console("leader"),
    Operation::post(
        "nodes.maintenance_on",
        "/v1/nodes/{name}/maintenance",
        "Has a node neither lead nor start runs, also after a restart",
    )
    .query(&[Parameter::new("force", FLAG, "Even when no other node could lead")])
    .body(WHY)
    .answers(&[(200, "The node"), (404, "unknown_node"), (409, "last_node")])
    .cli("node maintenance")
    .console("nodes"),
    Operation::delete(
        "nodes.maintenance_off",
        "/v1/nodes/{name}/maintenance",
        "Ends the maintenance of a node",
    )
    .cli("node maintenance-off")
    .console("nodes"),
    Operation::post("nodes.resume", "/v1/nodes/{name}/resume", "Ends the maintenance of a node")
        .optional_body(PERHAPS_WHY)
        .cli("node resume")
        .console("nodes"),
    Operation::post(
        "cluster.restart",
        "/v1/cluster/rolling-restart",
        "Restarts all nodes, one after the other, the leader last",
    )
    .headers(&[KEY])
    .body(ROLLING)
    .answers(&[
        (202, "The run, of the job system.rolling-restart"),
        (409, "already_running, last_node"),
        (422, "invalid_value"),
    ])
    .cli("cluster restart")
    .console("nodes"),
    Operation::get(
        "cluster.restart_show",
        "/v1/cluster/rolling-restart",
        "Shows how far the latest rolling restart is",
    )
    .cli("cluster restart-status")
    .console("nodes"),
    // Jobs.
    Operation::get("jobs.list", "/v1/jobs", "Lists jobs by name")
        .query(&[SYSTEM, Parameter::new("after", TEXT, "The `next` of the page before"), LIMIT])
        .cli("jobs")
        .console("jobs"),
    Operation::get("jobs.due", "/v1/jobs-due", "Lists what is due soon, and what is overdue")
        .query(&[Parameter::new("within_ms", NUMBER, "How soon"), SYSTEM, LIMIT])
        .cli("jobs due")
        .console("jobs"),
    Operation::post(
        "schedules.preview",
        "/v1/jobs/preview",
        "Checks a schedule and shows its next due times",
    )
    .body(SCHEDULE)
    .answers(&[(200, "The due times"), (422, "invalid_job")])
    .cli("job preview-schedule")
    .console("jobs"),
    Operation::get("jobs.show", "/v1/jobs/{name}", "Shows a job with its last runs")
        .answers(JOB)
        .cli("job show")
        .console("jobs"),
    Operation::put("jobs.put", "/v1/jobs/{name}", "Makes or replaces a job")
        .headers(&[
            IF_MATCH,
            Parameter::new("If-None-Match", r#"{"const":"*"}"#, "Only when there is none"),
        ])
        .body(DEFINITION)
        .answers(&[
            (200, "The job"),
            (201, "The job, which is new"),
            (412, "revision_changed"),
            (422, "invalid_job"),
        ])
        .cli("job put")
        .console("jobs"),
    Operation::delete("jobs.delete", "/v1/jobs/{name}", "Removes a job that an operator made")
        .answers(&[(204, "It is gone"), (404, "unknown_job"), (409, "job_not_yours")])
        .cli("job delete")
        .console("jobs"),
    Operation::post(
        "jobs.pause",
        "/v1/jobs/{name}/pause",
        "Has the due times of a job start nothing",
    )
    .headers(&[IF_MATCH])
    .body(WHY)
    .answers(JOB)
    .cli("job pause")
    .console("jobs"),
    Operation::post("jobs.resume", "/v1/jobs/{name}/resume", "Ends the pause of a job")
        .optional_body(PERHAPS_WHY)
        .answers(JOB)
        .cli("job resume")
        .console("jobs"),
    Operation::post("jobs.enable", "/v1/jobs/{name}/enable", "Switches a job on")
        .optional_body(PERHAPS_WHY)
        .answers(JOB)
        .cli("job enable")
        .console("jobs"),
    Operation::post("jobs.disable", "/v1/jobs/{name}/disable", "Switches a job off")
        .optional_body(PERHAPS_WHY)
        .answers(JOB)
        .cli("job disable")
        .console("jobs"),
    Operation::post(
        "jobs.revert",
        "/v1/jobs/{name}/revert",
        "Has what the program or the file says count again",
    )
    .headers(&[IF_MATCH])
    .optional_body(PERHAPS_WHY)
    .answers(JOB)
    .cli("job revert")
    .console("jobs"),
    Operation::post("jobs.run", "/v1/jobs/{name}/run", "Starts a job now")
        .headers(&[KEY])
        .optional_body(RUN)
        .answers(STARTED)
        .cli("job run")
        .console("jobs"),
    Operation::post(
        "jobs.backfill",
        "/v1/jobs/{name}/backfill",
        "Starts due times of the past that have no run",
    )
    .body(BACKFILL)
    .answers(STARTED)
    .cli("job backfill")
    .console("jobs"),
    Operation::post(
        "jobs.cancel",
        "/v1/jobs/{name}/cancel",
        "Cancels all that waits or runs of a job",
    )
    .optional_body(PERHAPS_WHY)
    .answers(&[(202, "How many"), (404, "unknown_job")])
    .cli("job cancel")
    .console("jobs"),
    Operation::get(
        "jobs.explain",
        "/v1/jobs/{name}/explain",
        "Says why a job did or did not run at a time",
    )
    .query(&[Parameter::new("at", TIME, "When; now when not said")])
    .answers(JOB)
    .cli("job explain")
    .console("jobs"),
    Operation::get("jobs.preview", "/v1/jobs/{name}/preview", "Shows the next due times of a job")
        .query(&[
            Parameter::new(
                "count",
                r#"{"type":"integer","minimum":1}"#,
                "How many; 20 when not said",
            ),
            Parameter::new("from", TIME, "From when on"),
        ])
        .answers(JOB)
        .cli("job preview")
        .console("jobs"),
    // Runs.
    Operation::get("runs.list", "/v1/runs", "Lists runs, the newest first")
        .query(&[
            Parameter::new("job", TEXT, "Of this job"),
            Parameter::new("state", TEXT, "In these states, comma list"),
            Parameter::new("stale", NUMBER, "Running, and silent for so many seconds"),
            SYSTEM,
            Parameter::new("from", TIME, "Due from this time on"),
            Parameter::new("to", TIME, "Due before this time"),
            Parameter::new("before", NUMBER, "The `next` of the page before"),
            LIMIT,
        ])
        .cli("runs")
        .console("runs"),
    Operation::get("tasks.list", "/v1/tasks", "Lists what the application put into the queue")
        .query(&[
            Parameter::new(
                "state",
                TEXT,
                "In these states; those that came to nothing when not said",
            ),
            Parameter::new("job", TEXT, "Of this job"),
            Parameter::new("before", NUMBER, "The `next` of the page before"),
            LIMIT,
        ])
        .cli("tasks")
        .console("runs"),
    Operation::get("runs.show", "/v1/runs/{id}", "Shows a run with its attempts")
        .cli("run show")
        .console("runs"),
    Operation::get("runs.progress", "/v1/runs/{id}/progress", "Shows how far a run is")
        .cli("run progress")
        .console("runs"),
    Operation::get("runs.log", "/v1/runs/{id}/log", "Shows the log of a run")
        .query(&[
            Parameter::new("after", TEXT, "The `next` of the page before: `<attempt>:<number>`"),
            LIMIT,
        ])
        .cli("run log")
        .console("runs"),
    Operation::get("runs.errors", "/v1/runs/{id}/errors", "Shows what went wrong in a run")
        .cli("run errors")
        .console("runs"),
    Operation::post(
        "runs.cancel",
        "/v1/runs/{id}/cancel",
        "Tells a run to end, on whichever node it is",
    )
    .optional_body(NOTHING)
    .answers(&[(202, "The run"), (404, "unknown_run"), (409, "run_ended")])
    .cli("run cancel")
    .console("runs"),
    Operation::post(
        "runs.retry",
        "/v1/runs/{id}/retry",
        "Starts a run in place of one that came to nothing",
    )
    .headers(&[KEY])
    .optional_body(NOTHING)
    .answers(STARTED)
    .cli("run retry")
    .console("runs"),
    // The scheduler.
    Operation::get("scheduler.show", "/v1/scheduler", "Shows how the scheduler stands")
        .cli("scheduler")
        .console("jobs"),
    Operation::post(
        "scheduler.pause",
        "/v1/scheduler/pause",
        "Has nothing start in the whole cluster",
    )
    .body(WHY)
    .cli("scheduler pause")
    .console("jobs"),
    Operation::post("scheduler.resume", "/v1/scheduler/resume", "Has jobs start again")
        .optional_body(PERHAPS_WHY)
        .cli("scheduler resume")
        .console("jobs"),
    Operation::put(
        "scheduler.jobs_enabled",
        "/v1/scheduler/jobs-enabled",
        "Says which jobs are on",
    )
    .body(ENABLED)
    .answers(&[(200, "The switch"), (422, "invalid_value")])
    .cli("scheduler jobs-enabled")
    .console("jobs"),
    Operation::get(
        "definitions.export",
        "/v1/definitions",
        "Shows what operators have set about jobs as one document",
    )
    .role(Role::Admin)
    .cli("export"),
    Operation::put(
        "definitions.import",
        "/v1/definitions",
        "Brings jobs to what such a document says",
    )
    .role(Role::Admin)
    .query(&[Parameter::new("dry_run", FLAG, "Only tell what would change")])
    .body(DOCUMENT)
    .answers(&[(200, "What changed"), (422, "invalid_job")])
    .cli("import"),
];
