//! One line per answered request: at `info` for what an operator may want to see, at `debug` for all others.
//!
//! At the default filter a request that succeeds in time writes nothing, which keeps the cost of logging near
//! zero. Lines name the path without its query, which may hold what nobody should read.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::http::{Method, Uri};
use tracing::{Level, debug, enabled, error, info};

/// What a line tells of a request.
pub(crate) struct Line<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) route: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) took: Duration,
    /// The session, by a name that opens nothing.
    pub(crate) session: Option<String>,
    /// Why it failed, when it is the node's fault; never told to the client.
    pub(crate) cause: Option<String>,
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// It went as it should.
    Ordinary,
    /// It was slow, or refused for reasons of access.
    Notable,
    /// It failed, and it was the node's fault.
    Failed,
}

/// Judges a request by its answer.
pub(crate) fn weigh(status: u16, took: Duration, slow: Duration) -> Weight {
    match status {
        // The node says on purpose that it cannot serve: its state was logged when it changed.
        503 => Weight::Ordinary,
        500.. => Weight::Failed,
        401 | 403 | 421 => Weight::Notable,
        _ if took >= slow => Weight::Notable,
        _ => Weight::Ordinary,
    }
}

/// Returns whether a line of this weight would be written.
pub(crate) fn is_wanted(weight: Weight) -> bool {
    match weight {
        Weight::Ordinary => enabled!(Level::DEBUG),
        Weight::Notable => enabled!(Level::INFO),
        Weight::Failed => enabled!(Level::ERROR),
    }
}

/// Writes a line, inside the span of the request if there is one.
pub(crate) fn write(weight: Weight, line: &Line<'_>, request_id: &str, client: Option<IpAddr>) {
    let duration_ms = u64::try_from(line.took.as_millis()).unwrap_or(u64::MAX);
    let path: String = line.uri.path().chars().take(256).collect();
    macro_rules! line {
        ($level:ident, $message:literal) => {
            $level!(
                request_id,
                client.addr = client.map(tracing::field::display),
                http.method = %line.method,
                http.path = path,
                http.route = line.route,
                http.status_code = line.status,
                duration_ms,
                session.id = line.session,
                error = line.cause,
                $message
            )
        };
    }
    match weight {
        Weight::Ordinary => line!(debug, "request answered"),
        Weight::Notable => line!(info, "request answered"),
        Weight::Failed => line!(error, "request failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_worth_reading_is_written_at_the_default_level() {
        let slow = Duration::from_secs(2);
        for (status, millis, expected) in [
            (200, 5, Weight::Ordinary),
            (404, 5, Weight::Ordinary),
            (503, 5, Weight::Ordinary),
            (200, 2_000, Weight::Notable),
            (403, 5, Weight::Notable),
            (401, 5, Weight::Notable),
            (500, 5, Weight::Failed),
            (504, 60_000, Weight::Failed),
        ] {
            assert_eq!(weigh(status, Duration::from_millis(millis), slow), expected, "{status}");
        }
    }
}
