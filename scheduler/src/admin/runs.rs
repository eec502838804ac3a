//! Runs: looking at them, ending them, and starting them once more.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use serde::Serialize;
use serde_json::json;

use super::AdminJobs;
use super::answer::{Answer, Refusal, answer, conflict, ok, rfc3339, unknown_run};
use super::asked::{Nothing, Query, body, by, header, job, run, run_id};
use super::starts::ordered;
use crate::run::{Cause, RunId, RunState};
use crate::store::{Attempt, Order, RunFilter, RunRow};

/// The longest silence that can be asked for, s: a year.
const LONGEST_SILENCE: i64 = 366 * 86_400;

/// Adds the resources.
pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/v1/runs").route(web::get().to(list)))
        .service(web::resource("/v1/tasks").route(web::get().to(tasks)))
        .service(web::resource("/v1/runs/{id}").route(web::get().to(show)))
        .service(web::resource("/v1/runs/{id}/progress").route(web::get().to(progress)))
        .service(web::resource("/v1/runs/{id}/log").route(web::get().to(log)))
        .service(web::resource("/v1/runs/{id}/errors").route(web::get().to(errors)))
        .service(web::resource("/v1/runs/{id}/cancel").route(web::post().to(cancel)))
        .service(web::resource("/v1/runs/{id}/retry").route(web::post().to(retry)));
}

/// A run as it is shown.
#[derive(Serialize)]
pub(super) struct RunBody {
    #[serde(flatten)]
    row: RunRow,
    fire_at: String,
}

impl From<RunRow> for RunBody {
    fn from(row: RunRow) -> Self {
        Self { fire_at: rfc3339(row.fire_ms), row }
    }
}

async fn list(admin: Data<AdminJobs>, request: HttpRequest) -> Answer {
    let known = ["job", "state", "stale", "system", "from", "to", "before", "limit"];
    let query = Query::of(&request, &known)?;
    let silent = query.number("stale", 0..=LONGEST_SILENCE)?;
    let fire_ms = match (query.when("from")?, query.when("to")?) {
        (None, None) => None,
        (from, to) => Some((from.unwrap_or(0), to.unwrap_or(i64::MAX))),
    };
    admin
        .page(RunFilter {
            job: job(&query, "job")?,
            states: states(&query)?.unwrap_or_default(),
            fire_ms,
            silent_ms: silent.map(|seconds| seconds * 1_000),
            before: run(&query, "before")?,
            system: query.flag("system")?,
            limit: query.limit()?,
            ..RunFilter::default()
        })
        .await
}

/// What the application put into the queue; those that came to nothing when no state is said.
async fn tasks(admin: Data<AdminJobs>, request: HttpRequest) -> Answer {
    let query = Query::of(&request, &["state", "job", "before", "limit"])?;
    let to_nothing =
        || vec![RunState::Failed, RunState::Dead, RunState::Lost, RunState::Incompatible];
    admin
        .page(RunFilter {
            job: job(&query, "job")?,
            states: states(&query)?.unwrap_or_else(to_nothing),
            cause: Some(Cause::Task),
            before: run(&query, "before")?,
            limit: query.limit()?,
            ..RunFilter::default()
        })
        .await
}

fn states(query: &Query) -> Result<Option<Vec<RunState>>, Refusal> {
    let right = format!("a comma list of {}", RunState::ALL.map(RunState::as_str).join(", "));
    let parse = |text: &str| text.split(',').map(|state| state.trim().parse().ok()).collect();
    Ok(query.parsed("state", &right, parse)?)
}

impl AdminJobs {
    async fn page(&self, filter: RunFilter) -> Answer {
        let rows = self.jobs.store().runs(&filter).await?;
        let full = u32::try_from(rows.len()).is_ok_and(|found| found == filter.limit);
        let next = rows.last().filter(|_| full).map(|row| row.id);
        let runs: Vec<RunBody> = rows.into_iter().map(RunBody::from).collect();
        Ok(ok(&json!({ "runs": runs, "next": next })))
    }

