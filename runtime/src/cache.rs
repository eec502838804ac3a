//! A cache of what is dear to load, the same on all nodes: [`Caches`], [`Cache`].
//!
//! Two tiers: the memory of each node, bounded in bytes, in front of Redis, which all nodes share. A node without a cluster has
//! the first one only, behind the same calls. Values are loaded by whoever needs them first; one load at a time for each key, on all
//! nodes together.
//!
//! ```no_run
//! use std::time::Duration;
//! use understudy_runtime::cache::{Cache, CacheError, Region};
//! use understudy_runtime::service::NodeContext;
//!
//! const PRICES: Region = Region::new("prices").lives(Duration::from_secs(300));
//!
//! async fn price(node: &NodeContext, article: u64) -> Result<u64, CacheError<std::io::Error>> {
//!     let prices: Cache<u64, u64> = node.caches.open(PRICES).expect("opened the same way everywhere");
//!     let price = prices.get_with(&article, async || Ok::<_, std::io::Error>(199)).await?;
//!     Ok(*price)
//! }
//! ```
//!
//! # How old a value may be
//!
//! What is forgotten ([`Cache::forget`], [`Cache::change_with`], [`Cache::clear`]) is written down in a log in Redis, numbered
//! without a gap. Each node reads that log, and gives values from its memory only while it has read all that was in it at a moment
//! less than [`BOUND`] ago. Proof: let a node give a value at `r` that was forgotten at `t`. The last look that it relies on, begun at
//! `p`, did not show the entry, so `t >= p`; and `r - p <= BOUND`; so `r - t <= BOUND`. Only the node's own clock is in there, one
//! that goes on during suspend. A message that is lost, a node that stands still, a connection that breaks make `p` older, and a
//! gap in the log or another server makes the node forget everything; none of them makes the value older.
//!
//! What was read before a change comes into neither tier after it: a change takes the right to load away, at Redis and in the
//! node (`cache/core.rs`). Around a transaction [`Cache::change_with`] also keeps others from loading what is not committed yet.
//!
//! # What if
//!
//! *The process dies*: its right to load runs out, and others load meanwhile without keeping. Had it begun a change, nobody keeps
//! what is loaded of it for [`HOLD`]; by then the change is made, or never will be. *It stands still for 30 s*: its memory is not
//! trusted when it wakes up, and what it was loading is refused by Redis if it was changed meanwhile. *Redis is away*: values are
//! loaded, once at a time on each node, and not kept; changes by `change_with` are refused before they begin.
//!
//! What the bound does not cover stands in docs/cache.md.

mod core;
mod error;
mod memory;
mod region;
mod report;
mod shared;
mod tail;
#[cfg(test)]
mod tests;

use std::any::TypeId;
use std::fmt;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest};
use dashmap::{DashMap, Entry};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::bus::{Bus, Targets};
use crate::clock::{BootInstant, SharedClock};
use crate::http::problem::Problem;
use crate::keys::KeySpace;
use crate::membership::Membership;
use crate::redis::{Redis, RedisError};
use crate::service::NodeContext;
use crate::supervise::{Supervised, spawn};

use self::core::{Boarding, Core, Landed, Pilot, Taken};
use self::memory::{AnyValue, Tags};
use self::shared::{LookForNews, Shared, Step};

pub use self::core::{BOUND, LARGEST_VALUE};
pub use self::error::{BadKey, CacheError, ChangeError, ForgetError, OpenError};
pub use self::region::{CacheKey, LONGEST_KEY, Region};
pub use self::report::RegionReport;

/// How long a change may take that a value is forgotten around.
pub const LONGEST_CHANGE: Duration = Duration::from_secs(8);
/// For how long nobody keeps what is loaded of a value whose change was begun and never ended.
pub const HOLD: Duration = Duration::from_secs(10);

/// The regions of a node; an extractor, and a cheap clone.
#[derive(Clone)]
pub struct Caches {
    inner: Arc<Inner>,
}

struct Inner {
    regions: DashMap<&'static str, Opened>,
    redis: Option<(Redis, Arc<KeySpace>)>,
    bus: Bus,
    nodes: Targets,
    clock: SharedClock,
    /// Where logs are read: not on the thread of a worker, which a handler may block.
    runtime: Handle,
}

struct Opened {
    core: Arc<Core>,
    /// Reads the log, where there is one.
    _tail: Option<Supervised>,
}

