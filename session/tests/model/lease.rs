//! The lease of a node in the model; what an answer to its renewal means is decided by the real thing.

use std::sync::LazyLock;
use std::time::Duration;

use understudy_runtime::clock::BootInstant;
use understudy_runtime::lease::Renewed;
use understudy_runtime::lease::trust::LeaseTrust;

use crate::server::LEASE;

/// Until when a node trusts its lease, in ticks from now, and the server that it knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Lease {
    pub(crate) left: u8,
    pub(crate) server: u8,
}

/// An answer to a renewal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Renewal {
    /// Ticks since it was sent.
    pub(crate) age: u8,
    pub(crate) server: u8,
    pub(crate) continuous: bool,
}

/// What an answer changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) left: u8,
    pub(crate) gap: bool,
    pub(crate) other_server: bool,
}

/// Much longer than the margin of a lease, so that whole ticks are enough to tell before from after.
const TICK: Duration = Duration::from_secs(10);
const NOW: BootInstant = BootInstant::from_nanos(1_000_000_000_000_000);

/// Takes the answer to a renewal.
pub(crate) fn renewed(lease: Lease, answer: Renewal) -> Change {
    static CHANGES: LazyLock<Vec<Change>> = LazyLock::new(|| (0..64).map(judge).collect());
    let other = lease.server != answer.server;
    let bits = [u8::from(answer.continuous), u8::from(other)];
    CHANGES[usize::from(lease.left | answer.age << 2 | bits[0] << 4 | bits[1] << 5)]
}

/// Asks the real trust about one of the few cases there are.
fn judge(case: u8) -> Change {
    let (left, age) = ((case & 3).min(LEASE), (case >> 2 & 3).min(LEASE));
    let mut trust = LeaseTrust::new(TICK * LEASE.into());
    let renewal = |server: &str, continuous, at: BootInstant| Renewed {
        server_id: server.to_owned(),
        continuous,
        evicted: false,
        now_ms: at.as_nanos() / 1_000_000,
    };
    let before = NOW.saturating_sub(TICK * (LEASE - left).into());
    trust.on_reply(before, &renewal("known", true, before), before);
    let server = if case & 32 == 0 { "known" } else { "other" };
    let sent_at = NOW.saturating_sub(TICK * age.into());
    let change = trust.on_reply(sent_at, &renewal(server, case & 16 != 0, NOW), NOW);
    let left = change.valid_until.map_or(Duration::ZERO, |end| end.saturating_duration_since(NOW));
    let left = left.as_nanos().div_ceil(TICK.as_nanos()) as u8;
    Change { left, gap: change.gap, other_server: change.rid_changed }
}
