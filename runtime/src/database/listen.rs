//! Hearing of what others tell through PostgreSQL (`NOTIFY`), on a connection of its own.
//!
//! What is told while the connection is broken is lost: whoever listens must look by himself when he has connected, and now
//! and then besides.

use std::fmt;
use std::time::Duration;

use sea_orm::DbErr;
use sqlx::Executor as _;
use sqlx::postgres::{PgListener, PgPoolOptions};

use super::Database;
use super::error::DatabaseError;
use super::pools::Share;

/// How long connecting may take, and an answer.
const LIMIT: Duration = Duration::from_secs(5);

/// A connection that hears what is told on one channel; the connection ends with it.
pub(crate) struct Listener {
    listener: PgListener,
    /// It counts among the connections of the node.
    _share: Share,
}

impl Database {
    /// Connects in order to hear what is told on a channel; nothing on SQLite, where nobody tells anything.
    ///
    /// # Errors
    /// [`DatabaseError`] when the server is away, or lets nobody listen.
    pub(crate) async fn listen(&self, channel: &str) -> Result<Option<Listener>, DatabaseError> {
        let Some(target) = self.postgres() else { return Ok(None) };
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(LIMIT)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(target.options.clone());
        let share = target.demand.share(1);
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            // A connection that was lost ends the listener: what was told meanwhile has to be looked for.
            listener.eager_reconnect(false);
            listener.listen(channel).await?;
            Ok::<PgListener, DatabaseError>(listener)
        };
        let listener = tokio::time::timeout(LIMIT, Box::pin(listening)).await;
        let listener = listener.map_err(|_| DatabaseError::TimedOut(LIMIT))??;
        Ok(Some(Listener { listener, _share: share }))
    }
}

impl Listener {
    /// Waits until something was told. What is dropped while it waits loses nothing.
    ///
    /// # Errors
    /// [`DatabaseError`] when the connection is lost: make another listener then.
    pub(crate) async fn heard(&mut self) -> Result<(), DatabaseError> {
        match self.listener.try_recv().await? {
            Some(_notification) => Ok(()),
            None => Err(DatabaseError::Away(DbErr::Custom("its listener was cut off".into()))),
        }
    }

    /// Makes sure that the server is still there: a connection on which nothing is sent notices nothing by itself.
    ///
    /// # Errors
    /// [`DatabaseError`] when it is not.
    pub(crate) async fn ping(&mut self) -> Result<(), DatabaseError> {
        let answer = tokio::time::timeout(LIMIT, self.listener.execute("SELECT 1")).await;
        answer.map_err(|_| DatabaseError::TimedOut(LIMIT))??;
        Ok(())
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
