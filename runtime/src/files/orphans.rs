//! Removes files that nobody uses, in spaces whose [rule](super::SpaceRule) wants that: the duty `files-orphans`, done by the
//! leader.
//!
//! A file is an orphan when it has no reference, has had none for as long as the rule of its space says, and the rule has said
//! so for that long. It is looked at twice: when orphans are looked for, page by page, and in the statement that takes its
//! name away. That statement takes only the row that was looked at: whoever makes or takes away a reference
//! [touches](super::owners) it. So a reference that is made between the looks, or whose transaction is open at the second, keeps
//! the file. Its content is removed as that of any deleted file is, ten minutes later.
//!
//! One run looks at so many files as it has time for, and notes where it ended; the next one goes on there, on whichever node,
//! and begins anew behind the last file. So every file is looked at in the end, however many there are, and one that cannot be
//! removed keeps none of the others.
//!
//! In the same transaction the duty makes sure that its node still leads ([`DutyRun::guard`]). A leader that stood still
//! removes nothing after another one was inaugurated; it would do no harm either.

pub(super) mod admin;
mod round;

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr, QueryResult, Value};
use serde::Serialize;
use tokio::time::Instant;

use self::round::Round;
use super::Store;
use super::error::FileError;
use super::rows::{COUNT, ENTER, Rows, gone};
use super::rules::rule_of;
use crate::database::{Backend, DatabaseError};
use crate::duty::{Duty, DutyRun};

/// Name of the duty.
const DUTY: &str = "files-orphans";
/// How often it is due.
const EVERY: Duration = Duration::from_secs(3_600);
/// How many files one run removes at most; the rest follows with the next.
pub(super) const MOST: u64 = 1_000;
/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(240);
/// After how many files that could not be removed, one after the other, a run ends.
const FAILURES: u64 = 3;
/// How many files are looked at with one question.
const PAGE: u32 = 1_000;

/// A file that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Orphan {
    #[serde(skip)]
    pub(super) id: String,
    pub(super) space: String,
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Since when nobody uses it, ms since 1970.
    pub(super) unused_ms: u64,
}

/// Up to where files were looked at: a space, and a name there.
pub(super) type Place = (String, String);

/// A page of files that were looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) orphans: Vec<Orphan>,
    /// How many files were looked at.
    pub(super) looked: u64,
    /// Behind which to go on; none at the end.
    pub(super) next: Option<Place>,
}

/// What is done with orphans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// They are counted.
    Count,
    /// They are removed.
    Remove,
}

/// How far one run goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How many files it removes, or counts.
    pub(super) most: u64,
    /// How long it takes; what is under way then is finished. However short that is, it looks at some files.
    pub(super) within: Duration,
    /// How many files it looks at with one question.
    pub(super) page: u32,
}

impl Bounds {
    pub(super) const fn new(most: u64, within: Duration) -> Self {
        Self { most, within, page: PAGE }
    }
}

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct OrphanReport {
    /// Files that were looked at.
    pub(super) looked: u64,
    /// Those that nobody used, and how many bytes they have.
    pub(super) orphans: u64,
    pub(super) bytes: u64,
    /// Those of them that were removed.
    pub(super) removed: u64,
    /// Those of them that somebody used after all when they were to be removed.
    pub(super) kept: u64,
    /// Those of them that could not be removed.
    pub(super) failed: u64,
    /// Whether not all files were looked at; the next run goes on behind those that were.
    pub(super) more: bool,
}

/// Makes the duty that the leader does.
pub(super) fn duty(store: &Arc<Store>) -> Duty {
    let store = Arc::clone(store);
    Duty {
        name: DUTY,
        description: "removes files that nobody uses, in spaces that want that",
        every: EVERY,
        run: Arc::new(move |run| {
            let store = Arc::clone(&store);
            Box::pin(async move {
                let bounds = Bounds::new(MOST, LIMIT);
                let report = run_once(&store, Act::Remove, bounds, &run).await;
                let report = report.map_err(|error| crate::error::chain(&error))?;
                serde_json::to_value(report).map_err(|error| error.to_string())
            })
        }),
    }
}

/// Looks at all files, from where the run before ended, and removes or counts those that nobody uses.
pub(super) async fn run_once(
    store: &Store,
    act: Act,
    bounds: Bounds,
    run: &DutyRun,
) -> Result<OrphanReport, FileError> {
    let begun = Instant::now();
    // Where no space wants it nothing is looked at.
    if !store.rows.wants_orphans().await? {
        return Ok(OrphanReport::default());
    }
    let begin = store.rows.orphans_place().await?;
    let (round, report) = (Round::begin(begin.clone()), OrphanReport::default());
    let mut collecting =
        Collecting { store, act, bounds, run, begun, round, report, failed_in_a_row: 0 };
    let went = collecting.go_round().await;
    let Collecting { round, report, .. } = collecting;
    let end = round.end();
    // Also where it broke off: the next run goes on behind what could not be removed.
    let noted = if act == Act::Remove && end != begin {
        store.rows.note_orphans_place(end, run).await
    } else {
        Ok(())
    };
    went?;
    noted?;
    Ok(report)
}

