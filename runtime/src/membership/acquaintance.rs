//! Whom this node has met, so that after the loss of the list it can still name everybody who may trust a lease.

use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;

use super::record::Entry;
use crate::clock::BootInstant;
use crate::ids::NodeId;

/// Everybody seen on the list lately, also those who are not on it any more: a list that was lost looks like one
/// that everybody left.
#[derive(Debug)]
pub(super) struct Acquaintance {
    own: NodeId,
    ttl: Duration,
    /// The longest time between two lists that leaves no doubt; shorter than the ttl by more than a round trip.
    steady: Duration,
    /// When each was last seen on the list.
    met: DashMap<NodeId, BootInstant>,
    spans: ArcSwap<Spans>,
}

/// The last two spans of time in which the list was read steadily.
#[derive(Debug, Clone, Copy, Default)]
struct Spans {
    /// The one before the last pause, which may be the outage after which somebody wants to know.
    before: Option<Span>,
    present: Option<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    since: BootInstant,
    last: BootInstant,
}

/// A node that was not seen for so long cannot trust a lease any more: many times what one lasts.
const FORGET_AFTER: u32 = 20;

impl Acquaintance {
    pub(super) fn new(own: NodeId, ttl: Duration, heartbeat: Duration) -> Self {
        Self {
            own,
            ttl,
            steady: (ttl * 2 / 3).max(heartbeat).min(ttl),
            met: DashMap::new(),
            spans: ArcSwap::default(),
        }
    }

    /// Notes a list that was asked for at `read_at`; returns whether it shows somebody new. Called by one task only.
    pub(super) fn read<'a>(
        &self,
        entries: impl Iterator<Item = &'a Entry>,
        read_at: BootInstant,
    ) -> bool {
        let mut spans = **self.spans.load();
        match &mut spans.present {
            Some(span) if read_at.saturating_duration_since(span.last) <= self.steady => {
                span.last = read_at
            }
            ended => {
                spans.before = ended.replace(Span { since: read_at, last: read_at });
            }
        }
        let mut somebody_new = false;
        for entry in entries.filter(|entry| entry.record.id != self.own) {
            somebody_new |= self.met.insert(entry.record.id.clone(), read_at).is_none();
        }
        let horizon = read_at.saturating_sub(self.ttl * FORGET_AFTER);
        self.met.retain(|_, last| *last >= horizon);
        self.spans.store(spans.into());
        somebody_new
    }

    /// Returns all others, if the list was read steadily for two times to live, until now or until an outage began
    /// that has lasted no longer than [`FORGET_AFTER`] times to live.
    ///
    /// Why that is enough: a node trusts no lease before each node that is alive has reported a list that shows it.
    /// So who is missing here can only have come while this node was cut off, and then another node knows it, will
    /// name it, and is itself awaited by this one. What remains is that *all* nodes known here were cut off at once,
    /// an unknown one began meanwhile, and the server lost its memory before that one could renew again; GUARANTEES.md
    /// says so. Without this an outage longer than a lease would always cost a whole grace on top.
    pub(super) fn others(&self, now: BootInstant) -> Option<Vec<NodeId>> {
        let spans = self.spans.load();
        let sure = |span: Option<Span>| {
            span.is_some_and(|span| {
                now.saturating_duration_since(span.last) < self.ttl * FORGET_AFTER
                    && span.last.saturating_duration_since(span.since) >= self.ttl * 2
            })
        };
        let complete = sure(spans.present) || sure(spans.before);
        complete.then(|| self.met.iter().map(|met| met.key().clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::record_for_test;
    use super::*;
    use crate::ids::Incarnation;

    const TTL: Duration = Duration::from_secs(3);

    fn at(ms: u64) -> BootInstant {
        BootInstant::from_nanos(ms * 1_000_000)
    }

    fn id(name: &str) -> NodeId {
        NodeId::new(name.parse().unwrap(), Incarnation::from_u64(1))
    }

    fn entry(name: &str) -> Entry {
        let record = record_for_test(id(name));
        Entry { seen_ms: 0, view_ms: 0, record }
    }

    #[test]
    fn only_a_list_that_was_read_steadily_is_complete() {
        let met = Acquaintance::new(id("a"), TTL, Duration::from_secs(1));
        let list = [entry("a"), entry("b")];
        for second in 10..16 {
            assert_eq!(met.others(at(second * 1000)), None, "a new process cannot be sure");
            met.read(list.iter(), at(second * 1000));
        }
        met.read(list.iter(), at(16_000));
        assert_eq!(met.others(at(16_500)), Some(vec![id("b")]));
        assert_eq!(met.others(at(75_999)), Some(vec![id("b")]), "an outage of less than a minute");
        assert_eq!(met.others(at(76_000)), None, "too old");
        met.read(list.iter(), at(19_000)); // after a pause of three seconds
        assert_eq!(met.others(at(19_100)), Some(vec![id("b")]), "it was steady before");
        met.read(list.iter(), at(25_000));
        assert_eq!(met.others(at(25_100)), None, "steady neither now nor before the last pause");
    }

    #[test]
    fn an_outage_does_not_make_a_node_forget_what_it_just_knew() {
        let met = Acquaintance::new(id("a"), TTL, Duration::from_secs(1));
        for second in 10..20 {
            met.read([entry("a"), entry("b")].iter(), at(second * 1000));
        }
        met.read([entry("a")].iter(), at(21_500)); // the first list after 2.5 s, by a server that lost the old one
        assert_eq!(met.others(at(21_600)), Some(vec![id("b")]));
        assert_eq!(met.others(at(79_000)), None, "too long ago");
    }

    #[test]
    fn who_vanished_with_the_list_is_still_awaited() {
        let met = Acquaintance::new(id("a"), TTL, Duration::from_secs(1));
        for second in 10..20 {
            met.read([entry("a"), entry("b")].iter(), at(second * 1000));
        }
        let mut new = met.read([entry("a")].iter(), at(20_000));
        assert!(!new);
        assert_eq!(met.others(at(20_000)), Some(vec![id("b")]));
        for second in 21..90 {
            new |= met.read([entry("a")].iter(), at(second * 1000));
        }
        assert_eq!((met.others(at(89_000)), new), (Some(vec![]), false));
        assert!(met.read([entry("c")].iter(), at(90_000)));
    }
}
