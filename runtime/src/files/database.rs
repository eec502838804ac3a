//! Contents in the database, in pieces of 256 KiB with a row each: for PostgreSQL a value that is kept outside of its row, and
//! for no process more than it can hold in memory many times.

use async_trait::async_trait;
use bytes::Bytes;
use sea_orm::{ConnectionTrait as _, Value};

use super::contents::{ContentError, Contents, Piece, Writing};
use super::held::Held;
use crate::database::Database;

/// How many bytes are in one row, but for the last.
const PIECE: usize = 262_144;
/// How many rows are removed by one statement.
const ROWS: i64 = 200;

/// The store.
#[derive(Debug, Clone)]
pub(super) struct DatabaseContents {
    database: Database,
    held: Option<Held>,
}

impl DatabaseContents {
    pub(super) fn new(database: Database) -> Self {
        Self { database, held: None }
    }

    /// Bounds what uploads hold in memory.
    pub(super) fn holding(self, held: &Held) -> Self {
        Self { held: Some(held.clone()), ..self }
    }
}

#[async_trait]
impl Contents for DatabaseContents {
    fn piece(&self) -> usize {
        PIECE
    }

    async fn begin(&self, id: &str) -> Result<Box<dyn Writing>, ContentError> {
        let database = self.database.clone();
        Ok(Box::new(DatabaseWriting { database, id: id.to_owned(), number: 0 }))
    }

    fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    async fn read(&self, id: &str, piece: Piece) -> Result<Bytes, ContentError> {
        let sql = "SELECT data FROM us_file_piece WHERE file = $1 AND number = $2";
        let number = i64::try_from(piece.number).unwrap_or(i64::MAX);
        let query = self.database.backend().statement(sql, [id.into(), number.into()]);
        let data = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move {
                let row = executor.query_one_raw(query).await?;
                row.map(|row| row.try_get::<Vec<u8>>("", "data")).transpose()
            })
        });
        let data: Vec<u8> = data.await?.ok_or(ContentError::Gone)?;
        if data.len() == piece.bytes { Ok(Bytes::from(data)) } else { Err(ContentError::Gone) }
    }

    async fn remove(&self, id: &str) -> Result<(), ContentError> {
        let sql = "DELETE FROM us_file_piece WHERE file = $1 AND number IN \
                   (SELECT number FROM us_file_piece WHERE file = $1 ORDER BY number LIMIT $2)";
        let backend = self.database.backend();
        loop {
            let delete = backend.statement(sql, [id.into(), ROWS.into()]);
            let removed = self.database.step(move |executor| {
                let delete = delete.clone();
                Box::pin(async move { Ok(executor.execute_raw(delete).await?.rows_affected()) })
            });
            if removed.await? == 0 {
                return Ok(());
            }
        }
    }

    /// The node looks after its database anyway.
    async fn probe(&self) -> Result<(), ContentError> {
        Ok(())
    }
}

/// A file that is being written.
struct DatabaseWriting {
    database: Database,
    id: String,
    number: i64,
}

#[async_trait]
impl Writing for DatabaseWriting {
    /// Looks in the same transaction whether the file has been given up: nobody would remove what came later.
    async fn add(&mut self, bytes: Bytes) -> Result<(), ContentError> {
        let backend = self.database.backend();
        let touch = format!(
            "UPDATE us_file SET touched_ms = {} WHERE id = $1 AND state = 'writing'",
            backend.now_ms()
        );
        let touch = backend.statement(&touch, [self.id.clone().into()]);
        let insert = "INSERT INTO us_file_piece (file, number, data) VALUES ($1, $2, $3)";
        let values: [Value; 3] =
            [self.id.clone().into(), self.number.into(), bytes.to_vec().into()];
        let insert = backend.statement(insert, values);
        let added = self.database.transaction(move |executor| {
            let (touch, insert) = (touch.clone(), insert.clone());
            Box::pin(async move {
                let is_mine = executor.execute_raw(touch).await?.rows_affected() == 1;
                if is_mine {
                    executor.execute_raw(insert).await?;
                }
                Ok(is_mine)
            })
        });
        if !added.await? {
            return Err(ContentError::Gone);
        }
        self.number += 1;
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), ContentError> {
        Ok(())
    }
}
