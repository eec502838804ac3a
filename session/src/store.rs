//! What a place that keeps sessions must be able to do: one trait, and the exact meaning of each answer.
//!
//! The rules are those of the session protocol (see `docs/sessions.md` and ARCHITECTURE.md): every call is one atomic
//! step at the store; time is the store's own clock, in ms since 1970. [`crate::spec`] is the same in plain Rust
//! without I/O, and [`conformance`] compares a store with it; a store of your own belongs to the cluster as soon as it
//! passes that suite.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod database;
mod expired;
pub mod memory;
pub mod online;
pub mod persisted;
pub mod redis;
pub mod register;
pub mod sealed;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use understudy_runtime::ids::{Bucket, NodeId};

use crate::record::{Change, Fence, Locator, OpId, Record, Token};

pub use expired::{End, EndReason, Expired, Remains, Swept};
pub use persisted::{PersistedStore, SaveReport, Saver};
pub use register::SessionRegister;
pub use sealed::SealedStore;

/// Keeps sessions for all nodes of a cluster, or for one process.
///
/// Each method is one atomic step. A method that fails with [`StoreError::Unavailable`] may or may not have been
/// carried out; every one of them may be sent again with the same arguments.
#[async_trait]
pub trait SessionStore: SessionRegister + Send + Sync + fmt::Debug + 'static {
    /// Puts a new session in, owned by `record.owner` with the epoch that it says and version 1. That epoch is 1, but for a
    /// [child](Record::is_child), which may begin again under its locator: then it is higher than any that one had before.
    ///
    /// The store sets `created_ms` and `last_access_ms` to its own now, and `absolute_ms` to now + `lifetime_ms`.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn create(
        &self,
        locator: Locator,
        record: &Record,
        lifetime_ms: u64,
    ) -> Result<CreateReply, StoreError>;

    /// Takes the session over for `token`, unless another node with a live lease has it; a claim by the node that
    /// already owns it succeeds (its earlier token is fenced by the new one). Counts as an access.
    ///
    /// The record comes back unless its version is `known_version`.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn claim(
        &self,
        locator: Locator,
        token: &Token,
        known_version: Option<u64>,
    ) -> Result<ClaimReply, StoreError>;

    /// Reads the session without owning it.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn read(&self, locator: Locator) -> Result<ReadReply, StoreError>;

    /// Writes one change behind the fence of the owner. Counts as an access, of which the store need not take note when
    /// the latest one that it noted is less than a quarter of the touch slack ago.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn write(&self, write: Write<'_>) -> Result<WriteReply, StoreError>;

    /// Says whether a write takes only [`Write::change`], and of [`Write::after`] the deadlines; else both must be whole.
    fn takes_changes(&self) -> bool {
        false
    }

    /// Asks whether the owner's copy still counts; changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn validate(
        &self,
        locator: Locator,
        fence: &Fence,
        version: u64,
    ) -> Result<ValidateReply, StoreError>;

    /// Puts the owner's whole copy back after the store lost writes: allowed when the record carries the same fence
    /// and a lower version, or when the record is missing, or has a lower epoch, *while the bucket is in grace*
    /// (nobody can claim then). The restored record carries `record.owner` and `record.epoch`.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn restore(&self, locator: Locator, record: &Record) -> Result<RestoreReply, StoreError>;

    /// Ends the session for ever: takes secrets and attributes away and leaves a tombstone that refuses every write,
    /// for at least two node leases. Not fenced: an end always wins.
    ///
    /// What there is to tell of it is kept in the same step, with its last state, and the next sweep hands it out, with the
    /// reason that `end` gives; not of a [child](Record::is_child). Whichever end came first counts. Unless it is [`End::OutOfTime`], a tombstone is left for a
    /// session that is missing too, while the bucket is in grace: its owner must not put it back. Of that nothing is told.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn revoke(&self, locator: Locator, end: End) -> Result<RevokeReply, StoreError>;

    /// Gives the session up, if `fence` still owns it, so that any node may claim it at once.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn release(&self, locator: Locator, fence: &Fence) -> Result<bool, StoreError>;

    /// Notes an access now. Not fenced, since the latest access only ever grows.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn touch(&self, locator: Locator) -> Result<(), StoreError>;

    /// Ends up to `limit` sessions of a bucket that are over, and hands out up to `limit` that are to be told.
    ///
    /// A session that is over is removed, and what there is to tell of it is kept, in one step; so a crash loses nothing.
    /// With `hold` each is handed out to one caller only, and again to whoever sweeps when it was not
    /// [acknowledged](Self::acknowledge) within that time. `None`: nobody is to be told, nothing is kept.
    ///
    /// While the bucket is in grace nothing is swept, since owners may know of later accesses. What cannot be read as a
    /// session is left alone. Tombstones that are over are removed too. `bucket` may be ignored by a store without buckets.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses. What was handed out meanwhile comes again after `hold`.
    async fn sweep(
        &self,
        bucket: Bucket,
        limit: u32,
        hold: Option<Duration>,
    ) -> Result<Swept, StoreError>;

    /// Notes that somebody was told of what a sweep handed out: it does not come again.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn acknowledge(&self, expired: &Expired) -> Result<(), StoreError>;

    /// Gives what a session held when it ended, until somebody has [acknowledged](Self::acknowledge) its end, or nobody did for
    /// an hour or more. `None` when it is not known (any more), which it never is to a store that does not keep it.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away, or cannot read what it has.
    async fn last_state(&self, locator: Locator) -> Result<Option<Remains>, StoreError> {
        let _ = locator;
        Ok(None)
    }
}

