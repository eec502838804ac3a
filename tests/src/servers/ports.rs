//! Free ports that stay free while a server is down.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

const LOWEST: u32 = 13_000;

/// Where the kernel starts to take ports for outgoing connections. A port above may be taken by any
/// client between the kill of a server and its restart on the same port; one below never is.
static END: LazyLock<u32> = LazyLock::new(|| {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|first| *first > LOWEST + 2_000)
        .unwrap_or(32_768)
});

/// How many lanes the ports are divided into: as many test processes have ports of their own.
const LANES: u32 = 10;

/// The ports of this process.
struct Lane {
    first: u32,
    ports: u32,
    next: AtomicU32,
    /// Locked while the process lives, so that no other takes the same lane.
    _claim: Option<File>,
}

static LANE: LazyLock<Lane> = LazyLock::new(|| {
    let ports = (*END - LOWEST) / LANES;
    let start = std::process::id();
    let claimed = (0..LANES).find_map(|step| {
        let lane = start.wrapping_add(step) % LANES;
        Some((lane, claim(lane)?))
    });
    // More processes than lanes: they seldom ask for the same port at the same moment.
    let (lane, claim) = match claimed {
        Some((lane, claim)) => (lane, Some(claim)),
        None => (start % LANES, None),
    };
    let next = AtomicU32::new(start.wrapping_mul(2_654_435_761));
    Lane { first: LOWEST + lane * ports, ports, next, _claim: claim }
});

fn claim(lane: u32) -> Option<File> {
    let path = std::env::temp_dir().join(format!("understudy-tests-ports-{lane}"));
    let file = File::options().create(true).truncate(false).write(true).open(path).ok()?;
    file.try_lock().is_ok().then_some(file)
}

/// Finds a port of 127.0.0.1 that nobody listens on and that this process gives out only once, as long as it has enough.
///
/// Another process can still take it before the server does, if it is none of these tests: whoever starts a server tries
/// again with another port when it exits at once.
pub fn free_port() -> u16 {
    for _ in 0..LANE.ports {
        let offset = LANE.next.fetch_add(1, Ordering::Relaxed) % LANE.ports;
        let port = u16::try_from(LANE.first + offset).expect("the range ends below 65,536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port in {} to {}", LANE.first, LANE.first + LANE.ports)
}
