//! What a service manager hears from a real node.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::servers::Scratch;
use understudy_tests::{NodeSpec, oracle, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// All that arrived until now.
fn heard(socket: &UnixDatagram, lines: &mut Vec<String>) {
    let mut bytes = [0; 4_096];
    while let Ok(length) = socket.recv(&mut bytes) {
        lines.extend(String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned));
    }
}

fn times(lines: &[String], line: &str) -> usize {
    lines.iter().filter(|other| *other == line).count()
}

/// Waits for what must not happen.
async fn passed(time: Duration) {
    let began = Instant::now();
    wait::until("the time is over", LIMIT, async || began.elapsed() >= time).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o5_a_service_manager_hears_when_a_node_is_ready_lives_and_stops() {
    let folder = Scratch::new("notify");
    let path = folder.join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut node = NodeSpec::new("notified")
        .env("NOTIFY_SOCKET", &path.display().to_string())
        .env("WATCHDOG_USEC", "4000000")
        .start();
    let mut lines = Vec::new();
    wait::until("the node says that it is ready", LIMIT, async || {
        heard(&socket, &mut lines);
        times(&lines, "READY=1") > 0
    })
    .await;
    // Whoever was told so may send requests at once.
    let took = node.ready(LIMIT).await;
    oracle!("ready after it said so, ms", took.as_millis(), within 1_000);
    wait::until("it gives signs of life", LIMIT, async || {
        heard(&socket, &mut lines);
        times(&lines, "WATCHDOG=1") >= 3
    })
    .await;
    assert!(times(&lines, "STATUS=ready") == 1 && times(&lines, "STOPPING=1") == 0, "{lines:?}");
    // A process that stands still gives none.
    node.stop();
    passed(Duration::from_millis(200)).await;
    heard(&socket, &mut lines); // what was on its way
    lines.clear();
    passed(Duration::from_secs(2)).await;
    heard(&socket, &mut lines);
    oracle!("signs of life of a process that stands still", times(&lines, "WATCHDOG=1"), 0);
    node.cont();
    node.terminate();
    assert!(node.wait_exit(LIMIT).await.success());
    heard(&socket, &mut lines);
    oracle!("times it said that it stops", times(&lines, "STOPPING=1"), 1);
    oracle!("times it said that it is ready", times(&lines, "READY=1"), 0);
}