    async fn run(&self, run: RunId) -> Result<RunRow, Refusal> {
        Ok(self.jobs.store().run(run).await?.ok_or_else(unknown_run)?)
    }
}

#[derive(Serialize)]
struct OneRunBody {
    #[serde(flatten)]
    run: RunBody,
    attempts: Vec<Attempt>,
}

async fn show(admin: Data<AdminJobs>, request: HttpRequest, id: Path<String>) -> Answer {
    Query::of(&request, &[])?;
    let run = admin.run(run_id(&id)?).await?;
    let attempts = admin.jobs.store().attempts(run.id).await?;
    Ok(ok(&OneRunBody { run: run.into(), attempts }))
}

async fn progress(admin: Data<AdminJobs>, request: HttpRequest, id: Path<String>) -> Answer {
    Query::of(&request, &[])?;
    let run = admin.run(run_id(&id)?).await?;
    Ok(ok(&json!({
        "run": run.id,
        "state": run.state,
        "attempt": run.attempt,
        "progress": run.progress,
    })))
}

async fn log(admin: Data<AdminJobs>, request: HttpRequest, id: Path<String>) -> Answer {
    let query = Query::of(&request, &["after", "limit"])?;
    let right = "the attempt and the number of a line, such as 1:25";
    let after = query.parsed("after", right, position)?.unwrap_or((0, 0));
    let limit = query.limit()?;
    // Before the lines: what was written before the end is among them then, or follows.
    let run = admin.run(run_id(&id)?).await?;
    let lines = admin.jobs.store().log_lines(run.id, after, limit).await?;
    let (attempt, seq) = lines.last().map_or(after, |line| (line.attempt, line.seq));
    Ok(ok(&json!({
        "run": run.id,
        "lines": lines,
        "next": format!("{attempt}:{seq}"),
        "ended": run.state.is_final(),
    })))
}

fn position(text: &str) -> Option<(i32, i32)> {
    let (attempt, seq) = text.split_once(':')?;
    let number = |text: &str| text.parse().ok().filter(|number: &i32| *number >= 0);
    Some((number(attempt)?, number(seq)?))
}

async fn errors(admin: Data<AdminJobs>, request: HttpRequest, id: Path<String>) -> Answer {
    Query::of(&request, &[])?;
    let run = admin.run(run_id(&id)?).await?;
    let attempts = admin.jobs.store().attempts(run.id).await?;
    Ok(ok(&json!({
        "run": run.id,
        "state": run.state,
        "error": run.error,
        "attempts": went_wrong(&run, attempts),
    })))
}

/// The attempts that went wrong, the one among them that ended the run.
fn went_wrong(run: &RunRow, attempts: Vec<Attempt>) -> Vec<Attempt> {
    let mut wrong: Vec<_> =
        attempts.into_iter().filter(|attempt| attempt.error.is_some()).collect();
    let noted = wrong.iter().any(|attempt| attempt.attempt == run.attempt);
    if let (Some(ended_ms), Some(error), false) = (run.finished_ms, &run.error, noted) {
        wrong.push(Attempt {
            attempt: run.attempt,
            node: run.node.clone(),
            started_ms: run.started_ms,
            ended_ms,
            outcome: run.state.to_string(),
            error: Some(error.clone()),
        });
    }
    wrong
}

async fn cancel(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    id: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let (run, Nothing {}) = (run_id(&id)?, body(&request, &bytes)?);
    admin.jobs.cancel(run, &by(&request)?).await?;
    Ok(answer(StatusCode::ACCEPTED).json(RunBody::from(admin.run(run).await?)))
}

async fn retry(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    id: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let (run, Nothing {}) = (run_id(&id)?, body(&request, &bytes)?);
    let key = header(&request, "idempotency-key")?.map(str::to_owned);
    let by = by(&request)?;
    let run = admin.run(run).await?;
    Ok(ordered(admin.jobs.order(once_more(run, key, by)?).await?))
}

