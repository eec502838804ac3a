//! The connections of this node, by what they listen to, and how they are woken.

use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use understudy_runtime::bus::{Bus, BusRequest, Targets};
use understudy_runtime::node::{Lifecycle, Phase};
use understudy_runtime::service::NodeContext;

use super::event::SessionEvent;
use super::log::{Log, RedisLog};
use super::{MOST_STREAMS, Topic};
use crate::sealing::SealRing;
use crate::store::StoreError;

/// Most streams that one message names.
const AT_ONCE: usize = 1_000;

/// Tells that there is something new in streams, or that sessions may be over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct News {
    topics: Vec<Topic>,
}

impl BusRequest for News {
    const NAME: &'static str = "session.told";
    type Reply = ();
}

/// Tells, and knows who listens on this node; a cheap clone.
#[derive(Clone)]
pub(crate) struct Realtime(Arc<Hub>);

struct Hub {
    lines: DashMap<Topic, Line>,
    log: Log,
    bus: Bus,
    /// The nodes that live.
    nodes: Targets,
    lifecycle: Lifecycle,
}

/// Those who listen to one stream.
struct Line {
    /// Changes when they are to look.
    rings: watch::Sender<()>,
    /// How many they are.
    held: usize,
}

impl Realtime {
    /// Makes that of a node.
    pub(crate) fn of(node: &NodeContext) -> Self {
        let log = match &node.redis {
            Some(redis) => {
                let cluster = node.config.cluster.name.as_str();
                let ring = SealRing::new(&node.config.session.encryption, cluster);
                Log::Redis(RedisLog::new(redis.clone(), Arc::clone(&node.keys), ring))
            }
            None => Log::in_memory(Arc::clone(&node.clock)),
        };
        let membership = node.membership.clone();
        let nodes: Targets = Arc::new(move || membership.live());
        Self::new(log, node.bus.clone(), nodes, node.lifecycle.clone())
    }

    fn new(log: Log, bus: Bus, nodes: Targets, lifecycle: Lifecycle) -> Self {
        let hub = Hub { lines: DashMap::new(), log, bus, nodes, lifecycle };
        let realtime = Self(Arc::new(hub));
        let woken = Arc::downgrade(&realtime.0);
        realtime.0.bus.on_gap(move || {
            if let Some(hub) = woken.upgrade() {
                hub.wake_all();
            }
        });
        realtime
    }

    /// Makes that of a node on its own, for tests.
    #[cfg(test)]
    pub(crate) fn alone(bus: Bus, clock: understudy_runtime::clock::SharedClock) -> Self {
        Self::new(
            Log::in_memory(clock),
            bus,
            Arc::new(Vec::<understudy_runtime::ids::NodeId>::new),
            Lifecycle::starting(),
        )
    }

    /// Keeps an event and wakes whoever listens, on all nodes.
    pub(crate) async fn tell(&self, topic: Topic, event: &SessionEvent) -> Result<(), StoreError> {
        self.0.log.append(&topic, event).await?;
        metrics::counter!("session_events_total").increment(1);
        self.wake_everywhere(vec![topic]);
        Ok(())
    }

    /// Has whoever listens look, on all nodes; does not wait for any of them.
    pub(crate) fn wake_everywhere(&self, topics: Vec<Topic>) {
        let hub = &*self.0;
        self.wake(&topics);
        let nodes = (hub.nodes)();
        let others: Vec<_> = nodes.into_iter().filter(|node| node != hub.bus.node_id()).collect();
        if others.is_empty() {
            return;
        }
        let mut rest = topics;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(AT_ONCE));
            let news = News { topics: rest };
            for node in &others {
                hub.bus.send(node, &news);
            }
            rest = later;
        }
    }

    /// Does what [`News`] asks for.
    pub(crate) fn hear(&self, news: &News) {
        self.wake(&news.topics);
    }

    fn wake(&self, topics: &[Topic]) {
        for topic in topics {
            if let Some(line) = self.0.lines.get(topic) {
                line.rings.send_replace(());
            }
        }
    }

    pub(super) fn log(&self) -> &Log {
        &self.0.log
    }

    /// Says whether connections should go to another node.
    pub(super) fn is_leaving(&self) -> bool {
        self.0.lifecycle.is_leaving()
    }

    /// Waits until they should.
    pub(super) async fn leaving(&self) {
        let mut drained = self.0.lifecycle.subscribe_drained();
        let out = async {
            // Fails only when the sender is gone, and it lives as long as self.
            drained.wait_for(Option::is_some).await.ok();
        };
        tokio::select! {
            () = self.0.lifecycle.reached(Phase::Draining) => {}
            () = out => {}
        }
    }

    /// Listens to a stream from now on; `None` when the session has as many connections here as it may.
    pub(super) fn hold(&self, topic: Topic) -> Option<Held> {
        let begin = || Line { rings: watch::Sender::new(()), held: 0 };
        let mut line = self.0.lines.entry(topic.clone()).or_insert_with(begin);
        let is_session = matches!(topic, Topic::Session(_));
        if is_session && line.held >= MOST_STREAMS {
            return None;
        }
        line.held += 1;
        let woken = line.rings.subscribe();
        drop(line);
        if is_session {
            metrics::gauge!("session_streams").increment(1.0);
        }
        Some(Held { hub: Arc::clone(&self.0), topic, woken })
    }
}

impl Hub {
    fn wake_all(&self) {
        for line in &self.lines {
            line.rings.send_replace(());
        }
    }
}

/// One who listens to a stream; until it is dropped.
pub(super) struct Held {
    hub: Arc<Hub>,
    topic: Topic,
    woken: watch::Receiver<()>,
}

impl Held {
    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Waits until it is woken; not for what it was woken for before.
    pub(super) async fn woken(&mut self) {
        if self.woken.changed().await.is_err() {
            // Never: the sender stays as long as somebody holds the line.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hub.lines.remove_if_mut(&self.topic, |_, line| {
            line.held -= 1;
            line.held == 0
        });
        if matches!(self.topic, Topic::Session(_)) {
            metrics::gauge!("session_streams").decrement(1.0);
        }
    }
}

impl fmt::Debug for Realtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Realtime").field("lines", &self.0.lines.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}
