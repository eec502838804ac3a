//! Seals the contents of sessions on their way into a store and opens them on their way out: a layer over any store.
//!
//! *What.* The values of attributes, and the answers kept in the list of recent operations, which may tell values. What a
//! store must understand stays as it is: names of attributes, user, owner, versions, times, hashes of secrets. So no script
//! and no statement looks into a value: whatever is worked out from one (`increment`, `append`, updates, limits of size)
//! is worked out by the owner, on plain text, before it comes here. Limits count plain bytes; what is stored is longer by a
//! third and 60 to 100 bytes for each value.
//!
//! *Whole records.* In a store all contents of a record have one form, told by [`Record::seal`]: as they are, or sealed
//! under one key. Stores keep that beside the record, so that a node that lacks the key leaves the session alone *before* it
//! claims it, and so that a program from before this layer takes it for a record of a newer format and does the same. A record
//! that is found in another form than this node writes (a former key, or none) is read, and marked [`Seal::Outdated`]: its
//! next change writes all of its contents anew, in one step. Nothing is rewritten for that alone.
//!
//! *Fences and crashes.* A change is sealed as a whole and goes in as one fenced, versioned write, like any other; the form
//! changes in it with the contents. So a node that dies leaves the old form or the new one, and one that was overtaken cannot
//! bring back its own. A write that is sent again is sealed again, with other nonces, and known by its id. Nothing is kept
//! here but the keys.
//!
//! *Mixed nodes.* During a rolling restart nodes may write in different forms; each rewrites what it changes, and all of them
//! read it, as long as they have the keys. Who lacks one answers 503 `session_unreadable` for such sessions and changes
//! nothing of them. Which order of restarts avoids that is told in `docs/sessions.md`.
//!
//! *Not done here.* Changes on their way from node to node, over Redis pub/sub, are not stored and not sealed; that takes
//! TLS. Who may write to the store can put back an older value of the same attribute, or a record that is not sealed at all.

mod register;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use understudy_runtime::ids::Bucket;

use super::{
    ClaimReply, CreateReply, End, Expired, ReadReply, Remains, RestoreReply, RevokeReply,
    SessionStore, SharedStore, StoreError, Swept, ValidateReply, Write, WriteReply,
};
use crate::record::{Attributes, Change, Fence, Locator, RecentOps, Record, Seal, Token};
use crate::sealing::{OpenError, Place, SealRing, Sealer};

/// A store with sealed contents.
#[derive(Debug, Clone)]
pub struct SealedStore {
    store: SharedStore,
    ring: SealRing,
}

impl SealedStore {
    /// Seals what `store` keeps. That store should know the keys of the ring, see [`SealRing::known`].
    #[must_use]
    pub fn new(store: SharedStore, ring: SealRing) -> Self {
        Self { store, ring }
    }

    /// Gives a record in the form in which this node writes.
    fn closed(&self, locator: Locator, record: &Record) -> Record {
        let Some(sealer) = self.ring.sealer() else {
            return Record { seal: Seal::Open, ..record.clone() };
        };
        let attributes = record.attributes.iter();
        let attributes =
            attributes.map(|(name, text)| (Arc::clone(name), value(&sealer, locator, name, text)));
        Record {
            attributes: Arc::new(attributes.collect()),
            recent: list(&sealer, locator, &record.recent),
            seal: self.ring.form(),
            ..record.clone()
        }
    }

    /// Gives a change in that form; all of the contents when they have another one so far.
    fn closed_change(&self, locator: Locator, change: &Change, after: &Record) -> Change {
        let mut closed = change.clone();
        if change.seal.is_some() {
            let all = after.attributes.iter();
            closed.set = all.map(|(name, text)| (Arc::clone(name), Arc::clone(text))).collect();
            closed.recent = Some(after.recent.clone());
            closed.seal = Some(self.ring.form());
        }
        if let Some(sealer) = self.ring.sealer() {
            for (name, text) in &mut closed.set {
                *text = value(&sealer, locator, name, text);
            }
            closed.recent = closed.recent.map(|recent| list(&sealer, locator, &recent));
        }
        closed
    }

    /// Opens a record as a store has it.
    fn opened(&self, locator: Locator, mut record: Record) -> Result<Record, StoreError> {
        let outdated = record.seal != self.ring.form();
        if record.seal.key().is_some() {
            record.attributes = Arc::new(self.opened_attributes(locator, &record.attributes)?);
            record.recent = self.open_list(locator, &record.recent)?;
        }
        record.seal = if outdated { Seal::Outdated } else { Seal::Open };
        Ok(record)
    }

    fn opened_attributes(
        &self,
        locator: Locator,
        sealed: &Attributes,
    ) -> Result<Attributes, OpenError> {
        let attributes = sealed.iter().map(|(name, text)| {
            let plain = self.open_value(Place::attribute(locator, name), text)?;
            Ok((Arc::clone(name), plain))
        });
        attributes.collect::<Result<_, OpenError>>()
    }

    fn open_value(&self, place: Place<'_>, text: &str) -> Result<Arc<str>, OpenError> {
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Ok(self.ring.open(place, text.ok_or(OpenError::Broken)?)?.into())
    }