impl Caches {
    /// Makes those of a node: in Redis too, if it has one. To be called on the runtime on which logs are to be read.
    #[must_use]
    pub fn new(
        redis: Option<(Redis, Arc<KeySpace>)>,
        (bus, membership): (&Bus, &Membership),
        clock: &SharedClock,
    ) -> Self {
        let members = membership.clone();
        let nodes: Targets = Arc::new(move || members.live());
        Self::among(redis, (bus, nodes), clock)
    }

    fn among(
        redis: Option<(Redis, Arc<KeySpace>)>,
        (bus, nodes): (&Bus, Targets),
        clock: &SharedClock,
    ) -> Self {
        let inner = Arc::new(Inner {
            regions: DashMap::new(),
            redis,
            bus: bus.clone(),
            nodes,
            clock: Arc::clone(clock),
            runtime: Handle::current(),
        });
        // The bus lives in there: it must not hold it in return.
        let woken = Arc::downgrade(&inner);
        bus.handle(move |_from, LookForNews { region }: LookForNews| {
            if let Some(opened) = woken.upgrade().as_ref().and_then(|it| it.regions.get(&*region)) {
                opened.core.wake.notify_one();
            }
            ready(())
        });
        let gap = Arc::downgrade(&inner);
        bus.on_gap(move || {
            if let Some(inner) = gap.upgrade() {
                inner.regions.iter().for_each(|opened| opened.core.wake.notify_one());
            }
        });
        Self { inner }
    }

    /// Opens a region, and begins to hear of what changes in it. Any number of times: it is the same one.
    ///
    /// # Errors
    /// [`OpenError`] when it was opened with other options, or for values of another type.
    pub fn open<K, V>(&self, region: Region) -> Result<Cache<K, V>, OpenError>
    where
        K: CacheKey + ?Sized,
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let kind = TypeId::of::<V>();
        let core = match self.inner.regions.entry(region.name()) {
            Entry::Occupied(opened) => Arc::clone(&opened.get().core),
            Entry::Vacant(place) => {
                let opened = self.begin(region, kind);
                let core = Arc::clone(&opened.core);
                drop(place.insert(opened));
                core
            }
        };
        if core.kind != kind || core.region != region {
            return Err(OpenError { region: region.name() });
        }
        Ok(Cache { core, shape: PhantomData })
    }

    fn begin(&self, region: Region, kind: TypeId) -> Opened {
        let shared = self.shared(region.name());
        let is_shared = shared.is_some();
        let core = Arc::new(Core::new(region, kind, shared, Arc::clone(&self.inner.clock)));
        let tail = is_shared.then(|| {
            let _here = self.inner.runtime.enter();
            let core = Arc::clone(&core);
            spawn("cache.tail", move || tail::follow(Arc::clone(&core)))
        });
        Opened { core, _tail: tail }
    }

    /// What all nodes share of a region, whether it was opened here or not.
    fn shared(&self, region: &str) -> Option<Shared> {
        let inner = &self.inner;
        inner.redis.as_ref().map(|(redis, keys)| Shared {
            redis: redis.clone(),
            keys: Arc::clone(keys),
            region: region.to_owned(),
            bus: inner.bus.clone(),
            nodes: Arc::clone(&inner.nodes),
        })
    }

    /// Says how all regions are on this node, by name.
    #[must_use]
    pub fn reports(&self) -> Vec<RegionReport> {
        let regions = self.inner.regions.iter();
        let mut reports: Vec<_> = regions.map(|opened| opened.core.report()).collect();
        reports.sort_by(|one, other| one.region.cmp(&other.region));
        reports
    }

    /// Forgets a value of a region on all nodes, or all of its values; whether it was opened here or not.
    pub(crate) async fn forget(&self, region: &str, key: Option<&str>) -> Result<(), ForgetError> {
        if let Some(core) = self.find(region) {
            return match key {
                Some(key) => forget(&core, key).await,
                None => clear(&core).await,
            };
        }
        let Some(shared) = self.shared(region) else { return Ok(()) };
        let told = match key {
            Some(key) => {
                check(key)?;
                shared.forget(key, (Step::Once, ""), HOLD).await
            }
            None => shared.clear().await,
        };
        shared.tell();
        told.map_err(ForgetError::Untold)
    }

    /// Waits until what was forgotten of a region before now is out of the memory of this node; says how it is then.
    pub(crate) async fn caught_up(&self, region: &str, limit: Duration) -> Caught {
        let Some(core) = self.find(region) else { return Caught::Unopened };
        let caught_up = core.catches_up(limit).await;
        let report = core.report();
        if caught_up { Caught::Up(report) } else { Caught::Not(report) }
    }

    fn find(&self, region: &str) -> Option<Arc<Core>> {
        self.inner.regions.get(region).map(|opened| Arc::clone(&opened.core))
    }
}

