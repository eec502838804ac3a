//! Options that are changed while the cluster runs, on all nodes at once, and that outlive it: the log filter,
//! whether the log can be followed, the maintenance mode, and whatever else [`KNOWN`] lists.
//!
//! They are rows in the database. Every node has them in memory, reads them again every few seconds, and at once when
//! another node says that one changed; a change is answered when all living nodes have said that it is in force on them,
//! and names those that have not. While the database is away what was read last stays in force.
//!
//! A setting may go back by itself. When is decided by the database's clock and carried over as a remaining time, so that
//! a node with a wrong clock goes back with the others, and does so while the database is away.
//!
//! A setting of a newer program is kept and passed over, and so is a value that this program does not understand.
//!
//! To add one, put it into [`KNOWN`], and either follow it with [`Settings::follow`] or let it be applied with
//! [`Settings::applies`], which is done before a change is answered.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify, watch};
use tracing::{info, warn};

use crate::broadcast::Broadcast;
use crate::bus::BusRequest;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::database::{Database, DatabaseError};
use crate::error::chain;
use crate::events::{EventKind, Events};
use crate::ids::NodeId;
use crate::node::Lifecycle;
use crate::supervise::{Backoff, Stopped, Supervised, spawn};

mod board;
mod known;
mod store;
#[cfg(test)]
mod tests;

pub use board::{Board, StoredSetting};
pub use known::{KNOWN, KnownSetting, LOG_FILTER, LOG_TAIL, MAINTENANCE};

use store::Store;

/// How often the settings are read again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The settings as this node knows them; a cheap clone.
#[derive(Clone)]
pub struct Settings {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    clock: SharedClock,
    store: Store,
    broadcast: Broadcast,
    events: Events,
    /// Of each of [`KNOWN`].
    defaults: Vec<Arc<str>>,
    board: ArcSwap<Board>,
    /// What is in force on this node, of each of [`KNOWN`].
    values: Vec<watch::Sender<Arc<str>>>,
    effects: ArcSwap<Vec<Effect>>,
    /// Changes with every new board.
    revisions: watch::Sender<i64>,
    /// Held while the database is asked: of two readings the later one counts.
    reading: Mutex<()>,
    /// Held while what is in force is worked out, which takes no time.
    applying: Mutex<()>,
    look_now: Notify,
    failing: AtomicBool,
}

/// What is done when a setting changes.
#[derive(Clone)]
struct Effect {
    setting: usize,
    apply: Arc<dyn Fn(&str) + Send + Sync>,
}

/// What [`Settings`] are made of.
#[derive(Debug)]
pub(crate) struct SettingsTools {
    pub(crate) node: NodeId,
    pub(crate) clock: SharedClock,
    pub(crate) database: Database,
    pub(crate) broadcast: Broadcast,
    pub(crate) events: Events,
}

/// A change that somebody makes.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which setting.
    pub name: &'static str,
    /// Of which node; empty for all.
    pub node: String,
    /// To what; `None` takes it back to what it is without anybody's doing.
    pub value: Option<String>,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub why: String,
    /// After how long it goes back by itself.
    pub lasts: Option<Duration>,
    /// Only when the setting has this revision; 0: when it is as it is without anybody's doing.
    pub only_at: Option<i64>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// How often settings were changed in this cluster so far.
    pub revision: i64,
    /// The nodes that have not said that the change is in force on them. They will know within seconds of being able to
    /// read the database.
    pub unreachable: Vec<String>,
}

/// A change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The setting has another revision than the one that was named.
    #[error("the setting was changed: it has revision {0}")]
    Changed(i64),
    /// The database is away or refuses.
    #[error("the setting could not be written")]
    Database(#[from] DatabaseError),
}

/// Says that a setting changed; answered with whether it is in force.
#[derive(Debug, Serialize, Deserialize)]
struct SettingsChanged {
    revision: i64,
}

impl BusRequest for SettingsChanged {
    const NAME: &'static str = "settings.changed";
    type Reply = bool;
}

