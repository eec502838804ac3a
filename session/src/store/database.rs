//! Sessions in the database: the embedded default (SQLite), or a cluster that trusts PostgreSQL more than Redis.
//!
//! Every step is one statement on one row of `us_session`, with the rules of the protocol as its condition. Only a
//! claim of a session whose owner is another node needs a transaction: it locks the session, then the owner's lease,
//! and only then asks for the time, so that no renewal can slip in between. [`validate`](SessionStore::validate) waits
//! for such a claim: a node that renewed after a gap must not find itself still the owner of what is being taken.
//!
//! There is never a grace here: a database does not forget what it answered. See [`understudy_runtime::database`] for
//! what an answered write is worth on each backend, and for the group commit on SQLite.

mod archive;
mod expiry;
mod register;
mod row;
mod schema;
mod statements;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr, QueryResult, Statement, Value};
use understudy_runtime::database::{Database, DatabaseError};
use understudy_runtime::error::chain;
use understudy_runtime::ids::Bucket;

use super::{
    ClaimReply, CreateReply, End, Estate, Expired, ReadReply, Remains, RestoreReply, RevokeReply,
    SessionStore, StoreError, Swept, ValidateReply, Write, WriteReply,
};
use crate::record::{Fence, KnownKeys, Locator, Record, Token};
use crate::sealing::unknown_key;
use crate::spec;

pub(super) use archive::{Kept, Known, Put};
pub use schema::migrations;
use statements::{Statements, stored_values};

/// A tombstone stands at least this long: longer than any request that might still write.
const TOMBSTONE: Duration = Duration::from_secs(60);
/// How often a step is tried again when another one changed the row between its two statements.
const ATTEMPTS: u32 = 8;

/// Keeps sessions in the table `us_session`.
#[derive(Debug, Clone)]
pub struct DatabaseStore {
    database: Database,
    statements: Arc<Statements>,
    tombstone_ms: u64,
    slack_ms: u64,
    known: KnownKeys,
    estate: Estate,
}

