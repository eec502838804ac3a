//! What was: runs with their attempts and logs, decisions, and forgetting them in time.

use sea_orm::{DbErr, QueryResult, Value};
use serde::Serialize;
use serde_json::json;

use super::recordset::{Kind, recordset};
use super::{Result, Store, json, text_of};
use crate::run::{Cause, RunId, RunState};
use crate::spec::JobName;

/// A run, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRow {
    /// Its number.
    pub id: RunId,
    /// Its job.
    pub job: String,
    /// What makes it unique within the job.
    pub fire_key: String,
    /// Empty, or the name of the node, for jobs that run on every node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// When it was due, ms since 1970.
    pub fire_ms: i64,
    /// Why there is a run: `schedule`, `manual`, `task`, `chain` or `backfill`.
    pub cause: String,
    /// Where it stands.
    pub state: RunState,
    /// Which attempt this is, or will be next.
    pub attempt: i32,
    /// How often its node was lost.
    pub orphaned: i32,
    /// Where it may start: `leader`, `any` or `every`.
    pub placement: String,
    /// Its handler.
    pub handler: String,
    /// Its priority.
    pub priority: i32,
    /// Its own parameters, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<serde_json::Value>,
    /// The epoch of the leader that claimed it.
    pub epoch: i64,
    /// The node that has it, or had it last.
    pub node: Option<String>,
    /// When it came into being.
    pub queued_ms: i64,
    /// When it may start, or start again.
    pub not_before_ms: i64,
    /// When the attempt started.
    pub started_ms: Option<i64>,
    /// When its node last showed a sign of life.
    pub heartbeat_ms: Option<i64>,
    /// When it was asked to end.
    pub cancel_ms: Option<i64>,
    /// Who asked.
    pub cancel_by: Option<String>,
    /// When it ended.
    pub finished_ms: Option<i64>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<serde_json::Value>,
    /// What it reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An attempt that did not end its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Its number, from 1.
    pub attempt: i32,
    /// The node that had it.
    pub node: Option<String>,
    /// When it started.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub ended_ms: i64,
    /// `failed`, `lost` or `handed_back`.
    pub outcome: String,
    /// What went wrong.
    pub error: Option<String>,
}

/// A line of a run's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// The attempt that wrote it.
    pub attempt: i32,
    /// Its number within the attempt.
    pub seq: i32,
    /// When, ms since 1970.
    pub at_ms: i64,
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The text.
    pub line: String,
}

/// A line that a run writes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunLine {
    pub(crate) run_id: RunId,
    pub(crate) attempt: u32,
    pub(crate) seq: u32,
    pub(crate) at_ms: i64,
    pub(crate) level: &'static str,
    pub(crate) line: String,
}

/// Why due times started nothing, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecisionRow {
    /// The job.
    pub job: String,
    /// Empty, or the name of the node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The first due time, ms since 1970.
    pub from_ms: i64,
    /// The last due time.
    pub to_ms: i64,
    /// How many due times.
    pub fires: i32,
    /// What became of them.
    pub outcome: String,
    /// Why.
    pub reason: String,
    /// The epoch of the leader that decided.
    pub epoch: i64,
    /// When it was decided.
    pub at_ms: i64,
}

/// Which runs are asked for; the newest come first.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of this job.
    pub job: Option<JobName>,
    /// In one of these states; none asks for all.
    pub states: Vec<RunState>,
    /// That came to be for this reason.
    pub cause: Option<Cause>,
    /// Due in this range, ms, both ends included.
    pub fire_ms: Option<(i64, i64)>,
    /// Running, and without a sign of life for so long, ms.
    pub silent_ms: Option<i64>,
    /// Older than this run: the next page.
    pub before: Option<RunId>,
    /// Also those of Understudy itself.
    pub system: bool,
    /// At most so many, 1 to 1000.
    pub limit: u32,
}

/// That a deployment was begun is remembered for ever: else it would be begun again.
const MAY_GO: &str = "job NOT LIKE 'cluster-first-start.%'";

const COLUMNS: &str = "id, job, fire_key, scope, fire_ms, cause, state, attempt, orphaned, placement, handler, \
    priority, params, epoch, node, queued_ms, not_before_ms, started_ms, heartbeat_ms, cancel_ms, cancel_by, \
    finished_ms, progress, result, error";

