//! Keeps background tasks running: a task that ends or panics is started again after a pause that grows.
//!
//! A stop reason is a value and is logged here, once. actix restarts no actor after a panic, and tokio none of its
//! tasks, so everything that must not die silently runs under [`spawn`].
//!
//! What runs is noted, for operators: [`tasks`] lists it, [`counts`] sums it up by name.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::FutureExt;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{Instrument, debug, info_span, warn};

use crate::clock::{Clock as _, SystemClock};

/// The tasks of this process.
static TASKS: LazyLock<ArcSwap<Tasks>> = LazyLock::new(ArcSwap::default);

/// Tasks, in one piece: whoever looks finds each of them once.
#[derive(Debug, Clone, Default)]
struct Tasks {
    /// Those that have not been dropped, in the order in which they began.
    noted: Vec<Arc<Noted>>,
    /// How often those were started again that were dropped, by name.
    dropped: BTreeMap<&'static str, u64>,
}

/// Why a task stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It was told to, and is not started again.
    Asked,
    /// It finished what it had to do, and is not started again.
    Drained,
    /// Another node took over what it worked on; it is started again.
    Fenced,
    /// It failed; it is started again. The text is for the log.
    Failed(String),
}

impl Stopped {
    fn is_final(&self) -> bool {
        matches!(self, Self::Asked | Self::Drained)
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("asked to"),
            Self::Drained => f.write_str("drained"),
            Self::Fenced => f.write_str("fenced by another node"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// A pause that doubles from one failure to the next and has some chance in it, so that nodes do not retry in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with `first` and never exceeds `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// Returns the pause after one more failure: between half and all of what it has grown to.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = self.next.saturating_mul(2).min(self.most);
        pause.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Begins again, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }
}

/// A task that ran this long is taken to have worked: its next failure counts as the first.
const WORKED: Duration = Duration::from_secs(60);

/// How a supervised task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It is at work.
    Runs,
    /// It failed, and will be started again.
    Waits,
    /// It has done what it had to.
    Ended,
}

/// A supervised task, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: TaskState,
    /// Since when it is so, ms since 1970.
    pub since_ms: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it stopped the last time, if it did.
    pub last_stop: Option<LastStop>,
}

/// Why a task stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStop {
    /// The reason, as in the log.
    pub why: String,
    /// When, ms since 1970.
    pub at_ms: u64,
}

/// Lists the supervised tasks of this process.
#[must_use]
pub fn tasks() -> Vec<TaskReport> {
    TASKS.load().noted.iter().map(|noted| noted.report()).collect()
}

/// How the supervised tasks of one name are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCount {
    /// The name.
    pub name: String,
    /// How many run, or wait to be started again.
    pub running: u64,
    /// How often they were started again since the process began, those that were dropped among them.
    pub restarts: u64,
}

/// Sums up the supervised tasks of this process, by name.
#[must_use]
pub fn counts() -> Vec<TaskCount> {
    let none = |name: &str| TaskCount { name: name.to_owned(), running: 0, restarts: 0 };
    let known = TASKS.load_full();
    let mut counts = BTreeMap::<&str, TaskCount>::new();
    for task in &known.noted {
        let (state, _since_ms) = **task.now.load();
        let count = counts.entry(task.name).or_insert_with(|| none(task.name));
        count.running += u64::from(state != TaskState::Ended);
        count.restarts += task.restarts.load(Ordering::Relaxed);
    }
    for (&name, &restarts) in &known.dropped {
        counts.entry(name).or_insert_with(|| none(name)).restarts += restarts;
    }
    counts.into_values().collect()
}

/// What is known of one task.
#[derive(Debug)]
struct Noted {
    name: &'static str,
    restarts: AtomicU64,
    now: ArcSwap<(TaskState, u64)>,
    last_stop: ArcSwapOption<LastStop>,
}

impl Noted {
    /// Notes a task that begins.
    fn begin(name: &'static str) -> Arc<Self> {
        let noted = Arc::new(Self {
            name,
            restarts: AtomicU64::new(0),
            now: ArcSwap::from_pointee((TaskState::Runs, SystemClock.wall_ms())),
            last_stop: ArcSwapOption::empty(),
        });
        TASKS.rcu(|tasks| {
            let mut tasks = Tasks::clone(tasks);
            tasks.noted.push(Arc::clone(&noted));
            tasks
        });
        noted
    }

    fn is(&self, state: TaskState) {
        self.now.store(Arc::new((state, SystemClock.wall_ms())));
    }

    fn stopped(&self, stopped: &Stopped) {
        let stop = LastStop { why: stopped.to_string(), at_ms: SystemClock.wall_ms() };
        self.last_stop.store(Some(Arc::new(stop)));
        self.is(if stopped.is_final() { TaskState::Ended } else { TaskState::Waits });
    }

    fn starts_again(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.is(TaskState::Runs);
    }

    fn report(&self) -> TaskReport {
        let (state, since_ms) = **self.now.load();
        TaskReport {
            name: self.name.to_owned(),
            state,
            since_ms,
            restarts: self.restarts.load(Ordering::Relaxed),
            last_stop: self.last_stop.load_full().map(|stop| LastStop::clone(&stop)),
        }
    }

