//! Loads that go on though nobody waits for them: a bounded number of each region at a time, so that one whose values cannot be
//! loaded takes nothing from others. They are carried out by a supervised task and end with it, and it ends with the node.
//!
//! Nothing waits here to be begun: what finds no room is loaded by whoever asks for it, or not at all.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tracing::{Instrument, Span, warn};

use super::core::Core;
use super::report::BackgroundReport;
use crate::supervise::{Stopped, Supervised, spawn};
use crate::trace::{self, Origin, TraceContext};
use crate::traced_span;

/// How many loads of a region may be under way on a node while nobody waits.
pub(super) const MOST: usize = 32;

/// A load.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There is a value.
    Done,
    /// Not now: another node loads it, or it is being changed, or Redis did not say.
    PutOff,
    /// There is none.
    Failed,
}

/// Those of a region on a node.
pub(super) struct Loads {
    room: Arc<Semaphore>,
    /// To the task that carries them out, where there is one.
    queue: OnceLock<mpsc::Sender<Work>>,
    done: AtomicU64,
    put_off: AtomicU64,
    failed: AtomicU64,
    no_room: AtomicU64,
}

impl Loads {
    pub(super) fn new() -> Self {
        Self {
            room: Arc::new(Semaphore::new(MOST)),
            queue: OnceLock::new(),
            done: AtomicU64::new(0),
            put_off: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            no_room: AtomicU64::new(0),
        }
    }

    /// Finds room for one more; there is none where nobody carries them out.
    pub(super) fn room(&self) -> Option<Room> {
        let queue = self.queue.get().filter(|queue| !queue.is_closed())?;
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            self.no_room.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        Some(Room { queue: queue.clone(), permit })
    }

    pub(super) fn report(&self) -> BackgroundReport {
        let under_way = MOST.saturating_sub(self.room.available_permits());
        BackgroundReport {
            under_way: under_way as u64,
            done: self.done.load(Ordering::Relaxed),
            put_off: self.put_off.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            no_room: self.no_room.load(Ordering::Relaxed),
        }
    }

    fn count(&self, end: End) {
        let count = match end {
            End::Done => &self.done,
            End::PutOff => &self.put_off,
            End::Failed => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Room for a load.
pub(super) struct Room {
    queue: mpsc::Sender<Work>,
    permit: OwnedSemaphorePermit,
}

impl Room {
    /// Has a load carried out.
    pub(super) fn take_up(
        self,
        core: &Arc<Core>,
        load: impl Future<Output = End> + Send + 'static,
    ) {
        let Self { queue, permit } = self;
        let (core, trace) = (Arc::clone(core), TraceContext::current());
        let work: Work = Box::pin(async move {
            // The last that goes: who sees the room finds the load counted.
            let _permit = permit;
            let mut ending = Ending { core, end: End::Failed };
            let span = span_of(ending.core.region.name(), trace);
            ending.end = load.instrument(span).await;
        });
        // There is a place for each that has room. If nobody takes it, since the node ends, who waits for it hears of that.
        queue.try_send(work).ok();
    }
}

/// Counts how a load ended: also one that panics, or is given up since the node ends.
struct Ending {
    core: Arc<Core>,
    end: End,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.core.loads.count(self.end);
    }
}

/// In the trace of who asked first, but no part of its span: that ends before.
fn span_of(region: &'static str, trace: Option<TraceContext>) -> Span {
    let span = traced_span!("cache.load", cache.region = region);
    if let Some(trace) = trace {
        trace::place(&span, Origin::Continues(trace));
    }
    span
}

/// Begins to carry out those of a region, on the current runtime; to be called once.
pub(super) fn start(core: &Core) -> Supervised {
    let (queue, incoming) = mpsc::channel::<Work>(MOST);
    core.loads.queue.set(queue).ok();
    let incoming = Arc::new(Mutex::new(incoming));
    spawn("cache.loads", move || carry_out(Arc::clone(&incoming)))
}

async fn carry_out(incoming: Arc<Mutex<mpsc::Receiver<Work>>>) -> Stopped {
    let mut incoming = incoming.lock().await;
    // Those that are in here end when this does.
    let mut under_way = JoinSet::<()>::new();
    loop {
        tokio::select! {
            work = incoming.recv() => match work {
                Some(work) => drop(under_way.spawn(work)),
                None => return Stopped::Drained,
            },
            Some(ended) = under_way.join_next(), if !under_way.is_empty() => {
                // What it said was logged where it happened.
                if ended.is_err_and(|error| error.is_panic()) {
                    warn!("loading a cached value panicked");
                }
            }
        }
    }
}