impl DatabaseStore {
    /// Makes the store; the schema ([`migrations`]) must be up to date before it is used.
    ///
    /// `lease` is how long a node's lease lasts; `touch_slack` how late an access may be noted, which is how much
    /// later than its idle limit a session ends.
    #[must_use]
    pub fn new(database: Database, lease: Duration, touch_slack: Duration) -> Self {
        let known = KnownKeys::default();
        let statements = Arc::new(Statements::new(database.backend(), &known));
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            database,
            statements,
            tombstone_ms: ms(TOMBSTONE.max(lease.saturating_mul(2))),
            slack_ms: ms(touch_slack),
            known,
            estate: Estate::default(),
        }
    }

    /// Says whether what sessions held is kept for whoever is told of their end.
    #[must_use]
    pub fn with_estate(self, estate: Estate) -> Self {
        Self { estate, ..self }
    }

    /// Takes the names of the keys that this node has: what is sealed under another one is not claimed.
    #[must_use]
    pub fn opening(self, known: KnownKeys) -> Self {
        let statements = Arc::new(Statements::new(self.database.backend(), &known));
        Self { statements, known, ..self }
    }

    fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        self.statements.with(sql, values)
    }

    fn about(&self, sql: &str, locator: Locator) -> Statement {
        self.statement(sql, vec![locator.to_string().into()])
    }

    /// Reads one row.
    async fn fetch(&self, query: Statement) -> Result<Option<QueryResult>, StoreError> {
        let read = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move { executor.query_one_raw(query).await })
        });
        Ok(read.await?)
    }

    /// Carries out one statement that changes at most one row and gives it back.
    async fn change(&self, update: Statement) -> Result<Option<QueryResult>, StoreError> {
        let step = self.database.step(move |executor| {
            let update = update.clone();
            Box::pin(async move { executor.query_one_raw(update).await })
        });
        Ok(step.await?)
    }

    /// Carries out one statement; gives how many rows it changed.
    async fn count_rows(&self, update: Statement) -> Result<u64, StoreError> {
        let step = self.database.step(move |executor| {
            let update = update.clone();
            Box::pin(async move { Ok(executor.execute_raw(update).await?.rows_affected()) })
        });
        Ok(step.await?)
    }

    /// Claims a session that another node owned when it was looked at, if that node's lease is still lapsed.
    async fn take(
        &self,
        locator: Locator,
        token: &Token,
    ) -> Result<Option<QueryResult>, StoreError> {
        let [owner, owner_node] = row::owner(Some(token));
        let take = Arc::new(Take {
            lock_session: self.about(&self.statements.lock_session, locator),
            lock_lease: self.statements.lock_lease.clone(),
            look: self.about(&self.statements.look, locator),
            take: self.statement(
                &self.statements.take,
                vec![locator.to_string().into(), owner, owner_node, locator.public_id().into()],
            ),
            store: self.clone(),
        });
        let taken = self.database.transaction(move |executor| {
            let take = Arc::clone(&take);
            Box::pin(async move { take.carry_out(executor).await })
        });
        Ok(taken.await?)
    }

    /// Says what stands against a claim; none when nothing does.
    fn obstacle(&self, row: Option<&QueryResult>) -> Result<Option<ClaimReply>, StoreError> {
        let Some(row) = row else {
            return Ok(Some(ClaimReply::Missing));
        };
        if row::is_revoked(row)? {
            return Ok(Some(ClaimReply::Revoked));
        }
        let record = row::read_record(row)?;
        let now_ms = row::read_number(row, "now_ms")?;
        if spec::is_over(&record, self.slack_ms, now_ms) {
            return Ok(Some(ClaimReply::Expired));
        }
        if let Some(key) = record.seal.key().filter(|key| !self.known.ids().contains(key)) {
            return Err(unknown_key(key));
        }
        let lease: Option<i64> = row.try_get("", "lease_ms").map_err(DatabaseError::from)?;
        let remaining_ms = lease.map_or(0, i64::cast_unsigned).saturating_sub(now_ms);
        let node = record.owner.as_ref().and_then(Token::node);
        Ok(node.filter(|_| remaining_ms > 0).map(|node| ClaimReply::Owned {
            node,
            remaining_ms,
            now_ms,
            record: Box::new(record),
        }))
    }
}

#[async_trait]
impl SessionStore for DatabaseStore {
    async fn create(
        &self,
        locator: Locator,
        record: &Record,
        lifetime_ms: u64,
    ) -> Result<CreateReply, StoreError> {
        let first = Record { epoch: record.epoch.max(1), version: 1, ..record.clone() };
        let mut values = vec![locator.to_string().into()];
        values.extend(stored_values(&first)?);
        values.extend([row::time(lifetime_ms), locator.public_id().into()]);
        match self.change(self.statement(&self.statements.create, values)).await? {
            None => Ok(CreateReply::Exists),
            Some(row) => Ok(CreateReply::Created { now_ms: row::read_number(&row, "created_ms")? }),
        }
    }

    async fn claim(
        &self,
        locator: Locator,
        token: &Token,
        known_version: Option<u64>,
    ) -> Result<ClaimReply, StoreError> {
        let [owner, owner_node] = row::owner(Some(token));
        let mut values = vec![locator.to_string().into(), owner, owner_node];
        values.extend([locator.public_id().into(), row::time(self.slack_ms)]);
        let free = self.statement(&self.statements.claim_free, values);
        let look = self.about(&self.statements.look, locator);
        for _ in 0..ATTEMPTS {
            if let Some(row) = self.change(free.clone()).await? {
                return claimed(&row, known_version);
            }
            let row = self.fetch(look.clone()).await?;
            if let Some(reply) = self.obstacle(row.as_ref())? {
                return Ok(reply);
            }
            if let Some(row) = self.take(locator, token).await? {
                return claimed(&row, known_version);
            }
        }
        Err(contended())
    }

