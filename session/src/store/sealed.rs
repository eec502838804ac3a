//! Packs and seals the contents of sessions on their way into a store, and opens them on their way out: a layer over any
//! store.
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
//! *Packing.* Values above a size that operators choose are packed before they are sealed: what is sealed cannot be. A record
//! that has such a value gets a form of its own with its first one, `<key>+z`, or `+z` when nothing is sealed, by the same
//! whole rewrite; from then on any of its values may be packed. To a program from before that it looks like one under an unknown
//! key. Which values are packed is told by each: under a key by its first byte, which no JSON text has; else it is a JSON
//! string that begins with `z1.`, and what would look like one begins with `z0.`. Nodes that pack nothing read all of it, and
//! write their own form with the next change. The answers in the list of recent operations are short, and never packed.
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
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use understudy_runtime::ids::Bucket;

use super::{
    ClaimReply, CreateReply, End, Expired, ReadReply, Remains, RestoreReply, RevokeReply,
    SessionStore, SharedStore, StoreError, Swept, ValidateReply, Write, WriteReply,
};
use crate::packing::{Budget, Packing, UnpackError, unpack};
use crate::record::{Attributes, Change, Fence, KeyId, Locator, RecentOps, Record, Seal, Token};
use crate::sealing::{OpenError, Place, SealRing, Sealer};

/// What a packed value begins with under a key.
const PACKED: u8 = 1;
/// What a packed value begins with where nothing is sealed, and what one begins with that only looks so.
const PACKED_TEXT: &str = "\"z1.";
const OTHER_TEXT: &str = "\"z0.";

/// A store with packed and sealed contents.
#[derive(Debug, Clone)]
pub struct SealedStore {
    store: SharedStore,
    ring: SealRing,
    packing: Packing,
}

/// What may stand in a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    /// Values as they are.
    Plain,
    /// Values that are packed, and values as they are.
    Packed,
}

impl SealedStore {
    /// Seals what `store` keeps. That store should know the keys of the ring, see [`SealRing::known`].
    #[must_use]
    pub fn new(store: SharedStore, ring: SealRing) -> Self {
        Self { store, ring, packing: Packing::off() }
    }

