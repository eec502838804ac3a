//! Contents that several files share, where the [rule](super::SpaceRule) of their space says so.
//!
//! Whether there is a content with this SHA-256 is asked when a file gets its name, in that transaction, after all of it was
//! written and its digest worked out here: nobody gets at a content by knowing its digest. If there is one, the file uses
//! that, and what was just written for it is left over.
//!
//! What is encrypted is not shared: each content has a key of its own.
//!
//! A content counts its uses. A use is added by a statement that finds the content with at least one, and taken away when the
//! row of a file is forgotten that was `gone` for as long as somebody may still be reading it. A content that came to none
//! never gets one again: who comes then brings a content of its own. So what has no use can be removed at any time, by two
//! nodes at once too, whoever is just writing the same.
//!
//! | the process dies | what is left | who tidies up |
//! |---|---|---|
//! | after a file got its name with the content of another | what it has written, noted without a use in the same transaction | the duty `files-sweep` |
//! | while the row of a file is forgotten and its use taken away | all of it or nothing: it is one transaction | the duty, the next time |
//! | while a content without a use is removed | the rest of it, and its row | the duty, the next time |

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr, QueryResult, Statement, Value};

use super::contents::{Form, store_of};
use super::error::FileError;
use super::rows::{Finished, INDEXED, Leftover, Rows};
use super::sweep::{PAGES, Start, Sweep};
use crate::database::{Backend, DatabaseError};

/// So many are looked for together.
const PAGE: u32 = 200;

/// What was written for a file that is about to get its name.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) id: String,
    pub(super) sha256: String,
    pub(super) bytes: i64,
    pub(super) piece: i64,
    pub(super) place: &'static str,
}

impl Written {
    pub(super) fn of(finished: &Finished) -> Self {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Self {
            id: finished.file.id.clone(),
            sha256: finished.sha256.clone(),
            bytes: signed(finished.bytes),
            piece: signed(finished.file.piece),
            place: finished.file.place,
        }
    }
}

/// Gives a file the content that others have already, or lets others have its own, within the transaction in which it gets
/// its name.
pub(super) async fn share(
    executor: &DatabaseExecutor<'_>,
    backend: Backend,
    written: &Written,
) -> Result<(), DbErr> {
    // It has a key of its own, so no other is the same, and whoever has one says nothing of the other.
    if store_of(written.place).1 == Form::Encrypted {
        return Ok(());
    }
    // Whoever has just brought the same is waited for.
    let find = "INSERT INTO us_file_content (id, sha256, bytes, piece, place, uses) \
        VALUES ($1, $2, $3, $4, $5, 1) ON CONFLICT (sha256, bytes, place) WHERE uses > 0 \
        DO UPDATE SET uses = us_file_content.uses + 1 RETURNING id, piece";
    let find = executor.query_one_raw(backend.statement(find, values(written))).await?;
    let Some(found) = find else {
        return Err(DbErr::RecordNotFound("a content that was just noted".to_owned()));
    };
    let (id, piece): (String, i64) = (found.try_get("", "id")?, found.try_get("", "piece")?);
    let use_it = "UPDATE us_file SET content = $2, piece = $3 WHERE id = $1";
    let values_of_it: [Value; 3] = [written.id.clone().into(), id.clone().into(), piece.into()];
    executor.execute_raw(backend.statement(use_it, values_of_it)).await?;
    if id != written.id {
        let unused = "INSERT INTO us_file_content (id, sha256, bytes, piece, place, uses) \
            VALUES ($1, $2, $3, $4, $5, 0)";
        executor.execute_raw(backend.statement(unused, values(written))).await?;
        metrics::counter!("understudy_files_shared_total").increment(1);
    }
    Ok(())
}

fn values(written: &Written) -> [Value; 5] {
    [
        written.id.clone().into(),
        written.sha256.clone().into(),
        written.bytes.into(),
        written.piece.into(),
        written.place.into(),
    ]
}

/// Takes away the uses of files that are gone for so long, then removes contents without a use.
pub(super) async fn sweep(
    sweep: &mut Sweep<'_>,
    grace: Duration,
    start: Start,
) -> Result<(), FileError> {
    take_uses_away(sweep, grace).await?;
    let (store, begin) = (sweep.store, start.id());
    // Ids are hexadecimal digits, so a g is behind all of them.
    let halves = [(begin.clone(), "g".to_owned()), (String::new(), begin)];
    let mut pages = 0..PAGES;
    for (mut after, until) in halves {
        loop {
            if pages.next().is_none() {
                sweep.cut();
                return Ok(());
            }
            let part = (after.as_str(), until.as_str());
            let unused = store.rows.unused_contents(&sweep.places(), part).await?;
            let is_last = unused.len() < PAGE as usize;
            for leftover in unused {
                if sweep.is_over() {
                    return Ok(());
                }
                if sweep.remove(&leftover).await {
                    store.rows.forget_content(&leftover.id).await?;
                    sweep.removed();
                }
                // What fails is not found again in this run.
                after = leftover.id;
            }
            if is_last {
                break;
            }
        }
    }
    Ok(())
}

