//! What nodes stand on when a test puts them together by hand.

use std::time::Duration;

use serde_json::Value;
use understudy_tests::{Client, Cluster, ClusterBuilder, Node, NodeSpec, Postgres, Program, Redis};

/// How long anything may take that is not measured.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
pub(super) const SECRET: &str = "a-secret-of-these-tests-0123456789abcdef";

/// A member of a cluster on these servers, which runs the fixture application.
pub(super) fn member(name: &str, redis: &Redis, postgres: &Postgres) -> NodeSpec {
    bare(name)
        .program(Program::Fixture)
        .envs(redis.environment())
        .env("UNDERSTUDY_DATABASE_URL", &postgres.url())
}

/// What every member needs that has no default, but for the servers.
pub(super) fn bare(name: &str) -> NodeSpec {
    NodeSpec::new(name)
        .env("UNDERSTUDY_CLUSTER_ENABLED", "true")
        .env("UNDERSTUDY_SESSION_SECRET", SECRET)
        .env("UNDERSTUDY_HTTP_EXTERNAL_URL", "http://127.0.0.1:1")
}

/// A cluster of the fixture application.
pub(super) fn cluster_of(nodes: usize) -> ClusterBuilder {
    Cluster::builder().nodes(nodes)
}

/// A node that is ready.
pub(super) async fn started(spec: NodeSpec) -> Node {
    let mut node = spec.start();
    node.ready(LIMIT).await;
    node
}

/// Starts a node that must refuse; returns its exit status and what it said.
pub(super) async fn refused(spec: NodeSpec) -> (i32, String) {
    let mut node = spec.start();
    let status = node.wait_exit(LIMIT).await.code().expect("it ended by itself");
    (status, node.log())
}

/// An empty database of its own on the server; returns its URL.
pub(super) fn database(postgres: &Postgres, name: &str) -> String {
    postgres.query(&format!("create database {name}"));
    let url = postgres.url();
    let (server, _) = url.rsplit_once('/').expect("the URL ends in the name of a database");
    format!("{server}/{name}")
}

/// What a node tells on its admin port.
pub(super) async fn told(node: &Node, path: &str) -> Value {
    Client::new().get(node.admin_url(), path).await.unwrap().expect(200).json()
}

/// The nodes that a node lists as alive, by name.
pub(super) async fn listed(node: &Node) -> Vec<String> {
    let list = told(node, "/v1/nodes").await;
    let nodes = list["nodes"].as_array().expect("a list");
    let live = nodes.iter().filter(|it| it["live"] == true);
    let id = |it: &Value| it["record"]["id"].as_str().expect("an id").to_owned();
    live.map(|it| id(it).split('#').next().unwrap_or_default().to_owned()).collect()
}
