//! Packets within one process: embedded mode, and several nodes in one test.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;

use super::core::{BusCore, Delivered, Transport};
use crate::ids::NodeId;

/// Where the buses of one process meet; a cheap clone.
#[derive(Clone, Default)]
pub struct LocalHub {
    nodes: Arc<DashMap<NodeId, Weak<BusCore>>>,
}

impl LocalHub {
    /// Makes a hub that nobody has joined.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn join(&self, node: NodeId) -> Arc<BusCore> {
        let nodes = self.nodes.clone();
        let targets = Arc::new(move || {
            let living = nodes.iter().filter(|entry| entry.value().strong_count() > 0);
            living.map(|entry| entry.key().clone()).collect()
        });
        let core = Arc::new(BusCore::new(node.clone(), Box::new(self.clone()), targets));
        core.heard_itself();
        self.nodes.insert(node, Arc::downgrade(&core));
        core
    }
}

#[async_trait]
impl Transport for LocalHub {
    async fn deliver(&self, to: &NodeId, packet: Bytes) -> Delivered {
        let core = self.nodes.get(to).and_then(|entry| entry.value().upgrade());
        match core {
            Some(core) => {
                core.receive(&packet);
                Delivered::Taken
            }
            None => Delivered::NobodyThere,
        }
    }
}

impl std::fmt::Debug for LocalHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalHub({} nodes)", self.nodes.len())
    }
}
