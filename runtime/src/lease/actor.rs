//! Renews the leases of all buckets, on a thread that does nothing else.
//!
//! The thin shell around [`LeaseTrust`]: it sends, hands over replies and time, publishes the result on the board.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::sync::watch;

use super::board::{LeaseBoard, LeaseStamp, margin};
use super::handle::{LeaseShared, LeaseSpec};
use super::trust::{ClockWatch, LeaseTrust, TrustChange};
use super::{LeaseError, LeaseStore, Renewed, Settled};
use crate::actors::Alive;
use crate::clock::BootInstant;
use crate::error::chain;
use crate::ids::{Bucket, NodeId};

/// How often it is looked what is due.
const BEAT: Duration = Duration::from_millis(50);
/// A beat that comes later than this by so much means that the process, or the machine, stood still.
const PAUSED: Duration = Duration::from_millis(500);
/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Gives all leases back and ends the actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Release;

pub(super) struct LeaseActor {
    spec: LeaseSpec,
    store: Arc<dyn LeaseStore>,
    board: LeaseBoard,
    shared: Arc<LeaseShared>,
    leases: Vec<Lease>,
    clocks: ClockWatch,
    reconnects: Option<watch::Receiver<u64>>,
    /// So long the first connection is waited for: what is sent before it is there fails at once.
    begins_by: BootInstant,
    last_beat: BootInstant,
    /// Whether every other node knows this one; until then nothing is published.
    known: bool,
    /// Whether the last round failed, so that an outage is logged once.
    failing: bool,
    _alive: Alive,
}

/// The lease of one bucket.
struct Lease {
    trust: LeaseTrust,
    under_way: bool,
    due: BootInstant,
}

/// A reply, and between which moments the store gave it.
struct Heard {
    renewed: Renewed,
    sent_at: BootInstant,
    now: BootInstant,
}

impl LeaseActor {
    pub(super) fn new(
        spec: LeaseSpec,
        store: Arc<dyn LeaseStore>,
        board: LeaseBoard,
        shared: Arc<LeaseShared>,
    ) -> Self {
        let now = spec.clock.now();
        let lease = || Lease { trust: LeaseTrust::new(spec.ttl), under_way: false, due: now };
        Self {
            leases: board.buckets().map(|_| lease()).collect(),
            clocks: ClockWatch::default(),
            reconnects: store.reconnects(),
            begins_by: now + spec.ttl,
            last_beat: now,
            known: spec.knowledge.is_none(),
            failing: false,
            _alive: spec.probe.born(),
            spec,
            store,
            board,
            shared,
        }
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        let now = self.spec.clock.now();
        let late = now.saturating_duration_since(self.last_beat + BEAT);
        self.last_beat = now;
        if late > PAUSED {
            tracing::warn!(paused_ms = ms(late), "paused: this node stood still");
            metrics::counter!("understudy_lease_pauses_total").increment(1);
        }
        if self.clocks.jumped(now, self.spec.clock.wall_ms(), margin(self.spec.ttl)) {
            tracing::warn!("the wall clock jumped: leases are dropped");
            self.drop_trust(now);
        }
        if !self.has_begun(now) {
            return;
        }
        let reconnected = self.reconnects.as_mut().is_some_and(has_moved);
        if !self.known && self.spec.knowledge.as_ref().is_none_or(|others| others.known_to_all()) {
            self.known = true;
            self.publish_all(now);
        }
        for bucket in self.board.buckets() {
            let lease = &mut self.leases[bucket.index()];
            if !lease.under_way && (reconnected || lease.due <= now) && !lease.trust.is_over() {
                lease.under_way = true;
                lease.due = now + self.spec.ttl / 3;
                self.renew(bucket, ctx);
            }
        }
    }

    /// Whether there is, or was, a connection; or none has come for so long that it is to be told.
    fn has_begun(&self, now: BootInstant) -> bool {
        let connects = self.reconnects.as_ref();
        connects.is_none_or(|connects| *connects.borrow() > 0) || now >= self.begins_by
    }

    /// Sends one renewal; those of all buckets go out together, and each reply is taken by itself.
    fn renew(&self, bucket: Bucket, ctx: &mut Context<Self>) {
        let (store, spec) = (self.store.clone(), self.spec.clone());
        let sent_at = self.leases[bucket.index()].trust.on_send(spec.clock.now());
        let handling = spec.probe.begin("renew");
        let renewal = async move {
            let reply = store.renew(bucket, &spec.node_id, spec.ttl).await;
            let now = spec.clock.now();
            drop(handling);
            reply.map(|renewed| Heard { renewed, sent_at, now }).map_err(|error| (error, now))
        };
        let taken = renewal.into_actor(self).map(move |reply, actor, ctx| {
            actor.leases[bucket.index()].under_way = false;
            match reply {
                Ok(heard) => actor.renewed(bucket, &heard, ctx),
                Err((error, now)) => actor.failed(bucket, error, now),
            }
        });
        ctx.spawn(taken);
    }

    fn renewed(&mut self, bucket: Bucket, heard: &Heard, ctx: &mut Context<Self>) {
        let trust = &mut self.leases[bucket.index()].trust;
        if trust.is_over() {
            return; // given up while the reply was on its way
        }
        let change = trust.on_reply(heard.sent_at, &heard.renewed, heard.now);
        if let Some(offset) = trust.offset_ms() {
            self.board.publish_offset(offset);
        }
        if heard.renewed.evicted {
            return self.evicted();
        }
        if self.failing {
            self.failing = false;
            self.shared.trouble.store(None);
            tracing::info!("leases are renewed again");
        }
        let begins = self.known && self.board.valid_until(bucket).is_none();
        self.publish(bucket, &change);
        if change.gap || change.rid_changed || begins {
            self.tell(bucket, &change);
        }
        if change.rid_changed {
            self.settle(bucket, change.stamp, ctx);
        }
    }

