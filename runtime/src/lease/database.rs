//! Node leases in the database, for clusters whose sessions are there and not in Redis.
//!
//! The same table as [`super::table::LeaseTable`] without the grace: the identity of a database is drawn once and
//! never changes, since a database does not come back from a crash without what it had answered. (A standby that is
//! promoted without synchronous replication does; the module documentation of [`crate::database`] warns of it.)
//!
//! Why a renewal locks its row before it looks at the clock: a claim by another node locks the same row, finds the
//! lease lapsed, and takes the session in the same transaction. Had the renewal read the clock before it waited for
//! that lock, it would call itself continuous although a claim came in between, and two nodes would answer from
//! memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr, Statement, Value};

use super::{LeaseError, LeaseStore, Renewed, Settled};
use crate::database::{Database, DatabaseError};
use crate::ids::{Bucket, NodeId};

/// One renews, one for everything else.
const LEASE_CONNECTIONS: u32 = 2;

/// Keeps the leases of all nodes in the table `us_node_lease`; buckets share it.
#[derive(Debug, Clone)]
pub struct DatabaseLeases {
    database: Database,
    statements: Arc<Statements>,
}

/// The SQL, spelled out once for the backend.
#[derive(Debug)]
struct Statements {
    lock: String,
    extend: String,
    insert: String,
    sweep: String,
    drop_node: &'static str,
    evict: &'static str,
    identity: &'static str,
}

impl DatabaseLeases {
    /// Makes the store; the schema must be up to date before it is used.
    #[must_use]
    pub fn new(database: Database) -> Self {
        // A renewal that waits for a connection behind slow statements would cost the node its lease.
        let database = database.with_own_connections(LEASE_CONNECTIONS);
        let backend = database.backend();
        let (now, for_update) = (backend.now_ms(), backend.for_update());
        let statements = Statements {
            lock: format!("SELECT dead FROM us_node_lease WHERE node = $1{for_update}"),
            extend: format!(
                "UPDATE us_node_lease SET deadline_ms = {now} + $2 WHERE node = $1 \
                 RETURNING deadline_ms"
            ),
            insert: format!(
                "INSERT INTO us_node_lease (node, deadline_ms, dead) VALUES ($1, {now} + $2, false) \
                 ON CONFLICT (node) DO UPDATE SET deadline_ms = excluded.deadline_ms \
                 WHERE NOT us_node_lease.dead RETURNING deadline_ms"
            ),
            sweep: format!("DELETE FROM us_node_lease WHERE deadline_ms <= {now} AND NOT dead"),
            drop_node: "DELETE FROM us_node_lease WHERE node = $1 AND NOT dead",
            evict: "INSERT INTO us_node_lease (node, deadline_ms, dead) VALUES ($1, 0, true) \
                    ON CONFLICT (node) DO UPDATE SET dead = true",
            identity: "SELECT value FROM us_meta WHERE name = 'server_id'",
        };
        Self { database, statements: Arc::new(statements) }
    }

    /// Removes every lease. Only for a process that holds the data directory's lock, at its start: nobody else
    /// lives then, and what earlier lives of this node owned can be claimed at once.
    ///
    /// # Errors
    /// As [`LeaseStore::renew`].
    pub async fn clear_all(&self) -> Result<(), LeaseError> {
        self.execute("DELETE FROM us_node_lease", Vec::new()).await
    }

    /// Puts a life of a node out for good: it can never renew again, and what it owned can be claimed at once.
    ///
    /// # Errors
    /// As [`LeaseStore::renew`].
    pub async fn evict(&self, node: &NodeId) -> Result<(), LeaseError> {
        self.execute(self.statements.evict, vec![node.to_string().into()]).await
    }

    async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<(), LeaseError> {
        let statement = self.database.backend().statement(sql, values);
        let done = self.database.step(move |executor| {
            let statement = statement.clone();
            Box::pin(async move { executor.execute_raw(statement).await.map(|_| ()) })
        });
        Ok(done.await?)
    }
}

