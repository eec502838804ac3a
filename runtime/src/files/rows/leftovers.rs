//! What is left of files: those that nobody writes any more, and contents that nobody needs.

use std::time::Duration;

use sea_orm::{QueryResult, Value};

use super::{Rows, get, gone, millis};
use crate::database::DatabaseError;

/// Content that is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::files) struct Leftover {
    pub(in crate::files) id: String,
    pub(in crate::files) place: String,
}

impl Rows {
    /// Gives up files that nobody writes any more; gives how many.
    pub(in crate::files) async fn give_up_silent(
        &self,
        silence: Duration,
    ) -> Result<u64, DatabaseError> {
        let now = self.backend().now_ms();
        let which = format!("state = 'writing' AND touched_ms <= {now} - $1");
        let sql = gone(self.backend(), &which);
        self.change(self.statement(&sql, vec![millis(silence)])).await
    }

    /// Lists some contents that nobody has needed for so long, in the places that are known here.
    pub(in crate::files) async fn leftovers(
        &self,
        grace: Duration,
        places: &[&str],
        limit: u32,
    ) -> Result<Vec<Leftover>, DatabaseError> {
        let now = self.backend().now_ms();
        let marks: Vec<String> = (3..places.len() + 3).map(|number| format!("${number}")).collect();
        let sql = format!(
            "SELECT id, place FROM us_file WHERE state = 'gone' AND content IS NULL \
             AND touched_ms <= {now} - $1 AND place IN ({}) ORDER BY touched_ms LIMIT $2",
            marks.join(", ")
        );
        let mut values: Vec<Value> = vec![millis(grace), i64::from(limit).into()];
        values.extend(places.iter().map(|place| Value::from(*place)));
        let rows = self.rows(self.statement(&sql, values)).await?;
        let leftover = |row: &QueryResult| -> Result<Leftover, DatabaseError> {
            Ok(Leftover { id: get(row, "id")?, place: get(row, "place")? })
        };
        rows.iter().map(leftover).collect()
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