impl Store {
    /// Reads one run.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn run(&self, run: RunId) -> Result<Option<RunRow>> {
        let sql = format!("SELECT {COLUMNS} FROM us_job_run WHERE id = $1");
        Ok(self.one(sql, vec![run.0.into()]).await?.map(|row| run_row(&row)).transpose()?)
    }

    /// Reads runs, the newest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>> {
        let mut values: Vec<Value> = Vec::new();
        let mut conditions: Vec<String> = Vec::new();
        let mut bind = |value: Value| {
            values.push(value);
            format!("${}", values.len())
        };
        if let Some(job) = &filter.job {
            conditions.push(format!("job = {}", bind(job.as_str().into())));
        } else if !filter.system {
            conditions.push("NOT system".to_owned());
        }
        if !filter.states.is_empty() {
            let states: Vec<String> =
                filter.states.iter().map(|state| bind(state.as_str().into())).collect();
            conditions.push(format!("state IN ({})", states.join(", ")));
        }
        if let Some(cause) = filter.cause {
            conditions.push(format!("cause = {}", bind(cause.as_str().into())));
        }
        if let Some((from, to)) = filter.fire_ms {
            conditions.push(format!(
                "fire_ms BETWEEN {} AND {}",
                bind(from.into()),
                bind(to.into())
            ));
        }
        if let Some(silent) = filter.silent_ms {
            let now = super::now_once(self.backend());
            conditions.push(format!(
                "state = 'running' AND heartbeat_ms < {now} - {}",
                bind(silent.into())
            ));
        }
        if let Some(before) = filter.before {
            conditions.push(format!("id < {}", bind(before.0.into())));
        }
        let limit = bind(i64::from(filter.limit.clamp(1, 1_000)).into());
        let condition =
            if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        let sql = format!(
            "SELECT {COLUMNS} FROM us_job_run WHERE {condition} ORDER BY id DESC LIMIT {limit}"
        );
        let rows = self.all(sql, values).await?;
        Ok(rows.iter().map(run_row).collect::<std::result::Result<_, _>>()?)
    }

    /// Counts runs by state, those of Understudy itself apart; for metrics and overviews.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn active_runs(&self) -> Result<Vec<(RunState, i64)>> {
        let sql = "SELECT state, count(*) AS runs FROM us_job_run \
                   WHERE state IN ('queued', 'retrying', 'running') AND NOT system GROUP BY state";
        let mut counts = Vec::new();
        for row in self.all(sql.to_owned(), Vec::new()).await? {
            let state: String = row.try_get("", "state")?;
            counts.push((state_of(&state)?, row.try_get("", "runs")?));
        }
        Ok(counts)
    }

    /// Reads the attempts of a run that did not end it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn attempts(&self, run: RunId) -> Result<Vec<Attempt>> {
        let sql = "SELECT attempt, node, started_ms, ended_ms, outcome, error FROM us_run_attempt \
                   WHERE run_id = $1 ORDER BY attempt";
        let rows = self.all(sql.to_owned(), vec![run.0.into()]).await?;
        let read = |row: &QueryResult| -> std::result::Result<Attempt, DbErr> {
            Ok(Attempt {
                attempt: row.try_get("", "attempt")?,
                node: row.try_get("", "node")?,
                started_ms: row.try_get("", "started_ms")?,
                ended_ms: row.try_get("", "ended_ms")?,
                outcome: row.try_get("", "outcome")?,
                error: row.try_get("", "error")?,
            })
        };
        Ok(rows.iter().map(read).collect::<std::result::Result<_, _>>()?)
    }

    /// Reads the log of a run from a line on.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn log_lines(
        &self,
        run: RunId,
        after: (i32, i32),
        limit: u32,
    ) -> Result<Vec<LogLine>> {
        let sql = "SELECT attempt, seq, at_ms, level, line FROM us_run_log WHERE run_id = $1 \
                   AND (attempt > $2 OR (attempt = $2 AND seq > $3)) ORDER BY attempt, seq LIMIT $4";
        let values = vec![run.0.into(), after.0.into(), after.1.into(), i64::from(limit).into()];
        let rows = self.all(sql.to_owned(), values).await?;
        let read = |row: &QueryResult| -> std::result::Result<LogLine, DbErr> {
            Ok(LogLine {
                attempt: row.try_get("", "attempt")?,
                seq: row.try_get("", "seq")?,
                at_ms: row.try_get("", "at_ms")?,
                level: row.try_get("", "level")?,
                line: row.try_get("", "line")?,
            })
        };
        Ok(rows.iter().map(read).collect::<std::result::Result<_, _>>()?)
    }

    /// Writes lines of runs. Lines of one attempt that are there already are left as they are.
    pub(crate) async fn write_lines(&self, lines: &[RunLine]) -> Result<()> {
        let columns = [
            ("run_id", Kind::Big),
            ("attempt", Kind::Big),
            ("seq", Kind::Big),
            ("at_ms", Kind::Big),
            ("level", Kind::Text),
            ("line", Kind::Text),
        ];
        let rows = recordset(self.backend(), 1, &columns);
        let sql = format!(
            "INSERT INTO us_run_log (run_id, attempt, seq, at_ms, level, line) \
             SELECT x.run_id, x.attempt, x.seq, x.at_ms, x.level, x.line FROM {rows} WHERE true \
             ON CONFLICT (run_id, attempt, seq) DO NOTHING"
        );
        self.execute(sql, vec![text_of(&lines).into()]).await.map(|_| ())
    }

    /// Writes how far runs are.
    pub(crate) async fn write_progress(&self, progress: &[(RunId, u32, String)]) -> Result<()> {
        let columns = [("id", Kind::Big), ("attempt", Kind::Big), ("progress", Kind::Text)];
        let rows = recordset(self.backend(), 1, &columns);
        let sql = format!(
            "UPDATE us_job_run SET progress = x.progress FROM {rows} WHERE us_job_run.id = x.id \
             AND us_job_run.attempt = x.attempt AND us_job_run.state = 'running'"
        );
        let values: Vec<_> = progress
            .iter()
            .map(|(id, attempt, text)| json!({ "id": id, "attempt": attempt, "progress": text }))
            .collect();
        self.execute(sql, vec![text_of(&values).into()]).await.map(|_| ())
    }

    /// Reads decisions about due times in a range, the oldest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn decisions(
        &self,
        job: &JobName,
        (from_ms, to_ms): (i64, i64),
        limit: u32,
    ) -> Result<Vec<DecisionRow>> {
        let sql = "SELECT job, scope, from_ms, to_ms, fires, outcome, reason, epoch, at_ms \
                   FROM us_fire_decision WHERE job = $1 AND to_ms >= $2 AND from_ms <= $3 \
                   ORDER BY from_ms, id LIMIT $4";
        let values =
            vec![job.as_str().into(), from_ms.into(), to_ms.into(), i64::from(limit).into()];
        let rows = self.all(sql.to_owned(), values).await?;
        Ok(rows.iter().map(decision_row).collect::<std::result::Result<_, _>>()?)
    }

    /// Forgets runs that ended, and decisions, older than `keep_ms` or beyond `most_per_job`, at most `batch` of each;
    /// gives how many. What is under way, and where cursors stand, is never forgotten: nothing can start again.
    pub(crate) async fn purge(&self, keep_ms: i64, most_per_job: u32, batch: u32) -> Result<u64> {
        let now = super::now_once(self.backend());
        let batch = i64::from(batch);
        let decisions = format!(
            "DELETE FROM us_fire_decision WHERE id IN \
             (SELECT id FROM us_fire_decision WHERE at_ms < {now} - $1 ORDER BY at_ms LIMIT $2)"
        );
        let mut gone = self.execute(decisions, vec![keep_ms.into(), batch.into()]).await?;
        let terms = format!(
            "DELETE FROM us_leader_history WHERE epoch IN (SELECT epoch FROM us_leader_history \
             WHERE ended_ms < {now} - $1 AND epoch < (SELECT max(epoch) FROM us_leader_history) - 100 \
             ORDER BY epoch LIMIT $2)"
        );
        gone += self.execute(terms, vec![keep_ms.into(), batch.into()]).await?;
        let old = format!(
            "SELECT id FROM us_job_run WHERE finished_ms < {now} - $1 \
             AND {MAY_GO} ORDER BY finished_ms LIMIT $2"
        );
        gone += self.forget(&old, vec![keep_ms.into(), batch.into()]).await?;
        let values = vec![i64::from(most_per_job).into(), batch.into()];
        gone += self.forget(&surplus(), values).await?;
        Ok(gone)
    }

    async fn forget(&self, which: &str, values: Vec<Value>) -> Result<u64> {
        let ids = self.all(which.to_owned(), values).await?;
        let ids: Vec<_> = ids
            .iter()
            .map(|row| Ok(json!({ "id": row.try_get::<i64>("", "id")? })))
            .collect::<std::result::Result<_, DbErr>>()?;
        if ids.is_empty() {
            return Ok(0);
        }
        let ids = text_of(&ids);
        let rows = recordset(self.backend(), 1, &[("id", Kind::Big)]);
        for table in ["us_run_log", "us_run_attempt"] {
            let sql = format!("DELETE FROM {table} WHERE run_id IN (SELECT id FROM {rows})");
            self.execute(sql, vec![ids.clone().into()]).await?;
        }
        let sql = format!(
            "DELETE FROM us_job_run WHERE id IN (SELECT id FROM {rows}) AND finished_ms IS NOT NULL"
        );
        self.execute(sql, vec![ids.into()]).await
    }
}

