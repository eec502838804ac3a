//! What the actors of a node do: how many there are of each type, what waits for them, how long their messages take, and
//! which were the slowest. One registry for each node; `GET /v1/actors` and the metrics are made from it.
//!
//! Whoever has actors takes a [`Probe`] for its type, one for each thread, and writes into it. A message costs one number
//! that no other thread writes, and a look at two more; what has to be worked out is worked out when somebody looks.
//! Nothing of it decides anything, and it is gone with the process.
//!
//! What is told of a message is what kind it was and, where an actor is one of many, its name for logs; never what was in
//! it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::{BootInstant, SharedClock, SystemClock};

mod histogram;
mod mailbox;
mod report;
mod slowest;

use histogram::{Histogram, Tally};
use slowest::{Entry, Slowest};

pub use mailbox::{Mailbox, WeakMailbox};
pub use report::{ActorReport, SlowMessage};

/// How long a window of times is. What is told is those of the present window and of the one before.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// For how long a slow message is remembered.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// A type of actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActorType {
    /// Its name, the same on every node: `a-z _`.
    pub name: &'static str,
    /// What one of them does, in one sentence without a full stop.
    pub meaning: &'static str,
    /// What to do instead of stopping one; none where one can be stopped by itself.
    pub instead: Option<&'static str>,
}

/// The actors of a node; a cheap clone.
#[derive(Clone)]
pub struct Actors(Arc<Registry>);

struct Registry {
    clock: SharedClock,
    parts: ArcSwap<Vec<Arc<Part>>>,
}

/// Where the actors of one type on one thread write what they do; a cheap clone.
#[derive(Clone)]
pub struct Probe {
    part: Arc<Part>,
    clock: SharedClock,
}

/// An actor that lives; ends when dropped.
#[derive(Debug)]
#[must_use = "the actor counts as gone when this is dropped"]
pub struct Alive(Probe);

/// A message that is being handled; done when dropped, whatever became of it.
#[derive(Debug)]
#[must_use = "the message counts as done when this is dropped"]
pub struct Handling {
    probe: Probe,
    message: &'static str,
    began: BootInstant,
    /// Whether it counts as waiting until it is done.
    waits: bool,
}

/// Counters apart from those of other threads.
#[derive(Debug)]
#[repr(align(64))]
struct Part {
    of: &'static ActorType,
    live: AtomicU64,
    lost: AtomicU64,
    /// Messages that were put into a mailbox, and that were taken out of it.
    handed: AtomicU64,
    taken: AtomicU64,
    /// What waits, where that is counted elsewhere: in all, and for the one actor that most waits for.
    waiting: AtomicU64,
    waiting_most: AtomicU64,
    /// Messages of windows that are over.
    before: AtomicU64,
    windows: [Histogram; 2],
    present: AtomicUsize,
    slowest: Slowest,
}

impl Actors {
    /// Makes a registry without actors.
    #[must_use]
    pub fn new(clock: &SharedClock) -> Self {
        Self(Arc::new(Registry { clock: Arc::clone(clock), parts: ArcSwap::default() }))
    }

    /// Makes a place for actors of this type. One for each thread: two threads that write into one wait for each other.
    #[must_use]
    pub fn probe(&self, of: &'static ActorType) -> Probe {
        let part = Arc::new(Part::new(of));
        self.0.parts.rcu(|parts| {
            let mut parts = Vec::clone(parts);
            parts.push(Arc::clone(&part));
            parts
        });
        Probe { part, clock: Arc::clone(&self.0.clock) }
    }

    /// Finds a type by its name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'static ActorType> {
        self.types().into_iter().find(|one| one.name == name)
    }

    /// Says how the actors of each type are, by name.
    #[must_use]
    pub fn look(&self) -> Vec<ActorReport> {
        let parts = self.0.parts.load();
        let of = |name: &'static str| parts.iter().filter(move |part| part.of.name == name);
        self.types().into_iter().map(|one| report_of(one, of(one.name))).collect()
    }

    /// Lists the slowest messages of late, of one type or of all: the slowest first, 20 of each type at most.
    #[must_use]
    pub fn slowest(&self, name: Option<&str>) -> Vec<SlowMessage> {
        let parts = self.0.parts.load();
        let types = self.types().into_iter().filter(|one| name.is_none_or(|name| one.name == name));
        let mut all: Vec<SlowMessage> = Vec::new();
        for one in types {
            let lists = parts.iter().filter(|part| part.of.name == one.name);
            let lists: Vec<_> = lists.map(|part| part.slowest.list()).collect();
            let mut entries: Vec<&Entry> = lists.iter().flat_map(|list| list.iter()).collect();
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.took));
            let told = entries.into_iter().take(slowest::MOST);
            all.extend(told.map(|entry| SlowMessage::of(one, entry)));
        }
        all.sort_by(|one, other| other.took_ms.total_cmp(&one.took_ms));
        all
    }

    /// Begins another window; to be called when one is over.
    pub(crate) fn turn_over(&self) {
        let oldest = self.0.clock.now().saturating_sub(REMEMBERED);
        for part in self.0.parts.load().iter() {
            part.turn_over();
            part.slowest.forget_before(oldest);
        }
    }

    fn types(&self) -> Vec<&'static ActorType> {
        let mut types: Vec<_> = self.0.parts.load().iter().map(|part| part.of).collect();
        types.sort_unstable_by_key(|one| one.name);
        types.dedup_by_key(|one| one.name);
        types
    }
}

