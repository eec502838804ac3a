//! Nodes that come, with nothing told to those that are there.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use understudy_tests::{Client, Nginx, Postgres, Redis, crowd, oracle, wait};

use super::ground::{LIMIT, bare, cluster_of, listed, started, told};

/// What passes between two reports of a node: by then each has read what the others say.
const HEARTBEAT_MS: u128 = 1_000;
/// What the test itself takes to read three lists, one after the other, from nodes under load.
const READ_MS: u128 = 100;
/// Time in which nginx tries a node that does not serve several times.
const FEW_ROUNDS: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn t1_a_third_node_joins_under_load_and_no_request_fails() {
    let mut cluster = cluster_of(2).start().await;
    let spec = cluster.spec("node-c").await;
    let ports = [cluster.url(0), cluster.url(1)]
        .map(|url| url.rsplit_once(':').expect("a port").1.parse::<u16>().expect("a number"));
    let nginx = Nginx::start(&[ports[0], ports[1], spec.public_port()]).await;
    let spec = spec.env("UNDERSTUDY_HTTP_EXTERNAL_URL", &nginx.url());
    let (stop, stopped) = watch::channel(false);
    let (balancer, expected) = (nginx.url(), ["node-a", "node-b", "node-c"]);
    let load = load(&balancer, stopped);
    let join = async {
        let third = started(spec).await;
        let ready = Instant::now();
        cluster.nodes.push(third);
        for node in &cluster.nodes {
            wait::until("it lists all three", LIMIT, async || listed(node).await == expected).await;
        }
        let took = ready.elapsed().as_millis();
        wait::until("the third serves", LIMIT, async || {
            let asked = Client::new().get(&balancer, "/nothing").await;
            asked.is_ok_and(|answer| answer.node() == Some("node-c"))
        })
        .await;
        stop.send_replace(true);
        took
    };
    let (failures, took) = tokio::join!(load, join);
    oracle!("all list three after the third is ready, ms", took, within HEARTBEAT_MS + READ_MS);
    oracle!("requests that failed while it joined", failures.len(), 0);
}

/// Reads and counts through the balancer until told to stop; returns what went wrong.
async fn load(balancer: &str, stopped: watch::Receiver<bool>) -> Vec<String> {
    let failures = crowd(8, 8, async |number| {
        let (client, mut failures, mut counted) = (Client::new(), Vec::new(), 0);
        client.post(balancer, "/incr").await.unwrap().expect(200);
        while !*stopped.borrow() {
            let answer = match number % 2 {
                0 => client.get(balancer, "/read").await,
                _ => client.post(balancer, "/incr").await,
            };
            counted += 1;
            match answer {
                Ok(answer) if answer.status == 200 => {}
                other => failures.push(format!("request {counted} of {number}: {other:?}")),
            }
        }
        failures
    })
    .await;
    let failures: Vec<String> = failures.into_iter().flatten().collect();
    if let Some(first) = failures.first() {
        oracle::note(first);
    }
    failures
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_nodes_that_know_nothing_but_the_servers_find_each_other() {
    let (redis, postgres) = tokio::join!(Redis::standalone(), Postgres::start());
    let spec = |name| {
        bare(name)
            .envs(redis.environment())
            .env("UNDERSTUDY_DATABASE_URL", &postgres.url())
            .without_env("UNDERSTUDY_NODE_ID")
    };
    let (first, second) = tokio::join!(started(spec("first")), started(spec("second")));
    for node in [&first, &second] {
        wait::until("it lists both", LIMIT, async || listed(node).await.len() == 2).await;
    }
    let list = told(&first, "/v1/nodes").await;
    let nodes = list["nodes"].as_array().unwrap();
    for node in nodes {
        let record = &node["record"];
        assert!(record["host"].as_str().is_some_and(|host| !host.is_empty()), "{node}");
        assert_eq!(record["version"], env!("CARGO_PKG_VERSION"), "{node}");
    }
    let pids: Vec<u64> = nodes.iter().filter_map(|node| node["record"]["pid"].as_u64()).collect();
    for node in [&first, &second] {
        assert!(pids.contains(&u64::from(node.pid())), "{list}");
        let url = node.public_url().trim_start_matches("http://");
        let at = nodes.iter().filter(|it| it["record"]["public_addr"] == url).count();
        oracle!("entries with the node's own address", at, 1);
    }
    let names: Vec<String> = listed(&first).await;
    assert_ne!(names[0], names[1], "their names differ by their ports");
}

#[tokio::test(flavor = "multi_thread")]
async fn t10_an_occupied_port_is_told_and_no_other_is_taken() {
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap().to_string();
    for name in ["UNDERSTUDY_HTTP_BIND", "UNDERSTUDY_ADMIN_BIND"] {
        let spec = understudy_tests::NodeSpec::new("late").env(name, &address);
        let (status, said) = super::ground::refused(spec).await;
        oracle!("exit status", status, 1);
        assert!(said.contains(&address) && said.contains(name), "{said}");
    }
    drop(occupied);
    let spec = understudy_tests::NodeSpec::new("next").env("UNDERSTUDY_HTTP_BIND", &address);
    let mut node = spec.start();
    wait::until("it is there", Duration::from_secs(30), async || {
        let ready = Client::new().get(&format!("http://{address}"), "/readyz").await;
        ready.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    node.kill9();
}

/// A node that waits for its servers refuses connections on its public port, so that a balancer sends even writes on.
#[tokio::test(flavor = "multi_thread")]
async fn t1_a_node_that_takes_its_time_to_start_fails_no_request() {
    let mut cluster = cluster_of(2).start().await;
    let spec = cluster.spec("node-c").await;
    // Nobody listens there.
    let spec = spec.env("UNDERSTUDY_REDIS_URL", "redis://127.0.0.1:1");
    let ports = [cluster.url(0), cluster.url(1)]
        .map(|url| url.rsplit_once(':').expect("a port").1.parse::<u16>().expect("a number"));
    let nginx = Nginx::start(&[ports[0], ports[1], spec.public_port()]).await;
    let third = spec.env("UNDERSTUDY_HTTP_EXTERNAL_URL", &nginx.url()).start();
    wait::until("it lives", LIMIT, async || {
        let live = Client::new().get(third.admin_url(), "/livez").await;
        live.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let (stop, stopped) = watch::channel(false);
    let balancer = nginx.url();
    let begun = Instant::now();
    let end = async {
        // nginx asks a node that has failed again after a second.
        wait::until("it was asked a few times", LIMIT, async || begun.elapsed() > FEW_ROUNDS).await;
        stop.send_replace(true);
    };
    let (failures, ()) = tokio::join!(load(&balancer, stopped), end);
    oracle!("requests that failed while it waited", failures.len(), 0);
    drop(third);
}
