//! The lease in Redis: one string with a time to live, changed by the scripts of this folder.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use understudy_runtime::keys::KeySpace;
use understudy_runtime::redis::{Arg, Redis, RedisError, Reply, Script};

use super::{Acquire, Held, LeaderLease, LeaderLeaseError, LeaseValue, Renewal};

static ACQUIRE: LazyLock<Script> =
    LazyLock::new(|| Script::even_when_full("leader.acquire", include_str!("acquire.lua")));
static PEEK: LazyLock<Script> =
    LazyLock::new(|| Script::even_when_full("leader.peek", include_str!("peek.lua")));
static RENEW: LazyLock<Script> =
    LazyLock::new(|| Script::even_when_full("leader.renew", include_str!("renew.lua")));
static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::even_when_full("leader.release", include_str!("release.lua")));

/// The lease in Redis; a cheap clone.
#[derive(Debug, Clone)]
pub struct RedisLease {
    redis: Redis,
    key: String,
    min_replicas: u32,
    ttl: Duration,
}

impl RedisLease {
    /// Uses a connection made with [`Role::Leader`](understudy_runtime::redis::Role::Leader) on the thread of the
    /// leader's actor, whose command time-out is short.
    ///
    /// A lease counts only if `min_replicas` replicas know of it within half a command time-out: else it is given back,
    /// for a failover would lose it. 0 asks no replica. `ttl` is how long leases last here: one that would last many times
    /// as long, since the clock of Redis was set back, is cut to it.
    #[must_use]
    pub fn new(redis: Redis, keys: &KeySpace, min_replicas: u32, ttl: Duration) -> Self {
        Self { redis, key: keys.leader(), min_replicas, ttl }
    }

    async fn call(
        &self,
        script: &'static Script,
        args: Vec<Arg>,
    ) -> Result<Reply, LeaderLeaseError> {
        Ok(self.redis.call(script, vec![self.key.clone()], args).await?)
    }

    /// Whether enough replicas have what was just written; if not, gives the lease back.
    async fn is_known_to_replicas(&self, value: &LeaseValue) -> Result<bool, LeaderLeaseError> {
        if self.min_replicas == 0 {
            return Ok(true);
        }
        let limit = self.redis.command_timeout() / 2;
        let answer = self.redis.wait_replicas(&self.key, self.min_replicas, limit).await;
        if matches!(answer, Ok(known) if known >= u64::from(self.min_replicas)) {
            return Ok(true);
        }
        tracing::warn!(
            known = answer.as_ref().ok(),
            wanted = self.min_replicas,
            "too few replicas of redis know of the leader's lease: it is given back"
        );
        // Before the error, so that nobody waits for a lease that nobody trusts.
        self.release(value).await?;
        answer?;
        Ok(false)
    }
}

#[async_trait]
impl LeaderLease for RedisLease {
    async fn acquire(
        &self,
        value: &LeaseValue,
        ttl: Duration,
    ) -> Result<Acquire, LeaderLeaseError> {
        let reply = self.call(&ACQUIRE, vec![text(value), millis(ttl)]).await?;
        if let Some(held) = held(&reply, "acquire")? {
            return Ok(Acquire::Held(held));
        }
        let known = self.is_known_to_replicas(value).await?;
        Ok(if known { Acquire::Won } else { Acquire::Held(Held::default()) })
    }

    async fn peek(&self) -> Result<Option<Held>, LeaderLeaseError> {
        let reply = self.call(&PEEK, vec![millis(self.ttl)]).await?;
        Ok(held(&reply, "peek")?)
    }

    async fn renew(&self, value: &LeaseValue, ttl: Duration) -> Result<Renewal, LeaderLeaseError> {
        let reply = self.call(&RENEW, vec![text(value), millis(ttl)]).await?;
        let Reply::Array(row) = &reply else { return Err(unexpected("renew").into()) };
        match row.first().and_then(Reply::as_i64) {
            Some(1) => Ok(Renewal::Renewed),
            Some(2) if self.is_known_to_replicas(value).await? => Ok(Renewal::Reasserted),
            Some(2) => Ok(Renewal::Lost { holder: None }),
            Some(0) => Ok(Renewal::Lost { holder: row.get(1).and_then(holder) }),
            Some(_) | None => Err(unexpected("renew").into()),
        }
    }

    async fn release(&self, value: &LeaseValue) -> Result<bool, LeaderLeaseError> {
        let reply = self.call(&RELEASE, vec![text(value)]).await?;
        Ok(reply.as_i64() == Some(1))
    }

    fn reconnects(&self) -> Option<watch::Receiver<u64>> {
        Some(self.redis.connects())
    }
}

fn held(reply: &Reply, script: &str) -> Result<Option<Held>, RedisError> {
    // An empty table may arrive as nothing at all.
    if reply.is_null() {
        return Ok(None);
    }
    let Reply::Array(row) = reply else { return Err(unexpected(script)) };
    let Some(left) = row.first() else { return Ok(None) };
    let left = left.as_i64().ok_or_else(|| unexpected(script))?;
    let remaining = u64::try_from(left).ok().map(Duration::from_millis);
    Ok(Some(Held { holder: row.get(1).and_then(holder), remaining }))
}

fn holder(reply: &Reply) -> Option<LeaseValue> {
    reply.as_string()?.parse().ok()
}

fn text(value: &LeaseValue) -> Arg {
    Arg::from(value.to_string())
}

fn millis(duration: Duration) -> Arg {
    Arg::Integer(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn unexpected(script: &str) -> RedisError {
    RedisError::Protocol(format!("the answer of leader.{script}"))
}
