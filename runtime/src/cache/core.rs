//! One region on one node: its memory, who is loading what, and until when the memory may be trusted.
//!
//! *Loading*: a value is loaded once at a time on a node; a [`Pilot`] does it, and others wait for where it lands. What was loaded
//! goes into memory only if its flight is still listed, and whatever is forgotten takes its flight from the list, with the place in
//! the list held in both cases: so a value that was read before a change never comes into memory after it.
//!
//! *Trust*: memory counts while all that was forgotten up to less than [`BOUND`] ago is known to be out of it. A reader looks at
//! that moment first, then into memory, then at the clock: whatever it finds was not forgotten before that moment.

mod known;

use std::any::TypeId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::{DashMap, Entry};
use rand::RngExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::warn;

use super::gate::Gate;
use super::loads::Loads;
use super::memory::{AnyValue, Kept, Memory, Tags, carries};
use super::outbox::Outbox;
use super::region::Region;
use super::report::{RegionReport, Tally};
use super::shared::{Found, Shared, Wanted};
use crate::clock::{BootInstant, SharedClock};
use crate::supervise::Backoff;

#[cfg(test)]
pub(super) use self::known::PAUSE;
pub(super) use self::known::{Known, Terms};

/// How old a value may be that a node gives without asking anybody.
pub const BOUND: Duration = Duration::from_secs(2);
/// How soon a node asks whether another one has loaded a value: most are loaded within a few ms.
const FIRST_STEP: Duration = Duration::from_millis(2);
/// How often it asks in the end; each time it waits about twice as long until then.
const LAST_STEP: Duration = Duration::from_millis(20);
/// How much longer than loading the right to load lasts: the value has to be brought to Redis.
const LONGER: Duration = Duration::from_secs(1);
/// How long the first look at the log is waited for, by those who ask for values of a region that was just opened.
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// Longer than any value lives.
const ENDLESS: Duration = Duration::from_secs(100 * 366 * 86_400);
/// The largest value that is kept, as JSON.
pub const LARGEST_VALUE: usize = 1 << 20;

/// A region on this node.
pub(super) struct Core {
    pub(super) region: Region,
    /// The type of its values.
    pub(super) kind: TypeId,
    /// What all nodes share; none on a node without a cluster.
    pub(super) shared: Option<Shared>,
    /// The way to tell them of values that are forgotten, one by one.
    pub(super) gate: Option<Gate>,
    /// Has the reader of the log look at once.
    pub(super) wake: Notify,
    /// Has it tell the other nodes that there is news: once for many changes at a time.
    pub(super) told: Notify,
    pub(super) tally: Tally,
    /// What the node knows of changes that are told after their transactions.
    pub(super) outbox: Option<Arc<Outbox>>,
    /// What is loaded while nobody waits.
    pub(super) loads: Loads,
    memory: Memory,
    flights: DashMap<Arc<str>, Flight>,
    numbers: AtomicU64,
    /// Whether a value in Redis was not of the type of the region: that is logged once.
    unreadable: AtomicBool,
    clock: SharedClock,
    opened: BootInstant,
    /// All that was forgotten before is out of memory; 0 before the log was read.
    fresh: AtomicU64,
    /// The same, for those who wait for it.
    read: watch::Sender<BootInstant>,
}

/// A value that is being loaded.
struct Flight {
    number: u64,
    tags: Tags,
    began: BootInstant,
    /// Whether it may be loaded during a change, so that nobody keeps it.
    is_unkept: bool,
    landed: Landing,
}

/// Where a value lands that is being loaded.
pub(super) type Landing = watch::Receiver<Option<Landed>>;

/// What became of loading a value.
#[derive(Clone)]
pub(super) enum Landed {
    /// It is there.
    Value(AnyValue),
    /// It failed with this error.
    Failed(AnyValue),
    /// It took too long.
    TooLong,
}

/// Who loads a value, or waits for it.
pub(super) enum Boarding {
    /// The asker loads it.
    Lead(Pilot),
    /// Somebody else does.
    Join(Landing),
}

