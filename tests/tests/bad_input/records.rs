//! Row 10: what stands in Redis under a session's name is not a session.

use std::time::Duration;

use serde_json::Value;
use understudy_tests::{Client, Cluster, Program, oracle, wait};

const LIMIT: Duration = Duration::from_secs(30);
const COUNT: &str = "/api/session/values/n/increment";
/// Bytes of a value that no node would have written.
const LARGE: u64 = 50_000_000;

/// What was done to a record.
#[derive(Debug, Clone, Copy)]
enum Spoiled {
    /// A field that cannot be read.
    Field,
    /// A field that is missing.
    Missing,
    /// Another type of value.
    Type,
    /// Written in a format that is not known yet.
    Newer,
}

const WAYS: [Spoiled; 4] = [Spoiled::Field, Spoiled::Missing, Spoiled::Type, Spoiled::Newer];

fn spoil(cluster: &Cluster, key: &str, way: Spoiled) {
    let cli = |arguments: &[&str]| cluster.redis.cli(arguments);
    match way {
        Spoiled::Field => drop(cli(&["HSET", key, "h0", "garbage", "v", "many"])),
        Spoiled::Missing => drop(cli(&["HDEL", key, "x"])),
        Spoiled::Type => {
            cli(&["DEL", key]);
            cli(&["SET", key, "garbage"]);
        }
        Spoiled::Newer => drop(cli(&["HSET", key, "sv", "3"])),
    }
}

/// What stands there now, without moving it through the test.
fn digest(cluster: &Cluster, key: &str) -> String {
    let script = "return redis.sha1hex(redis.call('DUMP', KEYS[1]))";
    cluster.redis.cli(&["EVAL", script, "1", key])
}

#[tokio::test(flavor = "multi_thread")]
async fn row_10_a_record_that_cannot_be_read_stays_and_harms_nobody_else() {
    let mut cluster = Cluster::builder().nodes(2).program(Program::Understudy).start().await;
    let bystander = begun(cluster.url(0)).await;
    let mut spoiled = Vec::new();
    for way in WAYS {
        let victim = begun(cluster.url(0)).await;
        spoiled.push((way, key_of(&cluster, &victim), victim));
    }
    // Nobody has it in memory any more when somebody gets at it.
    cluster.nodes[0].terminate();
    cluster.nodes[0].wait_exit(LIMIT).await;
    for (way, key, _) in &spoiled {
        spoil(&cluster, key, *way);
    }
    cluster.restart(0).await;
    let (mut silent, mut changed) = (Vec::new(), 0);
    for (way, key, victim) in &spoiled {
        let before = digest(&cluster, key);
        for base in [cluster.url(0), cluster.url(1)] {
            for answer in [
                victim.get(base, "/api/session/values").await.unwrap(),
                victim.post(base, COUNT).await.unwrap(),
                victim.get(base, "/api/session").await.unwrap(),
            ] {
                if answer.status != 503 || !answer.text.contains("\"session_unreadable\"") {
                    silent.push(format!("{way:?}: {answer:?}"));
                }
            }
        }
        changed += usize::from(digest(&cluster, key) != before);
    }
    assert!(silent.is_empty(), "{silent:#?}");
    oracle!("unreadable records that were not told as such", silent.len(), 0);
    oracle!("unreadable records that were touched", changed, 0);
    for node in &cluster.nodes {
        let what = format!("unreadable records that {} raised an alarm about", node.name());
        let alarms = node.metric("session_unreadable_total").await;
        // Each of them at least once; how often a node looks again before it says so is its own affair.
        oracle!(&what, alarms, >= WAYS.len() as f64);
    }
    for base in [cluster.url(0), cluster.url(1)] {
        bystander.post(base, COUNT).await.unwrap().expect(200);
        Client::new().get(base, "/readyz").await.unwrap().expect(200);
    }
}

/// Such a record cannot be made through a node; whoever makes it in another way takes time from Redis, but no node down.
#[tokio::test(flavor = "multi_thread")]
async fn row_10_a_record_of_fifty_megabytes_is_survived() {
    let mut cluster = Cluster::builder().nodes(1).program(Program::Understudy).start().await;
    let (victim, bystander) = (begun(cluster.url(0)).await, begun(cluster.url(0)).await);
    let key = key_of(&cluster, &victim);
    cluster.nodes[0].terminate();
    cluster.nodes[0].wait_exit(LIMIT).await;
    let script = format!(
        "return redis.call('HSET', KEYS[1], 'a:big', '\"' .. string.rep('x', {LARGE}) .. '\"')"
    );
    cluster.redis.cli(&["EVAL", &script, "1", &key]);
    cluster.restart(0).await;
    let (url, pid) = (cluster.url(0), cluster.nodes[0].pid());
    bystander.post(url, COUNT).await.unwrap().expect(200);
    let before = cluster.nodes[0].usage().resident_bytes;
    for _ in 0..4 {
        // Read in time or not: which of both is a matter of the machine.
        let read = victim.get(url, "/api/session").await.unwrap();
        assert!(matches!(read.status, 200 | 503), "{read:?}");
        let written = victim.post(url, COUNT).await.unwrap();
        assert!(matches!(written.status, 413 | 503), "it may only become smaller: {written:?}");
    }
    wait::until("others are served", LIMIT, async || {
        bystander.post(url, COUNT).await.unwrap().status == 200
    })
    .await;
    wait::until("the node is ready", LIMIT, async || {
        Client::new().get(url, "/readyz").await.unwrap().status == 200
    })
    .await;
    assert_eq!(cluster.nodes[0].pid(), pid);
    // As the connection received it, as the record that is kept, and one copy on its way from the one to the other: eight
    // requests for it must not add up.
    let grown = cluster.nodes[0].usage().resident_bytes.saturating_sub(before) / 1_000_000;
    oracle!("memory of the node grown by, MB", grown, <= 3 * LARGE / 1_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_10_fields_of_a_newer_version_are_kept() {
    let mut cluster = Cluster::builder().nodes(1).program(Program::Understudy).start().await;
    let visitor = begun(cluster.url(0)).await;
    let key = key_of(&cluster, &visitor);
    cluster.redis.cli(&["HSET", &key, "zz", "of the next version"]);
    let counts = async |cluster: &Cluster, value: u64| {
        let counted = visitor.post(cluster.url(0), COUNT).await.unwrap().expect(200);
        assert_eq!(counted.json::<Value>()["value"], value);
        assert_eq!(cluster.redis.cli(&["HGET", &key, "zz"]), "of the next version");
        visitor.get(cluster.url(0), "/api/session").await.unwrap().expect(200);
    };
    counts(&cluster, 2).await;
    // And by a node that finds it there when it claims the session.
    cluster.nodes[0].terminate();
    cluster.nodes[0].wait_exit(LIMIT).await;
    cluster.restart(0).await;
    counts(&cluster, 3).await;
}

async fn begun(url: &str) -> Client {
    let client = Client::new();
    client.post(url, COUNT).await.unwrap().expect(200);
    client
}

fn key_of(cluster: &Cluster, client: &Client) -> String {
    let cookies = client.cookies();
    let locator = cookies.values().next().unwrap().split_once('.').unwrap().0;
    let keys = cluster.redis.all_keys();
    keys.into_iter().find(|key| key.ends_with(locator)).expect("the session has a key")
}
