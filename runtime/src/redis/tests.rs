use std::sync::LazyLock;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::testing::{
    Guarded, RedisServer, cluster, config, connected, eventually, free_port, node, stays,
};
use super::*;
use crate::secret::Secret;

static INCREMENT: LazyLock<Script> = LazyLock::new(|| {
    Script::new("test.increment", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
});

async fn increment(redis: &Redis) -> Result<Reply, RedisError> {
    redis.call(&INCREMENT, vec!["us:t:{0}:n".to_owned()], vec![Arg::from(2)]).await
}

/// Tries until it succeeds; returns how long that took and the longest that one attempt took.
async fn until_success(redis: &Redis) -> (Duration, Duration) {
    let begin = Instant::now();
    let mut longest = Duration::ZERO;
    loop {
        let sent = Instant::now();
        let answer = increment(redis).await;
        longest = longest.max(sent.elapsed());
        if answer.is_ok() {
            return (begin.elapsed(), longest);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(begin.elapsed() < Duration::from_secs(10), "{answer:?}");
    }
}

#[tokio::test]
async fn k13_the_server_lists_connections_by_node_and_role() {
    let server = RedisServer::start().await;
    let node = node("web-1");
    let mut open = Vec::new();
    for role in [Role::Lease, Role::Data(0), Role::Bus, Role::Subscriber] {
        open.push(server.connect(role, &node).await);
    }
    let list = server.cli(&["client", "list"]);
    for name in ["us-web-1-lease", "us-web-1-data0", "us-web-1-bus", "us-web-1-subscriber"] {
        assert!(list.contains(&format!("name={name} ")), "{list}");
    }
    drop(open);
    eventually("connections close with their handles", || {
        !server.cli(&["client", "list"]).contains("us-web-1")
    })
    .await;
}

#[tokio::test]
async fn a_script_is_sent_again_with_its_text_after_a_flush() {
    let server = RedisServer::start().await;
    let redis = server.connect(Role::Data(0), &node("a")).await;
    assert_eq!(increment(&redis).await.unwrap().as_i64(), Some(2));
    assert_eq!(increment(&redis).await.unwrap().as_i64(), Some(4));
    server.cli(&["script", "flush"]);
    assert_eq!(increment(&redis).await.unwrap().as_i64(), Some(6));
    let evals = server.cli(&["info", "commandstats"]);
    assert!(evals.contains("cmdstat_eval:calls=2"), "once per flush: {evals}");
}

#[tokio::test]
async fn k5_a_server_that_was_killed_is_used_again_within_a_second_of_its_return() {
    let mut server = RedisServer::start().await;
    let redis = server.connect(Role::Data(0), &node("a")).await;
    increment(&redis).await.unwrap();
    server.kill();
    let mut slowest = Duration::ZERO;
    for _ in 0..60 {
        let sent = Instant::now();
        let error = increment(&redis).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        slowest = slowest.max(sent.elapsed());
        // Spreads the calls over an outage of three seconds.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(slowest < Duration::from_millis(600), "{slowest:?}");
    server.launch().await;
    let (took, _) = until_success(&redis).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn b10_a_server_that_stands_still_costs_a_time_out_then_nothing_and_is_used_again_at_once() {
    let server = RedisServer::start().await;
    let redis = server.connect(Role::Data(0), &node("a")).await;
    server.freeze();
    let begin = Instant::now();
    let mut fast = 0;
    while begin.elapsed() < Duration::from_secs(6) {
        let sent = Instant::now();
        assert!(increment(&redis).await.unwrap_err().is_retryable());
        assert!(sent.elapsed() < Duration::from_millis(700), "{:?}", sent.elapsed());
        fast += u32::from(sent.elapsed() < Duration::from_millis(50));
        // Spreads the calls over the outage, as those of a node would be.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(fast > 50, "the silence was found out: {fast}");
    server.thaw();
    let (took, _) = until_success(&redis).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn k3_a_connection_that_is_cut_is_replaced() {
    let server = RedisServer::start().await;
    let redis = server.connect(Role::Data(0), &node("a")).await;
    for round in 0..5 {
        server.cli(&["client", "kill", "type", "normal", "skipme", "yes"]);
        let (took, longest) = until_success(&redis).await;
        assert!(
            took < Duration::from_secs(1) && longest < Duration::from_millis(600),
            "{round}: {took:?} {longest:?}"
        );
    }
    eventually("the name is set again", || server.cli(&["client", "list"]).contains("us-a-data0"))
        .await;
}

#[tokio::test]
async fn a_connection_made_while_the_server_is_away_works_once_it_is_there() {
    let mut server = RedisServer::start().await;
    server.kill();
    let redis = Redis::connect(&server.config(), Role::Data(0), &node("a")).await.unwrap();
    let sent = Instant::now();
    assert!(increment(&redis).await.unwrap_err().is_retryable());
    assert!(sent.elapsed() < Duration::from_millis(100));
    // So long that the pauses between attempts would have grown beyond the second that is allowed below.
    stays("there is no connection", Duration::from_secs(2), || !redis.is_connected()).await;
    server.launch().await;
    let (took, _) = until_success(&redis).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn refusals_of_the_server_are_told_from_silence() {
    let server = RedisServer::start().await;
    let redis = server.connect(Role::Data(0), &node("a")).await;
    server.cli(&["config", "set", "maxmemory", "1"]);
    let error = increment(&redis).await.unwrap_err();
    assert_eq!((error.is_retryable(), error.code()), (false, Some("OOM")), "{error}");
    server.cli(&["config", "set", "maxmemory", "0"]);
    server.cli(&["set", "us:t:{0}:n", "no number"]);
    assert_eq!(increment(&redis).await.unwrap_err().code(), Some("ERR"));
    server.cli(&["config", "set", "min-replicas-to-write", "1"]);
    assert_eq!(increment(&redis).await.unwrap_err().code(), Some("NOREPLICAS"));
}

#[tokio::test]
async fn a_wrong_password_is_reported_and_right_once_the_server_agrees() {
    let server = RedisServer::start_with(&["--requirepass", "right"]).await;
    let mut config = server.config();
    config.targets.password = Some(Secret::new("wrong".to_owned()));
    let redis = Redis::connect(&config, Role::Data(0), &node("a")).await.unwrap();
    eventually("the server has refused it", || {
        server.cli(&["-a", "right", "acl", "log"]).lines().any(|line| line == "auth")
    })
    .await;
    assert!(increment(&redis).await.unwrap_err().is_retryable());
    server.cli(&["-a", "right", "config", "set", "requirepass", "wrong"]);
    let (took, _) = until_success(&redis).await;
    // The longest pause between attempts is 5 s: it answers all the time, so nothing tells when to try again.
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test]
async fn k1_a_database_and_a_user_are_used() {
    let server = RedisServer::start().await;
    server.cli(&[
        "acl",
        "setuser",
        "app",
        "on",
        ">s3cret",
        "~us:*",
        "&us:*",
        "+@all",
        "-@dangerous",
        "+info",
    ]);
    let mut config = server.config();
    config.targets.username = Some("app".to_owned());
    config.targets.password = Some(Secret::new("s3cret".to_owned()));
    config.targets.db = 3;
    let redis = Redis::connect(&config, Role::Data(0), &node("a")).await.unwrap();
    connected(&redis).await;
    increment(&redis).await.unwrap();
    assert_eq!(server.cli(&["-n", "3", "get", "us:t:{0}:n"]).trim(), "2");
    assert!(server.cli(&["client", "list"]).contains("user=app"));
    let outside = redis.call(&INCREMENT, vec!["other".to_owned()], vec![Arg::from(1)]).await;
    assert!(matches!(outside, Err(RedisError::Rejected(_))), "{outside:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k2_a_cluster_is_recognised_and_spread_over_64_buckets() {
    let servers = cluster().await;
    let config = config(vec![servers[1].port, servers[0].port], Topology::Auto);
    let node = node("a");
    let redis = Redis::connect(&config, Role::Data(0), &node).await.unwrap();
    let listener = Redis::connect(&config, Role::Subscriber, &node).await.unwrap();
    connected(&redis).await;
    connected(&listener).await;
    assert_eq!((redis.topology(), redis.buckets()), (&Topology::Cluster, 64));
    for bucket in 0..64 {
        let keys = vec![format!("us:t:{{{bucket}}}:n")];
        redis.call(&INCREMENT, keys, vec![Arg::from(1)]).await.unwrap();
    }
    for server in &servers {
        assert_ne!(server.cli(&["dbsize"]).trim(), "0");
    }
    let channels: Vec<String> = (0..8).map(|n| format!("us:t:{{{n}}}:bus")).collect();
    let mut subscription = listener.subscribe(channels.clone());
    let hears = tokio::spawn(async move {
        let mut heard = std::collections::BTreeSet::new();
        while heard.len() < 8 {
            if let Incoming::Message { channel, .. } = subscription.next().await {
                heard.insert(channel);
            }
        }
    });
    while !hears.is_finished() {
        for channel in &channels {
            redis.publish(channel, "x".into()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(redis.publish("us:t:{nobody}:bus", "x".into()).await.unwrap(), 0);
    eventually("each connection has its name", || {
        servers.iter().all(|server| server.cli(&["client", "list"]).contains("us-a-data0"))
    })
    .await;
    what_is_waited_for_is_not_redirected(&servers, &config).await;
}

/// A slot goes to another server: the attempt fails, since the old one would say how many replicas *it* has, and the next one
/// goes to the new one.
async fn what_is_waited_for_is_not_redirected(servers: &[RedisServer], config: &RedisConfig) {
    let writer = Redis::connect(config, Role::Replicated(0), &node("a")).await.unwrap();
    connected(&writer).await;
    let key = "us:t:{elsewhere}:n";
    let slot = servers[0].cli(&["cluster", "keyslot", key]).trim().to_owned();
    let has_it = |server: &RedisServer| !server.cli(&["get", key]).contains("MOVED");
    let owner = servers.iter().position(has_it).unwrap();
    let heir = (owner + 1) % servers.len();
    let id = servers[heir].cli(&["cluster", "myid"]).trim().to_owned();
    for server in [heir, owner, (owner + 2) % servers.len()] {
        let done = servers[server].cli(&["cluster", "setslot", &slot, "node", &id]);
        assert_eq!(done.trim(), "OK");
    }
    let error = increment_and_wait(&writer, key).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(servers[heir].cli(&["exists", key]).trim(), "0", "it was not followed");
    let begin = Instant::now();
    let there = loop {
        match increment_and_wait(&writer, key).await {
            Ok(there) => break there,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(10), "{error}"),
        }
    };
    assert_eq!(there.replicas, 0);
    assert_eq!(servers[heir].cli(&["exists", key]).trim(), "1");
}

async fn increment_and_wait(redis: &Redis, key: &str) -> Result<Replicated, RedisError> {
    let (keys, by, limit) = (vec![key.to_owned()], vec![Arg::from(2)], Duration::from_millis(100));
    redis.call_replicated(&INCREMENT, keys, by, limit).await
}

/// Passes on what clients send to the server on `port`, and shows it; its answers only while they are not withheld.
async fn pass_on(
    listener: TcpListener,
    port: u16,
    withheld: watch::Receiver<bool>,
    sent: watch::Sender<Vec<u8>>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let sent = sent.clone();
        tokio::spawn(async move {
            let mut some = vec![0; 65_536];
            while let Ok(count @ 1..) = from_client.read(&mut some).await {
                sent.send_modify(|sent| sent.extend_from_slice(&some[..count]));
                if to_server.write_all(&some[..count]).await.is_err() {
                    return;
                }
            }
        });
        let mut withheld = withheld.clone();
        tokio::spawn(async move {
            let mut some = vec![0; 65_536];
            while let Ok(count @ 1..) = from_server.read(&mut some).await {
                let open = withheld.wait_for(|withheld| !*withheld).await.is_ok();
                if !open || to_client.write_all(&some[..count]).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[tokio::test]
async fn s2_a_replica_is_asked_for_together_with_the_change_over_one_connection() {
    let server = RedisServer::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (withhold, withheld) = watch::channel(false);
    let (sender, mut sent) = watch::channel(Vec::new());
    let passing = tokio::spawn(pass_on(listener, server.port, withheld, sender));
    let config = config(vec![port], Topology::Standalone);
    let redis = Redis::connect(&config, Role::Replicated(0), &node("a")).await.unwrap();
    connected(&redis).await;
    // The first time with the text of the script, which the server does not know.
    let alone = increment_and_wait(&redis, "us:t:{0}:n").await.unwrap();
    assert_eq!((alone.reply.as_i64(), alone.replicas), (Some(2), 0));
    let primary = server.port.to_string();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &primary]).await;
    eventually("the replica follows", || {
        replica.cli(&["info", "replication"]).contains("master_link_status:up")
    })
    .await;
    let begin = Instant::now();
    while increment_and_wait(&redis, "us:t:{0}:n").await.unwrap().replicas == 0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "the replica says that it has it");
    }
    // The server's answer does not come: were `WAIT` sent after it, nobody could say over which connection, and to whom.
    withhold.send_replace(true);
    sent.mark_unchanged();
    let begun = sent.borrow().len();
    let change = tokio::spawn(async move { increment_and_wait(&redis, "us:t:{0}:n").await });
    let is_asked = |sent: &Vec<u8>| sent[begun..].windows(4).any(|some| some == b"WAIT");
    let asked = sent.wait_for(is_asked);
    drop(tokio::time::timeout(Duration::from_secs(10), asked).await.expect("it is asked").unwrap());
    assert!(change.await.unwrap().unwrap_err().is_retryable(), "nobody knows whether it is in");
    passing.abort();
}

#[tokio::test]
async fn the_kind_of_server_is_asked_for_as_soon_as_it_is_there() {
    let mut server = RedisServer::start().await;
    server.kill();
    let mut config = server.config();
    config.targets.topology = Topology::Auto;
    let connecting =
        tokio::spawn(async move { Redis::connect(&config, Role::Data(0), &node("a")).await });
    // Longer than the pause between two questions: a single one in vain is not enough to give up.
    stays("it goes on asking", Duration::from_millis(700), || !connecting.is_finished()).await;
    server.launch().await;
    let redis = connecting.await.unwrap().unwrap();
    assert_eq!((redis.topology(), redis.buckets()), (&Topology::Standalone, 1));
}

#[tokio::test]
async fn a_subscription_goes_on_after_an_outage_and_says_that_something_may_be_missing() {
    let mut server = RedisServer::start().await;
    let (sender, listener) = (
        server.connect(Role::Bus, &node("a")).await,
        server.connect(Role::Subscriber, &node("b")).await,
    );
    let mut subscription = listener.subscribe(vec!["us:t:c".to_owned()]);
    let publish = |text: &'static str| {
        let sender = sender.clone();
        async move {
            while sender.publish("us:t:c", text.into()).await != Ok(1) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let message = |text: &'static str| Incoming::Message {
        channel: "us:t:c".to_owned(),
        payload: text.into(),
    };
    assert_eq!(tokio::join!(subscription.next(), publish("one")).0, message("one"));
    server.kill();
    server.launch().await;
    let publishing = tokio::spawn(publish("two"));
    assert_eq!(subscription.next().await, Incoming::Gap { lost: 0 });
    assert_eq!(subscription.next().await, message("two"));
    publishing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k4_a_subscriber_that_is_too_slow_loses_the_oldest_and_is_told() {
    let server = RedisServer::start().await;
    let (sender, listener) = (
        server.connect(Role::Bus, &node("a")).await,
        server.connect(Role::Subscriber, &node("b")).await,
    );
    let mut subscription = listener.subscribe(vec!["us:t:c".to_owned()]);
    let begin = async {
        while sender.publish("us:t:c", "x".into()).await != Ok(1) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::join!(subscription.next(), begin);
    let floods = (0..20).map(|_| async {
        for _ in 0..500 {
            sender.publish("us:t:c", "x".into()).await.unwrap();
        }
    });
    futures_util::future::join_all(floods).await;
    // The answer comes on the same connection, after all the messages.
    listener.info("server").await.unwrap();
    let Incoming::Gap { lost } = subscription.next().await else { panic!("no gap") };
    assert_eq!(lost, 10_000 - settings::INBOX as u64);
    assert!(matches!(subscription.next().await, Incoming::Message { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_share_one_connection() {
    let server = RedisServer::start().await;
    let redis = server.connect(Role::Data(0), &node("a")).await;
    let connected = || {
        let list = server.cli(&["client", "list"]);
        let of_node = list.lines().filter(|line| line.contains(" name=us-a-data0 "));
        of_node.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = connected();
    assert_eq!(before.len(), 1, "{before:?}");
    let others = redis.clone();
    let calls = (0..64).map(|number| {
        let redis = if number % 2 == 0 { &redis } else { &others };
        async move {
            for _ in 0..30 {
                increment(redis).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(connected(), before, "the same one, by its number, and no other");
    assert_eq!(*redis.connects().borrow(), 1);
    assert_eq!(server.cli(&["get", "us:t:{0}:n"]).trim(), "3840", "64 times 30 calls of 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k1_tls_with_an_own_authority_and_a_client_certificate() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let file = |name: &str| dir.path().join(name);
    let path = |name: &str| file(name).display().to_string();
    let port = free_port();
    let (tls_port, certificate, key, authority) =
        (port.to_string(), path("server.crt"), path("server.key"), path("ca.crt"));
    let options = [
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &authority,
        "--tls-auth-clients",
        "yes",
    ];
    let _server = RedisServer::start_with(&options).await;
    let mut config = config(vec![port], Topology::Standalone);
    config.targets.tls = true;
    config.targets.hosts[0].0 = "localhost".to_owned();
    config.tls_ca_file = Some(file("ca.crt"));
    config.tls_cert_file = Some(file("client.crt"));
    config.tls_key_file = Some(file("client.key"));
    let redis = Redis::connect(&config, Role::Data(0), &node("a")).await.unwrap();
    connected(&redis).await;
    increment(&redis).await.unwrap();

    let mut nobody = config.clone();
    (nobody.tls_cert_file, nobody.tls_key_file) = (None, None);
    let mut stranger = config.clone();
    stranger.tls_ca_file = Some(file("other.crt"));
    for refused in [nobody, stranger] {
        let redis = Redis::connect(&refused, Role::Data(0), &node("a")).await.unwrap();
        // Time for some attempts: the first comes at once, the second 100 to 200 ms later.
        stays("it is kept out", Duration::from_millis(500), || *redis.connects().borrow() == 0)
            .await;
        assert!(increment(&redis).await.unwrap_err().is_retryable() && !redis.is_connected());
    }
    config.tls_ca_file = Some(file("missing.crt"));
    let error = Redis::connect(&config, Role::Data(0), &node("a")).await.unwrap_err();
    assert!(error.to_string().contains("missing.crt"), "{error}");
}

/// Makes two authorities, and a certificate of the first for the server and one for the client.
fn certificates(dir: &std::path::Path) {
    let script = r#"
        for ca in ca other; do openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.crt; done
        for who in server client; do
            openssl req -newkey rsa:2048 -nodes -subj /CN=$who -keyout $who.key -out $who.csr
            printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > $who.ext
            openssl x509 -req -in $who.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out $who.crt -extfile $who.ext
        done"#;
    let made =
        std::process::Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k1_a_primary_that_was_killed_is_replaced_by_what_the_sentinel_names() {
    let mut farm = Guarded::start().await;
    let redis = Redis::connect(&farm.config(), Role::Data(0), &node("a")).await.unwrap();
    connected(&redis).await;
    increment(&redis).await.unwrap();
    assert!(farm.primary.cli(&["client", "list"]).contains("us-a-data0"));
    farm.primary.kill();
    let (took, longest) = until_success(&redis).await;
    assert!(
        took < Duration::from_secs(8) && longest < Duration::from_millis(900),
        "{took:?} {longest:?}"
    );
    eventually("the name is set", || farm.replica.cli(&["client", "list"]).contains("us-a-data0"))
        .await;
}

/// A primary that lives on, but is not the primary any more, would acknowledge writes that are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_replaced_but_lives_is_left_at_once_by_every_connection() {
    let farm = Guarded::start().await;
    let config = farm.config();
    let mut all = Vec::new();
    for role in [Role::Lease, Role::Data(0), Role::Subscriber] {
        let redis = Redis::connect(&config, role, &node("a")).await.unwrap();
        connected(&redis).await;
        all.push(redis);
    }
    eventually("the sentinel is listened to", || {
        farm.sentinel.cli(&["client", "list"]).contains("cmd=subscribe")
    })
    .await;
    // It refuses until it has heard of a replica that can take over.
    eventually("the sentinel begins a failover", || {
        farm.sentinel.cli(&["sentinel", "failover", "prime"]).starts_with("OK")
    })
    .await;
    eventually("the replica is the primary", || farm.replica.cli(&["role"]).starts_with("master"))
        .await;
    let promoted = Instant::now();
    eventually("nobody is left on the old one", || {
        let list = farm.replica.cli(&["client", "list"]);
        ["us-a-lease", "us-a-data0", "us-a-subscriber"].iter().all(|name| list.contains(name))
    })
    .await;
    println!("left after {:?}", promoted.elapsed());
    assert!(promoted.elapsed() < Duration::from_secs(4), "{:?}", promoted.elapsed());
    for redis in &all {
        increment(redis).await.unwrap();
    }
    assert_eq!(farm.replica.cli(&["get", "us:t:{0}:n"]).trim(), "6");
}

#[tokio::test]
async fn b13_a_full_server_still_runs_what_must_not_fail() {
    static KEEP: LazyLock<Script> = LazyLock::new(|| {
        Script::even_when_full("test.keep", "return redis.call('SET', KEYS[1], 'kept')")
    });
    let server = RedisServer::start().await;
    let redis = server.connect(Role::Data(0), &node("a")).await;
    server.cli(&["config", "set", "maxmemory", "1"]);
    let keep = || redis.call(&KEEP, vec!["us:t:{0}:k".to_owned()], vec![]);
    keep().await.unwrap();
    keep().await.unwrap();
    assert_eq!(increment(&redis).await.unwrap_err().code(), Some("OOM"));
}

#[tokio::test]
async fn k10_an_evicting_server_is_found() {
    let server = RedisServer::start().await;
    let redis = server.connect(Role::Data(0), &node("a")).await;
    let codes = async || -> Vec<String> {
        redis.findings().await.unwrap().iter().map(|one| one.code.to_string()).collect()
    };
    assert_eq!(codes().await, ["redis_forgets"]);
    server.cli(&["config", "set", "appendonly", "yes"]);
    server.cli(&["config", "set", "maxmemory", "100mb"]);
    server.cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    assert_eq!(codes().await, ["redis_evicts"]);
}

#[tokio::test]
async fn b8_a_dead_connection_is_found_out_before_it_is_needed() {
    let server = RedisServer::start().await;
    let redis = server.connect(Role::Subscriber, &node("a")).await;
    // Three times as long as a connection may be quiet until it is asked whether it is alive.
    stays("a quiet connection is not a dead one", Duration::from_secs(3), || {
        *redis.connects().borrow() == 1 && redis.is_connected()
    })
    .await;
    server.freeze();
    let begin = Instant::now();
    eventually("it is given up", || !redis.is_connected()).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    server.thaw();
}
