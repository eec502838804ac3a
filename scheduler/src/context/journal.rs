//! The log of a run: lines are handed to one writer for all runs of the node, which writes many at once, and at once what
//! an attempt that ends has said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::clock::DatabaseClock;
use crate::run::RunId;
use crate::store::RunLine;

/// So many lines of one attempt are kept.
const MOST_LINES: u32 = 10_000;
/// Longest line, bytes.
const LONGEST_LINE: usize = 8 * 1024;
/// So long the end of an attempt waits for its lines: a log is not worth more while the database is away.
const WRITTEN_LIMIT: Duration = Duration::from_secs(2);

/// What the writer is handed.
#[derive(Debug)]
pub(crate) enum ToWrite {
    /// A line.
    Line(RunLine),
    /// Somebody who waits until what came before is written, or has failed to be.
    Waits(oneshot::Sender<()>),
}

/// Where one attempt writes its lines; a cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    run_id: RunId,
    attempt: u32,
    next: Arc<AtomicU32>,
    lines: mpsc::Sender<ToWrite>,
    clock: DatabaseClock,
}

impl Journal {
    pub(crate) fn new(
        (run_id, attempt): (RunId, u32),
        lines: mpsc::Sender<ToWrite>,
        clock: DatabaseClock,
    ) -> Self {
        Self { run_id, attempt, next: Arc::default(), lines, clock }
    }

    /// Writes a line. Never waits: what comes faster than it can be written is dropped and counted.
    pub(crate) fn write(&self, level: &'static str, line: &str) {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let text = match seq.cmp(&MOST_LINES) {
            std::cmp::Ordering::Less => shortened(line),
            std::cmp::Ordering::Equal => "the log of this attempt is full".to_owned(),
            std::cmp::Ordering::Greater => return,
        };
        let line = RunLine {
            run_id: self.run_id,
            attempt: self.attempt,
            seq,
            at_ms: self.clock.now_ms(),
            level,
            line: text,
        };
        if self.lines.try_send(ToWrite::Line(line)).is_err() {
            metrics::counter!("run_log_lines_dropped_total").increment(1);
        }
    }

    /// Waits until the lines of this attempt are written, for two seconds at most: whoever sees that a run has ended sees
    /// all that it said.
    pub(crate) async fn written(&self) {
        if self.next.load(Ordering::Relaxed) == 0 {
            return;
        }
        let written = async {
            let (done, waits) = oneshot::channel();
            if self.lines.send(ToWrite::Waits(done)).await.is_ok() {
                waits.await.ok();
            }
        };
        tokio::time::timeout(WRITTEN_LIMIT, written).await.ok();
    }
}

/// Without what PostgreSQL cannot store, and not too long.
fn shortened(line: &str) -> String {
    let mut end = line.len().min(LONGEST_LINE);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].replace('\0', "\u{fffd}")
}
