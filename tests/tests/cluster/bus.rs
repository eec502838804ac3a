//! Somebody floods the channel on which a node listens.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use understudy_tests::{Client, Cluster, oracle, wait};

use super::ground::{LIMIT, cluster_of};
use super::smoke::counter;

const MESSAGES: usize = 100_000;

#[tokio::test(flavor = "multi_thread")]
async fn k4_a_flood_of_messages_is_dropped_and_counted() {
    let mut cluster = cluster_of(2).start().await;
    let client = Client::new();
    client.post(cluster.url(0), "/incr").await.unwrap().expect(200);
    let dropped = cluster.nodes[0].metric("understudy_bus_dropped_total").await;
    let before = cluster.nodes[0].usage().resident_bytes;
    let channel = channel_of(&cluster, "node-a");
    let port = cluster.redis.servers()[0].port();
    let heard = flood(port, &channel).await;
    oracle!("messages that the node was sent", heard, MESSAGES);
    // Sessions that need the bus work on, beside the flood and after it.
    let mut failed = 0;
    for round in 0..20 {
        failed +=
            usize::from(client.post(cluster.url(round % 2), "/incr").await.unwrap().status != 200);
    }
    oracle!("writes of 20 that failed", failed, 0);
    assert_eq!(counter(&client, cluster.url(1)).await, 21);
    let all = async || cluster.nodes[0].metric("understudy_bus_dropped_total").await - dropped;
    let mut last = all().await;
    wait::poll("nothing more is counted", LIMIT, Duration::from_millis(500), async || {
        let before = std::mem::replace(&mut last, all().await);
        (before == last).then_some(())
    })
    .await;
    // A node that was too slow for 2.5 s listens anew, and cannot count what it has missed then.
    oracle::note(&format!("{last} of {MESSAGES} messages counted as dropped"));
    oracle!("messages counted as dropped", last, >= 1.0);
    let grown = cluster.nodes[0].usage().resident_bytes.saturating_sub(before) / 1_048_576;
    oracle!("memory of the node grown by, MiB", grown, <= 64);
    assert_eq!(Client::new().get(cluster.url(0), "/readyz").await.unwrap().status, 200);
}

/// The channel on which only this node listens.
fn channel_of(cluster: &Cluster, node: &str) -> String {
    let channels = cluster.redis.cli(&["PUBSUB", "CHANNELS", &format!("*:bus:{node}#*")]);
    assert_eq!(channels.lines().count(), 1, "{channels}");
    channels.trim().to_owned()
}

/// Publishes as fast as Redis takes it; returns how many messages somebody heard.
async fn flood(port: u16, channel: &str) -> usize {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let bodies =
        ["garbage", "[\"x#0000000000000000\",[[9,1,\"none\",{}]]]", "{\"a\":1}", "\u{0}\u{1}"];
    let send = async {
        for block in 0..MESSAGES / 1_000 {
            let mut commands = String::new();
            for number in 0..1_000 {
                let body = bodies[(block + number) % bodies.len()];
                commands += &format!(
                    "*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${}\r\n{body}\r\n",
                    channel.len(),
                    body.len()
                );
            }
            to.write_all(commands.as_bytes()).await.unwrap();
        }
    };
    let read = async {
        let (mut answers, mut heard, mut some) = (0, 0, vec![0; 65_536]);
        while answers < MESSAGES {
            let count = from.read(&mut some).await.unwrap();
            assert!(count > 0, "Redis answers");
            // Each answer is `:<listeners>` and a line end.
            answers += some[..count].iter().filter(|byte| **byte == b':').count();
            heard += some[..count].iter().filter(|byte| **byte == b'1').count();
        }
        heard
    };
    let both = async { tokio::join!(send, read).1 };
    tokio::time::timeout(Duration::from_secs(60), both).await.expect("Redis takes all of it")
}
