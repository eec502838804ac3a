//! Two duties that must not be lost with a caller that gives up: to stop waiting, and to send what others wait for.

use std::sync::{Arc, Weak};

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::BusError;
use super::core::{BusCore, Delivered};
use super::outbox::Batch;
use crate::ids::NodeId;

/// A request that waits for its answer; given up when dropped.
pub(super) struct Waiting {
    core: Weak<BusCore>,
    pub(super) id: u64,
    pub(super) answer: oneshot::Receiver<Result<Box<RawValue>, BusError>>,
}

impl Waiting {
    pub(super) fn begin(core: &Arc<BusCore>) -> Self {
        let (id, answer) = core.wait();
        Self { core: Arc::downgrade(core), id, answer }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.stop_waiting(self.id);
        }
    }
}

/// The duty to send what waits for a node; if whoever has it is dropped, a task takes it over.
pub(super) struct Sending {
    core: Arc<BusCore>,
    to: NodeId,
    done: bool,
}

impl Sending {
    pub(super) fn new(core: &Arc<BusCore>, to: &NodeId) -> Self {
        Self { core: core.clone(), to: to.clone(), done: false }
    }

    /// Sends one packet; what was collected meanwhile is left to a task, so that the caller can go on.
    pub(super) async fn send(mut self, batch: Batch) {
        self.deliver(batch).await;
        match self.core.next(&self.to) {
            Some(next) => {
                self.done = true;
                let rest = Self::new(&self.core, &self.to);
                self.core.spawn(rest.send_all(next));
            }
            None => self.done = true,
        }
    }

    pub(super) async fn send_all(mut self, first: Batch) {
        let mut batch = Some(first);
        while let Some(present) = batch {
            self.deliver(present).await;
            batch = self.core.next(&self.to);
        }
        self.done = true;
    }

    async fn deliver(&self, batch: Batch) {
        let mut delivered = self.core.deliver(&self.to, batch.packet.clone()).await;
        // Such as on a connection that is just being replaced: whoever waits would wait in vain, to the end of its time.
        if batch.is_repeatable && matches!(delivered, Delivered::Unknown) {
            delivered = self.core.deliver(&self.to, batch.packet).await;
        }
        self.core.delivered(&batch.requests, delivered);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // The caller gave up while its packet was on its way: the packet goes its way, the rest needs somebody.
        if let Some(next) = self.core.next(&self.to) {
            let rest = Self::new(&self.core, &self.to);
            self.core.spawn(rest.send_all(next));
        }
    }
}
