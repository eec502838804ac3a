//! Taking runs from the queue: a node starts those that it has the handler, the labels and the room for.
//!
//! Nodes do not wait for each other: a run or a job that another node is just deciding about is left to it. Limits are
//! exact, because whoever starts a limited run holds the lock of the limit from before it counts until it has started.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::{DbErr, QueryResult};
use serde_json::json;
use understudy_runtime::database::Backend;
use understudy_runtime::trace::TraceContext;

use super::claim::{Room, TAKEN, epoch_is_ours, taken};
use super::recordset::{Kind, recordset};
use super::{Definition, Result, Store, Tx, required, text_of};
use crate::run::{Chain, Fence, RunId};
use crate::spec::JobName;

/// So many more runs are looked at than are taken, since other nodes look at the same.
const LOOK_AT: usize = 4;

/// A run that this node has started and must now carry out.
#[derive(Debug, Clone)]
pub struct TakenRun {
    /// Its number.
    pub id: RunId,
    /// The definition of its job.
    pub definition: Arc<Definition>,
    /// What made it unique.
    pub fire_key: String,
    /// Empty, or the name of this node.
    pub scope: String,
    /// When it was due, ms.
    pub fire_ms: i64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How many attempts before have failed; those that were lost or handed back do not count.
    pub failed: u32,
    /// The epoch of the leader that claimed it, or that led when it was asked for.
    pub epoch: u64,
    /// Whether it may go on only while this node leads.
    pub by_leader: bool,
    /// Its own parameters, in place of those of the job.
    pub params: Option<serde_json::Value>,
    /// What follows it.
    pub(crate) chain: Option<Chain>,
    /// When this attempt started, ms.
    pub started_ms: i64,
    /// The trace of whoever asked for it.
    pub trace: Option<TraceContext>,
}

impl TakenRun {
    /// Returns its fencing token.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { epoch: self.epoch, run: self.id, attempt: self.attempt }
    }
}

/// Who takes runs.
#[derive(Debug, Clone)]
pub(crate) struct Taker {
    /// The node's id.
    pub(crate) node: String,
    /// The node's name.
    pub(crate) name: String,
    /// The epoch of its term, if it leads.
    pub(crate) epoch: Option<u64>,
    /// What it may start.
    pub(crate) room: Room,
}

impl Store {
    /// Takes as many runs as there is room for; those of Understudy itself need no room.
    pub(crate) async fn take(&self, taker: Taker) -> Result<Vec<TakenRun>> {
        let waits = format!(
            "SELECT id FROM us_job_run WHERE state IN ('queued', 'retrying') AND not_before_ms <= {} LIMIT 1",
            super::now_once(self.backend())
        );
        if self.one(waits, Vec::new()).await?.is_none() {
            return Ok(Vec::new());
        }
        let take = Take { taker, store: self.clone() };
        let Took { runs, removed } = self.transaction(take, take_boxed).await?;
        if !removed.is_empty() {
            self.cancel_removed(&removed).await?;
        }
        Ok(runs)
    }

    /// Ends runs that wait although their job was removed, as when the removal came between asking for a run and storing it.
    async fn cancel_removed(&self, jobs: &[String]) -> Result<u64> {
        let rows = recordset(self.backend(), 1, &[("job", Kind::Text)]);
        let sql = format!(
            "UPDATE us_job_run SET state = 'cancelled', finished_ms = {now}, error = 'the job was removed' \
             WHERE state IN ('queued', 'retrying') AND id IN \
             (SELECT r.id FROM us_job_run r WHERE r.job IN (SELECT x.job FROM {rows}) \
              AND r.state IN ('queued', 'retrying') \
              AND NOT EXISTS (SELECT 1 FROM us_job j WHERE j.name = r.job) ORDER BY r.id LIMIT 500{skip})",
            now = self.backend().now_ms(),
            skip = self.backend().skip_locked()
        );
        let jobs: Vec<_> = jobs.iter().map(|job| json!({ "job": job })).collect();
        self.execute(sql, vec![text_of(&jobs).into()]).await
    }

    /// When the next run that was put off may start, ms; none when nothing waits.
    pub(crate) async fn next_waiting(&self) -> Result<Option<i64>> {
        let sql = format!(
            "SELECT min(not_before_ms) AS next FROM us_job_run \
             WHERE state IN ('queued', 'retrying') AND not_before_ms > {}",
            super::now_once(self.backend())
        );
        Ok(required(self.one(sql, Vec::new()).await?)?.try_get("", "next")?)
    }

