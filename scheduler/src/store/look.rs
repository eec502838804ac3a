//! Jobs as operators see them: the definition, where its cursor stands, and its last run.

use std::collections::BTreeMap;

use sea_orm::{DbErr, QueryResult, Value};
use serde::Serialize;

use super::definitions::spec_of;
use super::{Need, Origin, Pause, Result, SchedulerNode, Store};
use crate::run::RunState;
use crate::spec::{JobName, JobSpec};

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRow {
    /// The definition in force.
    pub spec: JobSpec,
    /// Who defined it.
    pub origin: Origin,
    /// Whether an operator's edit stands before what the program or the file says.
    pub edited: bool,
    /// Grows with every change.
    pub revision: i64,
    /// Whether it is on.
    pub enabled: bool,
    /// Whether it is paused.
    pub paused: Option<Pause>,
    /// When it was made, ms since 1970.
    pub created_ms: i64,
    /// When it was last changed.
    pub changed_ms: i64,
    /// Who changed it.
    pub changed_by: String,
    /// Up to which due time it is decided.
    pub last_fire_ms: Option<i64>,
    /// When it is due next.
    pub next_fire_ms: Option<i64>,
    /// The state of its latest run.
    pub last_state: Option<RunState>,
}

/// Up to where the due times of a job are decided, and which is next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CursorRow {
    /// Empty, or the name of the node for jobs that run on every node.
    pub scope: String,
    /// Up to which due time it is decided, ms since 1970.
    pub last_fire_ms: i64,
    /// When it is due next.
    pub next_fire_ms: Option<i64>,
}

/// A due time that comes soon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DueRow {
    /// The job.
    pub job: String,
    /// Empty, or the name of the node for jobs that run on every node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// When it is due, ms since 1970.
    pub fire_ms: i64,
    /// Whether the job is on.
    pub enabled: bool,
    /// Whether the job is paused.
    pub paused: bool,
}

/// So many jobs are looked at for what they need.
const MOST_NEEDS: i64 = 500;

const SELECT: &str = "SELECT j.spec, j.origin, j.code_fingerprint, j.revision, j.enabled, j.paused_at_ms, \
    j.paused_by, j.paused_why, j.created_ms, j.changed_ms, j.changed_by, \
    (SELECT max(c.last_fire_ms) FROM us_job_cursor c WHERE c.job = j.name) AS last_fire_ms, \
    (SELECT min(c.next_fire_ms) FROM us_job_cursor c WHERE c.job = j.name) AS next_fire_ms, \
    (SELECT r.state FROM us_job_run r WHERE r.job = j.name ORDER BY r.id DESC LIMIT 1) AS last_state \
    FROM us_job j";

