//! The lease table of one bucket as the store keeps it: the exact meaning of the scripts, without I/O.
//!
//! The memory store runs on it, the model checker of sessions drives it, and a test compares it with the Lua
//! scripts on a real Redis, step by step.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Settled;
use crate::ids::NodeId;

/// All leases of one bucket. Times are ms of the store's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseTable {
    server_id: Option<String>,
    grace_until_ms: u64,
    nodes: BTreeMap<NodeId, Entry>,
    settled: BTreeSet<NodeId>,
    awaited: BTreeSet<NodeId>,
    contributed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Entry {
    Until(u64),
    Evicted,
}

/// Answer of [`LeaseTable::renew`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RenewReply {
    /// The lease runs until now + ttl; `continuous` says whether it had not run out before.
    Renewed {
        /// Whether the table held a live lease of this node until now.
        continuous: bool,
    },
    /// The node was put out; nothing changed.
    Evicted,
}

impl LeaseTable {
    /// Makes an empty table, as it is before anything was asked of it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Extends the lease of `node` to `now_ms + ttl_ms`; begins a grace if the server is another than before.
    pub fn renew(
        &mut self,
        server_id: &str,
        node: &NodeId,
        ttl_ms: u64,
        now_ms: u64,
    ) -> RenewReply {
        let evicted = self.nodes.get(node) == Some(&Entry::Evicted);
        self.meet(server_id, ttl_ms, now_ms);
        if evicted {
            self.nodes.insert(node.clone(), Entry::Evicted);
            return RenewReply::Evicted;
        }
        let continuous = self.live_for(node, now_ms).is_some();
        if !continuous {
            // What has run out means the same as what is not there: this is when the dead are swept.
            self.nodes.retain(|_, entry| match entry {
                Entry::Until(deadline) => *deadline > now_ms,
                Entry::Evicted => true,
            });
        }
        self.nodes.insert(node.clone(), Entry::Until(now_ms + ttl_ms));
        RenewReply::Renewed { continuous }
    }

    /// Notes that `node` is done with what the change to this server asked of it, and awaits `awaited`; ends the grace
    /// when nobody is awaited any more. `server_id` is the server that `node` means: it must be the one of this table,
    /// and `node` must hold a live lease of it.
    pub fn settle(
        &mut self,
        server_id: &str,
        node: &NodeId,
        awaited: &[NodeId],
        now_ms: u64,
    ) -> Settled {
        if self.server_id.as_deref() != Some(server_id) || self.live_for(node, now_ms).is_none() {
            return Settled::OtherServer;
        }
        if self.grace_until_ms <= now_ms {
            return Settled::Open;
        }
        self.contributed = true;
        self.mark_settled(node);
        let missing = awaited.iter().filter(|other| !self.settled.contains(*other));
        self.awaited.extend(missing.cloned());
        self.lift_if_complete(now_ms);
        match self.grace_until_ms.saturating_sub(now_ms) {
            0 => Settled::Open,
            remaining_ms => Settled::Waiting { remaining_ms },
        }
    }

    /// Removes the lease of a node that no longer trusts it.
    pub fn drop_node(&mut self, node: &NodeId, now_ms: u64) {
        if self.nodes.get(node) == Some(&Entry::Evicted) {
            return;
        }
        self.nodes.remove(node);
        if self.grace_until_ms > now_ms {
            self.mark_settled(node);
            self.lift_if_complete(now_ms);
        }
    }

    /// Puts a node out for good: it can never renew again, and all it owned can be claimed at once.
    pub fn evict(&mut self, node: &NodeId) {
        self.nodes.insert(node.clone(), Entry::Evicted);
    }

    /// Asks whether anything may be claimed; begins a grace if the server is another than before, as a claim must.
    ///
    /// # Errors
    /// The ms for which nobody may claim, more than 0.
    pub fn claim_gate(&mut self, server_id: &str, ttl_ms: u64, now_ms: u64) -> Result<(), u64> {
        self.meet(server_id, ttl_ms, now_ms);
        match self.grace_until_ms.saturating_sub(now_ms) {
            0 => Ok(()),
            remaining => Err(remaining),
        }
    }

    /// Returns for how many ms the lease of `node` is live, or `None` when it has none.
    #[must_use]
    pub fn live_for(&self, node: &NodeId, now_ms: u64) -> Option<u64> {
        match self.nodes.get(node)? {
            Entry::Until(deadline) if *deadline > now_ms => Some(deadline - now_ms),
            Entry::Until(_) | Entry::Evicted => None,
        }
    }

    /// Returns for how many ms nobody may claim; 0 when the grace is over.
    #[must_use]
    pub fn grace_remaining(&self, now_ms: u64) -> u64 {
        self.grace_until_ms.saturating_sub(now_ms)
    }

    /// Begins anew when the server is another than the one that wrote the table.
    fn meet(&mut self, server_id: &str, ttl_ms: u64, now_ms: u64) {
        if self.server_id.as_deref() == Some(server_id) {
            return;
        }
        *self = Self {
            server_id: Some(server_id.to_owned()),
            grace_until_ms: now_ms + ttl_ms,
            ..Self::default()
        };
    }

    fn mark_settled(&mut self, node: &NodeId) {
        self.awaited.remove(node);
        self.settled.insert(node.clone());
    }

    fn lift_if_complete(&mut self, now_ms: u64) {
        if self.contributed && self.awaited.is_empty() {
            self.grace_until_ms = now_ms;
        }
    }
}

#[cfg(test)]
mod tests;
