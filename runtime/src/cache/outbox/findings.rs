//! What an operator should know of the outbox.

use std::time::Duration;

use super::Outbox;
use crate::cache::Caches;
use crate::finding::{Finding, Severity};
use crate::service::Health;

/// For how long one row may wait.
const STUCK: Duration = Duration::from_secs(10);
/// For how long nobody may listen: a connection that was lost is there again before, as a rule.
const DEAF: Duration = Duration::from_secs(3);

impl Caches {
    /// Says how the cache is on this node: it never makes a node not ready, since it only loads more where it knows less.
    pub(crate) fn health(&self) -> Health {
        let found = self.findings();
        if found.is_empty() {
            return Health::Ready;
        }
        let texts: Vec<&str> = found.iter().map(|finding| &*finding.text).collect();
        Health::Degraded(texts.join("; "))
    }

    /// Says what is wrong with telling what transactions and other programs changed, as seen from this node.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let (outbox, now) = (&self.inner.outbox, self.inner.clock.now());
        let mut found = Vec::new();
        if Outbox::is_since(&outbox.stuck, STUCK, now) {
            found.push(Finding::new(
                Severity::Warning,
                "cache_outbox_stuck",
                "what a transaction changed has not been told to the cache for 10 s: its old value may still be given",
                "look at Redis and the database; it is told as soon as both answer, and DELETE /v1/caches empties the cache at once",
            ));
        }
        if Outbox::is_since(&outbox.deaf, DEAF, now) {
            found.push(Finding::new(
                Severity::Warning,
                "cache_bridge_lost",
                "changes that other programs make in tables with a trigger are looked for once a second, since nobody can listen to them",
                "look whether PostgreSQL has room for connections, and whether a pooler before it lets nobody LISTEN; nodes try again by themselves",
            ));
        }
        found
    }
}