    async fn read(&self, locator: Locator) -> Result<ReadReply, StoreError> {
        match self.fetch(self.about(&self.statements.read, locator)).await? {
            None => Ok(ReadReply::Missing),
            Some(row) if row::is_revoked(&row)? => Ok(ReadReply::Revoked),
            Some(row) => Ok(ReadReply::Found(Box::new(row::read_record(&row)?))),
        }
    }

    async fn write(&self, write: Write<'_>) -> Result<WriteReply, StoreError> {
        let update = self.statements.write(&write)?;
        let look = self.about(&self.statements.read, write.locator);
        for _ in 0..ATTEMPTS {
            if let Some(row) = self.change(update.clone()).await? {
                let version = row::read_number(&row, "version")?;
                return Ok(WriteReply::Written {
                    version,
                    now_ms: row::read_number(&row, "now_ms")?,
                });
            }
            let row = self.fetch(look.clone()).await?;
            if let Some(reply) = why_not_written(&write, row.as_ref())? {
                return Ok(reply);
            }
        }
        Err(contended())
    }

    async fn validate(
        &self,
        locator: Locator,
        fence: &Fence,
        version: u64,
    ) -> Result<ValidateReply, StoreError> {
        let Some(row) = self.fetch(self.about(&self.statements.validate, locator)).await? else {
            return Ok(ValidateReply::Missing);
        };
        if row::is_revoked(&row)? {
            return Ok(ValidateReply::Revoked);
        }
        if !is_fence_of(&row, fence)? {
            return Ok(ValidateReply::Fenced);
        }
        let stored = row::read_number(&row, "version")?;
        Ok(match stored.cmp(&version) {
            std::cmp::Ordering::Less => ValidateReply::Regressed { version: stored },
            std::cmp::Ordering::Greater => ValidateReply::Conflict { version: stored },
            std::cmp::Ordering::Equal => ValidateReply::Valid {
                last_access_ms: row::read_number(&row, "last_access_ms")?,
                now_ms: row::read_number(&row, "now_ms")?,
            },
        })
    }

    async fn restore(&self, locator: Locator, record: &Record) -> Result<RestoreReply, StoreError> {
        if record.owner.is_some() {
            let mut values = vec![locator.to_string().into()];
            values.extend(stored_values(record)?);
            values.extend([
                row::time(record.created_ms),
                row::time(record.absolute_ms),
                row::time(record.last_access_ms),
            ]);
            if self.count_rows(self.statement(&self.statements.restore, values)).await? == 1 {
                return Ok(RestoreReply::Restored);
            }
        }
        let row = self.fetch(self.about(&self.statements.read, locator)).await?;
        let revoked = row.as_ref().map(row::is_revoked).transpose()?.unwrap_or(false);
        Ok(if revoked { RestoreReply::Revoked } else { RestoreReply::Refused })
    }

    async fn revoke(&self, locator: Locator, end: End) -> Result<RevokeReply, StoreError> {
        let values = vec![locator.to_string().into(), row::time(self.tombstone_ms)];
        let revoke = self.statement(&self.statements.revoke, values);
        match self.revoke_and_note(locator, end.reason(), revoke).await? {
            None => Ok(RevokeReply::Missing),
            Some(row) => {
                self.take_off_rolls(locator).await;
                Ok(RevokeReply::Revoked { owner: row::read_owner(&row)? })
            }
        }
    }

    async fn release(&self, locator: Locator, fence: &Fence) -> Result<bool, StoreError> {
        let owner = fence.token.as_str().to_owned();
        let values = vec![locator.to_string().into(), owner.into(), row::number(fence.epoch)];
        Ok(self.count_rows(self.statement(&self.statements.release, values)).await? == 1)
    }

    async fn touch(&self, locator: Locator) -> Result<(), StoreError> {
        let values = vec![locator.to_string().into(), row::time(self.slack_ms)];
        self.count_rows(self.statement(&self.statements.touch, values)).await.map(|_| ())
    }

