//! Runs while they run: signs of life, cancelling, giving up those whose node is silent, and what they write.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::{DbErr, QueryResult};
use serde_json::json;

use super::claim::{TAKEN, epoch_is_ours};
use super::finish::{Ended, after_end, lock_cursor};
use super::recordset::{Kind, recordset};
use super::take::TakenRun;
use super::{Result, Store, Tx, text_of};
use crate::run::{Chain, RunId, RunState};
use crate::spec::{OnOrphan, Schedule};

/// What a node learns when it says that its runs live.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    /// Runs that are still this node's: run, attempt, and who wants it cancelled.
    pub(crate) alive: Vec<(RunId, u32, Option<String>)>,
    /// Runs that this node has according to the database and did not name: their start was not heard of here.
    pub(crate) unknown: Vec<TakenRun>,
}

/// What became of runs whose node was silent for too long.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Reaped {
    /// They wait for another attempt.
    pub(crate) retried: u64,
    /// They may not be repeated.
    pub(crate) lost: u64,
    /// They were given up so often that they are taken to be the cause.
    pub(crate) dead: u64,
    /// They waited for longer than their grace, and no living node has the handler.
    pub(crate) expired: u64,
    /// Whether the epoch was still ours.
    pub(crate) epoch_ok: bool,
}

impl Store {
    /// Says that the runs of a node live, and hears what is new about them. `known` are those it knows of.
    pub(crate) async fn heartbeat(&self, node: &str, known: &[(RunId, u32)]) -> Result<Heartbeat> {
        let rows = recordset(self.backend(), 2, &[("id", Kind::Big), ("attempt", Kind::Big)]);
        let sql = format!(
            "UPDATE us_job_run SET heartbeat_ms = {} FROM {rows} WHERE us_job_run.id = x.id \
             AND us_job_run.attempt = x.attempt AND node = $1 AND state = 'running' \
             RETURNING us_job_run.id AS id, us_job_run.attempt AS attempt, cancel_by, cancel_ms",
            self.backend().now_ms()
        );
        let named: Vec<_> =
            known.iter().map(|(id, attempt)| json!({ "id": id, "attempt": attempt })).collect();
        let mut heartbeat = Heartbeat::default();
        if !known.is_empty() {
            for row in self.change(sql, vec![node.into(), text_of(&named).into()]).await? {
                let attempt: i32 = row.try_get("", "attempt")?;
                let asked: Option<i64> = row.try_get("", "cancel_ms")?;
                let by: Option<String> = row.try_get("", "cancel_by")?;
                heartbeat.alive.push((
                    RunId(row.try_get("", "id")?),
                    u32::try_from(attempt).unwrap_or(0),
                    asked.map(|_| by.unwrap_or_default()),
                ));
            }
        }
        let sql = format!("SELECT {TAKEN} FROM us_job_run WHERE node = $1 AND state = 'running'");
        let running = self.all(sql, vec![node.into()]).await?;
        if running.len() > heartbeat.alive.len() {
            let all = self.with_definitions(&running).await?;
            heartbeat.unknown =
                all.into_iter().filter(|run| !known.contains(&(run.id, run.attempt))).collect();
        }
        Ok(heartbeat)
    }

    /// Asks a run to end; gives the node that has it, or nothing when it was ended right here or has ended.
    pub(crate) async fn cancel(&self, run: RunId, by: &str) -> Result<Cancelled> {
        let input = (run, by.to_owned());
        self.transaction(input, |tx, input| {
            async move { cancel(tx, input.0, &input.1).await }.boxed()
        })
        .await
    }

    /// Ends runs of Understudy itself whose node is silent: they are never repeated, and must not stand in the way of the
    /// next, which are those that give up all others.
    pub(crate) async fn lose_system_runs(&self, stale_ms: i64) -> Result<u64> {
        let now = self.backend().now_ms();
        let sql = format!(
            "UPDATE us_job_run SET state = 'lost', finished_ms = {now}, error = 'its node was silent' \
             WHERE system AND state = 'running' AND heartbeat_ms < (SELECT {now}) - $1"
        );
        self.execute(sql, vec![stale_ms.into()]).await
    }

