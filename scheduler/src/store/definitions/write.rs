//! Changing one job: each change is one transaction that locks the job's cursors and raises its revision, so that a
//! claim that was planned before it comes to nothing.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::DbErr;

use super::super::{Store, Tx, text_of};
use super::hold::{hold, move_on, supersede};
use super::{Definition, DefinitionError, Origin, Pause, spec_of};
use crate::schedule::{Timetable, ZoneName};
use crate::spec::{JobName, JobSpec, Placement};

/// A change of one job.
pub(super) struct Change {
    pub(super) job: JobName,
    pub(super) by: String,
    pub(super) zone: ZoneName,
    pub(super) what: What,
}

/// What is changed.
pub(super) enum What {
    /// The definition: the job is made if it is not there. An edit by an operator leaves alone what the program says.
    Define { spec: Box<JobSpec>, origin: Origin, if_revision: Option<i64> },
    /// The definition of the program or file counts again.
    Reset,
    /// It is paused, or no more.
    Pause(Option<String>),
    /// It is switched on or off.
    Enable(bool),
    /// It is removed, with what waits in the queue.
    Remove { force: bool },
}

/// What became of a change.
pub(super) enum Done {
    Revision(i64),
    Unknown,
    Changed(i64),
    NotYours(&'static str),
}

impl Store {
    /// Makes a job, or replaces its definition; gives its revision. `if_revision` refuses the change of a job that was
    /// changed since it was read (0: that is there already). A changed schedule counts from now on: nothing fires for
    /// times before.
    ///
    /// # Errors
    /// [`DefinitionError`].
    pub async fn define(
        &self,
        spec: JobSpec,
        origin: Origin,
        by: &str,
        if_revision: Option<i64>,
    ) -> Result<i64, DefinitionError> {
        spec.check(self.zone()).map_err(DefinitionError::Invalid)?;
        let job = spec.name.clone();
        self.carry_out(job, by, What::Define { spec: Box::new(spec), origin, if_revision }).await
    }

    /// Lets the definition of the program or file count again.
    ///
    /// # Errors
    /// [`DefinitionError`].
    pub async fn reset(&self, job: &JobName, by: &str) -> Result<i64, DefinitionError> {
        self.carry_out(job.clone(), by, What::Reset).await
    }

    /// Pauses a job: its due times start nothing, and each has a decision row that says who paused it and why.
    ///
    /// # Errors
    /// [`DefinitionError`].
    pub async fn pause(&self, job: &JobName, by: &str, why: &str) -> Result<i64, DefinitionError> {
        self.carry_out(job.clone(), by, What::Pause(Some(why.to_owned()))).await
    }

    /// Ends a pause: due times count from now on, those before only if the job catches up.
    ///
    /// # Errors
    /// [`DefinitionError`].
    pub async fn resume(&self, job: &JobName, by: &str) -> Result<i64, DefinitionError> {
        self.carry_out(job.clone(), by, What::Pause(None)).await
    }

    /// Switches a job on or off.
    ///
    /// # Errors
    /// [`DefinitionError`].
    pub async fn enable(&self, job: &JobName, by: &str, on: bool) -> Result<i64, DefinitionError> {
        self.carry_out(job.clone(), by, What::Enable(on)).await
    }

    /// Removes a job that an operator made; its history stays until it is purged. What waits in the queue is cancelled.
    ///
    /// # Errors
    /// [`DefinitionError::NotYours`] for one that the program or file would bring back.
    pub async fn remove(&self, job: &JobName, by: &str) -> Result<(), DefinitionError> {
        self.carry_out(job.clone(), by, What::Remove { force: false }).await.map(|_| ())
    }

