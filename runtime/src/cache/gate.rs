//! Tells of values of a region that are forgotten, many at a time: group commit, as writes of sessions are sent.
//!
//! Two calls at a time are under way, per region and node: while Redis works on one the node makes the next. What comes meanwhile
//! goes out together, as one script, as soon as one of them is answered; what finds a way free goes out at once. A node that forgets
//! much sends a few calls instead of thousands: beginning a script and answering it costs Redis and the client several times what
//! one more value in it does. All keys of a region lie in one slot of a Redis Cluster, so a call is one step there too. Calls are done in the
//! order in which they were sent, as a rule; nothing rests on that, for whoever makes a change waits for its beginning.
//!
//! All in a call have happened or none has, so all get the same answer, but for changes that could not be noted, since what Redis
//! has there is of another type say: those who make them are told so, and nobody else. If the answer is lost, what became of them is
//! unknown, as with any call. What waits here is sent also when whoever asked has gone or was told that it takes too long: to
//! forget once more does no harm, and not to forget may.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::notice::Notice;
use super::shared::{Shared, Step};
use crate::redis::{Redis, RedisError};
use crate::supervise::{Stopped, Supervised, spawn};

/// Calls under way: with one either side would wait for the other, and more than two take nothing off either.
const CALLS: usize = 2;
/// Most values in one call: the server does nothing else meanwhile, for about 4 microseconds each; of changes it looks at 32 at most
/// that never ended, once for each value.
const AT_ONCE: usize = 128;
/// So many go in one call though there would be enough for two: else what many forget together would be one call, see [`CALLS`].
const ENOUGH: usize = 32;
/// Bytes of keys after which a call takes no more on.
const BYTES: usize = 64 * 1024;
/// Most that wait; whoever comes then waits for a place first.
const WAITING: usize = 1_024;
/// Most changes whose end is told later.
const LATER: usize = 1_024;
/// How many of these are left to those that must be told.
const SPARE: usize = LATER - 128;

/// The way of all that is told of the values of a region.
pub(super) struct Gate {
    shared: Shared,
    queue: mpsc::Sender<Waiting>,
    /// How long a place and an answer are waited for.
    patience: Duration,
    /// Where it is: what is told later is told though the thread of whoever has it told has ended.
    runtime: Handle,
    /// Room for what is told later.
    later: Arc<Semaphore>,
    /// Sends what is in the queue; ends with the region.
    _server: Supervised,
}

/// How much it matters that something is told later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Later {
    /// Else an old value may be kept.
    Must,
    /// Else a value is kept by nobody for a while.
    May,
}

struct Waiting {
    notice: Notice,
    answer: Answer,
}

/// To whoever waits for what came of it.
type Answer = oneshot::Sender<Result<(), RedisError>>;

impl Gate {
    /// Opens that of a region; driven by the runtime this is called on.
    pub(super) fn open(shared: &Shared) -> Self {
        let (queue, incoming) = mpsc::channel::<Waiting>(WAITING);
        let incoming = Arc::new(Mutex::new(incoming));
        let patience = patience(&shared.redis);
        let sends = shared.clone();
        let server = spawn("cache.gate", move || serve(sends.clone(), Arc::clone(&incoming)));
        let (runtime, later) = (Handle::current(), Arc::new(Semaphore::new(LATER)));
        Self { shared: shared.clone(), queue, patience, runtime, later, _server: server }
    }

    /// Has something told while nobody waits for that; false where there is no room for it.
    pub(super) fn tell_later(
        &self,
        later: Later,
        telling: impl Future<Output = ()> + Send + 'static,
    ) -> bool {
        if later == Later::May && self.later.available_permits() <= SPARE {
            return false;
        }
        let Ok(room) = Arc::clone(&self.later).try_acquire_owned() else { return false };
        self.runtime.spawn(async move {
            telling.await;
            drop(room);
        });
        true
    }

    /// Tells all nodes to forget a value, with the next call that has room, and waits for the answer.
    pub(super) async fn pass(
        &self,
        key: &str,
        step: (Step, &str),
        hold: Duration,
    ) -> Result<(), RedisError> {
        let told = self.tell(self.shared.notice(key, step, hold));
        let late = |_elapsed| unavailable("it does not keep up with what is forgotten");
        timeout(self.patience, told).await.map_err(late)?
    }

