//! What operators see of and do with jobs and the leader, on the admin port.
//!
//! All answers are JSON and are not cached. `GET` needs the role viewer, everything else the role operator. Times are
//! ms since 1970 (`*_ms`); beside those that people look for stands the same as RFC 3339 in UTC (`*_at`). A time in a
//! query or a body may be either. Unknown query parameters and members of a body are refused, with their name. An empty
//! body is taken for `{}`. Refusals are problems (RFC 9457); their codes are named below, but for those that any resource
//! may answer: 400 `bad_query`, `bad_header`, `bad_json`, `bad_json_value`, 415 `unsupported_media_type`, 422
//! `invalid_value`, 404 `unknown_job`, `unknown_run`, `unknown_node`.
//!
//! Lists are paged: `limit` is 1 to 1000, 100 when not said; `next`, unless it is `null`, is what `after` or `before`
//! must be for the next page.
//!
//! # The leader
//!
//! | resource | what it does | answer |
//! |---|---|---|
//! | `GET /v1/leader` | who leads; the same on all nodes | `leaderNodeId` (the name), `leaderNodeUuid` (which life of it), `currentNodeId`, `currentNodeUuid`, `leader` (whether this node leads), `epoch` = `token`, `since_ms`, `since_at`, `expires_in_ms`; and of this node `state`, `state_since_ms`, `eligible`, `priority`, `maintenance`, `frozen`, `hold_until_ms`, `trouble` |
//! | `GET /v1/leader/history?limit=` | the latest terms, the newest first | `terms`: `epoch`, `node`, `started_ms`, `seen_ms`, `ended_ms`, `reason`, `gap_ms` (how long nobody led before it) |
//! | `POST /v1/leader/step-down` `{hold_ms?}` | the leader lets another lead, and does not lead for `hold_ms` (up to a day; one time to live of the lease when not said); any node may be asked | 200 who leads now: `from`, `to`, `leaderNodeId`, `leaderNodeUuid`, `epoch`, `gap_ms`; 202 when nobody does after 3 s. 409 `no_other_node`, `no_leader`, `leader_changed`; 503 `leader_unreachable` |
//! | `POST /v1/leader/drill` | the same as an exercise | as above; `gap_ms` is how long nobody led |
//! | `POST /v1/leader/freeze` `{why}`, `/unfreeze` | the leader stays where it is, whatever the priorities say, or no more | the switch: `value`, `by`, `why`, `at_ms` |
//! | `POST /v1/nodes/{name}/maintenance?force=` `{why}` | the node neither leads nor starts runs, also after a restart | `node`, `maintenance`: `by`, `why`, `at_ms`. 409 `last_node` when no other living node could lead, unless forced |
//! | `DELETE /v1/nodes/{name}/maintenance`, `POST /v1/nodes/{name}/resume` | ends that | `node`, `maintenance`: `null` |
//!
//! A node that is out of service (`POST /v1/nodes/{name}/drain`) is not `eligible`.
//!
//! # The rolling restart
//!
//! | resource | what it does | answer |
//! |---|---|---|
//! | `POST /v1/cluster/rolling-restart` `{why, settle_ms?, limit_ms?}` | restarts all living nodes, one after the other, the leader last; the next one goes when the one before has been ready for `settle_ms` (5 s when not said), and none any more when one takes longer than `limit_ms` (5 min when not said). The same `Idempotency-Key` gives the same run | 202 `run`, `new`, `state`: a run of the job `system.rolling-restart`. 409 `already_running` with `run`, `last_node` |
//! | `GET /v1/cluster/rolling-restart` | the latest one | `run` and `state`, `null` when there is none; `nodes`: `node`, `state` (`waiting`, `draining`, `gone`, `back`), `since_ms` |
//!
//! # Jobs
//!
//! A job is shown as its `name`, the definition (`spec`), `origin`, `edited`, `revision`, `enabled`, `paused`,
//! `created_ms`, `changed_ms`, `changed_by`, `words` (its schedule in words), `last_fire_ms`, `last_fire_at`,
//! `next_fire_ms`, `next_fire_at`, `last_state`. An unknown one is 404 `unknown_job`.
//!
//! | resource | what it does | answer |
//! |---|---|---|
//! | `GET /v1/jobs?system=&after=&limit=` | jobs by name; with `system=true` those of Understudy instead | `jobs`, `next` |
//! | `GET /v1/jobs/{name}` | one job | the job, `cursors`, its last 10 `runs`; the header `ETag` has the revision |
//! | `PUT /v1/jobs/{name}` | makes or replaces it; `name` and `handler` may be left out when they are the name of the path. `If-Match: "<revision>"` or `*`, `If-None-Match: *` | 201 or 200, the job. 422 `invalid_job` with all mistakes in `errors`: `field`, `problem`; 412 `revision_changed` with `revision` |
//! | `DELETE /v1/jobs/{name}` | removes one that an operator made, with what waits | 204. 409 `job_not_yours` |
//! | `POST /v1/jobs/{name}/pause` `{why}`, `/resume`, `/enable`, `/disable` | its due times start nothing, and each has a decision that says so; or again | the job |
//! | `POST /v1/jobs/{name}/revert` | what the program or the file says counts again | the job |
//! | `POST /v1/jobs/{name}/run` `{params?, not_before_ms?}` | starts it; the same `Idempotency-Key` gives the same run | 202 `run`, `new`, `state`. 409 `already_running` with `run`, `runs_everywhere`; 422 `invalid_params`; 400 `bad_idempotency_key` |
//! | `POST /v1/jobs/{name}/backfill` `{from, to, again?}` | starts due times of the past that have no run; with `again`, a word of your own for this request, also the others | 202 `runs`, how many. 422 `invalid_range`, 409 `runs_everywhere` |
//! | `POST /v1/jobs/{name}/cancel` | cancels all that waits or runs | 202 `cancelled`, how many |
//! | `GET /v1/jobs/{name}/explain?at=` | why it did or did not run then, to the millisecond; now when not said | `job`, `at_ms`, `at`, `verdict`, `text`, `runs`, `decisions`, `previous_ms`, `previous_at`, `next_ms`, `next_at`, `term` |
//! | `GET /v1/jobs/{name}/preview?count=&from=` | the next due times, 20 when not said | `words`, `zone`, `fires`: `at_ms`, `fire_at`, `local`, `skipped`, `note` |
//! | `POST /v1/jobs/preview` `{schedule, count?, from?}` | checks a schedule before it is saved | as above. 422 `invalid_job` |
//! | `GET /v1/jobs-due?within_ms=&system=&limit=` | what is due soon, within a minute when not said, and what is overdue | `now_ms`, `due`: `job`, `fire_ms`, `fire_at`, `in_ms`, `enabled`, `paused` |
//!
//! # Runs
//!
//! A run is shown as all that is stored of it, and `fire_at`. An unknown one is 404 `unknown_run`.
//!
//! | resource | what it does | answer |
//! |---|---|---|
//! | `GET /v1/runs?job=&state=&stale=&system=&from=&to=&before=&limit=` | the newest first: of a job, in states (comma list), running and silent for so many seconds, due in a range; with `system=true` also those of Understudy | `runs`, `next` |
//! | `GET /v1/tasks?state=&job=&before=&limit=` | the same for what the application put into the queue; without `state` those that came to nothing: `failed,dead,lost,incompatible` | `runs`, `next` |
//! | `GET /v1/runs/{id}` | one run | the run, `attempts` that did not end it |
//! | `GET /v1/runs/{id}/progress` | how far it is | `run`, `state`, `attempt`, `progress` |
//! | `GET /v1/runs/{id}/log?after=<attempt>:<seq>&limit=` | its log | `lines`, `next` (never `null`: ask again with it), `ended` |
//! | `GET /v1/runs/{id}/errors` | what went wrong | `run`, `state`, `error`, `attempts` that went wrong |
//! | `POST /v1/runs/{id}/cancel` | tells it to end, on whichever node it is | 202 the run. 409 `run_ended` with `state` |
//! | `POST /v1/runs/{id}/retry` | starts a run with the same parameters in place of one that came to nothing; asked again it gives the same run, unless with an `Idempotency-Key` of its own | 202 `run`, `new`, `state`. 409 `run_not_ended`, `run_completed`, and as `run` |
//!
//! # The scheduler
//!
//! | resource | what it does | answer |
//! |---|---|---|
//! | `GET /v1/scheduler` | how it stands | `now_ms`, `leaderless`, `leaderNodeId`, `paused`, `switches`, `maintenance`, `nodes` (handlers, labels, time zone database, offset of the clock), `runs` under way by state |
//! | `POST /v1/scheduler/pause` `{why}`, `/resume` | nothing starts in the whole cluster but what keeps it clean, or again | the switch |
//! | `PUT /v1/scheduler/jobs-enabled` `{"value": "all"}` | which jobs are on: `all`, `none`, or a comma list | the switch |
//!
//! # All of it
//!
//! | resource | what it does | answer |
//! |---|---|---|
//! | `GET /v1/definitions` (admin) | what operators have set about jobs, as one document | `understudy_definitions`: 1, `jobs`: `name`, `spec?`, `enabled`, `paused?` |
//! | `PUT /v1/definitions?dry_run=` (admin) | brings the jobs of such a document to what it says; all is checked before any is done | `changes`: `job`, `what`; `unknown`: jobs that are neither here nor defined in it. 422 `invalid_job` |
//!
//! A database that is away is 503 `database_unavailable` everywhere; what was asked for may then have been done.

