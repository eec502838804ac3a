//! What nodes leave in Redis, and under which names they are there.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Client, Cluster, Node, NodeSpec, Postgres, Redis, crowd, oracle, wait};

use super::ground::{LIMIT, bare, cluster_of, database, listed, started};

const COUNT: &str = "/api/session/values/n/increment";

#[tokio::test(flavor = "multi_thread")]
async fn k8_two_clusters_on_one_redis_do_not_meet() {
    let (redis, postgres) = tokio::join!(Redis::standalone(), Postgres::start());
    let spec = |cluster: &str, node: &str| -> NodeSpec {
        // Same names of nodes, same secret: nothing but the name of the cluster keeps them apart.
        bare(node).envs(redis.environment()).env("UNDERSTUDY_CLUSTER_NAME", cluster)
    };
    let urls = ["red", "blue"].map(|name| database(&postgres, name));
    let specs =
        [("red", "node-a", 0), ("red", "node-b", 0), ("blue", "node-a", 1), ("blue", "node-b", 1)]
            .map(|(cluster, node, url)| {
                spec(cluster, node).env("UNDERSTUDY_DATABASE_URL", &urls[url])
            });
    let nodes: Vec<Node> = crowd(4, 4, async |at| (at, started(specs[at].clone()).await))
        .await
        .into_iter()
        .collect::<std::collections::BTreeMap<usize, Node>>()
        .into_values()
        .collect();
    for node in &nodes {
        wait::until("it lists its own", LIMIT, async || listed(node).await == ["node-a", "node-b"])
            .await;
    }
    let (red, blue) = (Client::new(), Client::new());
    for round in 1..=10 {
        let here = nodes[round % 2].public_url();
        let counted = red.post(here, COUNT).await.unwrap().expect(200);
        assert_eq!(counted.text, format!("{{\"value\":{round}}}"));
    }
    blue.post(nodes[2].public_url(), COUNT).await.unwrap().expect(200);
    // A cookie of the one opens nothing in the other, though it is signed with the same secret.
    let stranger = red.fork().get(nodes[3].public_url(), "/api/session/values").await.unwrap();
    assert!(stranger.text.contains("\"version\":0"), "{stranger:?}");
    let keys = redis.all_keys();
    let prefixed =
        keys.iter().filter(|key| key.starts_with("us:red:") || key.starts_with("us:blue:"));
    oracle!(&format!("keys of {} without a prefix", keys.len()), keys.len() - prefixed.count(), 0);
    let channels = redis.cli(&["PUBSUB", "CHANNELS"]);
    let strange =
        channels.lines().filter(|it| !it.starts_with("us:red:") && !it.starts_with("us:blue:"));
    oracle!("channels without a prefix", strange.count(), 0);
    drop(nodes);
}

#[tokio::test(flavor = "multi_thread")]
async fn k13_every_connection_says_whose_it_is() {
    let cluster = cluster_of(2).start().await;
    let names = async || {
        let list = cluster.redis.cli(&["CLIENT", "LIST"]);
        let own = |line: &&str| !line.contains("cmd=client|list");
        let name = |line: &str| {
            let name = line.split(' ').find_map(|field| field.strip_prefix("name="));
            name.unwrap_or_default().to_owned()
        };
        list.lines().filter(own).map(name).collect::<Vec<String>>()
    };
    wait::until("every connection has said so", LIMIT, async || {
        names().await.iter().all(|name| !name.is_empty())
    })
    .await;
    let names = names().await;
    let strange = names
        .iter()
        .filter(|name| !name.starts_with("us-node-a-") && !name.starts_with("us-node-b-"));
    oracle!(&format!("connections of {} without a name", names.len()), strange.count(), 0);
    let distinct: BTreeSet<&String> = names.iter().collect();
    oracle!("names that two connections have", names.len() - distinct.len(), 0);
    for node in ["node-a", "node-b"] {
        for role in ["lease", "data0", "bus", "subscriber"] {
            let name = format!("us-{node}-{role}");
            assert!(names.contains(&name), "{name} in {names:?}");
        }
    }
}

