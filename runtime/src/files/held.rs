//! How much of files that are being written a node holds in memory.
//!
//! An upload holds up to two pieces: one that is being filled, and the one before, while it cannot be known yet whether there is
//! more, or while it is on its way; and one more while it encrypts. Pieces of a bucket are large, and there may be many uploads;
//! so all of them together have so many bytes and no more, and who comes then waits, without reading on. Each takes what it
//! will ever need at once, or they would wait for one another. The first few bytes are free: who writes a small file waits for
//! nobody.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::FileError;

/// How many bytes of an upload do not count.
pub(super) const FREE: u64 = 65_536;
/// In what it is counted.
const UNIT: u64 = 65_536;
/// How many pieces an upload holds, and how many while it encrypts.
pub(super) const PLAIN: u64 = 2;
pub(super) const ENCRYPTED: u64 = 3;
/// How long one waits for its turn.
const LIMIT: Duration = Duration::from_secs(30);

/// What the uploads of a node may hold together; a cheap clone of the same.
#[derive(Debug, Clone)]
pub(super) struct Held {
    units: Arc<Semaphore>,
    all: u32,
}

impl Held {
    /// For so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        // More would be more than there can be.
        let all = all.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self { units: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits until so many pieces of so many bytes may be in memory; they may be while what is given is kept.
    pub(super) async fn take(
        &self,
        piece: u64,
        pieces: u64,
    ) -> Result<OwnedSemaphorePermit, FileError> {
        self.take_within(piece.saturating_mul(pieces), LIMIT).await
    }

    async fn take_within(
        &self,
        bytes: u64,
        limit: Duration,
    ) -> Result<OwnedSemaphorePermit, FileError> {
        let units = bytes.div_ceil(UNIT);
        // One that needs more than there is has it alone.
        let units = u32::try_from(units).unwrap_or(u32::MAX).clamp(1, self.all);
        let turn = Arc::clone(&self.units).acquire_many_owned(units);
        if let Ok(Ok(turn)) = timeout(limit, turn).await {
            return Ok(turn);
        }
        tracing::warn!(
            waited_s = limit.as_secs(),
            "an upload was refused: others hold all that UNDERSTUDY_FILES_UPLOAD_MEMORY_BYTES allows"
        );
        Err(FileError::Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn f1_uploads_hold_no_more_than_they_may_together() {
        let held = Held::new(4 * 262_144);
        let first = held.take(262_144, PLAIN).await.unwrap();
        let second = held.take(262_144, PLAIN).await.unwrap();
        assert!(held.take(1, PLAIN).now_or_never().is_none(), "all is held");
        drop(first);
        assert!(held.take(262_145, PLAIN).now_or_never().is_none(), "half is not enough");
        assert!(held.take(262_144, ENCRYPTED).now_or_never().is_none(), "one more is too much");
        let third = held.take(262_144, PLAIN).now_or_never();
        assert!(third.is_some_and(|third| third.is_ok()), "there is room for one of them again");
        drop(second);
        let large = held.take(1 << 30, PLAIN).await;
        assert!(large.is_ok(), "one that needs more than there is has all of it");
    }

    #[tokio::test]
    async fn f1_an_upload_that_gets_no_turn_is_told_to_come_again() {
        let held = Held::new(1);
        let _first = held.take(1, PLAIN).await.unwrap();
        let refused = held.take_within(1, Duration::from_millis(10)).await;
        assert!(matches!(&refused, Err(error) if error.is_retryable()), "{refused:?}");
    }
}
