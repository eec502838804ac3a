//! Every way to run Redis, and every way to write down where it is.

use understudy_tests::{Client, NodeSpec, Postgres, Redis, Topology, crowd, oracle, wait};

use super::ground::{LIMIT, bare, cluster_of, refused, started};
use super::smoke;

/// What the documentation asks for.
const RIGHTS: &str = "~us:* &us:* +@all -@dangerous -keys +info";

fn redis(topology: Topology) -> understudy_tests::RedisBuilder {
    Redis::builder(topology)
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_the_suite_passes_on_one_redis() {
    smoke::passes(redis(Topology::Standalone)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_the_suite_passes_behind_sentinel() {
    smoke::passes(redis(Topology::Sentinel)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_the_suite_passes_on_a_redis_cluster() {
    let mut cluster = smoke::passes(redis(Topology::Cluster)).await;
    let shares = cluster.redis.servers().iter().filter(|server| server.cli(&["DBSIZE"]) != "0");
    oracle!("servers of three that hold something", shares.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn x3_the_suite_passes_over_tls_with_an_authority_of_its_own() {
    smoke::passes(redis(Topology::Tls)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x3_the_suite_passes_over_tls_with_a_client_certificate_and_an_acl_user() {
    let redis = redis(Topology::Tls).client_certificates().user("app", "app-password", RIGHTS);
    smoke::passes(redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x3_a_server_that_nobody_vouches_for_is_not_talked_to() {
    let (redis, postgres) = tokio::join!(Redis::tls(), Postgres::start());
    let spec = bare("trusting")
        .env("UNDERSTUDY_DATABASE_URL", &postgres.url())
        .env("UNDERSTUDY_REDIS_URL", &redis.url());
    let node = spec.start();
    let told = async || {
        let log = node.log();
        log.contains("certificate") || log.contains("UnknownIssuer")
    };
    wait::until("it says what is wrong with the certificate", LIMIT, told).await;
    let ready = Client::new().get(node.admin_url(), "/readyz").await.unwrap();
    assert_eq!(ready.status, 503);
    oracle!("keys it has written all the same", redis.all_keys().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn k9_the_suite_passes_without_dangerous_commands() {
    is_modest(redis(Topology::Standalone).user("app", "app-password", RIGHTS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k9_the_suite_passes_without_dangerous_commands_behind_sentinel() {
    // ROLE is how a client of Sentinel makes sure that it has found the primary.
    let rights = format!("{RIGHTS} +role");
    is_modest(redis(Topology::Sentinel).user("app", "app-password", &rights)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k9_the_suite_passes_without_dangerous_commands_on_a_redis_cluster() {
    is_modest(redis(Topology::Cluster).user("app", "app-password", RIGHTS)).await;
}

async fn is_modest(redis: understudy_tests::RedisBuilder) {
    let mut cluster = smoke::cluster(redis).await;
    cluster.redis.reset_commandstats();
    smoke::runs(&mut cluster).await;
    let denied = cluster.redis.cli(&["ACL", "LOG"]);
    oracle!("denials in the log of Redis", denied.matches("reason").count(), 0);
    let stats = cluster.redis.commandstats();
    // The harness itself scans for keys; nobody asks for all of them at once.
    let slow = ["keys", "flushall", "flushdb", "sort", "monitor", "save", "config|set"];
    let used = slow.iter().filter(|command| stats.contains_key(**command)).count();
    oracle!("commands that a shared Redis must not see", used, 0);
}

/// How many keys of a kind a server has.
fn keys_with(redis: &Redis, part: &str) -> usize {
    redis.all_keys().iter().filter(|key| key.contains(part)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn k11_sessions_and_the_leader_may_each_have_a_redis_of_their_own() {
    const LEAD: &str = "{leader}:lease";
    let (sessions, mut leader) = tokio::join!(Redis::standalone(), Redis::standalone());
    let builder = cluster_of(2)
        .env("UNDERSTUDY_SESSION_REDIS_URL", &sessions.url())
        .env("UNDERSTUDY_LEADER_REDIS_URL", &leader.url());
    let cluster = builder.start().await;
    let client = Client::new();
    let counts = async || {
        let mut refused = 0;
        for node in &cluster.nodes {
            let counted = client.post(node.public_url(), "/incr").await.unwrap();
            refused += usize::from(counted.status != 200);
        }
        refused
    };
    oracle!("increments refused at first", counts().await, 0);
    wait::until("somebody leads", LIMIT, async || keys_with(&leader, LEAD) == 1).await;
    let places = [&sessions, &cluster.redis, &leader]
        .map(|redis| (keys_with(redis, ":s:"), keys_with(redis, LEAD)));
    let wanted = format!("{:?}", [(1, 0), (0, 0), (0, 1)]);
    oracle!("sessions and leases of the leader in each Redis", format!("{places:?}"), wanted);
    leader.kill();
    let mut refused = 0;
    for _ in 0..10 {
        refused += counts().await;
    }
    oracle!("increments of 20 refused while the Redis of the leader is away", refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn k2_every_way_to_write_an_address_leads_to_the_server() {
    let alone = redis(Topology::Standalone).password("pw-1");
    let (mut one, mut many, sentinel, postgres) =
        tokio::join!(alone.start(), Redis::cluster(), Redis::sentinel(), Postgres::start());
    let port = one.servers()[0].port();
    let ports: Vec<u16> = many.servers().iter().map(|server| server.port()).collect();
    let sentinels = sentinel.url().replace("redis-sentinel://", "");
    let (sentinels, _) = sentinels.split_once("&sentinelServiceName").expect("a service");
    let sentinels = sentinels.replace("?node=", ",").replace("&node=", ",");
    let json = |ports: &[u16]| {
        let hosts = ports.iter().map(|port| format!(r#"{{"host":"127.0.0.1","port":{port}}}"#));
        format!("[{}]", hosts.collect::<Vec<_>>().join(","))
    };
    let list = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let name = |short: &str| format!("UNDERSTUDY_REDIS_{short}");
    let password = r#"{"password":"pw-1","connectTimeout":2000}"#.to_owned();
    let ways: [Vec<(String, String)>; 9] = [
        vec![(name("URL"), format!("redis://:pw-1@127.0.0.1:{port}"))],
        vec![(name("URL"), format!("redis://default:pw-1@localhost:{port}/1"))],
        vec![(name("URL"), format!("127.0.0.1:{port}")), (name("PASSWORD"), "pw-1".to_owned())],
        vec![(name("URL"), json(&[port])), (name("OPTIONS"), password.clone())],
        vec![
            ("REDIS_URL".to_owned(), format!("valkey://127.0.0.1:{port}")),
            ("REDIS_OPTIONS".to_owned(), password),
        ],
        vec![(name("URL"), json(&ports))],
        vec![(name("URL"), list), (name("MODE"), "cluster".to_owned())],
        vec![(name("URL"), many.url().replace("redis-cluster", "redis"))],
        vec![(name("URL"), sentinels), (name("MODE"), "sentinel".to_owned())],
    ];
    let reached = crowd(3, ways.len(), async |number| {
        let spec: NodeSpec = bare(&format!("way-{number}"))
            .env("UNDERSTUDY_CLUSTER_NAME", &format!("way-{number}"))
            .env("UNDERSTUDY_DATABASE_URL", &postgres.url())
            .envs(ways[number].clone());
        let node = started(spec).await;
        let client = Client::new();
        let path = "/api/session/values/n/increment";
        client.post(node.public_url(), path).await.unwrap().expect(200);
    })
    .await;
    oracle!("ways that lead to a server", reached.len(), ways.len());
    let keys = [one.all_keys(), many.all_keys(), sentinel.all_keys()].map(|keys| keys.len());
    assert!(keys.iter().all(|count| *count > 0), "each kind was used: {keys:?}");
    assert_ne!(one.cli(&["-n", "1", "DBSIZE"]), "0", "so was the numbered database");
}

#[tokio::test(flavor = "multi_thread")]
async fn k2_what_is_no_address_is_refused_by_its_name() {
    let good = ("UNDERSTUDY_REDIS_URL", "redis://127.0.0.1:1");
    let tables: [&[(&str, &str)]; 8] = [
        &[good, ("UNDERSTUDY_REDIS_OPTIONS", "{bad")],
        &[good, ("UNDERSTUDY_REDIS_OPTIONS", r#"{"canary":1}"#)],
        &[good, ("UNDERSTUDY_REDIS_OPTIONS", r#"{"password":7}"#)],
        &[good, ("UNDERSTUDY_REDIS_DB", "canary")],
        &[good, ("UNDERSTUDY_REDIS_MODE", "canary")],
        &[("UNDERSTUDY_REDIS_URL", r#"[{"host":"canary""#)],
        &[("UNDERSTUDY_REDIS_URL", "redis://canary:99999")],
        &[("UNDERSTUDY_REDIS_URL", "https://canary")],
    ];
    let mut wrong = Vec::new();
    for options in tables {
        let spec = bare("wrong").env("UNDERSTUDY_DATABASE_URL", "postgres://127.0.0.1:1/d");
        let spec = options.iter().fold(spec, |spec, (name, value)| spec.env(name, value));
        let (status, said) = refused(spec).await;
        let (name, _) = options.last().expect("an option");
        let lines = said.lines().count();
        if status != 78
            || !said.starts_with(&format!("{name}: "))
            || lines != 1
            || said.contains("canary")
        {
            wrong.push(format!("{options:?}: {status} {said}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_a_node_finds_out_by_itself_what_kind_of_redis_it_has() {
    let mut cluster = cluster_of(1).redis(Topology::Cluster).start().await;
    let port = cluster.redis.servers()[1].port();
    let secret = ("UNDERSTUDY_REDIS_URL", format!("redis://127.0.0.1:{port}"));
    let spec = cluster.spec("auto").await.env(secret.0, &secret.1);
    let spec = spec.env("UNDERSTUDY_HTTP_EXTERNAL_URL", cluster.url(0));
    let second = started(spec).await;
    let client = Client::new();
    client.post(cluster.url(0), "/incr").await.unwrap().expect(200);
    client.post(second.public_url(), "/incr").await.unwrap().expect(200);
    assert_eq!(smoke::counter(&client, cluster.url(0)).await, 2);
}
