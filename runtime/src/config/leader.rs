//! Who leads, that is, schedules the jobs of the cluster: `LEADER_*`.

use std::time::Duration;

use serde::Deserialize;

use super::RedisConfig;
use super::reader::{Reader, whole};
use super::redis::RedisSection;

/// Below this the pauses of an ordinary machine would eat the margin.
const LEAST_MARGIN: Duration = Duration::from_millis(500);

/// Who leads, and for how long without a word.
#[derive(Debug, Clone)]
pub struct LeaderConfig {
    /// `LEADER_ELIGIBLE`: whether this node may lead.
    pub eligible: bool,
    /// `LEADER_PRIORITY`: of several nodes that want to lead, the highest does.
    pub priority: i32,
    /// `LEADER_TTL_MS`: how long a silent leader keeps its place.
    pub ttl: Duration,
    /// `LEADER_RENEW_MS`: how often the leader renews; less than half of `ttl`.
    pub renew: Duration,
    /// `LEADER_MARGIN_MS`: how long before the end of its time the leader stops by itself; with `renew` less than `ttl`.
    pub margin: Duration,
    /// `LEADER_REDIS_URL`, else the same as `REDIS_URL`; none only where there is no Redis at all.
    pub redis: Option<RedisConfig>,
    /// `LEADER_MIN_REPLICAS`: how many replicas must have a term before the leader begins.
    pub min_replicas: u32,
    /// `LEADER_FALLBACK`: what happens while Redis is away.
    pub fallback: LeaderFallback,
}

/// What happens to leadership while Redis is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaderFallback {
    /// Nobody leads until it is back.
    Off,
    /// The nodes elect through the database.
    Database,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    eligible: Option<String>,
    priority: Option<String>,
    ttl_ms: Option<String>,
    renew_ms: Option<String>,
    margin_ms: Option<String>,
    redis_url: Option<String>,
    min_replicas: Option<String>,
    fallback: Option<String>,
}

impl LeaderConfig {
    pub(super) fn read(read: &mut Reader, redis: &RedisSection) -> Self {
        let raw: Raw = read.section("LEADER_");
        let other = redis.other(read, "UNDERSTUDY_LEADER_REDIS_URL", raw.redis_url.as_deref());
        // Below a second the pauses of an ordinary machine cost leadership all the time.
        let ttl = read.millis("UNDERSTUDY_LEADER_TTL_MS", raw.ttl_ms.as_deref(), 1_000..=300_000);
        let (renew, margin) = (raw.renew_ms.as_deref(), raw.margin_ms.as_deref());
        Self {
            eligible: read.flag("UNDERSTUDY_LEADER_ELIGIBLE", raw.eligible.as_deref()),
            priority: read.number("UNDERSTUDY_LEADER_PRIORITY", raw.priority.as_deref(), 0..=1_000),
            ttl,
            renew: part(read, "UNDERSTUDY_LEADER_RENEW_MS", renew, ttl / 3),
            margin: part(read, "UNDERSTUDY_LEADER_MARGIN_MS", margin, (ttl / 10).max(LEAST_MARGIN)),
            redis: other.or_else(|| redis.main.clone()),
            min_replicas: read.number(
                "UNDERSTUDY_LEADER_MIN_REPLICAS",
                raw.min_replicas.as_deref(),
                0..=10,
            ),
            fallback: read.choice(
                "UNDERSTUDY_LEADER_FALLBACK",
                raw.fallback.as_deref(),
                &[("off", LeaderFallback::Off), ("database", LeaderFallback::Database)],
            ),
        }
    }
}

/// Reads a part of the time to live; `usual` when it is not given.
fn part(read: &mut Reader, name: &'static str, given: Option<&str>, usual: Duration) -> Duration {
    let expected = "a whole number of milliseconds from 50 to 300000";
    let millis = read.optional(name, given, expected, |text| whole(text, &(50..=300_000))).map_or(
        // Whole milliseconds, as they are shown.
        Duration::from_millis(u64::try_from(usual.as_millis()).unwrap_or(u64::MAX)),
        Duration::from_millis,
    );
    read.show(name, &millis.as_millis().to_string());
    millis
}