/// One run.
struct Collecting<'a> {
    store: &'a Store,
    act: Act,
    bounds: Bounds,
    run: &'a DutyRun,
    begun: Instant,
    round: Round,
    report: OrphanReport,
    failed_in_a_row: u64,
}

impl Collecting<'_> {
    async fn go_round(&mut self) -> Result<(), FileError> {
        while !self.report.more && !self.round.is_over() {
            let page = self.store.rows.orphans(self.round.stretch(), self.bounds.page).await?;
            self.report.looked += page.looked;
            for orphan in page.orphans {
                if self.run.is_cancelled() || self.done() >= self.bounds.most {
                    self.report.more = true;
                    break;
                }
                self.take(orphan).await?;
                if self.is_late() {
                    self.report.more = true;
                    break;
                }
            }
            if !self.report.more {
                self.round.turned(page.next);
                self.report.more =
                    !self.round.is_over() && (self.run.is_cancelled() || self.is_late());
            }
        }
        Ok(())
    }

    /// How many were removed, or counted.
    fn done(&self) -> u64 {
        self.report.orphans - self.report.kept - self.report.failed
    }

    fn is_late(&self) -> bool {
        self.begun.elapsed() >= self.bounds.within
    }

    /// Counts an orphan, and removes it if that is wanted. One that cannot be removed is left to another run; where several
    /// fail one after the other it is not for them.
    async fn take(&mut self, orphan: Orphan) -> Result<(), FileError> {
        self.report.orphans += 1;
        self.report.bytes += orphan.bytes;
        self.round.passed((orphan.space.clone(), orphan.name.clone()));
        if self.act == Act::Count {
            return Ok(());
        }
        let version = orphan.id.clone();
        match self.store.rows.remove_orphan(orphan, self.run).await {
            Ok(removed) => {
                self.report.removed += u64::from(removed);
                self.report.kept += u64::from(!removed);
                self.failed_in_a_row = 0;
                Ok(())
            }
            Err(error) => {
                self.report.failed += 1;
                self.failed_in_a_row += 1;
                if self.failed_in_a_row >= FAILURES {
                    return Err(error.into());
                }
                let error = crate::error::chain(&error);
                tracing::warn!(
                    file.version = %version,
                    error,
                    "a file that nobody uses could not be removed; it is tried again when the others had their turn"
                );
                Ok(())
            }
        }
    }
}

/// Lists up to so many orphans behind a place, and where to go on. It may find none and still know where: it looks for so
/// long.
pub(super) async fn list(
    store: &Store,
    mut after: Place,
    limit: usize,
    within: Duration,
) -> Result<(Vec<Orphan>, Option<Place>), FileError> {
    let begun = Instant::now();
    let mut orphans: Vec<Orphan> = Vec::new();
    if !store.rows.wants_orphans().await? {
        return Ok((orphans, None));
    }
    loop {
        let page = store.rows.orphans((&after, None), PAGE).await?;
        let room = limit - orphans.len();
        let is_cut = page.orphans.len() > room;
        orphans.extend(page.orphans.into_iter().take(room));
        if is_cut {
            let next = orphans.last().map(|last| (last.space.clone(), last.name.clone()));
            return Ok((orphans, next));
        }
        match page.next {
            Some(next) if orphans.len() < limit && begun.elapsed() < within => after = next,
            next => return Ok((orphans, next)),
        }
    }
}

/// Gives the SQL that says whether a row of `us_file` is an orphan.
fn is_orphan(backend: Backend) -> String {
    // Read once for the statement.
    let now = format!("(SELECT {})", backend.now_ms());
    format!(
        "EXISTS (SELECT 1 FROM us_file_rule rule WHERE rule.name = {} \
         AND rule.unused_ms IS NOT NULL AND rule.since_ms <= {now} - rule.unused_ms \
         AND us_file.touched_ms <= {now} - rule.unused_ms) \
         AND NOT EXISTS (SELECT 1 FROM us_file_reference reference \
         WHERE reference.space = us_file.space AND reference.name = us_file.name)",
        rule_of("us_file.space")
    )
}

