//! Takes off the queue what a request has brought to the database itself, many at a time and behind its back: who waits for
//! nothing else need not wait for this. What is left there when the process dies is brought over once more.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use understudy_runtime::ids::Bucket;

use crate::store::redis::{RedisStore, Saved};

/// Most that one script takes off.
const AT_ONCE: usize = 128;
/// Most that wait; of more than that the queue tells whoever empties it.
const WAITING: usize = 10_000;

/// Hands in what the database has.
#[derive(Debug, Clone)]
pub(super) struct Settler(mpsc::Sender<Saved>);

impl Settler {
    /// Begins; driven by the tokio runtime this is called on, until the last clone is gone.
    pub(super) fn start(redis: &RedisStore) -> Self {
        let (settler, queue) = mpsc::channel(WAITING);
        tokio::spawn(serve(redis.clone(), queue));
        Self(settler)
    }

    pub(super) fn settle(&self, saved: Saved) {
        self.0.try_send(saved).ok();
    }
}

async fn serve(redis: RedisStore, mut queue: mpsc::Receiver<Saved>) {
    while let Some(first) = queue.recv().await {
        let mut buckets: BTreeMap<u16, Vec<Saved>> = BTreeMap::new();
        let (mut next, mut taken) = (Some(first), 0);
        while let Some(saved) = next {
            buckets.entry(redis.bucket(saved.locator()).0).or_default().push(saved);
            taken += 1;
            next = if taken < AT_ONCE { queue.try_recv().ok() } else { None };
        }
        for (bucket, some) in buckets {
            if let Err(error) = redis.settle(Bucket(bucket), &some).await {
                tracing::debug!(%error, "sessions are brought to the database once more");
            }
        }
    }
}
