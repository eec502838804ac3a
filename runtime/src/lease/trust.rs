//! What a reply, a silence or a jump of a clock means for the trust in a lease: decisions without I/O.
//!
//! The lease actor feeds it; the model checker of sessions drives the very same functions.

use std::time::Duration;

use super::Renewed;
use super::board::{LeaseStamp, boot_ms, margin};
use crate::clock::BootInstant;

/// The trust of one node in its lease of one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseTrust {
    ttl: Duration,
    margin: Duration,
    server_id: Option<String>,
    stamp: LeaseStamp,
    valid_until: Option<BootInstant>,
    last_sent: Option<BootInstant>,
    /// The store's clock minus the boot clock lies within, ms.
    offset: Option<(i64, i64)>,
    evicted: bool,
}

/// What a reply changed. The stamp must become visible before the time until when it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustChange {
    /// The lease had a gap: others may have claimed what this node held.
    pub gap: bool,
    /// The store is another than before: it may have lost writes. Never set by the first reply.
    pub rid_changed: bool,
    /// The lease was still trusted when the reply came, so what this node knew then was true.
    pub was_valid: bool,
    /// Under which stamp the lease goes on.
    pub stamp: LeaseStamp,
    /// Until when, unless it is renewed; `None`: not at all.
    pub valid_until: Option<BootInstant>,
}

impl LeaseTrust {
    /// Begins without a lease.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            margin: margin(ttl),
            server_id: None,
            stamp: LeaseStamp::default(),
            valid_until: None,
            last_sent: None,
            offset: None,
            evicted: false,
        }
    }

    /// Notes that a renewal goes out now; what it returns belongs to the reply. Rule R4 counts from this moment.
    #[must_use]
    pub fn on_send(&self, now: BootInstant) -> BootInstant {
        now
    }

    /// Judges the reply to the renewal sent at `sent_at`.
    ///
    /// - R4: the lease holds from the sending, less a margin; a reply never shortens it.
    /// - R5: a reply that comes after the end, or a store that says the lease had run out there, is a gap.
    /// - R6: another store is noted; by itself it is no gap, since the new store forgot the lease, not the node.
    pub fn on_reply(
        &mut self,
        sent_at: BootInstant,
        renewed: &Renewed,
        now: BootInstant,
    ) -> TrustChange {
        let was_valid = self.is_valid(now);
        if self.last_sent.is_some_and(|last| sent_at < last) {
            return self.unchanged(was_valid); // overtaken by a later one
        }
        self.last_sent = Some(sent_at);
        if renewed.evicted {
            self.evicted = true;
            self.valid_until = None;
            return self.unchanged(was_valid);
        }
        let first = self.server_id.is_none();
        let other = self.server_id.as_deref() != Some(renewed.server_id.as_str());
        if other {
            self.server_id = Some(renewed.server_id.clone());
            self.stamp.rid_epoch += 1;
            self.offset = None; // another machine, another clock
        }
        let jumped = self.offset_jumped(sent_at, renewed.now_ms, now);
        let gap = !was_valid || jumped || (!other && !renewed.continuous);
        if gap {
            self.stamp.generation += 1;
        }
        let granted = (sent_at + self.ttl).saturating_sub(self.margin);
        self.valid_until = Some(self.valid_until.map_or(granted, |end| end.max(granted)));
        TrustChange { gap, rid_changed: other && !first, ..self.unchanged(was_valid) }
    }

    /// Notes that a clock jumped by more than the margin: whatever was measured with it is worthless (R4).
    pub fn on_clock_jump(&mut self, now: BootInstant) -> TrustChange {
        let was_valid = self.is_valid(now);
        self.valid_until = None;
        self.stamp.generation += 1;
        TrustChange { gap: true, ..self.unchanged(was_valid) }
    }

    /// Gives the lease up for good, before it is dropped at the store.
    pub fn give_up(&mut self) {
        self.evicted = true;
        self.valid_until = None;
    }

    /// Returns the stamp of the lease, or `None` when it has lapsed.
    #[must_use]
    pub fn current(&self, now: BootInstant) -> Option<LeaseStamp> {
        self.is_valid(now).then_some(self.stamp)
    }

    /// Whether this node was put out, or gave up: it must not renew again.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.evicted
    }

    /// Returns the identity of the store at the last reply.
    #[must_use]
    pub fn server_id(&self) -> Option<&str> {
        self.server_id.as_deref()
    }

    /// Returns the store's clock minus the boot clock, ms, as well as it is known.
    #[must_use]
    pub fn offset_ms(&self) -> Option<i64> {
        self.offset.map(|(low, high)| i64::midpoint(low, high))
    }

    fn is_valid(&self, now: BootInstant) -> bool {
        !self.evicted && self.valid_until.is_some_and(|end| now < end)
    }

    fn unchanged(&self, was_valid: bool) -> TrustChange {
        TrustChange {
            gap: false,
            rid_changed: false,
            was_valid,
            stamp: self.stamp,
            valid_until: self.valid_until,
        }
    }

    /// The store read its clock somewhere between sending and reply; two such spans of one server must meet.
    fn offset_jumped(&mut self, sent_at: BootInstant, server_ms: u64, now: BootInstant) -> bool {
        let offset = |at| signed(server_ms).saturating_sub(signed(boot_ms(at)));
        let (low, high) = (offset(now), offset(sent_at) + 1);
        let margin = i64::try_from(self.margin.as_millis()).unwrap_or(i64::MAX);
        if self.offset.is_some() && high - low > margin {
            return false; // so slow that it says nothing
        }
        let before = self.offset.replace((low, high));
        before.is_some_and(|(old_low, old_high)| low > old_high + margin || high < old_low - margin)
    }
}

/// Watches this machine's wall clock against its boot clock: a machine that was frozen together with its boot clock
/// is found out when somebody sets its wall clock right (R4).
#[derive(Debug, Clone, Default)]
pub struct ClockWatch {
    wall_minus_boot: Option<i64>,
}

impl ClockWatch {
    /// Compares both clocks; returns whether one jumped by more than `margin` since the last call.
    pub fn jumped(&mut self, now: BootInstant, wall_ms: u64, margin: Duration) -> bool {
        let offset = signed(wall_ms) - signed(boot_ms(now));
        let before = self.wall_minus_boot.replace(offset);
        before.is_some_and(|before| u128::from(offset.abs_diff(before)) > margin.as_millis())
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
