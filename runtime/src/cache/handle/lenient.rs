//! Asking for a value that is not worth waiting for: one past its life may be given, and one is loaded while nobody waits.
//!
//! Loads have the same rights as those that are waited for, and take them the same way; so what was forgotten meanwhile is refused
//! in both tiers. What is given past its life is looked for when it is given, not when it was asked for: what was forgotten in
//! between is not there any more.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

use super::super::core::{Boarding, Core, Known, Landed, Landing, Pilot, Taken};
use super::super::error::{BadKey, CacheError};
use super::super::given::Given;
use super::super::loads::End;
use super::super::memory::{AnyValue, Tags};
use super::super::region::CacheKey;
use super::{Cache, check, checked, typed};

impl<K, V> Cache<K, V>
where
    K: CacheKey + ?Sized,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Gives a value as [`get_tagged`](Self::get_tagged) does, and one past its life rather than none, if the region says so:
    ///
    /// - if loading fails, or is not done at the [soft limit](super::super::Region::soft_limit), a value is given as it was whose
    ///   life ended no longer ago than [`stale_for`](super::super::Region::stale_for); [`Given::age`] says how old it is. Loading it
    ///   is not tried again for a second then;
    /// - at the [hard limit](super::super::Region::hard_limit) there is an error;
    /// - a value that is not over, but has lived for [its share](super::super::Region::refreshes_from), is given at once, and loaded
    ///   anew: by one node of all, which looks first whether another one has done so.
    ///
    /// Loading goes on after all of these, and what is loaded is kept, for as long as
    /// [`load_limit`](super::super::Region::load_limit) allows. So `load` owns what it needs. It runs on the threads of the node; 32 at
    /// a time of each region, beyond which a stale value is given, or else the asker waits for as long as it takes.
    ///
    /// A stale value is no older than [`BOUND`](super::super::BOUND) either, as to what was **forgotten**: that is never given.
    ///
    /// # Errors
    /// [`CacheError`], when there is no value that may be given.
    pub async fn get_or_stale<F, Fut, E>(
        &self,
        key: &K,
        tags: &[&str],
        load: F,
    ) -> Result<Given<V>, CacheError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let asked = Instant::now();
        let key = checked(key).map_err(CacheError::<E>::BadKey)?;
        let core = &self.core;
        match core.known(&key) {
            Known::Lives(value) => return Ok(self.living(value)),
            Known::Due(value, least) => {
                let tags = tagged(tags).map_err(CacheError::<E>::BadKey)?;
                self.refresh(&key, &tags, least, load);
                return Ok(self.living(value));
            }
            Known::Over(value, age) => return Ok(self.stale(value, age)),
            Known::Nothing => {}
        }
        let tags = tagged(tags).map_err(CacheError::<E>::BadKey)?;
        let mut load = Some(load);
        loop {
            let mut landing = match Core::board(core, &key, &tags) {
                Boarding::Join(landing) => landing,
                Boarding::Lead(pilot) => {
                    let Some(load) = load.take() else {
                        return self.or_stale(&key, CacheError::Lost);
                    };
                    let Some(room) = core.loads.room() else {
                        return self.lead_here(&key, pilot, load).await;
                    };
                    let landing = pilot.landing();
                    room.take_up(core, led::<V, F, Fut, E>(Arc::clone(core), pilot, load));
                    landing
                }
            };
            if let Some(given) = self.arrives(&key, &mut landing, asked).await {
                return given;
            }
        }
    }

    /// Has a value loaded anew, unless somebody does already or there is no room.
    fn refresh<F, Fut, E>(&self, key: &str, tags: &Tags, least: Duration, load: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let core = &self.core;
        if let Some(room) = core.loads.room()
            && let Some(pilot) = Core::board_again(core, key, tags)
        {
            room.take_up(core, renewed::<V, F, Fut, E>(Arc::clone(core), pilot, least, load));
        }
    }

    /// Loads a value where there is no room to do so while nobody waits.
    async fn lead_here<F, Fut, E>(
        &self,
        key: &str,
        pilot: Pilot,
        load: F,
    ) -> Result<Given<V>, CacheError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
        E: Send + Sync + 'static,
    {
        if let Some(given) = self.still_given(key) {
            return Ok(given);
        }
        match Box::pin(self.lead(pilot, load)).await {
            Ok(value) => Ok(Given::living(value)),
            Err(error) => self.or_stale(key, error),
        }
    }

    /// Waits for a value for as long as the region says; nothing when it has to be asked for again.
    async fn arrives<E>(
        &self,
        key: &str,
        landing: &mut Landing,
        asked: Instant,
    ) -> Option<Result<Given<V>, CacheError<E>>>
    where
        E: Send + Sync + 'static,
    {
        let region = &self.core.region;
        if let Some(soft) = region.soft() {
            if let Ok(landed) = lands(landing, soft.saturating_sub(asked.elapsed())).await {
                return self.judge(key, landed);
            }
            if let Some(given) = self.still_given(key) {
                self.core.put_off(key);
                return Some(Ok(given));
            }
        }
        let hard = region.hard();
        match lands(landing, hard.saturating_sub(asked.elapsed())).await {
            Ok(landed) => self.judge(key, landed),
            Err(_late) => Some(self.or_stale(key, CacheError::TooLong(hard))),
        }
    }

    fn judge<E>(&self, key: &str, landed: Option<Landed>) -> Option<Result<Given<V>, CacheError<E>>>
    where
        E: Send + Sync + 'static,
    {
        match landed? {
            Landed::Value(value) => Some(Ok(Given::living(typed(value)))),
            Landed::TooLong => {
                let limit = self.core.region.limit();
                Some(self.or_stale(key, CacheError::TooLong(limit)))
            }
            Landed::Failed(error) => match error.downcast::<E>() {
                Ok(error) => Some(self.or_stale(key, CacheError::Load(error))),
                // It was loaded in another way, with errors of another type.
                Err(_) => self.still_given(key).map(Ok),
            },
        }
    }

    /// Gives what is known rather than an error, if anything is.
    fn or_stale<E>(&self, key: &str, error: CacheError<E>) -> Result<Given<V>, CacheError<E>> {
        let given = self.still_given(key).ok_or(error)?;
        self.core.put_off(key);
        Ok(given)
    }

    fn still_given(&self, key: &str) -> Option<Given<V>> {
        let (value, age) = self.core.still_known(key)?;
        Some(match age {
            Some(age) => self.stale(value, age),
            None => self.living(value),
        })
    }

    fn living(&self, value: AnyValue) -> Given<V> {
        self.core.tally.memory.fetch_add(1, Ordering::Relaxed);
        Given::living(typed(value))
    }

    fn stale(&self, value: AnyValue, age: Duration) -> Given<V> {
        self.core.tally.stale.fetch_add(1, Ordering::Relaxed);
        Given::stale(typed(value), age)
    }
}