    async fn sweep(
        &self,
        _bucket: Bucket,
        limit: u32,
        hold: Option<Duration>,
    ) -> Result<Swept, StoreError> {
        self.sweep_all(limit, hold).await
    }

    async fn acknowledge(&self, expired: &Expired) -> Result<(), StoreError> {
        let acknowledge = self.about(self.statements.expiry.acknowledge, expired.locator);
        self.count_rows(acknowledge).await.map(|_| ())
    }

    async fn last_state(&self, locator: Locator) -> Result<Option<Remains>, StoreError> {
        self.read_last_state(locator).await
    }
}

/// The statements of one take-over.
struct Take {
    lock_session: Statement,
    lock_lease: String,
    look: Statement,
    take: Statement,
    store: DatabaseStore,
}

impl Take {
    /// Gives the claimed row; none when something stands against it by now.
    async fn carry_out(
        &self,
        executor: &DatabaseExecutor<'_>,
    ) -> Result<Option<QueryResult>, DbErr> {
        let Some(session) = executor.query_one_raw(self.lock_session.clone()).await? else {
            return Ok(None);
        };
        let node: Option<String> = session.try_get("", "owner_node")?;
        if let Some(node) = node {
            // A lease that is being renewed is waited for here; one that comes to be only later is no danger, since
            // its node has to validate what it owned, and that waits for this transaction.
            let lease = self.store.statement(&self.lock_lease, vec![node.into()]);
            executor.query_one_raw(lease).await?;
        }
        let row = executor.query_one_raw(self.look.clone()).await?;
        match self.store.obstacle(row.as_ref()) {
            Ok(None) => executor.query_one_raw(self.take.clone()).await,
            // Whatever it is, the next look of the caller finds it again.
            Ok(Some(_)) | Err(_) => Ok(None),
        }
    }
}

fn claimed(row: &QueryResult, known_version: Option<u64>) -> Result<ClaimReply, StoreError> {
    let version = row::read_number(row, "version")?;
    let record =
        if known_version == Some(version) { None } else { Some(Box::new(row::read_record(row)?)) };
    Ok(ClaimReply::Claimed {
        epoch: row::read_number(row, "epoch")?,
        version,
        now_ms: row::read_number(row, "now_ms")?,
        record,
    })
}

/// Says why a write changed nothing, in the order of the protocol; none when nothing stands against it any more.
fn why_not_written(
    write: &Write<'_>,
    row: Option<&QueryResult>,
) -> Result<Option<WriteReply>, StoreError> {
    let Some(row) = row else {
        return Ok(Some(WriteReply::Missing));
    };
    if row::is_revoked(row)? {
        return Ok(Some(WriteReply::Revoked));
    }
    let version = row::read_number(row, "version")?;
    if row::read_last_op(row)? == Some(write.op_id) {
        return Ok(Some(WriteReply::Duplicate { version }));
    }
    if !is_fence_of(row, write.fence)? {
        return Ok(Some(WriteReply::Fenced));
    }
    Ok(match version.cmp(&write.base_version) {
        std::cmp::Ordering::Less => Some(WriteReply::Regressed { version }),
        std::cmp::Ordering::Greater => Some(WriteReply::Conflict { version }),
        std::cmp::Ordering::Equal => None,
    })
}

fn is_fence_of(row: &QueryResult, fence: &Fence) -> Result<bool, StoreError> {
    let owner = row::read_owner(row)?;
    Ok(owner.as_ref() == Some(&fence.token) && row::read_number(row, "epoch")? == fence.epoch)
}

/// Other nodes changed the session all the time; sending the step again is safe.
fn contended() -> StoreError {
    StoreError::Unavailable("the session is being changed by other nodes".into())
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        let text = chain(&error);
        if error.is_retryable() { Self::Unavailable(text) } else { Self::Refused(text) }
    }
}
