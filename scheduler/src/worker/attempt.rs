//! One attempt of a run, from its first line to what the database notes of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use rand::RngExt as _;
use tokio::task::JoinHandle;
use tracing::{Instrument as _, Span, field, info, warn};
use understudy_runtime::error::chain;
use understudy_runtime::events::EventKind;
use understudy_runtime::supervise::Backoff;
use understudy_runtime::trace::{self, Origin};
use understudy_runtime::traced_span;

use super::WorkerTools;
use crate::context::{Cancel, CancelReason, JobContext, Journal, Parts};
use crate::error::{JobError, Kind};
use crate::job::Outcome;
use crate::plan::millis;
use crate::progress::{Progress, Teller};
use crate::run::RunState;
use crate::spec::OnOrphan;
use crate::store::{Ending, Finished, TakenRun};

/// How long a handler may take to end once it was told to; then it is dropped at its next await.
const GRACE: Duration = Duration::from_millis(1_000);
/// The pause between attempts to note the end of a run that the database refuses, as when its disk is full.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Longest error that is kept, bytes.
const LONGEST_ERROR: usize = 4_096;
/// Largest report that is kept, bytes of JSON.
const LARGEST_REPORT: usize = 64 * 1024;

/// One attempt.
pub(super) struct Attempt {
    tools: WorkerTools,
    run: TakenRun,
    cancel: Cancel,
    progress: Teller,
    journal: Journal,
    completed: Arc<AtomicBool>,
}

impl Attempt {
    pub(super) fn new(tools: &WorkerTools, run: TakenRun) -> Self {
        let journal = Journal::new((run.id, run.attempt), tools.lines.clone(), tools.clock.clone());
        Self {
            tools: tools.clone(),
            progress: Teller::new(tools.clock.clone()),
            cancel: Cancel::default(),
            journal,
            run,
            completed: Arc::default(),
        }
    }

    pub(super) fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    pub(super) fn progress(&self) -> tokio::sync::watch::Receiver<Progress> {
        self.progress.watch()
    }

    /// Runs the handler and notes what became of it.
    pub(super) async fn carry_out(self) {
        let spec = &self.run.definition.spec;
        let span = traced_span!(
            "job.run",
            job.name = spec.name.as_str(),
            run.id = %self.run.id,
            fire_ms = self.run.fire_ms,
            epoch = self.run.epoch,
            attempt = i64::from(self.run.attempt),
            outcome = field::Empty,
        );
        // Those of Understudy itself come so often that a trace of each would hide the others.
        let begins = || (!spec.system && trace::draws()).then_some(Origin::Begins);
        if let Some(origin) = self.run.trace.map(Origin::Continues).or_else(begins) {
            trace::place(&span, origin);
        }
        async {
            let lateness_ms = self.run.started_ms - self.run.fire_ms;
            if !spec.system && self.run.attempt == 1 && is_due_by_schedule(&self.run.fire_key) {
                let seconds =
                    f64::from(i32::try_from(lateness_ms.max(0)).unwrap_or(i32::MAX)) / 1_000.0;
                metrics::histogram!("fire_lateness_seconds").record(seconds);
            }
            // Those of Understudy itself come every few seconds: whoever watches would look again all the time.
            let tell = || (!spec.system).then(|| self.tools.node.events.send(EventKind::Jobs));
            tell();
            let outcome = self.run_handler().await;
            self.conclude(outcome).await;
            tell();
        }
        .instrument(span)
        .await;
    }

    /// Gives what the handler came to; an error when it was dropped or panicked.
    async fn run_handler(&self) -> Outcome {
        let spec = &self.run.definition.spec;
        let Some(handler) = self.tools.registry.handler(&spec.handler) else {
            return Err(JobError::failed(format!("this node has no handler `{}`", spec.handler)));
        };
        let context = JobContext::new(Parts {
            run: self.run.clone(),
            node: self.tools.node.clone(),
            store: self.tools.store.clone(),
            cancel: self.cancel.clone(),
            progress: self.progress.clone(),
            journal: self.journal.clone(),
            completed: Arc::clone(&self.completed),
        });
        let handler = Arc::clone(handler);
        let run = async move { handler(context).await };
        let run = AssertUnwindSafe(run).catch_unwind().in_current_span();
        // What keeps the cluster clean must not wait for handlers that block their threads.
        let threads = if spec.system { &self.tools.watch } else { &self.tools.threads };
        let task = threads.spawn(run);
        self.watch_over(task).await
    }