/// Loads a value that is not there.
async fn led<V, F, Fut, E>(core: Arc<Core>, pilot: Pilot, load: F) -> End
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<V, E>>,
    E: Send + Sync + 'static,
{
    let cache = Cache::<str, V> { core, shape: PhantomData };
    let loaded = cache.lead(pilot, load).await;
    ended(&loaded)
}

/// Loads a value that is there, unless another node has done so or is about to.
async fn renewed<V, F, Fut, E>(core: Arc<Core>, pilot: Pilot, least: Duration, load: F) -> End
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<V, E>>,
    E: Send + Sync + 'static,
{
    let taken = core.take_newer(pilot.wanted(), least).await;
    if matches!(taken, Taken::Beside | Taken::Unkept) {
        return End::PutOff;
    }
    let cache = Cache::<str, V> { core, shape: PhantomData };
    let loaded = cache.bring(pilot, taken, load).await;
    ended(&loaded)
}

fn ended<T, E>(loaded: &Result<T, E>) -> End {
    if loaded.is_ok() { End::Done } else { End::Failed }
}

/// Waits until a value lands; says what landed, or nothing if who loads it is gone.
async fn lands(landing: &mut Landing, limit: Duration) -> Result<Option<Landed>, Elapsed> {
    let landed = timeout(limit, landing.wait_for(Option::is_some)).await?;
    Ok(landed.ok().and_then(|landed| landed.clone()))
}

fn tagged(tags: &[&str]) -> Result<Tags, BadKey> {
    tags.iter().try_for_each(|tag| check(tag))?;
    Ok(tags.iter().map(|tag| Arc::from(*tag)).collect())
}