    /// Takes it out of the list; how often it was started again is kept.
    fn forget(self: &Arc<Self>) {
        TASKS.rcu(|tasks| {
            let mut tasks = Tasks::clone(tasks);
            tasks.noted.retain(|other| !Arc::ptr_eq(other, self));
            let restarts = self.restarts.load(Ordering::Relaxed);
            if restarts > 0 {
                *tasks.dropped.entry(self.name).or_default() += restarts;
            }
            tasks
        });
    }
}

/// A supervised task; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "the task ends when this is dropped"]
pub struct Supervised {
    task: JoinHandle<()>,
    noted: Arc<Noted>,
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.task.abort();
        self.noted.forget();
    }
}

/// Runs a task on the current runtime, and runs it again when it fails or panics.
///
/// `task` makes one run; it must take its state from where it is stored, since what a failed run held is lost.
pub fn spawn<F, T>(name: &'static str, mut task: T) -> Supervised
where
    T: FnMut() -> F + Send + 'static,
    F: Future<Output = Stopped> + Send + 'static,
{
    let noted = Noted::begin(name);
    let shown = Arc::clone(&noted);
    let supervisor = async move {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let stopped = run_once(task()).await;
            shown.stopped(&stopped);
            if stopped.is_final() {
                debug!(task.name = name, reason = %stopped, "background task stopped");
                return;
            }
            if began.elapsed() >= WORKED {
                backoff.reset();
            }
            metrics::counter!("understudy_task_restarts_total", "task" => name).increment(1);
            let pause = backoff.pause();
            let restart_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            warn!(task.name = name, reason = %stopped, restart_ms, "background task is started again");
            sleep(pause).await;
            shown.starts_again();
        }
    };
    let span = info_span!("task.run", task.name = name);
    Supervised { task: tokio::spawn(supervisor.instrument(span)), noted }
}

async fn run_once(run: impl Future<Output = Stopped>) -> Stopped {
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(stopped) => stopped,
        // What it said was logged where it happened.
        Err(_panic) => Stopped::Failed("panicked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_task_that_fails_or_panics_runs_again_until_it_is_done() {
        let runs = Arc::new(AtomicU32::new(0));
        let done = Arc::new(Notify::new());
        let task = spawn("fails-twice", {
            let (runs, done) = (Arc::clone(&runs), Arc::clone(&done));
            move || {
                let (run, done) = (runs.fetch_add(1, Ordering::SeqCst), Arc::clone(&done));
                async move {
                    match run {
                        0 => Stopped::Failed("first".to_owned()),
                        1 => panic!("second"),
                        _ => {
                            done.notify_one();
                            Stopped::Drained
                        }
                    }
                }
            }
        });
        tokio::time::timeout(Duration::from_secs(5), done.notified()).await.unwrap();
        let restarts =
            counts().into_iter().find(|task| task.name == "fails-twice").unwrap().restarts;
        assert_eq!(restarts, 2);
        drop(task);
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        let count = counts().into_iter().find(|task| task.name == "fails-twice").unwrap();
        assert_eq!((count.running, count.restarts), (0, 2), "also after it was dropped");
    }

    #[tokio::test]
    async fn a_task_ends_with_its_handle() {
        let alive = Arc::new(());
        let task = spawn("test", {
            let alive = Arc::clone(&alive);
            move || {
                let alive = Arc::clone(&alive);
                async move {
                    std::future::pending::<()>().await;
                    drop(alive);
                    Stopped::Asked
                }
            }
        });
        drop(task);
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn h3_a_task_is_listed_with_how_it_is_until_it_is_dropped() {
        let listed = || tasks().into_iter().find(|task| task.name == "listed");
        let again = Arc::new(Notify::new());
        let task = spawn("listed", {
            let (again, runs) = (Arc::clone(&again), Arc::new(AtomicU32::new(0)));
            move || {
                let (again, run) = (Arc::clone(&again), runs.fetch_add(1, Ordering::SeqCst));
                async move {
                    if run == 0 {
                        return Stopped::Failed("no space".to_owned());
                    }
                    again.notified().await;
                    Stopped::Drained
                }
            }
        });
        let state_is = async |state: TaskState| {
            while listed().is_none_or(|task| task.state != state) {
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(listed().unwrap().last_stop, None);
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, state_is(TaskState::Waits)).await.unwrap();
        assert_eq!(listed().unwrap().last_stop.unwrap().why, "no space");
        tokio::time::timeout(limit, state_is(TaskState::Runs)).await.unwrap();
        assert_eq!(listed().unwrap().restarts, 1);
        again.notify_one();
        tokio::time::timeout(limit, state_is(TaskState::Ended)).await.unwrap();
        assert_eq!(listed().unwrap().last_stop.unwrap().why, "drained");
        drop(task);
        assert_eq!(listed(), None);
    }

    #[test]
    fn pauses_grow_to_their_bound_and_begin_again() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(40));
        for most in [10, 20, 40, 40] {
            let pause = backoff.pause().as_millis();
            assert!(pause * 2 >= most && pause <= most, "{pause} of {most}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(10));
    }
}
