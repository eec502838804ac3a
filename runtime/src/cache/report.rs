//! What a region did so far, for metrics and operators.

use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Values given from memory.
    pub(super) memory: AtomicU64,
    /// Values that another node had loaded.
    pub(super) redis: AtomicU64,
    /// Values loaded and kept.
    pub(super) loaded: AtomicU64,
    /// Values loaded and not kept.
    pub(super) unkept: AtomicU64,
    /// Values given after their life.
    pub(super) stale: AtomicU64,
    /// Values forgotten, by whoever changed them.
    pub(super) forgotten: AtomicU64,
    /// Times that all were.
    pub(super) cleared: AtomicU64,
}

/// How a region is on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionReport {
    /// Its name.
    pub region: String,
    /// How many values are in memory.
    pub entries: u64,
    /// How many bytes they take, keys included.
    pub bytes: u64,
    /// How many they may take.
    pub max_bytes: u64,
    /// How many times a value was given from memory.
    pub memory: u64,
    /// How many times from Redis.
    pub redis: u64,
    /// How many times it was loaded, and kept.
    pub loaded: u64,
    /// How many times it was loaded for those who asked just then.
    pub unkept: u64,
    /// How many times a value was given after its life: it could not be loaded, or not soon enough.
    pub stale: u64,
    /// What is loaded while nobody need wait for it.
    pub background: BackgroundReport,
    /// How many values made room for others, or for a newer one of their key.
    pub evicted: u64,
    /// How many values were forgotten because somebody changed them, on any node.
    pub forgotten: u64,
    /// How many times all were forgotten: by an operator or the application, or because not all changes could be heard of.
    pub cleared: u64,
    /// Whether what is in memory is given.
    pub trusted: bool,
    /// For how long nothing was heard of changes, ms; 0 on a node without a cluster.
    pub age_ms: u64,
}

/// What a node loads while nobody need wait for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackgroundReport {
    /// How many loads are under way.
    pub under_way: u64,
    /// How many brought a value.
    pub done: u64,
    /// How many left it for later: another node loads the value or somebody changes it, or Redis did not say.
    pub put_off: u64,
    /// How many failed, took too long or did not come to an end.
    pub failed: u64,
    /// How many were not begun, since too many were under way.
    pub no_room: u64,
}
