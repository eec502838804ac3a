//! The leader is cut off from Redis, from the database, or from both, in one direction or in both.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use understudy_tests::{Client, Cluster, Direction, Fault, Node, oracle, wait};

use super::stage::{LIMIT, Lead, Stage, TTL, options, rounds};
use super::takeover::any_phase;

/// So often the lead may change from the cut until all is as before.
const MOST_CHANGES: u64 = 2;
/// A leader without its database finds that out with two signs of life, of which each may take 10 s to fail where the
/// network is silent; then it hands over.
const ELSEWHERE_MS: u128 = 15_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_is_replaced_once_and_takes_nothing_back() {
    let builder = options(Cluster::builder()).env("UNDERSTUDY_JOBS_ALIVE_MS", "1000").proxies();
    let stage = Stage::with(builder).await;
    stage.with_patient_probe().await;
    for _ in 0..rounds(1, 5) {
        l5_jobs_of_a_leader_without_redis_end_before_its_lease(&stage).await;
        Cut::database(Fault::Silent).is_survived(&stage, "from the database").await;
        Cut::both(Fault::Silent).is_survived(&stage, "from both").await;
        let deaf = Fault::HalfOpen(Direction::Response);
        Cut::redis(deaf).is_survived(&stage, "from the answers of Redis").await;
    }
    stage.settle("probe").await;
}

/// What is wrong between a node and its two servers.
#[derive(Clone, Copy)]
struct Cut {
    redis: Fault,
    database: Fault,
}

impl Cut {
    fn redis(fault: Fault) -> Self {
        Self { redis: fault, database: Fault::None }
    }

    fn database(fault: Fault) -> Self {
        Self { redis: Fault::None, database: fault }
    }

    fn both(fault: Fault) -> Self {
        Self { redis: fault, database: fault }
    }

    async fn begin(self, stage: &Stage, node: usize) -> Instant {
        let proxies = &stage.cluster.proxies[node];
        tokio::join!(proxies.redis.cut(self.redis), proxies.postgres.cut(self.database));
        Instant::now()
    }

    /// Cuts the leader off, waits until another leads and the time of the partition is over, and heals it.
    async fn is_survived(self, stage: &Stage, whence: &str) {
        let lead = stage.agreed().await;
        any_phase().await;
        let cut = self.begin(stage, lead.node).await;
        replaced_and_healed(stage, (lead, cut), whence).await;
    }
}

/// What must hold from a cut on: another leads, starts go on, and the lead stays there when the network is whole again.
async fn replaced_and_healed(stage: &Stage, (lead, cut): (Lead, Instant), whence: &str) {
    wait::until("another leads", LIMIT, async || {
        stage.leads().await.is_some_and(|other| other != lead.node)
    })
    .await;
    let elsewhere = cut.elapsed().as_millis();
    stage.goes_on().await;
    let length = TTL * u32::try_from(rounds(2, 4)).expect("it is 2 or 4");
    wait::until("the partition is long enough", LIMIT, async || cut.elapsed() >= length).await;
    stage.goes_on().await;
    let proxies = &stage.cluster.proxies[lead.node];
    // What was sent into the silence arrives now: renewals and releases of a term that is over.
    tokio::join!(proxies.redis.heal(), proxies.postgres.heal());
    ready(&stage.cluster.nodes[lead.node]).await;
    let healed = stage.agreed().await;
    stage.goes_on().await;
    stage.goes_on().await;
    let changes = stage.epoch() - lead.epoch;
    oracle!(&format!("cut off {whence}: another leads after, ms"), elsewhere, within ELSEWHERE_MS);
    oracle!(&format!("cut off {whence}: changes of the lead"), changes, <= MOST_CHANGES);
    l3_the_lease_is_that_of_the_leader(stage, healed).await;
}

/// A late renewal extends nothing and takes nothing: the lease is that of whoever leads, and no longer than it should be.
async fn l3_the_lease_is_that_of_the_leader(stage: &Stage, healed: Lead) {
    let now = stage.agreed().await;
    oracle!("terms begun after the network was whole", now.epoch - healed.epoch, 0);
    let keys = stage.cluster.redis.all_keys();
    let key = keys.iter().find(|key| key.ends_with("{leader}:lease")).expect("there is a leader");
    let value = stage.cluster.redis.cli(&["GET", key]);
    let name = stage.cluster.nodes[now.node].name();
    let own = u64::from(value.starts_with(&format!("{name}#")));
    oracle!("leases that are the leader's", own, 1);
    let left = stage.cluster.redis.cli(&["PTTL", key]);
    let left: u128 = left.trim().parse().expect("the leader renews it before it is over");
    oracle!("time left of the lease, ms", left, <= TTL.as_millis());
}

/// Waits until a node says that it is ready.
async fn ready(node: &Node) {
    let client = Client::with_timeout(Duration::from_secs(2));
    wait::until("the node is ready again", LIMIT, async || {
        let answer = client.get(node.public_url(), "/health/ready").await;
        answer.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

async fn l5_jobs_of_a_leader_without_redis_end_before_its_lease(stage: &Stage) {
    let lead = stage.agreed().await;
    // By its schedule, for runs that somebody asks for are not the leader's.
    let due_ms = stage.now_ms() + 500;
    stage
        .define(json!({
            "name": "long", "handler": "slow", "params": { "ms": 600_000 },
            "schedule": { "kind": "once", "at_ms": due_ms },
        }))
        .await;
    let long = format!("FROM probe WHERE job = 'long' AND fire_ms = {due_ms}");
    let starts = |what: &str| stage.count(&format!("SELECT count(*) {long} AND {what}"));
    wait::until("the long job runs", LIMIT, async || starts("attempt = 1") == 1).await;
    let run = stage.count(&format!("SELECT run {long}"));
    let cut_ms = stage.now_ms();
    let cut = Cut::redis(Fault::Silent).begin(stage, lead.node).await;
    let ended = format!("FROM us_run_attempt WHERE run_id = {run} AND attempt = 1");
    wait::until("its first attempt has ended", LIMIT, async || {
        stage.count(&format!("SELECT count(*) {ended}")) == 1
    })
    .await;
    let fenced_ms = stage.count(&format!(
        "SELECT COALESCE(ended_ms, {cut_ms} + 60000) FROM us_leader_history WHERE epoch = {}",
        lead.epoch
    ));
    let ended_ms = stage.count(&format!("SELECT ended_ms {ended}"));
    let ttl = u64::try_from(TTL.as_millis()).expect("a lease is short");
    oracle!("without Redis the leader fences itself after, ms", fenced_ms.saturating_sub(cut_ms), <= ttl);
    oracle!("without Redis its job has ended after, ms", ended_ms.saturating_sub(cut_ms), <= ttl);
    replaced_and_healed(stage, (lead, cut), "from Redis").await;
    wait::until("the long job runs elsewhere", LIMIT, async || starts("attempt = 2") == 1).await;
    let epoch = lead.epoch;
    oracle!(
        "second attempts in an epoch after that of the first",
        starts(&format!("attempt = 2 AND epoch > {epoch}")),
        1
    );
    stage.post("/v1/jobs/long/cancel", json!({})).await.expect(202);
    wait::until("the long job has ended", LIMIT, async || {
        stage.count(&format!(
            "SELECT count(*) FROM us_job_run WHERE id = {run} AND state = 'cancelled'"
        )) == 1
    })
    .await;
    let after = stage.count(&format!("SELECT count(*) FROM ended WHERE run = {run}"));
    oracle!("attempts that went on to their end", after, 0);
}
