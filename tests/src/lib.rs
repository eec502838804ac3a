//! Harness of the cluster tests: real servers, real nodes, broken networks.
//!
//! Everything a test starts is a child of the test process on a free port of 127.0.0.1, has its
//! files in a directory of its own, and is gone when its handle is dropped or the test process
//! dies, however it dies. No docker, no system service, no fixed port.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use understudy_tests::{Client, Cluster, Topology, oracle, wait};
//! # async fn a_counter_survives_its_node() -> Result<(), Box<dyn std::error::Error>> {
//! let mut cluster = Cluster::builder().nodes(3).redis(Topology::Sentinel).nginx(true).start().await;
//! let client = Client::new();
//! client.post(cluster.url(0), "/incr").await?;
//! cluster.kill9(0);
//! wait::until("another node has the counter", Duration::from_secs(5), async || {
//!     client.get(cluster.url(1), "/read").await.is_ok_and(|answer| answer.status == 200)
//! })
//! .await;
//! oracle!("lost increments", 0, 0);
//! # Ok(()) }
//! ```
//!
//! Two kinds of methods: those that wait for a server are `async` and have a limit; those that only
//! send a signal or run one short command are not. All of them panic when they cannot do what
//! they promise, with the tail of the log of the process that is to blame.
//!
//! Set `UNDERSTUDY_TESTS_KEEP=1` to keep the directories (logs, data) of a run.
#![expect(clippy::missing_panics_doc, reason = "a harness panics: that is how a test fails")]

pub mod bench;
mod client;
mod cluster;
mod crowd;
mod node;
mod observe;
pub mod oracle;
mod processors;
mod proxy;
pub mod servers;
mod soak;
mod topologies;
pub mod wait;

pub use client::{Answer, Client};
pub use cluster::{Cluster, ClusterBuilder, NodeProxies};
pub use crowd::crowd;
pub use node::{Node, NodeSpec, Program, Usage, binary};
pub use proxy::{Direction, Fault, Proxy, Traffic};
pub use servers::{
    Data, Nginx, Postgres, Redis, RedisBuilder, S3, Server, Share, Signal, Topology,
};
pub use soak::rounds;
