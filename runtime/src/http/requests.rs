//! Which requests of a port are under way, and when a balancer was last told to send them elsewhere: what a node that
//! stops has to know to stop at the right moment, and what its operators may look at and end.
//!
//! Each worker keeps its own, where no other thread comes: counting costs a request one number, and its place in the list
//! no lock. Whoever wants to see the list, or to end a request, sends the worker a letter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

mod desk;

pub(crate) use desk::{Cancelling, Listing, Visit};
use desk::{Desk, Letters, Place};

use super::settings::Shared;
use crate::ids::Incarnation;

/// How often a waiting node looks again.
const LOOK: Duration = Duration::from_millis(5);
/// Requests that were sent before the balancer heard are here by then.
const HEARD: Duration = Duration::from_millis(100);
/// A balancer that watches answers leaves a node alone for at least a second (nginx: `fail_timeout=1s`, counted in whole
/// seconds). What a node does in its last moments must fit into the rest of it.
const STILL_HEEDED: Duration = Duration::from_millis(600);
/// So long without a request, nobody is about to be told.
const SILENCE: Duration = Duration::from_millis(300);

/// The requests of a port; a cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct Requests(Arc<Inner>);

/// The requests of one worker, which counts for itself: a counter that all share would travel between processors with
/// every request.
#[derive(Debug)]
pub(crate) struct WorkerRequests {
    count: Arc<Count>,
    desk: Desk,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Count(AtomicUsize);

#[derive(Debug)]
struct Inner {
    /// Of the node, so that no two processes call their requests the same.
    life: Incarnation,
    born: Instant,
    under_way: ArcSwap<Vec<Arc<Count>>>,
    /// Where the workers get their letters.
    desks: ArcSwap<Vec<Letters>>,
    /// How many workers there have been.
    worker: AtomicUsize,
    /// When the latest request of a draining node came, and when the latest was sent away: ms after `born`, plus one.
    came: AtomicU64,
    sent_away: AtomicU64,
}

/// One request under way; ends when dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Count>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

impl WorkerRequests {
    /// Counts a request until the guard is dropped.
    pub(crate) fn begin(&self) -> UnderWay {
        self.count.0.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.count))
    }

    /// Puts a request into the list until the place is dropped.
    pub(crate) fn enter(&self, visit: Visit) -> Place {
        self.desk.enter(visit)
    }

    /// Answers letters for as long as there may be any; to be run on the worker.
    pub(crate) fn read_letters(&self, settings: Shared) -> impl Future<Output = ()> + 'static {
        self.desk.read_letters(settings)
    }
}

impl Requests {
    pub(crate) fn new(life: Incarnation) -> Self {
        Self(Arc::new(Inner {
            life,
            born: Instant::now(),
            under_way: ArcSwap::default(),
            desks: ArcSwap::default(),
            worker: AtomicUsize::new(0),
            came: AtomicU64::new(0),
            sent_away: AtomicU64::new(0),
        }))
    }

    /// Begins to count for one more worker.
    pub(crate) fn worker(&self) -> WorkerRequests {
        let count = Arc::new(Count::default());
        self.0.under_way.rcu(|counts| {
            let mut counts = Vec::clone(counts);
            counts.push(Arc::clone(&count));
            counts
        });
        let number = self.0.worker.fetch_add(1, Ordering::Relaxed);
        let (desk, letters) = Desk::new(self.0.life, number);
        self.0.desks.rcu(|desks| {
            // Those of workers that are gone go.
            let mut desks: Vec<Letters> =
                desks.iter().filter(|one| one.is_read()).cloned().collect();
            desks.push(letters.clone());
            desks
        });
        WorkerRequests { count, desk }
    }

    /// Lists the requests that handlers are working on, the oldest first.
    pub(crate) async fn list(&self) -> Listing {
        desk::list(&self.0.desks.load_full()).await
    }

    /// Ends a request: its handler is dropped at its next await, and its client told so.
    pub(crate) async fn cancel(&self, id: &str) -> Cancelling {
        desk::cancel(&self.0.desks.load_full(), self.0.life, id).await
    }

    /// Notes that a request reached a draining node.
    pub(crate) fn came(&self) {
        self.0.came.store(self.now(), Ordering::Relaxed);
    }

    /// Notes that a request was sent away: its balancer leaves this node alone from now on, for a while.
    pub(crate) fn sent_away(&self) {
        self.0.sent_away.store(self.now(), Ordering::Relaxed);
    }

    /// Counts the requests that are under way now.
    pub(crate) fn count(&self) -> usize {
        self.0.under_way.load().iter().map(|count| count.0.load(Ordering::Relaxed)).sum()
    }

    /// Waits until no request is under way.
    pub(crate) async fn none_under_way(&self) {
        let is_busy = |count: &Arc<Count>| count.0.load(Ordering::Acquire) > 0;
        while self.0.under_way.load().iter().any(is_busy) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for a moment at which no balancer sends requests here: one has just been told not to, or none asks. Without
    /// it, a request that may not be repeated could be on its way when the connections are closed.
    pub(crate) async fn nobody_comes(&self) {
        let began = Instant::now();
        loop {
            let quiet = self.since(&self.0.came).unwrap_or(Duration::MAX).min(began.elapsed());
            if is_good_moment(self.since(&self.0.sent_away), quiet) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn since(&self, moment: &AtomicU64) -> Option<Duration> {
        let at = moment.load(Ordering::Relaxed);
        (at > 0).then(|| Duration::from_millis(self.now().saturating_sub(at)))
    }
}

/// Judges how long ago a request was sent away, and how long ago the latest came.
fn is_good_moment(told: Option<Duration>, quiet: Duration) -> bool {
    told.is_some_and(|since| (HEARD..=STILL_HEEDED).contains(&since)) || quiet > SILENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn o2_a_node_waits_for_the_requests_that_are_under_way() {
        let requests = Requests::new(Incarnation::random());
        let (first, second) = (requests.worker().begin(), requests.worker().begin());
        assert_eq!(requests.count(), 2);
        let mut waiting = Box::pin(requests.none_under_way());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(first);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(second);
        waiting.await;
    }

    #[test]
    fn o2_a_node_closes_soon_after_a_balancer_was_told_or_when_nobody_asks() {
        let ms = Duration::from_millis;
        for (told, quiet, closes) in [
            (Some(ms(150)), ms(0), true),
            (Some(ms(600)), ms(0), true),
            (Some(ms(20)), ms(20), false), // what was sent meanwhile may still arrive
            (Some(ms(1_500)), ms(5), false), // told long ago: it may ask again any moment
            (None, ms(5), false),          // POSTs come, which are not sent away
            (None, ms(301), true),
            (Some(ms(1_500)), ms(301), true),
        ] {
            assert_eq!(is_good_moment(told, quiet), closes, "{told:?} {quiet:?}");
        }
    }

    #[tokio::test]
    async fn o2_a_node_that_nobody_asks_waits_a_moment_only() {
        let limit = Duration::from_secs(30);
        let requests = Requests::new(Incarnation::random());
        tokio::time::timeout(limit, requests.nobody_comes()).await.unwrap();
    }
}