#[async_trait]
impl LeaseStore for DatabaseLeases {
    async fn renew(
        &self,
        _bucket: Bucket,
        node: &NodeId,
        ttl: Duration,
    ) -> Result<Renewed, LeaseError> {
        let backend = self.database.backend();
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX / 2);
        let node = node.to_string();
        let named = |sql: &str| backend.statement(sql, [node.clone().into()]);
        let timed = |sql: &str| backend.statement(sql, [node.clone().into(), ttl_ms.into()]);
        let renewal = Arc::new(Renewal {
            lock: named(&self.statements.lock),
            state: named(&format!(
                "SELECT deadline_ms, {} AS now_ms, ({}) AS server_id \
                 FROM us_node_lease WHERE node = $1",
                backend.now_ms(),
                self.statements.identity
            )),
            extend: timed(&self.statements.extend),
            insert: timed(&self.statements.insert),
            identity: backend.statement(self.statements.identity, []),
            ttl_ms,
        });
        let renewed = self
            .database
            .transaction(move |executor| {
                let renewal = Arc::clone(&renewal);
                Box::pin(async move { renewal.carry_out(executor).await })
            })
            .await?;
        if !renewed.continuous && !renewed.evicted {
            // What has run out means the same as what is not there: this is when the dead are swept. In a step of its
            // own, because a renewal must not wait for the rows of others.
            if let Err(error) = self.execute(&self.statements.sweep, Vec::new()).await {
                tracing::debug!(%error, "cannot sweep lapsed leases");
            }
        }
        Ok(renewed)
    }

    async fn settle(
        &self,
        _bucket: Bucket,
        _node: &NodeId,
        _server_id: &str,
        _awaited: Vec<NodeId>,
    ) -> Result<Settled, LeaseError> {
        Ok(Settled::Open)
    }

    async fn drop_node(&self, _bucket: Bucket, node: &NodeId) -> Result<(), LeaseError> {
        self.execute(self.statements.drop_node, vec![node.to_string().into()]).await
    }
}

/// The statements of one renewal.
struct Renewal {
    lock: Statement,
    state: Statement,
    extend: Statement,
    insert: Statement,
    identity: Statement,
    ttl_ms: i64,
}

impl Renewal {
    async fn carry_out(&self, executor: &DatabaseExecutor<'_>) -> Result<Renewed, DbErr> {
        let Some(row) = executor.query_one_raw(self.lock.clone()).await? else {
            let server_id = required(executor, &self.identity).await?.try_get_by(0)?;
            // Should the row have come meanwhile, it is that of a renewal whose answer was lost, or an eviction.
            let Some(row) = executor.query_one_raw(self.insert.clone()).await? else {
                return Ok(Renewed { server_id, continuous: false, evicted: true, now_ms: 0 });
            };
            return Ok(self.renewed(server_id, row.try_get_by(0)?, false));
        };
        // Only now, with the row locked, does the clock count.
        let state = required(executor, &self.state).await?;
        let (deadline, now): (i64, i64) =
            (state.try_get("", "deadline_ms")?, state.try_get("", "now_ms")?);
        let server_id: String = state.try_get("", "server_id")?;
        if row.try_get_by(0)? {
            let now_ms = now.max(0).cast_unsigned();
            return Ok(Renewed { server_id, continuous: false, evicted: true, now_ms });
        }
        let extended: i64 = required(executor, &self.extend).await?.try_get_by(0)?;
        Ok(self.renewed(server_id, extended, deadline > now))
    }

    fn renewed(&self, server_id: String, deadline: i64, continuous: bool) -> Renewed {
        let now_ms = deadline.saturating_sub(self.ttl_ms).max(0).cast_unsigned();
        Renewed { server_id, continuous, evicted: false, now_ms }
    }
}

async fn required(
    executor: &DatabaseExecutor<'_>,
    statement: &Statement,
) -> Result<sea_orm::QueryResult, DbErr> {
    let row = executor.query_one_raw(statement.clone()).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("a row that was there".into()))
}

impl From<DatabaseError> for LeaseError {
    fn from(error: DatabaseError) -> Self {
        if error.is_retryable() {
            return Self::Unavailable(Arc::new(error));
        }
        let advice = "the database refuses to keep node leases; see the cause".to_owned();
        Self::Refused { advice, source: Arc::new(error) }
    }
}
