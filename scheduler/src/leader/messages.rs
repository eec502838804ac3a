//! What nodes say to each other about leading. Lost messages cost time, nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use understudy_runtime::bus::BusRequest;
use understudy_runtime::ids::NodeId;

use super::lease::LeaseValue;

/// The lease was given up: whoever waits for it need not wait for its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaderReleased {
    /// Which term ended.
    pub value: LeaseValue,
    /// The node for which it did; the others let it go first.
    #[serde(default)]
    pub successor: Option<NodeId>,
}

impl BusRequest for LeaderReleased {
    const NAME: &'static str = "leader.released";
    type Reply = ();
}

/// Asks the leader to give way to the sender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestHandOver {
    /// The sender's priority.
    pub priority: i32,
}

impl BusRequest for RequestHandOver {
    const NAME: &'static str = "leader.request_hand_over";
    type Reply = HandOverAnswer;
}

/// Answer to [`RequestHandOver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandOverAnswer {
    /// The lease is being given up; [`LeaderReleased`] follows.
    Agreed,
    /// Ask again later: the term is young, leadership is frozen, or was handed over a short time ago.
    NotNow {
        /// How much later, ms.
        retry_after_ms: u64,
    },
    /// Not in this term: the sender's priority is not greater.
    Never,
}

impl HandOverAnswer {
    /// Asks to come back after `wait`.
    pub(super) fn not_before(wait: Duration) -> Self {
        Self::NotNow { retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) }
    }
}
