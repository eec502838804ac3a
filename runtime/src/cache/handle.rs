//! One region as an application uses it: asking for values, and having them forgotten.

mod lenient;

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use super::core::{Boarding, Core, Landed, Pilot, Taken, Terms};
use super::error::{BadKey, CacheError, ChangeError, ForgetError};
use super::memory::{AnyValue, Tags};
use super::region::{CacheKey, LONGEST_KEY};
use super::shared::Step;
use crate::clock::BootInstant;
use crate::redis::RedisError;
use crate::supervise::Backoff;

/// How long a change may take that a value is forgotten around.
pub const LONGEST_CHANGE: Duration = Duration::from_secs(8);
/// For how long nobody keeps what is loaded of a value whose change was begun and never ended.
pub const HOLD: Duration = Duration::from_secs(10);

/// How soon the end of a change is told again that could not be.
const AGAIN: Duration = Duration::from_millis(100);
/// How long that pause becomes at most.
const MOST: Duration = Duration::from_secs(1);

/// A region of the cache whose values are found by `K`; a cheap clone.
pub struct Cache<K: ?Sized, V> {
    pub(super) core: Arc<Core>,
    pub(super) shape: PhantomData<fn(&K) -> V>,
}

impl<K: ?Sized, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), shape: PhantomData }
    }
}

impl<K: ?Sized, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({})", self.core.region.name())
    }
}

impl<K, V> Cache<K, V>
where
    K: CacheKey + ?Sized,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Gives a value: from memory, from what another node has loaded, or by loading it. Whoever asks for it meanwhile gets the
    /// same one. If the asker goes away while it loads, the next one who waits loads it.
    ///
    /// It is no older than [`BOUND`](super::BOUND), counted from when this is called. For what may not be there take an `Option` as the
    /// value: that it is not there is then known too.
    ///
    /// # Errors
    /// [`CacheError`]; nothing is kept then.
    pub async fn get_with<F, Fut, E>(&self, key: &K, load: F) -> Result<Arc<V>, CacheError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
        E: Send + Sync + 'static,
    {
        self.get_tagged(key, &[], load).await
    }

    /// Gives a value as [`get_with`](Self::get_with) does, one that is also forgotten when one of its tags is: those of the
    /// things that it was made of, say. Ask for a value with the same tags everywhere: whoever asks with others may be given one
    /// that is not forgotten by them.
    ///
    /// # Errors
    /// [`CacheError`]; a tag is checked as a key is.
    pub async fn get_tagged<F, Fut, E>(
        &self,
        key: &K,
        tags: &[&str],
        load: F,
    ) -> Result<Arc<V>, CacheError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
        E: Send + Sync + 'static,
    {
        let key = checked(key).map_err(CacheError::<E>::BadKey)?;
        if let Some(value) = self.core.peek(&key) {
            return Ok(typed(value));
        }
        tags.iter().try_for_each(|tag| check(tag)).map_err(CacheError::<E>::BadKey)?;
        let tags: Tags = tags.iter().map(|tag| Arc::from(*tag)).collect();
        loop {
            match Core::board(&self.core, &key, &tags) {
                Boarding::Lead(pilot) => return Box::pin(self.lead(pilot, load)).await,
                Boarding::Join(mut landed) => {
                    // Ends with whoever loads it, and that takes as long as the region allows, at most.
                    let landed =
                        landed.wait_for(Option::is_some).await.map(|landed| landed.clone());
                    match landed {
                        Ok(Some(Landed::Value(value))) => return Ok(typed(value)),
                        Ok(Some(Landed::TooLong)) => {
                            return Err(CacheError::TooLong(self.core.region.limit()));
                        }
                        Ok(Some(Landed::Failed(error))) => match error.downcast::<E>() {
                            Ok(error) => return Err(CacheError::Load(error)),
                            // It was loaded in another way, with errors of another type.
                            Err(_) => continue,
                        },
                        Ok(None) | Err(_) => continue,
                    }
                }
            }
        }
    }

    async fn lead<F, Fut, E>(&self, pilot: Pilot, load: F) -> Result<Arc<V>, CacheError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
        E: Send + Sync + 'static,
    {
        let taken = self.core.take(pilot.wanted()).await;
        self.bring(pilot, taken, load).await
    }

    /// Loads a value unless it is there.
    async fn bring<F, Fut, E>(
        &self,
        pilot: Pilot,
        mut taken: Taken,
        load: F,
    ) -> Result<Arc<V>, CacheError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
        E: Send + Sync + 'static,
    {
        let core = &self.core;
        if let Taken::Held(text, left) = &taken {
            if let Ok(value) = serde_json::from_str::<V>(text) {
                core.tally.redis.fetch_add(1, Ordering::Relaxed);
                let value = Arc::new(value);
                pilot.land(untyped(&value), Some(core.terms(text, *left)));
                return Ok(value);
            }
            core.cannot_read();
            taken = core.take_anyway(pilot.wanted()).await;
        }
        if matches!(taken, Taken::Unkept) {
            pilot.has_no_right();
        }
        let limit = core.region.limit();
        let value = match tokio::time::timeout(limit, load()).await {
            Ok(Ok(value)) => Arc::new(value),
            Ok(Err(error)) => {
                let error = Arc::new(error);
                core.give_up(pilot.wanted(), &taken).await;
                pilot.crash(Landed::Failed(untyped(&error)));
                return Err(CacheError::Load(error));
            }
            Err(_late) => {
                core.give_up(pilot.wanted(), &taken).await;
                pilot.crash(Landed::TooLong);
                return Err(CacheError::TooLong(limit));
            }
        };
        let kept = self.keep(&pilot, &taken, &value).await;
        let tally = if kept.is_some() { &core.tally.loaded } else { &core.tally.unkept };
        tally.fetch_add(1, Ordering::Relaxed);
        pilot.land(untyped(&value), kept);
        Ok(value)
    }

    /// Brings a value to the other nodes; says how it is kept, if it may be kept here.
    async fn keep(&self, pilot: &Pilot, taken: &Taken, value: &V) -> Option<Terms> {
        match serde_json::to_string(value) {
            Ok(text) => {
                let lives = self.core.fill(pilot.wanted(), taken, &text).await?;
                Some(self.core.terms(&text, lives))
            }
            Err(error) => {
                let region = self.core.region.name();
                tracing::warn!(cache.region = region, %error, "a value is no JSON and is not kept");
                self.core.give_up(pilot.wanted(), taken).await;
                None
            }
        }
    }

    /// Forgets a value on all nodes; to be called when what it was loaded from has changed. When this returns, no node gives it
    /// any more from [`BOUND`](super::BOUND) on, this one from now on.
    ///
    /// A process that dies between the change and this call leaves the old value for as long as it lives: where that matters
    /// make the change in [`change_with`](Self::change_with).
    ///
    /// # Errors
    /// [`ForgetError`].
    pub async fn forget(&self, key: &K) -> Result<(), ForgetError> {
        let key = checked(key)?;
        forget(&self.core, &key).await
    }

    /// Forgets all values that carry a tag on all nodes, as [`forget`](Self::forget) does one. Each node looks through its memory
    /// of the region for that: tags are for what changes seldom.
    ///
    /// # Errors
    /// [`ForgetError`].
    pub async fn forget_tag(&self, tag: &str) -> Result<(), ForgetError> {
        forget_tag(&self.core, tag).await
    }

    /// Forgets all values of the region on all nodes, as [`forget`](Self::forget) does one.
    ///
    /// # Errors
    /// [`ForgetError`].
    pub async fn clear(&self) -> Result<(), ForgetError> {
        clear(&self.core).await
    }

    /// Makes a change, such as a transaction up to its commit, around which a value is forgotten: before it, so that nobody
    /// keeps what is not committed yet, and after it. Wherever the process dies, what was committed is seen on all nodes
    /// within [`HOLD`] and [`BOUND`](super::BOUND), or within [`BOUND`](super::BOUND) if it does not die. Where Redis is away at
    /// the end of a change that was made, this says that it was; the end is told in the background then, for [`HOLD`] at most.
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
        tell(core, &key, (Step::Begin, word.as_str()))
            .await
            .map_err(|error| ChangeError::<E>::NotBegun(ForgetError::Untold(error)))?;
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
    let region = core.region.name();
    tracing::debug!(cache.region = region, %error, "the end of a change is told later");
    let (core, key, word) = (Arc::clone(core), key.to_owned(), word.to_owned());
    let telling = async move {
        let (mut backoff, until) = (Backoff::new(AGAIN, MOST), Instant::now() + HOLD);
        while Instant::now() < until {
            sleep(backoff.pause()).await;
            if tell(&core, &key, (step, word.as_str())).await.is_ok() {
                return;
            }
        }
        tracing::warn!(
            cache.region = region,
            "the end of a change could not be told to other nodes for 10 s: an old value may be kept for as long as it lives"
        );
    };
    // There are no more of these than changes under way when Redis went: others are refused before they begin.
    tokio::spawn(telling.instrument(tracing::info_span!("cache.tell", cache.region = region)));
}

