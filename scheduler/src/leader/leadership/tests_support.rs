//! Moments, nodes and rules for the tests of leadership.

use super::*;

pub(super) const TTL: u64 = 6_000;
pub(super) const MARGIN: u64 = 600;

pub(super) fn at(ms: u64) -> BootInstant {
    BootInstant::from_nanos(ms * 1_000_000)
}

pub(super) fn ms(moment: BootInstant) -> u64 {
    moment.as_nanos() / 1_000_000
}

pub(super) fn node(name: &str) -> NodeId {
    format!("{name}#0000000000000001").parse().unwrap()
}

pub(super) fn rules(name: &str, priority: i32) -> LeadershipRules {
    LeadershipRules {
        node_id: node(name),
        ttl: Duration::from_millis(TTL),
        renew: Duration::from_millis(TTL / 3),
        margin: Duration::from_millis(MARGIN),
        eligible: true,
        priority,
    }
}
