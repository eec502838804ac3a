//! Definitions of jobs: made and changed by the program, by a file or by an operator.
//!
//! An operator's edit stands before what program and file say, until it is reset. Of two programs with different
//! definitions the newer wins, whichever starts later: a definition that was never seen before is newer than any that was.

mod hold;
mod meet;
mod sync;
mod write;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sea_orm::{DbErr, QueryResult};
use serde::{Deserialize, Serialize};
use understudy_runtime::database::DatabaseError;

use super::recordset::{Kind, recordset};
use super::{Outcome, Result, Store, Tx, json};
use crate::schedule::Timetable;
use crate::spec::{JobName, JobSpec, Schedule, SpecError};

pub use sync::SyncReport;

/// Who defined a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The program.
    Code,
    /// The file named by `UNDERSTUDY_JOBS_FILE`.
    File,
    /// An operator or the application, while it ran.
    Api,
    /// Understudy itself.
    System,
}

impl Origin {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::File => "file",
            Self::Api => "api",
            Self::System => "system",
        }
    }

    pub(crate) fn read(text: &str) -> Self {
        match text {
            "code" => Self::Code,
            "file" => Self::File,
            "system" => Self::System,
            _ => Self::Api,
        }
    }
}

/// A pause: since when, by whom and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Since when, ms since 1970.
    pub since_ms: i64,
    /// Who paused it.
    pub by: String,
    /// Why, in their words.
    pub why: String,
}

/// The definition in force.
#[derive(Debug, Clone)]
pub struct Definition {
    /// What it says.
    pub spec: JobSpec,
    /// Its schedule, ready to be asked.
    pub timetable: Timetable,
    /// Grows with every change.
    pub revision: i64,
    /// Whether it is on.
    pub enabled: bool,
    /// Whether it is paused.
    pub paused: Option<Pause>,
}

impl Definition {
    /// Why due times of this job start nothing at present.
    #[must_use]
    pub fn held_back(&self) -> Option<(Outcome, String)> {
        if !self.enabled {
            return Some((Outcome::Disabled, "the job is switched off".to_owned()));
        }
        let pause = self.paused.as_ref()?;
        Some((Outcome::Paused, format!("paused by {}: {}", pause.by, pause.why)))
    }

    /// Whether nothing is decided before it is resumed, since what was due meanwhile is caught up then.
    pub(crate) fn catches_up_later(&self) -> bool {
        self.paused.is_some() && self.spec.catch_up_on_resume
    }

    /// When it is due next after `last_ms`, for the cursor of a scope; `now_ms` is where pauses after a run begin.
    pub(crate) fn next_ms(&self, last_ms: i64, now_ms: i64) -> Option<i64> {
        if self.catches_up_later() {
            return None;
        }
        match self.spec.schedule {
            Schedule::After { delay } => {
                Some((now_ms + crate::plan::millis(delay)).max(last_ms + 1))
            }
            Schedule::Cron { .. }
            | Schedule::Every { .. }
            | Schedule::Once { .. }
            | Schedule::Manual => self.timetable.next_fire(last_ms),
        }
    }
}

/// Up to where the due times of a job were decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) job: JobName,
    /// Empty, or the name of a node for jobs that run on every node.
    pub(crate) scope: String,
    pub(crate) last_ms: i64,
    pub(crate) next_ms: Option<i64>,
    pub(crate) revision: i64,
}

impl Cursor {
    pub(super) fn read(row: &QueryResult) -> std::result::Result<Self, DbErr> {
        let job: String = row.try_get("", "job")?;
        Ok(Self {
            job: name(&job)?,
            scope: row.try_get("", "scope")?,
            last_ms: row.try_get("", "last_fire_ms")?,
            next_ms: row.try_get("", "next_fire_ms")?,
            revision: row.try_get("", "revision")?,
        })
    }
}

/// Definitions as a transaction sees them.
#[derive(Default)]
pub(super) struct Within {
    pub(super) readable: HashMap<String, Arc<Definition>>,
    pub(super) unreadable: Vec<String>,
    /// There are no such jobs.
    pub(super) removed: Vec<String>,
}

