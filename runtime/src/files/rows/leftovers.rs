//! What is left of files: those that nobody writes any more, and contents that nobody needs.

use std::time::Duration;

use sea_orm::{QueryResult, Value};

use super::{Rows, get, gone, millis, number};
use crate::database::{Backend, DatabaseError};

/// The condition of the index of what has no name. SQLite takes that index only for a query that says the same.
pub(in crate::files) const INDEXED: &str = "state <> 'ready'";

/// Content that is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::files) struct Leftover {
    pub(in crate::files) id: String,
    pub(in crate::files) place: String,
    /// Since when nobody needs it, ms since 1970; 0 where that is not known.
    pub(in crate::files) since_ms: i64,
}

/// Behind which contents the next ones are looked for: by the time since when nobody needs them, and their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::files) struct Behind {
    since_ms: i64,
    id: String,
}

impl Behind {
    /// Before all that nobody has needed since then.
    pub(in crate::files) const fn at(since_ms: i64) -> Self {
        Self { since_ms, id: String::new() }
    }

    /// Behind all of them.
    pub(in crate::files) const fn all() -> Self {
        Self::at(i64::MAX)
    }
}

impl Leftover {
    /// Tells where to go on behind it.
    pub(in crate::files) fn behind(self) -> Behind {
        Behind { since_ms: self.since_ms, id: self.id }
    }
}

impl Rows {
    /// Gives up files that nobody writes any more; gives how many.
    pub(in crate::files) async fn give_up_silent(
        &self,
        silence: Duration,
    ) -> Result<u64, DatabaseError> {
        let now = self.backend().now_ms();
        let which = format!("state = 'writing' AND {INDEXED} AND touched_ms <= {now} - $1");
        let sql = gone(self.backend(), &which);
        self.change(self.statement(&sql, vec![millis(silence)])).await
    }

    /// Tells since when nobody needs the oldest of what has no name, and the newest.
    pub(in crate::files) async fn leftover_times(&self) -> Result<(i64, i64), DatabaseError> {
        let at = |order: &str| {
            format!(
                "(SELECT touched_ms FROM us_file WHERE state = 'gone' AND {INDEXED} \
                 ORDER BY touched_ms {order} LIMIT 1)"
            )
        };
        let sql = format!("SELECT {} AS oldest, {} AS newest", at("ASC"), at("DESC"));
        let rows = self.rows(self.statement(&sql, Vec::new())).await?;
        let Some(row) = rows.first() else { return Ok((0, 0)) };
        let (oldest, newest): (Option<i64>, Option<i64>) =
            (get(row, "oldest")?, get(row, "newest")?);
        Ok((oldest.unwrap_or(0), newest.unwrap_or(0)))
    }

    /// Lists some contents that nobody has needed for so long, in these places, those behind one and up to another.
    pub(in crate::files) async fn leftovers(
        &self,
        grace: Duration,
        places: &[&str],
        (behind, until): (&Behind, &Behind),
        limit: u32,
    ) -> Result<Vec<Leftover>, DatabaseError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let sql = due(self.backend(), places.len());
        let mut values: Vec<Value> = vec![
            millis(grace),
            i64::from(limit).into(),
            behind.since_ms.into(),
            behind.id.clone().into(),
            until.since_ms.into(),
            until.id.clone().into(),
        ];
        values.extend(places.iter().map(|place| Value::from(*place)));
        let rows = self.rows(self.statement(&sql, values)).await?;
        let leftover = |row: &QueryResult| -> Result<Leftover, DatabaseError> {
            Ok(Leftover {
                id: get(row, "id")?,
                place: get(row, "place")?,
                since_ms: get(row, "touched_ms")?,
            })
        };
        rows.iter().map(leftover).collect()
    }

    /// Counts the files that nobody has needed for so long, wherever their contents lie, also those that share one, and the
    /// contents that no file uses.
    pub(in crate::files) async fn count_leftovers(
        &self,
        grace: Duration,
    ) -> Result<u64, DatabaseError> {
        let now = self.backend().now_ms();
        let sql = format!(
            "SELECT (SELECT count(*) FROM us_file WHERE state = 'gone' AND {INDEXED} \
             AND touched_ms <= {now} - $1) \
             + (SELECT count(*) FROM us_file_content WHERE uses = 0) AS waiting"
        );
        let rows = self.rows(self.statement(&sql, vec![millis(grace)])).await?;
        rows.first().map_or(Ok(0), |row| number(row, "waiting"))
    }

    /// Forgets a file whose content was removed.
    pub(in crate::files) async fn forget(&self, id: &str) -> Result<(), DatabaseError> {
        let sql = "DELETE FROM us_file WHERE id = $1 AND state = 'gone'";
        self.change(self.statement(sql, vec![id.into()])).await.map(|_| ())
    }

    /// Forgets spaces in which there is nothing; whoever enters one meanwhile makes it anew.
    pub(in crate::files) async fn forget_empty_spaces(&self) -> Result<(), DatabaseError> {
        let sql = "DELETE FROM us_file_space WHERE files = 0";
        self.change(self.statement(sql, Vec::new())).await.map(|_| ())
    }
}

/// Gives the SQL that lists contents that nobody needs, in so many places.
pub(in crate::files) fn due(backend: Backend, places: usize) -> String {
    let now = backend.now_ms();
    let marks: Vec<String> = (7..places + 7).map(|number| format!("${number}")).collect();
    format!(
        "SELECT id, place, touched_ms FROM us_file WHERE state = 'gone' AND {INDEXED} \
         AND content IS NULL AND touched_ms <= {now} - $1 AND (touched_ms, id) > ($3, $4) \
         AND (touched_ms, id) <= ($5, $6) \
         AND place IN ({}) ORDER BY touched_ms, id LIMIT $2",
        marks.join(", ")
    )
}
