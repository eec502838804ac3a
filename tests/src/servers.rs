//! Servers as children of the test process.
//!
//! `process` knows how a child is started, stopped and never left behind; the other modules know
//! one program each. What they do not do: share a server between tests. Each start costs 10-40 ms
//! (Sentinel and Cluster 0.5-2 s, the first PostgreSQL of a process 0.5 s), a shared server costs
//! a day per flaky test.

mod commands;
mod haproxy;
mod nginx;
mod ports;
mod postgres;
mod process;
mod redis;
mod s3;
mod scratch;
mod share;
mod sql;

pub use commands::{find_program, run};
pub use haproxy::HaProxy;
pub use nginx::Nginx;
pub use ports::free_port;
pub use postgres::Postgres;
pub use process::{Launch, Process, Signal, spawn};
pub use redis::{Data, Redis, RedisBuilder, Server, Topology};
pub use s3::S3;
pub use scratch::Scratch;
pub use share::Share;
