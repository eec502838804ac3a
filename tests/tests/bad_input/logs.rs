//! Row 19: text that wants to be a line of its own, and paths that want to be a series of their own.

use serde_json::Value;
use understudy_tests::{Client, crowd, oracle, wait};

use super::wire::{LIMIT, Wire, is_well, node};

const FORGED: &str = "{\"level\":\"ERROR\",\"fields\":{\"message\":\"forged\"}}";

#[tokio::test(flavor = "multi_thread")]
async fn row_19_nothing_that_a_client_sends_becomes_a_line_of_the_log() {
    for format in ["json", "text"] {
        let node = node(&[
            ("LOG_FORMAT", format),
            ("LOG_FILTER", "info,understudy_runtime::http=debug,understudy_session=debug"),
            ("HTTP_TRUSTED_PROXIES", "127.0.0.1"),
        ])
        .await;
        let encoded = FORGED.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        for request in [
            format!("GET /%0d%0a{encoded} HTTP/1.1\r\nHost: h\r\n"),
            format!("GET /\u{1b}[2J HTTP/1.1\r\nHost: h\r\nX: {FORGED}\r\n"),
            format!("GET /a HTTP/1.1\r\nHost: h\r\nX-Request-Id: a%0a{FORGED}\r\n"),
            "GET /a HTTP/1.1\r\nHost: h\r\nX-Request-Id: \u{1b}[31mred\r\n".to_owned(),
            format!("GET /a HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {FORGED}\r\n"),
            format!("GET /a HTTP/1.1\r\nHost: h\r\nCookie: usid={FORGED}\r\n"),
            format!("GET /a HTTP/1.1\r\nHost: h\r\ntraceparent: 00-{FORGED}-b-01\r\n"),
            format!("GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: \u{9b}2J{FORGED}\r\n"),
            format!("{FORGED} / HTTP/1.1\r\nHost: h\r\n"),
            format!(
                "PUT /api/session/values/a%0a{encoded} HTTP/1.1\r\nHost: h\r\nOrigin: {FORGED}\r\n"
            ),
        ] {
            let mut wire = Wire::to(&node).await;
            wire.send(format!("{request}Connection: close\r\n\r\n")).await;
            wire.answers().await;
        }
        is_well(&node).await;
        wait::until("it is written", LIMIT, async || node.log().contains("/increment")).await;
        let log = node.log();
        let forged =
            log.lines().filter(|line| line.starts_with('{') && line.contains("\"forged\""));
        let forged = forged.filter(|line| {
            let event: Value = serde_json::from_str(line).unwrap_or_default();
            event["level"] == "ERROR"
        });
        oracle!("forged lines", forged.count(), 0);
        oracle!(
            "characters that speak to a terminal",
            log.matches(['\u{1b}', '\u{9b}', '\r']).count(),
            0
        );
        if format == "json" {
            let broken = log.lines().filter(|line| serde_json::from_str::<Value>(line).is_err());
            oracle!("lines that are no JSON", broken.count(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_ten_thousand_paths_make_no_more_series_than_one() {
    const PATHS: usize = 10_000;
    let node = node(&[]).await;
    let client = Client::new();
    let series = async || {
        let text = client.get(node.admin_url(), "/metrics").await.unwrap().expect(200).text;
        text.lines().filter(|line| line.starts_with("understudy_http")).count()
    };
    client.get(node.public_url(), "/none").await.unwrap().expect(404);
    client.get(node.public_url(), "/api/session/values/none").await.unwrap().expect(404);
    wait::until("both are counted", LIMIT, async || {
        node.metric("understudy_http_requests_total").await >= 2.0
    })
    .await;
    let before = series().await;
    crowd(16, PATHS, async |number| {
        let path = match number % 2 {
            0 => format!("/none-{number}"),
            _ => format!("/api/session/values/none-{number}"),
        };
        client.get(node.public_url(), &path).await.unwrap().expect(404);
    })
    .await;
    let purge: reqwest::Method = "X-ANYTHING".parse().unwrap();
    client.send(client.build(purge, node.public_url(), "/none")).await.unwrap();
    wait::until("all are counted", LIMIT, async || {
        node.metric("understudy_http_requests_total").await >= 10_002.0
    })
    .await;
    // A method that is none adds one.
    oracle!("series of requests, more than before", series().await - before, <= 1);
}
