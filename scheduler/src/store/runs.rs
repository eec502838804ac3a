//! Runs while they run: signs of life, cancelling, giving up those whose node is silent, and what they write.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::{DbErr, QueryResult};
use serde_json::json;

use super::claim::{TAKEN, epoch_is_ours};
use super::finish::{Ended, after_end, lock_cursor};
use super::recordset::{Kind, recordset};
use super::take::{TakenRun, labels_suit};
use super::{Need, Result, SchedulerNode, Store, Tx, text_of};
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
    /// They waited for longer than their grace, and no living node has what they ask for.
    pub(crate) expired: u64,
    /// Whether the epoch was still ours.
    pub(crate) epoch_ok: bool,
}

impl Reaped {
    fn add(&mut self, other: Self) {
        self.retried += other.retried;
        self.lost += other.lost;
        self.dead += other.dead;
        self.expired += other.expired;
        self.epoch_ok &= other.epoch_ok;
    }
}

impl Store {
    /// Says that the runs of a node live, and hears what is new about them. `known` are those it knows of.
    pub(crate) async fn heartbeat(&self, node: &str, known: &[(RunId, u32)]) -> Result<Heartbeat> {
        let rows = recordset(self.backend(), 2, &[("id", Kind::Big), ("attempt", Kind::Big)]);
        // A run whose handler guards its writes is locked for as long as those take; it lives, and holds up no other.
        let lock = if self.backend().skip_locked().is_empty() {
            ""
        } else {
            " FOR UPDATE OF r SKIP LOCKED"
        };
        let sql = format!(
            "UPDATE us_job_run SET heartbeat_ms = {} WHERE id IN (SELECT r.id FROM {rows} \
             JOIN us_job_run r ON r.id = x.id AND r.attempt = x.attempt \
             WHERE r.node = $1 AND r.state = 'running' ORDER BY r.id{lock})",
            self.backend().now_ms()
        );
        let named: Vec<_> =
            known.iter().map(|(id, attempt)| json!({ "id": id, "attempt": attempt })).collect();
        let mut heartbeat = Heartbeat::default();
        if !known.is_empty() {
            self.execute(sql, vec![node.into(), text_of(&named).into()]).await?;
        }
        let sql = format!(
            "SELECT {TAKEN}, cancel_ms, cancel_by FROM us_job_run \
             WHERE node = $1 AND state = 'running' ORDER BY id"
        );
        let known: HashSet<(RunId, u32)> = known.iter().copied().collect();
        let mut unknown = Vec::new();
        for row in self.all(sql, vec![node.into()]).await? {
            let attempt: i32 = row.try_get("", "attempt")?;
            let run = (RunId(row.try_get("", "id")?), u32::try_from(attempt).unwrap_or(0));
            if !known.contains(&run) {
                unknown.push(row);
                continue;
            }
            let asked: Option<i64> = row.try_get("", "cancel_ms")?;
            let by: Option<String> = row.try_get("", "cancel_by")?;
            heartbeat.alive.push((run.0, run.1, asked.map(|_| by.unwrap_or_default())));
        }
        heartbeat.unknown = self.with_definitions(&unknown).await?;
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

    /// Ends runs of Understudy itself whose node is silent: they are not repeated, and must not stand in the way of the
    /// next, which are those that give up all others. A rolling restart is one of those others: it goes on elsewhere.
    pub(crate) async fn lose_system_runs(&self, stale_ms: i64) -> Result<u64> {
        let now = self.backend().now_ms();
        let sql = format!(
            "UPDATE us_job_run SET state = 'lost', finished_ms = {now}, error = 'its node was silent' \
             WHERE system AND state = 'running' AND heartbeat_ms < (SELECT {now}) - $1 AND job <> $2"
        );
        self.execute(sql, vec![stale_ms.into(), crate::system::ROLLING_RESTART.into()]).await
    }

    /// Leaves runs that wait for the leader to any node that can run them, when this leader lacks their handler or labels;
    /// gives how many. Fenced by the epoch.
    pub(crate) async fn leave_to_others(&self, epoch: u64, leader: &SchedulerNode) -> Result<u64> {
        let handlers = recordset(self.backend(), 1, &[("handler", Kind::Text)]);
        let sql = format!(
            "UPDATE us_job_run SET placement = 'any' WHERE state IN ('queued', 'retrying') AND id IN \
             (SELECT r.id FROM us_job_run r WHERE r.state IN ('queued', 'retrying') AND r.placement = 'leader' \
              AND (r.handler NOT IN (SELECT x.handler FROM {handlers}) \
                   OR (r.labels IS NOT NULL AND NOT ({labels}))) ORDER BY r.id LIMIT 500{skip}) \
             AND EXISTS (SELECT 1 FROM us_leader_term WHERE name = 'scheduler' AND epoch = $3)",
            labels = labels_suit(self.backend()),
            skip = self.backend().skip_locked()
        );
        let handlers: Vec<_> =
            leader.handlers.iter().map(|handler| json!({ "handler": handler })).collect();
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        let values = vec![text_of(&handlers).into(), text_of(&leader.labels).into(), epoch.into()];
        self.execute(sql, values).await
    }

    /// Gives what runs that wait ask of a node.
    pub(crate) async fn waiting_needs(&self) -> Result<Vec<Need>> {
        let sql =
            "SELECT DISTINCT handler, labels FROM us_job_run WHERE state IN ('queued', 'retrying')";
        let mut needs = Vec::new();
        for row in self.all(sql.to_owned(), Vec::new()).await? {
            let labels: Option<String> = row.try_get("", "labels")?;
            let labels = labels.as_deref().map(super::json).transpose()?.unwrap_or_default();
            needs.push(Need { handler: row.try_get("", "handler")?, labels });
        }
        Ok(needs)
    }

    /// Gives up runs whose node was silent for `stale_ms`, and drops those that nobody can start. Fenced by the epoch, of
    /// which each of the short transactions makes sure anew: one that lasts would keep another node from leading.
    pub(crate) async fn reap(
        &self,
        epoch: u64,
        stale_ms: i64,
        unmet: BTreeSet<Need>,
    ) -> Result<Reaped> {
        let mut reaped = Reaped { epoch_ok: true, ..Reaped::default() };
        let (mut after, mut more) = (RunId(0), true);
        for _ in 0..MOST_REAPED / REAPED_AT_ONCE {
            if !more || !reaped.epoch_ok {
                break;
            }
            let mut reap = self.silent(epoch, stale_ms, after).await?;
            let last =
                reap.orphans.iter().map(|run| run.id).chain(reap.nameless.iter().copied()).max();
            more = reap.orphans.len() + reap.nameless.len() >= REAPED_AT_ONCE;
            let Some(last) = last else { break };
            after = last;
            // Cursors are locked before runs and in their order, as claims do.
            let place =
                |run: &TakenRun| (run.definition.spec.name.clone(), run.scope.clone(), run.id);
            reap.orphans.sort_by_cached_key(place);
            reaped.add(self.transaction(reap, reap_boxed).await?);
        }
        if reaped.epoch_ok {
            // Also when there is nothing to drop: the caller asks whether it still leads.
            let expire = Expire { epoch, unmet };
            reaped.add(self.transaction(expire, expire_boxed).await?);
        }
        Ok(reaped)
    }

    /// Reads some of the runs whose node is silent, those after a run.
    async fn silent(&self, epoch: u64, stale_ms: i64, after: RunId) -> Result<Reap> {
        let silent = format!(
            "SELECT {TAKEN} FROM us_job_run WHERE state = 'running' AND heartbeat_ms < {} - $1 \
             AND id > $2 ORDER BY id LIMIT {REAPED_AT_ONCE}",
            super::now_once(self.backend())
        );
        let rows = self.all(silent, vec![stale_ms.into(), after.0.into()]).await?;
        let orphans = self.with_definitions(&rows).await?;
        let known: HashSet<RunId> = orphans.iter().map(|run| run.id).collect();
        let mut nameless = Vec::new();
        for row in &rows {
            let id = RunId(row.try_get("", "id")?);
            if !known.contains(&id) {
                nameless.push(id);
            }
        }
        Ok(Reap { epoch, stale_ms, orphans, nameless })
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
    let found = "SELECT job, scope, chain FROM us_job_run WHERE id = $1";
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
    chain: Option<Chain>,
}

impl Dropped {
    fn read(run: RunId, row: &QueryResult) -> std::result::Result<Self, DbErr> {
        let chain: Option<String> = row.try_get("", "chain")?;
        Ok(Self {
            run,
            job: row.try_get("", "job")?,
            scope: row.try_get("", "scope")?,
            chain: chain.as_deref().map(super::json).transpose()?,
        })
    }

    fn ended(&self) -> Ended<'_> {
        Ended {
            run: self.run,
            job: &self.job,
            scope: &self.scope,
            chain: self.chain.as_ref(),
            trace: None,
        }
    }
}

/// So many runs are given up in one transaction.
const REAPED_AT_ONCE: usize = 25;
/// So many runs are given up at one go; the rest of more follows with the next.
const MOST_REAPED: usize = 500;

struct Reap {
    epoch: u64,
    stale_ms: i64,
    orphans: Vec<TakenRun>,
    /// Runs of jobs that were removed, or whose definition cannot be read here.
    nameless: Vec<RunId>,
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
    if !reap.nameless.is_empty() {
        let rows = recordset(tx.backend, 1, &[("id", Kind::Big)]);
        let sql = format!(
            "UPDATE us_job_run SET state = 'lost', finished_ms = {now}, \
             error = 'its job was removed or cannot be read, and its node was silent' \
             WHERE id IN (SELECT r.id FROM us_job_run r WHERE r.id IN (SELECT x.id FROM {rows}) \
             AND r.state = 'running' AND r.heartbeat_ms < {once} - $2 ORDER BY r.id{skip})",
            now = tx.now(),
            once = tx.now_once(),
            skip = tx.backend.skip_locked()
        );
        let ids: Vec<_> = reap.nameless.iter().map(|id| json!({ "id": id })).collect();
        reaped.lost += tx.execute(&sql, vec![text_of(&ids).into(), reap.stale_ms.into()]).await?;
    }
    Ok(reaped)
}

struct Expire {
    epoch: u64,
    unmet: BTreeSet<Need>,
}

fn expire_boxed<'c>(
    tx: &'c Tx<'c>,
    expire: Arc<Expire>,
) -> BoxFuture<'c, std::result::Result<Reaped, DbErr>> {
    async move {
        let mut reaped = Reaped::default();
        if epoch_is_ours(tx, Some(expire.epoch)).await? {
            reaped.epoch_ok = true;
            if !expire.unmet.is_empty() {
                reaped.expired = self::expire(tx, &expire.unmet).await?;
            }
        }
        Ok(reaped)
    }
    .boxed()
}

