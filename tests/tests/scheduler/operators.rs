//! Who leads when somebody has a say in it: operators who hold a node back, and priorities.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use understudy_tests::{Answer, Cluster, oracle, wait};

use super::stage::{LIMIT, Stage, TTL, options, rounds, soon_orphaned};
use super::takeover::kill_the_leader;

const PRIORITY: &str = "UNDERSTUDY_LEADER_PRIORITY";
/// How soon another leads when the leader is put into maintenance.
const MAINTENANCE_MS: u64 = 1_000;
/// How soon a node with a higher priority leads: the least time of a term, and some for asking.
const PREFERRED_MS: u64 = 15_000;
/// How long nobody may lead meanwhile.
const GAP_MS: u64 = 250;
const HOLD_MS: u64 = 4_000;

impl Stage {
    fn name(&self, number: usize) -> &str {
        self.cluster.nodes[number].name()
    }

    /// Puts a node into maintenance.
    async fn maintain(&self, number: usize, force: &str) -> Answer {
        let path = format!("/v1/nodes/{}/maintenance{force}", self.name(number));
        self.post(&path, json!({ "why": "a test" })).await
    }

    /// What a node says of itself and the leader.
    async fn told_by(&self, number: usize) -> Value {
        let node = self.cluster.nodes[number].admin_url();
        self.client.get(node, "/v1/leader").await.expect("an answer").expect(200).json()
    }