/// Finds runs beyond the number that is kept of each job (`$1`), at most `$2`: goes from job to job by the index, and in each
/// no further than to the first run that goes.
fn surplus() -> String {
    let edge = |offset: &str| {
        format!(
            "(SELECT r.id FROM us_job_run r WHERE r.job = j.job AND r.finished_ms IS NOT NULL \
             ORDER BY r.id DESC LIMIT 1 OFFSET {offset})"
        )
    };
    let (of_system, of_others) = (edge("200"), edge("$1"));
    format!(
        "WITH RECURSIVE jobs(job) AS (\
           SELECT min(job) FROM us_job_run WHERE finished_ms IS NOT NULL UNION ALL \
           SELECT (SELECT min(r.job) FROM us_job_run r WHERE r.finished_ms IS NOT NULL AND r.job > jobs.job) \
           FROM jobs WHERE jobs.job IS NOT NULL), \
         edges AS (SELECT j.job, CASE WHEN j.job LIKE 'system.%' THEN {of_system} ELSE {of_others} END AS edge \
           FROM jobs j WHERE j.job IS NOT NULL AND {MAY_GO}) \
         SELECT r.id FROM edges e JOIN us_job_run r ON r.job = e.job AND r.id <= e.edge \
         WHERE r.finished_ms IS NOT NULL LIMIT $2"
    )
}