    async fn watch_over(
        &self,
        mut task: JoinHandle<Result<Outcome, Box<dyn std::any::Any + Send>>>,
    ) -> Outcome {
        let limit = self.run.definition.spec.timeout;
        let timed_out = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut task => return outcome(ended),
            () = timed_out => {
                self.cancel.cancel(CancelReason::TimedOut(limit.unwrap_or_default()));
            }
            () = self.cancel.token().cancelled() => {}
        }
        if let Ok(ended) = tokio::time::timeout(GRACE, &mut task).await {
            return outcome(ended);
        }
        task.abort();
        // It ends at its next await. One that never awaits goes on; its run is not this node's any more by then.
        match tokio::time::timeout(GRACE, &mut task).await {
            Ok(ended) => outcome(ended),
            Err(_) => {
                warn!("a handler does not end: it blocks its thread");
                Err(JobError::cancelled())
            }
        }
    }

    async fn conclude(&self, outcome: Outcome) {
        if self.completed.load(Ordering::Acquire) {
            count(RunState::Completed);
            Span::current().record("outcome", RunState::Completed.as_str());
            return;
        }
        let ending = self.ending(outcome);
        self.journal.written().await;
        let progress = self.progress.current();
        let progress =
            (!progress.stages.is_empty()).then(|| serde_json::to_string(&progress).ok()).flatten();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        let node = self.tools.node.node_id.to_string();
        let mut refused = false;
        loop {
            match self.tools.store.finish(&self.run, &node, ending.clone(), progress.clone()).await
            {
                Ok(Finished::Done) => return self.told(&ending),
                Ok(Finished::Fenced) => {
                    // Also after an answer that was lost: then it was this node that ended it.
                    metrics::counter!("fenced_completions_total").increment(1);
                    info!("the end of a run was not noted: it is not this node's any more");
                    return;
                }
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(backoff.pause()).await;
                }
                // The run stays this node's until its end is noted: else it would be taken for one that never began.
                Err(error) => {
                    if !std::mem::replace(&mut refused, true) {
                        tracing::error!(
                            error = chain(&error),
                            "the end of a run cannot be noted; it is tried again"
                        );
                    }
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    fn told(&self, ending: &Ending) {
        match ending {
            Ending::Final { state, error, .. } => {
                count(*state);
                Span::current().record("outcome", state.as_str());
                if *state != RunState::Completed {
                    info!(
                        state = state.as_str(),
                        error = error.as_deref(),
                        "a run ended without success"
                    );
                }
            }
            Ending::Again { after_ms, outcome, error, .. } => {
                count(RunState::Retrying);
                Span::current().record("outcome", *outcome);
                info!(after_ms, outcome, error = error.as_deref(), "a run will be tried again");
            }
        }
    }

    /// What the database is to note.
    fn ending(&self, outcome: Outcome) -> Ending {
        let error = match outcome {
            Ok(report) => return completed(report),
            Err(error) => error,
        };
        match self.cancel.why() {
            Some(CancelReason::Asked(by)) => {
                return ended(RunState::Cancelled, format!("cancelled by {by}"));
            }
            Some(CancelReason::TimedOut(limit)) => {
                let error = format!("it took longer than {} ms", limit.as_millis());
                return self.failed(&JobError::failed(error));
            }
            Some(CancelReason::NodeStops) => {
                return self.given_up("its node stopped", "handed_back");
            }
            Some(CancelReason::LeaseLost) => {
                return self.given_up("its node lost the lead", "lost");
            }
            Some(CancelReason::Fenced) | None => {}
        }
        self.failed(&error)
    }

    fn failed(&self, error: &JobError) -> Ending {
        let message = shortened(error.message());
        let state = match error.kind() {
            Kind::Incompatible => RunState::Incompatible,
            Kind::Cancelled => RunState::Cancelled,
            Kind::Final => RunState::Failed,
            Kind::HandedBack => {
                return Ending::Again {
                    after_ms: 0,
                    outcome: "handed_back",
                    error: Some(message),
                    uncounted: false,
                };
            }
            Kind::Retryable => {
                let retry = &self.run.definition.spec.retry;
                let Some(pause) = retry.pause_after(self.run.failed + 1) else {
                    return ended(RunState::Failed, message);
                };
                let chance = f64::from(retry.jitter_percent) / 100.0;
                let factor = 1.0 + chance * rand::rng().random_range(-1.0..=1.0);
                return Ending::Again {
                    after_ms: millis(pause.mul_f64(factor)),
                    outcome: "failed",
                    error: Some(message),
                    uncounted: false,
                };
            }
        };
        ended(state, message)
    }

    /// The attempt was ended by what happened to its node.
    fn given_up(&self, why: &str, outcome: &'static str) -> Ending {
        match self.run.definition.spec.on_orphan {
            OnOrphan::Fail => ended(RunState::Lost, why.to_owned()),
            OnOrphan::Retry { .. } => Ending::Again {
                after_ms: 0,
                outcome,
                error: Some(why.to_owned()),
                uncounted: false,
            },
        }
    }
}

fn is_due_by_schedule(fire_key: &str) -> bool {
    ["cron:", "every:", "once:", "after:"].iter().any(|kind| fire_key.starts_with(kind))
}

fn completed(report: serde_json::Value) -> Ending {
    let size = serde_json::to_string(&report).map_or(usize::MAX, |text| text.len());
    let result = if report.is_null() {
        None
    } else if size > LARGEST_REPORT {
        Some(serde_json::json!({ "note": "the report was too large to be kept", "bytes": size }))
    } else {
        Some(report)
    };
    Ending::Final { state: RunState::Completed, result, error: None }
}

fn ended(state: RunState, error: String) -> Ending {
    Ending::Final { state, result: None, error: Some(error) }
}

fn outcome(
    ended: Result<Result<Outcome, Box<dyn std::any::Any + Send>>, tokio::task::JoinError>,
) -> Outcome {
    match ended {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            Err(JobError::failed(format!("it panicked: {}", text.unwrap_or_default())))
        }
        // Dropped, because it did not end when it was told to.
        Err(_) => Err(JobError::cancelled()),
    }
}

fn count(state: RunState) {
    metrics::counter!("job_runs_total", "state" => state.as_str()).increment(1);
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(LONGEST_ERROR);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{fffd}")
}
