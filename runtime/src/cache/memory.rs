//! What a region holds in the memory of its node: bounded in bytes, what is used least goes first.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};

use crate::clock::BootInstant;

/// What an entry takes beside its key and its value.
const BESIDE: u64 = 128;
/// What an entry takes as a rule: decides about the size of tables, not about what they hold.
const USUAL: u64 = 1_024;

/// A value of whatever type its region has.
pub(super) type AnyValue = Arc<dyn Any + Send + Sync>;

/// The tags of a value.
pub(super) type Tags = Arc<[Arc<str>]>;

/// Whether a tag is among some.
pub(super) fn carries(tags: &[Arc<str>], tag: &str) -> bool {
    tags.iter().any(|carried| **carried == *tag)
}

/// A value, and what is known of it.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) value: AnyValue,
    /// What else it is forgotten by, if anything: a hit makes and drops a reference to each part of this.
    pub(super) tags: Option<Tags>,
    /// Its length as JSON.
    pub(super) bytes: u64,
    /// When its life ends.
    pub(super) until: BootInstant,
    /// How long its whole life was, at most.
    pub(super) whole: Duration,
    /// Before when nobody need try to load it anew; only where values are loaded while nobody waits.
    pub(super) again: Option<Arc<AtomicU64>>,
}

#[derive(Clone)]
struct InBytes;

impl Weighter<Arc<str>, Kept> for InBytes {
    fn weight(&self, key: &Arc<str>, kept: &Kept) -> u64 {
        BESIDE + key.len() as u64 + kept.bytes
    }
}

/// Counts what had to make room.
#[derive(Clone, Default)]
struct MadeRoom(Arc<AtomicU64>);

impl Lifecycle<Arc<str>, Kept> for MadeRoom {
    type RequestState = ();

    fn begin_request(&self) -> Self::RequestState {}

    fn on_evict(&self, _state: &mut Self::RequestState, _key: Arc<str>, _kept: Kept) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The memory of a region.
pub(super) struct Memory {
    cache: Cache<Arc<str>, Kept, InBytes, DefaultHashBuilder, MadeRoom>,
    made_room: MadeRoom,
}

impl Memory {
    pub(super) fn new(bytes: u64) -> Self {
        let made_room = MadeRoom::default();
        let items = usize::try_from((bytes / USUAL).max(1)).unwrap_or(usize::MAX);
        let hashes = DefaultHashBuilder::default();
        Self { cache: Cache::with(items, bytes, InBytes, hashes, made_room.clone()), made_room }
    }

    pub(super) fn get(&self, key: &str) -> Option<Kept> {
        self.cache.get(key)
    }

    pub(super) fn put(&self, key: Arc<str>, kept: Kept) {
        self.cache.insert(key, kept);
    }

    pub(super) fn remove(&self, key: &str) {
        drop(self.cache.remove(key));
    }

    /// Takes out what carries a tag. It looks at everything, so it is for what happens seldom.
    pub(super) fn remove_tagged(&self, tag: &str) {
        self.cache.retain(|_key, kept| !kept.tags.as_ref().is_some_and(|tags| carries(tags, tag)));
    }

    pub(super) fn clear(&self) {
        self.cache.clear();
    }

    pub(super) fn entries(&self) -> u64 {
        self.cache.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// How many entries had to make room for others so far, or for a newer one of their key.
    pub(super) fn evicted(&self) -> u64 {
        self.made_room.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(bytes: u64) -> Kept {
        let (value, until) = (Arc::new(bytes), BootInstant::from_nanos(u64::MAX));
        Kept { value, tags: None, bytes, until, whole: Duration::ZERO, again: None }
    }

    #[test]
    fn c3_memory_is_bounded_in_bytes() {
        let memory = Memory::new(1 << 20);
        for number in 0..10_000 {
            memory.put(Arc::from(format!("key-{number}")), kept(1_000));
            assert!(memory.bytes() <= 1 << 20, "{} after {number}", memory.bytes());
        }
        assert!(memory.entries() > 500 && memory.evicted() > 8_000, "{}", memory.entries());
        memory.put(Arc::from("huge"), kept(2 << 20));
        assert!(memory.get("huge").is_none() && memory.bytes() <= 1 << 20);
        memory.clear();
        assert_eq!((memory.entries(), memory.bytes()), (0, 0));
    }
}
