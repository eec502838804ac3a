//! A Redis, and two caches that share it as those of two nodes do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use understudy_runtime::bus::{Bus, LocalHub};
use understudy_runtime::cache::{Cache, Caches, Region};
use understudy_runtime::clock::SystemClock;
use understudy_runtime::config::Config;
use understudy_runtime::ids::{ClusterName, NodeId, NodeName};
use understudy_runtime::keys::KeySpace;
use understudy_runtime::membership::{MemberRecord, Membership};
use understudy_runtime::redis::{Redis, Role};

use super::bare::Commands;
use crate::servers::Redis as RedisServers;
use crate::wait;

/// Keys that are asked for in memory.
pub(super) const KEYS: usize = 1_000;
/// Bytes of a value in Redis.
const TEXT: usize = 100;
const NUMBERS: Region = Region::new("bench-numbers");
const TEXTS: Region = Region::new("bench-texts").bytes(64 << 20);
const LIMIT: Duration = Duration::from_secs(20);

/// What is measured, and what it is compared with.
pub(super) struct CacheStage {
    pub(super) keys: Vec<String>,
    pub(super) numbers: Cache<str, u64>,
    /// Texts on one node, and on another.
    pub(super) texts: Cache<str, String>,
    pub(super) same_texts: Cache<str, String>,
    pub(super) bare: Commands,
    one: Caches,
    other: Caches,
    // Dropped last: the others use it.
    _redis: RedisServers,
}

/// A value as long as those in Redis are.
pub(super) fn text() -> String {
    "x".repeat(TEXT)
}

impl CacheStage {
    pub(super) async fn start() -> Self {
        let redis = RedisServers::standalone().await;
        let url = redis.url();
        let (one, other) = (caches(&url, "one").await, caches(&url, "other").await);
        let stage = Self {
            keys: (0..KEYS).map(|number| format!("article-{number}")).collect(),
            numbers: one.open(NUMBERS).expect("it is opened here only"),
            texts: one.open(TEXTS).expect("it is opened here only"),
            same_texts: other.open(TEXTS).expect("it is opened here only"),
            bare: Commands::connect(&url).await,
            one,
            other,
            _redis: redis,
        };
        wait::until("the caches hear of changes", LIMIT, async || {
            let reports = [stage.one.reports(), stage.other.reports()];
            reports.iter().flatten().all(|report| report.trusted)
        })
        .await;
        stage
    }

    /// How many numbers were given from memory so far.
    pub(super) fn memory_hits(&self) -> u64 {
        let reports = self.one.reports().into_iter();
        reports.filter(|report| report.region == NUMBERS.name()).map(|report| report.memory).sum()
    }

    /// How many texts the other node was given from Redis so far.
    pub(super) fn redis_hits(&self) -> u64 {
        self.other.reports().iter().map(|report| report.redis).sum()
    }
}

/// The caches of a node, which knows of no others: what is forgotten is told to nobody but Redis.
async fn caches(url: &str, name: &str) -> Caches {
    let vars = [("UNDERSTUDY_REDIS_URL".to_owned(), url.to_owned())];
    let config = Config::from_vars(vars).expect("the options are valid");
    let config = config.redis.expect("there is a URL");
    let name: NodeName = name.parse().expect("it is a name");
    let id = NodeId::begin(name);
    let redis = Redis::connect(&config, Role::Data(0), &id).await.expect("the options are valid");
    wait::until("Redis is connected", LIMIT, async || redis.is_connected()).await;
    let record = json!({
        "id": id, "host": "bench", "pid": 1, "started_ms": 0, "version": "0", "state": "ready",
    });
    let record: MemberRecord = serde_json::from_value(record).expect("nothing is missing");
    let membership = Membership::single(record);
    let bus = Bus::local(&LocalHub::new(), id);
    let keys = Arc::new(KeySpace::new(&ClusterName::default(), redis.buckets()));
    Caches::new(Some((redis, keys)), (&bus, &membership), &SystemClock::shared())
}
