use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use tokio::time::Instant;

use super::*;
use crate::redis::Role;
use crate::redis::testing::{RedisServer, cluster, config, connected, eventually, node};

#[derive(Debug, Serialize, Deserialize)]
struct Double(u64);

impl BusRequest for Double {
    const NAME: &'static str = "test.double";
    type Reply = u64;
}

#[derive(Debug, Serialize, Deserialize)]
struct Unheard;

impl BusRequest for Unheard {
    const NAME: &'static str = "test.unheard";
    type Reply = ();
}

const SECOND: Duration = Duration::from_secs(1);

fn nobody() -> Targets {
    Arc::new(Vec::new)
}

async fn start(config: &crate::config::RedisConfig, name: &str, targets: Targets) -> Bus {
    let node = node(name);
    let publisher = Redis::connect(config, Role::Bus, &node).await.unwrap();
    let subscriber = Redis::connect(config, Role::Subscriber, &node).await.unwrap();
    connected(&publisher).await;
    connected(&subscriber).await;
    let keys = KeySpace::new(&"t".parse().unwrap(), publisher.buckets());
    let bus = Bus::redis(publisher, &subscriber, keys, node, targets);
    bus.handle(async |_from, Double(number)| number * 2);
    tokio::time::timeout(SECOND * 5, bus.listening()).await.expect("it hears itself");
    bus
}

