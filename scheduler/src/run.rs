//! One run of a job: its states, and what is known of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for a node that may start it.
    Queued,
    /// A node runs it.
    Running,
    /// An attempt failed, or its node died; the next attempt waits.
    Retrying,
    /// It succeeded.
    Completed,
    /// It failed, and there is no further attempt.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It never started: a job before it in its chain failed, or no node could start it in time.
    Skipped,
    /// Its node died, and it may not be repeated.
    Lost,
    /// Its nodes died again and again; it may be what kills them.
    Dead,
    /// The handler cannot read its parameters: they are of another version.
    Incompatible,
}

impl RunState {
    /// All states.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Running,
        Self::Retrying,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Skipped,
        Self::Lost,
        Self::Dead,
        Self::Incompatible,
    ];

    /// Returns the name, the same in the database, JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Lost => "lost",
            Self::Dead => "dead",
            Self::Incompatible => "incompatible",
        }
    }

    /// Whether nothing more happens to it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Retrying)
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one of queued, running, retrying, completed, failed, cancelled, skipped, lost, dead, incompatible"
)]
pub struct UnknownState;

impl FromStr for RunState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}

/// Why there is a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its due time came.
    Schedule,
    /// Somebody started it.
    Manual,
    /// The application put it into the queue.
    Task,
    /// The job before it in a chain ended.
    Chain,
    /// Somebody asked for due times of the past.
    Backfill,
}

impl Cause {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual => "manual",
            Self::Task => "task",
            Self::Chain => "chain",
            Self::Backfill => "backfill",
        }
    }
}

/// The number of a run, unique in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What a job may hand to other systems so that they can refuse a start that came too late: it grows with every
/// leader, and within a leader with every attempt of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fence {
    /// The epoch of the leader that claimed the due time; for runs that need no leader, the epoch that was in force when
    /// they were asked for, 0 if nobody had led yet.
    pub epoch: u64,
    /// The run.
    pub run: RunId,
    /// Which attempt, from 1.
    pub attempt: u32,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.run, self.attempt)
    }
}

/// The jobs that follow a run, kept with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chain {
    /// Those that still come, in their order.
    pub(crate) rest: Vec<crate::spec::JobName>,
    /// What becomes of them when this one fails.
    pub(crate) on_failure: crate::spec::OnFailure,
    /// The run that began the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<RunId>,
}
