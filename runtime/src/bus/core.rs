//! The part of the bus that does not care how packets travel: who waits for what, who is sent what, what is done
//! with what came.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;
use futures_util::FutureExt;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tracing::{Instrument as _, Span, field};

use super::frame::{self, Frame, Kind, Outgoing};
use super::handlers::{Answer, Begun, Handlers};
use super::outbox::{Batch, Outbox};
use super::sending::{Sending, Waiting};
use super::{BusError, BusRequest, Targets, spans};
use crate::actors::Probe;
use crate::ids::NodeId;
use crate::trace::TraceContext;

/// How many requests of others may be handled at once; more are refused.
const MAX_HANDLED: usize = 4096;

/// How often it is looked whether the node has heard itself.
const HEARD_EVERY: Duration = Duration::from_millis(2);

/// How a packet travels.
#[async_trait]
pub(super) trait Transport: Send + Sync + 'static {
    /// Sends a packet to one node; says whether anybody took it.
    async fn deliver(&self, to: &NodeId, packet: Bytes) -> Delivered;
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    Taken,
    NobodyThere,
    Unknown,
}

type Waiter = oneshot::Sender<Result<Box<RawValue>, BusError>>;
type GapHook = Box<dyn Fn() + Send + Sync>;

pub(super) struct BusCore {
    pub(super) node: NodeId,
    pub(super) handlers: Handlers,
    pub(super) targets: Targets,
    transport: Box<dyn Transport>,
    runtime: Handle,
    waiters: DashMap<u64, Waiter>,
    outboxes: DashMap<NodeId, Outbox>,
    next_id: AtomicU64,
    handled: AtomicUsize,
    gap_hooks: DashMap<u64, GapHook>,
    listening: watch::Sender<bool>,
    echoes: AtomicU64,
    /// Where it is counted what this node handles.
    pub(super) probe: OnceLock<Probe>,
}

impl BusCore {
    /// Makes the core on the present runtime, which will run its tasks.
    pub(super) fn new(node: NodeId, transport: Box<dyn Transport>, targets: Targets) -> Self {
        Self {
            node,
            handlers: Handlers::default(),
            targets,
            transport,
            runtime: Handle::current(),
            waiters: DashMap::new(),
            outboxes: DashMap::new(),
            next_id: AtomicU64::new(1),
            handled: AtomicUsize::new(0),
            gap_hooks: DashMap::new(),
            listening: watch::Sender::new(false),
            echoes: AtomicU64::new(0),
            probe: OnceLock::new(),
        }
    }

    pub(super) async fn request<M: BusRequest>(
        self: &Arc<Self>,
        to: &NodeId,
        message: &M,
        timeout: Duration,
    ) -> Result<M::Reply, BusError> {
        let waiting = Waiting::begin(self);
        let span = spans::asking(M::NAME, to);
        let asking = async {
            if *to == self.node {
                self.ask_itself(message, timeout).await
            } else {
                self.ask(to, message, waiting, timeout).await
            }
        };
        let answer = asking.instrument(span.clone()).await;
        let reply =
            answer.and_then(|it| serde_json::from_str(it.get()).map_err(|_| BusError::Undecodable));
        if let Err(error) = &reply {
            span.record("error", field::display(error));
        }
        reply
    }

    async fn ask<M: BusRequest>(
        self: &Arc<Self>,
        to: &NodeId,
        message: &M,
        mut waiting: Waiting,
        timeout: Duration,
    ) -> Result<Box<RawValue>, BusError> {
        // The first packet is sent from here, which saves a switch of tasks when there is little to do.
        let sending = self.push(
            to,
            &Outgoing {
                kind: Kind::Request,
                id: waiting.id,
                name: M::NAME,
                payload: message,
                trace: TraceContext::current(),
            },
        )?;
        let sending = async {
            if let Some(batch) = sending {
                Sending::new(self, to).send(batch).await;
            }
        };
        let answer = async {
            let answer = &mut waiting.answer;
            tokio::pin!(sending);
            // Both at once, since the answer may overtake Redis's word that the packet was taken.
            let answered = tokio::select! {
                biased;
                answered = &mut *answer => answered,
                () = &mut sending => answer.await,
            };
            answered.unwrap_or(Err(BusError::Unavailable))
        };
        tokio::time::timeout(timeout, answer).await.unwrap_or(Err(BusError::TimedOut))
    }