    /// Gives rows of runs the definitions of their jobs; those whose job was removed are left out.
    pub(super) async fn with_definitions(&self, rows: &[QueryResult]) -> Result<Vec<TakenRun>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let jobs: HashSet<String> =
            rows.iter().map(|row| row.try_get("", "job")).collect::<std::result::Result<_, _>>()?;
        let wanted: Vec<_> = jobs.iter().map(|job| json!({ "job": job })).collect();
        let set = recordset(self.backend(), 1, &[("job", Kind::Text)]);
        let sql =
            format!("SELECT name, revision FROM us_job WHERE name IN (SELECT job FROM {set})");
        let mut revisions: Vec<(JobName, i64)> = Vec::new();
        for row in self.all(sql, vec![text_of(&wanted).into()]).await? {
            let job: String = row.try_get("", "name")?;
            revisions.push((super::definitions::name(&job)?, row.try_get("", "revision")?));
        }
        let found = self.definitions_of(revisions.iter().map(|(name, at)| (name, *at))).await?;
        let by_name: HashMap<&str, &Arc<Definition>> =
            found.iter().map(|one| (one.spec.name.as_str(), one)).collect();
        let mut runs = Vec::new();
        for row in rows {
            let job: String = row.try_get("", "job")?;
            if let Some(definition) = by_name.get(job.as_str()) {
                runs.push(taken(row, definition)?);
            }
        }
        Ok(runs)
    }
}

struct Take {
    taker: Taker,
    store: Store,
}

/// What taking came to.
#[derive(Default)]
struct Took {
    runs: Vec<TakenRun>,
    /// Jobs that were removed, and have runs that wait.
    removed: Vec<String>,
}

fn take_boxed<'c>(
    tx: &'c Tx<'c>,
    take: Arc<Take>,
) -> BoxFuture<'c, std::result::Result<Took, DbErr>> {
    async move { carry_out(tx, &take).await }.boxed()
}

async fn carry_out(tx: &Tx<'_>, take: &Take) -> std::result::Result<Took, DbErr> {
    let taker = &take.taker;
    let leads = taker.epoch.is_some() && epoch_is_ours(tx, taker.epoch).await?;
    let paused = super::switches::held_back(tx).await?.is_paused();
    let most = if paused { 0 } else { taker.room.slots };
    let Found { candidates, definitions, removed } = find(tx, take, leads, most * LOOK_AT).await?;
    if candidates.is_empty() {
        return Ok(Took { runs: Vec::new(), removed });
    }
    let locked_jobs = lock_jobs(tx, &candidates).await?;
    lock_limits(tx, &candidates).await?;
    let able: Vec<_> = candidates
        .iter()
        .filter(|one| !one.exclusive || locked_jobs.contains(&(one.job.clone(), one.scope.clone())))
        .map(|one| json!({ "id": one.id }))
        .collect();
    let chosen = lock_runs(tx, &text_of(&able), most).await?;
    if chosen.is_empty() {
        return Ok(Took { runs: Vec::new(), removed });
    }
    let ids = recordset(tx.backend, 1, &[("id", Kind::Big)]);
    let sql = format!(
        "UPDATE us_job_run SET state = 'running', node = $2, started_ms = {now}, heartbeat_ms = {now}, \
         epoch = CASE WHEN placement = 'leader' THEN CAST($3 AS bigint) ELSE epoch END \
         WHERE id IN (SELECT id FROM {ids}) AND state IN ('queued', 'retrying') RETURNING {TAKEN}",
        now = tx.now()
    );
    let epoch = i64::try_from(taker.epoch.unwrap_or(0)).unwrap_or(i64::MAX);
    let values = vec![text_of(&chosen).into(), taker.node.clone().into(), epoch.into()];
    let mut runs = Vec::new();
    for row in tx.all(&sql, values).await? {
        let job: String = row.try_get("", "job")?;
        if let Some(definition) = definitions.get(&job) {
            runs.push(taken(&row, definition)?);
        }
    }
    Ok(Took { runs, removed })
}

/// Runs that could start here, with the definitions of all their jobs.
struct Found {
    candidates: Vec<Candidate>,
    definitions: HashMap<String, Arc<Definition>>,
    removed: Vec<String>,
}

/// Looks for runs that this node could start. Those whose definition cannot be read here, or whose job was removed, are
/// passed over before anything is done to them: once `running` they would be this node's, which could not run them.
async fn find(
    tx: &Tx<'_>,
    take: &Take,
    leads: bool,
    most: usize,
) -> std::result::Result<Found, DbErr> {
    let (mut passed_over, mut removed) = (BTreeSet::new(), Vec::new());
    for _ in 0..MOST_LOOKS {
        let asked = Asked { leads, most, passed_over: &passed_over };
        let found = candidates(tx, &take.taker, asked).await?;
        let jobs: BTreeSet<&str> = found.iter().map(|one| one.job.as_str()).collect();
        let known = take.store.definitions_within(tx, &jobs).await?;
        if known.removed.is_empty() && known.unreadable.is_empty() {
            return Ok(Found { candidates: found, definitions: known.readable, removed });
        }
        // Others may wait behind them.
        passed_over.extend(known.removed.iter().chain(&known.unreadable).cloned());
        removed.extend(known.removed);
    }
    Ok(Found { candidates: Vec::new(), definitions: HashMap::new(), removed })
}