    pub(super) async fn carry_out(
        &self,
        job: JobName,
        by: &str,
        what: What,
    ) -> Result<i64, DefinitionError> {
        let change = Change { job, by: by.to_owned(), zone: self.zone().clone(), what };
        match self.transaction(change, change_boxed).await? {
            Done::Revision(revision) => Ok(revision),
            Done::Unknown => Err(DefinitionError::Unknown),
            Done::Changed(revision) => Err(DefinitionError::Changed(revision)),
            Done::NotYours(whose) => Err(DefinitionError::NotYours(whose)),
        }
    }
}

fn change_boxed<'c>(tx: &'c Tx<'c>, change: Arc<Change>) -> BoxFuture<'c, Result<Done, DbErr>> {
    async move { carry_out(tx, &change).await }.boxed()
}

/// The row of a job, as it was before the change.
pub(super) struct Before {
    pub(super) spec: JobSpec,
    pub(super) origin: Origin,
    pub(super) code_spec: Option<String>,
    pub(super) revision: i64,
    pub(super) enabled: bool,
    pub(super) paused: Option<Pause>,
}

async fn carry_out(tx: &Tx<'_>, change: &Change) -> Result<Done, DbErr> {
    let before = lock(tx, &change.job).await?;
    match &change.what {
        What::Define { spec, origin, if_revision } => {
            let found = before.as_ref().map_or(0, |before| before.revision);
            if if_revision.is_some_and(|wanted| wanted != found) {
                return Ok(Done::Changed(found));
            }
            let revision = define(tx, change, (spec, *origin), before).await?;
            Ok(Done::Revision(revision))
        }
        What::Reset => {
            let Some(before) = before else { return Ok(Done::Unknown) };
            let Some(code) = before.code_spec.as_deref().map(spec_of).transpose()? else {
                return Ok(Done::Revision(before.revision));
            };
            tx.execute(
                "UPDATE us_job SET code_spec = NULL, code_fingerprint = NULL WHERE name = $1",
                vec![change.job.as_str().into()],
            )
            .await?;
            let origin = before.origin;
            let before = Before { code_spec: None, ..before };
            define(tx, change, (&code, origin), Some(before)).await.map(Done::Revision)
        }
        What::Pause(_) | What::Enable(_) => {
            let Some(before) = before else { return Ok(Done::Unknown) };
            hold(tx, change, before).await
        }
        What::Remove { force } => {
            let Some(before) = before else { return Ok(Done::Unknown) };
            let whose = match before.origin {
                Origin::Code => "the program",
                Origin::File => "the file of jobs",
                Origin::System => "Understudy",
                Origin::Api => "",
            };
            if !whose.is_empty() && !force {
                return Ok(Done::NotYours(whose));
            }
            let revision = before.revision;
            let reason = "the job was removed before it was decided";
            supersede(tx, (before, &change.zone), tx.now_ms().await?, reason).await?;
            remove(tx, change, revision).await?;
            Ok(Done::Revision(revision))
        }
    }
}

/// Locks the row of a job, then its cursors; of these two claims only ever lock the second.
async fn lock(tx: &Tx<'_>, job: &JobName) -> Result<Option<Before>, DbErr> {
    let lock = tx.backend.for_update();
    let select = format!(
        "SELECT spec, origin, code_spec, revision, enabled, paused_at_ms, paused_by, paused_why \
         FROM us_job WHERE name = $1{lock}"
    );
    let Some(row) = tx.one(&select, vec![job.as_str().into()]).await? else { return Ok(None) };
    let cursors = format!("SELECT scope FROM us_job_cursor WHERE job = $1 ORDER BY scope{lock}");
    tx.all(&cursors, vec![job.as_str().into()]).await?;
    let (spec, origin): (String, String) = (row.try_get("", "spec")?, row.try_get("", "origin")?);
    let paused: Option<i64> = row.try_get("", "paused_at_ms")?;
    let text = |column: &str| -> Result<String, DbErr> {
        Ok(row.try_get::<Option<String>>("", column)?.unwrap_or_default())
    };
    Ok(Some(Before {
        spec: spec_of(&spec)?,
        origin: Origin::read(&origin),
        code_spec: row.try_get("", "code_spec")?,
        revision: row.try_get("", "revision")?,
        enabled: row.try_get("", "enabled")?,
        paused: match paused {
            None => None,
            Some(since_ms) => {
                Some(Pause { since_ms, by: text("paused_by")?, why: text("paused_why")? })
            }
        },
    }))
}

/// Writes a definition and moves the cursors.
async fn define(
    tx: &Tx<'_>,
    change: &Change,
    (spec, origin): (&JobSpec, Origin),
    before: Option<Before>,
) -> Result<i64, DbErr> {
    let now_ms = tx.now_ms().await?;
    let revision = match &before {
        Some(before) => before.revision,
        None => removed_at(tx, &change.job).await?,
    } + 1;
    let timetable = Timetable::parse(&spec.schedule, &change.zone)
        .map_err(|error| DbErr::Custom(error.to_string()))?;
    let mut definition = Definition {
        spec: spec.clone(),
        timetable,
        revision,
        enabled: before.as_ref().is_none_or(|before| before.enabled),
        paused: before.as_ref().and_then(|before| before.paused.clone()),
    };
    let (origin, code) = kept(origin, before.as_ref());
    let row = Row { spec, origin, code, revision, by: &change.by, now_ms };
    definition.revision = row.write(tx).await?;
    let is_due_as = |before: &Before| {
        before.spec.schedule == spec.schedule && before.spec.placement == spec.placement
    };
    let catches_up = |spec: &JobSpec| spec.catch_up_on_resume;
    match before {
        None => place_cursors(tx, &definition, now_ms).await?,
        Some(before) if !is_due_as(&before) => {
            let reason = "the definition was changed before it was decided";
            supersede(tx, (before, &change.zone), now_ms, reason).await?;
            place_cursors(tx, &definition, now_ms).await?;
        }
        // Whether there is a next due time during a pause depends on it.
        Some(before) if catches_up(&before.spec) != catches_up(spec) => {
            move_on(tx, &definition, now_ms).await?;
        }
        Some(_) => raise(tx, &change.job, definition.revision).await?,
    }
    Ok(definition.revision)
}

/// Whose the job is after a change, and what the program says when an operator's edit stands before it: that is kept for a
/// reset.
fn kept(origin: Origin, before: Option<&Before>) -> (Origin, Option<String>) {
    match before {
        Some(before) if origin == Origin::Api && before.origin != Origin::Api => {
            let code = before.code_spec.clone().unwrap_or_else(|| text_of(&before.spec));
            (before.origin, Some(code))
        }
        Some(_) | None => (origin, None),
    }
}

/// The row of a job, as it will be.
struct Row<'a> {
    spec: &'a JobSpec,
    origin: Origin,
    code: Option<String>,
    revision: i64,
    by: &'a str,
    now_ms: i64,
}

