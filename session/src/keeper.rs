//! What is done for all sessions of a node from time to time: passivation, repair after a change of the store, and agreeing
//! on the key that signs cookies. (What is done for all sessions of the cluster is in [`crate::expiry`].)
//!
//! Every tick is idempotent and takes no input; a tick that fails is made good by the next one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{interval, timeout};
use understudy_runtime::ids::Bucket;
use understudy_runtime::membership::Membership;

use crate::actor::{CheckCopy, Drain, Passivate};
use crate::handle::{Inner, SessionHandle};
use crate::resident::Resident;

/// How many sessions are put back or drained at a time: enough to fill the connection, few enough not to flood it.
const AT_A_TIME: usize = 256;
/// How long one of them may take before the next ones are begun.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs until the node hands its sessions over.
pub(crate) async fn keep(handle: SessionHandle, membership: Membership) {
    let inner = &handle.0;
    let period = (inner.options.passivate_after / 8)
        .clamp(Duration::from_millis(50), Duration::from_secs(1));
    let mut ticks = interval(period);
    while !inner.closed.load(Ordering::Acquire) {
        ticks.tick().await;
        passivate(inner);
        count_reads(inner);
        agree_on_key(inner, &membership);
    }
    count_reads(inner);
}

/// Asks the sessions that were not used for long to go; all of them sooner when memory is nearly full. Counts them, too.
fn passivate(inner: &Inner) {
    metrics::gauge!("sessions_resident").set(number(inner.residents.len()));
    let crowded = inner.residents.len() > inner.options.actors_max / 10 * 9;
    let limit =
        if crowded { inner.options.passivate_after / 8 } else { inner.options.passivate_after };
    let now = inner.clock.now();
    let (mut waiting, mut most) = (0, 0);
    for resident in inner.residents.iter() {
        waiting += resident.cell.waiting();
        most = most.max(resident.cell.waiting());
        if now.saturating_duration_since(resident.cell.last_access()) >= limit {
            // An actor whose mailbox is full is not idle.
            drop(resident.actor.try_send(Passivate(limit)));
        }
    }
    metrics::gauge!("session_jobs_waiting").set(number(waiting));
    metrics::gauge!("session_jobs_waiting_max").set(number(most));
    inner.probe.set_load(inner.residents.len(), waiting, most);
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Tells the metrics what each worker has counted for itself.
fn count_reads(inner: &Inner) {
    let reads = inner.workers.load().iter().map(|worker| worker.take_reads()).sum();
    inner.counters.local_reads.increment(reads);
}

fn agree_on_key(inner: &Inner, membership: &Membership) {
    let members = membership.members();
    let live = members
        .iter()
        .filter(|member| member.live && member.record.id != inner.node_id)
        .map(|member| member.record.secret_keys.as_slice());
    let agreed = inner.keyring.agree(&live);
    if inner.key_agreed.swap(agreed, Ordering::Relaxed) && !agreed {
        tracing::error!(
            variable = "UNDERSTUDY_SESSION_SECRET",
            "another node knows none of this node's session keys: sessions of one are refused by the other; give all \
             nodes a key in common"
        );
    }
}

/// Has every session of a bucket that this node owns confirmed by the store, or put back.
pub(crate) async fn put_back(inner: Arc<Inner>, bucket: Bucket) {
    let residents = residents(&inner, |resident| resident.cell.bucket == bucket);
    if !residents.is_empty() {
        tracing::info!(
            bucket = bucket.0,
            sessions = residents.len(),
            "session store changed: confirming what this node owns"
        );
    }
    tell_all(&residents, |resident, done| resident.actor.try_send(CheckCopy(done)).is_ok()).await;
}

/// Finishes what is under way in every session, so that the node's leases can be given back. Sessions for which nobody
/// waits have nothing under way; peers that come later are turned away before they reach an actor.
pub(crate) async fn drain(inner: &Arc<Inner>) {
    let residents = residents(inner, |resident| resident.cell.is_waited_for());
    tell_all(&residents, |resident, done| resident.actor.try_send(Drain(done)).is_ok()).await;
}

fn residents(inner: &Inner, wanted: impl Fn(&Resident) -> bool) -> Vec<Resident> {
    inner
        .residents
        .iter()
        .filter(|resident| wanted(resident))
        .map(|resident| resident.clone())
        .collect()
}

async fn tell_all(residents: &[Resident], tell: impl Fn(&Resident, oneshot::Sender<()>) -> bool) {
    for some in residents.chunks(AT_A_TIME) {
        let waits: Vec<_> = some
            .iter()
            .filter_map(|resident| {
                let (done, waits) = oneshot::channel();
                tell(resident, done).then_some(waits)
            })
            .collect();
        // Who does not answer in time, or is gone, is left alone: its fence keeps the session safe.
        drop(timeout(PATIENCE, futures_util::future::join_all(waits)).await);
    }
}
