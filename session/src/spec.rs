//! What a session store does, in plain Rust without I/O: the server side of the protocol, step by step.
//!
//! It is the measure for every other store ([`crate::store::conformance`] compares them with it), the heart of
//! [`crate::store::memory`], and the server that the model checker in `session/tests/model.rs` drives. Time is an
//! argument of each step; nothing here waits, and nothing here knows of nodes other than by their leases.

mod register;

use std::collections::BTreeMap;
use std::sync::Arc;

use understudy_runtime::lease::table::LeaseTable;

use crate::record::{Attributes, Change, Fence, Locator, Record, Token};
use crate::store::register::Progress;
use crate::store::{
    ClaimReply, CreateReply, End, Expired, ReadReply, Remains, RestoreReply, RevokeReply, Swept,
    ValidateReply, Write, WriteReply,
};

/// A tombstone stands at least this long, ms: longer than any request that might still write.
const TOMBSTONE_MS: u64 = 60_000;

/// What stands under one locator.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// A session.
    Live(Box<Record>),
    /// An end that refuses every write.
    Ended(Tombstone),
}

/// What is left of a session that was ended on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Who owned it; told again when the end is repeated, for its first answer may have been lost.
    pub owner: Option<Token>,
    /// From when on it may be swept, ms since 1970.
    pub until_ms: u64,
}

/// What is left of a session that is over, until somebody was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Untold {
    /// What there is to tell.
    pub expired: Expired,
    /// What it held.
    pub remains: Remains,
    /// From when on it may be handed out, ms since 1970.
    pub from_ms: u64,
}

/// The whole memory of a store.
#[derive(Debug, Clone)]
pub struct Spec {
    /// All sessions and tombstones.
    pub sessions: BTreeMap<Locator, Stored>,
    /// Sessions that are over, and of which nobody has been told.
    pub untold: BTreeMap<Locator, Untold>,
    /// Sessions of each user, with the time and the progress of their places.
    pub rolls: BTreeMap<String, BTreeMap<Locator, (u64, Progress)>>,
    /// Leases of the nodes; one bucket is enough here.
    pub leases: LeaseTable,
    /// Identity of the server; another one means that it may have lost what it knew.
    pub server_id: String,
    /// How long a node lease lasts, ms; so long is the grace after a change of `server_id`.
    pub lease_ms: u64,
    /// How much later than its idle limit a session ends, ms: accesses are noted with up to this delay.
    pub touch_slack_ms: u64,
}

impl Spec {
    /// Makes an empty store that knows itself: nothing was there before it, so it begins without a grace.
    #[must_use]
    pub fn new(server_id: &str, lease_ms: u64, touch_slack_ms: u64) -> Self {
        let mut leases = LeaseTable::new();
        // A grace of no length is none.
        leases.claim_gate(server_id, 0, 0).ok();
        let server_id = server_id.to_owned();
        let (sessions, untold, rolls) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { sessions, untold, rolls, leases, server_id, lease_ms, touch_slack_ms }
    }

    /// See [`crate::store::SessionStore::create`].
    pub fn create(
        &mut self,
        locator: Locator,
        record: &Record,
        lifetime_ms: u64,
        now_ms: u64,
    ) -> CreateReply {
        if self.sessions.contains_key(&locator) {
            return CreateReply::Exists;
        }
        let mut record = record.clone();
        record.epoch = record.epoch.max(1);
        record.version = 1;
        record.created_ms = now_ms;
        record.last_access_ms = now_ms;
        record.absolute_ms = now_ms.saturating_add(lifetime_ms);
        self.sessions.insert(locator, Stored::Live(Box::new(record)));
        CreateReply::Created { now_ms }
    }