impl Settings {
    /// Makes the settings of a node, as they are without anybody's doing; [`start`](Self::start) reads them.
    pub(crate) fn new(config: &Config, tools: SettingsTools) -> Self {
        let defaults: Vec<Arc<str>> =
            KNOWN.iter().map(|known| (known.default)(config).into()).collect();
        let values =
            defaults.iter().map(|default| watch::Sender::new(Arc::clone(default))).collect();
        let inner = Inner {
            node: tools.node,
            clock: tools.clock,
            store: Store::new(tools.database),
            broadcast: tools.broadcast,
            events: tools.events,
            defaults,
            board: ArcSwap::default(),
            values,
            effects: ArcSwap::default(),
            revisions: watch::Sender::new(0),
            reading: Mutex::new(()),
            applying: Mutex::new(()),
            look_now: Notify::new(),
            failing: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns what was read last.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        self.inner.board.load_full()
    }

    /// Returns how often settings were changed in this cluster, as far as this node knows.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.inner.board.load().revision()
    }

    /// Returns what is in force on this node.
    #[must_use]
    pub fn value(&self, setting: &KnownSetting) -> Arc<str> {
        Arc::clone(&self.inner.values[setting.number()].borrow())
    }

    /// Returns what a setting is without anybody's doing.
    #[must_use]
    pub fn default_of(&self, setting: &KnownSetting) -> Arc<str> {
        Arc::clone(&self.inner.defaults[setting.number()])
    }

    /// Returns the row that decides what is in force on this node; `None` when the setting is as it is without anybody's
    /// doing.
    #[must_use]
    pub fn decided_by(&self, setting: &KnownSetting) -> Option<StoredSetting> {
        let board = self.inner.board.load();
        board.decides(setting, self.inner.node.name().as_str(), self.inner.clock.now()).cloned()
    }

    /// Returns all rows that count at this moment, those of other nodes and of newer programs among them.
    #[must_use]
    pub fn stored(&self) -> Vec<StoredSetting> {
        self.inner.board.load().in_force(self.inner.clock.now()).cloned().collect()
    }

    /// Follows what is in force on this node; the receiver also sees the value of this moment.
    #[must_use]
    pub fn follow(&self, setting: &KnownSetting) -> watch::Receiver<Arc<str>> {
        self.inner.values[setting.number()].subscribe()
    }

    /// Applies a setting: at once, and whenever it changes, before the change is answered. `apply` must be quick.
    pub fn applies(&self, setting: &KnownSetting, apply: impl Fn(&str) + Send + Sync + 'static) {
        let effect = Effect { setting: setting.number(), apply: Arc::new(apply) };
        self.inner.effects.rcu(|effects| {
            let mut effects = Vec::clone(effects);
            effects.push(effect.clone());
            effects
        });
        // A change in between was applied before what is applied here: then once more.
        loop {
            let value = self.value(setting);
            (effect.apply)(&value);
            if value == self.value(setting) {
                return;
            }
        }
    }