impl Rows {
    /// Says whether any rule wants files removed that nobody uses.
    pub(super) async fn wants_orphans(&self) -> Result<bool, DatabaseError> {
        let sql = "SELECT name FROM us_file_rule WHERE unused_ms IS NOT NULL LIMIT 1";
        let query = self.database.backend().statement(sql, []);
        let wants = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move { Ok(executor.query_one_raw(query).await?.is_some()) })
        });
        wants.await
    }

    /// Looks at so many files by space and name, those behind a place and up to another, or to the end.
    pub(super) async fn orphans(
        &self,
        ((space, name), until): (&Place, Option<&Place>),
        limit: u32,
    ) -> Result<Page, DatabaseError> {
        let backend = self.database.backend();
        let bound = if until.is_some() { "AND (space, name) <= ($4, $5)" } else { "" };
        let sql = format!(
            "SELECT id, space, name, bytes, touched_ms, \
             CAST(CASE WHEN {} THEN 1 ELSE 0 END AS bigint) AS orphan FROM \
             (SELECT id, space, name, bytes, touched_ms FROM us_file WHERE state = 'ready' \
             AND (space, name) > ($1, $2) {bound} ORDER BY space, name LIMIT $3) AS us_file \
             ORDER BY space, name",
            is_orphan(backend)
        );
        let mut values: Vec<Value> =
            vec![space.clone().into(), name.clone().into(), i64::from(limit).into()];
        if let Some((space, name)) = until {
            values.extend([Value::from(space.clone()), Value::from(name.clone())]);
        }
        let query = backend.statement(&sql, values);
        let rows = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move {
                let rows = executor.query_all_raw(query).await?;
                rows.iter().map(looked_at).collect::<Result<Vec<(Orphan, bool)>, DbErr>>()
            })
        });
        let rows: Vec<(Orphan, bool)> = rows.await?;
        let last = rows.last().filter(|_| rows.len() >= limit as usize);
        let next = last.map(|(last, _)| (last.space.clone(), last.name.clone()));
        let looked = rows.len() as u64;
        let orphans = rows.into_iter().filter(|(_, is_orphan)| *is_orphan).map(|(file, _)| file);
        Ok(Page { orphans: orphans.collect(), looked, next })
    }

    /// Takes an orphan its name away, unless it is none any more; says whether it did.
    pub(super) async fn remove_orphan(
        &self,
        orphan: Orphan,
        run: &DutyRun,
    ) -> Result<bool, DatabaseError> {
        let (backend, run) = (self.database.backend(), run.clone());
        let removed = self.database.transaction(move |executor| {
            let (orphan, run) = (orphan.clone(), run.clone());
            Box::pin(async move { remove(executor, backend, &orphan, &run).await })
        });
        let removed = removed.await?;
        if removed {
            metrics::counter!("understudy_files_orphans_removed_total").increment(1);
        }
        Ok(removed)
    }
}

fn looked_at(row: &QueryResult) -> Result<(Orphan, bool), DbErr> {
    let (bytes, touched): (i64, i64) = (row.try_get("", "bytes")?, row.try_get("", "touched_ms")?);
    let orphan: i64 = row.try_get("", "orphan")?;
    let file = Orphan {
        id: row.try_get("", "id")?,
        space: row.try_get("", "space")?,
        name: row.try_get("", "name")?,
        bytes: u64::try_from(bytes).unwrap_or(0),
        unused_ms: u64::try_from(touched).unwrap_or(0),
    };
    Ok((file, orphan == 1))
}

async fn remove(
    executor: &DatabaseExecutor<'_>,
    backend: Backend,
    orphan: &Orphan,
    run: &DutyRun,
) -> Result<bool, DbErr> {
    run.guard(executor).await?;
    let enter = backend.statement(ENTER, [orphan.space.clone().into()]);
    let Some(counts) = executor.query_one_raw(enter).await? else { return Ok(false) };
    let (bytes, files): (i64, i64) = (counts.try_get("", "bytes")?, counts.try_get("", "files")?);
    // The row as it was seen: on PostgreSQL a statement that has waited for whoever made a reference looks at the row anew,
    // and at the references as they were before.
    let which =
        format!("id = $1 AND state = 'ready' AND touched_ms = $2 AND {}", is_orphan(backend));
    let touched = i64::try_from(orphan.unused_ms).unwrap_or(i64::MAX);
    let values: [Value; 2] = [orphan.id.clone().into(), touched.into()];
    let given_up = executor.execute_raw(backend.statement(&gone(backend, &which), values)).await?;
    if given_up.rows_affected() == 0 {
        return Ok(false);
    }
    let less = i64::try_from(orphan.bytes).unwrap_or(i64::MAX);
    let left: [Value; 3] = [orphan.space.clone().into(), (bytes - less).into(), (files - 1).into()];
    executor.execute_raw(backend.statement(COUNT, left)).await?;
    Ok(true)
}