/// So often candidates are looked for when there are some whose definition cannot be read.
const MOST_LOOKS: usize = 10;

/// Which candidates are looked for.
struct Asked<'a> {
    leads: bool,
    most: usize,
    passed_over: &'a BTreeSet<String>,
}

struct Candidate {
    id: i64,
    job: String,
    scope: String,
    exclusive: bool,
    limit_key: Option<String>,
}

/// What the limits say against a run `r` at this moment.
const WITHIN_LIMITS: &str = "(r.limit_key IS NULL OR (SELECT count(*) FROM us_job_run a \
       WHERE a.limit_key = r.limit_key AND a.state = 'running') < r.limit_max) \
     AND (NOT r.exclusive OR NOT EXISTS (SELECT 1 FROM us_job_run a \
       WHERE a.job = r.job AND a.scope = r.scope AND a.state = 'running'))";

/// Looks for runs that this node could start, without locking anything.
async fn candidates(
    tx: &Tx<'_>,
    taker: &Taker,
    Asked { leads, most, passed_over }: Asked<'_>,
) -> std::result::Result<Vec<Candidate>, DbErr> {
    let sql = candidates_sql(tx.backend, leads);
    let names: Vec<_> =
        taker.room.handlers.iter().map(|handler| json!({ "handler": handler })).collect();
    let values = vec![
        text_of(&names).into(),
        text_of(&*taker.room.labels).into(),
        taker.name.clone().into(),
        // Those of Understudy itself come first and need no room.
        i64::try_from(most + SYSTEM_ROOM).unwrap_or(i64::MAX).into(),
        text_of(&passed_over.iter().map(|job| json!({ "job": job })).collect::<Vec<_>>()).into(),
    ];
    let mut found = Vec::new();
    let mut ordinary = 0;
    for row in tx.all(&sql, values).await? {
        let system: bool = row.try_get("", "system")?;
        if !system {
            ordinary += 1;
            if ordinary > most {
                break;
            }
        }
        found.push(Candidate {
            id: row.try_get("", "id")?,
            job: row.try_get("", "job")?,
            scope: row.try_get("", "scope")?,
            exclusive: row.try_get("", "exclusive")?,
            limit_key: row.try_get("", "limit_key")?,
        });
    }
    Ok(found)
}

/// Finds runs of handlers (`$1`) that labels (`$2`) and the node's name (`$3`) are right for, at most `$4`, but of no job in
/// `$5`. In the order of an index, so that a long queue is not sorted to take a few runs from its front.
pub(super) fn candidates_sql(backend: Backend, leads: bool) -> String {
    let handlers = recordset(backend, 1, &[("handler", Kind::Text)]);
    let labels = labels_suit(backend);
    let passing = recordset(backend, 5, &[("job", Kind::Text)]);
    let placed = if leads { "r.placement IN ('any', 'leader')" } else { "r.placement = 'any'" };
    format!(
        "SELECT id, job, scope, exclusive, limit_key, system FROM us_job_run r \
         WHERE r.state IN ('queued', 'retrying') AND r.not_before_ms <= {now} \
         AND (({placed}) OR (r.placement = 'every' AND r.scope = $3)) \
         AND r.handler IN (SELECT handler FROM {handlers}) \
         AND (r.labels IS NULL OR {labels}) AND r.job NOT IN (SELECT job FROM {passing}) \
         AND {WITHIN_LIMITS} \
         ORDER BY r.system DESC, r.priority DESC, r.not_before_ms, r.id LIMIT $4",
        now = super::now_once(backend)
    )
}

/// Whether the labels in `$2` have all that a run `r` asks for.
pub(super) const fn labels_suit(backend: Backend) -> &'static str {
    match backend {
        Backend::Postgres => "CAST(r.labels AS jsonb) <@ CAST($2 AS jsonb)",
        Backend::Sqlite => {
            "NOT EXISTS (SELECT 1 FROM json_each(r.labels) w WHERE NOT EXISTS \
             (SELECT 1 FROM json_each($2) h WHERE h.key = w.key AND h.value = w.value))"
        }
    }
}

/// So many runs of Understudy itself at once.
const SYSTEM_ROOM: usize = 8;