    /// See [`crate::store::SessionStore::claim`].
    ///
    /// The grace comes first, before even the owner's own node: after a change of identity the record proves nothing.
    pub fn claim(
        &mut self,
        locator: Locator,
        token: &Token,
        known_version: Option<u64>,
        now_ms: u64,
    ) -> ClaimReply {
        if let Some(remaining_ms) = self.grace_ms(now_ms) {
            return ClaimReply::Grace { remaining_ms };
        }
        let record = match self.sessions.get_mut(&locator) {
            None => return ClaimReply::Missing,
            Some(Stored::Ended(_)) => return ClaimReply::Revoked,
            Some(Stored::Live(record)) => record,
        };
        if is_over(record, self.touch_slack_ms, now_ms) {
            return ClaimReply::Expired;
        }
        let owner = record.owner.as_ref().and_then(Token::node);
        if let Some(node) = owner.filter(|node| token.node().as_ref() != Some(node))
            && let Some(remaining_ms) = self.leases.live_for(&node, now_ms)
        {
            return ClaimReply::Owned { node, remaining_ms, now_ms, record: record.clone() };
        }
        record.owner = Some(token.clone());
        record.epoch += 1;
        record.last_access_ms = record.last_access_ms.max(now_ms);
        ClaimReply::Claimed {
            epoch: record.epoch,
            version: record.version,
            now_ms,
            record: (known_version != Some(record.version)).then(|| record.clone()),
        }
    }

    /// See [`crate::store::SessionStore::read`].
    #[must_use]
    pub fn read(&self, locator: Locator) -> ReadReply {
        match self.sessions.get(&locator) {
            None => ReadReply::Missing,
            Some(Stored::Ended(_)) => ReadReply::Revoked,
            Some(Stored::Live(record)) => ReadReply::Found(record.clone()),
        }
    }

    /// See [`crate::store::SessionStore::write`].
    ///
    /// The order of the checks is part of the protocol: a repeated write is recognised before its fence is looked at,
    /// because it was let in once, and its writer must learn so even when another node has claimed since.
    pub fn write(&mut self, write: Write<'_>, now_ms: u64) -> WriteReply {
        let record = match self.sessions.get_mut(&write.locator) {
            None => return WriteReply::Missing,
            Some(Stored::Ended(_)) => return WriteReply::Revoked,
            Some(Stored::Live(record)) => record,
        };
        let version = record.version;
        if record.last_op == Some(write.op_id) {
            return WriteReply::Duplicate { version };
        }
        if !is_fence_of(record, write.fence) {
            return WriteReply::Fenced;
        }
        if version < write.base_version {
            return WriteReply::Regressed { version };
        }
        if version > write.base_version {
            return WriteReply::Conflict { version };
        }
        apply(record, write.change);
        record.version = version + 1;
        record.last_op = Some(write.op_id);
        record.last_access_ms = record.last_access_ms.max(now_ms);
        WriteReply::Written { version: version + 1, now_ms }
    }

    /// See [`crate::store::SessionStore::validate`].
    #[must_use]
    pub fn validate(
        &self,
        locator: Locator,
        fence: &Fence,
        version: u64,
        now_ms: u64,
    ) -> ValidateReply {
        let record = match self.sessions.get(&locator) {
            None => return ValidateReply::Missing,
            Some(Stored::Ended(_)) => return ValidateReply::Revoked,
            Some(Stored::Live(record)) => record,
        };
        if !is_fence_of(record, fence) {
            return ValidateReply::Fenced;
        }
        match record.version.cmp(&version) {
            std::cmp::Ordering::Less => ValidateReply::Regressed { version: record.version },
            std::cmp::Ordering::Greater => ValidateReply::Conflict { version: record.version },
            std::cmp::Ordering::Equal => {
                ValidateReply::Valid { last_access_ms: record.last_access_ms, now_ms }
            }
        }
    }

