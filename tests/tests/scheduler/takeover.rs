//! A leader is killed: how long nobody leads, and that nothing starts twice.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Cluster, oracle, wait};

use super::stage::{LIMIT, Stage, TTL, options, rounds, soon_orphaned};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_within_its_lease() {
    let mut stage = Stage::with(soon_orphaned(options(Cluster::builder()))).await;
    stage.with_patient_probe().await;
    let rounds = rounds(6, 50);
    let mut gaps = Vec::new();
    for _ in 0..rounds {
        let (leader, gap) = kill_the_leader(&mut stage).await;
        gaps.push(gap);
        stage.cluster.restart(leader).await;
    }
    gaps.sort_unstable();
    oracle::note(&format!("from kill -9 to the next term, ms: {gaps:?}"));
    let ttl = u64::try_from(TTL.as_millis()).unwrap();
    oracle!("leaders killed", gaps.len(), rounds);
    oracle!("from kill -9 to the next term, median in ms", gaps[gaps.len() / 2], within ttl);
    oracle!("from kill -9 to the next term, longest in ms", gaps[gaps.len() - 1], within ttl + 500);
    stage.settle("probe").await;
}

/// Kills whoever leads, and waits until another does. Gives who it was, and the ms until the next term began.
pub(super) async fn kill_the_leader(stage: &mut Stage) -> (usize, u64) {
    let lead = stage.agreed().await;
    any_phase().await;
    let killed_ms = stage.now_ms();
    stage.cluster.kill9(lead.node);
    wait::until("another leads", LIMIT, async || {
        stage.leads().await.is_some_and(|other| other != lead.node)
    })
    .await;
    let started_ms = stage.term_after(lead.epoch).await;
    (lead.node, started_ms.saturating_sub(killed_ms))
}

/// Lets up to a second pass: a fault must not always come at the same moment between two renewals, or two due times.
pub(super) async fn any_phase() {
    let (begun, phase) = (Instant::now(), Duration::from_millis(rand::random::<u64>() % 1_000));
    wait::until("the phase of this round has come", LIMIT, async || begun.elapsed() >= phase).await;
}
