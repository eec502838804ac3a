//! The session cookie as browsers get it.

use std::time::Duration;

use understudy_tests::{Client, Node, NodeSpec, Program, oracle};

use super::visitor::cookie;

async fn node(name: &str, external_url: &str) -> Node {
    let spec = NodeSpec::new(name).program(Program::Fixture);
    let mut node = spec.env("UNDERSTUDY_HTTP_EXTERNAL_URL", external_url).start();
    node.ready(Duration::from_secs(30)).await;
    node
}

/// The name, the length of the value, and the attributes of the only cookie that an answer sets.
fn parts(lines: &[String]) -> (String, usize, Vec<String>) {
    let [line] = lines else { panic!("one cookie instead of {lines:?}") };
    let mut parts = line.split("; ").map(str::to_owned);
    let pair = parts.next().unwrap();
    let (name, value) = pair.split_once('=').unwrap();
    let mut attributes: Vec<String> = parts.collect();
    attributes.sort();
    (name.to_owned(), value.len(), attributes)
}

#[tokio::test(flavor = "multi_thread")]
async fn s4_behind_https_the_cookie_is_bound_to_the_host_and_to_tls() {
    let node = node("https", "https://shop.example").await;
    let client = Client::new();
    let begun = client.post(node.public_url(), "/incr").await.unwrap().expect(200);
    let (name, length, attributes) = parts(&begun.set_cookies());
    oracle!("name of the cookie", name, "__Host-usid");
    oracle!("length of the value", length, 66);
    let attributes = attributes.join("; ");
    oracle!("attributes", attributes, "HttpOnly; Path=/; SameSite=Lax; Secure");
    oracle!("caching of the answer", begun.header("cache-control").unwrap(), "no-store");
    let ended = client.post(node.public_url(), "/logout").await.unwrap().expect(204);
    let (name, length, attributes) = parts(&ended.set_cookies());
    assert_eq!((name.as_str(), length), ("__Host-usid", 0));
    let taken_back = attributes.join("; ");
    oracle!(
        "attributes of the cookie that a logout takes back",
        taken_back,
        "Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Max-Age=0; Path=/; SameSite=Lax; Secure"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s4_behind_plain_http_the_cookie_is_one_that_browsers_take() {
    let node = node("http", "http://127.0.0.1:1").await;
    let begun = Client::new().post(node.public_url(), "/incr").await.unwrap().expect(200);
    let (name, length, attributes) = parts(&begun.set_cookies());
    oracle!("name of the cookie", name, "usid");
    oracle!("length of the value", length, 66);
    oracle!("attributes", attributes.join("; "), "HttpOnly; Path=/; SameSite=Lax");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_sets_no_cookie_and_a_second_write_no_second_one() {
    let node = node("reading", "http://127.0.0.1:1").await;
    let (client, url) = (Client::new(), node.public_url());
    let mut cookies = 0;
    for path in ["/read", "/whoami", "/all", "/get?k=a", "/nothing"] {
        cookies += client.get(url, path).await.unwrap().expect(200).set_cookies().len();
    }
    for path in ["/clear", "/rotate", "/remove?k=a"] {
        cookies += client.post(url, path).await.unwrap().set_cookies().len();
    }
    oracle!("cookies set by requests that change nothing", cookies, 0);
    client.post(url, "/incr").await.unwrap().expect(200);
    let first = cookie(&client);
    let again = client.post(url, "/incr").await.unwrap().expect(200);
    let read = client.get(url, "/read").await.unwrap().expect(200);
    let cookies = again.set_cookies().len() + read.set_cookies().len();
    oracle!("cookies set once there is a session", cookies, 0);
    assert_eq!(cookie(&client), first);
}
