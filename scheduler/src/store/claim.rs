//! Claiming due times: the one place where a run that is due by its schedule comes into being.
//!
//! A claim is one transaction. It locks the term and finds its own epoch there, or does nothing at all; it locks the
//! cursors and finds them where the plan found them, or leaves that job alone; it reads the database's clock and starts
//! nothing before its time; and the unique key of a run makes a second start of one due time impossible even if all of
//! that failed. A new leader's inauguration waits for an open claim of the old one; an old leader's claim waits for an
//! open inauguration, and then finds another epoch.

mod batch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::{DbErr, QueryResult};
use serde::Serialize;
use serde_json::json;
use understudy_runtime::trace::TraceContext;

use batch::Batch;

use super::recordset::{Kind, recordset};
use super::take::TakenRun;
use super::{Definition, Need, Result, Store, Tx, text_of};
use crate::run::RunId;
use crate::spec::JobName;

/// A due time may be claimed this much before the database's clock shows it, since clocks are read to the millisecond
/// and timers fire a moment early.
const EARLY_MS: i64 = 50;

/// What is to be done about one job, as planned from its cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPlan {
    /// The job.
    pub job: JobName,
    /// Empty, or the name of the node.
    pub scope: String,
    /// The revision it was planned with.
    pub revision: i64,
    /// Where the cursor stood, ms.
    pub expected_last_ms: i64,
    /// Where it will stand, ms.
    pub last_ms: i64,
    /// What is due next, ms.
    pub next_ms: Option<i64>,
    /// What starts, in the order of due times.
    pub starts: Vec<Start>,
    /// What does not.
    pub decisions: Vec<Decision>,
}

/// A due time that starts a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// When it was due, ms.
    pub fire_ms: i64,
    /// The same on every node.
    pub key: String,
    /// Whether it was missed: then it waits for runs before it, whatever the overlap policy says.
    pub caught_up: bool,
}

/// Why due times started nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The first due time, ms.
    pub from_ms: i64,
    /// The last due time, ms; the same as the first unless many share a row.
    pub to_ms: i64,
    /// How many due times.
    pub fires: i64,
    /// What became of them.
    pub outcome: Outcome,
    /// Why, for people.
    pub reason: String,
}

impl Decision {
    pub(super) fn row(&self, job: &JobName, scope: &str) -> serde_json::Value {
        json!({
            "job": job, "scope": scope, "from_ms": self.from_ms, "to_ms": self.to_ms,
            "fires": self.fires, "outcome": self.outcome.as_str(), "reason": self.reason,
        })
    }
}

/// What became of a due time that started nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A later one stands for it.
    Coalesced,
    /// It was missed, and its policy lets it be.
    SkippedMisfire,
    /// An earlier run had not ended.
    SkippedOverlap,
    /// The clocks skip it.
    DstGap,
    /// The clocks repeat it.
    DstFold,
    /// The job or the cluster was paused.
    Paused,
    /// The job was switched off.
    Disabled,
    /// No living node had the handler and the labels; the run waits for one.
    NoHandler,
    /// No node led.
    Leaderless,
    /// The definition was changed or removed before it was decided.
    Superseded,
}

impl Outcome {
    /// Returns the name, the same in the database, JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coalesced => "coalesced",
            Self::SkippedMisfire => "skipped_misfire",
            Self::SkippedOverlap => "skipped_overlap",
            Self::DstGap => "dst_gap",
            Self::DstFold => "dst_fold",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
            Self::NoHandler => "no_handler",
            Self::Leaderless => "leaderless",
            Self::Superseded => "superseded",
        }
    }
}

/// Who claims: the node and what it may start at once.
#[derive(Debug, Clone)]
pub(crate) struct Claimant {
    /// The node's id.
    pub(crate) node: String,
    /// The epoch of its term; `None` for what a node does for itself (jobs that run on every node).
    pub(crate) epoch: Option<u64>,
    /// What it may start at once.
    pub(crate) room: Room,
}

/// What a node may start at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room {
    /// How many runs; those of Understudy itself do not count.
    pub(crate) slots: usize,
    /// The handlers it has.
    pub(crate) handlers: Arc<BTreeSet<String>>,
    /// Its labels.
    pub(crate) labels: Arc<BTreeMap<String, String>>,
}

impl Room {
    pub(crate) fn meets(&self, need: &Need) -> bool {
        let has = |(key, value): (&String, &String)| self.labels.get(key) == Some(value);
        self.handlers.contains(&need.handler) && need.labels.iter().all(has)
    }

