//! Whether a node shares the database with others: a node without a cluster must be the only one on it.
//!
//! Two nodes that know nothing of each other would both believe to own every session and to lead every job. The data
//! directory's lock keeps them apart on one machine; on a PostgreSQL that both can reach, an advisory lock does.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::DatabaseError;
use super::{Database, connect};

/// What the lock is called: `uspresen` as a number.
const ADVISORY_LOCK: i64 = 0x7573_7072_6573_656e;
/// How often the connection that holds the lock is tried.
const CHECK: Duration = Duration::from_secs(2);
/// How long a try may take.
const LIMIT: Duration = Duration::from_secs(5);

/// How a node means to use the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Alone: no other node may be there.
    Alone,
    /// With the other nodes of its cluster.
    Cluster,
}

/// Holds a node's place at the database until it is dropped or the process ends.
#[derive(Debug)]
pub struct PresenceLock {
    taken: watch::Receiver<bool>,
    keeper: Option<JoinHandle<()>>,
}

impl PresenceLock {
    /// Waits until another node took the place while the connection was broken; for ever when that never happens.
    /// The node must stop then: both would work on the same data.
    pub async fn taken(&self) {
        let mut taken = self.taken.clone();
        if taken.wait_for(|taken| *taken).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for PresenceLock {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

impl Database {
    /// Takes a place at the database. On SQLite that is nothing, since [`super::DataDirLock`] keeps others away.
    ///
    /// # Errors
    /// [`DatabaseError::NotAlone`] when a node without a cluster would share the database; else as
    /// [`Database::connect`].
    pub async fn take_place(&self, presence: Presence) -> Result<PresenceLock, DatabaseError> {
        let (tell, taken) = watch::channel(false);
        let Some(target) = self.postgres() else {
            return Ok(PresenceLock { taken, keeper: None });
        };
        let connection =
            try_take(&target.options, presence).await?.ok_or(DatabaseError::NotAlone)?;
        let keeper = keep(connection, target.options.clone(), presence, tell);
        Ok(PresenceLock { taken, keeper: Some(self.inner.home.spawn(keeper)) })
    }
}

/// Connects and takes the lock; none when another node has it.
async fn try_take(
    options: &PgConnectOptions,
    presence: Presence,
) -> Result<Option<PgConnection>, DatabaseError> {
    let take = async {
        let mut connection = connect::postgres_connection(options).await?;
        let query = match presence {
            Presence::Alone => "SELECT pg_try_advisory_lock($1)",
            Presence::Cluster => "SELECT pg_try_advisory_lock_shared($1)",
        };
        let (free,): (bool,) =
            sqlx::query_as(query).bind(ADVISORY_LOCK).fetch_one(&mut connection).await?;
        Ok(free.then_some(connection))
    };
    tokio::time::timeout(LIMIT, take).await.map_err(|_| DatabaseError::TimedOut(LIMIT))?
}

/// Keeps the connection that holds the lock, and makes another when it breaks.
async fn keep(
    mut connection: PgConnection,
    options: PgConnectOptions,
    presence: Presence,
    tell: watch::Sender<bool>,
) {
    loop {
        tokio::time::sleep(CHECK).await;
        if matches!(tokio::time::timeout(LIMIT, connection.ping()).await, Ok(Ok(()))) {
            continue;
        }
        match try_take(&options, presence).await {
            Ok(Some(another)) => connection = another,
            Ok(None) => {
                tell.send_replace(true);
                return;
            }
            // The database is away: nobody else can take the place there either.
            Err(_) => {}
        }
    }
}
