//! Packets through Redis channels.
//!
//! A subscription can be lost without a word (a failover, a slot that moved, a half-open connection). So a node
//! speaks to itself once a second; when it does not hear itself twice, it subscribes anew.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::Targets;
use super::core::{BusCore, Delivered, Transport};
use crate::ids::NodeId;
use crate::keys::KeySpace;
use crate::redis::{Incoming, Redis, RedisError, Subscription};

const ECHO_EVERY: Duration = Duration::from_secs(1);
/// Until it hears itself, a node asks more often.
const ECHO_SOON: Duration = Duration::from_millis(50);
/// A node that has not heard itself for so long, although it is connected, subscribes anew.
const DEAF_AFTER: Duration = Duration::from_millis(2500);

struct RedisTransport {
    publisher: Redis,
    keys: KeySpace,
}

#[async_trait]
impl Transport for RedisTransport {
    async fn deliver(&self, to: &NodeId, packet: Bytes) -> Delivered {
        match self.publisher.publish(&self.keys.node_channel(to), packet).await {
            Ok(0) => Delivered::NobodyThere,
            Ok(_) => Delivered::Taken,
            Err(RedisError::Rejected(reason)) => {
                tracing::warn!(%reason, node.to = %to, "redis refused a message");
                Delivered::NobodyThere
            }
            Err(RedisError::Unavailable(_) | RedisError::Protocol(_)) => Delivered::Unknown,
        }
    }
}

/// Makes the core, and the two tasks that listen and that check that it listens; they end with the core.
pub(super) fn start(
    publisher: Redis,
    subscriber: &Redis,
    keys: KeySpace,
    node: NodeId,
    targets: Targets,
) -> Arc<BusCore> {
    let channel = keys.node_channel(&node);
    let subscription = subscriber.subscribe(vec![channel.clone()]);
    let transport = RedisTransport { publisher: publisher.clone(), keys };
    let core = Arc::new(BusCore::new(node, Box::new(transport), targets));
    tokio::spawn(listen(Arc::downgrade(&core), subscription));
    tokio::spawn(echo(Arc::downgrade(&core), publisher, subscriber.clone(), channel));
    core
}

async fn listen(core: Weak<BusCore>, mut subscription: Subscription) {
    // Looks now and then whether the bus is still wanted.
    let mut wanted = tokio::time::interval(ECHO_EVERY);
    loop {
        let incoming = tokio::select! {
            biased;
            incoming = subscription.next() => Some(incoming),
            _ = wanted.tick() => None,
        };
        let Some(core) = core.upgrade() else { return };
        match incoming {
            Some(Incoming::Message { payload, .. }) => core.receive(&payload),
            Some(Incoming::Gap { lost }) => {
                if lost == 0 {
                    core.not_listening();
                }
                core.gap(lost);
            }
            None => core.forget_idle(),
        }
    }
}

async fn echo(core: Weak<BusCore>, publisher: Redis, subscriber: Redis, channel: String) {
    let mut heard_at = Instant::now();
    loop {
        let Some((packet, before)) = core.upgrade().map(|core| (core.echo(), core.echoes())) else {
            return;
        };
        // A failure is seen by what it leads to: the node does not hear itself.
        publisher.publish(&channel, packet).await.ok();
        tokio::time::sleep(ECHO_SOON).await;
        let Some(echoes) = core.upgrade().map(|core| core.echoes()) else { return };
        let connected = subscriber.is_connected() && publisher.is_connected();
        if echoes > before || !connected {
            heard_at = Instant::now();
        } else if heard_at.elapsed() > DEAF_AFTER {
            subscriber.reconnect("the node does not hear itself");
            heard_at = Instant::now();
        }
        if echoes > before {
            tokio::time::sleep(ECHO_EVERY).await;
        }
    }
}
