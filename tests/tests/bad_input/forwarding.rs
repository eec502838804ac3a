//! Rows 1 and 2: who the client is when headers tell stories.

use std::net::Ipv4Addr;
use std::time::Duration;

use understudy_tests::{Node, oracle, wait};

use super::wire::{LIMIT, Wire, node};

const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PROXY: Ipv4Addr = Ipv4Addr::LOCALHOST;
const INVENTED: [&str; 3] = ["1.2.3.4", "6.6.6.6", "::1"];

async fn listening() -> Node {
    node(&[
        ("HTTP_TRUSTED_PROXIES", "127.0.0.1/32, 10.0.0.0/8"),
        ("LOG_FILTER", "info,understudy_runtime::http=debug"),
    ])
    .await
}

/// Asks for a path nobody else asks for, with these lines; returns the client as the log tells it.
async fn client_in_log(node: &Node, from: Ipv4Addr, number: usize, lines: &str) -> String {
    let path = format!("/asked/{from}/{number}");
    let mut wire = Wire::from(from, node.public_url()).await;
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{lines}\r\n")).await;
    assert_eq!(wire.answer().await.expect("an answer").status, 404);
    let (client, _) = wait::until_some("the request is in the log", LIMIT, async || {
        let line = node.events().into_iter().find(|event| event["fields"]["http.path"] == path)?;
        Some(line["fields"]["client.addr"].as_str().expect("a client").to_owned())
    })
    .await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn row_1_a_stranger_who_names_another_client_is_not_believed() {
    let node = listening().await;
    let fifty = format!("X-Forwarded-For: {}1.2.3.4\r\n", "10.0.0.1, ".repeat(50));
    let stories = [
        "X-Forwarded-For: 1.2.3.4\r\n",
        "X-Forwarded-For: 1.2.3.4:80, 127.0.0.1\r\n",
        "X-Forwarded-For: unknown\r\nX-Forwarded-For: _x\r\n",
        "X-Forwarded-For: \r\n",
        "X-Forwarded-For: ,,;\"'\\\r\n",
        "Forwarded: for=\"[::1]\"\r\n",
        "Forwarded: for=1.2.3.4;proto=https;host=evil.test\r\n",
        "Forwarded: for=\"1.2.3.4\r\n",
        "Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 6.6.6.6\r\n",
        &fifty,
    ];
    let ignored = node.metric("understudy_http_forwarding_ignored_total").await;
    let mut believed = 0;
    for (number, story) in stories.iter().enumerate() {
        let client = client_in_log(&node, STRANGER, number, story).await;
        believed += usize::from(client != STRANGER.to_string());
    }
    oracle!("stories that were believed", believed, 0);
    let counted = node.metric("understudy_http_forwarding_ignored_total").await - ignored;
    oracle!("stories that were counted", counted, >= 10.0);
    for name in INVENTED {
        let named =
            node.events().iter().filter(|event| event["fields"]["client.addr"] == name).count();
        oracle!("log lines with an invented client", named, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_2_behind_trusted_proxies_the_right_most_stranger_is_the_client() {
    let node = listening().await;
    let far = "203.0.113.9";
    let long = format!("X-Forwarded-For: 6.6.6.6{}\r\n", ", 10.0.0.1".repeat(50));
    for (number, (story, client)) in [
        ("X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n", far),
        ("X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.1\r\n", far),
        ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n", far),
        ("X-Forwarded-For: 203.0.113.9:4711\r\n", far),
        ("X-Forwarded-For: 6.6.6.6, 2001:db8::9\r\n", "2001:db8::9"),
        ("X-Forwarded-For: 6.6.6.6, ::ffff:203.0.113.9\r\n", far),
        ("Forwarded: for=6.6.6.6, for=203.0.113.9\r\n", far),
        ("Forwarded: for=\"6.6.6.6, for=203.0.113.9\r\n", far),
        ("Forwarded: for=6.6.6.6, for=\"[2001:db8::9]:80\";proto=https\r\n", "2001:db8::9"),
        ("Forwarded: for=203.0.113.9\r\nX-Forwarded-For: 6.6.6.6\r\n", far),
        // What a proxy hides, or nobody can read, is not replaced by what stands left of it.
        ("X-Forwarded-For: 6.6.6.6, unknown\r\n", "127.0.0.1"),
        ("X-Forwarded-For: 6.6.6.6, 10.0.0.7, garbage\r\n", "127.0.0.1"),
        ("X-Forwarded-For: 6.6.6.6, garbage, 10.0.0.7\r\n", "10.0.0.7"),
        ("", "127.0.0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(client_in_log(&node, PROXY, number, story).await, client, "{story}");
    }
    let client = client_in_log(&node, PROXY, 99, &long).await;
    assert_ne!(client, "6.6.6.6", "nobody follows fifty hops");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_1_a_stranger_cannot_give_a_request_its_name_in_the_log() {
    let node = listening().await;
    let mut ids = Vec::new();
    for from in [STRANGER, PROXY] {
        let mut wire = Wire::from(from, node.public_url()).await;
        wire.send("GET /none HTTP/1.1\r\nHost: h\r\nX-Request-Id: chosen-by-me\r\n\r\n").await;
        let head = wire.answer().await.expect("an answer").head;
        ids.push(head.contains("chosen-by-me"));
    }
    assert_eq!(ids, [false, true], "only a trusted proxy names requests");
    let told =
        || node.events().iter().filter(|it| it["fields"]["request_id"] == "chosen-by-me").count();
    wait::until("it is in the log", Duration::from_secs(5), async || told() > 0).await;
    oracle!("log lines with the name", told(), 1);
}
