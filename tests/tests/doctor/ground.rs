//! What these tests stand on: clusters, what a node tells, and nodes that are not there.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use understudy_tests::{Answer, Client, Cluster, ClusterBuilder, Node, NodeSpec, oracle, wait};

/// How long anything may take that is not measured.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// How soon every node must tell of a problem.
pub(super) const SOON_MS: u128 = 5_000;
pub(super) const OPERATOR: &str = "an-operator-of-these-tests-0123456789";
/// The address of the application, where a test does not set another.
const EXTERNAL: &str = "http://127.0.0.1:1";
/// How often is looked: each look is a request, and a question to all nodes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The list of nodes.
const LIST: &str = "us:understudy:{m}:nodes";

/// Three clusters at a time, which wait most of the time: two cores bear no more.
static TURN: Semaphore = Semaphore::const_new(3);

/// A cluster that shares the machine with two others at most.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    _turn: SemaphorePermit<'static>,
}

impl Stage {
    /// A cluster of the fixture application.
    pub(super) async fn of(nodes: usize) -> Self {
        Self::with(Cluster::builder().nodes(nodes)).await
    }

    pub(super) async fn with(builder: ClusterBuilder) -> Self {
        // Without a balancer each node of the harness is its own address, which would be drift.
        Self::behind_a_balancer(builder.env("UNDERSTUDY_HTTP_EXTERNAL_URL", EXTERNAL)).await
    }

    /// A cluster whose nodes all have the balancer's address.
    pub(super) async fn behind_a_balancer(builder: ClusterBuilder) -> Self {
        let turn = TURN.acquire().await.expect("the semaphore is never closed");
        let cluster = builder.env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR).start().await;
        Self { cluster, _turn: turn }
    }

    pub(super) fn node(&self, index: usize) -> &Node {
        &self.cluster.nodes[index]
    }

    /// One more node with the options of all.
    pub(super) async fn spec(&mut self, name: &str) -> NodeSpec {
        let spec = self.cluster.spec(name).await;
        spec.env("UNDERSTUDY_HTTP_EXTERNAL_URL", EXTERNAL)
            .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
    }

    /// Waits until every node that runs tells of a problem with these words in it, and checks that it came in time.
    pub(super) async fn all_tell(&self, code: &str, part: &str) -> Value {
        self.all_tell_while(code, part, || ()).await
    }

    /// The same, while something is done again and again.
    pub(super) async fn all_tell_while(&self, code: &str, part: &str, keep: impl Fn()) -> Value {
        let begun = Instant::now();
        let mut found = Value::Null;
        for node in self.cluster.nodes.iter().filter(|node| node.is_running()) {
            let what = format!("{} tells of {code}", node.name());
            (found, _) = wait::poll(&what, LIMIT, LOOK_EVERY, async || {
                keep();
                problem(node, code, part).await
            })
            .await;
        }
        let took = begun.elapsed().as_millis();
        oracle!(&format!("{code} is told by all nodes after, ms"), took, within SOON_MS);
        let fix = found["fix"].as_str().unwrap_or_default();
        assert!(!fix.is_empty(), "it says what helps: {found}");
        found
    }

    /// Waits until all nodes tell a problem in the same words, so that it is one for operators.
    pub(super) async fn all_in_the_same_words(&self, code: &str, keep: impl Fn()) {
        let nodes = self.cluster.nodes.len();
        let (told, _) =
            wait::poll("all tell it in the same words", LIMIT, LOOK_EVERY, async || {
                keep();
                let told = problem(self.node(0), code, "").await?;
                (told["nodes"].as_array()?.len() == nodes).then_some(nodes)
            })
            .await;
        oracle!("nodes that tell it in the same words", told, nodes);
    }

    /// Writes a node into the list that is not there: a copy of the first with some words changed. Who is silent is dead,
    /// so it must be done again and again.
    pub(super) fn haunt(&self, changes: &[(&str, &str)]) {
        let entry = self.cluster.redis.cli(&["HGET", LIST, "node-a"]);
        let json = entry.splitn(3, '|').nth(2).expect("an entry has three parts");
        let id = json.split('"').nth(3).expect("it begins with its id");
        let mut json = json.replacen(id, "ghost#0000000000000001", 1);
        for (from, to) in changes {
            assert!(json.contains(from), "{from} in {json}");
            json = json.replace(from, to);
        }
        let time = self.cluster.redis.cli(&["TIME"]);
        let parts: Vec<u64> = time.lines().map(|part| part.trim().parse().unwrap()).collect();
        let now_ms = parts[0] * 1_000 + parts[1] / 1_000;
        self.cluster.redis.cli(&["HSET", LIST, "ghost", &format!("{now_ms}|{now_ms}|{json}")]);
    }
}

/// Asks the admin port of a node as an operator.
pub(super) async fn ask(node: &Node, path: &str) -> Answer {
    Client::new().bearing(OPERATOR).get(node.admin_url(), path).await.expect("an answer")
}

pub(super) async fn told(node: &Node, path: &str) -> Value {
    ask(node, path).await.expect(200).json()
}

/// What a node tells of a code, if it does, with these words in it.
pub(super) async fn problem(node: &Node, code: &str, part: &str) -> Option<Value> {
    let told = told(node, "/v1/problems").await;
    let problems = told["problems"].as_array().expect("a list");
    let is_it = |it: &&Value| {
        it["code"] == code && it["text"].as_str().is_some_and(|text| text.contains(part))
    };
    problems.iter().find(is_it).cloned()
}

/// Waits until a node tells no more of a code.
pub(super) async fn gone(node: &Node, code: &str) {
    wait::poll(&format!("{code} is told no more"), LIMIT, LOOK_EVERY, async || {
        problem(node, code, "").await.is_none().then_some(())
    })
    .await;
}

/// Starts a node that must refuse; returns its exit status and what it said.
pub(super) async fn refused(spec: NodeSpec) -> (i32, String) {
    let mut node = spec.start();
    let status = node.wait_exit(LIMIT).await.code().expect("it ended by itself");
    (status, node.log())
}

/// One check of an examination.
pub(super) fn check<'a>(examination: &'a Value, code: &str) -> &'a Value {
    let checks = examination["checks"].as_array().expect("a list");
    let found = checks.iter().find(|check| check["code"] == code);
    found.unwrap_or_else(|| panic!("no check {code} in {examination}"))
}

/// Waits until the doctor finds a check as expected; gives it, and proves that he says what helps unless all is well.
pub(super) async fn found(node: &Node, code: &str, expected: &str) -> Value {
    let what = format!("the doctor finds {code} {expected}");
    let every = Duration::from_millis(300);
    let (found, _) = wait::poll(&what, LIMIT, every, async || {
        let examination = told(node, "/v1/diag").await;
        let check = check(&examination, code).clone();
        (check["result"] == expected).then_some(check)
    })
    .await;
    oracle!(code, found["result"].as_str().unwrap(), expected);
    let is_well = matches!(expected, "ok" | "skipped");
    assert_eq!(found["fix"].as_str().unwrap().is_empty(), is_well, "{found}");
    found
}
