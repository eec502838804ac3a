//! Ending a run, or an attempt of it: fenced, so that a node that was given up cannot change what another one did.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::{DbErr, Value};
use serde_json::json;
use understudy_runtime::trace::TraceContext;

use super::claim::insert_runs_sql;
use super::take::TakenRun;
use super::{Result, Store, Tx, text_of};
use crate::run::{Cause, Chain, RunId, RunState};
use crate::spec::{JobSpec, OnFailure, Schedule};

/// How soon a node that can read a definition looks at a job whose definition the node that ended its run cannot read.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    /// For good.
    Final {
        /// The state the run ends in.
        state: RunState,
        /// What the handler reported.
        result: Option<serde_json::Value>,
        /// Why it did not succeed.
        error: Option<String>,
    },
    /// There will be another attempt.
    Again {
        /// After this time, ms from now.
        after_ms: i64,
        /// Why: `failed`, `lost` or `handed_back`.
        outcome: &'static str,
        /// What went wrong.
        error: Option<String>,
        /// Whether the attempt did not count: the next one has the same number.
        uncounted: bool,
    },
}

/// What became of an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finished {
    /// It is written.
    Done,
    /// The run was taken away from this node; nothing was changed.
    Fenced,
}

struct Finish {
    run: TakenRun,
    node: String,
    ending: Ending,
    progress: Option<String>,
}

impl Store {
    /// Ends an attempt, with all that depends on it: the next job of the chain, and when the job is due again.
    pub(crate) async fn finish(
        &self,
        run: &TakenRun,
        node: &str,
        ending: Ending,
        progress: Option<String>,
    ) -> Result<Finished> {
        let finish = Finish { run: run.clone(), node: node.to_owned(), ending, progress };
        self.transaction(finish, finish_boxed).await
    }
}

fn finish_boxed<'c>(
    tx: &'c Tx<'c>,
    finish: Arc<Finish>,
) -> BoxFuture<'c, std::result::Result<Finished, DbErr>> {
    async move {
        let Finish { run, node, ending, progress } = &*finish;
        carry_out(tx, run, node, (ending, progress.as_deref())).await
    }
    .boxed()
}

/// Checks that the run is still this attempt of this node, and locks it until the transaction ends, so that nobody can
/// give it to another node before what the transaction does is in.
pub(crate) async fn guard(
    tx: &Tx<'_>,
    run: &TakenRun,
    node: &str,
) -> std::result::Result<bool, DbErr> {
    let sql = format!(
        "SELECT id FROM us_job_run WHERE id = $1 AND attempt = $2 AND node = $3 AND state = 'running'{}",
        tx.backend.for_update()
    );
    Ok(tx.one(&sql, identity(run, node)).await?.is_some())
}

fn identity(run: &TakenRun, node: &str) -> Vec<Value> {
    let attempt = i32::try_from(run.attempt).unwrap_or(i32::MAX);
    vec![run.id.0.into(), attempt.into(), node.into()]
}

/// Locks what must be locked before a run that is going to end: the cursor of a job that is due again then.
pub(crate) async fn lock_before(tx: &Tx<'_>, run: &TakenRun) -> std::result::Result<(), DbErr> {
    if let Schedule::After { .. } = run.definition.spec.schedule {
        lock_cursor(tx, run.definition.spec.name.as_str(), &run.scope).await?;
    }
    Ok(())
}

/// Ends an attempt within a transaction.
pub(crate) async fn carry_out(
    tx: &Tx<'_>,
    run: &TakenRun,
    node: &str,
    (ending, progress): (&Ending, Option<&str>),
) -> std::result::Result<Finished, DbErr> {
    lock_before(tx, run).await?;
    match ending {
        Ending::Again { after_ms, outcome, error, uncounted } => {
            again(tx, run, node, (*after_ms, outcome, error.as_deref(), *uncounted)).await
        }
        Ending::Final { state, result, error } => {
            let end = End {
                state: *state,
                result: result.as_ref().map(text_of),
                error: error.clone(),
                progress: progress.map(str::to_owned),
            };
            self::end(tx, run, node, end).await
        }
    }
}

struct End {
    state: RunState,
    result: Option<String>,
    error: Option<String>,
    progress: Option<String>,
}

