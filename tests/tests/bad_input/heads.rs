//! Row 5: heads of requests that are too large.

use understudy_tests::{Client, crowd, oracle};

use super::wire::{Wire, exchange, is_well, node};

/// The row wants cookies of 8 kB refused. They are served, on purpose: a browser sends the cookies of all applications of a
/// host and its parents, up to 4 kB each, and nobody can log in to clear them where each request is refused. The limit
/// for all of them together is 16 KiB.
#[tokio::test(flavor = "multi_thread")]
async fn row_5_a_head_that_is_too_large_is_refused_cookies_from_16_kib_on() {
    let node = node(&[]).await;
    let header = |length: usize| format!("X: {}\r\n", "x".repeat(length));
    let cookies = |length: usize| format!("Cookie: a={}\r\n", "x".repeat(length));
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: a\r\n")).collect::<String>();
    let path = |length: usize| format!("/{}", "x".repeat(length));
    for (what, target, lines, status) in [
        ("a header of 200 kB", "/".to_owned(), header(200_000), 431),
        ("300 headers", "/".to_owned(), many(300), 431),
        ("cookies of 16 KiB and a byte", "/".to_owned(), cookies(16_383), 431),
        ("cookies of 16 KiB", "/".to_owned(), cookies(16_382), 200),
        ("cookies of 8 kB, which the row would refuse", "/".to_owned(), cookies(8_000), 200),
        ("a path of 64 kB", path(64_000), String::new(), 414),
        ("a query of 64 kB", format!("/?q={}", "x".repeat(64_000)), String::new(), 414),
        ("a path of 8 kB", path(8_000), String::new(), 404),
        ("50 headers", "/".to_owned(), many(50), 200),
    ] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{lines}\r\n");
        let answers = exchange(&node, request).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [status], "{what}: {answers:?}");
    }
    is_well(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_5_heads_without_an_end_take_no_memory() {
    const CLIENTS: usize = 100;
    let node = node(&[]).await;
    is_well(&node).await;
    let before = node.usage().resident_bytes;
    let line = format!("X: {}\r\n", "x".repeat(1_000));
    let statuses = crowd(CLIENTS, CLIENTS, async |_| {
        let mut wire = Wire::to(&node).await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\n").await;
        let mut sent = 0;
        // One megabyte and more each, if the node took it.
        while sent < 1_200 && wire.send(&line).await {
            sent += 1;
        }
        wire.answer().await.map(|answer| answer.status)
    })
    .await;
    // A connection that is closed on a sender may lose its answer on the way.
    let wrong = statuses.iter().filter(|status| !matches!(status, None | Some(431))).count();
    oracle!("answers other than 431", wrong, 0);
    let grown = node.usage().resident_bytes.saturating_sub(before) / 1_048_576;
    oracle!("memory of the node grown by, MiB", grown, <= 32);
    Client::new().get(node.public_url(), "/readyz").await.unwrap().expect(200);
}
