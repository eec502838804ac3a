//! Three nodes and their operators.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use understudy_tests::{Answer, Client, Cluster, ClusterBuilder, Node, wait};

/// How long anything may take that only must happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const ADMIN: &str = "an-admin-of-these-tests";
pub(crate) const OPERATOR: &str = "an-operator-of-these-tests";
pub(crate) const VIEWER: &str = "a-viewer-of-these-tests";

/// Three clusters at a time, which wait most of the time: two cores bear no more.
static TURN: Semaphore = Semaphore::const_new(3);

/// A cluster under test.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    _turn: SemaphorePermit<'static>,
}

/// Waits until few enough other tests of this binary run.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    TURN.acquire().await.expect("the semaphore is never closed")
}

impl Stage {
    /// Three nodes on a standalone Redis.
    pub(crate) async fn start() -> Self {
        Self::with(Cluster::builder()).await
    }

    /// A cluster with these options.
    pub(crate) async fn with(builder: ClusterBuilder) -> Self {
        let turn = turn().await;
        let builder = builder
            .env("UNDERSTUDY_ADMIN_TOKEN", ADMIN)
            .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
            .env("UNDERSTUDY_ADMIN_VIEWER_TOKEN", VIEWER)
            .env("UNDERSTUDY_LEADER_TTL_MS", "3000")
            .env("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "0");
        Self { cluster: builder.start().await, _turn: turn }
    }

    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.cluster.nodes[number]
    }

    /// Asks the admin API of a node for something, as an admin.
    pub(crate) async fn told(&self, number: usize, path: &str) -> Value {
        told(self.node(number), path).await
    }

    /// Puts something, as an admin.
    pub(crate) async fn put(&self, number: usize, path: &str, body: Value) -> Answer {
        put(self.node(number), path, body).await
    }

    /// Sets the maintenance mode; fails the test when a node does not know of it.
    pub(crate) async fn maintenance(&self, number: usize, body: Value) -> Value {
        let answer: Value = self.put(number, "/v1/maintenance", body).await.expect(200).json();
        assert_eq!(answer["unreachable"], json!([]), "{answer}");
        answer
    }

    /// Asks each node's public port for a page; returns the statuses.
    pub(crate) async fn statuses(&self, path: &str) -> Vec<u16> {
        let mut statuses = Vec::new();
        for node in &self.cluster.nodes {
            statuses.push(ask(node, path).await.status);
        }
        statuses
    }
}

pub(crate) fn admin() -> Client {
    Client::new().bearing(ADMIN)
}

pub(crate) async fn told(node: &Node, path: &str) -> Value {
    admin().get(node.admin_url(), path).await.expect("an answer").expect(200).json()
}

pub(crate) async fn put(node: &Node, path: &str, body: Value) -> Answer {
    admin().put_json(node.admin_url(), path, &body).await.expect("an answer")
}

/// Asks the public port of a node.
pub(crate) async fn ask(node: &Node, path: &str) -> Answer {
    Client::new().get(node.public_url(), path).await.expect("an answer")
}

/// What is in force on a node.
pub(crate) async fn value(node: &Node, setting: &str) -> Value {
    let settings = told(node, "/v1/settings").await;
    let settings = settings["settings"].as_array().expect("a list").clone();
    let found = settings.into_iter().find(|one| one["name"] == setting);
    found.unwrap_or_else(|| panic!("there is a setting {setting}"))
}

/// Waits until every node says that it is ready.
pub(crate) async fn all_ready(stage: &Stage) {
    wait::until("all nodes are ready", LIMIT, async || {
        stage.statuses("/health/ready").await.iter().all(|status| *status == 200)
    })
    .await;
}