    /// How often a node has begun to lead since a moment.
    fn terms_of(&self, number: usize, since_ms: u64) -> u64 {
        let name = self.name(number);
        self.count(&format!(
            "SELECT count(*) FROM us_leader_history WHERE node LIKE '{name}#%' AND started_ms >= {since_ms}"
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_decide_who_does_not_lead() {
    let mut stage = Stage::start().await;
    let lead = stage.agreed().await;
    let (rests, since_ms) = (lead.node, stage.now_ms());
    stage.maintain(rests, "").await.expect(200);
    let started_ms = stage.term_after(lead.epoch).await;
    oracle!("maintenance of the leader, another leads after ms", started_ms - since_ms, within MAINTENANCE_MS);
    let last = stage.agreed().await.node;
    let third = 3 - rests - last;
    stage.maintain(third, "").await.expect(200);
    refused_for_the_last(&stage, last).await;
    oracle!("leader after the refusal", stage.agreed().await.node, last);
    oracle!("terms of a node in maintenance", stage.terms_of(rests, since_ms), 0);
    for number in [rests, third] {
        resume(&stage, number).await;
        wait::until("it may lead again", LIMIT, async || {
            stage.told_by(number).await["maintenance"] == false
        })
        .await;
    }
    let rests = a_held_node_leads_only_after_its_hold(&mut stage).await;
    maintenance_survives_restarts(&mut stage, rests).await;
}

async fn resume(stage: &Stage, number: usize) {
    let path = format!("/v1/nodes/{}/resume", stage.name(number));
    stage.post(&path, json!({})).await.expect(200);
}

async fn refused_for_the_last(stage: &Stage, number: usize) {
    let refusal = stage.maintain(number, "").await.expect(409).json::<Value>();
    oracle!(
        "maintenance of the last node",
        refusal["code"].as_str().unwrap_or_default(),
        "last_node"
    );
}

/// The leader steps down for a while, and nobody else is left when the next one stops. Gives a node in maintenance.
async fn a_held_node_leads_only_after_its_hold(stage: &mut Stage) -> usize {
    let held = stage.agreed().await;
    let held_ms = stage.now_ms();
    let answer = stage.post("/v1/leader/step-down", json!({ "hold_ms": HOLD_MS })).await;
    let answer = answer.expect(200).json::<Value>();
    let from = answer["from"].as_str().unwrap_or_default();
    oracle!("who stepped down", from, stage.name(held.node));
    let next = stage.agreed().await;
    let epoch = answer["epoch"].as_u64().unwrap_or(0);
    oracle!("epoch that the step-down was answered with", epoch, next.epoch);
    let other = 3 - held.node - next.node;
    stage.maintain(other, "").await.expect(200);
    // A busy node may hear of it only after the answer, which names it then.
    wait::until("it knows that it does not lead", LIMIT, async || {
        stage.told_by(other).await["maintenance"] == true
    })
    .await;
    stage.cluster.nodes[next.node].terminate();
    let started_ms = stage.term_after(next.epoch).await;
    oracle!("terms of others during the hold", stage.terms_of(other, held_ms), 0);
    oracle!("terms of the held node", stage.terms_of(held.node, held_ms), 1);
    oracle!("the held node led again after ms", started_ms - held_ms, >= HOLD_MS);
    stage.cluster.nodes[next.node].wait_exit(LIMIT).await;
    refused_for_the_last(stage, held.node).await;
    stage.maintain(held.node, "?force=true").await.expect(200);
    wait::until("nobody leads", LIMIT, async || stage.leads().await.is_none()).await;
    resume(stage, held.node).await;
    wait::until("it leads again", LIMIT, async || stage.leads().await == Some(held.node)).await;
    other
}

/// The node in maintenance is started alone, so that nothing but that keeps it from leading.
async fn maintenance_survives_restarts(stage: &mut Stage, rests: usize) {
    let since_ms = stage.now_ms();
    for node in stage.cluster.nodes.iter_mut().filter(|node| node.is_running()) {
        node.terminate();
        node.wait_exit(LIMIT).await;
    }
    stage.cluster.nodes[rests].start_again();
    stage.cluster.nodes[rests].ready(LIMIT).await;
    wait::until("it knows of its maintenance", LIMIT, async || {
        stage.told_by(rests).await["maintenance"] == true
    })
    .await;
    oracle!("terms of a node in maintenance that is alone", stage.terms_of(rests, since_ms), 0);
    for number in (0..3).filter(|number| *number != rests) {
        stage.cluster.nodes[number].start_again();
    }
    stage.cluster.ready().await;
    let lead = stage.agreed().await.node;
    oracle!("another leads", lead != rests, true);
    oracle!("terms of a node in maintenance", stage.terms_of(rests, since_ms), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_priority_leads_in_the_end_and_equals_let_each_other_be() {
    let mut stage = Stage::with(soon_orphaned(options(Cluster::builder()))).await;
    stage.with_patient_probe().await;
    let before = stage.agreed().await;
    let preferred = (before.node + 1) % 3;
    with_priority(&mut stage, preferred, "5").await;
    let ready_ms = stage.now_ms();
    let started_ms = stage.term_after(before.epoch).await;
    let lead = stage.agreed().await;
    oracle!("who leads", stage.name(lead.node), stage.name(preferred));
    oracle!("it leads after it was ready, ms", started_ms.saturating_sub(ready_ms), within PREFERRED_MS);
    let end = format!(
        "SELECT reason, {started_ms} - ended_ms FROM us_leader_history WHERE epoch = {}",
        before.epoch
    );
    let end = stage.cluster.postgres.query(&end);
    let (reason, gap) = end.trim().split_once('|').expect("two columns");
    oracle!("why the term before ended", reason, "handed_over");
    oracle!("without a leader meanwhile, ms", gap.parse::<u64>().unwrap(), within GAP_MS);

    with_priority(&mut stage, (before.node + 2) % 3, "5").await;
    let (calm, window) = (Instant::now(), Duration::from_secs(rounds(20, 60) as u64));
    let epoch = stage.agreed().await.epoch;
    wait::until("the time of the test is over", window * 2, async || calm.elapsed() >= window)
        .await;
    let changes = stage.agreed().await.epoch - epoch;
    oracle!("changes of the leader among equals", changes, <= 1);

    a_frozen_leader_stays_unless_it_fails(&mut stage, before.node).await;
    stage.settle("probe").await;
}

async fn with_priority(stage: &mut Stage, number: usize, priority: &str) {
    stage.cluster.nodes[number].set_env(PRIORITY, priority);
    stage.cluster.restart(number).await;
}

/// The leader is old enough to be asked for the lead at once, and its priority is exceeded.
async fn a_frozen_leader_stays_unless_it_fails(stage: &mut Stage, best: usize) {
    let switch = stage
        .post("/v1/leader/freeze", json!({ "why": "a test" }))
        .await
        .expect(200)
        .json::<Value>();
    oracle!("the switch", switch["value"].as_str().unwrap_or_default(), "frozen");
    let frozen = stage.agreed().await;
    with_priority(stage, best, "9").await;
    let ready = Instant::now();
    for number in 0..3 {
        wait::until("all know that it is frozen", LIMIT, async || {
            stage.told_by(number).await["frozen"] == true
        })
        .await;
    }
    // It has looked who leads several times, at each of which it would have asked.
    wait::until("one lease is over", LIMIT, async || ready.elapsed() >= TTL).await;
    oracle!(
        "epoch after a node with a higher priority has come",
        stage.agreed().await.epoch,
        frozen.epoch
    );
    let (_, gap) = kill_the_leader(stage).await;
    let ttl = u64::try_from(TTL.as_millis()).unwrap();
    oracle!("a frozen leader is killed, the next term after ms", gap, within ttl + 500);
    stage.post("/v1/leader/unfreeze", json!({})).await.expect(200);
    for number in (0..3).filter(|number| stage.cluster.nodes[*number].is_running()) {
        wait::until("all know that it is frozen no more", LIMIT, async || {
            stage.told_by(number).await["frozen"] == false
        })
        .await;
    }
}
