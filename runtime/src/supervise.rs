//! Keeps background tasks running: a task that ends or panics is started again after a pause that grows.
//!
//! A stop reason is a value and is logged here, once. actix restarts no actor after a panic, and tokio none of its
//! tasks, so everything that must not die silently runs under [`spawn`]. [`tasks`] says how often it had to be.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dashmap::DashMap;
use futures_util::FutureExt;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{Instrument, debug, info_span, warn};

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

/// Of the whole process, by name: a process is one node.
static TASKS: LazyLock<DashMap<&'static str, Arc<Count>>> = LazyLock::new(DashMap::new);

#[derive(Debug, Default)]
struct Count {
    running: AtomicU64,
    restarts: AtomicU64,
}

/// A task that runs, or waits to be started again; ends when dropped.
struct Running(Arc<Count>);

impl Running {
    fn begin(name: &'static str) -> Self {
        let count = Arc::clone(TASKS.entry(name).or_default().value());
        count.running.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }

    fn count_restart(&self) {
        self.0.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How the background tasks of one name are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The name.
    pub name: String,
    /// How many run, or wait to be started again.
    pub running: u64,
    /// How often one failed or panicked, and was started again.
    pub restarts: u64,
}

/// Says how the background tasks of this process are, by name.
#[must_use]
pub fn tasks() -> Vec<TaskReport> {
    let tasks = TASKS.iter().map(|task| TaskReport {
        name: (*task.key()).to_owned(),
        running: task.value().running.load(Ordering::Relaxed),
        restarts: task.value().restarts.load(Ordering::Relaxed),
    });
    let mut tasks: Vec<TaskReport> = tasks.collect();
    tasks.sort_by(|one, other| one.name.cmp(&other.name));
    tasks
}

/// A task that ran this long is taken to have worked: its next failure counts as the first.
const WORKED: Duration = Duration::from_secs(60);

/// A supervised task; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "the task ends when this is dropped"]
pub struct Supervised {
    task: JoinHandle<()>,
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.task.abort();
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
    let running = Running::begin(name);
    let supervisor = async move {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let stopped = run_once(task()).await;
            if stopped.is_final() {
                debug!(task.name = name, reason = %stopped, "background task stopped");
                return;
            }
            if began.elapsed() >= WORKED {
                backoff.reset();
            }
            running.count_restart();
            metrics::counter!("understudy_task_restarts_total", "task" => name).increment(1);
            let pause = backoff.pause();
            let restart_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            warn!(task.name = name, reason = %stopped, restart_ms, "background task is started again");
            sleep(pause).await;
        }
    };
    let span = info_span!("task.run", task.name = name);
    Supervised { task: tokio::spawn(supervisor.instrument(span)) }
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

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
            tasks().into_iter().find(|task| task.name == "fails-twice").unwrap().restarts;
        assert_eq!(restarts, 2);
        drop(task);
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_task_ends_with_its_handle() {
        let alive = Arc::new(());
        let task = spawn("ends-with-its-handle", {
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
        let name = "ends-with-its-handle";
        let known = tasks().into_iter().find(|task| task.name == name).unwrap();
        assert_eq!((known.running, known.restarts), (0, 0));
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
