//! Jobs of Understudy itself: ordinary jobs, visible to operators, that keep the cluster clean.
//!
//! Each does a bounded amount of work, may run twice at once for a moment, and reports what it did; but for the rolling
//! restart, which takes as long as it takes and runs once at a time.

mod rolling;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use understudy_runtime::duty::{Duty, DutyRun};
use understudy_runtime::service::NodeContext;

use crate::actor::Shared;
use crate::context::JobContext;
use crate::error::JobError;
use crate::job::{Job, Registry};
use crate::plan::millis;
use crate::spec::{Misfire, OnOrphan, Overlap};
use crate::store::Store;

pub(crate) use rolling::{RollingOrder, Standing};

/// The job that restarts all nodes. Unlike the others it goes on elsewhere when its node dies.
pub(crate) const ROLLING_RESTART: &str = "system.rolling-restart";
/// How often runs without a sign of life are looked for.
const REAP_EVERY: Duration = Duration::from_secs(5);
/// How long the database must have answered before runs are given up, beside two signs of life.
const RECOVERY: Duration = Duration::from_secs(5);
/// How often what is old is forgotten.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// How often nodes that are gone are forgotten.
const NODES_EVERY: Duration = Duration::from_secs(60);
/// A node is forgotten after so long a silence.
const NODE_SILENCE: Duration = Duration::from_secs(600);
/// So many batches are forgotten in one run.
const MOST_BATCHES: u32 = 100;

/// Adds the jobs of Understudy, those that services have offered included.
pub(crate) fn register(
    registry: &mut Registry,
    node: &NodeContext,
    store: &Store,
    shared: &Arc<Shared>,
) {
    let stale_ms = millis(node.config.jobs.stale_after);
    let (for_reaping, surroundings) = (store.clone(), Arc::clone(shared));
    registry.add(keeper(
        Job::every("system.stale-runs", REAP_EVERY, move |job| {
            reap(job, for_reaping.clone(), Arc::clone(&surroundings), stale_ms)
        }),
        "Gives up runs whose node is silent, and drops those that no node can start.",
    ));
    let (for_purging, config) = (store.clone(), node.config.jobs.clone());
    let keep = (millis(config.history), config.history_max_per_job, config.cleanup_batch);
    registry.add(keeper(
        Job::every("system.history", PURGE_EVERY, move |job| purge(job, for_purging.clone(), keep)),
        "Forgets runs, decisions and terms that are older than they are kept.",
    ));
    let (for_nodes, around) = (store.clone(), Arc::clone(shared));
    registry.add(keeper(
        Job::every("system.nodes", NODES_EVERY, move |job| {
            sweep_nodes(job, for_nodes.clone(), Arc::clone(&around))
        }),
        "Forgets nodes that are gone.",
    ));
    registry.add(rolling::job(shared));
    for duty in node.duties.all() {
        let name = format!("system.{}", duty.name);
        let (every, description) = (duty.every, duty.description);
        registry.add(keeper(
            Job::every(&name, every, move |job| carry_out(job, duty.clone())),
            description,
        ));
    }
}

/// A job that keeps the cluster clean: missed times do not matter, and one that hangs does not stop the next.
fn keeper(job: Job, description: &str) -> Job {
    job.description(description)
        .misfire(Misfire::Skip)
        .overlap(Overlap::Allow { max: 3 })
        .on_orphan(OnOrphan::Fail)
        .timeout(Duration::from_secs(300))
        .priority(100)
        .system()
}

async fn reap(
    job: JobContext,
    store: Store,
    shared: Arc<Shared>,
    stale_ms: i64,
) -> Result<Value, JobError> {
    if !is_settled(&job, &shared) {
        return Ok(json!({ "waits": UNSETTLED }));
    }
    let me = job.node().node_id.to_string();
    let surroundings = shared.surroundings.load_full();
    if let Some(leader) = surroundings.nodes.iter().find(|node| node.node == me) {
        store.leave_to_others(job.fence().epoch, leader).await?;
    }
    let unmet = surroundings.unmet(store.waiting_needs().await?.into_iter());
    let reaped = store.reap(job.fence().epoch, stale_ms, unmet).await?;
    if !reaped.epoch_ok {
        return Err(JobError::fatal("another node leads"));
    }
    let given_up = reaped.retried + reaped.lost + reaped.dead;
    if given_up > 0 {
        tracing::warn!(
            retried = reaped.retried,
            lost = reaped.lost,
            dead = reaped.dead,
            "runs of silent nodes were given up"
        );
        metrics::counter!("orphaned_runs_total").increment(given_up);
        job.node().bus.send(&job.node().node_id, &crate::jobs::LookAgain {});
    }
    Ok(serde_json::to_value(reaped)?)
}

async fn purge(
    job: JobContext,
    store: Store,
    (keep_ms, most, batch): (i64, u32, u32),
) -> Result<Value, JobError> {
    let mut gone = 0;
    for _ in 0..MOST_BATCHES {
        job.check_cancelled()?;
        let now = store.purge(keep_ms, most, batch).await?;
        gone += now;
        if now < u64::from(batch) {
            break;
        }
    }
    Ok(json!({ "forgotten": gone }))
}

async fn sweep_nodes(
    job: JobContext,
    store: Store,
    shared: Arc<Shared>,
) -> Result<Value, JobError> {
    if !is_settled(&job, &shared) {
        return Ok(json!({ "waits": UNSETTLED }));
    }
    let gone = store.forget_silent_nodes(millis(NODE_SILENCE)).await?;
    let scopes = store.forget_gone_scopes().await?;
    Ok(json!({ "forgotten": gone, "left_behind": scopes }))
}

const UNSETTLED: &str = "the database was away a moment ago, or this node has just started";

/// Whether the database has answered for so long that whoever lives has shown a sign of life since it was away.
fn is_settled(job: &JobContext, shared: &Shared) -> bool {
    let patience = RECOVERY + job.node().config.jobs.alive * 2;
    let now = job.node().clock.now();
    let reached = shared.surroundings.load().reached_since;
    reached.is_some_and(|since| now.saturating_duration_since(since) >= patience)
}

async fn carry_out(job: JobContext, duty: Duty) -> Result<Value, JobError> {
    let guarded = job.clone();
    let run = DutyRun::new(job.cancellation()).guarded(move |executor| {
        let job = guarded.clone();
        Box::pin(async move { Ok(job.guard_as_leader(executor).await?) })
    });
    (duty.run)(run).await.map_err(JobError::failed)
}
