//! The streams that events are kept in: in Redis, or in the memory of a node without.

mod memory;
mod redis;

use understudy_runtime::clock::SharedClock;

use super::Topic;
use super::event::SessionEvent;
use super::position::Mark;
use crate::store::StoreError;

use memory::MemoryLog;
pub(super) use redis::RedisLog;

/// Most events that are read at a time.
pub(super) const AT_ONCE: usize = 64;

/// Where events are kept.
#[derive(Debug)]
pub(super) enum Log {
    /// In Redis, for all nodes.
    Redis(RedisLog),
    /// In the memory of the only node.
    Memory(MemoryLog),
}

/// What came after a place in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    /// These events, with their numbers; [`AT_ONCE`] of them if there may be more.
    News(Vec<(u64, SessionEvent)>),
    /// Not all that came is there; the stream is here by now.
    Gap(Mark),
}

impl Log {
    /// Keeps events in memory.
    pub(super) fn in_memory(clock: SharedClock) -> Self {
        Self::Memory(MemoryLog::new(clock))
    }

    /// Adds an event.
    pub(super) async fn append(
        &self,
        topic: &Topic,
        event: &SessionEvent,
    ) -> Result<(), StoreError> {
        match self {
            Self::Redis(log) => log.append(topic, event).await,
            Self::Memory(log) => {
                log.append(topic, event);
                Ok(())
            }
        }
    }

    /// Says where a stream is now; from here on nothing is missed.
    pub(super) async fn newest(&self, topic: &Topic) -> Result<Mark, StoreError> {
        match self {
            Self::Redis(log) => log.newest(topic).await,
            Self::Memory(log) => Ok(log.newest(topic)),
        }
    }

    /// Reads what came after a place.
    pub(super) async fn read(&self, topic: &Topic, after: Mark) -> Result<Read, StoreError> {
        match self {
            Self::Redis(log) => log.read(topic, after).await,
            Self::Memory(log) => Ok(log.read(topic, after)),
        }
    }
}
