//! What is forgotten because a transaction changed what it was loaded from: written in that transaction, told after it.
//!
//! [`Cache::forget_in`] writes a row into the table `us_cache_outbox`, in the transaction that makes the change. So it is there
//! if and only if the change is, whatever dies when. Whoever made the change tells it right after the commit
//! ([`Written::committed`]), and strikes the row off. What is left, also by who died in between, all nodes look for once a second,
//! and tell it ([`relay`]). On PostgreSQL a trigger writes such rows for programs that know nothing of all this, and a node that
//! listens hears of them at once ([`listener`]).
//!
//! A row is told before it is struck off, so it may be told twice, which does no harm. It is read when the transaction is committed,
//! so whatever is loaded after it was told is new; what was read before is not kept, as for any value that is forgotten.
//!
//! # What if
//!
//! *A node dies with rows in hand*: its connection ends, and its locks on them with it; others tell them. *It stands still*: the
//! server ends its transaction after two seconds. *Redis is away*: rows wait, and no memory is trusted for longer than
//! [`BOUND`](super::BOUND). *Only some regions cannot be told*, since their shard does not answer or refuses: their rows wait, and those of
//! others do not wait for them. *The database is away*: so are the changes. *Nobody listens any more*: rows are found by looking.

mod away;
mod findings;
mod jobs;
mod listener;
mod relay;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use sea_orm::{ConnectionTrait, DbErr};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::Cache;
use super::core::Core;
use super::error::{BadKey, ForgetError};
use super::handle::{check, checked, clear, forget, forget_tag};
use super::region::CacheKey;
use super::shared::Forgotten;
use crate::clock::BootInstant;
use crate::database::Database;

/// What a node knows of the outbox.
#[derive(Default)]
pub(super) struct Outbox {
    /// Has the relay look at once.
    wake: Notify,
    /// Where it is, from when the relay has begun.
    database: OnceLock<Database>,
    /// Since when the row that has waited for longest could not be told; 0 when there is none.
    stuck: AtomicU64,
    /// Of which regions rows could not be told at the last look.
    regions: ArcSwap<Vec<String>>,
    /// Since when other programs tell of their changes by a trigger and nobody listens; 0 when it is not so.
    deaf: AtomicU64,
}

impl Outbox {
    /// Notes since when something is wrong; what was noted before counts.
    fn since(mark: &AtomicU64, now: BootInstant) {
        // It may be set already: then that is right.
        mark.compare_exchange(0, now.as_nanos().max(1), Ordering::Relaxed, Ordering::Relaxed).ok();
    }

    /// Says whether something has been wrong for so long.
    fn is_since(mark: &AtomicU64, time: Duration, now: BootInstant) -> bool {
        let since = mark.load(Ordering::Relaxed);
        since > 0 && now.saturating_duration_since(BootInstant::from_nanos(since)) >= time
    }
}

