//! Row 4: requests that end in two places, so that two servers in a row would disagree where the next one begins.

use understudy_tests::{Client, oracle};

use super::wire::{Raw, exchange, is_well, node};

/// What an attacker wants the next request to be.
const SMUGGLED: &str = "GET /livez HTTP/1.1\r\nHost: h\r\n\r\n";
const COUNT: &str = "POST /api/session/values/n/increment HTTP/1.1\r\nHost: h\r\n";

/// A request with these lines and this body, and the smuggled one right behind it.
fn request(lines: &str, body: &str) -> String {
    format!("{COUNT}{lines}\r\n{body}{SMUGGLED}")
}

fn is_refused(answers: &[Raw]) -> bool {
    matches!(answers, [only] if only.status == 400)
}

#[tokio::test(flavor = "multi_thread")]
async fn row_4_a_request_without_one_clear_end_is_refused_and_the_connection_closed() {
    let node = node(&[]).await;
    let mut passed = Vec::new();
    for (lines, body) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ("Content-Length: 0\r\nContent-Length: 44\r\n", ""),
        ("Content-Length: 0, 44\r\n", ""),
        ("Content-Length: +0\r\n", ""),
        ("Content-Length: -1\r\n", ""),
        ("Content-Length: 0x0\r\n", ""),
        ("Content-Length: 0\r\n 4\r\n", ""),
        ("Content-Length : 0\r\n", ""),
        ("Content-Length: 99999999999999999999\r\n", ""),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: identity\r\n", ""),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding\r\n: chunked\r\n", "0\r\n\r\n"),
        ("X: a\0b\r\n", ""),
        ("X: a\rContent-Length: 44\r\n", ""),
        ("X\u{1}: a\r\n", ""),
        (" X: a\r\n", ""),
    ] {
        let answers = exchange(&node, request(lines, body)).await;
        if !is_refused(&answers) {
            passed.push((lines.to_owned(), answers));
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
    oracle!("ambiguous requests that were served", passed.len(), 0);
    is_well(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_4_a_chunk_that_is_none_is_refused_and_the_connection_closed() {
    let node = node(&[]).await;
    let mut passed = Vec::new();
    for body in [
        "5\r\n{}\r\n0\r\n\r\n",
        "2\n{}\r\n0\r\n\r\n",
        "2\r\n{}\n0\r\n\r\n",
        "2\r\n{}XX0\r\n\r\n",
        "2;\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "2 2\r\n{}\r\n0\r\n\r\n",
    ] {
        let answers = exchange(&node, request("Transfer-Encoding: chunked\r\n", body)).await;
        if !is_refused(&answers) {
            passed.push((body.to_owned(), answers));
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
    oracle!("broken bodies that were served", passed.len(), 0);
    is_well(&node).await;
}

/// RFC 9112 lets a server take a bare line feed for the end of a line, and ours does; what must not happen is that it
/// sees another request than a proxy that reads lines in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn row_4_a_bare_line_feed_ends_a_line_and_hides_nothing() {
    let node = node(&[]).await;
    let close = "GET /livez HTTP/1.1\nHost: h\nConnection: close\n\n";
    for (request, statuses) in [
        ("GET /livez HTTP/1.1\nHost: h\n\n".to_owned(), &[200, 200][..]),
        ("GET /livez HTTP/1.1\r\nHost: h\r\n\n".to_owned(), &[200, 200]),
        (format!("{COUNT}Content-Length: 2\n\n{{}}"), &[200, 200]),
        // What stands behind the line feed is a line of its own, and counts.
        (format!("{COUNT}X: a\nContent-Length: 2\r\n\r\n{{}}"), &[200, 200]),
        (
            format!("{COUNT}Content-Length: 2\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n{{}}"),
            &[400],
        ),
        (format!("{COUNT}Content-Length: 2\r\nX: a\nContent-Length: 9\r\n\r\n{{}}"), &[400]),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\nHost: g\r\n\r\n".to_owned(), &[400]),
    ] {
        let answers = exchange(&node, format!("{request}{close}")).await;
        let found: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(found, statuses, "{request}");
    }
    is_well(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_4_what_is_sent_right_behind_a_good_request_is_answered_in_its_turn() {
    let node = node(&[]).await;
    let cases = [
        ("Content-Length: 2\r\n", "{}"),
        ("Transfer-Encoding: chunked\r\n", "1\r\n{\r\n1;ext=a\r\n}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: Chunked\r\n", "0\r\n\r\n"),
    ];
    for (lines, body) in cases {
        let close = SMUGGLED.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let answers = exchange(&node, format!("{COUNT}{lines}\r\n{body}{close}")).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 200], "{lines}{body}: {answers:?}");
    }
    Client::new().get(node.public_url(), "/livez").await.unwrap().expect(200);
}
