//! The cache of three nodes: loaded once, never older than the bound, whoever is cut off or stands still, and cleared everywhere.

use std::path::Path;

use serde_json::Value;
use tokio::time::Instant;
use understudy::runtime::cache::BOUND;
use understudy_tests::servers::Scratch;
use understudy_tests::{Client, Cluster, Fault, crowd, oracle, wait};

use super::ground::{LIMIT, cluster_of};
use super::outbox;

pub(super) const OPERATOR: &str = "operator-token-of-this-test";

/// Three nodes, each with its own way to Redis, and the file that their numbers are loaded from.
struct Stage {
    cluster: Cluster,
    folder: Scratch,
    client: Client,
}

impl Stage {
    async fn start() -> Self {
        let builder = cluster_of(3).proxies().env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR);
        let (cluster, folder) = (builder.start().await, Scratch::new("cache"));
        std::fs::write(folder.join("number"), "1").unwrap();
        Self { cluster, folder, client: Client::new() }
    }

    fn path(&self, key: &str, to: u64) -> String {
        let file = self.folder.join("number");
        format!("/cached?file={}&key={key}&to={to}", file.display())
    }

    async fn get(&self, node: usize, key: &str) -> Value {
        let url = self.cluster.url(node);
        self.client.get(url, &self.path(key, 0)).await.unwrap().expect(200).json()
    }

    async fn value(&self, node: usize) -> u64 {
        self.get(node, "k").await["value"].as_u64().expect("a number")
    }

    /// Asks for the number, which is not loaded before the gate is there.
    async fn through(&self, node: usize, gate: &Path) -> u64 {
        let path = format!("{}&gate={}", self.path("k", 0), gate.display());
        let answer = self.client.get(self.cluster.url(node), &path).await.unwrap().expect(200);
        answer.json::<Value>()["value"].as_u64().expect("a number")
    }

    /// How many ask for a number just now, on all nodes.
    async fn asking(&self) -> u64 {
        let mut asking = 0;
        for node in 0..3 {
            let url = self.cluster.url(node);
            let answer = self.client.get(url, "/cached-asking").await.unwrap().expect(200);
            asking += answer.json::<Value>()["asking"].as_u64().expect("a number");
        }
        asking
    }

    /// Changes the number through a node; returns when that was answered.
    async fn change(&self, node: usize, to: u64) -> Instant {
        let url = self.cluster.url(node);
        self.client.post(url, &self.path("k", to)).await.unwrap().expect(204);
        Instant::now()
    }

    /// Asks a node until long after a change was answered; returns how often it was asked so late that it had to know, and how
    /// often it did not.
    async fn late_and_old(&self, node: usize, newest: u64, changed: Instant) -> (usize, usize) {
        let (mut late, mut old) = (0, 0);
        wait::until("it was asked for long", LIMIT, async || {
            // Taken before the question: it is answered later still.
            if changed.elapsed() > BOUND {
                late += 1;
                old += usize::from(self.value(node).await < newest);
            } else {
                self.value(node).await;
            }
            changed.elapsed() > BOUND * 2
        })
        .await;
        (late, old)
    }

    async fn trusts(&self, node: usize, trusts: f64) {
        wait::until("it says whether it hears of changes", LIMIT, async || {
            let said = self.cluster.nodes[node].metric("understudy_cache_trusted").await;
            (said - trusts).abs() < f64::EPSILON
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_c3_c4_a_cache_of_three_nodes_is_loaded_once_and_never_older_than_its_bound() {
    let mut stage = Stage::start().await;
    for node in 0..3 {
        stage.get(node, "first").await;
        stage.trusts(node, 1.0).await;
    }
    loaded_once(&stage).await;
    heard_of_soon(&stage).await;
    told_in_metrics(&stage).await;
    cut_off_from_redis(&stage).await;
    standing_still(&stage).await;
    cleared_everywhere(&stage).await;
    outbox::changed_by_transactions(&mut stage.cluster).await;
}

async fn loads(stage: &Stage) -> u64 {
    let mut loads = 0;
    for node in 0..3 {
        loads += stage.get(node, "first").await["loads"].as_u64().expect("a number");
    }
    loads
}

async fn loaded_once(stage: &Stage) {
    // Each of these may load it once more: it was asked for before all heard of changes.
    for node in 0..3 {
        stage.get(node, "first").await;
    }
    let (before, gate) = (loads(stage).await, stage.folder.join("gate"));
    let asks = crowd(102, 102, async |number| stage.through(number % 3, &gate).await);
    let opens = async {
        let asking = async || stage.asking().await == 102;
        wait::until("all ask that are to, and nobody is answered", LIMIT, asking).await;
        std::fs::write(&gate, "").unwrap();
    };
    let (given, ()) = tokio::join!(asks, opens);
    oracle!(
        "answers of 102 that are another number",
        given.iter().filter(|it| **it != 1).count(),
        0
    );
    oracle!(
        "times that 102 who asked three nodes at once had it loaded",
        loads(stage).await - before,
        1
    );
}

async fn heard_of_soon(stage: &Stage) {
    let changed = stage.change(0, 2).await;
    oracle!("what the node that changed it gives", stage.value(0).await, 2);
    for node in [1, 2] {
        wait::until("the others give it", LIMIT, async || stage.value(node).await == 2).await;
    }
    oracle!("ms until all three gave it", changed.elapsed().as_millis(), <= BOUND.as_millis());
}

/// What a region holds and did on each node, and for how long nothing was heard of changes.
async fn told_in_metrics(stage: &Stage) {
    let names = [
        "entries",
        "bytes",
        "max_bytes",
        "trusted",
        "age_seconds",
        "reads_total",
        "evicted_total",
        "forgotten_total",
        "cleared_total",
    ];
    let mut missing = Vec::new();
    for node in &stage.cluster.nodes {
        let client = Client::new().bearing(OPERATOR);
        let told = client.get(node.admin_url(), "/metrics").await.unwrap().expect(200).text;
        for name in names {
            let series = format!("understudy_cache_{name}{{");
            let is_told = told
                .lines()
                .any(|line| line.starts_with(&series) && line.contains("region=\"fixture\""));
            if !is_told {
                missing.push(format!("{name} of {}", node.name()));
            }
        }
    }
    oracle!("series of the region that a node does not tell", missing.join(", "), "");
}

async fn cut_off_from_redis(stage: &Stage) {
    stage.cluster.proxies[2].redis.cut(Fault::Silent).await;
    let changed = stage.change(0, 3).await;
    let (late, old) = stage.late_and_old(2, 3, changed).await;
    oracle!("questions to a node without Redis after the bound", late, >= 1);
    oracle!("of these answered with the old value", old, 0);
    stage.trusts(2, 0.0).await;
    let refused = stage.client.post(stage.cluster.url(2), &stage.path("k", 99)).await.unwrap();
    oracle!("status of a change there", refused.status, 503);
    stage.cluster.proxies[2].redis.heal().await;
    stage.trusts(2, 1.0).await;
    oracle!("what it gives when it is back", stage.value(2).await, 3);
}

async fn standing_still(stage: &Stage) {
    oracle!("what it gives before it stands still", stage.value(1).await, 3);
    stage.cluster.nodes[1].stop();
    let changed = stage.change(0, 4).await;
    wait::until("it stood still for long", LIMIT, async || changed.elapsed() > BOUND).await;
    stage.cluster.nodes[1].cont();
    let (late, old) = stage.late_and_old(1, 4, changed).await;
    oracle!("questions to a node that stood still", late, >= 1);
    oracle!("of these answered with the old value", old, 0);
}

async fn cleared_everywhere(stage: &Stage) {
    let operator = Client::new().bearing(OPERATOR);
    let admin = stage.cluster.nodes[1].admin_url();
    stage.trusts(1, 1.0).await;
    for node in 0..3 {
        oracle!("what each node gives", stage.value(node).await, 4);
    }
    let one = operator.delete(admin, "/v1/caches/fixture/k").await.unwrap().expect(200);
    let one: Value = one.json();
    oracle!("the key that was forgotten", one["key"].as_str().unwrap_or_default(), "k");
    let all = operator.delete(admin, "/v1/caches/fixture").await.unwrap().expect(200);
    let all: Value = all.json();
    let caches = all["caches"].as_array().expect("a list");
    let left: u64 = caches.iter().filter_map(|cache| cache["entries"].as_u64()).sum();
    oracle!("nodes that have heard of it", caches.len(), 3);
    oracle!("values that are left", left, 0);
    let unknown = operator.delete(admin, "/v1/caches/nothing").await.unwrap().expect(404);
    let unknown: Value = unknown.json();
    oracle!("what there is not", unknown["code"].as_str().unwrap_or_default(), "unknown_region");
    operator.delete(admin, "/v1/caches").await.unwrap().expect(200);
    let listed = operator.get(admin, "/v1/caches").await.unwrap().expect(200);
    let listed: Value = listed.json();
    oracle!("regions of all nodes", listed["caches"].as_array().map_or(0, Vec::len), 3);
}
