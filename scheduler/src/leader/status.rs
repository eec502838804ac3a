//! What others may know about leading: the states, the reasons for an end, and the report for operators.

use std::fmt;

use serde::Serialize;
use understudy_runtime::clock::BootInstant;
use understudy_runtime::ids::NodeId;

/// What a node is, as to leading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaderPhase {
    /// It waits for its turn, or does not want one.
    #[default]
    Standby,
    /// It has the lease and asks the database for an epoch.
    Acquired,
    /// It leads.
    Leading,
    /// It gives up the lease.
    Resigning,
    /// Its term ended against its will; it gives up what may be left of the lease.
    Fenced,
    /// It ends and will not lead again.
    Stopped,
}

/// Why a term ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The lease could not be renewed in time.
    SelfFenced,
    /// A claim found a later epoch in the database.
    StaleEpoch,
    /// The lease is another node's.
    LostLease,
    /// The node ends.
    Resigned,
    /// An operator asked for it.
    SteppedDown,
    /// A node with a higher priority asked for it.
    HandedOver,
    /// The database could not be reached.
    DatabaseAway,
}

impl EndReason {
    /// Returns the reason as it is written in logs and in the history.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SelfFenced => "self_fenced",
            Self::StaleEpoch => "stale_epoch",
            Self::LostLease => "lost_lease",
            Self::Resigned => "resigned",
            Self::SteppedDown => "stepped_down",
            Self::HandedOver => "handed_over",
            Self::DatabaseAway => "database_away",
        }
    }
}

impl EndReason {
    /// Whether the term was taken away, so that another node may have led before this one knew.
    #[must_use]
    pub fn is_fenced(self) -> bool {
        matches!(self, Self::SelfFenced | Self::StaleEpoch | Self::LostLease)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What changes rarely enough to be followed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaderState {
    /// What this node is.
    pub phase: LeaderPhase,
    /// In which epoch it leads, if it does.
    pub epoch: Option<u64>,
    /// Since when it is that.
    pub since: BootInstant,
    /// Who has the lease as far as this node knows, itself included.
    pub leader: Option<NodeId>,
    /// Why this node's last term ended, if it had one.
    pub last_end: Option<EndReason>,
}

/// Who leads and since when, as one node knows it; for operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaderStatus {
    /// What this node is.
    pub state: LeaderPhase,
    /// Who has the lease; `null` while nobody is known to.
    pub leader: Option<NodeId>,
    /// The epoch of the term; only the leader itself knows it.
    pub epoch: Option<u64>,
    /// Since when this node is in its state, ms since 1970 by its own clock.
    pub since_ms: i64,
    /// For how long the lease is good unless it is renewed, ms: the leader counts the margin off, the others do not.
    pub expires_in_ms: Option<i64>,
    /// The node that tells this.
    pub this: NodeId,
    /// Whether it may lead at all.
    pub eligible: bool,
    /// Its priority.
    pub priority: i32,
    /// Whether it does not lead because of maintenance.
    pub maintenance: bool,
    /// Whether leadership stays where it is unless its holder fails.
    pub frozen: bool,
    /// Until when this node does not lead because it was told so or had to step down, ms since 1970.
    pub hold_until_ms: Option<i64>,
    /// Why the store of the lease cannot be used; `null` when it can.
    pub trouble: Option<String>,
}