    /// Gives the handlers of runs that wait.
    pub(crate) async fn waiting_handlers(&self) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT handler FROM us_job_run WHERE state IN ('queued', 'retrying')";
        let rows = self.all(sql.to_owned(), Vec::new()).await?;
        Ok(rows
            .iter()
            .map(|row| row.try_get("", "handler"))
            .collect::<std::result::Result<_, _>>()?)
    }

    /// Gives up runs whose node was silent for `stale_ms`, and drops those that nobody can start. Fenced by the epoch.
    pub(crate) async fn reap(
        &self,
        epoch: u64,
        stale_ms: i64,
        unhandled: Vec<String>,
    ) -> Result<Reaped> {
        let silent = format!(
            "SELECT {TAKEN} FROM us_job_run WHERE state = 'running' AND heartbeat_ms < {} - $1 \
             ORDER BY id LIMIT 500",
            self.backend().now_ms()
        );
        let rows = self.all(silent, vec![stale_ms.into()]).await?;
        let orphans = self.with_definitions(&rows).await?;
        let mut known: Vec<RunId> = orphans.iter().map(|run| run.id).collect();
        known.sort_unstable();
        let mut nameless = Vec::new();
        for row in &rows {
            let id = RunId(row.try_get("", "id")?);
            if known.binary_search(&id).is_err() {
                nameless.push(id);
            }
        }
        let reap = Reap { epoch, stale_ms, orphans, nameless, unhandled };
        self.transaction(reap, reap_boxed).await
    }
}

/// What cancelling came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// It had not started, and will not.
    Waiting,
    /// This node has it, and is to be told.
    Running(Option<String>),
    /// It had ended in this state.
    Ended(String),
    /// There is no such run.
    Unknown,
}

async fn cancel(tx: &Tx<'_>, run: RunId, by: &str) -> std::result::Result<Cancelled, DbErr> {
    let found = "SELECT job, scope, epoch, chain FROM us_job_run WHERE id = $1";
    let Some(row) = tx.one(found, vec![run.0.into()]).await? else { return Ok(Cancelled::Unknown) };
    let ended = Dropped::read(run, &row)?;
    lock_cursor(tx, &ended.job, &ended.scope).await?;
    let lock =
        format!("SELECT state, node FROM us_job_run WHERE id = $1{}", tx.backend.for_update());
    let Some(row) = tx.one(&lock, vec![run.0.into()]).await? else { return Ok(Cancelled::Unknown) };
    let (state, node): (String, Option<String>) =
        (row.try_get("", "state")?, row.try_get("", "node")?);
    let now = tx.now();
    if state == RunState::Running.as_str() {
        let sql = format!(
            "UPDATE us_job_run SET cancel_ms = COALESCE(cancel_ms, {now}), \
             cancel_by = COALESCE(cancel_by, $2) WHERE id = $1"
        );
        tx.execute(&sql, vec![run.0.into(), by.into()]).await?;
        return Ok(Cancelled::Running(node));
    }
    if state.parse().is_ok_and(RunState::is_final) {
        return Ok(Cancelled::Ended(state));
    }
    let sql = format!(
        "UPDATE us_job_run SET state = 'cancelled', finished_ms = {now}, cancel_ms = {now}, cancel_by = $2, \
         error = 'cancelled before it started' WHERE id = $1"
    );
    tx.execute(&sql, vec![run.0.into(), by.into()]).await?;
    after_end(tx, &ended.ended(), RunState::Cancelled).await?;
    Ok(Cancelled::Waiting)
}

/// A run that ended while it waited.
struct Dropped {
    run: RunId,
    job: String,
    scope: String,
    epoch: i64,
    chain: Option<Chain>,
}

impl Dropped {
    fn read(run: RunId, row: &QueryResult) -> std::result::Result<Self, DbErr> {
        let chain: Option<String> = row.try_get("", "chain")?;
        Ok(Self {
            run,
            job: row.try_get("", "job")?,
            scope: row.try_get("", "scope")?,
            epoch: row.try_get("", "epoch")?,
            chain: chain.as_deref().map(super::json).transpose()?,
        })
    }

    fn ended(&self) -> Ended<'_> {
        Ended {
            run: self.run,
            job: &self.job,
            scope: &self.scope,
            epoch: self.epoch,
            chain: self.chain.as_ref(),
        }
    }
}

struct Reap {
    epoch: u64,
    stale_ms: i64,
    orphans: Vec<TakenRun>,
    /// Runs of jobs that were removed.
    nameless: Vec<RunId>,
    unhandled: Vec<String>,
}

fn reap_boxed<'c>(
    tx: &'c Tx<'c>,
    reap: Arc<Reap>,
) -> BoxFuture<'c, std::result::Result<Reaped, DbErr>> {
    async move { carry_out(tx, &reap).await }.boxed()
}

async fn carry_out(tx: &Tx<'_>, reap: &Reap) -> std::result::Result<Reaped, DbErr> {
    let mut reaped = Reaped::default();
    if !epoch_is_ours(tx, Some(reap.epoch)).await? {
        return Ok(reaped);
    }
    reaped.epoch_ok = true;
    for run in &reap.orphans {
        give_up(tx, run, reap.stale_ms, &mut reaped).await?;
    }
    for run in &reap.nameless {
        let sql = format!(
            "UPDATE us_job_run SET state = 'lost', finished_ms = {now}, error = 'its job was removed, and its node was silent' \
             WHERE id = $1 AND state = 'running' AND heartbeat_ms < {now} - $2",
            now = tx.now()
        );
        reaped.lost += tx.execute(&sql, vec![run.0.into(), reap.stale_ms.into()]).await?;
    }
    if !reap.unhandled.is_empty() {
        reaped.expired = expire(tx, &reap.unhandled).await?;
    }
    Ok(reaped)
}

