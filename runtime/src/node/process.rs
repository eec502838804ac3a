//! A node as a process: its threads, its signals, and an end that comes whatever happens.

use std::pin::pin;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::assembly::Base;
use super::checks::Checks;
use super::running::{Booting, Brought};
use super::{NodeBuilder, NodeError, notify};
use crate::config::Config;
use crate::error::chain;
use crate::telemetry::{self, TelemetryError};

/// How long the last spans may take to reach their collector.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Runs a node on this thread until it is told to stop.
pub(super) fn run(builder: NodeBuilder) -> Result<(), NodeError> {
    start_telemetry(&builder.config)?;
    for warning in &builder.config.warnings {
        warn!("{warning}");
    }
    // With two providers in the program rustls would panic at the first connection instead of choosing one.
    rustls::crypto::ring::default_provider().install_default().ok();
    // Lives longer than the system: its threads too must end in time.
    let mut deadline = Deadline::default();
    let system = actix_rt::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("node")
            .build()
            .expect("a process without threads cannot do anything")
    });
    let ended = system.block_on(Box::pin(live(builder, &mut deadline)));
    telemetry::flush(FLUSH_LIMIT);
    ended
}

async fn live(builder: NodeBuilder, deadline: &mut Deadline) -> Result<(), NodeError> {
    let mut signals = Signals::listen()?;
    let checks = Checks::new(builder.checks)?;
    let brought = Brought { services: builder.services, routes: builder.routes, checks };
    let base = Base::new(builder.config);
    let _told = notify::begin(&base.lifecycle);
    let lifecycle = base.lifecycle.clone();
    let booting = Booting::begin(base).await?;
    let running = tokio::select! {
        running = Box::pin(booting.bring_up(brought)) => running?,
        name = signals.next() => {
            info!(signal = name, "stopped while starting");
            return Ok(());
        }
    };
    let mut is_signalled = false;
    let taken = tokio::select! {
        name = signals.next() => {
            info!(signal = name, "asked to stop");
            is_signalled = true;
            None
        }
        // Who asked, and why, is in the log already.
        () = lifecycle.stop_begins() => None,
        () = running.held.presence.taken() => Some(NodeError::Configuration(
            "another node has taken this node's place at the database".to_owned(),
        )),
    };
    deadline.begin(running.stop_limit());
    let mut stop = pin!(running.stop());
    loop {
        let name = tokio::select! {
            () = &mut stop => break,
            name = signals.next() => name,
        };
        // Whoever had it restart through the admin port did not signal: the first signal hurries nothing.
        if std::mem::replace(&mut is_signalled, true) {
            warn!(signal = name, "asked to stop again: leaving without finishing");
            break;
        }
        info!(signal = name, "asked to stop, and stops already");
    }
    taken.map_or(Ok(()), Err)
}

fn start_telemetry(config: &Config) -> Result<(), NodeError> {
    match telemetry::init(config) {
        // An application may have set up its own before.
        Err(TelemetryError::Logging(_)) if config.traces.endpoint.is_some() => {
            warn!("traces are not exported: the application has set up logging of its own");
            Ok(())
        }
        Ok(()) | Err(TelemetryError::Logging(_) | TelemetryError::Metrics(_)) => Ok(()),
        Err(error @ TelemetryError::Traces(_)) => {
            Err(NodeError::Configuration(format!("UNDERSTUDY_TRACES_ENDPOINT: {}", chain(&error))))
        }
        Err(error @ TelemetryError::Thread(_)) => Err(NodeError::Failed(chain(&error))),
        Err(error @ TelemetryError::Filter(_)) => {
            Err(NodeError::Configuration(format!("UNDERSTUDY_LOG_FILTER: {error}")))
        }
    }
}

/// The signals that stop a node.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, NodeError> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| NodeError::Failed(format!("cannot listen to signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Ends the process when stopping takes longer than all its steps together may: something blocks a thread.
#[derive(Default)]
struct Deadline {
    watch: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Deadline {
    fn begin(&mut self, limit: Duration) {
        let (done, waiting) = channel();
        let watch = move || {
            if waiting.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                error!(
                    limit_seconds = limit.as_secs(),
                    "stopping took too long: the process is ended"
                );
                leave();
            }
        };
        let thread = std::thread::Builder::new().name("deadline".to_owned()).spawn(watch);
        self.watch = thread.ok().map(|thread| (done, thread));
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.watch.take() {
            drop(done);
            thread.join().ok();
        }
    }
}

#[expect(clippy::exit, reason = "a thread that blocks cannot be ended in any other way")]
fn leave() {
    std::process::exit(1);
}
