//! Where finished spans wait, and the thread that sends them.
//!
//! Not the library's own batch processor: that one does not tell how many spans it dropped, and blocks on clients.

use std::sync::mpsc as blocking;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{EXPORT, convention};

/// So many spans wait; more are dropped and counted.
const ROOM: usize = 4_096;
/// So many are sent at once.
const BATCH: usize = 512;
/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How often somebody may ask for a flush while one is under way.
const FLUSHES: usize = 4;

/// Takes finished spans; never waits.
#[derive(Debug)]
pub(super) struct Queue(mpsc::Sender<SpanData>, Flushes);

/// Asks for what waits to be sent.
#[derive(Debug, Clone)]
pub(super) struct Flushes(mpsc::Sender<blocking::Sender<()>>);

impl Flushes {
    /// Waits until all spans that were finished before are sent or given up, for so long at most.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let (done, waiting) = blocking::channel();
        self.0.try_send(done).is_ok() && waiting.recv_timeout(limit).is_ok()
    }
}

/// Starts the thread that sends spans with `exporter`; it ends when nobody can give it any more.
pub(super) fn start<E>(exporter: E) -> std::io::Result<(Queue, Flushes)>
where
    E: SpanExporter + 'static,
{
    let (spans, received) = mpsc::channel(ROOM);
    let (flushes, asked) = mpsc::channel(FLUSHES);
    // A runtime of its own: neither does TLS take time from requests, nor does it end before the last flush.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sender = Sender { exporter, is_away: false };
    let run = move || runtime.block_on(send_all(sender, received, asked));
    std::thread::Builder::new().name("traces".to_owned()).spawn(run)?;
    let flushes = Flushes(flushes);
    Ok((Queue(spans, flushes.clone()), flushes))
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.0.try_send(span).is_err() {
            count_dropped("queue_full", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.shutdown_with_timeout(EXPORT)
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        if self.1.flush(limit) { Ok(()) } else { Err(OTelSdkError::Timeout(limit)) }
    }
}

async fn send_all<E: SpanExporter>(
    mut sender: Sender<E>,
    mut spans: mpsc::Receiver<SpanData>,
    mut flushes: mpsc::Receiver<blocking::Sender<()>>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let flush = tokio::select! {
            asked = flushes.recv() => match asked {
                Some(asked) => Some(asked),
                None => return,
            },
            () = gather(&mut spans, &mut batch) => None,
        };
        if let Some(done) = flush {
            while let Ok(span) = spans.try_recv() {
                batch.push(span);
            }
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(BATCH));
                sender.send(std::mem::replace(&mut batch, rest)).await;
            }
            done.send(()).ok(); // whoever asked may have given up
        } else {
            sender.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).await;
        }
    }
}

/// Waits for a batch that is full or old enough. What was gathered stays when this is dropped.
async fn gather(spans: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
    if batch.is_empty() && spans.recv_many(batch, BATCH).await == 0 {
        return std::future::pending().await; // nobody can send any more: the other channel is closed too
    }
    let mut late = std::pin::pin!(sleep(GATHER));
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        tokio::select! {
            received = spans.recv_many(batch, room) => if received == 0 { return },
            () = &mut late => return,
        }
    }
}

struct Sender<E> {
    exporter: E,
    /// Whether the last batch was lost.
    is_away: bool,
}

impl<E: SpanExporter> Sender<E> {
    /// Sends a batch, or gives it up in time.
    async fn send(&mut self, mut batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        batch.iter_mut().for_each(convention::apply);
        let failed = match timeout(EXPORT, self.exporter.export(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_elapsed) => Some(format!("no answer within {} s", EXPORT.as_secs())),
        };
        let was_away = std::mem::replace(&mut self.is_away, failed.is_some());
        match failed {
            None => {
                metrics::counter!("understudy_trace_spans_sent_total").increment(count);
                if was_away {
                    info!("the collector takes spans again");
                }
            }
            Some(error) => {
                count_dropped("collector", count);
                if !was_away {
                    warn!(error, "spans are lost: the collector does not take them");
                }
            }
        }
    }
}

fn count_dropped(why: &'static str, count: u64) {
    metrics::counter!("understudy_trace_spans_dropped_total", "why" => why).increment(count);
}
