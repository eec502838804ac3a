//! Hears from the Sentinels that another server is the primary now, and then replaces every connection of this
//! process at once. The client library asks the Sentinels only after its connection broke, and an old primary that
//! is cut off from them goes on answering for about ten seconds; what it acknowledges is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use dashmap::DashMap;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::config::Config;
use tokio::sync::broadcast::error::RecvError;

use super::AbortOnDrop;
use super::health::Health;
use super::settings::Settings;

const CHANNEL: &str = "+switch-master";
/// How long to wait before a listener that ended is started anew.
const LISTEN_AGAIN: std::time::Duration = std::time::Duration::from_millis(500);

/// The watches of this process, by service and Sentinels.
static WATCHES: LazyLock<DashMap<String, Weak<Watch>>> = LazyLock::new(DashMap::new);

struct Watch {
    service: String,
    sentinels: Vec<Config>,
    settings: Settings,
    connections: DashMap<u64, Weak<Health>>,
    next: AtomicU64,
    watching: AtomicBool,
}

/// One connection that wants to hear of a new primary.
pub(super) struct Enrolment {
    watch: Arc<Watch>,
    number: u64,
}

impl Enrolment {
    pub(super) fn join(
        service: &str,
        sentinels: Vec<Config>,
        health: &Arc<Health>,
        settings: Settings,
    ) -> Self {
        let hosts: Vec<_> = sentinels.iter().flat_map(|config| config.server.hosts()).collect();
        let mut entry = WATCHES.entry(format!("{service}@{hosts:?}")).or_default();
        let watch = entry.upgrade().unwrap_or_else(|| {
            let watch = Arc::new(Watch {
                service: service.to_owned(),
                sentinels,
                settings,
                connections: DashMap::new(),
                next: AtomicU64::new(0),
                watching: AtomicBool::new(false),
            });
            *entry = Arc::downgrade(&watch);
            watch
        });
        drop(entry);
        let number = watch.next.fetch_add(1, Ordering::Relaxed);
        watch.connections.insert(number, Arc::downgrade(health));
        Self { watch, number }
    }

    /// Takes the watch over if nobody has it: the runtime of whoever had it may be gone.
    pub(super) fn keep_watching(&self) {
        if self.watch.watching.swap(true, Ordering::AcqRel) {
            return;
        }
        let watching = Watching(Arc::downgrade(&self.watch));
        let sentinels = self.watch.sentinels.iter();
        let listeners: Vec<_> = sentinels
            .map(|sentinel| keep_listening(Arc::downgrade(&self.watch), sentinel.clone()))
            .collect();
        tokio::spawn(async move {
            let _watching = watching;
            futures_util::future::join_all(listeners).await;
        });
    }
}

impl Drop for Enrolment {
    fn drop(&mut self) {
        self.watch.connections.remove(&self.number);
    }
}

/// Kept by the task of all listeners; when it ends, whoever looks next starts another one.
struct Watching(Weak<Watch>);

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(watch) = self.0.upgrade() {
            watch.watching.store(false, Ordering::Release);
        }
    }
}

async fn keep_listening(watch: Weak<Watch>, sentinel: Config) {
    while is_wanted(&watch) {
        listen(watch.clone(), sentinel.clone()).await;
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

fn is_wanted(watch: &Weak<Watch>) -> bool {
    watch.upgrade().is_some_and(|watch| !watch.connections.is_empty())
}

async fn listen(watch: Weak<Watch>, sentinel: Config) {
    let Some(client) = watch.upgrade().map(|watch| watch.settings.client_to(sentinel)) else {
        return;
    };
    let mut messages = client.message_rx();
    let mut connects = client.reconnect_rx();
    // After both receivers, so that nothing can happen unheard.
    let _stop = AbortOnDrop(client.connect().abort_handle());
    let mut alive = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Ok(message) => switched(&watch, &message.value.as_string().unwrap_or_default()),
                // Something was missed: better one reconnection too many.
                Err(RecvError::Lagged(_)) => switched(&watch, ""),
                Err(RecvError::Closed) => return,
            },
            connected = connects.recv() => match connected {
                Ok(_) => {
                    if let Err(error) = client.subscribe(CHANNEL).await {
                        tracing::warn!(%error, "cannot listen to a sentinel");
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = alive.tick() => {
                if !is_wanted(&watch) {
                    return;
                }
            }
        }
    }
}

/// The text is `<service> <old host> <old port> <new host> <new port>`.
fn switched(watch: &Weak<Watch>, text: &str) {
    let Some(watch) = watch.upgrade() else { return };
    let service = text.split_whitespace().next();
    if service.is_some_and(|service| service != watch.service) {
        return;
    }
    tracing::info!(redis.service = %watch.service, switch = text, "another redis is the primary");
    for connection in &watch.connections {
        if let Some(health) = connection.upgrade() {
            health.ask_for_reconnect("another server is the primary");
        }
    }
}