    fn open_list(&self, locator: Locator, list: &RecentOps) -> Result<RecentOps, OpenError> {
        let entries = match &list.sealed {
            None if list.entries.is_empty() => Vec::new(),
            None => return Err(OpenError::Broken),
            Some(text) => {
                let text = self.ring.open(Place::recent(locator), text)?;
                serde_json::from_str(&text).map_err(|_| OpenError::Broken)?
            }
        };
        Ok(RecentOps { since_version: list.since_version, entries, sealed: None })
    }

    /// Gives a session back that was claimed and cannot be opened, so that a node that can may have it at once.
    async fn give_back(&self, locator: Locator, fence: &Fence) {
        if let Err(error) = self.store.release(locator, fence).await {
            tracing::debug!(%error, "a session that cannot be opened waits for this node's lease");
        }
    }
}

/// Seals a value. It stays JSON, a string, for stores that keep all of them as one document.
fn value(sealer: &Sealer<'_>, locator: Locator, name: &str, text: &str) -> Arc<str> {
    format!("\"{}\"", sealer.seal(Place::attribute(locator, name), text)).into()
}

/// Seals the answers in a list of recent operations.
fn list(sealer: &Sealer<'_>, locator: Locator, list: &RecentOps) -> RecentOps {
    let since_version = list.since_version;
    if list.entries.is_empty() {
        return RecentOps { since_version, ..RecentOps::default() };
    }
    let entries =
        serde_json::to_string(&list.entries).expect("numbers and short texts always serialise");
    let sealed = sealer.seal(Place::recent(locator), &entries);
    RecentOps { since_version, entries: Vec::new(), sealed: Some(sealed.into()) }
}

#[async_trait]
impl SessionStore for SealedStore {
    async fn create(
        &self,
        locator: Locator,
        record: &Record,
        lifetime_ms: u64,
    ) -> Result<CreateReply, StoreError> {
        self.store.create(locator, &self.closed(locator, record), lifetime_ms).await
    }

    async fn claim(
        &self,
        locator: Locator,
        token: &Token,
        known_version: Option<u64>,
    ) -> Result<ClaimReply, StoreError> {
        match self.store.claim(locator, token, known_version).await? {
            ClaimReply::Claimed { epoch, version, now_ms, record: Some(record) } => {
                let opened = self.opened(locator, *record);
                if opened.is_err() {
                    self.give_back(locator, &Fence { token: token.clone(), epoch }).await;
                }
                let record = Some(Box::new(opened?));
                Ok(ClaimReply::Claimed { epoch, version, now_ms, record })
            }
            ClaimReply::Owned { node, remaining_ms, now_ms, record } => {
                let record = Box::new(self.opened(locator, *record)?);
                Ok(ClaimReply::Owned { node, remaining_ms, now_ms, record })
            }
            other @ (ClaimReply::Claimed { record: None, .. }
            | ClaimReply::Grace { .. }
            | ClaimReply::Missing
            | ClaimReply::Revoked
            | ClaimReply::Expired) => Ok(other),
        }
    }

    async fn read(&self, locator: Locator) -> Result<ReadReply, StoreError> {
        match self.store.read(locator).await? {
            ReadReply::Found(record) => {
                Ok(ReadReply::Found(Box::new(self.opened(locator, *record)?)))
            }
            other @ (ReadReply::Missing | ReadReply::Revoked) => Ok(other),
        }
    }

    async fn write(&self, write: Write<'_>) -> Result<WriteReply, StoreError> {
        let Write { locator, change, after, .. } = write;
        if self.ring.sealer().is_none() && change.seal.is_none() {
            return self.store.write(write).await;
        }
        let closed_change = self.closed_change(locator, change, after);
        let closed_after = if self.store.takes_changes() {
            // Nobody looks at it: sealing all that did not change would be in vain.
            Record { attributes: Arc::default(), recent: RecentOps::default(), ..after.clone() }
        } else {
            self.closed(locator, after)
        };
        self.store.write(Write { change: &closed_change, after: &closed_after, ..write }).await
    }

    async fn validate(
        &self,
        locator: Locator,
        fence: &Fence,
        version: u64,
    ) -> Result<ValidateReply, StoreError> {
        self.store.validate(locator, fence, version).await
    }

    async fn restore(&self, locator: Locator, record: &Record) -> Result<RestoreReply, StoreError> {
        self.store.restore(locator, &self.closed(locator, record)).await
    }

    async fn revoke(&self, locator: Locator, end: End) -> Result<RevokeReply, StoreError> {
        self.store.revoke(locator, end).await
    }

    async fn release(&self, locator: Locator, fence: &Fence) -> Result<bool, StoreError> {
        self.store.release(locator, fence).await
    }

    async fn touch(&self, locator: Locator) -> Result<(), StoreError> {
        self.store.touch(locator).await
    }

    async fn sweep(
        &self,
        bucket: Bucket,
        limit: u32,
        hold: Option<Duration>,
    ) -> Result<Swept, StoreError> {
        self.store.sweep(bucket, limit, hold).await
    }

    async fn acknowledge(&self, expired: &Expired) -> Result<(), StoreError> {
        self.store.acknowledge(expired).await
    }

    async fn last_state(&self, locator: Locator) -> Result<Option<Remains>, StoreError> {
        let Some(mut remains) = self.store.last_state(locator).await? else { return Ok(None) };
        if remains.seal.key().is_some() {
            remains.attributes = Arc::new(self.opened_attributes(locator, &remains.attributes)?);
        }
        remains.seal = Seal::Open;
        Ok(Some(remains))
    }
}
