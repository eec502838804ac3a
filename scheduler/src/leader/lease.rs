//! The lease of the leader: one name in a store that at most one node has at a time, for a while.
//!
//! A lease only makes it likely that one node leads; that no due time starts twice is the business of the epoch in
//! the database ([`Inauguration`](super::Inauguration)). So an implementation need not survive the loss of its
//! store's memory. What a holder may believe, and when others may take over, is decided in
//! [`Leadership`](super::Leadership), not here.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use understudy_runtime::database::DatabaseError;
use understudy_runtime::ids::{InvalidId, NodeId};
use understudy_runtime::lease::SharedError;
use understudy_runtime::redis::RedisError;

mod database;
mod fallback;
mod redis;
mod single;

pub use database::DatabaseLease;
pub use fallback::FallbackLease;
pub use redis::RedisLease;
pub use single::SingleLease;

/// Where the lease is kept. Each method is one atomic step at the store.
///
/// After [`LeaderLeaseError::Unavailable`] it is unknown whether the step happened, or still will.
#[async_trait]
pub trait LeaderLease: Send + Sync + fmt::Debug + 'static {
    /// Takes the lease for `ttl` if nobody has it. A bid whose answer was lost can be made again with the same value.
    ///
    /// # Errors
    /// [`LeaderLeaseError`].
    async fn acquire(&self, value: &LeaseValue, ttl: Duration)
    -> Result<Acquire, LeaderLeaseError>;

    /// Looks who has the lease; `None` when nobody has. Changes nothing.
    ///
    /// # Errors
    /// [`LeaderLeaseError`].
    async fn peek(&self) -> Result<Option<Held>, LeaderLeaseError>;

    /// Extends the lease to the store's now + `ttl`, or puts it back when the store lost it. To be called only by who
    /// still trusts its lease.
    ///
    /// # Errors
    /// [`LeaderLeaseError`].
    async fn renew(&self, value: &LeaseValue, ttl: Duration) -> Result<Renewal, LeaderLeaseError>;

    /// Gives the lease up; returns whether it was held under this value. Idempotent: only the first call says so.
    ///
    /// # Errors
    /// [`LeaderLeaseError`]; failing costs only time, since the lease then runs out by itself.
    async fn release(&self, value: &LeaseValue) -> Result<bool, LeaderLeaseError>;

    /// Counts the connections made so far, since a store that was lost may have forgotten; `None` where there are none.
    fn reconnects(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// Answer to [`LeaderLease::acquire`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquire {
    /// It is held under the value of the bid now.
    Won,
    /// It is not.
    Held(Held),
}

/// Answer to [`LeaderLease::renew`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// It was still held, and is for another `ttl`.
    Renewed,
    /// It had vanished, and was put back.
    Reasserted,
    /// It is somebody else's.
    Lost {
        /// Whose, as far as that can be read.
        holder: Option<LeaseValue>,
    },
}

/// Who has the lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Who; `None` when that cannot be read.
    pub holder: Option<LeaseValue>,
    /// For how long unless it is renewed; `None` when that is not known.
    pub remaining: Option<Duration>,
}

/// One term of one node, as it is written into the store: `name#incarnation:term`.
///
/// The term is drawn anew each time, so that a late renewal of an old term cannot extend a new one. The name of the
/// host is never enough: two processes may share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaseValue {
    node: NodeId,
    term: u128,
}

impl LeaseValue {
    /// Names a term of a node; `term` must be drawn at random.
    #[must_use]
    pub fn new(node: NodeId, term: u128) -> Self {
        Self { node, term }
    }

    /// Returns whose term it is.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }
}

impl fmt::Display for LeaseValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.node, self.term)
    }
}

impl FromStr for LeaseValue {
    type Err = InvalidLeaseValue;

    fn from_str(text: &str) -> Result<Self, InvalidLeaseValue> {
        // A node id holds no colon.
        let (node, term) = text.split_once(':').ok_or(InvalidLeaseValue::Form)?;
        let digits =
            term.len() == 32 && term.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let term = digits.then(|| u128::from_str_radix(term, 16).ok()).flatten();
        Ok(Self { node: node.parse()?, term: term.ok_or(InvalidLeaseValue::Form)? })
    }
}