/// Takes one run away from its node, unless it has shown a sign of life since. A run that is locked lives: its handler
/// guards what it writes.
async fn give_up(
    tx: &Tx<'_>,
    run: &TakenRun,
    stale_ms: i64,
    reaped: &mut Reaped,
) -> std::result::Result<(), DbErr> {
    if let Schedule::After { .. } = run.definition.spec.schedule
        && !try_lock_cursor(tx, run.definition.spec.name.as_str(), &run.scope).await?
    {
        return Ok(());
    }
    let lock = format!(
        "SELECT orphaned, node, cancel_ms FROM us_job_run WHERE id = $1 AND attempt = $2 AND state = 'running' \
         AND heartbeat_ms < {} - $3{}",
        tx.now_once(),
        tx.backend.skip_locked()
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

/// So many runs are dropped at one go.
const MOST_EXPIRED: usize = 100;

/// Locks the cursor of a job that is due again when its run has ended, unless somebody else has it; gives whether the
/// run may be ended.
async fn try_lock_cursor(tx: &Tx<'_>, job: &str, scope: &str) -> std::result::Result<bool, DbErr> {
    let sql = "SELECT job FROM us_job_cursor WHERE job = $1 AND scope = $2";
    let values = || vec![job.into(), scope.into()];
    if tx.one(&format!("{sql}{}", tx.backend.skip_locked()), values()).await?.is_some() {
        return Ok(true);
    }
    // One that is not there needs no lock.
    Ok(tx.one(sql, values()).await?.is_none())
}

/// Drops runs that waited for longer than their grace for what no living node has.
async fn expire(tx: &Tx<'_>, unmet: &BTreeSet<Need>) -> std::result::Result<u64, DbErr> {
    let rows = recordset(tx.backend, 1, &[("handler", Kind::Text), ("labels", Kind::Text)]);
    // Labels are always written in the same order, so that texts can be compared.
    let sql = format!(
        "UPDATE us_job_run SET state = 'skipped', finished_ms = {now}, \
         error = 'no living node had its handler and labels within its grace' WHERE id IN \
         (SELECT r.id FROM us_job_run r WHERE r.state IN ('queued', 'retrying') AND r.expires_ms < {once} \
         AND EXISTS (SELECT 1 FROM {rows} WHERE x.handler = r.handler \
           AND COALESCE(x.labels, '') = COALESCE(r.labels, '')) ORDER BY r.id LIMIT {MOST_EXPIRED}{skip}) \
         AND state IN ('queued', 'retrying') RETURNING id, job, scope, chain",
        now = tx.now(),
        once = tx.now_once(),
        skip = tx.backend.skip_locked()
    );
    let row = |need: &Need| {
        let labels = (!need.labels.is_empty()).then(|| text_of(&need.labels));
        json!({ "handler": need.handler, "labels": labels })
    };
    let needs: Vec<_> = unmet.iter().map(row).collect();
    let rows = tx.all(&sql, vec![text_of(&needs).into()]).await?;
    for row in &rows {
        let dropped = Dropped::read(RunId(row.try_get("", "id")?), row)?;
        after_end(tx, &dropped.ended(), RunState::Skipped).await?;
    }
    Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
}