impl Row<'_> {
    /// Writes it; gives the revision, which is a later one when another node has made the same job a moment ago.
    async fn write(self, tx: &Tx<'_>) -> Result<i64, DbErr> {
        let Self { spec, origin, code, revision, by, now_ms } = self;
        let fingerprint = code.as_deref().map(spec_of).transpose()?.map(|code| code.fingerprint());
        let placement = text_of(&spec.placement).trim_matches('"').to_owned();
        let sql = "INSERT INTO us_job (name, spec, fingerprint, origin, placement, system, code_spec, \
             code_fingerprint, revision, created_ms, changed_ms, changed_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11) \
             ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, \
             fingerprint = excluded.fingerprint, origin = excluded.origin, \
             placement = excluded.placement, system = excluded.system, \
             code_spec = excluded.code_spec, code_fingerprint = excluded.code_fingerprint, \
             revision = us_job.revision + 1, changed_ms = excluded.changed_ms, \
             changed_by = excluded.changed_by RETURNING revision";
        let values = vec![
            spec.name.as_str().into(),
            text_of(spec).into(),
            spec.fingerprint().into(),
            origin.as_str().into(),
            placement.into(),
            spec.system.into(),
            code.into(),
            fingerprint.into(),
            revision.into(),
            now_ms.into(),
            by.into(),
        ];
        super::super::required(tx.one(sql, values).await?)?.try_get("", "revision")
    }
}