    /// See [`crate::store::SessionStore::restore`].
    pub fn restore(&mut self, locator: Locator, record: &Record, now_ms: u64) -> RestoreReply {
        let in_grace = self.grace_ms(now_ms).is_some();
        let allowed = match self.sessions.get(&locator) {
            Some(Stored::Ended(_)) => return RestoreReply::Revoked,
            None => in_grace,
            Some(Stored::Live(stored)) => {
                let same_owner = stored.epoch == record.epoch && stored.owner == record.owner;
                same_owner && stored.version < record.version
                    || stored.epoch < record.epoch && in_grace
            }
        };
        // A copy that nobody owns is nobody's to put back.
        if !allowed || record.owner.is_none() {
            return RestoreReply::Refused;
        }
        self.put_on_roll(locator, record);
        self.sessions.insert(locator, Stored::Live(Box::new(record.clone())));
        RestoreReply::Restored
    }

    /// See [`crate::store::SessionStore::revoke`].
    pub fn revoke(&mut self, locator: Locator, end: End, now_ms: u64) -> RevokeReply {
        let mut record = match self.sessions.get(&locator) {
            None => {
                self.end_missing(locator, end, now_ms);
                return RevokeReply::Missing;
            }
            Some(Stored::Ended(tombstone)) => {
                return RevokeReply::Revoked { owner: tombstone.owner.clone() };
            }
            Some(Stored::Live(record)) => record.clone(),
        };
        let owner = record.owner.take();
        let expired = match end.reason() {
            Some(reason) => Expired::ended(locator, &record, reason, now_ms),
            None => Expired::of(locator, &record, self.touch_slack_ms, now_ms),
        };
        self.put_tombstone(locator, owner.clone(), now_ms);
        self.keep_to_tell(expired, &record, now_ms);
        self.take_off_roll(locator, &record);
        RevokeReply::Revoked { owner }
    }

    /// Only in the grace may an owner put back what is missing; then the end must be there first.
    fn end_missing(&mut self, locator: Locator, end: End, now_ms: u64) {
        if end != End::OutOfTime && self.grace_ms(now_ms).is_some() {
            self.put_tombstone(locator, None, now_ms);
        }
    }

    /// Of a child nothing is told: it ends with its parent.
    fn keep_to_tell(&mut self, expired: Expired, record: &Record, from_ms: u64) {
        if record.is_child() {
            return;
        }
        let attributes = Arc::clone(&record.attributes);
        let remains = Remains { attributes, seal: record.seal.clone() };
        self.untold.insert(expired.locator, Untold { expired, remains, from_ms });
    }

    /// See [`crate::store::SessionStore::last_state`].
    #[must_use]
    pub fn last_state(&self, locator: Locator) -> Option<Remains> {
        self.untold.get(&locator).map(|untold| untold.remains.clone())
    }

    fn put_tombstone(&mut self, locator: Locator, owner: Option<Token>, now_ms: u64) {
        let until_ms = now_ms.saturating_add(TOMBSTONE_MS.max(2 * self.lease_ms));
        self.sessions.insert(locator, Stored::Ended(Tombstone { owner, until_ms }));
    }

    /// See [`crate::store::SessionStore::release`].
    pub fn release(&mut self, locator: Locator, fence: &Fence) -> bool {
        match self.sessions.get_mut(&locator) {
            Some(Stored::Live(record)) if is_fence_of(record, fence) => {
                record.owner = None;
                true
            }
            None | Some(Stored::Live(_) | Stored::Ended(_)) => false,
        }
    }

    /// See [`crate::store::SessionStore::touch`].
    pub fn touch(&mut self, locator: Locator, now_ms: u64) {
        let slack = self.touch_slack_ms;
        if let Some(Stored::Live(record)) = self.sessions.get_mut(&locator)
            // What is over stays over, whoever comes late.
            && !is_over(record, slack, now_ms)
        {
            record.last_access_ms = record.last_access_ms.max(now_ms);
        }
    }

