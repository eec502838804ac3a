use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::{DROP_NODE, RENEW, SETTLE};
use super::*;
use crate::ids::{Bucket, Incarnation};
use crate::keys::KeySpace;
use crate::redis::testing::{RedisServer, node};
use crate::redis::{Arg, Redis, Reply, Role};

fn id(name: &str) -> NodeId {
    NodeId::new(name.parse().unwrap(), Incarnation::from_u64(1))
}

const TTL: u64 = 1000;

/// A table of server `s1`, past its first grace, in which `a`, `b` and `c` hold leases; then the server changes.
fn after_a_change() -> LeaseTable {
    let mut table = LeaseTable::new();
    for name in ["a", "b", "c"] {
        table.renew("s1", &id(name), TTL, 100_000);
    }
    assert_eq!(table.claim_gate("s1", TTL, 101_000), Ok(()));
    assert_eq!(table.claim_gate("s2", TTL, 102_000), Err(TTL));
    table
}

#[test]
fn r3_a_lease_blocks_until_it_runs_out_or_is_dropped() {
    let mut table = LeaseTable::new();
    assert_eq!(table.renew("s1", &id("a"), TTL, 5000), RenewReply::Renewed { continuous: false });
    assert_eq!(table.renew("s1", &id("a"), TTL, 5999), RenewReply::Renewed { continuous: true });
    assert_eq!(table.live_for(&id("a"), 6998), Some(1));
    assert_eq!(table.live_for(&id("a"), 6999), None);
    assert_eq!(table.renew("s1", &id("a"), TTL, 6999), RenewReply::Renewed { continuous: false });
    table.drop_node(&id("a"), 7000);
    assert_eq!(table.live_for(&id("a"), 7000), None);
}

#[test]
fn r7_nobody_claims_for_a_time_to_live_after_a_change_of_server() {
    let mut table = after_a_change();
    assert_eq!(
        table.renew("s2", &id("a"), TTL, 102_400),
        RenewReply::Renewed { continuous: false }
    );
    assert_eq!(table.claim_gate("s2", TTL, 102_999), Err(1));
    assert_eq!(table.claim_gate("s2", TTL, 103_000), Ok(()));
}

#[test]
fn the_grace_ends_early_when_all_that_somebody_knew_have_settled() {
    let mut table = after_a_change();
    for name in ["a", "b", "c", "new"] {
        table.renew("s2", &id(name), TTL, 102_100);
    }
    let (bc, ac) = ([id("b"), id("c")], [id("a"), id("c")]);
    assert_eq!(table.settle("s2", &id("a"), &bc, 102_200), Settled::Waiting { remaining_ms: 800 });
    assert_eq!(table.settle("s2", &id("b"), &ac, 102_300), Settled::Waiting { remaining_ms: 700 });
    assert_eq!(
        table.claim_gate("s2", TTL, 102_350),
        Err(650),
        "c may still be putting back what it owns"
    );
    table.drop_node(&id("c"), 102_400); // c stops: it will not trust the old lease any more
    assert_eq!(table.claim_gate("s2", TTL, 102_400), Ok(()));
    assert_eq!(table.settle("s2", &id("a"), &bc, 102_500), Settled::Open);
}

#[test]
fn who_knows_nobody_or_holds_no_lease_of_this_server_cannot_shorten_a_grace() {
    let mut table = after_a_change();
    assert_eq!(table.settle("s2", &id("a"), &[], 102_100), Settled::OtherServer, "not renewed yet");
    table.renew("s2", &id("a"), TTL, 102_200);
    assert_eq!(
        table.settle("s1", &id("a"), &[], 102_300),
        Settled::OtherServer,
        "means another server"
    );
    table.drop_node(&id("new"), 102_300); // nobody with knowledge settled yet
    assert_eq!(table.claim_gate("s2", TTL, 102_400), Err(600));
}

#[test]
fn an_evicted_node_stays_out_even_on_the_next_server() {
    let mut table = after_a_change();
    table.evict(&id("a"));
    table.drop_node(&id("a"), 102_000);
    assert_eq!(table.renew("s2", &id("a"), TTL, 102_000), RenewReply::Evicted);
    assert_eq!(table.renew("s3", &id("a"), TTL, 102_000), RenewReply::Evicted);
    assert_eq!(table.renew("s3", &id("a"), TTL, 102_001), RenewReply::Evicted);
    assert_eq!(table.live_for(&id("a"), 102_000), None);
}

/// Both sides of the comparison.
struct Bench {
    redis: Redis,
    key: String,
    model: LeaseTable,
    server_id: String,
}

impl Bench {
    async fn call(&self, script: &'static crate::redis::Script, args: Vec<String>) -> Vec<Reply> {
        let args = args.into_iter().map(Arg::from).collect();
        match self.redis.call(script, vec![self.key.clone()], args).await.unwrap() {
            Reply::Array(row) => row,
            single @ (Reply::Integer(_) | Reply::String(_)) => vec![single],
            other @ (Reply::Null
            | Reply::Queued
            | Reply::Map(_)
            | Reply::Boolean(_)
            | Reply::Double(_)
            | Reply::Bytes(_)) => {
                panic!("{other:?}")
            }
        }
    }

