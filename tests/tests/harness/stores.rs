//! Redis in all topologies and PostgreSQL: they start, restart on the same port, pause and resume.

use std::time::Duration;

use understudy_tests::{Data, Postgres, Redis, Topology, on_every_topology, oracle, wait};

const LIMIT: Duration = Duration::from_secs(20);

on_every_topology!(redis_comes_back_as_told, a_paused_redis_answers_late);

async fn redis_comes_back_as_told(topology: Topology) {
    let mut redis = Redis::builder(topology).append_only().start().await;
    let url = redis.url();
    assert_eq!(redis.cli(&["SET", "us:key", "value"]), "OK");
    assert_eq!(redis.all_keys(), ["us:key"]);
    redis.restart(Data::Kept).await;
    assert_eq!(redis.cli(&["GET", "us:key"]), "value");
    redis.kill();
    assert!(redis.try_cli(&["GET", "us:key"]).is_err());
    redis.restart(Data::Lost).await;
    assert_eq!(redis.cli(&["GET", "us:key"]), "");
    assert_eq!(redis.url(), url);
}

async fn a_paused_redis_answers_late(topology: Topology) {
    let redis = Redis::builder(topology).restricted_user().start().await;
    assert!(redis.url().contains("//app:app-password@"));
    redis.reset_commandstats();
    redis.pause();
    let set = std::thread::scope(|threads| {
        let set = threads.spawn(|| redis.cli(&["SET", "key", "value"]));
        assert!(!set.is_finished());
        redis.resume();
        set.join().unwrap()
    });
    assert_eq!(set, "OK");
    assert_eq!(redis.commandstats()["set"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_restricted_user_may_not_search_all_keys() {
    let redis = Redis::builder(Topology::Standalone).restricted_user().start().await;
    let as_app = |command: &[&str]| {
        let mut arguments = vec!["--user", "app", "--pass", "app-password", "--no-auth-warning"];
        arguments.extend(command);
        redis.try_cli(&arguments)
    };
    assert!(as_app(&["KEYS", "*"]).unwrap_err().contains("NOPERM"));
    assert!(as_app(&["FLUSHALL"]).unwrap_err().contains("NOPERM"));
    assert!(as_app(&["INFO", "server"]).unwrap().contains("run_id"));
    assert_eq!(as_app(&["SET", "key", "1"]).unwrap(), "OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_demanded() {
    let redis = Redis::tls().await;
    assert!(redis.url().starts_with("rediss://"));
    let (_, file) = redis.environment().pop().unwrap();
    assert!(std::fs::read_to_string(file).unwrap().contains("BEGIN CERTIFICATE"));
    let plain = std::net::TcpStream::connect(("127.0.0.1", redis.primary_port())).unwrap();
    plain.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let (mut answer, mut plain) = ([0; 7], plain);
    drop(std::io::Write::write_all(&mut plain, b"PING\r\n"));
    let got = std::io::Read::read(&mut plain, &mut answer).unwrap_or(0);
    assert!(!answer[..got].starts_with(b"+PONG"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_promote_a_replica_on_demand_and_after_a_kill() {
    let mut redis = Redis::builder(Topology::Sentinel).replicas(2).start().await;
    let first = redis.primary_port();
    redis.failover().await;
    let second = redis.primary_port();
    assert_ne!(first, second);
    // The promotion of another replica needs one that follows the new primary.
    wait::until("the replicas follow the new primary", LIMIT, async || {
        redis.cli(&["INFO", "replication"]).matches("state=online").count() == 2
    })
    .await;
    assert_eq!(redis.cli(&["SET", "key", "value"]), "OK");
    assert_eq!(redis.cli(&["WAIT", "2", "2000"]), "2");
    redis.kill_primary();
    let took = redis.new_primary(second, LIMIT).await;
    oracle!("failover after a kill, ms", took.as_millis(), within 15_000);
    assert_eq!(redis.cli(&["GET", "key"]), "value");
    redis.servers().iter().for_each(|server| assert!(server.port() > 0));
    redis.restart(Data::Lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_without_replicas_refuses_writes_if_told_so() {
    let mut redis =
        Redis::builder(Topology::Sentinel).min_replicas_to_write(1).password("pw").start().await;
    assert!(redis.url().contains("//default:pw@"));
    assert_eq!(redis.cli(&["SET", "key", "1"]), "OK");
    redis.servers()[1].kill();
    wait::until("the primary notices", LIMIT, async || {
        redis.try_cli(&["SET", "key", "2"]).is_err_and(|error| error.contains("NOREPLICAS"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_serves_all_slots() {
    let redis = Redis::cluster().await;
    assert!(redis.url().starts_with("redis-cluster://"));
    for key in ["{a}", "{b}", "{c}", "{d}", "{e}"] {
        assert_eq!(redis.cli(&["SET", key, "1"]), "OK");
    }
    assert_eq!(redis.all_keys().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_its_data_over_a_stop_and_a_kill() {
    let (mut postgres, other) = tokio::join!(Postgres::start(), Postgres::start());
    let url = postgres.url();
    postgres.query("create table t (n int); insert into t values (1)");
    postgres.restart().await;
    postgres.query("insert into t values (2)");
    postgres.kill();
    postgres.restart().await;
    assert_eq!(postgres.query("select sum(n), count(*) from t"), "3|2");
    assert_eq!(postgres.url(), url);
    assert_eq!(other.query("select count(*) from pg_tables where tablename = 't'"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_postgres_answers_late() {
    let postgres = Postgres::start().await;
    postgres.pause();
    let answer = std::thread::scope(|threads| {
        let query = threads.spawn(|| postgres.query("select 1"));
        assert!(!query.is_finished());
        postgres.resume();
        query.join().unwrap()
    });
    assert_eq!(answer, "1");
}