async fn many_requests(from: &Bus, to: &Bus, count: u64) -> Duration {
    let begin = Instant::now();
    let each = (0..count).map(|number| async move {
        assert_eq!(from.request(to.node_id(), &Double(number), SECOND * 5).await, Ok(number * 2));
    });
    futures_util::future::join_all(each).await;
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_once_are_answered_in_few_packets() {
    let server = RedisServer::start().await;
    let (a, b) = (
        start(&server.config(), "a", nobody()).await,
        start(&server.config(), "b", nobody()).await,
    );
    let published = || {
        let stats = server.cli(&["info", "commandstats"]);
        let line =
            stats.lines().find(|line| line.starts_with("cmdstat_publish:")).unwrap().to_owned();
        line.split(['=', ',']).nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = published();
    let begin = Instant::now();
    for number in 0..100 {
        assert_eq!(a.request(b.node_id(), &Double(number), SECOND).await, Ok(number * 2));
    }
    println!(
        "one by one: {:?} each, {} publishes for 100",
        begin.elapsed() / 100,
        published() - before
    );
    assert!(published() - before < 220, "one each way, and echoes");
    let before = published();
    let took = many_requests(&a, &b, 1000).await;
    println!("1000 at once: {took:?}, {} publishes", published() - before);
    assert!(published() - before < 500, "{}", published() - before);
    let both = tokio::join!(many_requests(&a, &b, 1000), many_requests(&b, &a, 1000));
    println!("both ways: {both:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_there_is_found_out_at_once() {
    let server = RedisServer::start().await;
    let a = start(&server.config(), "a", nobody()).await;
    let begin = Instant::now();
    let error = a.request(&node("gone"), &Double(1), SECOND * 5).await.unwrap_err();
    assert!(error == BusError::NoReceiver && error.surely_not_done());
    assert!(begin.elapsed() < SECOND / 2, "{:?}", begin.elapsed());
    let b = start(&server.config(), "b", nobody()).await;
    let id = b.node_id().clone();
    assert_eq!(a.request(&id, &Double(2), SECOND).await, Ok(4));
    drop(b);
    let mut answer = a.request(&id, &Double(3), SECOND * 5).await;
    while answer == Ok(6) {
        answer = a.request(&id, &Double(3), SECOND * 5).await; // a bus that is dropped ends with its next beat
    }
    assert!(answer.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_to_fail_has_its_name() {
    let hub = LocalHub::new();
    let (a, b) = (Bus::local(&hub, node("a")), Bus::local(&hub, node("b")));
    let ask = async |message| a.request(b.node_id(), &message, SECOND / 5).await;
    assert_eq!(ask(Double(1)).await, Err(BusError::NoHandler));
    b.handle(async |_from, Double(number)| {
        if number == 0 {
            std::future::pending::<()>().await;
        }
        assert!(number < 100, "a handler that fails");
        number * 2
    });
    assert_eq!(ask(Double(1)).await, Ok(2));
    assert_eq!(ask(Double(0)).await, Err(BusError::TimedOut));
    // Longer, because a panic that is printed takes its time.
    assert_eq!(a.request(b.node_id(), &Double(100), SECOND * 10).await, Err(BusError::Unavailable));
    assert_eq!(a.request(b.node_id(), &Unheard, SECOND).await, Err(BusError::NoHandler));
    assert_eq!(ask(Double(3)).await, Ok(6), "none of it harms the next");
    assert_eq!(a.request(&node("x"), &Double(1), SECOND).await, Err(BusError::NoReceiver));

    #[derive(Debug, Serialize, Deserialize)]
    struct OtherForm(String);
    impl BusRequest for OtherForm {
        const NAME: &'static str = Double::NAME;
        type Reply = u64;
    }
    let misread = a.request(b.node_id(), &OtherForm("x".to_owned()), SECOND).await;
    assert_eq!(misread, Err(BusError::Undecodable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_reaches_all_and_tells_who_answered() {
    let hub = LocalHub::new();
    let buses: Vec<Bus> = ["a", "b", "c"].map(|name| Bus::local(&hub, node(name))).into();
    for bus in &buses[..2] {
        bus.handle(async |from: NodeId, Double(number)| number + from.name().as_str().len() as u64);
    }
    let answers: std::collections::HashMap<_, _> =
        buses[0].broadcast(&Double(5), SECOND).await.into_iter().collect();
    assert_eq!(answers[buses[0].node_id()], Ok(6), "a node asks itself, too");
    assert_eq!(answers[buses[1].node_id()], Ok(6));
    assert_eq!(answers[buses[2].node_id()], Err(BusError::NoHandler));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_an_answer_is_carried_out() {
    let hub = LocalHub::new();
    let (a, b) = (Bus::local(&hub, node("a")), Bus::local(&hub, node("b")));
    let heard = Arc::new(AtomicUsize::new(0));
    for bus in [&a, &b] {
        let heard = heard.clone();
        bus.handle(move |_from, Double(number)| {
            heard.fetch_add(number as usize, Ordering::Relaxed);
            async { 0 }
        });
    }
    a.send(b.node_id(), &Double(3));
    a.send(a.node_id(), &Double(4));
    a.send(&node("gone"), &Double(5));
    eventually("both were heard", || heard.load(Ordering::Relaxed) == 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k4_a_node_takes_no_more_requests_than_it_can_handle_and_says_so() {
    let hub = LocalHub::new();
    let (a, b) = (Bus::local(&hub, node("a")), Bus::local(&hub, node("b")));
    b.handle(async |_from, Double(_)| std::future::pending().await);
    let (from, to) = (&a, b.node_id());
    let each = (0..5000)
        .map(async |number| from.request(to, &Double(number), Duration::from_millis(800)).await);
    let answers = futures_util::future::join_all(each).await;
    let refused = answers.iter().filter(|answer| **answer == Err(BusError::NoReceiver)).count();
    assert_eq!(refused, 5000 - 4096);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_does_not_stop_the_messages_of_others() {
    let server = RedisServer::start().await;
    let (a, b) = (
        start(&server.config(), "a", nobody()).await,
        start(&server.config(), "b", nobody()).await,
    );
    for round in 0..50 {
        // Given up at every possible moment: before it is sent, while it is on its way, while it is handled.
        let short = Duration::from_micros(round * 40);
        tokio::time::timeout(short, a.request(b.node_id(), &Double(1), SECOND)).await.ok();
        assert_eq!(a.request(b.node_id(), &Double(round), SECOND).await, Ok(round * 2), "{round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k5_messages_go_on_after_redis_was_killed_and_a_gap_is_told() {
    let mut server = RedisServer::start().await;
    let (a, b) = (
        start(&server.config(), "a", nobody()).await,
        start(&server.config(), "b", nobody()).await,
    );
    let gaps = Arc::new(AtomicUsize::new(0));
    let counted = gaps.clone();
    b.on_gap(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    server.kill();
    let begin = Instant::now();
    let error = a.request(b.node_id(), &Double(1), SECOND * 5).await.unwrap_err();
    assert!(!error.surely_not_done() && begin.elapsed() < SECOND, "{error} {:?}", begin.elapsed());
    server.launch().await;
    let begin = Instant::now();
    while a.request(b.node_id(), &Double(2), SECOND).await != Ok(4) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begin.elapsed() < SECOND * 2, "{:?}", begin.elapsed());
    assert!(gaps.load(Ordering::Relaxed) >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_was_lost_without_a_word_is_made_anew() {
    let server = RedisServer::start().await;
    let (a, b) = (
        start(&server.config(), "a", nobody()).await,
        start(&server.config(), "b", nobody()).await,
    );
    // The connection stays, but what is sent to it does not come: as with a slot that moved.
    server.cli(&["client", "kill", "type", "pubsub"]);
    let begin = Instant::now();
    while a.request(b.node_id(), &Double(2), SECOND).await != Ok(4) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begin.elapsed() < SECOND * 2, "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_messages_travel_on_sharded_channels() {
    let servers = cluster().await;
    let config = config(
        servers.iter().map(|server| server.port).collect(),
        crate::config::Topology::Cluster,
    );
    let mut buses = Vec::new();
    for name in ["a", "b", "c", "d"] {
        buses.push(start(&config, name, nobody()).await);
    }
    for from in &buses {
        for to in &buses {
            assert_eq!(from.request(to.node_id(), &Double(4), SECOND).await, Ok(8));
        }
    }
    assert_eq!(
        buses[0].request(&node("gone"), &Double(1), SECOND).await,
        Err(BusError::NoReceiver)
    );
    let stats: Vec<String> =
        servers.iter().map(|server| server.cli(&["info", "commandstats"])).collect();
    assert!(stats.iter().any(|stats| stats.contains("cmdstat_spublish")));
    assert!(!stats.iter().any(|stats| stats.contains("cmdstat_publish")));
    let ids: HashSet<&NodeId> = buses.iter().map(Bus::node_id).collect();
    assert_eq!(ids.len(), 4);
}

/// Two clusters on one server, with a user who may do nothing dangerous: neither hears of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k8_k9_two_clusters_share_a_server_without_meeting_or_special_rights() {
    use crate::clock::SystemClock;
    use crate::membership::{Membership, MembershipSpec};

    let server = RedisServer::start().await;
    server.cli(&["acl", "setuser", "root", "on", "nopass", "~*", "&*", "+@all"]);
    let rights = ["~us:*", "&us:*", "+@all", "-@dangerous", "-keys", "+info"];
    server
        .cli(&[&["acl", "setuser", "default", "resetkeys", "resetchannels"][..], &rights].concat());
    let mut members = Vec::new();
    let mut buses = Vec::new();
    for (cluster, name) in [("one", "a"), ("two", "a"), ("one", "b")] {
        let id = node(name);
        let publisher = server.connect(Role::Bus, &id).await;
        let subscriber = server.connect(Role::Subscriber, &id).await;
        let keys = KeySpace::new(&cluster.parse().unwrap(), 1);
        let spec = MembershipSpec {
            heartbeat: Duration::from_millis(200),
            ttl: Duration::from_secs(1),
            clock: SystemClock::shared(),
        };
        let record = crate::membership::record_for_test(id.clone());
        let membership = Membership::join(publisher.clone(), &keys, record, spec).await.unwrap();
        let living = membership.clone();
        let targets: Targets = Arc::new(move || living.live());
        let bus = Bus::redis(publisher, &subscriber, keys, id, targets);
        bus.handle(async |_from, Double(number)| number * 2);
        bus.listening().await;
        members.push(membership);
        buses.push(bus);
    }
    eventually("a sees b", || members[0].live().len() == 2).await;
    assert_eq!(members[1].live().len(), 1);
    let answers = buses[0].broadcast(&Double(2), SECOND).await;
    assert_eq!(answers.iter().filter(|(_, answer)| *answer == Ok(4)).count(), 2, "{answers:?}");
    assert_eq!(
        buses[1].request(buses[0].node_id(), &Double(2), SECOND).await,
        Err(BusError::NoReceiver)
    );
    members[2].leave().await;
    let (keys, channels) = (server.cli(&["--scan"]), server.cli(&["pubsub", "channels"]));
    let all: Vec<&str> = keys.lines().chain(channels.lines()).collect();
    assert!(
        all.len() >= 4
            && all.iter().all(|one| one.starts_with("us:one:") || one.starts_with("us:two:")),
        "{all:?}"
    );
    let denied = server.cli(&["--user", "root", "--pass", "any", "acl", "log"]);
    assert!(denied.trim().is_empty(), "nothing was denied: {denied}");
}
