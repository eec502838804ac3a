//! What a standby knows of the lease, and from when on it may take it.
//!
//! The lease in the store may vanish although its holder lives: the store was restarted empty, failed over, or was told
//! to delete it. The holder puts it back with its next renewal, at most one time to live after its last. So the question
//! is always: until when could the holder have renewed?
//!
//! - The lease was seen, the connection held, and now it is past the end that was seen: it ran out. Free at once.
//! - It is gone *before* that end: forgotten. The holder may have renewed just before, so it is free one time to live
//!   after it was first missed.
//! - It is past that end, but there was no answer, or another connection, since it was seen: the store may have forgotten
//!   a later renewal at the moment the connection broke. Free one time to live after the break.
//! - Its holder said that it gave it up: free at once, and as long as that is news. Later another may have taken it and the
//!   store have forgotten that one: free one time to live after.
//! - Never seen at all by this process: free at once. A cluster that starts must not wait; a node that starts in the very
//!   moment in which the store forgets may therefore take over from a living leader, and the epoch tells the two apart.

use std::time::Duration;

use understudy_runtime::clock::BootInstant;
use understudy_runtime::ids::NodeId;

use super::{Held, LeaseValue};

/// For how long after it is free a release is news: others bid for it in the meantime.
const NEWS: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Sight {
    this: NodeId,
    ttl: Duration,
    /// Who was seen last, until it is known to be gone.
    seen: Option<Seen>,
    /// Since when the lease is missed, and whether that was before its end.
    missed: Option<Missed>,
    /// Since when it is not sure that the store remembers.
    doubt_since: Option<BootInstant>,
    released: Option<Released>,
    /// Who had it before: a message of its end that comes late means nothing.
    replaced: Option<LeaseValue>,
}

#[derive(Debug)]
struct Seen {
    value: Option<LeaseValue>,
    until: BootInstant,
}

#[derive(Debug, Clone, Copy)]
struct Missed {
    since: BootInstant,
    early: bool,
}

#[derive(Debug)]
struct Released {
    value: LeaseValue,
    free_from: BootInstant,
}

impl Sight {
    pub(super) fn new(this: NodeId, ttl: Duration) -> Self {
        let (seen, missed, doubt_since, released, replaced) = Default::default();
        Self { this, ttl, seen, missed, doubt_since, released, replaced }
    }

    /// The lease was seen at `at`. Counting from when the answer came makes its end late, never early.
    pub(super) fn held(&mut self, at: BootInstant, held: &Held) {
        if let Some(released) = &self.released {
            if held.holder.as_ref() == Some(&released.value) {
                return; // an answer that is older than the message
            }
            self.released = None;
        }
        let until = at + held.remaining.unwrap_or(self.ttl);
        let before = self.seen.replace(Seen { value: held.holder.clone(), until });
        let before = before.and_then(|seen| seen.value);
        if before.is_some() && before != held.holder {
            self.replaced = before;
        }
        (self.missed, self.doubt_since) = (None, None);
    }

    /// The store says that nobody has the lease.
    pub(super) fn absent(&mut self, at: BootInstant) {
        let early =
            self.released.is_none() && self.seen.as_ref().is_some_and(|seen| at < seen.until);
        self.missed.get_or_insert(Missed { since: at, early });
    }

    /// The store did not answer, or is reached over another connection than before.
    pub(super) fn interrupted(&mut self, at: BootInstant) {
        self.doubt_since.get_or_insert(at);
        if let Some(released) = self.released.take() {
            // Others may have come and gone unseen.
            self.seen = Some(Seen { value: None, until: released.free_from });
        }
    }

    /// Drops a release that nobody acted upon.
    pub(super) fn forget_old_news(&mut self, now: BootInstant) {
        let free_from = self.released.as_ref().map(|released| released.free_from);
        if let Some(free_from) = free_from.filter(|free_from| *free_from + NEWS < now) {
            self.interrupted(free_from);
        }
    }

    /// The lease was given up; returns whether that is news.
    pub(super) fn released(&mut self, value: LeaseValue, free_from: BootInstant) -> bool {
        if self.replaced.as_ref() == Some(&value) {
            return false;
        }
        self.released = Some(Released { value, free_from });
        self.missed = None;
        true
    }

    /// Returns from when on it is right to bid; `None`: look first.
    pub(super) fn free_from(&self) -> Option<BootInstant> {
        if let Some(released) = &self.released {
            return Some(released.free_from);
        }
        let Some(seen) = &self.seen else { return self.missed.map(|missed| missed.since) };
        if let Some(missed) = self.missed.filter(|missed| missed.early) {
            return Some(missed.since + self.ttl);
        }
        let doubt_ends = self.doubt_since.map(|since| since + self.ttl);
        Some(doubt_ends.map_or(seen.until, |end| end.max(seen.until)))
    }

    /// Whether the last answer was that nobody has the lease.
    pub(super) fn is_missed(&self) -> bool {
        self.missed.is_some()
    }

    pub(super) fn is_released(&self) -> bool {
        self.released.is_some()
    }

    /// Returns which other node has the lease, and until when.
    pub(super) fn holder(&self, now: BootInstant) -> Option<(&LeaseValue, BootInstant)> {
        if self.is_released() || self.is_missed() {
            return None;
        }
        let seen = self.seen.as_ref().filter(|seen| now < seen.until)?;
        let value = seen.value.as_ref().filter(|value| *value.node() != self.this)?;
        Some((value, seen.until))
    }
}