/// The revision that a job had when it was removed.
async fn removed_at(tx: &Tx<'_>, job: &JobName) -> Result<i64, DbErr> {
    let sql = "SELECT revision FROM us_job_removed WHERE name = $1";
    let row = tx.one(sql, vec![job.as_str().into()]).await?;
    row.map_or(Ok(0), |row| row.try_get("", "revision"))
}

/// Tells claims that were planned before that something has changed.
async fn raise(tx: &Tx<'_>, job: &JobName, revision: i64) -> Result<(), DbErr> {
    let sql = "UPDATE us_job_cursor SET revision = $2 WHERE job = $1";
    tx.execute(sql, vec![job.as_str().into(), revision.into()]).await.map(|_| ())
}

/// Lets due times count from now on.
async fn place_cursors(tx: &Tx<'_>, definition: &Definition, now_ms: i64) -> Result<(), DbErr> {
    let (spec, job) = (&definition.spec, definition.spec.name.as_str());
    let next_ms = definition.next_ms(now_ms, now_ms);
    if spec.placement == Placement::Every {
        // The leader has nothing to do with it; nodes make their own cursors when they meet the job.
        upsert_cursor(tx, (job, now_ms, None, definition.revision)).await?;
        let sql = "UPDATE us_job_cursor SET last_fire_ms = $2, next_fire_ms = $3, revision = $4 \
                   WHERE job = $1 AND scope <> ''";
        let values = vec![job.into(), now_ms.into(), next_ms.into(), definition.revision.into()];
        return tx.execute(sql, values).await.map(|_| ());
    }
    let sql = "DELETE FROM us_job_cursor WHERE job = $1 AND scope <> ''";
    tx.execute(sql, vec![job.into()]).await?;
    upsert_cursor(tx, (job, now_ms, next_ms, definition.revision)).await
}

async fn upsert_cursor(
    tx: &Tx<'_>,
    (job, last_ms, next_ms, revision): (&str, i64, Option<i64>, i64),
) -> Result<(), DbErr> {
    let sql = "INSERT INTO us_job_cursor (job, scope, last_fire_ms, next_fire_ms, revision) \
               VALUES ($1, '', $2, $3, $4) ON CONFLICT (job, scope) DO UPDATE SET \
               last_fire_ms = excluded.last_fire_ms, next_fire_ms = excluded.next_fire_ms, \
               revision = excluded.revision";
    let values = vec![job.into(), last_ms.into(), next_ms.into(), revision.into()];
    tx.execute(sql, values).await.map(|_| ())
}

async fn remove(tx: &Tx<'_>, change: &Change, revision: i64) -> Result<(), DbErr> {
    let job = change.job.as_str();
    let sql = "INSERT INTO us_job_removed (name, revision) VALUES ($1, $2) \
               ON CONFLICT (name) DO UPDATE SET revision = excluded.revision";
    tx.execute(sql, vec![job.into(), revision.into()]).await?;
    for sql in ["DELETE FROM us_job_cursor WHERE job = $1", "DELETE FROM us_job WHERE name = $1"] {
        tx.execute(sql, vec![job.into()]).await?;
    }
    let now = tx.now();
    let waiting = format!(
        "UPDATE us_job_run SET state = 'cancelled', finished_ms = {now}, cancel_by = $2, \
         error = 'the job was removed' WHERE job = $1 AND state IN ('queued', 'retrying')"
    );
    tx.execute(&waiting, vec![job.into(), change.by.clone().into()]).await?;
    let running = format!(
        "UPDATE us_job_run SET cancel_ms = {now}, cancel_by = $2 \
         WHERE job = $1 AND state = 'running' AND cancel_ms IS NULL"
    );
    tx.execute(&running, vec![job.into(), change.by.clone().into()]).await.map(|_| ())
}