    fn suits(&self, definition: &Definition) -> bool {
        self.meets(&Need::of(&definition.spec))
    }
}

/// What became of a claim.
#[derive(Debug, Default)]
pub struct ClaimOutcome {
    /// Whether the epoch is still ours; nothing was done if not.
    pub epoch_ok: bool,
    /// Runs that begin at once on this node.
    pub started: Vec<TakenRun>,
    /// How many runs wait for a node.
    pub queued: usize,
    /// Runs that are to end because a later one takes their place, and the nodes that have them.
    pub cancelled: Vec<(RunId, String)>,
    /// Jobs whose cursor had moved, or was locked; they are planned anew.
    pub stale_plans: usize,
    /// How many due times started nothing, by outcome.
    pub decided: HashMap<Outcome, i64>,
}

impl ClaimOutcome {
    /// Adds what another claim of the same round came to.
    pub(crate) fn add(&mut self, other: Self) {
        self.epoch_ok = other.epoch_ok;
        self.started.extend(other.started);
        self.queued += other.queued;
        self.stale_plans += other.stale_plans;
        self.cancelled.extend(other.cancelled);
        for (outcome, fires) in other.decided {
            *self.decided.entry(outcome).or_default() += fires;
        }
    }
}

struct Claim {
    claimant: Claimant,
    plans: Vec<(JobPlan, Arc<Definition>)>,
    unmet: BTreeSet<Need>,
    grace_ms: i64,
}

impl Store {
    /// Carries out plans. `unmet` is what they ask for and no living node has; `grace_ms` how long a run waits for a node
    /// unless its job says otherwise.
    pub(crate) async fn claim(
        &self,
        claimant: Claimant,
        plans: Vec<(JobPlan, Arc<Definition>)>,
        unmet: BTreeSet<Need>,
        grace_ms: i64,
    ) -> Result<ClaimOutcome> {
        let claim = Claim { claimant, plans, unmet, grace_ms };
        self.transaction(claim, claim_boxed).await
    }

    /// Reads the cursors that are due, at most `most`, and when the next is due after those.
    pub(crate) async fn due_cursors(
        &self,
        scope: &str,
        now_ms: i64,
        most: u32,
    ) -> Result<Vec<super::Cursor>> {
        let sql = "SELECT job, scope, last_fire_ms, next_fire_ms, revision FROM us_job_cursor \
                   WHERE scope = $1 AND next_fire_ms <= $2 ORDER BY next_fire_ms LIMIT $3";
        let values = vec![scope.into(), now_ms.into(), i64::from(most).into()];
        let rows = self.all(sql.to_owned(), values).await?;
        Ok(rows.iter().map(super::Cursor::read).collect::<std::result::Result<_, _>>()?)
    }

    /// When the next job of a scope is due, ms.
    pub(crate) async fn next_due(&self, scope: &str) -> Result<Option<i64>> {
        let sql = "SELECT next_fire_ms FROM us_job_cursor WHERE scope = $1 AND next_fire_ms IS NOT NULL \
                   ORDER BY next_fire_ms LIMIT 1";
        let row = self.one(sql.to_owned(), vec![scope.into()]).await?;
        Ok(row.map(|row| row.try_get("", "next_fire_ms")).transpose()?)
    }
}

fn claim_boxed<'c>(
    tx: &'c Tx<'c>,
    claim: Arc<Claim>,
) -> BoxFuture<'c, std::result::Result<ClaimOutcome, DbErr>> {
    async move { carry_out(tx, &claim).await }.boxed()
}

async fn carry_out(tx: &Tx<'_>, claim: &Claim) -> std::result::Result<ClaimOutcome, DbErr> {
    if !epoch_is_ours(tx, claim.claimant.epoch).await? {
        return Ok(ClaimOutcome::default());
    }
    let held_back = super::switches::held_back(tx).await?;
    let cursors = lock_cursors(tx, &claim.plans).await?;
    let (now_ms, active) = read_state(tx, &claim.plans).await?;
    let mut outcome = ClaimOutcome { epoch_ok: true, ..ClaimOutcome::default() };
    let mut batch = Batch::new(claim, active, now_ms);
    for (plan, definition) in &claim.plans {
        let found = cursors.get(&(plan.job.as_str(), plan.scope.as_str()));
        let is_fresh = found == Some(&(plan.expected_last_ms, plan.revision));
        let is_early = plan.last_ms > now_ms + EARLY_MS;
        if !is_fresh || is_early {
            outcome.stale_plans += 1;
            continue;
        }
        batch.add(plan, definition, held_back.for_job(plan.job.as_str()).as_ref());
    }
    batch.write(tx, &mut outcome).await?;
    Ok(outcome)
}