    /// See [`crate::store::SessionStore::sweep`].
    pub fn sweep(&mut self, limit: u32, hold_ms: Option<u64>, now_ms: u64) -> Swept {
        // An owner may know of a later access than a server that lost some, and put its copy back.
        if self.grace_ms(now_ms).is_some() {
            return Swept::default();
        }
        let ended = self.end_what_is_over(limit, now_ms);
        let due = self.untold.iter().filter(|(_, untold)| untold.from_ms <= now_ms);
        let due: Vec<Locator> = due.map(|(locator, _)| *locator).take(limit as usize).collect();
        let more = ended.max(due.len()) >= limit as usize;
        let handed = due.iter().filter_map(|locator| self.hand_out(locator, hold_ms, now_ms));
        Swept { expired: handed.collect(), more }
    }

    fn end_what_is_over(&mut self, limit: u32, now_ms: u64) -> usize {
        let slack = self.touch_slack_ms;
        let over: Vec<Locator> = self
            .sessions
            .iter()
            .filter(|(_, stored)| match stored {
                Stored::Live(record) => is_over(record, slack, now_ms),
                Stored::Ended(tombstone) => tombstone.until_ms <= now_ms,
            })
            .map(|(locator, _)| *locator)
            .take(limit as usize)
            .collect();
        for locator in &over {
            if let Some(Stored::Live(record)) = self.sessions.remove(locator) {
                let expired = Expired::of(*locator, &record, slack, now_ms);
                self.keep_to_tell(expired, &record, now_ms);
                self.take_off_roll(*locator, &record);
            }
        }
        over.len()
    }

    fn hand_out(
        &mut self,
        locator: &Locator,
        hold_ms: Option<u64>,
        now_ms: u64,
    ) -> Option<Expired> {
        let Some(hold_ms) = hold_ms else {
            return self.untold.remove(locator).map(|untold| untold.expired);
        };
        let untold = self.untold.get_mut(locator)?;
        let expired = untold.expired.clone();
        untold.expired.again = true;
        untold.from_ms = now_ms.saturating_add(hold_ms);
        Some(expired)
    }

    /// See [`crate::store::SessionStore::acknowledge`].
    pub fn acknowledge(&mut self, locator: Locator) {
        self.untold.remove(&locator);
    }

    /// Says how long nobody can claim, ms; notices a changed identity of the server.
    fn grace_ms(&mut self, now_ms: u64) -> Option<u64> {
        self.leases.claim_gate(&self.server_id, self.lease_ms, now_ms).err()
    }
}

fn is_fence_of(record: &Record, fence: &Fence) -> bool {
    record.epoch == fence.epoch && record.owner.as_ref() == Some(&fence.token)
}

/// Says whether the session ran out of time. The deadline itself is already too late.
#[must_use]
pub fn is_over(record: &Record, touch_slack_ms: u64, now_ms: u64) -> bool {
    let idle_until =
        record.last_access_ms.saturating_add(record.idle_ms).saturating_add(touch_slack_ms);
    now_ms >= record.absolute_ms || now_ms >= idle_until
}

/// Carries a change out on a record; an attribute that is both set and removed is removed.
pub fn apply(record: &mut Record, change: &Change) {
    if !change.set.is_empty() || !change.remove.is_empty() {
        let attributes: &mut Attributes = Arc::make_mut(&mut record.attributes);
        attributes.extend(change.set.iter().cloned());
        for name in &change.remove {
            attributes.remove(name);
        }
    }
    if let Some(user) = &change.user {
        record.user.clone_from(user);
    }
    if let Some(secret) = change.secret {
        record.secret = secret;
    }
    if let Some(previous) = change.previous_secret {
        record.previous_secret = previous;
    }
    if let Some(absolute_ms) = change.absolute_ms {
        record.absolute_ms = absolute_ms;
    }
    if let Some(idle_ms) = change.idle_ms {
        record.idle_ms = idle_ms;
    }
    if let Some(recent) = &change.recent {
        record.recent.clone_from(recent);
    }
    for (mark, text) in &change.marks {
        record.unknown.insert(mark.field().to_owned(), text.clone());
    }
    if let Some(seal) = &change.seal {
        record.seal.clone_from(seal);
    }
}
