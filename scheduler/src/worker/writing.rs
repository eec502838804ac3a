//! The writer of the runs' logs: many lines at once, in their order.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use understudy_runtime::error::chain;

use crate::context::ToWrite;
use crate::store::{RunLine, Store};

/// So many lines are written at once.
const BATCH: usize = 1_000;
/// Lines wait for each other this long, unless somebody waits for them.
const GATHER: Duration = Duration::from_millis(200);

/// Writes lines until nobody can write any more.
pub(crate) async fn write_lines(store: Store, mut to_write: mpsc::Receiver<ToWrite>) {
    while let Some(first) = to_write.recv().await {
        let mut batch = Batch::default();
        batch.take(first);
        let gathered = async {
            while batch.lines.len() < BATCH && batch.waiting.is_empty() {
                let Some(next) = to_write.recv().await else { break };
                batch.take(next);
            }
        };
        tokio::time::timeout(GATHER, gathered).await.ok();
        // Of those that are there already, others wait too when many attempts end at the same time.
        while batch.lines.len() < BATCH {
            let Ok(next) = to_write.try_recv() else { break };
            batch.take(next);
        }
        let Batch { lines, waiting } = batch;
        if !lines.is_empty()
            && let Err(error) = write(&store, &lines).await
        {
            warn!(lines = lines.len(), error = chain(&error), "lines of runs could not be kept");
        }
        for waits in waiting {
            waits.send(()).ok();
        }
    }
}

/// What is written at once, and who waits for it.
#[derive(Default)]
struct Batch {
    lines: Vec<RunLine>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn take(&mut self, it: ToWrite) {
        match it {
            ToWrite::Line(line) => self.lines.push(line),
            ToWrite::Waits(waits) => self.waiting.push(waits),
        }
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