    /// Asks a handler of this node; the request takes the same path through JSON, so that both behave alike.
    async fn ask_itself<M: BusRequest>(
        &self,
        message: &M,
        timeout: Duration,
    ) -> Result<Box<RawValue>, BusError> {
        let payload =
            serde_json::value::to_raw_value(message).map_err(|_| BusError::Undecodable)?;
        let span = spans::handling(M::NAME, &self.node, TraceContext::current());
        let begin = || self.handlers.begin(self.node.clone(), M::NAME, &payload);
        let answer = self.counted(span.in_scope(begin)?);
        // A task of its own, because a caller that gives up must not stop what others would have carried out.
        let task = self.runtime.spawn(answer.instrument(span));
        match tokio::time::timeout(timeout, task).await {
            Ok(done) => done.unwrap_or(Err(BusError::Unavailable)),
            Err(_) => Err(BusError::TimedOut),
        }
    }

    pub(super) fn send<M: BusRequest>(self: &Arc<Self>, to: &NodeId, message: &M) {
        if *to == self.node {
            if let Ok(payload) = serde_json::value::to_raw_value(message) {
                let frame = Frame(2, 0, M::NAME, &payload);
                self.take(self.node.clone(), &frame, TraceContext::current());
            }
            return;
        }
        let outgoing = Outgoing {
            kind: Kind::Send,
            id: 0,
            name: M::NAME,
            payload: message,
            trace: TraceContext::current(),
        };
        if let Err(error) = self.push_and_send(to, &outgoing) {
            tracing::warn!(message = M::NAME, node.to = %to, %error, "a message was not sent");
        }
    }

    /// Puts a frame into the outbox of a node; returns a packet that the caller must send.
    fn push<P: Serialize>(
        &self,
        to: &NodeId,
        message: &Outgoing<'_, P>,
    ) -> Result<Option<Batch>, BusError> {
        if let Some(mut outbox) = self.outboxes.get_mut(to) {
            return outbox.push(message);
        }
        let mut outbox = self.outboxes.entry(to.clone()).or_insert_with(|| Outbox::new(&self.node));
        outbox.push(message)
    }

    fn push_and_send<P: Serialize>(
        self: &Arc<Self>,
        to: &NodeId,
        message: &Outgoing<'_, P>,
    ) -> Result<(), BusError> {
        if let Some(batch) = self.push(to, message)? {
            self.spawn(Sending::new(self, to).send_all(batch));
        }
        Ok(())
    }

    /// Takes a packet that came.
    pub(super) fn receive(self: &Arc<Self>, packet: &[u8]) {
        let Some((from, frames)) = frame::read(packet) else {
            metrics::counter!("understudy_bus_dropped_total", "why" => "unreadable").increment(1);
            return;
        };
        for (frame, trace) in frame::with_traces(&frames) {
            self.take(from.clone(), frame, trace);
        }
    }

    fn take(self: &Arc<Self>, from: NodeId, frame: &Frame<'_>, trace: Option<TraceContext>) {
        let Frame(number, id, name, payload) = frame;
        match Kind::from_number(*number) {
            Some(Kind::Reply) => self.answered(*id, Ok((*payload).to_owned())),
            Some(Kind::Failure) => self.answered(*id, Err(frame::named_error(name))),
            Some(Kind::Echo) => self.heard_itself(),
            Some(Kind::Request) => {
                let span = spans::handling(name, &from, trace);
                match span.in_scope(|| self.begin(from.clone(), name, payload)) {
                    Ok(answer) => self.carry_out(from, Some(*id), answer, span),
                    Err(error) => self.answer(&from, *id, Err(error)),
                }
            }
            Some(Kind::Send) => {
                let span = spans::handling(name, &from, trace);
                if let Ok(answer) = span.in_scope(|| self.begin(from.clone(), name, payload)) {
                    self.carry_out(from, None, answer, span);
                }
            }
            // It was taken together with the frame behind it.
            Some(Kind::Trace) => {}
            None => metrics::counter!("understudy_bus_dropped_total", "why" => "kind").increment(1),
        }
    }

    fn begin(&self, from: NodeId, name: &str, payload: &RawValue) -> Result<Answer, BusError> {
        if self.handled.load(Ordering::Relaxed) >= MAX_HANDLED {
            metrics::counter!("understudy_bus_dropped_total", "why" => "busy").increment(1);
            return Err(BusError::NoReceiver);
        }
        self.handlers.begin(from, name, payload).map(|begun| self.counted(begun))
    }

    /// Counts a message until it is answered, or given up.
    fn counted(&self, (name, answer): Begun) -> Answer {
        let Some(probe) = self.probe.get() else { return answer };
        let handling = probe.accept(name);
        async move {
            let _handling = handling;
            answer.await
        }
        .boxed()
    }

