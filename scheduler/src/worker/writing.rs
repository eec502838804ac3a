//! The writer of the runs' logs: many lines at once, in their order.

use std::time::Duration;

use tokio::sync::mpsc;
use tracing::warn;
use understudy_runtime::error::chain;

use crate::store::{RunLine, Store};

/// So many lines are written at once.
const BATCH: usize = 1_000;
/// Lines wait for each other this long.
const GATHER: Duration = Duration::from_millis(200);

/// Writes lines until nobody can write any more.
pub(crate) async fn write_lines(store: Store, mut lines: mpsc::Receiver<RunLine>) {
    let mut batch = Vec::new();
    while lines.recv_many(&mut batch, BATCH).await > 0 {
        if batch.len() < BATCH {
            tokio::time::sleep(GATHER).await;
            while batch.len() < BATCH {
                let Ok(line) = lines.try_recv() else { break };
                batch.push(line);
            }
        }
        if let Err(error) = write(&store, &batch).await {
            warn!(lines = batch.len(), error = chain(&error), "lines of runs could not be kept");
        }
        batch.clear();
    }
}

/// Twice at most: a log is worth waiting for a moment, but not worth the memory of a long outage.
async fn write(
    store: &Store,
    batch: &[RunLine],
) -> Result<(), understudy_runtime::database::DatabaseError> {
    match store.write_lines(batch).await {
        Err(error) if error.is_retryable() => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            store.write_lines(batch).await
        }
        done => done,
    }
}