impl Store {
    /// Reads one job.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn job(&self, name: &JobName) -> Result<Option<JobRow>> {
        let sql = format!("{SELECT} WHERE j.name = $1");
        let row = self.one(sql, vec![name.as_str().into()]).await?;
        Ok(row.map(|row| read(&row)).transpose()?)
    }

    /// Reads jobs by name, those after `after`, at most `limit`; those of Understudy itself, or the others.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn jobs(&self, after: &str, limit: u32, system: bool) -> Result<Vec<JobRow>> {
        let sql = format!("{SELECT} WHERE j.name > $1 AND j.system = $2 ORDER BY j.name LIMIT $3");
        let values: Vec<Value> =
            vec![after.into(), system.into(), i64::from(limit.clamp(1, 1_000)).into()];
        let rows = self.all(sql, values).await?;
        Ok(rows.iter().map(read).collect::<std::result::Result<_, _>>()?)
    }

    /// Finds the jobs that are due within `soon_ms` and that none of these nodes can start; gives each with what is missing.
    pub(crate) async fn unmet_jobs(
        &self,
        soon_ms: i64,
        nodes: &[SchedulerNode],
    ) -> Result<BTreeMap<String, String>> {
        let sql = format!(
            "SELECT j.spec FROM us_job j WHERE j.enabled AND j.paused_at_ms IS NULL AND NOT j.system \
             AND EXISTS (SELECT 1 FROM us_job_cursor c WHERE c.job = j.name AND c.next_fire_ms <= {} + $1) \
             ORDER BY j.name LIMIT $2",
            super::now_once(self.backend())
        );
        let rows = self.all(sql, vec![soon_ms.into(), MOST_NEEDS.into()]).await?;
        let mut unmet = BTreeMap::new();
        for row in rows {
            // One of a newer program is for its own nodes to judge.
            let Ok(spec) = spec_of(&row.try_get::<String>("", "spec")?) else { continue };
            let need = Need::of(&spec);
            if !nodes.iter().any(|node| node.meets(&need)) {
                unmet.insert(spec.name.as_str().to_owned(), need.to_string());
            }
        }
        Ok(unmet)
    }

    /// Reads where the cursors of a job stand, by scope.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn cursors(&self, name: &JobName) -> Result<Vec<CursorRow>> {
        let sql = "SELECT scope, last_fire_ms, next_fire_ms FROM us_job_cursor WHERE job = $1 ORDER BY scope";
        let rows = self.all(sql.to_owned(), vec![name.as_str().into()]).await?;
        let read = |row: &QueryResult| -> std::result::Result<CursorRow, DbErr> {
            Ok(CursorRow {
                scope: row.try_get("", "scope")?,
                last_fire_ms: row.try_get("", "last_fire_ms")?,
                next_fire_ms: row.try_get("", "next_fire_ms")?,
            })
        };
        Ok(rows.iter().map(read).collect::<std::result::Result<_, _>>()?)
    }

    /// Reads what is due until a time (ms since 1970), the earliest first, at most `limit`; with `system` also jobs of
    /// Understudy itself. What is overdue comes first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn due(&self, until_ms: i64, limit: u32, system: bool) -> Result<Vec<DueRow>> {
        let sql = "SELECT c.job, c.scope, c.next_fire_ms, j.enabled, j.paused_at_ms \
                   FROM us_job_cursor c JOIN us_job j ON j.name = c.job \
                   WHERE c.next_fire_ms IS NOT NULL AND c.next_fire_ms <= $1 AND (NOT j.system OR $2) \
                   ORDER BY c.next_fire_ms, c.job, c.scope LIMIT $3";
        let values: Vec<Value> =
            vec![until_ms.into(), system.into(), i64::from(limit.clamp(1, 1_000)).into()];
        let rows = self.all(sql.to_owned(), values).await?;
        let read = |row: &QueryResult| -> std::result::Result<DueRow, DbErr> {
            Ok(DueRow {
                job: row.try_get("", "job")?,
                scope: row.try_get("", "scope")?,
                fire_ms: row.try_get("", "next_fire_ms")?,
                enabled: row.try_get("", "enabled")?,
                paused: row.try_get::<Option<i64>>("", "paused_at_ms")?.is_some(),
            })
        };
        Ok(rows.iter().map(read).collect::<std::result::Result<_, _>>()?)
    }
}

fn read(row: &QueryResult) -> std::result::Result<JobRow, DbErr> {
    let text = |column: &str| row.try_get::<String>("", column);
    let maybe = |column: &str| row.try_get::<Option<String>>("", column);
    let since: Option<i64> = row.try_get("", "paused_at_ms")?;
    let paused = match since {
        None => None,
        Some(since_ms) => Some(Pause {
            since_ms,
            by: maybe("paused_by")?.unwrap_or_default(),
            why: maybe("paused_why")?.unwrap_or_default(),
        }),
    };
    Ok(JobRow {
        spec: spec_of(&text("spec")?)?,
        origin: Origin::read(&text("origin")?),
        edited: maybe("code_fingerprint")?.is_some(),
        revision: row.try_get("", "revision")?,
        enabled: row.try_get("", "enabled")?,
        paused,
        created_ms: row.try_get("", "created_ms")?,
        changed_ms: row.try_get("", "changed_ms")?,
        changed_by: text("changed_by")?,
        last_fire_ms: row.try_get("", "last_fire_ms")?,
        next_fire_ms: row.try_get("", "next_fire_ms")?,
        last_state: maybe("last_state")?.and_then(|state| state.parse().ok()),
    })
}