    fn carry_out(self: &Arc<Self>, from: NodeId, id: Option<u64>, answer: Answer, span: Span) {
        let core = self.clone();
        self.handled.fetch_add(1, Ordering::Relaxed);
        self.runtime.spawn(async move {
            // A panic must reach the one who waits; a request that is given up must not keep its place.
            let answer = std::panic::AssertUnwindSafe(answer).catch_unwind().instrument(span).await;
            core.handled.fetch_sub(1, Ordering::Relaxed);
            let answer = answer.unwrap_or(Err(BusError::Unavailable));
            if let Some(id) = id {
                core.answer(&from, id, answer);
            }
        });
    }

    fn answer(self: &Arc<Self>, to: &NodeId, id: u64, answer: Result<Box<RawValue>, BusError>) {
        let pushed = match answer {
            Ok(payload) => self.push_and_send(
                to,
                &Outgoing { kind: Kind::Reply, id, name: "", payload: &payload, trace: None },
            ),
            Err(error) => {
                let name = frame::error_name(&error);
                let failure = Outgoing { kind: Kind::Failure, id, name, payload: &(), trace: None };
                self.push_and_send(to, &failure)
            }
        };
        if let Err(error) = pushed {
            tracing::warn!(node.to = %to, %error, "an answer was not sent");
        }
    }

    fn answered(&self, id: u64, answer: Result<Box<RawValue>, BusError>) {
        // Nobody waits any more: the answer came too late, or was sent to an earlier life.
        if let Some((_, waiter)) = self.waiters.remove(&id) {
            waiter.send(answer).ok();
        }
    }

    /// Begins to wait for an answer, under a number that nobody else has.
    pub(super) fn wait(&self) -> (u64, oneshot::Receiver<Result<Box<RawValue>, BusError>>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (waiter, answer) = oneshot::channel();
        self.waiters.insert(id, waiter);
        (id, answer)
    }

    pub(super) fn stop_waiting(&self, id: u64) {
        self.waiters.remove(&id);
    }

    /// Runs a task on the runtime on which the bus was made, wherever this is called.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    pub(super) async fn deliver(&self, to: &NodeId, packet: Bytes) -> Delivered {
        self.transport.deliver(to, packet).await
    }

    pub(super) fn delivered(&self, batch_requests: &[u64], delivered: Delivered) {
        let error = match delivered {
            Delivered::Taken => return,
            Delivered::NobodyThere => BusError::NoReceiver,
            Delivered::Unknown => BusError::Unavailable,
        };
        for id in batch_requests {
            self.answered(*id, Err(error.clone()));
        }
    }

    pub(super) fn next(&self, to: &NodeId) -> Option<Batch> {
        self.outboxes.get_mut(to)?.next()
    }

    /// Forgets nodes to which nothing is sent any more.
    pub(super) fn forget_idle(&self) {
        self.outboxes.retain(|_, outbox| !outbox.is_idle());
    }

    /// Sends this node's word to itself the way others' words come.
    pub(super) fn echo(&self) -> Bytes {
        let mut writer = frame::PacketWriter::new(&self.node);
        // Nothing can fail to be written here; an empty packet would just be no echo.
        let echo = Outgoing { kind: Kind::Echo, id: 0, name: "", payload: &(), trace: None };
        writer.push(&echo).ok();
        writer.take()
    }

    pub(super) fn heard_itself(&self) {
        self.echoes.fetch_add(1, Ordering::Relaxed);
        self.listening.send_if_modified(|listening| !std::mem::replace(listening, true));
    }

    /// Speaks to itself, and waits until it hears it.
    pub(super) async fn hear(&self, limit: Duration) -> Option<Duration> {
        let (begun, before) = (tokio::time::Instant::now(), self.echoes());
        let heard = async {
            self.transport.deliver(&self.node, self.echo()).await;
            while self.echoes() == before {
                tokio::time::sleep(HEARD_EVERY).await;
            }
        };
        tokio::time::timeout(limit, heard).await.ok().map(|()| begun.elapsed())
    }

    pub(super) fn not_listening(&self) {
        self.listening.send_if_modified(|listening| std::mem::replace(listening, false));
    }

    /// Counts how often this node heard itself.
    pub(super) fn echoes(&self) -> u64 {
        self.echoes.load(Ordering::Relaxed)
    }

    pub(super) async fn listening(&self) {
        // The sender is a part of this very value, so it cannot be gone.
        self.listening.subscribe().wait_for(|listening| *listening).await.ok();
    }

    pub(super) fn on_gap(&self, hook: GapHook) {
        self.gap_hooks.insert(self.next_id.fetch_add(1, Ordering::Relaxed), hook);
    }

    pub(super) fn gap(&self, lost: u64) {
        metrics::counter!("understudy_bus_dropped_total", "why" => "lagged").increment(lost);
        for hook in &self.gap_hooks {
            hook();
        }
    }
}
