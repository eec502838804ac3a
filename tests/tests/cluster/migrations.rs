//! Any order, all at once: the schema is made once.

use std::collections::BTreeSet;

use understudy_tests::{Node, NodeSpec, Postgres, Redis, crowd, oracle};

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
    let client = understudy_tests::Client::new();
    let path = "/api/session/values/n/increment";
    crowd(5, 20, async |number| {
        client.stranger().post(nodes[number % 10].public_url(), path).await.unwrap().expect(200);
    })
    .await;
}