    async fn tell(&self, notice: Notice) -> Result<(), RedisError> {
        let (answer, answered) = oneshot::channel();
        if self.queue.send(Waiting { notice, answer }).await.is_err() {
            return Err(unavailable("the node stops"));
        }
        // There is none if what serves here panicked.
        answered.await.unwrap_or_else(|_gone| Err(unavailable("the answer was lost")))
    }
}

/// For how long what is told is waited for: a call that is slow, and one that was under way before.
pub(super) fn patience(redis: &Redis) -> Duration {
    let limit = redis.command_timeout();
    limit + limit / 4
}

fn unavailable(why: &str) -> RedisError {
    RedisError::Unavailable(why.to_owned())
}

/// Sends calls, [`CALLS`] at a time.
async fn serve(shared: Shared, incoming: Arc<Mutex<mpsc::Receiver<Waiting>>>) -> Stopped {
    let mut incoming = incoming.lock().await;
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(()) = under_way.next() => {}
            first = incoming.recv(), if under_way.len() < CALLS => {
                // The region is gone, and nobody waits.
                let Some(first) = first else { return Stopped::Drained };
                // Whoever can go on now comes along: those who were answered just before and forget the next one, say.
                tokio::task::yield_now().await;
                under_way.push(call(&shared, gather(first, &mut incoming)));
            }
        }
    }
}

/// Makes one call, and tells all in it what came of theirs.
async fn call(shared: &Shared, together: Vec<Waiting>) {
    let (notices, answers): (Vec<Notice>, Vec<Answer>) =
        together.into_iter().map(|Waiting { notice, answer }| (notice, answer)).unzip();
    let told = shared.forget_all(notices).await;
    for (answer, told) in answers.into_iter().zip(told) {
        // Whoever asked may have gone.
        answer.send(told).ok();
    }
}

/// Takes what waits into a call, as far as there is room, and leaves enough for another one.
fn gather(first: Waiting, incoming: &mut mpsc::Receiver<Waiting>) -> Vec<Waiting> {
    let mut bytes = first.notice.bytes();
    let mut call = vec![first];
    let most = (1 + incoming.len()).div_ceil(CALLS).clamp(ENOUGH, AT_ONCE);
    while call.len() < most && bytes < BYTES {
        let Ok(next) = incoming.try_recv() else { break };
        bytes += next.notice.bytes();
        call.push(next);
    }
    call
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::LONGEST_KEY;
    use crate::keys::KeySpace;

    fn waiting(key: &str) -> Waiting {
        let keys = KeySpace::new(&"t".parse().unwrap(), 1);
        let step = (Step::Begin, "word");
        let notice = Notice::new((&keys, "prices"), key, step, Duration::from_secs(1));
        let (answer, _answered) = oneshot::channel();
        Waiting { notice, answer }
    }

    #[test]
    fn a_call_is_bounded_in_number_and_in_bytes() {
        let (queue, mut incoming) = mpsc::channel::<Waiting>(WAITING);
        let mut call = |key: &str| {
            while queue.try_send(waiting(key)).is_ok() {}
            let call = gather(waiting(key), &mut incoming);
            while incoming.try_recv().is_ok() {}
            call
        };
        let short = call("k");
        assert_eq!(short.len(), AT_ONCE);
        let long = call(&"k".repeat(LONGEST_KEY));
        let bytes: usize = long.iter().map(|waiting| waiting.notice.bytes()).sum();
        let most = BYTES + 5 * LONGEST_KEY;
        assert!((BYTES..most).contains(&bytes), "{bytes} of {} keys", long.len());
    }

    #[test]
    fn what_waits_goes_in_its_order_and_nobody_is_waited_for() {
        let (queue, mut incoming) = mpsc::channel::<Waiting>(WAITING);
        assert_eq!(gather(waiting("k"), &mut incoming).len(), 1);
        let lengths = [3, 1, 2];
        let mut waits = lengths.iter().map(|length: &usize| waiting(&"k".repeat(*length)));
        let first = waits.next().unwrap();
        for next in waits {
            assert!(queue.try_send(next).is_ok());
        }
        let call = gather(first, &mut incoming);
        let bytes: Vec<usize> = call.iter().map(|waiting| waiting.notice.bytes()).collect();
        let [three, one, two] = bytes.as_slice() else { panic!("{bytes:?}") };
        assert!(one < two && two < three, "{bytes:?}");
    }
}