/// A definition was not changed.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// It does not make sense.
    #[error("the definition of the job is wrong: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<SpecError>),
    /// There is no such job.
    #[error("there is no job of this name")]
    Unknown,
    /// It was changed since it was read; read it again.
    #[error("the job was changed meanwhile: it has revision {0}")]
    Changed(i64),
    /// It belongs to the program, the file or Understudy, and would come back.
    #[error("the job belongs to {0}: switch it off instead")]
    NotYours(&'static str),
    /// The database does not do it.
    #[error("the definition cannot be stored")]
    Database(#[from] DatabaseError),
}

impl Store {
    /// Reads the definition in force.
    ///
    /// # Errors
    /// [`DatabaseError`] when the database is away.
    pub async fn definition(&self, name: &JobName) -> Result<Option<Arc<Definition>>> {
        let sql = format!("{SELECT} WHERE name = $1");
        let row = self.one(sql, vec![name.as_str().into()]).await?;
        Ok(row.map(|row| self.parse(&row)).transpose()?.flatten())
    }

    /// Gives the definitions of these jobs, those with these revisions from memory.
    pub(crate) async fn definitions_of<'a>(
        &self,
        wanted: impl Iterator<Item = (&'a JobName, i64)>,
    ) -> Result<Vec<Arc<Definition>>> {
        let (mut known, mut missing) = (Vec::new(), Vec::new());
        for (name, revision) in wanted {
            match self.cache.get(name, revision) {
                Some(definition) => known.push(definition),
                None => missing.push(serde_json::json!({ "job": name })),
            }
        }
        if missing.is_empty() {
            return Ok(known);
        }
        let rows = recordset(self.backend(), 1, &[("job", Kind::Text)]);
        let sql = format!("{SELECT} WHERE name IN (SELECT job FROM {rows})");
        let missing = serde_json::Value::Array(missing).to_string();
        for row in self.all(sql, vec![missing.into()]).await? {
            known.extend(self.parse(&row)?);
        }
        Ok(known)
    }

    /// Gives the definitions of these jobs as a transaction sees them, and tells those that cannot be read here from those that
    /// are not there.
    pub(super) async fn definitions_within(
        &self,
        tx: &Tx<'_>,
        jobs: &BTreeSet<&str>,
    ) -> std::result::Result<Within, DbErr> {
        let mut within = Within::default();
        if jobs.is_empty() {
            return Ok(within);
        }
        let rows = recordset(tx.backend, 1, &[("job", Kind::Text)]);
        let which = format!("WHERE name IN (SELECT job FROM {rows})");
        let wanted = |jobs: &mut dyn Iterator<Item = &str>| {
            let jobs: Vec<_> = jobs.map(|job| serde_json::json!({ "job": job })).collect();
            vec![serde_json::Value::Array(jobs).to_string().into()]
        };
        let (mut unknown, mut gone) = (Vec::new(), jobs.clone());
        let revisions = format!("SELECT name, revision FROM us_job {which}");
        for row in tx.all(&revisions, wanted(&mut jobs.iter().copied())).await? {
            let job: String = row.try_get("", "name")?;
            gone.remove(job.as_str());
            match self.cache.get(&name(&job)?, row.try_get("", "revision")?) {
                Some(definition) => {
                    within.readable.insert(job, definition);
                }
                None => unknown.push(job),
            }
        }
        within.removed = gone.into_iter().map(str::to_owned).collect();
        if unknown.is_empty() {
            return Ok(within);
        }
        let select = format!("{SELECT} {which}");
        for row in tx.all(&select, wanted(&mut unknown.iter().map(String::as_str))).await? {
            let job: String = row.try_get("", "name")?;
            match self.parse(&row)? {
                Some(definition) => {
                    within.readable.insert(job, definition);
                }
                None => within.unreadable.push(job),
            }
        }
        Ok(within)
    }

    /// Reads one row of [`SELECT`]. A definition that this program cannot read (of a newer one) is none, and logged.
    fn parse(&self, row: &QueryResult) -> std::result::Result<Option<Arc<Definition>>, DbErr> {
        let (name, text): (String, String) = (row.try_get("", "name")?, row.try_get("", "spec")?);
        let parsed = serde_json::from_str::<JobSpec>(&text)
            .map_err(|error| error.to_string())
            .and_then(|spec| {
                let timetable = Timetable::parse(&spec.schedule, self.cache.zone());
                timetable.map(|timetable| (spec, timetable)).map_err(|error| error.to_string())
            });
        let (spec, timetable) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                // Once: a round of the scheduler may meet it again and again.
                if self.cache.is_news(&name, row.try_get("", "revision")?) {
                    tracing::warn!(
                        job.name = name,
                        error,
                        "the definition of a job cannot be read here"
                    );
                }
                return Ok(None);
            }
        };
        let since: Option<i64> = row.try_get("", "paused_at_ms")?;
        let paused = match since {
            None => None,
            Some(since_ms) => Some(Pause {
                since_ms,
                by: row.try_get::<Option<String>>("", "paused_by")?.unwrap_or_default(),
                why: row.try_get::<Option<String>>("", "paused_why")?.unwrap_or_default(),
            }),
        };
        let definition = Arc::new(Definition {
            spec,
            timetable,
            revision: row.try_get("", "revision")?,
            enabled: row.try_get("", "enabled")?,
            paused,
        });
        self.cache.put(&definition);
        Ok(Some(definition))
    }
}

/// What [`Store::parse`] reads.
const SELECT: &str =
    "SELECT name, spec, revision, enabled, paused_at_ms, paused_by, paused_why FROM us_job";

pub(super) fn name(text: &str) -> std::result::Result<JobName, DbErr> {
    text.parse().map_err(|error: crate::spec::InvalidJobName| DbErr::Custom(error.to_string()))
}

pub(super) fn spec_of(text: &str) -> std::result::Result<JobSpec, DbErr> {
    json(text)
}
