//! Redis loses a server: a replica takes over, or a part of a Cluster is away.

use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::servers::{find_program, run};
use understudy_tests::{Cluster, Data, Redis, Signal, Topology, crowd, oracle, wait};

use super::ledger::{Came, Ledger, acquainted, turn};
use super::traffic::{STEADY, Tally, Traffic};

const LIMIT: Duration = Duration::from_secs(30);
/// Not ours: a second until the sentinels of the harness call the primary dead, then a vote; a vote that fails, as on a
/// machine where all of them wake up at the same time, is repeated after twice the failover time-out of 2 s. This leaves
/// room for three of them.
const ELECTION_MS: u128 = 15_000;
/// After the election: one lease, should the nodes not come to terms on the new server sooner; a second for what was lost
/// to be put back; and the half second until the traffic here asks again after a refusal.
const AFTER_ELECTION_MS: u128 = 4_500;
/// After the server answers again: two seconds in which Redis itself refuses writes after a start (its
/// `CLUSTER_WRITABLE_DELAY`); two until the owner has put back what it owns there, as on one Redis that comes back
/// empty; and one until the traffic here asks again, whose last request may just have been refused.
const PART_BACK_MS: u128 = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_loses_no_acknowledged_write_of_a_living_owner() {
    let _turn = turn().await;
    let mut cluster = Cluster::builder().redis(Topology::Sentinel).start().await;
    acquainted(Instant::now()).await;
    let ledger = Ledger::begin(cluster.url(0), 12).await;
    let bases = [cluster.url(0), cluster.url(1), cluster.url(2)];
    let traffic = Traffic::start(&ledger, &bases, STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let old = cluster.redis.primary_port();
    cluster.redis.kill_primary();
    let killed = ledger.mark().await;
    let elected = cluster.redis.new_primary(old, LIMIT).await;
    wait::until("all sessions are written", LIMIT, async || ledger.all_written_since_mark(1)).await;
    let took = killed.elapsed();
    for node in &cluster.nodes {
        let memory = node.usage().resident_bytes / 1_048_576;
        oracle!(&format!("memory of {} in MiB", node.name()), memory, <= 300);
    }
    oracle!("another primary after, ms", elected.as_millis(), within ELECTION_MS);
    let beyond = took.saturating_sub(elected).as_millis();
    oracle!("of that after the election, ms", beyond, within AFTER_ELECTION_MS);
    let tally = traffic.stop().await;
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(cluster.url(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_node_that_comes_back_empty_gets_its_sessions_back() {
    let _turn = turn().await;
    let mut cluster = Cluster::builder().redis(Topology::Cluster).start().await;
    acquainted(Instant::now()).await;
    let ledger = Ledger::begin(cluster.url(0), 12).await;
    let bases = [cluster.url(0), cluster.url(1), cluster.url(2)];
    let traffic = Traffic::start(&ledger, &bases, STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(3)).await;
    cluster.redis.servers()[1].kill();
    let failed = |traffic: &Traffic| Tally::get(&traffic.tally().failed_writes);
    wait::until("the loss is felt", LIMIT, async || failed(&traffic) > 0).await;
    cluster.redis.servers()[1].restart(Data::Lost).await;
    let back = ledger.mark().await;
    wait::until("all sessions are written", LIMIT, async || ledger.all_written_since_mark(1)).await;
    let took = back.elapsed().as_millis();
    oracle!("all sessions written again after the server came back, ms", took, within PART_BACK_MS);
    let tally = traffic.stop().await;
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(cluster.url(1)).await;
}

/// The replica hears nothing of a hundred writes that clients were told of, and takes over.
#[tokio::test(flavor = "multi_thread")]
async fn d8_a_failover_that_loses_a_hundred_acknowledged_writes_gets_them_back_from_their_owner() {
    const SESSIONS: usize = 10;
    let _turn = turn().await;
    let mut cluster = Cluster::builder().redis(Topology::Sentinel).start().await;
    acquainted(Instant::now()).await;
    let ledger = Ledger::begin(cluster.url(0), SESSIONS).await;
    // What is on its way to it already it will read when it wakes up; nothing after that.
    cluster.redis.servers()[1].signal(Signal::STOP);
    cluster.redis.cli(&["CLIENT", "KILL", "TYPE", "replica"]);
    let came = crowd(SESSIONS, 10 * SESSIONS, async |number| {
        ledger.accounts[number % SESSIONS].increment(cluster.url(number % 3)).await.0
    })
    .await;
    let told = came.iter().filter(|came| **came == Came::Well).count();
    oracle!("writes of 100 acknowledged that the replica does not know", told, 100);
    let old = cluster.redis.primary_port();
    cluster.redis.kill_primary();
    cluster.redis.servers()[1].signal(Signal::CONT);
    let elected = cluster.redis.new_primary(old, LIMIT).await;
    oracle::note(&format!("another primary after {} ms", elected.as_millis()));
    crowd(SESSIONS, SESSIONS, async |number| {
        wait::until("the session is written", LIMIT, async || {
            ledger.accounts[number].increment(cluster.url(1)).await.0 == Came::Well
        })
        .await;
    })
    .await;
    let restored = cluster.metric("session_restores_total").await;
    oracle!("sessions put back by their owner", restored, >= 1.0);
    ledger.is_exact(cluster.url(2)).await;
}

/// The primary stands still, another one takes over, and the old one wakes up: for a moment it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn d9_an_old_primary_that_wakes_up_after_a_failover_takes_no_write_that_counts() {
    let _turn = turn().await;
    let redis = Redis::builder(Topology::Sentinel).replicas(2).min_replicas_to_write(1);
    let builder = Cluster::builder().redis_with(redis);
    let mut cluster = builder
        // The new primary refuses writes until the other replica follows it.
        .allow_error("leases cannot be renewed")
        .allow_error("the store of the leader's lease cannot be used")
        .start()
        .await;
    acquainted(Instant::now()).await;
    let ledger = Ledger::begin(cluster.url(0), 12).await;
    let bases = [cluster.url(0), cluster.url(1), cluster.url(2)];
    let traffic = Traffic::start(&ledger, &bases, STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let old = cluster.redis.primary_port();
    cluster.redis.primary().signal(Signal::STOP);
    cluster.redis.new_primary(old, LIMIT).await;
    ledger.mark().await;
    wait::until("all sessions are written", LIMIT, async || ledger.all_written_since_mark(1)).await;
    let servers = cluster.redis.servers();
    let sleeper = servers.iter().find(|server| server.port() == old).expect("it is one of them");
    sleeper.signal(Signal::CONT);
    ledger.mark().await;
    let interval = Duration::from_millis(50);
    wait::poll("the old primary follows the new one", LIMIT, interval, async || {
        let role = sleeper.try_cli(&["ROLE"]).ok()?;
        role.starts_with("slave").then_some(())
    })
    .await;
    wait::until("all are written still", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let tally = traffic.stop().await;
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(cluster.url(1)).await;
}

/// Asks a server as the user whom the split leaves in.
fn inside(port: u16, command: &[&str]) {
    let mut cli = Command::new(find_program("redis-cli"));
    cli.args(["-e", "-h", "127.0.0.1", "-p", &port.to_string(), "--user", "inside"]);
    cli.args(["--no-auth-warning", "--pass", "inside-password"]).args(command);
    run(&mut cli, LIMIT).unwrap();
}

/// The primary and one node on one side; sentinels, replicas and the other nodes on the other. The line between them is the
/// name under which they come: whoever is outside loses its connections, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn d9_of_the_two_sides_of_a_split_redis_one_acknowledges_writes() {
    const CUT: [&str; 4] = ["CLIENT", "KILL", "USER", "default"];
    let _turn = turn().await;
    let redis = Redis::builder(Topology::Sentinel).replicas(2).min_replicas_to_write(1);
    let redis = redis.config_line("user inside on >inside-password ~* &* +@all");
    let builder = Cluster::builder()
        .redis_with(redis)
        .node_env(0, "UNDERSTUDY_REDIS_USERNAME", "inside")
        .node_env(0, "UNDERSTUDY_REDIS_PASSWORD", "inside-password");
    // Refused on one side, let in nowhere on the other: both are told.
    let told = ["cannot be renewed", "cannot be used", "NOREPLICAS", "NOAUTH"];
    let builder = told.iter().fold(builder, |builder, text| builder.allow_error(text));
    let cluster = builder.start().await;
    acquainted(Instant::now()).await;
    let ledger = Ledger::begin(cluster.url(0), 12).await;
    let bases = [cluster.url(0), cluster.url(1), cluster.url(2)];
    let traffic = Traffic::start(&ledger, &bases, STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let (old, interval) = (cluster.redis.primary_port(), Duration::from_millis(100));
    inside(old, &["ACL", "SETUSER", "default", "off"]);
    wait::poll("another primary is named", LIMIT, interval, async || {
        inside(old, &CUT);
        (cluster.redis.primary_port() != old).then_some(())
    })
    .await;
    ledger.mark().await;
    wait::poll("all sessions are written on the other side", LIMIT, interval, async || {
        inside(old, &CUT);
        ledger.all_written_since_mark(3).then_some(())
    })
    .await;
    inside(old, &["ACL", "SETUSER", "default", "on", "nopass", "~*", "&*", "+@all"]);
    wait::poll("the node that was cut off writes again", LIMIT, interval, async || {
        let (came, _) = ledger.accounts[0].increment(cluster.url(0)).await;
        (came == Came::Well).then_some(())
    })
    .await;
    let tally = traffic.stop().await;
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    // Had both sides acknowledged, what one of them did would be gone.
    for node in &cluster.nodes {
        ledger.is_exact(node.public_url()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d15_a_slot_that_moves_to_another_server_of_a_redis_cluster_logs_nobody_out() {
    let _turn = turn().await;
    let cluster = Cluster::builder().redis(Topology::Cluster).start().await;
    acquainted(Instant::now()).await;
    let ledger = Ledger::begin(cluster.url(0), 12).await;
    let bases = [cluster.url(0), cluster.url(1), cluster.url(2)];
    let traffic = Traffic::start(&ledger, &bases, STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let keys = cluster.redis.all_keys();
    let session = keys.iter().find(|key| key.contains(":s:")).expect("there are sessions");
    let moved = cluster.redis.move_slot_of(session);
    let since = ledger.mark().await;
    wait::until("all sessions are written", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let took = since.elapsed().as_millis();
    let tally = traffic.stop().await;
    // The session, and the leases of its bucket at least.
    oracle!("keys that moved", moved, >= 2);
    oracle!("all sessions written three times after the slot moved, ms", took, within PART_BACK_MS);
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(cluster.url(2)).await;
}