/// Locks the term for the length of the transaction, so that no other can begin before this claim has ended.
pub(crate) async fn epoch_is_ours(
    tx: &Tx<'_>,
    epoch: Option<u64>,
) -> std::result::Result<bool, DbErr> {
    let Some(epoch) = epoch else { return Ok(true) };
    // FOR SHARE and not FOR KEY SHARE: it must exclude the update of an inauguration.
    let sql = format!(
        "SELECT epoch FROM us_leader_term WHERE name = 'scheduler' AND epoch = $1{}",
        tx.backend.for_share()
    );
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    Ok(tx.one(&sql, vec![epoch.into()]).await?.is_some())
}

type Cursors<'a> = HashMap<(&'a str, &'a str), (i64, i64)>;

async fn lock_cursors<'a>(
    tx: &Tx<'_>,
    plans: &'a [(JobPlan, Arc<Definition>)],
) -> std::result::Result<Cursors<'a>, DbErr> {
    let rows = recordset(tx.backend, 1, &[("job", Kind::Text), ("scope", Kind::Text)]);
    // One that the application holds in a transaction of its own is planned anew, and holds up no other.
    let lock =
        if tx.backend.skip_locked().is_empty() { "" } else { " FOR UPDATE OF c SKIP LOCKED" };
    let sql = format!(
        "SELECT c.job, c.scope, c.last_fire_ms, c.revision FROM {rows} \
         JOIN us_job_cursor c ON c.job = x.job AND c.scope = x.scope ORDER BY c.job, c.scope{lock}"
    );
    let wanted: Vec<_> =
        plans.iter().map(|(plan, _)| json!({ "job": plan.job, "scope": plan.scope })).collect();
    let mut found: HashMap<(String, String), (i64, i64)> = HashMap::new();
    for row in tx.all(&sql, vec![text_of(&wanted).into()]).await? {
        let key = (row.try_get("", "job")?, row.try_get("", "scope")?);
        found.insert(key, (row.try_get("", "last_fire_ms")?, row.try_get("", "revision")?));
    }
    let known = plans.iter().filter_map(|(plan, _)| {
        let cursor = found.get(&(plan.job.as_str().to_owned(), plan.scope.clone()))?;
        Some(((plan.job.as_str(), plan.scope.as_str()), *cursor))
    });
    Ok(known.collect())
}

/// How many runs of a job have not ended: those that run, and those that wait.
#[derive(Debug, Clone, Copy, Default)]
struct Active {
    running: i64,
    waiting: i64,
}

/// Reads the clock, and which of the jobs are busy; both after the cursors were locked.
async fn read_state(
    tx: &Tx<'_>,
    plans: &[(JobPlan, Arc<Definition>)],
) -> std::result::Result<(i64, HashMap<(String, String), Active>), DbErr> {
    let rows = recordset(tx.backend, 1, &[("job", Kind::Text), ("scope", Kind::Text)]);
    let sql = format!(
        "SELECT x.job, x.scope, {} AS now_ms, \
         (SELECT count(*) FROM us_job_run r WHERE r.job = x.job AND r.scope = x.scope \
            AND r.state = 'running') AS running, \
         (SELECT count(*) FROM us_job_run r WHERE r.job = x.job AND r.scope = x.scope \
            AND r.state IN ('queued', 'retrying')) AS waiting FROM {rows}",
        tx.now()
    );
    let wanted: Vec<_> =
        plans.iter().map(|(plan, _)| json!({ "job": plan.job, "scope": plan.scope })).collect();
    let (mut now_ms, mut active) = (0, HashMap::new());
    for row in tx.all(&sql, vec![text_of(&wanted).into()]).await? {
        now_ms = row.try_get("", "now_ms")?;
        let busy =
            Active { running: row.try_get("", "running")?, waiting: row.try_get("", "waiting")? };
        active.insert((row.try_get("", "job")?, row.try_get("", "scope")?), busy);
    }
    Ok((now_ms, active))
}

