//! One region as an application uses it: asking for values, and having them forgotten.

mod change;
mod lenient;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::core::{Boarding, Core, Landed, Pilot, Taken, Terms};
use super::error::{BadKey, CacheError, ForgetError};
use super::memory::{AnyValue, Tags};
use super::region::{CacheKey, LONGEST_KEY};
use super::shared::Step;
use crate::redis::RedisError;

pub use self::change::{HOLD, LONGEST_CHANGE};

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
        match self.core.peek(&key) {
            Some(value) => Ok(typed(value)),
            None => Box::pin(self.miss(&key, tags, load)).await,
        }
    }

    /// Gives a value that is not in memory. On the heap, for a hit is not to make room for it.
    async fn miss<F, Fut, E>(
        &self,
        key: &str,
        tags: &[&str],
        load: F,
    ) -> Result<Arc<V>, CacheError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
        E: Send + Sync + 'static,
    {
        tags.iter().try_for_each(|tag| check(tag)).map_err(CacheError::<E>::BadKey)?;
        let tags: Tags = tags.iter().map(|tag| Arc::from(*tag)).collect();
        loop {
            match Core::board(&self.core, key, &tags) {
                Boarding::Lead(pilot) => return self.lead(pilot, load).await,
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
        let mut held = self.held(&taken);
        if held.is_none()
            && let Taken::Held(useless, _) = &taken
        {
            core.cannot_read();
            taken = core.take_anyway(pilot.wanted(), useless).await;
            held = self.held(&taken);
        }
        if let Some((value, terms)) = held {
            core.tally.redis.fetch_add(1, Ordering::Relaxed);
            pilot.land(untyped(&value), Some(terms));
            return Ok(value);
        }
        // What two releases take from each other is replaced by the next one who asks.
        if matches!(taken, Taken::Unkept | Taken::Held(..)) {
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

    /// What all nodes share, if it is there and of the type of the region.
    fn held(&self, taken: &Taken) -> Option<(Arc<V>, Terms)> {
        let Taken::Held(text, left) = taken else { return None };
        let value = serde_json::from_str::<V>(text).ok()?;
        Some((Arc::new(value), self.core.terms(text, *left)))
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
    /// Those that are forgotten at the same time on a node go with one call to Redis: rather forget many concurrently than one after
    /// the other. What has a place among those that wait is told also when this is dropped.
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
    let Some(gate) = &core.gate else { return Ok(()) };
    let told = gate.pass(key, step, HOLD).await;
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
