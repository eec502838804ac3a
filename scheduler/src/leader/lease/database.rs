//! The lease in the database: one row with a deadline by the database's clock, changed by compare-and-set.
//!
//! For clusters without Redis, and while Redis is away ([`FallbackLease`](super::FallbackLease)).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr, Statement, Value};
use understudy_runtime::database::{Database, DatabaseError};

use super::{Acquire, Held, LeaderLease, LeaderLeaseError, LeaseValue, Renewal};

/// One renews, one for everything else.
const CONNECTIONS: u32 = 2;
/// The row; the table could hold other leases.
const NAME: &str = "leader";

/// The lease in the table `us_leader_lease`; a cheap clone.
#[derive(Debug, Clone)]
pub struct DatabaseLease {
    database: Database,
    limit: Duration,
    sql: Arc<Sql>,
}

/// The SQL, spelled out once for the backend.
#[derive(Debug)]
struct Sql {
    acquire: String,
    extend: String,
    look: String,
    release: &'static str,
}

impl DatabaseLease {
    /// Makes the store; the schema must be up to date before it is used. Each step ends within `limit`, which must be
    /// well below the time to live of the lease.
    #[must_use]
    pub fn new(database: Database, limit: Duration) -> Self {
        // A renewal that waits for a connection behind slow statements would cost the leader its term.
        let database = database.with_own_connections(CONNECTIONS);
        let now = database.backend().now_ms();
        let sql = Sql {
            // PostgreSQL reads the clock of the condition after it has locked the row, and the new deadline before: at
            // worst the lease ends earlier by that wait, which the holder counts too, since it counts from sending.
            acquire: format!(
                "INSERT INTO us_leader_lease (name, value, deadline_ms) VALUES ($1, $2, {now} + $3) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value, deadline_ms = excluded.deadline_ms \
                 WHERE us_leader_lease.deadline_ms <= {now} OR us_leader_lease.value = excluded.value \
                 RETURNING deadline_ms"
            ),
            extend: format!(
                "UPDATE us_leader_lease SET deadline_ms = {now} + $3 WHERE name = $1 AND value = $2 \
                 RETURNING deadline_ms"
            ),
            look: format!(
                "SELECT value, deadline_ms - {now} AS left_ms FROM us_leader_lease \
                 WHERE name = $1 AND deadline_ms > {now}"
            ),
            release: "DELETE FROM us_leader_lease WHERE name = $1 AND value = $2",
        };
        Self { database, limit, sql: Arc::new(sql) }
    }

    fn timed(&self, sql: &str, value: &LeaseValue, ttl: Duration) -> Statement {
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX / 2);
        let values: [Value; 3] = [NAME.into(), value.to_string().into(), ttl.into()];
        self.database.backend().statement(sql, values)
    }

    fn looking(&self) -> Statement {
        self.database.backend().statement(&self.sql.look, [NAME.into()])
    }

    async fn limited<T>(
        &self,
        step: impl Future<Output = Result<T, DatabaseError>>,
    ) -> Result<T, LeaderLeaseError> {
        match tokio::time::timeout(self.limit, step).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(LeaderLeaseError::timed_out(self.limit)),
        }
    }
}

#[async_trait]
impl LeaderLease for DatabaseLease {
    async fn acquire(
        &self,
        value: &LeaseValue,
        ttl: Duration,
    ) -> Result<Acquire, LeaderLeaseError> {
        let statements = (self.timed(&self.sql.acquire, value, ttl), self.looking());
        let step = self.database.step(move |executor| {
            let (acquire, look) = statements.clone();
            Box::pin(async move {
                if executor.query_one_raw(acquire).await?.is_some() {
                    return Ok(Acquire::Won);
                }
                // It may have run out in between: the next bid takes it.
                Ok(Acquire::Held(read(executor, look).await?.unwrap_or_default()))
            })
        });
        self.limited(step).await
    }

    async fn peek(&self) -> Result<Option<Held>, LeaderLeaseError> {
        let statement = self.looking();
        let step = self.database.read(move |executor| {
            let look = statement.clone();
            Box::pin(async move { read(executor, look).await })
        });
        self.limited(step).await
    }

    async fn renew(&self, value: &LeaseValue, ttl: Duration) -> Result<Renewal, LeaderLeaseError> {
        let statement = self.timed(&self.sql.extend, value, ttl);
        let step = self.database.step(move |executor| {
            let extend = statement.clone();
            Box::pin(async move { Ok(executor.query_one_raw(extend).await?.is_some()) })
        });
        if self.limited(step).await? {
            return Ok(Renewal::Renewed);
        }
        Ok(match self.acquire(value, ttl).await? {
            Acquire::Won => Renewal::Reasserted,
            Acquire::Held(held) => Renewal::Lost { holder: held.holder },
        })
    }

    async fn release(&self, value: &LeaseValue) -> Result<bool, LeaderLeaseError> {
        let values: [Value; 2] = [NAME.into(), value.to_string().into()];
        let statement = self.database.backend().statement(self.sql.release, values);
        let step = self.database.step(move |executor| {
            let release = statement.clone();
            Box::pin(async move { Ok(executor.execute_raw(release).await?.rows_affected() == 1) })
        });
        self.limited(step).await
    }
}

async fn read(executor: &DatabaseExecutor<'_>, look: Statement) -> Result<Option<Held>, DbErr> {
    let Some(row) = executor.query_one_raw(look).await? else { return Ok(None) };
    let (value, left): (String, i64) = (row.try_get("", "value")?, row.try_get("", "left_ms")?);
    let remaining = Duration::from_millis(u64::try_from(left).unwrap_or(0));
    Ok(Some(Held { holder: value.parse().ok(), remaining: Some(remaining) }))
}
