//! A leader stands still for longer than its lease, while another takes over, and wakes up.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use understudy_tests::{Client, Cluster, Node, oracle, wait};

use super::stage::{LIMIT, OPERATOR, Stage, TTL, options, rounds, soon_orphaned};
use super::takeover::any_phase;

/// How soon after it wakes up a node must know that it does not lead any more.
const AWAKE_MS: u128 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_starts_nothing_when_it_wakes_up() {
    let stage = Stage::with(soon_orphaned(options(Cluster::builder()))).await;
    stage.with_patient_probe().await;
    let (rounds, mut latest, mut told) = (rounds(3, 30), 0, 0);
    for _ in 0..rounds {
        let lead = stage.agreed().await;
        any_phase().await;
        let node = &stage.cluster.nodes[lead.node];
        node.stop();
        let stopped = Instant::now();
        stage.term_after(lead.epoch).await;
        wait::until("three leases are over", LIMIT, async || stopped.elapsed() >= TTL * 3).await;
        node.cont();
        latest = latest.max(leading_until(node).await);
        wait::until("it says why its term ended", LIMIT, async || tells_its_end(node, lead.epoch))
            .await;
        told += 1;
        assert!(stage.agreed().await.node != lead.node, "the others kept the lead");
    }
    oracle!("rounds in which the node logged that it lost the lead", told, rounds);
    oracle!("latest request after SIGCONT that was answered by a leader, ms", latest, within AWAKE_MS);
    stage.settle("probe").await;
    nothing_starts_in_an_epoch_that_is_over(&stage);
}

/// Asks a node until it answers that it does not lead; gives when it was last asked and said that it does, in ms from now.
async fn leading_until(node: &Node) -> u128 {
    let client = Client::with_timeout(Duration::from_secs(10)).bearing(OPERATOR);
    let (woken, mut latest) = (Instant::now(), 0);
    wait::until("it says that it does not lead", LIMIT, async || {
        let asked = woken.elapsed().as_millis();
        // It may first say that the request was too long on its way.
        let answer = client.get(node.admin_url(), "/v1/leader").await.ok();
        let Some(told) = answer.filter(|it| it.status == 200).map(|it| it.json::<Value>()) else {
            return false;
        };
        let leads = told["state"] == "leading" || told["leader"] == true;
        if leads {
            latest = asked;
        }
        !leads
    })
    .await;
    latest
}

/// Whether its log says that the term ended, and that it was against its will.
fn tells_its_end(node: &Node, epoch: u64) -> bool {
    node.events().iter().map(|event| &event["fields"]).any(|fields| {
        let why = fields["reason"].as_str().unwrap_or_default();
        fields["message"] == "leadership lost"
            && fields["leader.epoch"] == epoch
            && matches!(why, "self_fenced" | "lost_lease" | "stale_epoch")
    })
}

/// A run that the database started before the next term may note itself after it, when the node stood still between the
/// two; one that was *started* after it must not be.
fn nothing_starts_in_an_epoch_that_is_over(stage: &Stage) {
    const STARTS: &str = "SELECT count(*) FROM probe p JOIN us_leader_history n ON n.epoch = p.epoch + 1 \
         WHERE p.job = 'probe' AND p.at_ms > n.started_ms";
    const STARTED_MS: &str = "COALESCE( \
         (SELECT a.started_ms FROM us_run_attempt a WHERE a.run_id = p.run AND a.attempt = p.attempt), \
         (SELECT r.started_ms FROM us_job_run r WHERE r.id = p.run AND r.attempt = p.attempt))";
    let late = stage.count(STARTS);
    oracle::note(&format!(
        "of {} starts, noted after the term in which they were claimed: {late}",
        stage.starts("probe")
    ));
    let over = stage.count(&format!("{STARTS} AND {STARTED_MS} > n.started_ms"));
    oracle!("starts in an epoch that was over", over, 0);
    let runs = stage.count(
        "SELECT count(*) FROM us_job_run r JOIN us_leader_history n ON n.epoch = r.epoch + 1 \
         WHERE r.job = 'probe' AND r.started_ms > n.started_ms",
    );
    oracle!("runs in an epoch that was over", runs, 0);
}
