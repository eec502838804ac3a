//! Rows 7 and 8: bodies that are too large, or are not what they should be.

use reqwest::Method;
use understudy_tests::{Answer, Client, Node, crowd, oracle};

use super::wire::{Wire, is_well, node};

const PATH: &str = "/api/session/values/a";
/// The limit of these tests, in bytes.
const BODY_LIMIT: usize = 200_000;

async fn put(client: &Client, node: &Node, body: Vec<u8>) -> Answer {
    client.send(client.build(Method::PUT, node.public_url(), PATH).body(body)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_7_a_body_that_is_too_large_is_refused_at_the_limit() {
    let node = node(&[("HTTP_BODY_LIMIT_BYTES", "200000")]).await;
    is_well(&node).await;
    let before = node.usage().resident_bytes;
    let refused = crowd(20, 40, async |number| {
        let mut wire = Wire::to(&node).await;
        if number % 2 == 0 {
            // Refused by what it says, before any of it is sent.
            let head = format!("PUT {PATH} HTTP/1.1\r\nHost: h\r\nContent-Length: 200001\r\n\r\n");
            wire.send(head).await;
        } else {
            wire.send(format!(
                "PUT {PATH} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            ))
            .await;
            let chunk = format!("2710\r\n{}\r\n", "1".repeat(10_000));
            let mut sent = 0;
            // Twenty megabytes, if the node took them.
            while sent < 2_000 && wire.send(&chunk).await {
                sent += 1;
            }
        }
        let answers = wire.answers().await;
        let told: Vec<(u16, String)> = answers.iter().map(|it| (it.status, it.code())).collect();
        // A connection that is closed on a sender may lose its answer on the way.
        let lost = number % 2 == 1 && told.is_empty();
        lost || told == [(413, "too_large".to_owned())]
    })
    .await;
    oracle!("bodies of 40 that were refused", refused.iter().filter(|it| **it).count(), 40);
    let grown = node.usage().resident_bytes.saturating_sub(before) / 1_048_576;
    oracle!("memory of the node grown by, MiB", grown, <= 32);
    is_well(&node).await;
    let client = Client::new();
    let fits = put(&client, &node, vec![b'1'; BODY_LIMIT]).await;
    assert_ne!(fits.status, 413, "what fits is read: {fits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_7_a_compressed_body_is_not_blown_up() {
    let node = node(&[]).await;
    // The head of a gzip member and of a block that repeats one byte: what counts is that nobody opens it.
    let bomb = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0xed, 0xc1][..], &[0x55; 10_000]].concat();
    let client = Client::new();
    let before = node.usage().resident_bytes;
    for encoding in ["gzip", "br", "zstd", "deflate", "gzip, gzip"] {
        let put = client.build(Method::PUT, node.public_url(), PATH).body(bomb.clone());
        let put =
            put.header("content-encoding", encoding).header("content-type", "application/json");
        let answer = client.send(put).await.unwrap();
        assert!(matches!(answer.status, 400 | 415), "{encoding}: {answer:?}");
    }
    let grown = node.usage().resident_bytes.saturating_sub(before) / 1_048_576;
    oracle!("memory of the node grown by, MiB", grown, <= 16);
    oracle!("cookies for bodies that were refused", client.cookies().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_8_json_that_is_none_is_refused_with_its_place() {
    let node = node(&[]).await;
    let client = Client::new();
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
    let bad: Vec<Vec<u8>> = [
        deep("[", "]").as_str(),
        deep("{\"a\":", "}").as_str(),
        "[".repeat(100_000).as_str(),
        "{\"a\":1,\"a\":2}",
        "{\"a\":{\"b\":[{\"c\":1,\"\\u0063\":2}]}}",
        "1e400",
        "-1e400",
        "NaN",
        "Infinity",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\u{feff}1",
        "1 2",
        "{} trailing",
        "1,",
        "'a'",
        "{a:1}",
        "[1,]",
        "01",
        "1.",
        "+1",
        "\"\n\"",
        "// comment\n1",
        "",
        " ",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([b"\"\xff\"".to_vec(), b"\"\xc0\xaf\"".to_vec(), b"\xff\xfe1\0".to_vec()])
    .collect();
    let mut accepted = 0;
    for body in bad {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let answer = put(&client, &node, body).await;
        let problem: serde_json::Value = answer.json();
        accepted += usize::from(answer.status != 400);
        assert_eq!((answer.status, &problem["code"]), (400, &"bad_json".into()), "{shown}");
        assert!(problem["line"].is_u64() && problem["column"].is_u64(), "{shown}: {problem}");
    }
    oracle!("bodies that are no JSON and were kept", accepted, 0);
    oracle!("sessions begun by them", client.cookies().len(), 0);
    is_well(&node).await;
    let events = node.events();
    let panics = events.iter().filter(|event| event["fields"]["message"] == "panicked").count();
    oracle!("panics", panics, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_8_json_at_the_edge_of_what_is_accepted_can_be_read_back() {
    let node = node(&[]).await;
    let client = Client::new();
    for body in [
        format!("{}1{}", "[".repeat(120), "]".repeat(120)),
        "\"\\u0000\\ud83c\\udfad\"".to_owned(),
        "1e308".to_owned(),
        "{\"\":{\"\":null}}".to_owned(),
        " [ 1 , 2 ] ".to_owned(),
    ] {
        put(&client, &node, body.clone().into_bytes()).await.expect(204);
        let read = client.get(node.public_url(), PATH).await.unwrap().expect(200);
        assert_eq!(read.text, format!("{{\"value\":{}}}", body.trim()));
        client.get(node.public_url(), "/api/session/values").await.unwrap().expect(200);
    }
}
