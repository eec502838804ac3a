//! Any order, all at once: the schema is made once.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use understudy_tests::{Client, Node, NodeSpec, Postgres, Redis, crowd, oracle, wait};

use super::ground::{LIMIT, bare, database};

/// Starts this many nodes at the same time on an empty database; returns them when all are ready.
async fn at_once(count: usize, round: &str, redis: &Redis, postgres: &Postgres) -> Vec<Node> {
    let url = database(postgres, round);
    let spec = |number: usize| -> NodeSpec {
        bare(&format!("{round}-{number}"))
            .envs(redis.environment())
            .env("UNDERSTUDY_CLUSTER_NAME", round)
            .env("UNDERSTUDY_DATABASE_URL", &url)
    };
    // All processes run before any of them is waited for.
    let nodes: Vec<Node> = (0..count).map(|number| spec(number).start()).collect();
    let mut ready = Vec::new();
    for mut node in nodes {
        node.ready(LIMIT).await;
        ready.push(node);
    }
    ready
}

/// The migrations that these nodes say they have applied.
fn applied(nodes: &[Node]) -> Vec<String> {
    let events = nodes.iter().flat_map(Node::events);
    let applied = events.filter(|event| event["fields"]["message"] == "migration applied");
    applied.map(|event| event["fields"]["migration"].as_str().unwrap().to_owned()).collect()
}

fn is_made_once(nodes: &[Node], round: &str, postgres: &Postgres) {
    let applied = applied(nodes);
    let names: BTreeSet<&String> = applied.iter().collect();
    assert!(!names.is_empty(), "an empty database needs migrations");
    oracle!(
        &format!("migrations of {} applied more than once", names.len()),
        applied.len() - names.len(),
        0
    );
    let url = postgres.url();
    let (server, _) = url.rsplit_once('/').expect("a database");
    let mut psql = std::process::Command::new(understudy_tests::servers::find_program("psql"));
    let count = "select count(*) from us_migration";
    psql.args(["-X", "-A", "-t", "-c", count, &format!("{server}/{round}")]);
    let rows = understudy_tests::servers::run(&mut psql, LIMIT).unwrap();
    oracle!("migrations in the book", rows, names.len().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn t7_three_nodes_at_once_on_an_empty_database_make_it_once() {
    /// As many races as the requirement asks for.
    const ROUNDS: usize = 20;
    let (redis, postgres) = tokio::join!(Redis::standalone(), Postgres::start());
    for round in 0..ROUNDS {
        let name = format!("round_{round}");
        let nodes = at_once(3, &name, &redis, &postgres).await;
        is_made_once(&nodes, &name, &postgres);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t7_ten_processes_at_once_on_an_empty_database_all_come_up() {
    let (redis, postgres) = tokio::join!(Redis::standalone(), Postgres::start());
    let nodes = at_once(10, "ten", &redis, &postgres).await;
    oracle!("nodes that are ready", nodes.len(), 10);
    is_made_once(&nodes, "ten", &postgres);
    let client = Client::new();
    let path = "/api/session/values/n/increment";
    crowd(5, 20, async |number| {
        client.stranger().post(nodes[number % 10].public_url(), path).await.unwrap().expect(200);
    })
    .await;
}

/// The migrations that a node tells of, once it tells of them.
async fn listed(admin: &Client, node: &Node) -> Option<Value> {
    let answer = admin.get(node.admin_url(), "/v1/migrations").await.ok()?;
    (answer.status == 200).then(|| answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_a_node_that_waits_applies_what_is_missing_when_it_is_told_to() {
    const APPLY: &str = "/v1/migrations/apply";
    const ADMIN: &str = "an-admin-of-these-tests";
    const OPERATOR: &str = "an-operator-of-these-tests";
    let spec = NodeSpec::new("waits")
        .env("UNDERSTUDY_DATABASE_MIGRATE", "wait")
        .env("UNDERSTUDY_ADMIN_TOKEN", ADMIN)
        .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR);
    let (admin, operator) = (Client::new().bearing(ADMIN), Client::new().bearing(OPERATOR));
    let mut node = spec.start();
    let (waiting, _) = wait::until_some("it waits", LIMIT, async || {
        listed(&admin, &node).await.filter(|told| told["waits"] == true)
    })
    .await;
    let names: Vec<&str> = waiting["migrations"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["state"] == "pending")
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"runtime_0001_node_leases") && names.len() > 4, "{waiting}");
    assert_eq!(waiting["pending"], names.len(), "{waiting}");
    operator.post(node.admin_url(), APPLY).await.unwrap().expect(403);
    let dry = admin.post(node.admin_url(), &format!("{APPLY}?dry_run=true")).await.unwrap();
    assert_eq!(dry.expect(200).json::<Value>()["pending"], json!(names));
    assert_eq!(listed(&admin, &node).await.unwrap()["pending"], names.len(), "it was dry");
    let applied: Value = admin.post(node.admin_url(), APPLY).await.unwrap().expect(200).json();
    oracle!(
        "migrations that were applied",
        applied["applied"].to_string(),
        json!(names).to_string()
    );
    assert_eq!(applied["pending"], json!([]), "{applied}");
    node.ready(LIMIT).await;
    // Connections of the starting node end with it.
    let admin = Client::new().bearing(ADMIN);
    let told = listed(&admin, &node).await.unwrap();
    assert_eq!((&told["pending"], &told["waits"]), (&json!(0), &json!(false)));
    let rows = told["migrations"].as_array().unwrap();
    assert!(
        rows.iter().all(|row| row["state"] == "applied" && row["program"] == told["program"]),
        "{told}"
    );
    assert!(
        rows.iter().all(|row| row["applied_ms"].as_i64().unwrap() > 1_700_000_000_000),
        "{told}"
    );
    let again: Value = admin.post(node.admin_url(), APPLY).await.unwrap().expect(200).json();
    assert_eq!((&again["applied"], &again["pending"]), (&json!([]), &json!([])));
    let entry = wait::until_some("it is written down", LIMIT, async || {
        let path = "/v1/audit?action=migrations.apply&outcome=refused";
        let audit: Value = admin.get(node.admin_url(), path).await.unwrap().expect(200).json();
        audit["entries"].as_array().unwrap().first().cloned()
    });
    assert_eq!(entry.await.0["by"], "operator", "what was refused while it started too");
}