const RUN_COLUMNS: &[(&str, Kind)] = &[
    ("job", Kind::Text),
    ("fire_key", Kind::Text),
    ("scope", Kind::Text),
    ("fire_ms", Kind::Big),
    ("cause", Kind::Text),
    ("state", Kind::Text),
    ("placement", Kind::Text),
    ("handler", Kind::Text),
    ("labels", Kind::Text),
    ("params", Kind::Text),
    ("priority", Kind::Big),
    ("system", Kind::Bool),
    ("exclusive", Kind::Bool),
    ("limit_key", Kind::Text),
    ("limit_max", Kind::Big),
    ("chain", Kind::Text),
    ("not_before_ms", Kind::Big),
    ("expires_ms", Kind::Big),
    ("node", Kind::Text),
    ("finished_ms", Kind::Big),
    ("error", Kind::Text),
    ("trace", Kind::Text),
];

/// Inserts runs out of the JSON in `$1`, with the epoch in `$2` and the time in `$3`; gives those that are new. Runs that no
/// leader claims (0) have the epoch that is in force, so that fencing tokens of a job never go backwards.
pub(super) fn insert_runs_sql(tx: &Tx<'_>) -> String {
    let rows = recordset(tx.backend, 1, RUN_COLUMNS);
    let names: Vec<&str> = RUN_COLUMNS.iter().map(|(name, _)| *name).collect();
    let picked: Vec<String> = names.iter().map(|name| format!("x.{name}")).collect();
    format!(
        "INSERT INTO us_job_run ({}, attempt, epoch, queued_ms, started_ms, heartbeat_ms) \
         SELECT {}, 1, CASE WHEN CAST($2 AS bigint) = 0 THEN (SELECT t.epoch FROM us_leader_term t \
           WHERE t.name = 'scheduler') ELSE CAST($2 AS bigint) END, CAST($3 AS bigint), \
         CASE WHEN x.state = 'running' THEN CAST($3 AS bigint) END, \
         CASE WHEN x.state = 'running' THEN CAST($3 AS bigint) END FROM {rows} WHERE true \
         ON CONFLICT (job, fire_key, scope) DO NOTHING \
         RETURNING {TAKEN}",
        names.join(", "),
        picked.join(", ")
    )
}

/// The columns of a run that its worker needs.
pub(super) const TAKEN: &str = "id, job, fire_key, scope, fire_ms, cause, state, attempt, failed, \
    placement, epoch, params, chain, started_ms, system, trace";

pub(super) fn taken(
    row: &QueryResult,
    definition: &Arc<Definition>,
) -> std::result::Result<TakenRun, DbErr> {
    let number = |column: &str| row.try_get::<i64>("", column);
    let (attempt, failed): (i32, i32) = (row.try_get("", "attempt")?, row.try_get("", "failed")?);
    let params: Option<String> = row.try_get("", "params")?;
    let chain: Option<String> = row.try_get("", "chain")?;
    let placement: String = row.try_get("", "placement")?;
    let trace: Option<String> = row.try_get("", "trace")?;
    Ok(TakenRun {
        id: RunId(number("id")?),
        definition: Arc::clone(definition),
        fire_key: row.try_get("", "fire_key")?,
        scope: row.try_get("", "scope")?,
        fire_ms: number("fire_ms")?,
        attempt: u32::try_from(attempt).unwrap_or(1),
        failed: u32::try_from(failed).unwrap_or(0),
        epoch: u64::try_from(number("epoch")?).unwrap_or(0),
        by_leader: placement == "leader",
        params: params.as_deref().map(super::json).transpose()?,
        chain: chain.as_deref().map(super::json).transpose()?,
        started_ms: number("started_ms")?,
        trace: trace.as_deref().and_then(TraceContext::parse),
    })
}

/// Writes decisions out of JSON.
pub(super) async fn insert_decisions(
    tx: &Tx<'_>,
    decisions: &str,
    epoch: i64,
) -> std::result::Result<(), DbErr> {
    let rows = recordset(
        tx.backend,
        1,
        &[
            ("job", Kind::Text),
            ("scope", Kind::Text),
            ("from_ms", Kind::Big),
            ("to_ms", Kind::Big),
            ("fires", Kind::Big),
            ("outcome", Kind::Text),
            ("reason", Kind::Text),
        ],
    );
    let sql = format!(
        "INSERT INTO us_fire_decision (job, scope, from_ms, to_ms, fires, outcome, reason, epoch, at_ms) \
         SELECT x.job, x.scope, x.from_ms, x.to_ms, x.fires, x.outcome, x.reason, CAST($2 AS bigint), {} \
         FROM {rows} WHERE true",
        tx.now()
    );
    tx.execute(&sql, vec![decisions.into(), epoch.into()]).await.map(|_| ())
}
