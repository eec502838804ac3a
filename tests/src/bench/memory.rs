//! What a resident session costs in memory.

use std::time::Duration;

use super::case::{CLIENTS, STATE, fill};
use super::load::{Line, Load};
use super::run::Options;
use super::stage::{Stage, site};

const READY_LIMIT: Duration = Duration::from_secs(60);
/// Sessions created before the first look, so that what a node allocates once is not counted.
const WARM_UP: u64 = 6_400;

/// Memory of many sessions that all are resident.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryUse {
    /// How many were created.
    pub sessions: u64,
    /// How fast, per second.
    pub rate: f64,
    /// Bytes of the node per session, its state included.
    pub node_bytes: f64,
    /// Bytes of Redis per session, its state included.
    pub redis_bytes: f64,
    /// Bytes of the state: name and JSON text of the one attribute.
    pub state_bytes: f64,
}

/// Creates sessions of 1 KB over HTTP at a new node and sees how it grows.
pub(super) async fn measure(stage: &mut Stage, options: &Options) -> MemoryUse {
    let spec = stage.cluster.spec("node-memory").await;
    let own = format!("http://127.0.0.1:{}", spec.public_port());
    let mut node = spec
        .env("UNDERSTUDY_HTTP_EXTERNAL_URL", &own)
        .env("UNDERSTUDY_HTTP_WORKERS", &super::peers::WORKERS.to_string())
        .env("UNDERSTUDY_SESSION_PASSIVATE_AFTER_MS", "3600000")
        .env("UNDERSTUDY_SESSION_ACTORS_MAX", "1000000")
        .envs(options.environment.clone())
        .start();
    node.ready(READY_LIMIT).await;
    let line = Line::new(site(&node).address, &fill("blob"), None);
    let create = async |count: u64| {
        let visitors = vec![vec![line.clone()]; CLIENTS];
        let load = Load::begin(visitors, count / CLIENTS as u64, options.threads);
        load.finish().await
    };
    create(WARM_UP).await;
    let before = node.usage().resident_bytes;
    let redis_before = redis_memory(stage).await;
    let totals = create(options.sessions).await;
    assert_eq!(totals.refused, 0, "every request begins a session");
    let grown = node.usage().resident_bytes.saturating_sub(before);
    let redis_grown = redis_memory(stage).await.saturating_sub(redis_before);
    let count = totals.answered as f64;
    MemoryUse {
        sessions: totals.answered,
        rate: count / totals.elapsed.as_secs_f64(),
        node_bytes: grown as f64 / count,
        redis_bytes: redis_grown as f64 / count,
        state_bytes: (STATE + "blob".len() + "\"\"".len()) as f64,
    }
}

async fn redis_memory(stage: &mut Stage) -> u64 {
    let used = stage.meter.redis_memory().await;
    used.expect("Redis runs as long as the stage")
}
