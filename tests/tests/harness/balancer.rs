//! nginx with the configuration that is shipped, before two tiny servers.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use understudy_tests::servers::{Scratch, find_program, run};
use understudy_tests::{Client, Nginx, oracle, wait};

use super::tiny::Tiny;

/// What the other tests are about, but for its addresses.
const SAMPLE: &str = include_str!("../../../deploy/nginx.conf");
/// The one that keeps a session at one node.
const AFFINITY: &str = include_str!("../../../deploy/nginx-affinity.conf");
/// What the README lets a stranger start on his own machine.
const LOCAL: &str = include_str!("../../../deploy/nginx-local.conf");

/// The lines of a block, without comments.
fn block<'a>(config: &'a str, head: &str) -> Vec<&'a str> {
    let lines = config.lines().map(str::trim).skip_while(|line| *line != head).skip(1);
    let lines = lines.take_while(|line| *line != "}");
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn the_configuration_for_one_machine_says_the_same_as_the_one_that_is_tested() {
    let location = block(SAMPLE, "location / {");
    assert!(location.contains(&"proxy_next_upstream error timeout http_503;"), "{location:?}");
    assert_eq!(block(LOCAL, "location / {"), location);
    // Where the nodes are is what differs; how they are treated is not.
    let nodes = |config| -> BTreeSet<String> {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let lines = block(config, "upstream understudy {").into_iter().map(words);
        lines
            .map(|mut words| {
                if words[0] == "server" {
                    words.remove(1);
                }
                words.join(" ")
            })
            .collect()
    };
    assert_eq!(nodes(LOCAL), nodes(SAMPLE));
}

