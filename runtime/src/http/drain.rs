//! Which requests a node sends away that is being stopped, or that an operator has taken out of service.
//!
//! A balancer that only watches answers (nginx with `proxy_next_upstream http_503`) learns of it by a 503 and
//! repeats the request elsewhere by itself; it does so only for methods that may be repeated. A node sends nobody
//! away while no other node is ready: a late answer is better than none.

use actix_web::http::{Method, StatusCode};

use super::problem::Problem;
use crate::config::DrainMode;
use std::time::Duration;

/// Returns whether such a node answers 503 to a request with this method.
pub(crate) fn sends_away(method: &Method, mode: DrainMode, others_ready: bool) -> bool {
    let repeatable = matches!(*method, Method::GET | Method::HEAD);
    repeatable && mode == DrainMode::PassiveLb && others_ready
}

/// What a client is told that is sent away; without a balancer it may try again at once, another node answers.
pub(crate) fn elsewhere(stops: bool) -> Problem {
    let (code, title) = match stops {
        true => ("draining", "This node is being stopped"),
        false => ("drained", "This node is out of service"),
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title)
        .with_retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o2_only_what_may_be_repeated_elsewhere_is_sent_away() {
        let passive = DrainMode::PassiveLb;
        for (method, expected) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::POST, false),
            (Method::PUT, false),
            (Method::DELETE, false),
            (Method::OPTIONS, false),
        ] {
            assert_eq!(sends_away(&method, passive, true), expected, "{method}");
        }
    }

    #[test]
    fn o2_the_last_ready_node_serves_to_its_end() {
        assert!(!sends_away(&Method::GET, DrainMode::PassiveLb, false));
    }

    #[test]
    fn o2_a_balancer_that_asks_for_readiness_needs_no_503() {
        assert!(!sends_away(&Method::GET, DrainMode::ActiveLb, true));
    }
}