mod answer;
mod asked;
mod cluster;
mod definitions;
mod hand_over;
mod leader;
mod operations;
mod rolling;
mod runs;
mod starts;
mod transfer;

use actix_web::web::{Data, ServiceConfig};
use understudy_runtime::service::NodeContext;

use crate::jobs::Jobs;
use crate::leader::LeaderStatus;

pub(crate) use hand_over::{PassedOn, listen};
pub(crate) use operations::OPERATIONS;

/// What the resources stand on.
#[derive(Debug, Clone)]
pub(crate) struct AdminJobs {
    jobs: Jobs,
    node: NodeContext,
}

impl AdminJobs {
    pub(crate) fn of(jobs: &Jobs, node: &NodeContext) -> Self {
        Self { jobs: jobs.clone(), node: node.clone() }
    }

    /// Returns who leads, and what this node is.
    pub(crate) fn status(&self) -> LeaderStatus {
        self.jobs.leader_status()
    }

    /// Returns for how long runs may go on when this node stops.
    pub(crate) fn grace_seconds(&self) -> u64 {
        self.node.config.jobs.shutdown_grace.as_secs()
    }
}

/// Adds the resources.
pub(crate) fn configure(app: &mut ServiceConfig, jobs: &Jobs, node: &NodeContext) {
    app.app_data(Data::new(AdminJobs::of(jobs, node)));
    leader::configure(app);
    starts::configure(app);
    definitions::configure(app);
    runs::configure(app);
    cluster::configure(app);
    transfer::configure(app);
    rolling::configure(app);
}
