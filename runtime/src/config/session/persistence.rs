//! What sessions in Redis are worth: `SESSION_PERSIST`, `SESSION_PERSIST_INTERVAL_MS` and `SESSION_DURABILITY`.

use std::time::Duration;

use super::{Raw, Reader};

/// What is kept of sessions beside Redis, and when a change of one is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersistConfig {
    /// `SESSION_PERSIST`: whether sessions in Redis are kept in the database as well.
    pub mode: PersistMode,
    /// `SESSION_PERSIST_INTERVAL_MS`: how often what the database does not have yet is brought there.
    pub interval: Duration,
    /// `SESSION_DURABILITY`: who must have a change before it is acknowledged.
    pub durability: Durability,
}

/// Whether sessions in Redis are kept in the database as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersistMode {
    /// No.
    Off,
    /// A little later: a change is acknowledged when Redis has it.
    WriteBehind,
    /// At once: a change is acknowledged when both have it.
    WriteThrough,
}

/// Who must have a change before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The store.
    Stored,
    /// A replica of Redis too.
    Replicated,
    /// The database too.
    Database,
}

pub(super) fn read(read: &mut Reader, raw: &Raw) -> PersistConfig {
    PersistConfig {
        mode: read.choice(
            "UNDERSTUDY_SESSION_PERSIST",
            raw.persist.as_deref(),
            &[
                ("off", PersistMode::Off),
                ("write_behind", PersistMode::WriteBehind),
                ("write_through", PersistMode::WriteThrough),
            ],
        ),
        interval: read.millis(
            "UNDERSTUDY_SESSION_PERSIST_INTERVAL_MS",
            raw.persist_interval_ms.as_deref(),
            50..=60_000,
        ),
        durability: read.choice(
            "UNDERSTUDY_SESSION_DURABILITY",
            raw.durability.as_deref(),
            &[
                ("stored", Durability::Stored),
                ("replicated", Durability::Replicated),
                ("database", Durability::Database),
            ],
        ),
    }
}