/// Takes one run away from its node, unless it has shown a sign of life since.
async fn give_up(
    tx: &Tx<'_>,
    run: &TakenRun,
    stale_ms: i64,
    reaped: &mut Reaped,
) -> std::result::Result<(), DbErr> {
    if let Schedule::After { .. } = run.definition.spec.schedule {
        lock_cursor(tx, run.definition.spec.name.as_str(), &run.scope).await?;
    }
    let lock = format!(
        "SELECT orphaned, node, cancel_ms FROM us_job_run WHERE id = $1 AND attempt = $2 AND state = 'running' \
         AND heartbeat_ms < {} - $3{}",
        tx.now(),
        tx.backend.for_update()
    );
    let attempt = i32::try_from(run.attempt).unwrap_or(i32::MAX);
    let row = tx.one(&lock, vec![run.id.0.into(), attempt.into(), stale_ms.into()]).await?;
    let Some(row) = row else { return Ok(()) };
    let (orphaned, node): (i32, Option<String>) =
        (row.try_get("", "orphaned")?, row.try_get("", "node")?);
    let silent = format!("its node {} was silent", node.as_deref().unwrap_or("?"));
    let asked: Option<i64> = row.try_get("", "cancel_ms")?;
    let (state, error) = match run.definition.spec.on_orphan {
        _ if asked.is_some() => (RunState::Cancelled, format!("cancelled; {silent}")),
        OnOrphan::Fail => (RunState::Lost, silent),
        OnOrphan::Retry { max } if orphaned >= i32::try_from(max).unwrap_or(i32::MAX) => {
            (RunState::Dead, format!("{silent}, as were {orphaned} before it"))
        }
        OnOrphan::Retry { .. } => (RunState::Retrying, silent),
    };
    let now = tx.now();
    let note = format!(
        "INSERT INTO us_run_attempt (run_id, attempt, node, started_ms, ended_ms, outcome, error) \
         VALUES ($1, $2, $3, $4, {now}, 'lost', $5) ON CONFLICT (run_id, attempt) DO NOTHING"
    );
    let values = vec![
        run.id.0.into(),
        attempt.into(),
        node.into(),
        run.started_ms.into(),
        error.clone().into(),
    ];
    tx.execute(&note, values).await?;
    if state == RunState::Retrying {
        let sql = format!(
            "UPDATE us_job_run SET state = 'retrying', attempt = attempt + 1, orphaned = orphaned + 1, \
             node = NULL, heartbeat_ms = NULL, not_before_ms = {now}, progress = NULL WHERE id = $1"
        );
        tx.execute(&sql, vec![run.id.0.into()]).await?;
        reaped.retried += 1;
        return Ok(());
    }
    let sql = format!(
        "UPDATE us_job_run SET state = $2, orphaned = orphaned + 1, finished_ms = {now}, error = $3 WHERE id = $1"
    );
    tx.execute(&sql, vec![run.id.0.into(), state.as_str().into(), error.into()]).await?;
    after_end(tx, &Ended::of(run), state).await?;
    reaped.dead += u64::from(state == RunState::Dead);
    reaped.lost += u64::from(state == RunState::Lost);
    Ok(())
}

/// Drops runs that waited for longer than their grace for a handler that no living node has.
async fn expire(tx: &Tx<'_>, unhandled: &[String]) -> std::result::Result<u64, DbErr> {
    let rows = recordset(tx.backend, 1, &[("handler", Kind::Text)]);
    let sql = format!(
        "UPDATE us_job_run SET state = 'skipped', finished_ms = {now}, \
         error = 'no living node had its handler within its grace' WHERE id IN \
         (SELECT r.id FROM us_job_run r WHERE r.state IN ('queued', 'retrying') AND r.expires_ms < {now} \
         AND r.handler IN (SELECT x.handler FROM {rows}) ORDER BY r.id LIMIT 500) \
         AND state IN ('queued', 'retrying') RETURNING id, job, scope, epoch, chain",
        now = tx.now()
    );
    let handlers: Vec<_> = unhandled.iter().map(|handler| json!({ "handler": handler })).collect();
    let rows = tx.all(&sql, vec![text_of(&handlers).into()]).await?;
    for row in &rows {
        let dropped = Dropped::read(RunId(row.try_get("", "id")?), row)?;
        after_end(tx, &dropped.ended(), RunState::Skipped).await?;
    }
    Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
}