/// Takes away the uses of files that are gone for so long.
async fn take_uses_away(sweep: &mut Sweep<'_>, grace: Duration) -> Result<(), FileError> {
    let store = sweep.store;
    for _ in 0..PAGES {
        let gone = store.rows.gone_sharing(grace).await?;
        let is_last = gone.len() < PAGE as usize;
        for id in gone {
            if sweep.is_over() {
                return Ok(());
            }
            store.rows.forget_sharing(&id).await?;
        }
        if is_last {
            return Ok(());
        }
    }
    sweep.cut();
    Ok(())
}

impl Rows {
    /// Lets no other file have a content that was found damaged: who brings it again mends what is there for new ones.
    pub(super) async fn distrust(&self, content: &str) -> Result<(), DatabaseError> {
        let sql = "UPDATE us_file_content SET sha256 = id WHERE id = $1 AND uses > 0";
        let statement = self.database.backend().statement(sql, [content.into()]);
        self.change_shared(statement).await
    }

    /// Lists some files without a name that share a content, and that nobody has read for so long.
    async fn gone_sharing(&self, grace: Duration) -> Result<Vec<String>, DatabaseError> {
        let backend = self.database.backend();
        let sql = format!(
            "SELECT id FROM us_file WHERE state = 'gone' AND {INDEXED} AND touched_ms <= {} - $1 \
             AND content IS NOT NULL ORDER BY touched_ms LIMIT $2",
            backend.now_ms()
        );
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let query = backend.statement(&sql, [grace.into(), i64::from(PAGE).into()]);
        let gone = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move {
                let rows = executor.query_all_raw(query).await?;
                let id = |row: &QueryResult| row.try_get::<String>("", "id");
                rows.iter().map(id).collect::<Result<Vec<String>, DbErr>>()
            })
        });
        gone.await
    }

    /// Forgets a file without a name, and takes its use away from the content that it shared.
    async fn forget_sharing(&self, id: &str) -> Result<(), DatabaseError> {
        let backend = self.database.backend();
        let forget = "DELETE FROM us_file WHERE id = $1 AND state = 'gone' AND content IS NOT NULL \
                      RETURNING content";
        let forget = backend.statement(forget, [id.into()]);
        let forgotten = self.database.transaction(move |executor| {
            let forget = forget.clone();
            Box::pin(async move {
                // Of two sweeps at once, one gets the row.
                let Some(row) = executor.query_one_raw(forget).await? else { return Ok(()) };
                let content: String = row.try_get("", "content")?;
                let less = "UPDATE us_file_content SET uses = uses - 1 WHERE id = $1 AND uses > 0";
                executor.execute_raw(backend.statement(less, [content.into()])).await.map(|_| ())
            })
        });
        forgotten.await
    }

    /// Lists some contents that no file uses, in these places, those behind an id and up to another.
    async fn unused_contents(
        &self,
        places: &[&str],
        (after, until): (&str, &str),
    ) -> Result<Vec<Leftover>, DatabaseError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let marks: Vec<String> = (4..places.len() + 4).map(|number| format!("${number}")).collect();
        let sql = format!(
            "SELECT id, place FROM us_file_content WHERE uses = 0 AND id > $2 AND id <= $3 \
             AND place IN ({}) ORDER BY id LIMIT $1",
            marks.join(", ")
        );
        let mut values: Vec<Value> = vec![i64::from(PAGE).into(), after.into(), until.into()];
        values.extend(places.iter().map(|place| Value::from(*place)));
        let query = self.database.backend().statement(&sql, values);
        let unused = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move {
                let rows = executor.query_all_raw(query).await?;
                let leftover = |row: &QueryResult| -> Result<Leftover, DbErr> {
                    let (id, place) = (row.try_get("", "id")?, row.try_get("", "place")?);
                    Ok(Leftover { id, place, since_ms: 0 })
                };
                rows.iter().map(leftover).collect::<Result<Vec<Leftover>, DbErr>>()
            })
        });
        unused.await
    }

    /// Forgets a content that was removed.
    async fn forget_content(&self, id: &str) -> Result<(), DatabaseError> {
        let sql = "DELETE FROM us_file_content WHERE id = $1 AND uses = 0";
        let statement = self.database.backend().statement(sql, [id.into()]);
        self.change_shared(statement).await
    }

    async fn change_shared(&self, statement: Statement) -> Result<(), DatabaseError> {
        let changed = self.database.step(move |executor| {
            let statement = statement.clone();
            Box::pin(async move { executor.execute_raw(statement).await.map(|_| ()) })
        });
        changed.await
    }
}