/// Whether a node has heard of all that was forgotten of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Caught {
    /// It has.
    Up(RegionReport),
    /// It has not: it trusts its memory no longer than [`BOUND`].
    Not(RegionReport),
    /// It has not opened the region, so it has nothing of it.
    Unopened,
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caches").field("regions", &self.inner.regions.len()).finish_non_exhaustive()
    }
}

impl FromRequest for Caches {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let node = request.app_data::<NodeContext>();
        ready(node.map(|node| node.caches.clone()).ok_or_else(|| {
            let code = "caches_not_installed";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, "The cache needs a node")
        }))
    }
}

/// A region of the cache whose values are found by `K`; a cheap clone.
pub struct Cache<K: ?Sized, V> {
    core: Arc<Core>,
    shape: PhantomData<fn(&K) -> V>,
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
    /// It is no older than [`BOUND`], counted from when this is called. For what may not be there take an `Option` as the
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
        let core = &self.core;
        let taken = core.take(pilot.wanted()).await;
        if let Taken::Held(text, left) = &taken
            && let Ok(value) = serde_json::from_str::<V>(text)
        {
            core.tally.redis.fetch_add(1, Ordering::Relaxed);
            let value = Arc::new(value);
            pilot.land(untyped(&value), Some((text.len(), *left)));
            return Ok(value);
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

    /// Brings a value to the other nodes; says how long it is and lives, if it may be kept here.
    async fn keep(&self, pilot: &Pilot, taken: &Taken, value: &V) -> Option<(usize, Duration)> {
        match serde_json::to_string(value) {
            Ok(text) => {
                let lives = self.core.fill(pilot.wanted(), taken, &text).await?;
                Some((text.len(), lives))
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
    /// any more from [`BOUND`] on, this one from now on.
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
        check(tag)?;
        let core = &self.core;
        let told = match &core.shared {
            Some(shared) => shared.forget_tag(tag, core.longest()).await,
            None => Ok(()),
        };
        core.told.notify_one();
        core.forget_tag(tag);
        told.map_err(ForgetError::Untold)
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
    /// within [`HOLD`] and [`BOUND`], or within [`BOUND`] if it does not die.
    ///
    /// The change has [`LONGEST_CHANGE`] at most. It must not be made any more after that: give its statements a time limit.
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
        let left = left_of(asked, core.now()).ok_or(ChangeError::<E>::TooLong)?;
        let Ok(changed) = tokio::time::timeout(left, change()).await else {
            return Err(ChangeError::TooLong);
        };
        if let Err(error) = tell(core, &key, (Step::End, word.as_str())).await {
            // Nobody has the old value, nor keeps it until the hold is over.
            tracing::debug!(cache.region = core.region.name(), %error, "a change is held up longer");
        }
        changed.map_err(ChangeError::Failed)
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

/// How long a change may take whose beginning was told after `asked`; nothing when it is too late for it.
fn left_of(asked: BootInstant, now: BootInstant) -> Option<Duration> {
    LONGEST_CHANGE.checked_sub(now.saturating_duration_since(asked)).filter(|left| !left.is_zero())
}

async fn forget(core: &Core, key: &str) -> Result<(), ForgetError> {
    check(key)?;
    let told = tell(core, key, (Step::Once, "")).await;
    // After the log has it, so that nothing old is kept here either.
    core.forget(key);
    told.map_err(ForgetError::Untold)
}

async fn clear(core: &Core) -> Result<(), ForgetError> {
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

fn check(key: &str) -> Result<(), BadKey> {
    match key.len() {
        1..=LONGEST_KEY => Ok(()),
        bytes => Err(BadKey { bytes }),
    }
}

fn checked<K: CacheKey + ?Sized>(key: &K) -> Result<std::borrow::Cow<'_, str>, BadKey> {
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
