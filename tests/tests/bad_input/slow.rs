//! Row 6: clients that take their time, so that connections pile up.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Client, Node, crowd, oracle};

use super::wire::{Wire, node};

const EVERY: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn row_6_slow_clients_are_sent_away_and_disturb_nobody() {
    let node = node(&[]).await;
    let (heads, bodies, others) =
        tokio::join!(slow_heads(&node), slow_bodies(&node), others_are_served(&node));
    oracle!("a head at two bytes a second is given up after, ms", heads.as_millis(), <= 10_000);
    oracle!("a body at two bytes a second is given up after, ms", bodies.as_millis(), <= 15_000);
    oracle!("slowest answer to others meanwhile, ms", others.as_millis(), <= 3_000);
}

/// The time until the last of some was sent away.
async fn slow_heads(node: &Node) -> Duration {
    let times = crowd(10, 10, async |_| {
        let mut wire = Wire::to(node).await;
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(100));
        let took = wire.drip(head.as_bytes(), EVERY).await;
        let statuses = wire.statuses().await;
        assert!(matches!(statuses[..], [] | [408]), "{statuses:?}");
        took
    })
    .await;
    times.into_iter().max().unwrap_or_default()
}

async fn slow_bodies(node: &Node) -> Duration {
    let times = crowd(10, 10, async |number| {
        let mut wire = Wire::to(node).await;
        let length = match number % 2 {
            0 => "Content-Length: 1000\r\n",
            _ => "Transfer-Encoding: chunked\r\n",
        };
        wire.send(format!("PUT /api/session/values/a HTTP/1.1\r\nHost: h\r\n{length}\r\n")).await;
        let body = if number % 2 == 0 { "1".repeat(1000) } else { "1\r\n1\r\n".repeat(200) };
        let took = wire.drip(body.as_bytes(), EVERY).await;
        let answers = wire.answers().await;
        let told: Vec<(u16, String)> = answers.iter().map(|it| (it.status, it.code())).collect();
        assert_eq!(told, [(408, "body_timeout".to_owned())], "{answers:?}");
        took
    })
    .await;
    times.into_iter().max().unwrap_or_default()
}

/// The slowest answer in ten seconds.
async fn others_are_served(node: &Node) -> Duration {
    let (client, begun) = (Client::new(), Instant::now());
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(10) {
        let sent = Instant::now();
        let path = "/api/session/values/n/increment";
        client.post(node.public_url(), path).await.unwrap().expect(200);
        slowest = slowest.max(sent.elapsed());
    }
    slowest
}

/// Nobody waits for a body that nobody wants: the answer is given at once, and the connection closed soon after.
#[tokio::test(flavor = "multi_thread")]
async fn row_6_a_body_that_never_ends_holds_no_connection_when_nobody_reads_it() {
    let node = node(&[("HTTP_BODY_LIMIT_BYTES", "1500")]).await;
    let chunk = format!("3e8\r\n{}\r\n", "1".repeat(1_000));
    let requests = [
        ("GET / HTTP/1.1\r\nHost: h\r\n", 200, 413),
        ("GET /livez HTTP/1.1\r\nHost: h\r\n", 200, 200),
        ("GET /none HTTP/1.1\r\nHost: h\r\n", 404, 413),
        ("HEAD / HTTP/1.1\r\nHost: h\r\n", 200, 413),
        ("DELETE /api/session HTTP/1.1\r\nHost: h\r\n", 204, 413),
        ("PUT /api/session/values/a HTTP/1.1\r\nHost: h\r\nOrigin: null\r\n", 403, 403),
        ("PUT /api/session/values/a HTTP/1.1\r\nHost: h\r\n", 413, 413),
    ];
    let times = crowd(14, 14, async |number| {
        let (request, in_chunks, announced) = requests[number / 2];
        let (framing, status) = match number % 2 {
            0 => ("Transfer-Encoding: chunked\r\n", in_chunks),
            _ => ("Content-Length: 1000000\r\n", announced),
        };
        let mut wire = Wire::to(&node).await;
        wire.send(format!("{request}{framing}\r\n{chunk}{chunk}")).await;
        let sent = Instant::now();
        assert_eq!(wire.statuses().await, [status], "{request}{framing}");
        sent.elapsed().as_millis()
    })
    .await;
    oracle!("the last was closed after, ms", times.into_iter().max().unwrap(), <= 5_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_6_clients_that_never_read_disturb_nobody() {
    let node = node(&[]).await;
    let filler = Client::new();
    let text = "x".repeat(60_000);
    for number in 0..10 {
        let path = format!("/api/session/values/{number}");
        filler.put_json(node.public_url(), &path, &text).await.unwrap().expect(204);
    }
    let (name, value) = filler.cookies().into_iter().next().unwrap();
    let before = node.usage().resident_bytes;
    let mut silent = Vec::new();
    let ask =
        format!("GET /api/session/values HTTP/1.1\r\nHost: h\r\nCookie: {name}={value}\r\n\r\n");
    for _ in 0..20 {
        let mut wire = Wire::to(&node).await;
        // Twelve megabytes of answers, more than the kernel keeps for anybody.
        wire.send(ask.repeat(20)).await;
        silent.push(wire);
    }
    let slowest = others_are_served(&node).await;
    oracle!("slowest answer to others meanwhile, ms", slowest.as_millis(), <= 3_000);
    let grown = node.usage().resident_bytes.saturating_sub(before) / 1_048_576;
    oracle!("memory of the node grown by, MiB", grown, <= 64);
    drop(silent);
    Client::new().get(node.public_url(), "/readyz").await.unwrap().expect(200);
}
