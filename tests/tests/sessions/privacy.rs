//! What leaks: nothing that is written anywhere opens a session; nor, with keys, tells what it holds.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Client, Cluster, Node, Program, oracle};

use super::visitor::{cookie, logged_in, whoami, with_cookie};

const LIMIT: Duration = Duration::from_secs(30);
pub(super) const KEYS: &str = "UNDERSTUDY_SESSION_ENCRYPTION_KEYS";
/// Two keys, named.
pub(super) const FIRST: &str = "first:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "second:/+79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";
/// A value and a number that stand in sessions, and a token; each is found wherever it is told.
const CANARY: &str = "canary-value-of-a-session";
const NUMBER: i64 = 47_110_815_471_108;
const TOKEN: &str = "canary-admin-token-0123456789";
const NOTE: &str = "/api/session/values/note";
const COUNT: &str = "/api/session/values/n/increment";

#[tokio::test(flavor = "multi_thread")]
async fn s17_nothing_in_redis_or_a_log_opens_a_session() {
    let cluster = talkative("redis").await;
    let values = busy(&cluster).await;
    let dump = format!("{}\n{}", redis_dump(&cluster), redis_file(&cluster));
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

/// What Redis writes to its disk and sends to replicas, not compressed, so that nothing hides.
fn redis_file(cluster: &Cluster) -> String {
    cluster.redis.cli(&["CONFIG", "SET", "rdbcompression", "no"]);
    assert_eq!(cluster.redis.cli(&["SAVE"]), "OK");
    let folder = cluster.redis.cli(&["CONFIG", "GET", "dir"]);
    let folder = Path::new(folder.lines().last().expect("it has a folder"));
    let bytes = std::fs::read(folder.join("dump.rdb")).expect("it was written");
    String::from_utf8_lossy(&bytes).into_owned()
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

#[tokio::test(flavor = "multi_thread")]
async fn x6_what_sessions_hold_is_told_nowhere_with_sessions_in_redis() {
    what_sessions_hold_is_told_nowhere("redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_what_sessions_hold_is_told_nowhere_with_sessions_in_postgresql() {
    what_sessions_hold_is_told_nowhere("database").await;
}

async fn what_sessions_hold_is_told_nowhere(store: &str) {
    let builder = Cluster::builder().nodes(2).program(Program::Understudy);
    let cluster = builder
        .env("UNDERSTUDY_SESSION_STORE", store)
        .env(KEYS, FIRST)
        .env("UNDERSTUDY_ADMIN_TOKEN", TOKEN)
        .env("UNDERSTUDY_LOG_FILTER", "debug")
        .start()
        .await;
    let (mut told, mut secrets) = (Vec::new(), Vec::new());
    for round in 0..4 {
        let client = filled(&cluster, round, &mut told).await;
        let (_, value) = cookie(&client);
        let (_, secret) = value.split_once('.').unwrap();
        secrets.extend([value.clone(), secret.to_owned(), secret[..20].to_owned()]);
    }
    let (dump, file) = (redis_dump(&cluster), redis_file(&cluster));
    let rows = postgres_dump(&cluster);
    let sealed = if store == "redis" {
        dump.matches("1.first.").count()
    } else {
        rows.matches("1.first.").count()
    };
    oracle!("values that are sealed under the key in their store", sealed, >= 4);
    assert!(store != "redis" || file.contains("1.first."), "nor does the file hide them");
    told.extend([dump, file, rows]);
    told.extend(administration(&cluster).await);
    told.extend(cluster.nodes.iter().map(|node| node.log()));
    let everything = told.join("\n");
    let (_, key) = FIRST.split_once(':').unwrap();
    let number = NUMBER.to_string();
    for canary in [CANARY, number.as_str(), TOKEN, key] {
        oracle!(&format!("places that tell {canary}"), everything.matches(canary).count(), 0);
    }
    let leaked = secrets.iter().filter(|secret| everything.contains(secret.as_str())).count();
    oracle!(&format!("parts of cookies, of {}, that are told", secrets.len()), leaked, 0);
}

/// A session with something in it, written at both nodes and read at both; keeps the answers that are errors.
async fn filled(cluster: &Cluster, round: usize, told: &mut Vec<String>) -> Client {
    let (here, there) = (cluster.url(round % 2), cluster.url((round + 1) % 2));
    let client = Client::new();
    client.put_json(here, NOTE, CANARY).await.unwrap().expect(204);
    let item = json!({ "item": CANARY });
    for base in [here, there] {
        let by = json!({ "by": NUMBER / 2 });
        client.post_json(base, COUNT, &by).await.unwrap().expect(200);
        let append = "/api/session/values/list/append";
        client.post_json(base, append, &item).await.unwrap().expect(200);
    }
    for base in [here, there] {
        let values = client.get(base, "/api/session/values").await.unwrap().expect(200);
        let values = values.json::<Value>()["values"].clone();
        let wanted = json!({ "note": CANARY, "n": NUMBER, "list": [CANARY, CANARY] });
        assert_eq!(values, wanted);
        // Neither adds to nor counts as what it is.
        let wrong = client.post_json(base, &format!("{NOTE}/append"), &item).await.unwrap();
        assert_eq!(wrong.status, 422, "{wrong:?}");
        told.push(format!("{wrong:?}"));
        let large = "x".repeat(70_000) + CANARY;
        let refused = client.put_json(base, NOTE, &large).await.unwrap();
        assert_eq!(refused.status, 413, "{refused:?}");
        told.push(format!("{refused:?}"));
    }
    client
}

/// Whatever operators are shown: by all operations that only look, on all pages of the console, of all sessions.
async fn administration(cluster: &Cluster) -> Vec<String> {
    let client = Client::new().bearing(TOKEN);
    let mut shown = Vec::new();
    for node in &cluster.nodes {
        let base = node.admin_url();
        let list = client.get(base, "/v1/sessions").await.unwrap().expect(200);
        let sessions = list.json::<Value>()["sessions"].as_array().cloned().unwrap_or_default();
        assert_eq!(sessions.len(), 4, "{list:?}");
        let ids = sessions.iter().map(|session| session["id"].as_str().expect("an id").to_owned());
        let ids: Vec<String> = ids.collect();
        for id in &ids {
            let path = format!("/v1/sessions/{id}");
            shown.push(client.get(base, &path).await.unwrap().expect(200).text);
        }
        let looks = looks(&client, base).await;
        oracle!("operations that only look", looks.len(), >= 30);
        for path in looks {
            let path = path.replace("{id}", &ids[0]).replace("{name}", node.name());
            shown.push(format!("{:?}", client.get(base, &path).await.unwrap()));
        }
        shown.extend(pages(node, &ids[0]).await);
    }
    shown
}

/// The paths of all operations that only look, but for the stream that never ends.
async fn looks(client: &Client, base: &str) -> Vec<String> {
    let document = client.get(base, "/v1/openapi.json").await.unwrap().expect(200);
    let document = document.json::<Value>();
    let paths = document["paths"].as_object().expect("it has paths");
    let looks = paths.iter().filter(|(_, methods)| methods.get("get").is_some());
    looks.map(|(path, _)| path.clone()).filter(|path| path != "/v1/events").collect()
}

/// The pages of the console, for somebody who may see all of them.
async fn pages(node: &Node, session: &str) -> Vec<String> {
    let browser = Client::new();
    let enter = browser.build(Method::POST, node.admin_url(), "/console/login");
    let enter = enter.header("content-type", "application/x-www-form-urlencoded");
    let enter = enter.header("sec-fetch-site", "same-origin").body(format!("token={TOKEN}"));
    browser.send(enter).await.unwrap().expect(303);
    let (mut shown, session) = (Vec::new(), format!("/sessions/{session}"));
    for page in [
        "",
        "/problems",
        "/nodes",
        "/nodes/node-a",
        "/nodes/node-a/config",
        "/config",
        "/settings",
        "/requests",
        "/audit",
        "/tokens",
        "/sessions",
        session.as_str(),
    ] {
        let path = format!("/console{page}");
        let answer = browser.get(node.admin_url(), &path).await.unwrap().expect(200);
        assert!(answer.text.contains("</html>"), "{path}: {}", answer.text);
        shown.push(answer.text);
    }
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_keys_come_change_and_go_without_a_logout() {
    let builder = Cluster::builder().nodes(2).program(Program::Understudy);
    let mut cluster = builder.start().await;
    let clients: Vec<Client> = (0..4).map(|_| Client::new()).collect();
    for (number, client) in clients.iter().enumerate() {
        client.put_json(cluster.url(number % 2), NOTE, CANARY).await.unwrap().expect(204);
    }
    let mut count = 0_u64;
    let steps = [
        (format!("plain,{FIRST}"), true),
        (FIRST.to_owned(), false),
        (format!("{FIRST},{SECOND}"), false),
        (format!("{SECOND},{FIRST}"), false),
        (SECOND.to_owned(), false),
        (format!("plain,{SECOND}"), true),
    ];
    for (keys, is_legible) in steps {
        for index in 0..2 {
            renew(&mut cluster, index, &keys).await;
            for base in [cluster.url(0), cluster.url(1)] {
                count += 1;
                for client in &clients {
                    let counted = client.post(base, COUNT).await.unwrap().expect(200);
                    assert_eq!(counted.json::<Value>()["value"], count, "{keys:.8}");
                    let note = client.get(base, NOTE).await.unwrap().expect(200);
                    assert_eq!(note.json::<Value>()["value"], CANARY, "{keys:.8}");
                }
            }
        }
        let legible = redis_dump(&cluster).matches(CANARY).count();
        let name = keys.split(':').next().unwrap_or_default();
        let wanted = if is_legible { clients.len() } else { 0 };
        oracle!(&format!("legible values in Redis with {name} first"), legible, wanted);
    }
}

/// Restarts one node with other keys, as an operator does.
async fn renew(cluster: &mut Cluster, index: usize, keys: &str) {
    let node = &mut cluster.nodes[index];
    node.terminate();
    assert!(node.wait_exit(LIMIT).await.success());
    node.set_env(KEYS, keys);
    node.start_again();
    node.ready(LIMIT).await;
}

/// The lines of a hash. The order of its fields means nothing.
fn fields(cluster: &Cluster, key: &str) -> BTreeSet<String> {
    cluster.redis.cli(&["HGETALL", key]).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_a_node_without_the_key_says_so_and_leaves_sessions_alone() {
    let builder = Cluster::builder().nodes(2).program(Program::Understudy);
    let mut cluster = builder.node_env(0, KEYS, FIRST).start().await;
    let client = Client::new();
    client.put_json(cluster.url(0), NOTE, CANARY).await.unwrap().expect(204);
    let (_, value) = cookie(&client);
    let (locator, _) = value.split_once('.').unwrap();
    let keys = cluster.redis.all_keys();
    let key = keys.iter().find(|key| key.ends_with(locator)).expect("the session has a key");
    for owner_is_there in [true, false] {
        if !owner_is_there {
            cluster.nodes[0].terminate();
            cluster.nodes[0].wait_exit(LIMIT).await;
        }
        let before = fields(&cluster, key);
        for answer in [
            client.get(cluster.url(1), NOTE).await.unwrap(),
            client.put_json(cluster.url(1), NOTE, "other").await.unwrap(),
        ] {
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.text.contains("\"session_unreadable\""), "{answer:?}");
        }
        assert_eq!(fields(&cluster, key), before, "byte for byte");
    }
    let alarms = cluster.nodes[1].metric("session_unreadable_total").await;
    oracle!("sessions that cannot be read", alarms, >= 1.0);
    let log = cluster.nodes[1].log();
    assert!(log.contains("`first`") && log.contains(KEYS), "{log}");
    let (_, secret) = FIRST.split_once(':').unwrap();
    oracle!("keys in the log", log.matches(secret).count(), 0);
    cluster.restart(0).await;
    let note = client.get(cluster.url(0), NOTE).await.unwrap().expect(200);
    assert_eq!(note.json::<Value>()["value"], CANARY);
}
