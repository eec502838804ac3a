//! Redis is killed and comes back empty, is away for longer than any lease, or loses the leader's key in a failover.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use understudy_tests::{Client, Cluster, Data, oracle, wait};

use super::stage::{LIMIT, Stage, TTL, options, rounds, soon_orphaned};
use super::takeover::any_phase;

#[path = "redis_loss/away.rs"]
mod away;
#[path = "redis_loss/failover.rs"]
mod failover;

/// So many browsers press each node.
const BROWSERS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_comes_back_empty_costs_no_leader_that_lives() {
    let mut stage = Stage::with(soon_orphaned(options(Cluster::builder()))).await;
    stage.with_patient_probe().await;
    let load = Load::start(&stage);
    let lead = stage.agreed().await;
    for _ in 0..rounds(3, 30) {
        any_phase().await;
        stage.cluster.redis.kill();
        stage.cluster.redis.restart(Data::Lost).await;
        lease_is_there(&stage).await;
        stage.goes_on().await;
    }
    let after = stage.agreed().await;
    oracle!("terms begun while the leader lived", stage.epoch() - lead.epoch, 0);
    oracle!("the leader, by its number", after.node, lead.node);
    any_phase().await;
    stage.cluster.redis.kill();
    stage.cluster.kill9(lead.node);
    let killed = Instant::now();
    stage.cluster.redis.restart(Data::Lost).await;
    wait::until("another leads", LIMIT, async || {
        stage.leads().await.is_some_and(|other| other != lead.node)
    })
    .await;
    let took = killed.elapsed();
    stage.goes_on().await;
    let answered = load.stop().await;
    oracle!("requests to sessions answered meanwhile", answered, >= 1);
    let limit = TTL * 2 + Duration::from_secs(1);
    oracle!(
        "another leads after Redis was lost together with the leader, ms",
        took.as_millis(),
        within limit.as_millis()
    );
    stage.cluster.restart(lead.node).await;
    stage.settle("probe").await;
}

/// The key of the leader's lease, if there is one.
fn lease_key(stage: &Stage) -> Option<String> {
    stage.cluster.redis.all_keys().into_iter().find(|key| key.ends_with("{leader}:lease"))
}

/// Waits until the leader's lease is in Redis.
async fn lease_is_there(stage: &Stage) {
    let interval = Duration::from_millis(20);
    let there = async || lease_key(stage).map(|_| ());
    wait::poll("the lease is put back", LIMIT, interval, there).await;
}

/// Sessions that are written to as fast as the nodes answer.
struct Load {
    over: watch::Sender<bool>,
    browsers: JoinSet<u64>,
}

impl Load {
    fn start(stage: &Stage) -> Self {
        let (over, is_over) = watch::channel(false);
        let mut browsers = JoinSet::new();
        for node in &stage.cluster.nodes {
            for _ in 0..BROWSERS {
                let (url, is_over) = (node.public_url().to_owned(), is_over.clone());
                browsers.spawn(async move { press(&url, is_over).await });
            }
        }
        Self { over, browsers }
    }

    /// Ends it; gives how many requests were answered well.
    async fn stop(self) -> u64 {
        self.over.send_replace(true);
        self.browsers.join_all().await.into_iter().sum()
    }
}

/// Whatever becomes of a single request: that sessions keep what they must keep is the business of other tests.
async fn press(url: &str, is_over: watch::Receiver<bool>) -> u64 {
    let client = Client::with_timeout(Duration::from_secs(2));
    let mut answered = 0;
    while !*is_over.borrow() {
        match client.post(url, "/incr").await {
            Ok(answer) if answer.status == 200 => answered += 1,
            // A node that refuses at once must not be asked without end: two cores.
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    answered
}

/// A job that is due once a second and whose runs do not wait for each other.
async fn each_second(stage: &Stage, name: &str, misfire: serde_json::Value) {
    stage
        .define(json!({
            "name": name, "handler": "probe", "misfire": misfire,
            "overlap": { "policy": "allow", "max": 100 },
            "schedule": { "kind": "every", "every_ms": 1_000 },
        }))
        .await;
    let what = format!("{name} runs");
    wait::until(&what, LIMIT, async || stage.starts(name) > 0).await;
}
