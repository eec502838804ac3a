//! What is told of actors, to operators and from node to node.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ActorType;
use super::slowest::{Entry, micros};

/// How the actors of one type on one node are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActorReport {
    /// The name of the type.
    #[serde(rename = "type")]
    pub of: String,
    /// What one of them does.
    pub meaning: String,
    /// How many there are.
    pub live: u64,
    /// How many messages wait for them.
    pub waiting: u64,
    /// How many of those wait for one actor, the one that most wait for.
    pub waiting_max: u64,
    /// How many messages were handled since the node began.
    pub handled: u64,
    /// How long half of the messages of the last one to two minutes took at most, ms.
    pub p50_ms: f64,
    /// How long 99 of 100 of them took at most, ms.
    pub p99_ms: f64,
    /// How long the slowest of them took, ms.
    pub max_ms: f64,
    /// How many actors were lost in a panic since the node began.
    pub restarts: u64,
    /// What to do instead of stopping one; none where one can be stopped by itself.
    pub instead: Option<String>,
}

impl ActorReport {
    pub(super) fn of(of: &'static ActorType) -> Self {
        Self {
            of: of.name.to_owned(),
            meaning: of.meaning.to_owned(),
            live: 0,
            waiting: 0,
            waiting_max: 0,
            handled: 0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            max_ms: 0.0,
            restarts: 0,
            instead: of.instead.map(str::to_owned),
        }
    }

    pub(super) fn times(&mut self, half: Duration, most: Duration, longest: Duration) {
        (self.p50_ms, self.p99_ms, self.max_ms) = (ms(half), ms(most), ms(longest));
    }
}

/// A message that took long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlowMessage {
    /// The name of the actor's type.
    #[serde(rename = "type")]
    pub of: String,
    /// Which of them, by the name that it has in logs; none where there is one on a node.
    pub actor: Option<String>,
    /// What kind of message it was.
    pub message: String,
    /// How long it took, ms.
    pub took_ms: f64,
    /// When it was done, ms since 1970.
    pub at_ms: u64,
}

impl SlowMessage {
    pub(super) fn of(of: &'static ActorType, entry: &Entry) -> Self {
        Self {
            of: of.name.to_owned(),
            actor: entry.actor.clone(),
            message: entry.message.to_owned(),
            took_ms: ms(entry.took),
            at_ms: entry.at_ms,
        }
    }
}

/// Milliseconds with three digits behind the point.
fn ms(duration: Duration) -> f64 {
    // More than an hour is told as an hour: nothing waits so long.
    f64::from(u32::try_from(micros(duration)).unwrap_or(u32::MAX)) / 1_000.0
}