fn state_of(text: &str) -> std::result::Result<RunState, DbErr> {
    text.parse().map_err(|_| DbErr::Custom("a state that this program does not know".into()))
}

fn run_row(row: &QueryResult) -> std::result::Result<RunRow, DbErr> {
    let text = |column: &str| row.try_get::<String>("", column);
    let maybe = |column: &str| row.try_get::<Option<String>>("", column);
    let value = |column: &str| -> std::result::Result<Option<serde_json::Value>, DbErr> {
        maybe(column)?.map(|text| json(&text)).transpose()
    };
    let time = |column: &str| row.try_get::<Option<i64>>("", column);
    Ok(RunRow {
        id: RunId(row.try_get("", "id")?),
        job: text("job")?,
        fire_key: text("fire_key")?,
        scope: text("scope")?,
        fire_ms: row.try_get("", "fire_ms")?,
        cause: text("cause")?,
        state: state_of(&text("state")?)?,
        attempt: row.try_get("", "attempt")?,
        orphaned: row.try_get("", "orphaned")?,
        placement: text("placement")?,
        handler: text("handler")?,
        priority: row.try_get("", "priority")?,
        params: value("params")?,
        epoch: row.try_get("", "epoch")?,
        node: maybe("node")?,
        queued_ms: row.try_get("", "queued_ms")?,
        not_before_ms: row.try_get("", "not_before_ms")?,
        started_ms: time("started_ms")?,
        heartbeat_ms: time("heartbeat_ms")?,
        cancel_ms: time("cancel_ms")?,
        cancel_by: maybe("cancel_by")?,
        finished_ms: time("finished_ms")?,
        progress: value("progress")?,
        result: value("result")?,
        error: maybe("error")?,
    })
}

fn decision_row(row: &QueryResult) -> std::result::Result<DecisionRow, DbErr> {
    Ok(DecisionRow {
        job: row.try_get("", "job")?,
        scope: row.try_get("", "scope")?,
        from_ms: row.try_get("", "from_ms")?,
        to_ms: row.try_get("", "to_ms")?,
        fires: row.try_get("", "fires")?,
        outcome: row.try_get("", "outcome")?,
        reason: row.try_get("", "reason")?,
        epoch: row.try_get("", "epoch")?,
        at_ms: row.try_get("", "at_ms")?,
    })
}