/// Ends a run for good.
async fn end(
    tx: &Tx<'_>,
    run: &TakenRun,
    node: &str,
    end: End,
) -> std::result::Result<Finished, DbErr> {
    let mut values = identity(run, node);
    values.extend([
        end.state.as_str().into(),
        end.result.into(),
        end.error.into(),
        end.progress.into(),
    ]);
    let sql = format!(
        "UPDATE us_job_run SET state = $4, finished_ms = {}, result = $5, error = $6, \
         progress = COALESCE($7, progress) \
         WHERE id = $1 AND attempt = $2 AND node = $3 AND state = 'running'",
        tx.now()
    );
    if tx.execute(&sql, values).await? == 0 {
        return Ok(Finished::Fenced);
    }
    after_end(tx, &Ended::of(run), end.state).await?;
    Ok(Finished::Done)
}

/// Notes the attempt and puts the run back into the queue.
async fn again(
    tx: &Tx<'_>,
    run: &TakenRun,
    node: &str,
    (after_ms, outcome, error, uncounted): (i64, &str, Option<&str>, bool),
) -> std::result::Result<Finished, DbErr> {
    let asked = format!(
        "SELECT cancel_ms, cancel_by FROM us_job_run \
         WHERE id = $1 AND attempt = $2 AND node = $3 AND state = 'running'{}",
        tx.backend.for_update()
    );
    let Some(row) = tx.one(&asked, identity(run, node)).await? else { return Ok(Finished::Fenced) };
    if row.try_get::<Option<i64>>("", "cancel_ms")?.is_some() {
        // Its node had not heard of it yet.
        let by: Option<String> = row.try_get("", "cancel_by")?;
        let error = Some(format!("cancelled by {}", by.unwrap_or_default()));
        let end = End { state: RunState::Cancelled, result: None, error, progress: None };
        return self::end(tx, run, node, end).await;
    }
    let now = tx.now();
    let mut values = identity(run, node);
    let failed = i32::from(outcome == "failed");
    values.extend([after_ms.into(), i32::from(!uncounted).into(), failed.into()]);
    let sql = format!(
        "UPDATE us_job_run SET state = CASE WHEN $5 = 0 THEN 'queued' ELSE 'retrying' END, \
         attempt = attempt + $5, failed = failed + $6, not_before_ms = {now} + $4, node = NULL, \
         heartbeat_ms = NULL, progress = NULL \
         WHERE id = $1 AND attempt = $2 AND node = $3 AND state = 'running'"
    );
    if tx.execute(&sql, values).await? == 0 {
        return Ok(Finished::Fenced);
    }
    if uncounted {
        return Ok(Finished::Done);
    }
    let note = format!(
        "INSERT INTO us_run_attempt (run_id, attempt, node, started_ms, ended_ms, outcome, error) \
         VALUES ($1, $2, $3, $4, {now}, $5, $6) ON CONFLICT (run_id, attempt) DO NOTHING"
    );
    let mut values = identity(run, node);
    values.extend([run.started_ms.into(), outcome.into(), error.map(str::to_owned).into()]);
    tx.execute(&note, values).await?;
    Ok(Finished::Done)
}

/// A run that has ended, as far as something depends on it.
pub(super) struct Ended<'a> {
    pub(super) run: RunId,
    pub(super) job: &'a str,
    pub(super) scope: &'a str,
    pub(super) chain: Option<&'a Chain>,
    pub(super) trace: Option<TraceContext>,
}

impl<'a> Ended<'a> {
    pub(super) fn of(run: &'a TakenRun) -> Self {
        Self {
            run: run.id,
            job: run.definition.spec.name.as_str(),
            scope: &run.scope,
            chain: run.chain.as_ref(),
            trace: run.trace,
        }
    }
}

/// Locks the cursor of a job that is due again when its run has ended: before the run, as claims do.
pub(super) async fn lock_cursor(
    tx: &Tx<'_>,
    job: &str,
    scope: &str,
) -> std::result::Result<(), DbErr> {
    let sql = format!(
        "SELECT job FROM us_job_cursor WHERE job = $1 AND scope = $2{}",
        tx.backend.for_update()
    );
    tx.one(&sql, vec![job.into(), scope.into()]).await.map(|_| ())
}

