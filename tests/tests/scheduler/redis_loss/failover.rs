//! A replica that has lost the leader's key becomes the primary.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use understudy_tests::{Client, Cluster, Topology, oracle, wait};

use super::super::stage::{LIMIT, Lead, OPERATOR, Stage, options, rounds, soon_orphaned};
use super::{lease_is_there, lease_key};

/// Long enough for a failover and the start of a node to fit into it on any machine.
const TTL: Duration = Duration::from_secs(20);
const RENEW: Duration = Duration::from_millis(20_000 / 3);

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_the_lease_starts_nothing_twice() {
    let ttl = TTL.as_millis().to_string();
    let builder = soon_orphaned(options(Cluster::builder().redis(Topology::Sentinel)));
    let mut stage = Stage::with(builder.env("UNDERSTUDY_LEADER_TTL_MS", &ttl)).await;
    stage.with_patient_probe().await;
    for _ in 0..rounds(1, 10) {
        the_leader_lives(&mut stage).await;
        the_leader_stands_still(&mut stage).await;
    }
    stage.settle("probe").await;
}

/// It puts its lease back on the new primary before anybody else may take it.
async fn the_leader_lives(stage: &mut Stage) {
    let lead = stage.agreed().await;
    let old = lose_the_lease(stage).await;
    lease_is_there(stage).await;
    stage.goes_on().await;
    oracle!("terms begun while the leader lived", stage.epoch() - lead.epoch, 0);
    oracle!("the leader, by its number", stage.agreed().await.node, lead.node);
    demote(stage, old).await;
}

/// A node that knows nothing of the lease takes it, and the old leader wakes up within the time of its own.
async fn the_leader_stands_still(stage: &mut Stage) {
    let lead = stage.agreed().await;
    let newcomer = (lead.node + 1) % stage.cluster.nodes.len();
    stage.cluster.kill9(newcomer);
    stage.cluster.nodes[lead.node].stop();
    let old = lose_the_lease(stage).await;
    stage.cluster.restart(newcomer).await;
    wait::until("the newcomer leads", LIMIT, async || says_it_leads(stage, newcomer).await).await;
    stage.cluster.nodes[lead.node].cont();
    let awake = Instant::now();
    wait::until("the old leader knows", LIMIT, async || {
        knows_it_does_not_lead(stage, lead.node).await
    })
    .await;
    let knows = awake.elapsed();
    stage.goes_on().await;
    oracle!(
        "two nodes with the lease, until the loser steps down, ms",
        knows.as_millis(),
        <= RENEW.as_millis()
    );
    wait::until("it says why", LIMIT, async || why_it_ended(stage, lead).is_some()).await;
    let why = why_it_ended(stage, lead).unwrap_or_default();
    let believed = u64::from(matches!(why.as_str(), "lost_lease" | "stale_epoch"));
    oracle!(&format!("losers that still trusted their lease ({why})"), believed, 1);
    oracle!("terms begun", stage.epoch() - lead.epoch, 1);
    demote(stage, old).await;
}

/// Makes a replica forget the leader's key and then be the primary; gives the port of the old one.
async fn lose_the_lease(stage: &mut Stage) -> u16 {
    let key = lease_key(stage).expect("there is a leader");
    let old = stage.cluster.redis.primary_port();
    for server in stage.cluster.redis.servers().iter().filter(|server| server.port() != old) {
        server.cli(&["CONFIG", "SET", "replica-read-only", "no"]);
        // What the primary sends of the lease from here on changes nothing of a key that is not there.
        server.cli(&["DEL", &key]);
    }
    stage.cluster.redis.failover().await;
    old
}

/// Has the old primary follow the new one now, and not when the sentinels see to it.
async fn demote(stage: &mut Stage, old: u16) {
    let primary = stage.cluster.redis.primary_port().to_string();
    let servers = stage.cluster.redis.servers();
    let server = servers.iter().find(|server| server.port() == old).expect("it was a server");
    server.cli(&["REPLICAOF", "127.0.0.1", &primary]);
    let interval = Duration::from_millis(50);
    wait::poll("the old primary follows the new one", LIMIT, interval, async || {
        let role = server.try_cli(&["ROLE"]).unwrap_or_default();
        (role.starts_with("slave") && role.contains("connected")).then_some(())
    })
    .await;
}

/// What a node says of the leader; nothing when it does not answer well.
async fn told(stage: &Stage, node: usize) -> Option<Value> {
    let client = Client::with_timeout(Duration::from_secs(2)).bearing(OPERATOR);
    let answer = client.get(stage.cluster.nodes[node].admin_url(), "/v1/leader").await.ok()?;
    (answer.status == 200).then(|| answer.json())
}

async fn says_it_leads(stage: &Stage, node: usize) -> bool {
    told(stage, node).await.is_some_and(|told| told["leader"] == true)
}

async fn knows_it_does_not_lead(stage: &Stage, node: usize) -> bool {
    told(stage, node).await.is_some_and(|told| told["leader"] == false)
}

/// Why the log of a node says that its term ended.
fn why_it_ended(stage: &Stage, lead: Lead) -> Option<String> {
    let events = stage.cluster.nodes[lead.node].events();
    events.iter().map(|event| &event["fields"]).find_map(|fields| {
        let ended = fields["message"] == "leadership lost" && fields["leader.epoch"] == lead.epoch;
        ended.then(|| fields["reason"].as_str().unwrap_or_default().to_owned())
    })
}
