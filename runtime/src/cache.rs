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
//! loaded, once at a time on each node (again by who asks more than [`BOUND`] after a load began), and not kept; changes by
//! `change_with` are refused before they begin. *A value cannot be loaded*: [`Cache::get_or_stale`] gives one whose life is over, if
//! the region says so and it was not forgotten.
//!
//! What the bound does not cover stands in docs/cache.md.

mod core;
mod error;
mod gate;
mod given;
mod handle;
mod loads;
mod memory;
mod notice;
mod outbox;
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
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest};
use dashmap::{DashMap, Entry};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::bus::{Bus, Targets};
use crate::clock::SharedClock;
use crate::http::problem::Problem;
use crate::keys::KeySpace;
use crate::membership::Membership;
use crate::redis::Redis;
use crate::service::NodeContext;
use crate::supervise::{Supervised, spawn};

use self::core::Core;
use self::handle::{check, clear, forget};
use self::outbox::Outbox;
use self::shared::{LookForNews, Shared, Step};

pub use self::core::{BOUND, LARGEST_VALUE};
pub use self::error::{BadKey, CacheError, ChangeError, ForgetError, OpenError};
pub use self::given::Given;
pub use self::handle::{Cache, HOLD, LONGEST_CHANGE};
pub use self::outbox::{OutboxError, Written};
pub use self::region::{CacheKey, LONGEST_KEY, Region};
pub use self::report::{BackgroundReport, RegionReport};

/// What the cache is called among the services of a node.
pub(crate) const SERVICE: &str = "cache";

/// The regions of a node; an extractor, and a cheap clone.
#[derive(Clone)]
pub struct Caches {
    inner: Arc<Inner>,
}

/// The same, as a handle that keeps nothing alive.
#[derive(Clone)]
pub(crate) struct WeakCaches {
    inner: Weak<Inner>,
}

impl WeakCaches {
    /// Finds them, if the node still has them.
    pub(crate) fn upgrade(&self) -> Option<Caches> {
        self.inner.upgrade().map(|inner| Caches { inner })
    }
}

struct Inner {
    regions: DashMap<&'static str, Opened>,
    redis: Option<(Redis, Arc<KeySpace>)>,
    bus: Bus,
    nodes: Targets,
    clock: SharedClock,
    outbox: Arc<Outbox>,
    /// Where logs are read: not on the thread of a worker, which a handler may block.
    runtime: Handle,
}

struct Opened {
    core: Arc<Core>,
    /// Reads the log, where there is one.
    tail: Option<Supervised>,
    /// Loads while nobody waits, where the region wants that.
    loads: Option<Supervised>,
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
            outbox: Arc::default(),
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
        let _here = self.inner.runtime.enter();
        let mut core = Core::new(region, kind, shared, Arc::clone(&self.inner.clock));
        core.outbox = Some(Arc::clone(&self.inner.outbox));
        let core = Arc::new(core);
        let loads = region.loads_in_background().then(|| loads::start(&core));
        let tail = is_shared.then(|| {
            let core = Arc::clone(&core);
            spawn("cache.tail", move || tail::follow(Arc::clone(&core)))
        });
        Opened { core, tail, loads }
    }

    /// Ends what is loaded while nobody waits: the node stops. Whoever still asks has it loaded as long as it takes.
    pub(crate) fn end_loads(&self) {
        self.inner.regions.iter_mut().for_each(|mut opened| drop(opened.loads.take()));
    }

    /// Ends all of it: the node has stopped. Nothing more is heard of changes, so all is loaded from [`BOUND`] on.
    pub(crate) fn end(&self) {
        self.end_loads();
        self.inner.regions.iter_mut().for_each(|mut opened| drop(opened.tail.take()));
    }

    /// Makes a handle that keeps nothing alive, for what the bus holds.
    pub(crate) fn weak(&self) -> WeakCaches {
        WeakCaches { inner: Arc::downgrade(&self.inner) }
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
