//! Places at which a test can let a process stand still; nothing in a node that is shipped.

#[cfg(any(test, feature = "test-support"))]
use std::sync::LazyLock;

#[cfg(any(test, feature = "test-support"))]
static ARMED: LazyLock<dashmap::DashMap<&'static str, tokio::sync::watch::Sender<Stop>>> =
    LazyLock::new(dashmap::DashMap::new);

/// What happens at a place.
#[cfg(any(test, feature = "test-support"))]
#[derive(Debug, Clone, Copy, Default)]
struct Stop {
    closed: bool,
    arrived: u64,
}

/// Lets whoever comes to a place wait there until [`open`].
#[cfg(any(test, feature = "test-support"))]
pub fn close(place: &'static str) {
    ARMED.entry(place).or_default().send_modify(|stop| stop.closed = true);
}

/// Lets those who wait at a place go on.
#[cfg(any(test, feature = "test-support"))]
pub fn open(place: &'static str) {
    if let Some(stop) = ARMED.get(place) {
        stop.send_modify(|stop| stop.closed = false);
    }
}

/// How many have come to a closed place so far.
#[cfg(any(test, feature = "test-support"))]
#[must_use]
pub fn arrived(place: &'static str) -> u64 {
    ARMED.get(place).map_or(0, |stop| stop.borrow().arrived)
}

/// A place; costs nothing in a node that is shipped.
pub(crate) async fn hit(place: &'static str) {
    #[cfg(any(test, feature = "test-support"))]
    {
        let Some(stop) = ARMED.get(place).map(|stop| stop.clone()) else { return };
        if !stop.borrow().closed {
            return;
        }
        stop.send_modify(|stop| stop.arrived += 1);
        stop.subscribe().wait_for(|stop| !stop.closed).await.ok();
    }
    #[cfg(not(any(test, feature = "test-support")))]
    let _ = place;
}
