//! Row 9: session cookies that open nothing.

use serde_json::Value;
use understudy_tests::{Client, oracle};

use super::wire::{is_well, node};

const COUNT: &str = "/api/session/values/n/increment";

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