impl TryFrom<String> for LeaseValue {
    type Error = InvalidLeaseValue;

    fn try_from(text: String) -> Result<Self, InvalidLeaseValue> {
        text.parse()
    }
}

impl From<LeaseValue> for String {
    fn from(value: LeaseValue) -> Self {
        value.to_string()
    }
}

/// A text in the store is not the value of a leader's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLeaseValue {
    /// It has another form.
    #[error("a leader's lease must be written name#incarnation:term, the term as 32 of 0-9 a-f")]
    Form,
    /// It names no node.
    #[error("a leader's lease names no node")]
    Node(#[from] InvalidId),
}

/// The store of the lease did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaderLeaseError {
    /// No answer; whether it happened is unknown.
    #[error("the store of the leader's lease does not answer")]
    Unavailable(#[source] SharedError),
    /// The store refuses, and will until an operator changes something; the text says what.
    #[error("{advice}")]
    Refused {
        /// What is wrong and how to put it right.
        advice: String,
        /// What the store said.
        #[source]
        source: SharedError,
    },
}

impl LeaderLeaseError {
    /// Whether trying again later can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Says that there was no answer within `limit`.
    pub(super) fn timed_out(limit: Duration) -> Self {
        let text = format!("no answer within {} ms", limit.as_millis());
        Self::Unavailable(Arc::new(std::io::Error::new(std::io::ErrorKind::TimedOut, text)))
    }
}

impl From<RedisError> for LeaderLeaseError {
    fn from(error: RedisError) -> Self {
        if error.is_retryable() {
            return Self::Unavailable(Arc::new(error));
        }
        let advice = match error.code() {
            Some("OOM") => {
                "redis is full (maxmemory): no leader can be elected until there is room"
            }
            Some("NOPERM") => {
                "redis refuses the lease of the leader: its ACL user must be allowed `~us:*` and scripts"
            }
            Some("NOREPLICAS") => {
                "redis takes no writes without its replicas (min-replicas-to-write): no leader can be elected"
            }
            Some("READONLY") => {
                "redis is a replica, which takes no writes: no leader can be elected"
            }
            Some(_) | None => "redis refuses the lease of the leader; see the cause",
        };
        Self::Refused { advice: advice.to_owned(), source: Arc::new(error) }
    }
}

impl From<DatabaseError> for LeaderLeaseError {
    fn from(error: DatabaseError) -> Self {
        if error.is_retryable() {
            return Self::Unavailable(Arc::new(error));
        }
        let advice = "the database refuses to keep the lease of the leader; see the cause";
        Self::Refused { advice: advice.to_owned(), source: Arc::new(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_value_tells_whose_it_is_and_differs_with_each_term() {
        let node = NodeId::begin("web-1.example".parse().unwrap());
        let value = LeaseValue::new(node.clone(), 7);
        let text = value.to_string();
        assert_eq!(text, format!("{node}:00000000000000000000000000000007"));
        assert_eq!(text.parse::<LeaseValue>().unwrap(), value);
        assert_eq!(value.node(), &node);
        assert_ne!(LeaseValue::new(node, 8), value);
    }

    #[test]
    fn what_is_no_lease_value_is_not_taken_for_one() {
        let term = "0".repeat(32);
        for bad in [
            "",
            "a",
            &format!("a:{term}"),
            &format!("a#0000000000000001{term}"),
            "a#0000000000000001:7",
            &format!("a#0000000000000001:{}A", "0".repeat(31)),
            &format!("a#0000000000000001:+{}", "0".repeat(31)),
        ] {
            assert!(bad.parse::<LeaseValue>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_says_what_an_operator_can_do() {
        let refused = |text: &str| LeaderLeaseError::from(RedisError::Rejected(text.to_owned()));
        let full = refused("OOM command not allowed when used memory > 'maxmemory'.");
        assert!(full.to_string().contains("maxmemory") && !full.is_retryable());
        assert!(refused("NOPERM this user has no permissions").to_string().contains("ACL"));
        let away = LeaderLeaseError::from(RedisError::Unavailable("gone".to_owned()));
        assert!(away.is_retryable());
    }
}