/// What starts a run in place of one that came to nothing. Asked twice, it is the same run.
fn once_more(run: RunRow, key: Option<String>, by: String) -> Result<Order, Refusal> {
    let state = run.state;
    let refuse =
        |code, title| Err(conflict(code, title).with_member("state", state.as_str()).into());
    if !state.is_final() {
        return refuse("run_not_ended", "The run has not ended");
    }
    if state == RunState::Completed {
        return refuse("run_completed", "The run succeeded: start the job instead");
    }
    let job = super::asked::job_name(&run.job)?;
    Ok(Order {
        key: Some(key.unwrap_or_else(|| format!("retry:{}", run.id))),
        params: run.params,
        by,
        ..Order::new(job, Cause::Manual)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: RunState) -> RunRow {
        RunRow {
            id: RunId(7),
            job: "mail".to_owned(),
            fire_key: "task:1".to_owned(),
            scope: String::new(),
            fire_ms: 0,
            cause: "task".to_owned(),
            state,
            attempt: 2,
            orphaned: 0,
            placement: "any".to_owned(),
            handler: "mail".to_owned(),
            priority: 0,
            params: Some(json!({ "to": "a" })),
            epoch: 0,
            node: Some("a#0000000000000001".to_owned()),
            queued_ms: 0,
            not_before_ms: 0,
            started_ms: Some(10),
            heartbeat_ms: None,
            cancel_ms: None,
            cancel_by: None,
            finished_ms: Some(20),
            progress: None,
            result: None,
            error: Some("no route".to_owned()),
        }
    }

    #[test]
    fn what_came_to_nothing_can_be_started_once_more() {
        for state in RunState::ALL {
            let order = once_more(run(state), None, "operator".to_owned());
            let expected = match state {
                RunState::Queued | RunState::Running | RunState::Retrying => Some("run_not_ended"),
                RunState::Completed => Some("run_completed"),
                RunState::Failed
                | RunState::Cancelled
                | RunState::Skipped
                | RunState::Lost
                | RunState::Dead
                | RunState::Incompatible => None,
            };
            assert_eq!(order.as_ref().err().map(|refusal| refusal.0.code), expected);
            if let Ok(order) = order {
                assert_eq!(order.key.as_deref(), Some("retry:7"));
                assert_eq!(
                    (order.params, order.cause),
                    (Some(json!({ "to": "a" })), Cause::Manual)
                );
            }
        }
        let order = once_more(run(RunState::Dead), Some("mine".to_owned()), String::new()).unwrap();
        assert_eq!(order.key.as_deref(), Some("mine"));
    }

    #[test]
    fn the_last_attempt_is_among_those_that_went_wrong_once() {
        let first = Attempt {
            attempt: 1,
            node: None,
            started_ms: None,
            ended_ms: 5,
            outcome: "failed".to_owned(),
            error: Some("busy".to_owned()),
        };
        let back = Attempt { error: None, outcome: "handed_back".to_owned(), ..first.clone() };
        let wrong = went_wrong(&run(RunState::Failed), vec![first.clone(), back]);
        let told: Vec<_> = wrong.iter().map(|one| (one.attempt, one.outcome.as_str())).collect();
        assert_eq!(told, [(1, "failed"), (2, "failed")]);
        let second = Attempt { attempt: 2, outcome: "lost".to_owned(), ..first };
        assert_eq!(went_wrong(&run(RunState::Dead), vec![second]).len(), 1);
        let mut fine = run(RunState::Completed);
        fine.error = None;
        assert!(went_wrong(&fine, Vec::new()).is_empty());
    }

    #[test]
    fn a_place_in_a_log_is_attempt_and_number() {
        assert_eq!(position("1:25"), Some((1, 25)));
        for wrong in ["1", "1:", ":1", "-1:0", "1:x", "1:2:3"] {
            assert_eq!(position(wrong), None, "{wrong}");
        }
    }
}
