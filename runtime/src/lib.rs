//! The floor of Understudy: everything a node needs before it knows of a session or a job.
//!
//! Configuration, identity, clocks, the Redis key space, one builder for every Redis connection, the node's
//! leases and its membership in the cluster, messages between nodes, the database, both HTTP listeners, the
//! administration API, telemetry, and the order in which all of it starts and drains.
//!
//! It deliberately knows no session and no job: it hosts whatever implements [`service`]'s trait. Arrows go
//! down only; `understudy-session` and `understudy-scheduler` build on this crate, never the reverse.

pub mod actors;
pub mod admin;
pub mod broadcast;
pub mod bus;
pub mod cache;
pub mod clock;
pub mod config;
pub mod database;
pub mod doctor;
pub mod duty;
pub mod error;
pub mod events;
pub mod files;
pub mod finding;
pub mod http;
pub mod ids;
pub mod keys;
pub mod lease;
pub mod lock;
pub mod membership;
pub mod node;
pub mod problems;
pub mod rate_limit;
pub mod redis;
pub mod sealing;
pub mod secret;
pub mod service;
pub mod settings;
pub mod supervise;
pub mod telemetry;
pub mod trace;
pub mod watchdog;
