//! What leaks: nothing that is written anywhere opens a session.

use std::collections::BTreeSet;

use understudy_tests::{Client, Cluster, oracle};

use super::visitor::{cookie, logged_in, whoami, with_cookie};

#[tokio::test(flavor = "multi_thread")]
async fn s17_nothing_in_redis_or_a_log_opens_a_session() {
    let cluster = talkative("redis").await;
    let values = busy(&cluster).await;
    let dump = redis_dump(&cluster);
    assert!(dump.contains("us:"), "the dump holds the sessions");
    nothing_leaks(&cluster, &values, &dump).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s17_nothing_in_postgresql_or_a_log_opens_a_session() {
    let cluster = talkative("database").await;
    let values = busy(&cluster).await;
    let dump = postgres_dump(&cluster);
    assert!(dump.contains("ann"), "the dump holds the sessions: {dump}");
    nothing_leaks(&cluster, &values, &dump).await;
}

async fn talkative(store: &str) -> Cluster {
    let builder = Cluster::builder().nodes(2).env("UNDERSTUDY_SESSION_STORE", store);
    builder.env("UNDERSTUDY_LOG_FILTER", "debug").start().await
}

/// Uses sessions in all ways, good and bad; returns every cookie that was ever given out.
async fn busy(cluster: &Cluster) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for round in 0..4 {
        let (here, there) = (cluster.url(round % 2), cluster.url((round + 1) % 2));
        let client = Client::new();
        client.post(here, "/incr").await.unwrap().expect(200);
        values.push(cookie(&client));
        client.post(there, "/login?user=ann").await.unwrap().expect(204);
        values.push(cookie(&client));
        client.post(there, "/rotate").await.unwrap().expect(204);
        values.push(cookie(&client));
        client.post(here, "/append?k=list&v=item").await.unwrap().expect(200);
        client.get(here, "/all").await.unwrap().expect(200);
        // A value that cannot be added to: the failure must not tell who failed.
        assert_eq!(client.post(there, "/append?k=counter&v=x").await.unwrap().status, 422);
        let (name, value) = cookie(&client);
        let thief = with_cookie(&client, &name, &format!("{}x", &value[..value.len() - 1]));
        thief.get(there, "/whoami").await.unwrap().expect(200);
        let leaving = logged_in(here, "bob").await;
        values.push(cookie(&leaving));
        leaving.post(there, "/logout").await.unwrap().expect(204);
    }
    values
}

async fn nothing_leaks(cluster: &Cluster, values: &[(String, String)], dump: &str) {
    let (mut in_logs, mut in_dump) = (0, 0);
    let logs: Vec<String> = cluster.nodes.iter().map(|node| node.log()).collect();
    for (_, value) in values {
        let (locator, secret) = value.split_once('.').unwrap();
        // The first 20 characters of a secret are random, what follows signs it.
        let secrets = [value, secret, &secret[..20]];
        in_logs += logs.iter().filter(|log| log.contains(locator)).count();
        in_logs += logs.iter().filter(|log| secrets.iter().any(|it| log.contains(it))).count();
        in_dump += usize::from(secrets.iter().any(|it| dump.contains(it)));
    }
    oracle!("ids and secrets of sessions in logs", in_logs, 0);
    oracle!("secrets of sessions in the store", in_dump, 0);
    let name = &values[0].0;
    let mut accepted = 0;
    let replays = replays(values, dump);
    assert!(replays.len() >= values.len(), "there is something to replay");
    for value in &replays {
        let thief = with_cookie(&Client::new(), name, value);
        accepted += usize::from(whoami(&thief, cluster.url(0)).await.is_some());
    }
    oracle!(&format!("strings of the store taken as a cookie, of {}", replays.len()), accepted, 0);
}

/// What a thief of the store would try: every word of it, alone and as the secret of each session.
fn replays(values: &[(String, String)], dump: &str) -> Vec<String> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let words: BTreeSet<&str> =
        dump.split(|letter| !is_word(letter)).filter(|word| word.len() >= 20).collect();
    let mut replays: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    for (_, value) in values.iter().rev().take(4) {
        let (locator, _) = value.split_once('.').unwrap();
        replays.extend(words.iter().map(|word| format!("{locator}.{word}")));
    }
    replays
}

fn redis_dump(cluster: &Cluster) -> String {
    let mut dump = String::new();
    for key in cluster.redis.all_keys() {
        let read = match cluster.redis.cli(&["TYPE", &key]).as_str() {
            "hash" => cluster.redis.cli(&["HGETALL", &key]),
            "zset" => cluster.redis.cli(&["ZRANGE", &key, "0", "-1"]),
            "stream" => cluster.redis.cli(&["XRANGE", &key, "-", "+"]),
            _ => cluster.redis.cli(&["DUMP", &key]),
        };
        dump += &format!("{key}\n{read}\n");
    }
    dump
}

fn postgres_dump(cluster: &Cluster) -> String {
    let tables = "select tablename from pg_tables where schemaname = 'public'";
    let tables = cluster.postgres.query(tables);
    let rows = tables.lines().map(|table| {
        // Bytes are shown as text where they are text, so that a cookie in them would be seen.
        let rows = format!("set bytea_output = 'escape'; select t::text from \"{table}\" t");
        cluster.postgres.query(&rows)
    });
    rows.collect::<Vec<_>>().join("\n")
}
