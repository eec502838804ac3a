//! Row 9: session cookies that open nothing.

use std::collections::BTreeSet;

use serde_json::Value;
use understudy_runtime::secret::Secret;
use understudy_session::keyring::{KeyRing, SecretBytes};
use understudy_session::record::Locator;
use understudy_tests::{Client, Cluster, Program, oracle};

use super::wire::{LIMIT, is_well, node};

const COUNT: &str = "/api/session/values/n/increment";
/// What signs the cookies where a test signs some itself.
const KEY: &str = "a-key-that-this-test-has-too-0123456789";

#[tokio::test(flavor = "multi_thread")]
async fn row_9_a_cookie_that_opens_nothing_is_as_good_as_none() {
    let old = node(&[("SESSION_SECRET", "the-key-of-another-node-long-ago-0123")]).await;
    let signed_elsewhere = cookie_of(&begun(old.public_url()).await);
    let node = node(&[]).await;
    let url = node.public_url();
    let victim = begun(url).await;
    let good = cookie_of(&victim);
    let ended = begun(url).await;
    let dead = cookie_of(&ended);
    ended.delete(url, "/api/session").await.unwrap().expect(204);
    let long = "A".repeat(4_096);
    let (locator, secret) = good.split_once('.').unwrap();
    let mut bad: Vec<String> = vec![
        String::new(),
        ".".to_owned(),
        locator.to_owned(),
        format!("{locator}."),
        format!(".{secret}"),
        format!("{secret}.{locator}"),
        format!("{good}="),
        good.to_uppercase(),
        "../../etc/passwd".to_owned(),
        "%00".to_owned(),
        "a\u{e9}".to_owned(),
        signed_elsewhere,
        dead,
        long,
    ];
    bad.extend((0..good.len()).step_by(5).map(|at| one_off(&good, at)));
    let (mut served, mut adopted) = (0, 0);
    for value in &bad {
        let thief = Client::new();
        thief.set_cookie("usid", value);
        let read = thief.get(url, "/api/session/values").await.unwrap().expect(200);
        served += usize::from(read.json::<Value>()["version"] != 0);
        // A write begins another session, under a name that the node has drawn.
        let counted = thief.post(url, COUNT).await.unwrap().expect(200);
        served += usize::from(counted.json::<Value>()["value"] != 1);
        let given = cookie_of(&thief);
        let named = given.split_once('.').unwrap().0;
        adopted += usize::from(given == *value || value.contains(named));
    }
    oracle!(&format!("bad cookies of {} that opened a session", bad.len()), served, 0);
    oracle!("bad cookies that became the name of one", adopted, 0);
    let kept: Value = victim.post(url, COUNT).await.unwrap().expect(200).json();
    oracle!("counter of the session they were after", kept["value"], 2);
    is_well(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_9_of_two_cookies_of_one_name_the_one_that_opens_something_counts() {
    let node = node(&[]).await;
    let url = node.public_url();
    let good = cookie_of(&begun(url).await);
    let bad = one_off(&good, 30);
    let (first, second) = (format!("usid={bad}; usid={good}"), format!("usid={good}; usid={bad}"));
    for header in
        [first.as_str(), second.as_str(), &format!("usid={good}; other=1; usid="), "usid=; usid"]
    {
        let get = Client::new().build(reqwest::Method::GET, url, "/api/session/values/n");
        let answer = Client::new().send(get.header("cookie", header)).await.unwrap();
        let expected = if header.contains(&good) { 200 } else { 404 };
        assert_eq!(answer.status, expected, "{header}: {answer:?}");
    }
}

/// Row 9 also wants the answers equal in time. Time itself is not measured here: on a busy machine the figures of any two
/// ways overlap, and such a test fails by chance or never. What makes time differ is a way to Redis, so those are counted.
///
/// Without the key of the nodes nobody gets that far: a cookie that they did not sign is thrown away before anything is
/// looked for, and what exists cannot be told from what does not. Whoever has a cookie that was good once (the session has
/// ended since, or has another secret) sends Redis one question in either case. Where the session is in the memory of the
/// node it is none; that tells only a former holder of this very session that it lives.
#[tokio::test(flavor = "multi_thread")]
async fn row_9_what_exists_cannot_be_told_from_what_does_not() {
    const SESSIONS: usize = 5;
    let builder = Cluster::builder().nodes(1).program(Program::Understudy);
    let mut cluster = builder.env("UNDERSTUDY_SESSION_SECRET", KEY).start().await;
    let mut good = Vec::new();
    for _ in 0..SESSIONS {
        good.push(cookie_of(&begun(cluster.url(0)).await));
    }
    // Nobody has them in memory when they are asked for.
    cluster.nodes[0].terminate();
    cluster.nodes[0].wait_exit(LIMIT).await;
    cluster.restart(0).await;
    let keys = KeyRing::new(&[Secret::new(KEY.to_owned())]);
    let strange = || keys.seal(Locator::random(), SecretBytes::random());
    // The first question of its kind is sent twice, since Redis does not know the script yet.
    shown(&cluster, &strange()).await;
    cluster.redis.cli(&["CONFIG", "SET", "slowlog-max-len", "100000"]);
    cluster.redis.cli(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    let (mut answers, mut forged, mut unknown, mut wrong) = (BTreeSet::new(), 0, vec![], vec![]);
    for cookie in good {
        let locator: Locator = cookie.split_once('.').unwrap().0.parse().unwrap();
        let signature = cookie.len() - 5;
        for badly_signed in [one_off(&cookie, signature), one_off(&strange(), signature)] {
            answers.insert(shown(&cluster, &badly_signed).await);
            forged += questions_about(&cluster, &badly_signed);
        }
        let nobodys = strange();
        answers.insert(shown(&cluster, &nobodys).await);
        unknown.push(questions_about(&cluster, &nobodys));
        let outdated = keys.seal(locator, SecretBytes::random());
        answers.insert(shown(&cluster, &outdated).await);
        wrong.push(questions_about(&cluster, &outdated));
    }
    oracle!("different answers to bad cookies", answers.len(), 1);
    oracle!("questions to Redis about cookies that nobody signed", forged, 0);
    assert_eq!(wrong, unknown, "a wrong secret is as far away as a session that is not there");
    assert_eq!(unknown, [1; SESSIONS], "the questions are seen");
}

/// Status and body of a look with this cookie.
async fn shown(cluster: &Cluster, cookie: &str) -> (u16, String) {
    let client = Client::new();
    client.set_cookie("usid", cookie);
    let answer = client.get(cluster.url(0), "/api/session/values").await.unwrap();
    assert!(answer.set_cookies().is_empty(), "{answer:?}");
    (answer.status, answer.text)
}

/// How often the node has asked Redis about the session that a cookie names. The slow log, told that all is slow, has each
/// command with its arguments and the name of the connection; what a script does inside has no name.
fn questions_about(cluster: &Cluster, cookie: &str) -> usize {
    let locator = cookie.split_once('.').unwrap().0;
    let log: Value =
        serde_json::from_str(&cluster.redis.cli(&["--json", "SLOWLOG", "GET", "-1"])).unwrap();
    let entries = log.as_array().expect("a list of commands").iter();
    let of_node = entries.filter(|entry| entry[5].as_str().is_some_and(|it| it.starts_with("us-")));
    of_node.filter(|entry| entry[3].to_string().contains(locator)).count()
}

/// A browser whose session counts 1.
async fn begun(url: &str) -> Client {
    let client = Client::new();
    client.post(url, COUNT).await.unwrap().expect(200);
    client
}

fn cookie_of(client: &Client) -> String {
    client.cookies().get("usid").expect("a session was begun").clone()
}

/// The same with another character in one place.
fn one_off(cookie: &str, at: usize) -> String {
    let mut bytes = cookie.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}