    async fn renew(&mut self, node: &NodeId, ttl: u64) {
        let row = self.call(&RENEW, vec![node.to_string(), ttl.to_string()]).await;
        let now = row.last().unwrap().as_u64().unwrap();
        let expected = match self.model.renew(&self.server_id, node, ttl, now) {
            RenewReply::Evicted => vec!["EVICTED".to_owned()],
            RenewReply::Renewed { continuous } => {
                vec![self.server_id.clone(), u8::from(continuous).to_string()]
            }
        };
        let said: Vec<String> =
            row[..row.len() - 1].iter().map(|one| one.as_string().unwrap()).collect();
        assert_eq!(said, expected);
    }

    async fn settle(&mut self, node: &NodeId, server_id: &str, awaited: &[NodeId]) {
        let nodes = std::iter::once(node).chain(awaited).map(NodeId::to_string);
        let row =
            self.call(&SETTLE, std::iter::once(server_id.to_owned()).chain(nodes).collect()).await;
        let now = row[1].as_u64().unwrap();
        // The model is told which server it is on by renewals only; a caller that means another one is refused.
        let expected = if server_id == self.server_id {
            self.model.settle(server_id, node, awaited, now)
        } else {
            Settled::OtherServer
        };
        let expected = match expected {
            Settled::OtherServer => -1,
            Settled::Open => 0,
            Settled::Waiting { remaining_ms } => i64::try_from(remaining_ms).unwrap(),
        };
        assert_eq!(row[0].as_i64(), Some(expected));
    }

    async fn drop_node(&mut self, node: &NodeId) {
        let now = self.call(&DROP_NODE, vec![node.to_string()]).await[0].as_u64().unwrap();
        self.model.drop_node(node, now);
    }

    /// Reads the hash as the model writes it.
    async fn written(&self) -> LeaseTable {
        let mut table = LeaseTable::new();
        for (field, value) in self.redis.hgetall(&self.key).await.unwrap() {
            match field.split_once(':') {
                Some(("n", node)) => {
                    let entry = if value == "dead" {
                        Entry::Evicted
                    } else {
                        Entry::Until(value.parse().unwrap())
                    };
                    table.nodes.insert(node.parse().unwrap(), entry);
                }
                Some(("w", node)) => assert!(table.awaited.insert(node.parse().unwrap())),
                Some(("d", node)) => assert!(table.settled.insert(node.parse().unwrap())),
                _ if field == "rid" => table.server_id = Some(value),
                _ if field == "grace" => table.grace_until_ms = value.parse().unwrap(),
                _ if field == "c" => table.contributed = true,
                _ => panic!("an unknown field: {field}"),
            }
        }
        table
    }
}

/// The scripts and the model do the same, step by step, in whatever order; the model is given the time that the
/// script saw.
#[tokio::test]
async fn the_scripts_do_what_the_table_says() {
    let server = RedisServer::start().await;
    let redis = server.connect(Role::Lease, &node("t")).await;
    let info = redis.info("server").await.unwrap();
    let server_id =
        info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap().trim().to_owned();
    let key = KeySpace::new(&"t".parse().unwrap(), 1).lease_table(Bucket(0));
    let mut bench = Bench { redis, key, model: LeaseTable::new(), server_id };
    let nodes: Vec<NodeId> = ["a", "b", "c"].into_iter().map(id).collect();
    for seed in 0..40 {
        server.cli(&["flushall"]);
        bench.model = LeaseTable::new();
        let mut random = StdRng::seed_from_u64(seed);
        for step in 0..60 {
            let node = &nodes[random.random_range(0..3)];
            match random.random_range(0..100) {
                0..45 => bench.renew(node, random.random_range(1..60)).await,
                45..75 => {
                    let awaited: Vec<NodeId> = nodes
                        .iter()
                        .filter(|other| *other != node && random.random_bool(0.5))
                        .cloned()
                        .collect();
                    let meant = if random.random_bool(0.9) {
                        bench.server_id.clone()
                    } else {
                        "x".to_owned()
                    };
                    bench.settle(node, &meant, &awaited).await;
                }
                75..85 => bench.drop_node(node).await,
                85..87 if bench.model.server_id.is_some() => {
                    server.cli(&["hset", &bench.key, &format!("n:{node}"), "dead"]);
                    bench.model.evict(node);
                }
                87..92 if bench.model.server_id.is_some() => {
                    // As after a failover: the table came from another server.
                    server.cli(&["hset", &bench.key, "rid", "before"]);
                    bench.model.server_id = Some("before".to_owned());
                }
                _ => tokio::time::sleep(Duration::from_millis(random.random_range(0..8))).await,
            }
            assert_eq!(bench.written().await, bench.model, "seed {seed} step {step}");
        }
    }
}

#[tokio::test]
async fn k12_what_a_cluster_leaves_behind_runs_out() {
    let server = RedisServer::start().await;
    let redis = server.connect(Role::Lease, &node("t")).await;
    let key = KeySpace::new(&"t".parse().unwrap(), 1).lease_table(Bucket(0));
    for _ in 0..100 {
        let args = vec![Arg::from(node("a").to_string()), Arg::from(1)];
        redis.call(&RENEW, vec![key.clone()], args).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(
        server.cli(&["hlen", &key]).trim().parse::<u32>().unwrap() < 6,
        "dead incarnations are swept"
    );
    assert!(server.cli(&["pttl", &key]).trim().parse::<i64>().unwrap() > 0);
}
