//! Free ports that stay free while a server is down.

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

/// Different test processes start at different places, so that they seldom ask for the same port.
static NEXT: LazyLock<AtomicU32> =
    LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(2_654_435_761)));

/// Finds a port of 127.0.0.1 that nobody listens on and that this process gives out only once.
///
/// Another process can still take it before the server does: whoever starts a server tries again
/// with another port when it exits at once.
pub fn free_port() -> u16 {
    for _ in 0..(*END - LOWEST) {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % (*END - LOWEST);
        let port = u16::try_from(LOWEST + offset).expect("the range ends below 65,536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {LOWEST} and {}", *END)
}