fn report_of<'a>(
    of: &'static ActorType,
    parts: impl Iterator<Item = &'a Arc<Part>>,
) -> ActorReport {
    let (mut tally, mut report) = (Tally::default(), ActorReport::of(of));
    let (mut before, mut handed, mut taken) = (0, 0, 0);
    for part in parts {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        report.live += read(&part.live);
        report.restarts += read(&part.lost);
        report.waiting += read(&part.waiting);
        report.waiting_max = report.waiting_max.max(read(&part.waiting_most));
        before += read(&part.before);
        // What was taken is read first: what is taken meanwhile was handed before.
        taken += read(&part.taken);
        handed += read(&part.handed);
        part.windows.iter().for_each(|window| tally.add(window));
    }
    let in_mailboxes = handed.saturating_sub(taken);
    report.waiting += in_mailboxes;
    // Where mailboxes are counted there is one.
    report.waiting_max = report.waiting_max.max(in_mailboxes);
    report.handled = before + tally.count();
    report.times(tally.quantile(500), tally.quantile(990), tally.longest());
    report
}

impl Part {
    fn new(of: &'static ActorType) -> Self {
        Self {
            of,
            live: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            handed: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            waiting_most: AtomicU64::new(0),
            before: AtomicU64::new(0),
            windows: [Histogram::default(), Histogram::default()],
            present: AtomicUsize::new(0),
            slowest: Slowest::default(),
        }
    }

    /// Only one thread does this. What is noted while it does may stand in the window before.
    fn turn_over(&self) {
        let next = 1 - self.present.load(Ordering::Relaxed);
        self.before.fetch_add(self.windows[next].clear(), Ordering::Relaxed);
        self.present.store(next, Ordering::Relaxed);
    }
}

impl Probe {
    /// Makes a place that no registry lists, for actors outside of a node.
    #[must_use]
    pub fn unlisted(of: &'static ActorType) -> Self {
        Self { part: Arc::new(Part::new(of)), clock: SystemClock::shared() }
    }

    /// Counts an actor until the guard is dropped; as lost when that happens in a panic.
    pub fn born(&self) -> Alive {
        self.part.live.fetch_add(1, Ordering::Relaxed);
        Alive(self.clone())
    }

    /// Counts an actor that was lost in a panic; the next message starts another one.
    pub fn lost(&self) {
        self.part.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message that is put into a mailbox.
    pub fn handed(&self) {
        self.part.handed.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a message out of the mailbox: it is being handled until the guard is dropped.
    pub fn take(&self, message: &'static str) -> Handling {
        self.part.taken.fetch_add(1, Ordering::Relaxed);
        self.begin(message)
    }

    /// Begins what came through no mailbox, such as a renewal that is due; it is under way until the guard is dropped.
    pub fn begin(&self, message: &'static str) -> Handling {
        Handling { probe: self.clone(), message, began: self.clock.now(), waits: false }
    }

    /// Begins a message at once, where there is no mailbox; it counts as waiting until the guard is dropped.
    pub fn accept(&self, message: &'static str) -> Handling {
        self.handed();
        let mut handling = self.begin(message);
        handling.waits = true;
        handling
    }

    /// Counts a message that was handled, and how long it took; `actor` names whose it was, and is asked only when it is one
    /// of the slowest.
    pub fn done(
        &self,
        message: &'static str,
        took: Duration,
        actor: impl FnOnce() -> Option<String>,
    ) {
        let (part, micros) = (&*self.part, slowest::micros(took));
        part.windows[part.present.load(Ordering::Relaxed)].note(micros);
        part.slowest.offer(micros, || Entry {
            message,
            took,
            at: self.clock.now(),
            at_ms: self.clock.wall_ms(),
            actor: actor(),
        });
    }

    /// Says how many actors live, and how many messages wait for them, in all and for the one that most wait for: where it
    /// is counted elsewhere.
    pub fn set_load(&self, live: usize, waiting: usize, waiting_most: usize) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.part.live.store(number(live), Ordering::Relaxed);
        self.part.waiting.store(number(waiting), Ordering::Relaxed);
        self.part.waiting_most.store(number(waiting_most), Ordering::Relaxed);
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.part.live.fetch_sub(1, Ordering::Relaxed);
        if std::thread::panicking() {
            self.0.lost();
        }
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let took = self.probe.clock.now().saturating_duration_since(self.began);
        self.probe.done(self.message, took, || None);
        if self.waits {
            self.probe.part.taken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Actors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actors").field("parts", &self.0.parts.load().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probe").field(&self.part.of.name).finish()
    }
}

#[cfg(test)]
mod tests;