    /// Makes a change; returns when all living nodes have said that it is in force, or had the time of a broadcast. The
    /// value must have been [checked](KnownSetting::check).
    ///
    /// # Errors
    /// [`ChangeError`]; after a retryable one of the database it may have been made, and will then be in force.
    pub async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        let revision = self.inner.store.change(&change).await?;
        let told = self.inner.broadcast.ask(&SettingsChanged { revision }).await;
        let unaware = told.answers.iter().filter(|answer| answer.result != Ok(true));
        let mut unreachable: Vec<String> =
            unaware.map(|answer| answer.node.name().as_str().to_owned()).collect();
        unreachable.extend(self.inner.broadcast.unasked(&told));
        for node in &unreachable {
            warn!(
                node,
                setting = change.name,
                "a node has not said that it knows of a changed setting"
            );
        }
        Ok(Changed { revision, unreachable })
    }

    /// Reads the settings, however long that takes, and keeps them fresh from then on.
    pub(crate) async fn start(&self, lifecycle: &Lifecycle) -> Result<Supervised, DatabaseError> {
        // Before the first reading: what changes after it is heard of.
        self.listen();
        lifecycle.waits_for("settings", "reading the settings");
        let mut backoff = Backoff::default();
        while let Err(error) = self.look(0).await {
            if !error.is_retryable() {
                return Err(error);
            }
            lifecycle.waits_for("settings", chain(&error));
            tokio::time::sleep(backoff.pause()).await;
        }
        let settings = self.clone();
        Ok(spawn("settings", move || {
            let settings = settings.clone();
            async move {
                // Beside each other: a database that does not answer must not keep anything in force.
                tokio::join!(settings.look_for_ever(), settings.end_for_ever());
                Stopped::Asked
            }
        }))
    }

    fn listen(&self) {
        let asked = Arc::downgrade(&self.inner);
        self.inner.broadcast.handle(move |_from, SettingsChanged { revision }| {
            let settings = asked.upgrade().map(|inner| Self { inner });
            async move {
                let Some(settings) = settings else { return false };
                match settings.look(revision).await {
                    Ok(known) => known >= revision,
                    Err(_) => false,
                }
            }
        });
        let gap = Arc::downgrade(&self.inner);
        self.inner.broadcast.on_gap(move || {
            if let Some(inner) = gap.upgrade() {
                inner.look_now.notify_one();
            }
        });
    }

    async fn look_for_ever(&self) {
        loop {
            // Early when messages may have been lost.
            tokio::time::timeout(LOOK_AGAIN, self.inner.look_now.notified()).await.ok();
            self.look(0).await.ok();
        }
    }

    /// Reads the settings unless this revision is known already; returns which one is known now. Logs the first failure
    /// in a row.
    async fn look(&self, wanted: i64) -> Result<i64, DatabaseError> {
        let inner = &self.inner;
        let _one_at_a_time = inner.reading.lock().await;
        if wanted > 0 && self.revision() >= wanted {
            return Ok(self.revision());
        }
        let asked_at = inner.clock.now();
        match inner.store.read(asked_at).await {
            Ok(board) => {
                if inner.failing.swap(false, Ordering::Relaxed) {
                    info!("the settings can be read again");
                }
                self.take(board).await;
                Ok(self.revision())
            }
            Err(error) => {
                if !inner.failing.swap(true, Ordering::Relaxed) {
                    warn!(
                        error = chain(&error),
                        "the settings cannot be read; those known stay in force"
                    );
                }
                Err(error)
            }
        }
    }

    async fn take(&self, board: Board) {
        let changed = *self.inner.board.load_full() != board;
        let revision = board.revision();
        self.inner.board.store(Arc::new(board));
        self.apply().await;
        if changed {
            self.inner.revisions.send_replace(revision);
            self.inner.events.send(EventKind::Settings);
        }
    }

    /// Ends what has an end.
    async fn end_for_ever(&self) {
        let mut revisions = self.inner.revisions.subscribe();
        loop {
            let now = self.inner.clock.now();
            let next = self.inner.board.load().next_end(now);
            let wait = next.map_or(LOOK_AGAIN, |end| end.saturating_duration_since(now));
            // The sender lives as long as self; a timer may be early by a moment, so it is looked at again.
            tokio::time::timeout(wait.min(LOOK_AGAIN), revisions.changed()).await.ok();
            if self.apply().await {
                self.inner.events.send(EventKind::Settings);
            }
        }
    }

    /// Works out what is in force now, and lets it have its effect; returns whether anything is other than before.
    async fn apply(&self) -> bool {
        let inner = &self.inner;
        let _one_at_a_time = inner.applying.lock().await;
        let (board, now) = (inner.board.load_full(), inner.clock.now());
        let mut any = false;
        for (number, known) in KNOWN.iter().enumerate() {
            let stored = board.decides(known, inner.node.name().as_str(), now);
            let value = match stored {
                Some(stored) => Arc::clone(&stored.value),
                None => Arc::clone(&inner.defaults[number]),
            };
            let changed = inner.values[number].send_if_modified(|shown| {
                let changed = *shown != value;
                shown.clone_from(&value);
                changed
            });
            if changed {
                any = true;
                let by = stored.map(|stored| stored.by.as_str());
                let why = stored.map(|stored| stored.why.as_str());
                info!(setting = known.name, value = &*value, by, why, "a setting is in force");
                for effect in inner.effects.load().iter().filter(|one| one.setting == number) {
                    (effect.apply)(&value);
                }
            }
        }
        any
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("revision", &self.revision()).finish_non_exhaustive()
    }
}