    fn failed(&mut self, bucket: Bucket, error: LeaseError, now: BootInstant) {
        self.leases[bucket.index()].due = now + RETRY.min(self.spec.ttl / 3);
        metrics::counter!("understudy_lease_failures_total").increment(1);
        if !self.failing {
            self.failing = true;
            let reason = chain(&error);
            match &error {
                LeaseError::Unavailable(_) => {
                    tracing::warn!(%bucket, %reason, "leases cannot be renewed")
                }
                LeaseError::Refused { .. } => {
                    tracing::error!(%bucket, %reason, "leases cannot be renewed")
                }
            }
        }
        self.shared.trouble.store(Some(Arc::new(error)));
    }

    /// Puts the state of a lease on the board: the stamp first, then until when it holds.
    fn publish(&self, bucket: Bucket, change: &TrustChange) {
        match change.valid_until {
            Some(valid_until) if self.known => {
                self.board.publish(bucket, change.stamp, valid_until)
            }
            _ => self.board.invalidate(bucket),
        }
    }

    fn publish_all(&mut self, now: BootInstant) {
        for bucket in self.board.buckets() {
            // Renewed at once: the trust begins with a reply that comes after everybody knew this node.
            self.leases[bucket.index()].due = now;
        }
    }

    fn tell(&self, bucket: Bucket, change: &TrustChange) {
        let LeaseStamp { generation, rid_epoch } = change.stamp;
        if change.rid_changed {
            metrics::counter!("understudy_lease_server_changes_total").increment(1);
            tracing::info!(%bucket, generation, rid_epoch, gap = change.gap, "the lease store is another than before");
        } else if change.gap && generation > 1 {
            metrics::counter!("understudy_lease_gaps_total").increment(1);
            tracing::warn!(%bucket, generation, "the lease had a gap");
        }
        self.shared.changes.send_modify(|count| *count += 1);
    }

    fn drop_trust(&mut self, now: BootInstant) {
        for bucket in self.board.buckets() {
            let lease = &mut self.leases[bucket.index()];
            let change = lease.trust.on_clock_jump(now);
            lease.due = now;
            self.publish(bucket, &change);
            self.tell(bucket, &change);
        }
    }

    fn evicted(&mut self) {
        tracing::error!(node.id = %self.spec.node_id, "this node was put out of the cluster: restart it");
        self.give_up();
    }

    fn give_up(&mut self) {
        for bucket in self.board.buckets() {
            self.leases[bucket.index()].trust.give_up();
            self.board.invalidate(bucket);
        }
        self.shared.changes.send_modify(|count| *count += 1);
    }

    /// Shortens the grace of the new server: puts back what this node owns, then names all it knew before.
    fn settle(&self, bucket: Bucket, stamp: LeaseStamp, ctx: &mut Context<Self>) {
        // Asked now, while the list is that of the old server.
        let awaited = self.spec.knowledge.as_ref().and_then(|knowledge| knowledge.others());
        let Some(hook) = self.shared.hook.load_full() else { return };
        // What is put back is put back on this server: should there be yet another one, it must not count there.
        let server_id =
            self.leases[bucket.index()].trust.server_id().unwrap_or_default().to_owned();
        let (store, node, ttl) = (self.store.clone(), self.spec.node_id.clone(), self.spec.ttl);
        let settling = async move {
            // Also by a node that knows too few to settle: when the grace ends, what it owns must be there.
            hook(bucket, stamp).await;
            if let Some(awaited) = awaited {
                settle_until_told(store, bucket, node, server_id, awaited).await;
            }
        };
        // Longer than the grace it would be for nothing.
        ctx.spawn(tokio::time::timeout(ttl, settling).into_actor(self).map(move |done, _, _| {
            if done.is_err() {
                tracing::warn!(%bucket, "could not settle within the grace");
            }
        }));
    }
}

async fn settle_until_told(
    store: Arc<dyn LeaseStore>,
    bucket: Bucket,
    node: NodeId,
    server_id: String,
    awaited: Vec<NodeId>,
) {
    loop {
        match store.settle(bucket, &node, &server_id, awaited.clone()).await {
            Ok(Settled::Open) => return tracing::info!(%bucket, "the grace ended early"),
            Ok(Settled::Waiting { remaining_ms }) => {
                return tracing::info!(%bucket, remaining_ms, "settled, others have not");
            }
            // The next renewal finds it out and settles anew.
            Ok(Settled::OtherServer) => return,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

fn has_moved(reconnects: &mut watch::Receiver<u64>) -> bool {
    let moved = reconnects.has_changed().unwrap_or(false);
    if moved {
        reconnects.mark_unchanged();
    }
    moved
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Actor for LeaseActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.beat(ctx);
        ctx.run_interval(BEAT, Self::beat);
    }
}

impl Handler<Release> for LeaseActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Release, _ctx: &mut Context<Self>) -> Self::Result {
        let handling = self.spec.probe.begin("release");
        // First here: what others claim from now on must not be trusted here any more.
        self.give_up();
        let (store, node) = (self.store.clone(), self.spec.node_id.clone());
        let buckets: Vec<Bucket> = self.board.buckets().collect();
        let dropping = async move {
            let each = buckets.iter().map(|bucket| store.drop_node(*bucket, &node));
            join_all(each).await
        };
        Box::pin(dropping.into_actor(self).map(move |dropped, _, ctx| {
            drop(handling);
            let failed = dropped.iter().filter(|one| one.is_err()).count();
            tracing::info!(buckets = dropped.len(), failed, "leases given back");
            ctx.stop();
        }))
    }
}

#[cfg(test)]
mod tests;
