//! The session API, row by row: values.

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Answer, Client, Node, oracle};

use super::alone::node;
use super::api::problem;

const VALUES: &str = "/api/session/values";

async fn put(client: &Client, node: &Node, key: &str, body: &str) -> Answer {
    send(client, node, Method::PUT, &format!("{VALUES}/{key}"), body).await
}

async fn send(client: &Client, node: &Node, method: Method, path: &str, body: &str) -> Answer {
    let request = client.build(method, node.public_url(), path);
    client.send(request.body(body.to_owned())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_json_is_kept_to_the_letter() {
    let node = node().await;
    let (client, url) = (Client::new(), node.public_url());
    for body in [
        "null",
        "true",
        "-0.0",
        "1.50",
        "12345678901234567890123",
        "\"\"",
        "\"a \\u0000 \\\" ä 🎭\"",
        "[]",
        "{\"b\":1,\"a\":[{},null]}",
    ] {
        put(&client, &node, "any", body).await.expect(204);
        let one = client.get(url, &format!("{VALUES}/any")).await.unwrap().expect(200);
        assert_eq!(one.text, format!("{{\"value\":{body}}}"));
        let all = client.get(url, VALUES).await.unwrap().expect(200);
        assert!(all.text.contains(&format!("\"any\":{body}")), "{}", all.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_be_any_name_up_to_256_bytes() {
    let node = node().await;
    let (client, url) = (Client::new(), node.public_url());
    let longest = "x".repeat(256);
    let names = [
        ("plain", "plain"),
        ("a%20b", "a b"),
        ("a%2Fb", "a/b"),
        ("%C3%BC", "ü"),
        ("100%25", "100%"),
        ("a:b", "a:b"),
        ("__proto__", "__proto__"),
        (longest.as_str(), longest.as_str()),
    ];
    for (number, (encoded, _)) in names.iter().enumerate() {
        put(&client, &node, encoded, &number.to_string()).await.expect(204);
    }
    let all: Value = client.get(url, VALUES).await.unwrap().expect(200).json();
    for (number, (encoded, name)) in names.iter().enumerate() {
        assert_eq!(all["values"][name], number, "{name}");
        let one = client.get(url, &format!("{VALUES}/{encoded}")).await.unwrap().expect(200);
        assert_eq!(one.json::<Value>(), json!({ "value": number }), "{name}");
    }
    oracle!("values", all["values"].as_object().unwrap().len(), names.len());
    let too_long = put(&client, &node, &"x".repeat(257), "1").await;
    assert_eq!(problem(&too_long), (422, "session_bad_name".to_owned()));
    assert_eq!(put(&client, &node, "", "1").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_removed_is_gone() {
    let node = node().await;
    let (client, url) = (Client::new(), node.public_url());
    put(&client, &node, "a", "1").await.expect(204);
    put(&client, &node, "b", "2").await.expect(204);
    client.delete(url, &format!("{VALUES}/a")).await.unwrap().expect(204);
    client.delete(url, &format!("{VALUES}/a")).await.unwrap().expect(204);
    let missing = client.get(url, &format!("{VALUES}/a")).await.unwrap();
    assert_eq!(problem(&missing), (404, "no_such_value".to_owned()));
    let all: Value = client.get(url, VALUES).await.unwrap().expect(200).json();
    assert_eq!(all["values"], json!({ "b": 2 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_counted_up_and_down_and_nothing_else_is() {
    let node = node().await;
    let client = Client::new();
    let path = format!("{VALUES}/n/increment");
    for (body, value) in
        [("{\"by\":1}", 1), ("", 2), ("{}", 3), ("{\"by\":-5}", -2), ("{\"by\":0}", -2)]
    {
        let answer = send(&client, &node, Method::POST, &path, body).await.expect(200);
        assert_eq!(answer.json::<Value>(), json!({ "value": value }), "{body}");
    }
    for body in
        ["{\"by\":1.5}", "{\"by\":\"1\"}", "{\"of\":1}", "1", "{\"by\":9223372036854775808}"]
    {
        let answer = send(&client, &node, Method::POST, &path, body).await;
        assert_eq!(problem(&answer), (400, "bad_json".to_owned()), "{body}");
    }
    for value in ["\"1\"", "1.5", "[1]", "null", "9223372036854775807"] {
        put(&client, &node, "n", value).await.expect(204);
        let answer = send(&client, &node, Method::POST, &path, "{\"by\":1}").await;
        assert_eq!(problem(&answer), (422, "session_wrong_type".to_owned()), "{value}");
        let kept = client.get(node.public_url(), &format!("{VALUES}/n")).await.unwrap();
        assert_eq!(kept.text, format!("{{\"value\":{value}}}"), "nothing was changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_grows_and_nothing_else_does() {
    let node = node().await;
    let client = Client::new();
    let path = format!("{VALUES}/list/append");
    for (body, length) in
        [("{\"item\":1}", 1), ("{\"item\":{\"a\":[]}}", 2), ("{\"item\":null}", 3)]
    {
        let answer = send(&client, &node, Method::POST, &path, body).await.expect(200);
        assert_eq!(answer.json::<Value>(), json!({ "length": length }), "{body}");
    }
    let list = client.get(node.public_url(), &format!("{VALUES}/list")).await.unwrap().expect(200);
    assert_eq!(list.json::<Value>(), json!({ "value": [1, { "a": [] }, null] }));
    for body in ["", "{}", "[1]", "{\"item\":1,\"at\":0}"] {
        let answer = send(&client, &node, Method::POST, &path, body).await;
        assert_eq!(problem(&answer), (400, "bad_json".to_owned()), "{body}");
    }
    put(&client, &node, "list", "{}").await.expect(204);
    let answer = send(&client, &node, Method::POST, &path, "{\"item\":1}").await;
    assert_eq!(problem(&answer), (422, "session_wrong_type".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_or_a_session_that_is_too_large_is_refused_and_changes_nothing() {
    let spec = super::alone::spec()
        .env("UNDERSTUDY_SESSION_MAX_BYTES", "10000")
        .env("UNDERSTUDY_SESSION_MAX_ATTRIBUTE_BYTES", "4000");
    let node = super::alone::started(spec).await;
    let client = Client::new();
    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    put(&client, &node, "first", &text(4_000)).await.expect(204);
    for (key, length) in [("second", 4_001), ("first", 5_000)] {
        let refused = put(&client, &node, key, &text(length)).await;
        assert_eq!(problem(&refused), (413, "session_too_large".to_owned()), "{length}");
        let told: Value = refused.json();
        assert_eq!((&told["attribute"], &told["limit"]), (&json!(key), &json!("attribute")));
        assert_eq!(
            (&told["attribute_bytes"], &told["limit_bytes"]),
            (&json!(length), &json!(4_000))
        );
        assert_eq!(told["largest"][0], json!({ "name": key, "bytes": length }));
    }
    put(&client, &node, "second", &text(4_000)).await.expect(204);
    put(&client, &node, "list", "[1]").await.expect(204);
    let refused = put(&client, &node, "third", &text(3_000)).await;
    assert_eq!(problem(&refused), (413, "session_too_large".to_owned()));
    let told: Value = refused.json();
    assert_eq!((&told["limit"], &told["limit_bytes"]), (&json!("session"), &json!(10_000)));
    assert_eq!(told["session_bytes"], 8_018, "names count too");
    let named = ["first", "second", "third", "list"].map(|name| json!(name));
    let largest: Vec<Value> =
        told["largest"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(largest, named);
    assert!(!refused.text.contains("xxx"), "names and numbers, never values: {refused:?}");
    let item = format!("{{\"item\":{}}}", text(3_998));
    let path = format!("{VALUES}/list/append");
    let refused = send(&client, &node, Method::POST, &path, &item).await;
    assert_eq!(problem(&refused), (413, "session_too_large".to_owned()));
    assert_eq!(refused.json::<Value>()["attribute_bytes"], 4_002, "with what was there");
    let all: Value = client.get(node.public_url(), VALUES).await.unwrap().expect(200).json();
    let kept: Vec<&String> = all["values"].as_object().unwrap().keys().collect();
    assert_eq!(kept, ["first", "list", "second"]);
}