/// What depends on the end of a run: the rest of its chain, and when a job that waits for its run is due again.
pub(super) async fn after_end(
    tx: &Tx<'_>,
    ended: &Ended<'_>,
    state: RunState,
) -> std::result::Result<(), DbErr> {
    // As the definition is now, which may not be the one that the run began with.
    let sql = "SELECT j.spec, j.paused_at_ms FROM us_job_cursor c JOIN us_job j ON j.name = c.job \
               WHERE c.job = $1 AND c.scope = $2 AND c.next_fire_ms IS NULL";
    if let Some(row) = tx.one(sql, vec![ended.job.into(), ended.scope.into()]).await? {
        let spec: String = row.try_get("", "spec")?;
        let paused: Option<i64> = row.try_get("", "paused_at_ms")?;
        if let Some(delay) = pause_after(ended.job, &spec, paused.is_some()) {
            // Never the time that was due before: it would find that run and start none.
            let sql = format!(
                "UPDATE us_job_cursor SET next_fire_ms = CASE WHEN {now} + $3 > last_fire_ms \
                 THEN {now} + $3 ELSE last_fire_ms + 1 END \
                 WHERE job = $1 AND scope = $2 AND next_fire_ms IS NULL",
                now = tx.now()
            );
            let delay_ms = crate::plan::millis(delay);
            tx.execute(&sql, vec![ended.job.into(), ended.scope.into(), delay_ms.into()]).await?;
        }
    }
    if let Some(chain) = ended.chain.filter(|chain| !chain.rest.is_empty()) {
        follow(tx, ended, chain, state).await?;
    }
    Ok(())
}

/// How long after its run a job is due again, if it waits for its run. The end of a run must not fail for a definition of
/// a newer program: of that one only this much is read, and if not even that can be, a node that can read it looks soon.
fn pause_after(job: &str, spec: &str, paused: bool) -> Option<Duration> {
    #[derive(serde::Deserialize)]
    struct Pace {
        schedule: Schedule,
        #[serde(default)]
        catch_up_on_resume: bool,
    }
    match serde_json::from_str::<Pace>(spec) {
        Ok(Pace { schedule: Schedule::After { delay }, catch_up_on_resume }) => {
            (!paused || !catch_up_on_resume).then_some(delay)
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(job.name = job, %error, "when a job is due again cannot be read here");
            (!paused).then_some(UNREADABLE_PAUSE)
        }
    }
}

/// Starts the next job of a chain, or notes that the rest does not run.
async fn follow(
    tx: &Tx<'_>,
    ended: &Ended<'_>,
    chain: &Chain,
    state: RunState,
) -> std::result::Result<(), DbErr> {
    let goes_on = state == RunState::Completed || chain.on_failure == OnFailure::Continue;
    let root = chain.root.unwrap_or(ended.run);
    let now_ms = tx.now_ms().await?;
    let why = format!("`{}` before it in the chain ended {state}", ended.job);
    let mut rows = Vec::new();
    for (place, job) in chain.rest.iter().enumerate() {
        // The run has ended whatever becomes of the others: those that are not known here are passed over.
        let spec = match spec_of(tx, job.as_str()).await? {
            Some(Ok(spec)) => spec,
            Some(Err(error)) => {
                tracing::warn!(job.name = job.as_str(), %error, "a job of a chain cannot be read here and is passed over");
                continue;
            }
            None => {
                tracing::warn!(
                    job.name = job.as_str(),
                    "there is no such job in a chain; it is passed over"
                );
                continue;
            }
        };
        let rest = Chain {
            rest: chain.rest[place + 1..].to_vec(),
            on_failure: chain.on_failure,
            root: Some(root),
        };
        let state = if goes_on { RunState::Queued } else { RunState::Skipped };
        let mut row = super::enqueue::queued_row(&spec, Cause::Chain, now_ms);
        row["fire_key"] = json!(format!("chain:{root}:{}", chain.rest.len() - place));
        row["state"] = json!(state.as_str());
        row["trace"] = json!(ended.trace.map(|trace| trace.to_string()));
        row["chain"] = json!((goes_on && !rest.rest.is_empty()).then(|| text_of(&rest)));
        if !goes_on {
            row["finished_ms"] = json!(now_ms);
            row["error"] = json!(why);
        }
        rows.push(row);
        if goes_on {
            break;
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let values = vec![text_of(&rows).into(), 0_i64.into(), now_ms.into()];
    tx.all(&insert_runs_sql(tx), values).await.map(|_| ())
}

/// Reads the definition of a job; the inner error is that of one that this program cannot read.
pub(super) async fn spec_of(
    tx: &Tx<'_>,
    job: &str,
) -> std::result::Result<Option<std::result::Result<JobSpec, serde_json::Error>>, DbErr> {
    let row = tx.one("SELECT spec FROM us_job WHERE name = $1", vec![job.into()]).await?;
    let text: Option<String> = row.map(|row| row.try_get("", "spec")).transpose()?;
    Ok(text.map(|text| serde_json::from_str(&text)))
}