/// What is to be forgotten could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The key, or the tag, is empty or too long.
    #[error(transparent)]
    BadKey(#[from] BadKey),
    /// The database refused, or is away: the transaction cannot be committed either.
    #[error("what is to be forgotten could not be written")]
    Unwritten(#[source] DbErr),
}

impl From<OutboxError> for DbErr {
    /// For the work of a [`Database::transaction`].
    fn from(error: OutboxError) -> Self {
        match error {
            OutboxError::BadKey(bad) => Self::Custom(bad.to_string()),
            OutboxError::Unwritten(error) => error,
        }
    }
}

/// Something that is forgotten once a transaction is committed: by [`committed`](Self::committed), or a little later by itself.
#[must_use = "call committed() after the commit: what changed is forgotten up to a second later otherwise"]
pub struct Written {
    core: Arc<Core>,
    what: Forgotten,
    row: i64,
    is_told: bool,
}

impl Written {
    /// Has it forgotten on all nodes; to be called after the commit. When this returns, no node gives the old value any more from
    /// [`BOUND`](super::BOUND) on, this one from now on. After a rollback do not call it: it is not needed, though it does no harm.
    ///
    /// # Errors
    /// [`ForgetError`] when the other nodes could not be told now. It need not be tried again: they are told as soon as can be.
    pub async fn committed(mut self) -> Result<(), ForgetError> {
        match &self.what {
            Forgotten::One(key) => forget(&self.core, key).await?,
            Forgotten::Tagged(tag) => forget_tag(&self.core, tag).await?,
            Forgotten::All => clear(&self.core).await?,
        }
        self.strike_off().await;
        Ok(())
    }

    /// A row that stays is told once more, by whoever finds it.
    async fn strike_off(&mut self) {
        let outbox = self.core.outbox.as_ref();
        let Some(database) = outbox.and_then(|outbox| outbox.database.get()) else { return };
        match table::strike_off_one(database, self.row).await {
            Ok(()) => self.is_told = true,
            Err(error) => tracing::debug!(%error, "what was forgotten is told once more"),
        }
    }
}

impl Drop for Written {
    /// The transaction is over as a rule, or will be in a moment.
    fn drop(&mut self) {
        if !self.is_told
            && let Some(outbox) = &self.core.outbox
        {
            outbox.wake.notify_one();
        }
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").field("what", &self.what).field("row", &self.row).finish()
    }
}

impl<K, V> Cache<K, V>
where
    K: CacheKey + ?Sized,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Has a value forgotten on all nodes if a transaction is committed, and only then; to be called in it, with the connection
    /// that makes the change. It must be one to the database of the cluster.
    ///
    /// Call [`Written::committed`] after the commit. Whatever dies in between, the value is forgotten within about a second, and so
    /// given by no node any more after that and [`BOUND`](super::BOUND).
    ///
    /// ```no_run
    /// use understudy_runtime::cache::Cache;
    /// use understudy_runtime::database::DatabaseError;
    /// use understudy_runtime::database::sea_orm::ConnectionTrait;
    /// use understudy_runtime::service::NodeContext;
    ///
    /// async fn raise(node: &NodeContext, prices: Cache<u64, u64>) -> Result<(), DatabaseError> {
    ///     let raised = node.database.transaction(move |on| {
    ///         let prices = prices.clone();
    ///         Box::pin(async move {
    ///             on.execute_unprepared("UPDATE price SET cents = cents + 1 WHERE article = 7").await?;
    ///             Ok(prices.forget_in(on, &7).await?)
    ///         })
    ///     });
    ///     // An error says only that it takes a little longer.
    ///     raised.await?.committed().await.ok();
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`OutboxError`]; a transaction on PostgreSQL has failed then, as after any statement that did.
    #[doc(alias = "invalidate_in")]
    pub async fn forget_in<C>(&self, transaction: &C, key: &K) -> Result<Written, OutboxError>
    where
        C: ConnectionTrait,
    {
        let what = Forgotten::One(checked(key)?.into_owned());
        self.write(transaction, what).await
    }

    /// Has all values that carry a tag forgotten if a transaction is committed, as [`forget_in`](Self::forget_in) does one.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub async fn forget_tag_in<C>(&self, transaction: &C, tag: &str) -> Result<Written, OutboxError>
    where
        C: ConnectionTrait,
    {
        check(tag)?;
        self.write(transaction, Forgotten::Tagged(tag.to_owned())).await
    }

    /// Has all values of the region forgotten if a transaction is committed, as [`forget_in`](Self::forget_in) does one: for
    /// statements that change many rows.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub async fn clear_in<C>(&self, transaction: &C) -> Result<Written, OutboxError>
    where
        C: ConnectionTrait,
    {
        self.write(transaction, Forgotten::All).await
    }

    async fn write<C>(&self, transaction: &C, what: Forgotten) -> Result<Written, OutboxError>
    where
        C: ConnectionTrait,
    {
        let core = Arc::clone(&self.core);
        let entry = table::Entry { region: core.region.name(), what: &what, keep: core.longest() };
        let row = table::write(transaction, entry).await.map_err(OutboxError::Unwritten)?;
        Ok(Written { core, what, row, is_told: false })
    }
}