/// With what right a value is loaded.
pub(super) enum Taken {
    /// It need not be: all nodes share it, as JSON, and it lives for so long.
    Held(String, Duration),
    /// For all nodes; the word is that of the lease.
    Lease(String),
    /// For this node, which is the only one.
    Alone,
    /// For those who ask now: nobody keeps it. Another node loads it for all, so no change was under way.
    Beside,
    /// For those who ask now: nobody keeps it. It may be one during a change.
    Unkept,
}

impl Core {
    /// Makes one; to be called on the runtime that is to tell other nodes of what is forgotten.
    pub(super) fn new(
        region: Region,
        kind: TypeId,
        shared: Option<Shared>,
        clock: SharedClock,
    ) -> Self {
        Self {
            memory: Memory::new(region.max_bytes()),
            region,
            kind,
            gate: shared.as_ref().map(Gate::open),
            shared,
            wake: Notify::new(),
            told: Notify::new(),
            tally: Tally::default(),
            outbox: None,
            loads: Loads::new(),
            flights: DashMap::new(),
            numbers: AtomicU64::new(0),
            unreadable: AtomicBool::new(false),
            opened: clock.now(),
            clock,
            fresh: AtomicU64::new(0),
            read: watch::Sender::new(BootInstant::default()),
        }
    }

    /// Looks into memory.
    pub(super) fn peek(&self, key: &str) -> Option<AnyValue> {
        // In this order: what is found now was not forgotten before that moment.
        let fresh = self.fresh.load(Ordering::Acquire);
        let kept = self.memory.get(key)?;
        let now = self.clock.now();
        if kept.until <= now || !self.trusts(fresh, now) {
            return None;
        }
        self.tally.memory.fetch_add(1, Ordering::Relaxed);
        Some(kept.value)
    }

    /// Whether what is in memory may be given.
    pub(super) fn is_fresh(&self) -> bool {
        self.trusts(self.fresh.load(Ordering::Acquire), self.clock.now())
    }

    fn trusts(&self, fresh: u64, now: BootInstant) -> bool {
        let since = BootInstant::from_nanos(fresh);
        self.shared.is_none() || fresh > 0 && now.saturating_duration_since(since) <= BOUND
    }

    pub(super) fn now(&self) -> BootInstant {
        self.clock.now()
    }

    /// All that was forgotten before `asked` is out of memory.
    pub(super) fn has_read(&self, asked: BootInstant) {
        self.fresh.store(asked.as_nanos(), Ordering::Release);
        self.read.send_replace(asked);
    }

    /// Waits until all that was forgotten before now is out of memory; says whether it is.
    pub(super) async fn catches_up(&self, limit: Duration) -> bool {
        if self.shared.is_none() {
            return true;
        }
        let (mut read, now) = (self.read.subscribe(), self.clock.now());
        self.wake.notify_one();
        let caught_up = read.wait_for(|read| *read >= now);
        matches!(tokio::time::timeout(limit, caught_up).await, Ok(Ok(_)))
    }

    /// Waits for the first look at the log, if the region was just opened; says whether memory is trusted since. Whoever opens a
    /// region asks for a value of it at once, as a rule.
    async fn has_begun(&self) -> bool {
        let since = self.clock.now().saturating_duration_since(self.opened);
        if since >= FIRST_LOOK || self.fresh.load(Ordering::Acquire) > 0 {
            return self.is_fresh();
        }
        let mut read = self.read.subscribe();
        let looked = read.wait_for(|read| *read > BootInstant::default());
        let has_looked = matches!(tokio::time::timeout(FIRST_LOOK, looked).await, Ok(Ok(_)));
        has_looked && self.is_fresh()
    }

    /// Finds who loads a value, or has the asker do so. One that began longer ago than a value in memory may be old is
    /// waited for only while memory is trusted: had it been forgotten since, it would not be listed. Nor is one that may load
    /// during a change, whose end nobody tells if its process dies.
    pub(super) fn board(core: &Arc<Self>, key: &str, tags: &Tags) -> Boarding {
        let key: Arc<str> = Arc::from(key);
        // Before the list is looked at, as with memory.
        let (fresh, now) = (core.is_fresh(), core.clock.now());
        let place = core.flights.entry(Arc::clone(&key));
        if let Entry::Occupied(flight) = &place
            && (fresh && !flight.get().is_unkept
                || now.saturating_duration_since(flight.get().began) <= BOUND)
        {
            return Boarding::Join(flight.get().landed.clone());
        }
        let (flight, pilot) = Self::departs(core, key, tags);
        drop(place.insert(flight));
        Boarding::Lead(pilot)
    }