/// Whether a store keeps what sessions held when they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Estate {
    /// It does, for whoever is told of the end.
    #[default]
    Kept,
    /// It does not: nobody is to be told.
    Dropped,
}

/// A store that is shared between actors.
pub type SharedStore = Arc<dyn SessionStore>;

/// One fenced write.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Which session.
    pub locator: Locator,
    /// Who writes.
    pub fence: &'a Fence,
    /// Version that the writer has seen.
    pub base_version: u64,
    /// Id of this write, the same when it is sent again.
    pub op_id: OpId,
    /// What changes; for stores that keep fields apart.
    pub change: &'a Change,
    /// The whole record as it is after the change; for stores that keep it as one value.
    pub after: &'a Record,
}

/// Answer to [`SessionStore::create`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateReply {
    /// It is in; `now_ms` is the store's clock, `absolute_ms` the deadline it noted.
    Created {
        /// The store's clock, ms since 1970.
        now_ms: u64,
    },
    /// The locator is taken, also by a tombstone: draw another.
    Exists,
}

/// Answer to [`SessionStore::claim`].
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimReply {
    /// The caller owns it now.
    Claimed {
        /// The new epoch.
        epoch: u64,
        /// Version of the record.
        version: u64,
        /// The store's clock, ms since 1970.
        now_ms: u64,
        /// The record (with the new owner and epoch), unless its version was known.
        record: Option<Box<Record>>,
    },
    /// Another node owns it and its lease is live.
    Owned {
        /// That node.
        node: NodeId,
        /// How long its lease lasts without a renewal, ms.
        remaining_ms: u64,
        /// The store's clock, ms since 1970.
        now_ms: u64,
        /// The record as it is.
        record: Box<Record>,
    },
    /// The store changed its identity lately: nobody can claim for so many ms, because leases of its former self may
    /// still be trusted somewhere (rule R7). Also the answer when the session is missing while the grace lasts.
    Grace {
        /// How long, ms.
        remaining_ms: u64,
    },
    /// There is no such session.
    Missing,
    /// It was ended on purpose.
    Revoked,
    /// It ran out of time.
    Expired,
}

/// Answer to [`SessionStore::read`].
#[derive(Debug, Clone, PartialEq)]
pub enum ReadReply {
    /// As it is in the store; the caller checks the deadlines.
    Found(Box<Record>),
    /// There is none (to be confirmed by a claim: the store may have been emptied a moment ago).
    Missing,
    /// It was ended on purpose.
    Revoked,
}

/// Answer to [`SessionStore::write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteReply {
    /// It is in.
    Written {
        /// Version that it made.
        version: u64,
        /// The store's clock, ms since 1970.
        now_ms: u64,
    },
    /// The same write was in already.
    Duplicate {
        /// Version of the record.
        version: u64,
    },
    /// There is no such session.
    Missing,
    /// It was ended on purpose.
    Revoked,
    /// Somebody else claimed it.
    Fenced,
    /// The record is older than the writer's copy: the store lost writes.
    Regressed {
        /// Version of the record.
        version: u64,
    },
    /// The record is newer than the writer's copy: an earlier write of this owner got in without its answer.
    Conflict {
        /// Version of the record.
        version: u64,
    },
}

/// Answer to [`SessionStore::validate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidateReply {
    /// Same owner, same version.
    Valid {
        /// Latest access that any node noted, ms since 1970.
        last_access_ms: u64,
        /// The store's clock, ms since 1970.
        now_ms: u64,
    },
    /// There is no such session.
    Missing,
    /// It was ended on purpose.
    Revoked,
    /// Somebody else claimed it.
    Fenced,
    /// The record is older than the owner's copy.
    Regressed {
        /// Version of the record.
        version: u64,
    },
    /// The record is newer than the owner's copy.
    Conflict {
        /// Version of the record.
        version: u64,
    },
}

/// Answer to [`SessionStore::restore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreReply {
    /// The owner's copy is in the store again.
    Restored,
    /// Not allowed: the record is as new or newer, or missing for good.
    Refused,
    /// It was ended on purpose.
    Revoked,
}

/// Answer to [`SessionStore::revoke`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevokeReply {
    /// A tombstone stands; the node that owned it, if any, must drop its copy.
    Revoked {
        /// Who owned it.
        owner: Option<Token>,
    },
    /// There was none. While the bucket is in grace some node may have a copy; it cannot put it back any more.
    Missing,
}

/// Why a store did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Time-out or lost connection; the step may have been carried out.
    #[error("the session store is not available: {0}")]
    Unavailable(String),
    /// The store refused for a reason of its own, such as memory or disk full; the step was not carried out.
    #[error("the session store refused: {0}")]
    Refused(String),
    /// What the store holds cannot be read as a session; it stays as it is, byte for byte.
    #[error("the session store holds a record that cannot be read: {0}")]
    Unreadable(String),
}