/// Locks the cursors of jobs of which only one run may go on; gives those that nobody else is deciding about.
async fn lock_jobs(
    tx: &Tx<'_>,
    candidates: &[Candidate],
) -> std::result::Result<HashSet<(String, String)>, DbErr> {
    let exclusive: HashSet<(&str, &str)> = candidates
        .iter()
        .filter(|one| one.exclusive)
        .map(|one| (one.job.as_str(), one.scope.as_str()))
        .collect();
    if exclusive.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = recordset(tx.backend, 1, &[("job", Kind::Text), ("scope", Kind::Text)]);
    let lock =
        if tx.backend.skip_locked().is_empty() { "" } else { " FOR UPDATE OF c SKIP LOCKED" };
    let sql = format!(
        "SELECT c.job, c.scope FROM {rows} JOIN us_job_cursor c ON c.job = x.job AND c.scope = x.scope \
         ORDER BY c.job, c.scope{lock}"
    );
    let wanted: Vec<_> =
        exclusive.iter().map(|(job, scope)| json!({ "job": job, "scope": scope })).collect();
    let rows = tx.all(&sql, vec![text_of(&wanted).into()]).await?;
    rows.iter().map(|row| Ok((row.try_get("", "job")?, row.try_get("", "scope")?))).collect()
}

/// Locks the limits that candidates fall under, so that nobody else counts meanwhile.
async fn lock_limits(tx: &Tx<'_>, candidates: &[Candidate]) -> std::result::Result<(), DbErr> {
    let keys: HashSet<&str> =
        candidates.iter().filter_map(|one| one.limit_key.as_deref()).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let mut keys: Vec<&str> = keys.into_iter().collect();
    keys.sort_unstable();
    let wanted = text_of(&keys.iter().map(|key| json!({ "limit_key": key })).collect::<Vec<_>>());
    let rows = recordset(tx.backend, 1, &[("limit_key", Kind::Text)]);
    let make = format!(
        "INSERT INTO us_limit (limit_key) SELECT x.limit_key FROM {rows} WHERE true \
         ORDER BY x.limit_key ON CONFLICT (limit_key) DO NOTHING"
    );
    tx.execute(&make, vec![wanted.clone().into()]).await?;
    let lock = format!(
        "SELECT limit_key FROM us_limit WHERE limit_key IN (SELECT limit_key FROM {rows}) \
         ORDER BY limit_key{}",
        tx.backend.for_update()
    );
    tx.all(&lock, vec![wanted.into()]).await.map(|_| ())
}

/// Locks runs that nobody else is taking, and chooses those within the limits. All is asked again: since they were looked
/// at, another node may have taken one, failed, and put it off.
async fn lock_runs(
    tx: &Tx<'_>,
    ids: &str,
    most: usize,
) -> std::result::Result<Vec<serde_json::Value>, DbErr> {
    let rows = recordset(tx.backend, 1, &[("id", Kind::Big)]);
    let sql = format!(
        "SELECT id, job, scope, exclusive, limit_key, limit_max, system FROM us_job_run r \
         WHERE id IN (SELECT id FROM {rows}) AND state IN ('queued', 'retrying') \
         AND not_before_ms <= {} AND {WITHIN_LIMITS} \
         ORDER BY system DESC, priority DESC, not_before_ms, id LIMIT $2{}",
        tx.now_once(),
        tx.backend.skip_locked()
    );
    let bound = i64::try_from(most + SYSTEM_ROOM).unwrap_or(i64::MAX);
    let (mut chosen, mut busy, mut used, mut ordinary) =
        (Vec::new(), HashSet::new(), HashMap::<String, i64>::new(), 0);
    for row in tx.all(&sql, vec![ids.into(), bound.into()]).await? {
        let (id, system): (i64, bool) = (row.try_get("", "id")?, row.try_get("", "system")?);
        if !system && ordinary >= most {
            continue;
        }
        let exclusive: bool = row.try_get("", "exclusive")?;
        let job: (String, String) = (row.try_get("", "job")?, row.try_get("", "scope")?);
        if exclusive && !busy.insert(job) {
            continue;
        }
        let key: Option<String> = row.try_get("", "limit_key")?;
        if let Some(key) = key {
            let max: i32 = row.try_get("", "limit_max")?;
            let running = match used.get(&key) {
                Some(running) => *running,
                None => running_under(tx, &key).await?,
            };
            if running >= i64::from(max) {
                used.insert(key, running);
                continue;
            }
            used.insert(key, running + 1);
        }
        ordinary += usize::from(!system);
        chosen.push(json!({ "id": id }));
    }
    Ok(chosen)
}

async fn running_under(tx: &Tx<'_>, key: &str) -> std::result::Result<i64, DbErr> {
    let sql =
        "SELECT count(*) AS running FROM us_job_run WHERE limit_key = $1 AND state = 'running'";
    required(tx.one(sql, vec![key.into()]).await?)?.try_get("", "running")
}
