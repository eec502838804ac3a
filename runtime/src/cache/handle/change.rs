//! Changes around which a value is forgotten: before, so that nobody keeps what is not committed yet, and after.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use super::super::core::Core;
use super::super::error::{ChangeError, ForgetError};
use super::super::gate::Later;
use super::super::region::CacheKey;
use super::super::shared::Step;
use super::{Cache, checked, tell};
use crate::clock::BootInstant;
use crate::supervise::Backoff;

/// How long a change may take that a value is forgotten around.
pub const LONGEST_CHANGE: Duration = Duration::from_secs(8);
/// For how long nobody keeps what is loaded of a value whose change was begun and never ended.
pub const HOLD: Duration = Duration::from_secs(10);

/// How soon the end of a change is told again that could not be.
const AGAIN: Duration = Duration::from_millis(100);
/// How long that pause becomes at most.
const MOST: Duration = Duration::from_secs(1);

impl<K, V> Cache<K, V>
where
    K: CacheKey + ?Sized,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Makes a change, such as a transaction up to its commit, around which a value is forgotten: before it, so that nobody
    /// keeps what is not committed yet, and after it. Wherever the process dies, what was committed is seen on all nodes
    /// within [`HOLD`] and [`BOUND`](super::super::BOUND), or within [`BOUND`](super::super::BOUND) if it does not die. Where Redis
    /// is away at the end of a change that was made, this says that it was; the end is told in the background then, for [`HOLD`] at
    /// most. So it is where a change is refused since nobody knows whether its beginning was told.
    ///
    /// If the change fails nobody keeps what is loaded for [`HOLD`] either, since its error may be that of a commit whose answer
    /// was lost; so refuse what is wrong before this is called. The change has
    /// [`LONGEST_CHANGE`] at most, and is not gone on with after that. What it had begun must not be made any more then: give its
    /// statements a time limit.
    ///
    /// # Errors
    /// [`ChangeError`]. What is dropped while it waits counts as one that takes too long.
    pub async fn change_with<F, Fut, T, E>(&self, key: &K, change: F) -> Result<T, ChangeError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let key = checked(key).map_err(|bad| ChangeError::<E>::NotBegun(bad.into()))?;
        let core = &self.core;
        let word = format!("{:032x}", rand::random::<u128>());
        let asked = core.now();
        // However this ends, also by being dropped.
        let _forgotten = ForgottenHere { core, key: &key };
        if let Err(error) = tell(core, &key, (Step::Begin, word.as_str())).await {
            if error.is_retryable() {
                // It may have been noted all the same, or still will be.
                tell_later(core, &key, (Step::End, word.as_str()), Later::May);
            }
            return Err(ChangeError::NotBegun(ForgetError::Untold(error)));
        }
        // If it did not succeed it may be that the answer to a commit was lost, which is still to be carried out: the hold is
        // waited for. If it took too long, because the process stood still say, that may be over, and begins again.
        let changed = match carried_out(core, asked, change).await {
            Some(Ok(changed)) => changed,
            Some(Err(error)) => {
                if left_of(asked, core.now()).is_none() {
                    tell_at_last(core, &key, (Step::Begin, word.as_str())).await;
                }
                return Err(ChangeError::Failed(error));
            }
            None => {
                tell_at_last(core, &key, (Step::Begin, word.as_str())).await;
                return Err(ChangeError::TooLong);
            }
        };
        tell_at_last(core, &key, (Step::End, word.as_str())).await;
        Ok(changed)
    }
}

/// Forgets a value of this node at the end of a change.
struct ForgottenHere<'a> {
    core: &'a Core,
    key: &'a str,
}

impl Drop for ForgottenHere<'_> {
    fn drop(&mut self) {
        self.core.forget(self.key);
    }
}

/// Carries a change out in time, or gives it up. It is not gone on with after that: where the process has stood still, a mere limit
/// would let it do one more step first, and that may be the commit.
async fn carried_out<F, Fut>(core: &Core, asked: BootInstant, change: F) -> Option<Fut::Output>
where
    F: FnOnce() -> Fut,
    Fut: Future,
{
    let left = left_of(asked, core.now())?;
    let mut change = pin!(change());
    let goes_on = poll_fn(|context: &mut Context<'_>| {
        if left_of(asked, core.now()).is_none() {
            return Poll::Ready(None);
        }
        change.as_mut().poll(context).map(Some)
    });
    tokio::time::timeout(left, goes_on).await.ok().flatten()
}

/// Tells that a change is over, or has it held up for [`HOLD`] once more; what was kept meanwhile is forgotten. Whoever made it does
/// not wait for a Redis that is away: others go on to load without keeping until the hold is over. It is told all the same as soon as
/// can be, since the Redis that comes back may know nothing of the hold.
async fn tell_at_last(core: &Arc<Core>, key: &str, (step, word): (Step, &str)) {
    let Err(error) = tell(core, key, (step, word)).await else { return };
    tracing::debug!(cache.region = core.region.name(), %error, "the end of a change is told later");
    tell_later(core, key, (step, word), Later::Must);
}

/// Tells it in the background, for [`HOLD`] at most: after that it holds up nobody any more.
fn tell_later(core: &Arc<Core>, key: &str, (step, word): (Step, &str), later: Later) {
    let Some(gate) = &core.gate else { return };
    let region = core.region.name();
    let (through, key, word) = (Arc::clone(core), key.to_owned(), word.to_owned());
    let telling = async move {
        let (mut backoff, until) = (Backoff::new(AGAIN, MOST), Instant::now() + HOLD);
        while Instant::now() < until {
            sleep(backoff.pause()).await;
            if tell(&through, &key, (step, word.as_str())).await.is_ok() {
                return;
            }
        }
        is_untold(region, later);
    };
    let span = tracing::info_span!("cache.tell", cache.region = region);
    if !gate.tell_later(later, telling.instrument(span)) {
        is_untold(region, later);
    }
}

fn is_untold(region: &str, later: Later) {
    match later {
        Later::Must => tracing::warn!(
            cache.region = region,
            "the end of a change could not be told to other nodes: an old value may be kept for as long as it lives"
        ),
        Later::May => tracing::debug!(
            cache.region = region,
            "the end of a change that was refused is not told: nobody keeps its value for 10 s"
        ),
    }
}

/// How long a change may take whose beginning was told after `asked`; nothing when it is too late for it.
fn left_of(asked: BootInstant, now: BootInstant) -> Option<Duration> {
    LONGEST_CHANGE.checked_sub(now.saturating_duration_since(asked)).filter(|left| !left.is_zero())
}