#[test]
fn nginx_accepts_the_configuration_for_one_machine() {
    let folder = Scratch::new("local");
    std::fs::create_dir_all(folder.join("deploy")).unwrap();
    std::fs::create_dir_all(folder.join("nginx-temp")).unwrap();
    std::fs::write(folder.join("deploy/nginx-local.conf"), LOCAL).unwrap();
    // With the words of the README, but for the -t: it is looked at and not started.
    let mut nginx = Command::new(find_program("nginx"));
    nginx.current_dir(folder.path()).args(["-t", "-p", ".", "-c", "deploy/nginx-local.conf"]);
    run(&mut nginx, Duration::from_secs(10)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_spreads_requests_over_all_nodes_and_keeps_connections() {
    let (a, b) = (Tiny::start("a").await, Tiny::start("b").await);
    let nginx = Nginx::start(&[a.port, b.port]).await;
    let (client, mut seen) = (Client::new(), BTreeMap::new());
    for _ in 0..40 {
        let answer = client.get(&nginx.url(), "/").await.unwrap().expect(200);
        *seen.entry(answer.node().unwrap().to_owned()).or_insert(0) += 1;
    }
    oracle!("requests of 40 at node a", seen["a"], >= 15);
    oracle!("requests of 40 at node b", seen["b"], >= 15);
    // Two workers of nginx, two nodes; without keep-alive there were 40.
    let connections =
        a.shared.connections.load(Ordering::SeqCst) + b.shared.connections.load(Ordering::SeqCst);
    let workers = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    oracle!("connections to nodes", connections, <= 4 * workers);
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_with_affinity_sends_a_session_to_one_node_as_long_as_that_is_there() {
    const SESSIONS: usize = 60;
    let nodes = [Tiny::start("a").await, Tiny::start("b").await, Tiny::start("c").await];
    let nginx = Nginx::with_config(AFFINITY, &nodes.each_ref().map(|node| node.port)).await;
    let node_of = async |number: usize, secret: &str| {
        let client = Client::new();
        client.set_cookie("usid", &format!("Locator-{number:014}.{secret}"));
        let answer = client.get(&nginx.url(), "/").await.unwrap().expect(200);
        answer.node().unwrap().to_owned()
    };
    let mut homes = Vec::new();
    for number in 0..SESSIONS {
        homes.push(node_of(number, "secret").await);
    }
    let mut strayed = 0;
    for (number, home) in homes.iter().enumerate() {
        strayed += usize::from(node_of(number, "another").await != *home);
    }
    oracle!("of 60 sessions with a new secret at another node", strayed, 0);
    for node in ["a", "b", "c"] {
        let here = homes.iter().filter(|home| *home == node).count();
        oracle!("of 60 sessions at one of three nodes", here, >= 6);
    }
    nodes[0].shared.get_status.store(503, Ordering::SeqCst);
    let mut moved = 0;
    for (number, home) in homes.iter().enumerate() {
        let now = node_of(number, "secret").await;
        assert_ne!(now, "a", "it drains");
        moved += usize::from(home != "a" && now != *home);
    }
    oracle!("sessions of other nodes that moved when one went", moved, 0);
    // Without a session any node will do.
    let (client, mut seen) = (Client::new(), BTreeMap::new());
    nodes[0].shared.get_status.store(200, Ordering::SeqCst);
    wait::until("nginx asks all nodes again", Duration::from_secs(10), async || {
        let answer = client.get(&nginx.url(), "/").await.unwrap().expect(200);
        *seen.entry(answer.node().unwrap().to_owned()).or_insert(0) += 1;
        seen.len() == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_with_affinity_passes_readers_on_when_all_nodes_answer_503() {
    let nodes = [Tiny::start("a").await, Tiny::start("b").await];
    let nginx = Nginx::with_config(AFFINITY, &nodes.each_ref().map(|node| node.port)).await;
    let client = Client::new();
    client.set_cookie("usid", "Locator-00000000000001.secret");
    nodes.iter().for_each(|node| node.shared.get_status.store(503, Ordering::SeqCst));
    let mut answered = 0;
    for _ in 0..20 {
        answered += usize::from(client.get(&nginx.url(), "/").await.unwrap().status == 503);
    }
    oracle!("answers of 20 that came from a node and not from nginx", answered, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_tells_nodes_who_the_client_is_and_lets_nobody_invent_it() {
    let node = Tiny::start("a").await;
    let nginx = Nginx::start(&[node.port]).await;
    let client = Client::new();
    let request = client
        .build(reqwest::Method::GET, &nginx.url(), "/page")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("Forwarded", "for=6.6.6.6")
        .header("X-Forwarded-Proto", "https");
    let head = client.send(request).await.unwrap().text.to_ascii_lowercase();
    assert!(head.contains("get /page http/1.1"), "{head}");
    let host = nginx.url().replace("http://", "");
    assert!(head.contains(&format!("\r\nhost: {host}\r\n")), "{head}");
    assert!(head.contains(&format!("\r\nx-forwarded-host: {host}\r\n")), "{head}");
    assert!(head.contains("\r\nx-forwarded-for: 6.6.6.6, 127.0.0.1\r\n"), "{head}");
    assert!(head.contains("\r\nx-forwarded-proto: http\r\n"), "{head}");
    assert!(!head.contains("\r\nforwarded:"), "{head}");
    assert!(!head.contains("\r\nconnection:"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_or_dead_node_costs_no_request() {
    let (a, b) = (Tiny::start("a").await, Tiny::start("b").await);
    let nginx = Nginx::start(&[a.port, b.port]).await;
    let client = Client::new();
    a.shared.get_status.store(503, Ordering::SeqCst);
    for _ in 0..20 {
        let answer = client.get(&nginx.url(), "/").await.unwrap().expect(200);
        assert_eq!(answer.node(), Some("b"));
    }
    oracle!("requests to a node that drains", a.requests(), <= 4);
    a.shared.get_status.store(200, Ordering::SeqCst);
    wait::until("nginx asks the healed node again", Duration::from_secs(5), async || {
        client.get(&nginx.url(), "/").await.unwrap().node() == Some("a")
    })
    .await;
    drop(a);
    for _ in 0..20 {
        // Not POST: one that meets the end of a kept connection may have been delivered.
        let answer = client.get(&nginx.url(), "/").await.unwrap().expect(200);
        assert_eq!(answer.node(), Some("b"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_never_sent_twice() {
    let (a, b) = (Tiny::start("a").await, Tiny::start("b").await);
    let nginx = Nginx::start(&[a.port, b.port]).await;
    a.shared.mute.store(true, Ordering::SeqCst);
    b.shared.mute.store(true, Ordering::SeqCst);
    let answer = Client::new().post(&nginx.url(), "/").await.unwrap();
    assert_eq!(answer.status, 502);
    oracle!("deliveries of one POST that got no answer", a.requests() + b.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_nodes_answer_503_it_reaches_the_client_and_others_are_served() {
    let nodes = [Tiny::start("a").await, Tiny::start("b").await, Tiny::start("c").await];
    let nginx = Nginx::start(&nodes.each_ref().map(|node| node.port)).await;
    let client = Client::new();
    nodes.iter().for_each(|node| node.shared.get_status.store(503, Ordering::SeqCst));
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(client.get(&nginx.url(), "/").await.unwrap().status);
        statuses.push(client.post(&nginx.url(), "/").await.unwrap().status);
    }
    assert_eq!(statuses, [503, 200].repeat(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_gets_no_post_while_others_are_there() {
    let nodes = [Tiny::start("a").await, Tiny::start("b").await, Tiny::start("c").await];
    let nginx = Nginx::start(&nodes.each_ref().map(|node| node.port)).await;
    let client = Client::new();
    nodes[0].shared.get_status.store(503, Ordering::SeqCst);
    while nodes[0].requests() == 0 {
        client.get(&nginx.url(), "/").await.unwrap().expect(200);
    }
    let before = nodes[0].requests();
    for _ in 0..30 {
        client.post(&nginx.url(), "/").await.unwrap().expect(200);
    }
    oracle!(
        "requests of 30 within a second to a node that drains",
        nodes[0].requests() - before,
        0
    );
}
