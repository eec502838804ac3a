//! Everything between a socket and a handler: limits, deadlines, identity of a request, protection, health.
//!
//! Each concern is a file with a pure decision and its tests; [`edge`] applies all of them to a request in one
//! middleware, so that a request pays for one future and not for ten. TLS is deliberately not here: a balancer
//! in front ends it.

mod access_log;
mod answer;
pub(crate) mod body;
pub mod client_addr;
pub(crate) mod cross_site;
mod drain;
pub(crate) mod edge;
mod extractors;
pub(crate) mod health;
mod host;
pub(crate) mod links;
pub(crate) mod maintenance;
mod metrics;
pub mod problem;
pub mod request_id;
pub(crate) mod requests;
mod security_headers;
pub(crate) mod server;
pub(crate) mod settings;
pub mod trace;
mod unread;

/// Where the metrics of a node are, on both ports.
pub(crate) const METRICS_PATH: &str = "/metrics";

pub use client_addr::{client_addr, origin};
pub use extractors::json_text_problem;
pub use links::absolute_url;
pub use maintenance::{Maintenance, Mode};
pub use request_id::request_id;