/// How long a change may take whose beginning was told after `asked`; nothing when it is too late for it.
fn left_of(asked: BootInstant, now: BootInstant) -> Option<Duration> {
    LONGEST_CHANGE.checked_sub(now.saturating_duration_since(asked)).filter(|left| !left.is_zero())
}

pub(super) async fn forget(core: &Core, key: &str) -> Result<(), ForgetError> {
    check(key)?;
    let told = tell(core, key, (Step::Once, "")).await;
    // After the log has it, so that nothing old is kept here either.
    core.forget(key);
    told.map_err(ForgetError::Untold)
}

pub(super) async fn forget_tag(core: &Core, tag: &str) -> Result<(), ForgetError> {
    check(tag)?;
    let told = match &core.shared {
        Some(shared) => shared.forget_tag(tag, core.longest()).await,
        None => Ok(()),
    };
    core.told.notify_one();
    core.forget_tag(tag);
    told.map_err(ForgetError::Untold)
}

pub(super) async fn clear(core: &Core) -> Result<(), ForgetError> {
    let told = match &core.shared {
        Some(shared) => shared.clear().await,
        None => Ok(()),
    };
    core.told.notify_one();
    core.forget_all();
    told.map_err(ForgetError::Untold)
}

async fn tell(core: &Core, key: &str, step: (Step, &str)) -> Result<(), RedisError> {
    let Some(shared) = &core.shared else { return Ok(()) };
    let told = shared.forget(key, step, HOLD).await;
    core.told.notify_one();
    told
}

pub(super) fn check(key: &str) -> Result<(), BadKey> {
    match key.len() {
        1..=LONGEST_KEY => Ok(()),
        bytes => Err(BadKey { bytes }),
    }
}

pub(super) fn checked<K: CacheKey + ?Sized>(key: &K) -> Result<Cow<'_, str>, BadKey> {
    let key = key.text();
    check(&key)?;
    Ok(key)
}

fn untyped<V: Send + Sync + 'static>(value: &Arc<V>) -> AnyValue {
    value.clone()
}

fn typed<V: Send + Sync + 'static>(value: AnyValue) -> Arc<V> {
    value.downcast::<V>().expect("a region is opened for values of one type")
}