/// Everything that a node has in Redis goes with it, or stays one thing however often it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn k12_a_hundred_restarts_leave_nothing_behind() {
    const NODES: usize = 5;
    const ROUNDS: usize = 20;
    let mut cluster = cluster_of(NODES)
        .program(understudy_tests::Program::Understudy)
        .env("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "0")
        .env("UNDERSTUDY_CLUSTER_HEARTBEAT_MS", "300")
        .env("UNDERSTUDY_CLUSTER_NODE_TTL_MS", "1000")
        // As short a lease asks for.
        .env("UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS", "300")
        .env("UNDERSTUDY_SESSION_IDLE_S", "2")
        .env("UNDERSTUDY_SESSION_TOUCH_S", "1")
        .start()
        .await;
    settled(&cluster).await;
    let (at_first, known) = (counted_keys(&cluster), fields(&cluster));
    let baseline = at_first.len();
    for round in 0..ROUNDS {
        crowd(5, 10, async |number| {
            let base = cluster.url(number % NODES);
            Client::new().post(base, COUNT).await.unwrap().expect(200);
        })
        .await;
        restart_all(&mut cluster, round).await;
    }
    let begun = Instant::now();
    // Three seconds of life, and the sweep, which comes every ten.
    let mut noted = false;
    wait::until("all sessions are over and gone", Duration::from_secs(30), async || {
        let left = counted_keys(&cluster);
        let gone = left.len() <= baseline;
        if !gone && !noted && begun.elapsed() > Duration::from_secs(20) {
            noted = true;
            let more: Vec<&String> = left.difference(&at_first).collect();
            oracle::note(&format!("still there after 20 s: {more:?}"));
        }
        gone
    })
    .await;
    oracle::note(&format!("back at the baseline after {} ms", begun.elapsed().as_millis()));
    // A lease that ran out stays in the table until the next node begins: here one may for each that was killed last.
    let dead = fields(&cluster).saturating_sub(known);
    oracle!("fields too many, at most one for each node killed in the last round", dead, <= NODES.div_ceil(2));
    cluster.nodes[0].terminate();
    cluster.nodes[0].wait_exit(LIMIT).await;
    cluster.restart(0).await;
    oracle!("keys after 101 restarts and 200 sessions", counted_keys(&cluster).len(), baseline);
    oracle!("fields in what is kept", fields(&cluster), known);
    let keys = cluster.redis.all_keys();
    let forever = keys.iter().filter(|key| cluster.redis.cli(&["PTTL", key]) == "-1").count();
    oracle!("keys that would stay for ever", forever, 0);
}

/// Which keys there are, without the lease of the leader, which is there or just not, and without who was here lately.
fn counted_keys(cluster: &Cluster) -> BTreeSet<String> {
    let keys = cluster.redis.all_keys().into_iter();
    keys.filter(|key| !is_of_leader(key) && !is_of_visitors(key)).collect()
}

/// Who was here lately is forgotten when the session ends, a user of whose session a dying node swept the end after an hour.
fn is_of_visitors(key: &str) -> bool {
    key.ends_with(":w") || key.ends_with(":g")
}

fn is_of_leader(key: &str) -> bool {
    key.contains("{leader}")
}

/// How many fields there are in all that is no session.
fn fields(cluster: &Cluster) -> usize {
    let keys = cluster.redis.all_keys();
    // Sessions come and go, and so does the index of their ends, which is no hash.
    let kept = keys.iter().filter(|key| !key.contains(":s:") && !key.ends_with(":x"));
    let kept = kept.filter(|key| !is_of_leader(key) && !is_of_visitors(key));
    kept.map(|key| cluster.redis.cli(&["HLEN", key]).parse::<usize>().unwrap()).sum()
}

/// Waits until the first grace of a new Redis is over: as long as it lasts, nodes note in the table who has settled.
async fn settled(cluster: &Cluster) {
    wait::until("the grace is over", LIMIT, async || {
        let tables = cluster.redis.all_keys().into_iter().filter(|key| key.ends_with(":L"));
        let now = cluster.redis.cli(&["TIME"]);
        let now: u64 = now.lines().next().unwrap().parse().unwrap();
        let mut over = tables.map(|table| {
            let grace: u64 = cluster.redis.cli(&["HGET", &table, "grace"]).parse().unwrap();
            grace < now * 1_000
        });
        over.all(|over| over)
    })
    .await;
}

/// Restarts all nodes at the same time: half of them go as they should, by turns, and the others as they should not.
async fn restart_all(cluster: &mut Cluster, round: usize) {
    for (number, node) in cluster.nodes.iter_mut().enumerate() {
        if (number + round).is_multiple_of(2) { node.kill9() } else { node.terminate() }
    }
    for node in &mut cluster.nodes {
        node.wait_exit(LIMIT).await;
        node.start_again();
    }
    cluster.ready().await;
}