    /// Packs large values too.
    #[must_use]
    pub fn packing(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    /// Says what is to stand in the store's record, of which `record` is the copy.
    fn values_of(&self, record: &Record) -> Values {
        let packs = match &record.seal {
            Seal::Open => false,
            Seal::Packed => true,
            // All of it is written anew.
            Seal::Outdated | Seal::Under(_) => {
                record.attributes.values().any(|text| self.packing.wants(text))
            }
        };
        if packs { Values::Packed } else { Values::Plain }
    }

    /// Gives the form of such a record.
    fn form(&self, values: Values) -> Seal {
        match values {
            Values::Plain => self.ring.form(),
            Values::Packed => self.ring.packed_form(),
        }
    }

    /// Gives a record in the form in which this node writes.
    fn closed(&self, locator: Locator, record: &Record) -> Record {
        let (sealer, values) = (self.ring.sealer(), self.values_of(record));
        if sealer.is_none() && values == Values::Plain {
            return Record { seal: Seal::Open, ..record.clone() };
        }
        let sealer = sealer.as_ref();
        let attributes = record.attributes.iter().map(|(name, text)| {
            let place = Place::attribute(locator, name);
            (Arc::clone(name), self.closed_value(sealer, place, text, values))
        });
        let attributes: Attributes = attributes.collect();
        let recent = sealer.map(|sealer| list(sealer, locator, &record.recent));
        Record {
            attributes: Arc::new(attributes),
            recent: recent.unwrap_or_else(|| record.recent.clone()),
            seal: self.form(values),
            ..record.clone()
        }
    }

    /// Packs a value if it is to be, and seals it if values are. It stays JSON, a string, for stores that keep all of them as
    /// one document.
    fn closed_value(
        &self,
        sealer: Option<&Sealer<'_>>,
        place: Place<'_>,
        text: &Arc<str>,
        values: Values,
    ) -> Arc<str> {
        let packed = match values {
            Values::Plain => None,
            Values::Packed => self.packing.pack(text),
        };
        match (sealer, packed) {
            (Some(sealer), Some(packed)) => {
                let marked = [[PACKED].as_slice(), packed.as_slice()].concat();
                format!("\"{}\"", sealer.seal(place, marked)).into()
            }
            (Some(sealer), None) => format!("\"{}\"", sealer.seal(place, &**text)).into(),
            (None, Some(packed)) => encoded(PACKED_TEXT, &packed),
            (None, None) if values == Values::Packed && is_marked(text) => {
                encoded(OTHER_TEXT, text.as_bytes())
            }
            (None, None) => Arc::clone(text),
        }
    }

    /// Gives a change in that form; all of the contents when they have another one so far.
    fn closed_change(&self, locator: Locator, change: &Change, after: &Record) -> Change {
        let (sealer, values) = (self.ring.sealer(), self.values_of(after));
        let sealer = sealer.as_ref();
        let mut closed = change.clone();
        if change.seal.is_some() {
            let all = after.attributes.iter();
            closed.set = all.map(|(name, text)| (Arc::clone(name), Arc::clone(text))).collect();
            closed.recent = Some(after.recent.clone());
            closed.seal = Some(self.form(values));
        }
        for (name, text) in &mut closed.set {
            *text = self.closed_value(sealer, Place::attribute(locator, name), text, values);
        }
        if let Some(sealer) = sealer {
            closed.recent = closed.recent.map(|recent| list(sealer, locator, &recent));
        }
        closed
    }

    /// Opens a record as a store has it.
    fn opened(&self, locator: Locator, mut record: Record) -> Result<Record, StoreError> {
        if let Some(form) = record.seal.key() {
            let attributes = self.opened_attributes(locator, form, &record.attributes)?;
            if !form.key().is_empty() {
                record.recent = self.open_list(locator, &record.recent)?;
            }
            record.attributes = Arc::new(attributes);
        }
        record.seal = if record.seal == self.ring.form() {
            Seal::Open
        } else if self.packing.is_on() && record.seal == self.ring.packed_form() {
            Seal::Packed
        } else {
            Seal::Outdated
        };
        Ok(record)
    }

    /// Opens all attributes of a session, which a store has in this form.
    fn opened_attributes(
        &self,
        locator: Locator,
        form: &KeyId,
        stored: &Attributes,
    ) -> Result<Attributes, OpenError> {
        let mut budget = self.packing.budget();
        let attributes = stored.iter().map(|(name, text)| {
            let place = Place::attribute(locator, name);
            Ok((Arc::clone(name), self.opened_value(form, place, text, &mut budget)?))
        });
        attributes.collect::<Result<_, OpenError>>()
    }

    fn opened_value(
        &self,
        form: &KeyId,
        place: Place<'_>,
        text: &Arc<str>,
        budget: &mut Budget,
    ) -> Result<Arc<str>, OpenError> {
        if form.key().is_empty() {
            return Ok(match (decoded(PACKED_TEXT, text)?, decoded(OTHER_TEXT, text)?) {
                (Some(packed), _) => unpack(&packed, budget)?.into(),
                (None, Some(other)) => utf8(other)?,
                (None, None) => Arc::clone(text),
            });
        }
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let opened = self.ring.open_packed(place, text.ok_or(OpenError::Broken)?)?;
        match opened.split_first() {
            Some((&PACKED, packed)) if form.is_packed() => Ok(unpack(packed, budget)?.into()),
            Some(_) | None => utf8(opened),
        }
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

/// Whether a value that is not packed looks as if it were.
fn is_marked(text: &str) -> bool {
    text.starts_with(PACKED_TEXT) || text.starts_with(OTHER_TEXT)
}

/// Gives bytes as a JSON string that begins with such a mark.
fn encoded(mark: &str, bytes: &[u8]) -> Arc<str> {
    format!("{mark}{}\"", URL_SAFE_NO_PAD.encode(bytes)).into()
}

/// Gives the bytes in it; `None` when it does not begin with that mark.
fn decoded(mark: &str, text: &str) -> Result<Option<Vec<u8>>, OpenError> {
    let Some(text) = text.strip_prefix(mark) else { return Ok(None) };
    let text = text.strip_suffix('"').ok_or(UnpackError::Broken)?;
    Ok(Some(URL_SAFE_NO_PAD.decode(text).map_err(|_| UnpackError::Broken)?))
}

fn utf8(bytes: Vec<u8>) -> Result<Arc<str>, OpenError> {
    Ok(String::from_utf8(bytes).map_err(|_| OpenError::Broken)?.into())
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
        let is_plain = self.values_of(after) == Values::Plain;
        if self.ring.sealer().is_none() && change.seal.is_none() && is_plain {
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
        if let Some(form) = remains.seal.key() {
            let attributes = self.opened_attributes(locator, form, &remains.attributes)?;
            remains.attributes = Arc::new(attributes);
        }
        remains.seal = Seal::Open;
        Ok(Some(remains))
    }
}
