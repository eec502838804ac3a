//! HAProxy with the configuration that is shipped, before real nodes that come and go, and before tiny servers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use understudy_tests::servers::{HaProxy, free_port};
use understudy_tests::{Client, Cluster, Data, oracle, wait};

use super::ledger::{Ledger, turn};
use super::tiny::Tiny;
use super::traffic::{STEADY, Tally, Traffic};

const LIMIT: Duration = Duration::from_secs(60);

fn ports(cluster: &Cluster) -> Vec<u16> {
    let port = |url: &str| url.rsplit(':').next().unwrap().parse().unwrap();
    cluster.nodes.iter().map(|node| port(node.public_url())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn o2_behind_haproxy_a_node_that_is_stopped_fails_nothing_and_one_that_is_killed_fails_no_get()
 {
    let _turn = turn().await;
    let port = free_port();
    let builder = Cluster::builder()
        .env("UNDERSTUDY_HTTP_EXTERNAL_URL", &HaProxy::url_at(port))
        .env("UNDERSTUDY_OPS_DRAIN_MODE", "active_lb");
    let mut cluster = builder.start().await;
    let balancer = HaProxy::before(&cluster, port).await;
    let ledger = Ledger::begin(&balancer.url(), 12).await;
    let traffic = Traffic::start(&ledger, &[&balancer.url()], STEADY);
    let goes_on = async |what: &str| {
        ledger.mark().await;
        wait::until(what, LIMIT, async || ledger.all_written_since_mark(4)).await;
    };
    goes_on("traffic runs").await;
    cluster.nodes[0].terminate();
    let status = cluster.nodes[0].wait_exit(LIMIT).await;
    goes_on("traffic goes on without the stopped node").await;
    let failed_posts = Tally::get(&traffic.tally().failed_writes);
    oracle!("exit status", status.code().unwrap(), 0);
    oracle!(
        "GETs that failed while a node was stopped",
        Tally::get(&traffic.tally().failed_reads),
        0
    );
    oracle!("POSTs that failed while a node was stopped", failed_posts, 0);
    cluster.restart(0).await;
    balancer.noticed("UP", 1).await;
    goes_on("traffic goes on with all nodes").await;
    cluster.kill9(1);
    goes_on("traffic goes on without the killed node").await;
    let tally = traffic.stop().await;
    oracle!("GETs that failed in all", Tally::get(&tally.failed_reads), 0);
    oracle!("GETs that were stale", Tally::get(&tally.stale), 0);
    // A POST that was at the node when it died may have been carried out; it is not sent again.
    oracle!("POSTs that failed when a node was killed", Tally::get(&tally.failed_writes), <= 12);
    ledger.is_exact(&balancer.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_node_is_ready_those_are_served_whom_the_nodes_can_serve() {
    let _turn = turn().await;
    let port = free_port();
    let builder = Cluster::builder()
        .nodes(2)
        .env("UNDERSTUDY_HTTP_EXTERNAL_URL", &HaProxy::url_at(port))
        .env("UNDERSTUDY_OPS_DRAIN_MODE", "active_lb");
    let mut cluster = builder.start().await;
    let mut nodes = ports(&cluster);
    nodes.push(free_port()); // a third that is not there
    let balancer = HaProxy::start(port, &nodes).await;
    let client = Client::new();
    client.post(&balancer.url(), "/incr").await.unwrap().expect(200);
    cluster.redis.kill();
    wait::until("no node is ready", LIMIT, async || {
        balancer.log().contains("backend ready_nodes has no server available")
    })
    .await;
    let mut served = 0;
    for _ in 0..30 {
        served += usize::from(client.get(&balancer.url(), "/nothing").await.unwrap().status == 200);
    }
    oracle!("requests of 30 served that need no session", served, 30);
    let refused = client.post(&balancer.url(), "/incr").await.unwrap().expect(503);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"), "{refused:?}");
    cluster.redis.restart(Data::Lost).await;
    wait::until("sessions are served again", LIMIT, async || {
        client.post(&balancer.url(), "/incr").await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_tells_nodes_who_the_client_is_and_lets_nobody_invent_it() {
    let node = Tiny::start("a").await;
    let balancer = HaProxy::start(free_port(), &[node.port]).await;
    let client = Client::new();
    let request = client
        .build(reqwest::Method::GET, &balancer.url(), "/page")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("Forwarded", "for=6.6.6.6")
        .header("X-Forwarded-Proto", "https");
    let head = client.send(request).await.unwrap().text.to_ascii_lowercase();
    let lines = |name: &str| -> Vec<&str> {
        head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
    };
    let host = balancer.url().replace("http://", "");
    assert_eq!(lines("host"), [host.as_str()]);
    assert_eq!(lines("x-forwarded-host"), [host.as_str()]);
    assert_eq!(lines("x-forwarded-proto"), ["http"]);
    // What the client said, then what is true: nodes read from the right.
    assert_eq!(lines("x-forwarded-for"), ["6.6.6.6", "127.0.0.1"]);
    assert_eq!(lines("forwarded"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_is_sent_again_and_a_post_never() {
    let (a, b) = (Tiny::start("a").await, Tiny::start("b").await);
    let balancer = HaProxy::start(free_port(), &[a.port, b.port, free_port()]).await;
    let client = Client::new();
    a.shared.mute.store(true, Ordering::SeqCst);
    b.shared.mute.store(true, Ordering::SeqCst);
    let answer = client.post(&balancer.url(), "/").await.unwrap();
    assert!(matches!(answer.status, 502..=504), "{answer:?}");
    let posts = [&a, &b].iter().map(|tiny| tiny.shared.posts.load(Ordering::SeqCst)).sum::<u32>();
    oracle!("deliveries of one POST that got no answer", posts, 1);
    // Half of these go to the mute one first.
    b.shared.mute.store(false, Ordering::SeqCst);
    for _ in 0..20 {
        let answer = client.get(&balancer.url(), "/").await.unwrap().expect(200);
        assert_eq!(answer.node(), Some("b"));
    }
}