    fn departs(core: &Arc<Self>, key: Arc<str>, tags: &Tags) -> (Flight, Pilot) {
        let (tell, landed) = watch::channel(None);
        let number = core.numbers.fetch_add(1, Ordering::Relaxed);
        let began = core.clock.now();
        let flight = Flight { number, tags: Arc::clone(tags), began, is_unkept: false, landed };
        (flight, Pilot { core: Arc::clone(core), key, tags: Arc::clone(tags), number, tell })
    }

    /// Forgets a value on this node, and has nobody keep what is being loaded of it.
    pub(super) fn forget(&self, key: &str) {
        if self.shared.is_none() {
            self.tally.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        // The place is held until the value is out of memory.
        match self.flights.entry(Arc::from(key)) {
            Entry::Occupied(flight) => {
                self.memory.remove(key);
                flight.remove();
            }
            Entry::Vacant(_place) => self.memory.remove(key),
        }
    }

    /// Forgets what carries a tag on this node: first the flights, as [`forget_all`](Self::forget_all) does.
    pub(super) fn forget_tag(&self, tag: &str) {
        self.flights.retain(|_key, flight| !carries(&flight.tags, tag));
        self.memory.remove_tagged(tag);
    }

    /// Says for how long the version of a tag must be kept: no value that carries an earlier one is there, or loaded, after that.
    pub(super) fn longest(&self) -> Duration {
        self.region.longest_life() + self.region.limit() + LONGER * 10
    }

    /// Forgets everything on this node: first the flights, so that what lands in between is forgotten too.
    pub(super) fn forget_all(&self) {
        self.tally.cleared.fetch_add(1, Ordering::Relaxed);
        self.flights.clear();
        self.memory.clear();
    }

    fn keep(&self, key: &Arc<str>, number: u64, kept: Kept) {
        if let Entry::Occupied(flight) = self.flights.entry(Arc::clone(key))
            && flight.get().number == number
        {
            self.memory.put(Arc::clone(key), kept);
        }
    }

    /// Asks those who share the region for a value, or for the right to load it.
    pub(super) async fn take(&self, wanted: Wanted<'_>) -> Taken {
        self.take_newer(wanted, Duration::ZERO).await
    }

    /// The same; a value that has less of its life left counts as none.
    pub(super) async fn take_newer(&self, wanted: Wanted<'_>, least: Duration) -> Taken {
        let Some(shared) = &self.shared else { return Taken::Alone };
        if !self.is_fresh() && !self.has_begun().await {
            // Redis does not answer, so nobody waits for it.
            return Taken::Unkept;
        }
        let word = format!("{:032x}", rand::random::<u128>());
        let lease = self.lease();
        let until = Instant::now() + self.region.patience();
        let mut steps = Backoff::new(FIRST_STEP, LAST_STEP);
        loop {
            match shared.take_newer(wanted, &word, lease, least).await {
                Found::Held(text, left) => return Taken::Held(text, left),
                Found::Lease => return Taken::Lease(word),
                Found::Busy if Instant::now() < until => {
                    tokio::time::sleep(steps.pause()).await;
                }
                Found::Busy => return Taken::Beside,
                Found::Blocked | Found::Unknown => return Taken::Unkept,
            }
        }
    }

    /// Asks for the right to load a value that all nodes share and that is of no use; what is loaded takes its place. If another
    /// node has replaced it meanwhile, that is given.
    pub(super) async fn take_anyway(&self, wanted: Wanted<'_>, useless: &str) -> Taken {
        let taken = self.take_newer(wanted, ENDLESS).await;
        let (Taken::Lease(word), Some(shared)) = (&taken, &self.shared) else { return taken };
        // Whoever had the right before, and was waited for, has used it.
        match shared.take_newer(wanted, word, self.lease(), Duration::ZERO).await {
            Found::Held(text, left) if text != useless => {
                shared.give_up(wanted, word).await;
                Taken::Held(text, left)
            }
            Found::Blocked => Taken::Unkept,
            Found::Held(..) | Found::Lease | Found::Busy | Found::Unknown => taken,
        }
    }

    /// How long the right to load lasts.
    fn lease(&self) -> Duration {
        self.region.limit() + LONGER
    }

    /// What all nodes share of a value is not of the type of the region.
    pub(super) fn cannot_read(&self) {
        if !self.unreadable.swap(true, Ordering::Relaxed) {
            // Neither the value nor what is wrong with it, which may quote it.
            warn!(
                cache.region = self.region.name(),
                "a value in Redis is not of the type of its region: it is loaded and replaced, as all such will be; \
                 values of another form need a region of another name"
            );
        }
    }

    /// Brings to those who share the region what was loaded; says for how long it lives, if it may be kept here.
    pub(super) async fn fill(
        &self,
        wanted: Wanted<'_>,
        taken: &Taken,
        text: &str,
    ) -> Option<Duration> {
        if text.len() > LARGEST_VALUE {
            self.give_up(wanted, taken).await;
            return None;
        }
        let lives = self.region.life_of(text).mul_f64(rand::rng().random_range(0.9..=1.0));
        match (taken, &self.shared) {
            (Taken::Alone, _) => Some(lives),
            (Taken::Lease(word), Some(shared)) => {
                shared.fill(wanted, word, text, lives).await.then_some(lives)
            }
            (Taken::Lease(_), None) | (Taken::Held(..) | Taken::Beside | Taken::Unkept, _) => None,
        }
    }

    /// Has the next one who asks load a value that could not be loaded.
    pub(super) async fn give_up(&self, wanted: Wanted<'_>, taken: &Taken) {
        if let (Taken::Lease(word), Some(shared)) = (taken, &self.shared) {
            shared.give_up(wanted, word).await;
        }
    }

    /// Says how the region is on this node.
    pub(super) fn report(&self) -> RegionReport {
        let fresh = BootInstant::from_nanos(self.fresh.load(Ordering::Acquire));
        let age = self.clock.now().saturating_duration_since(fresh);
        RegionReport {
            region: self.region.name().to_owned(),
            entries: self.memory.entries(),
            bytes: self.memory.bytes(),
            max_bytes: self.region.max_bytes(),
            memory: self.tally.memory.load(Ordering::Relaxed),
            redis: self.tally.redis.load(Ordering::Relaxed),
            loaded: self.tally.loaded.load(Ordering::Relaxed),
            unkept: self.tally.unkept.load(Ordering::Relaxed),
            stale: self.tally.stale.load(Ordering::Relaxed),
            background: self.loads.report(),
            evicted: self.memory.evicted(),
            forgotten: self.tally.forgotten.load(Ordering::Relaxed),
            cleared: self.tally.cleared.load(Ordering::Relaxed),
            trusted: self.is_fresh(),
            age_ms: match &self.shared {
                Some(_) => u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
                None => 0,
            },
        }
    }
}

/// Loads a value for all who wait for it; if it is dropped before, one of them does.
pub(super) struct Pilot {
    core: Arc<Core>,
    key: Arc<str>,
    tags: Tags,
    number: u64,
    tell: watch::Sender<Option<Landed>>,
}

impl Pilot {
    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted { key: &self.key, tags: &self.tags }
    }

    /// Where it lands, for somebody who waits for it.
    pub(super) fn landing(&self) -> Landing {
        self.tell.subscribe()
    }

    /// Notes, before it loads, that it may do so during a change, so that nobody keeps what it loads.
    pub(super) fn has_no_right(&self) {
        if let Some(mut flight) = self.core.flights.get_mut(&self.key)
            && flight.number == self.number
        {
            flight.is_unkept = true;
        }
    }

    /// Gives a value to all who wait for it, and keeps it if there are terms for that.
    pub(super) fn land(self, value: AnyValue, terms: Option<Terms>) {
        if let Some(terms) = terms {
            let kept = self.core.kept(Arc::clone(&value), &self.tags, terms);
            self.core.keep(&self.key, self.number, kept);
        }
        self.tell.send_replace(Some(Landed::Value(value)));
    }

    /// Tells all who wait for it that there is none.
    pub(super) fn crash(self, landed: Landed) {
        self.tell.send_replace(Some(landed));
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        let number = self.number;
        self.core.flights.remove_if(&self.key, |_, flight| flight.number == number);
    }
}
