//! The lease of the leader on each store that can keep it, and whole leaders on a real Redis.
//!
//! A machine without Redis and PostgreSQL fails them: `make test` installs both.

#![expect(clippy::unwrap_used, reason = "all of it is test code")]

#[path = "leases/conformance.rs"]
mod conformance;
#[path = "leases/fallback.rs"]
mod fallback;
#[path = "leases/fixtures.rs"]
mod fixtures;
#[path = "leases/leaders.rs"]
mod leaders;
