//! Leases in Redis: one hash per bucket, changed by the scripts of this folder.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{DROP_NODE, LeaseError, LeaseStore, RENEW, Renewed, SETTLE, Settled};
use crate::ids::{Bucket, NodeId};
use crate::keys::KeySpace;
use crate::redis::{Arg, Redis, RedisError, Reply};

/// The leases of all nodes, in Redis.
#[derive(Debug, Clone)]
pub struct RedisLeases {
    redis: Redis,
    keys: KeySpace,
}

impl RedisLeases {
    /// Uses a connection made with [`Role::Lease`](crate::redis::Role::Lease) on the thread of the lease actor.
    #[must_use]
    pub fn new(redis: Redis, keys: KeySpace) -> Self {
        Self { redis, keys }
    }

    fn table(&self, bucket: Bucket) -> Vec<String> {
        vec![self.keys.lease_table(bucket)]
    }
}

#[async_trait]
impl LeaseStore for RedisLeases {
    async fn renew(
        &self,
        bucket: Bucket,
        node: &NodeId,
        ttl: Duration,
    ) -> Result<Renewed, LeaseError> {
        let args = vec![Arg::from(node.to_string()), millis(ttl)];
        let reply = self.redis.call(&RENEW, self.table(bucket), args).await?;
        Ok(renewed(&reply)?)
    }

    async fn settle(
        &self,
        bucket: Bucket,
        node: &NodeId,
        server_id: &str,
        awaited: Vec<NodeId>,
    ) -> Result<Settled, LeaseError> {
        let nodes = std::iter::once(node).chain(&awaited).map(NodeId::to_string);
        let args = std::iter::once(server_id.to_owned()).chain(nodes).map(Arg::from).collect();
        let reply = self.redis.call(&SETTLE, self.table(bucket), args).await?;
        Ok(settled(&reply)?)
    }

    async fn drop_node(&self, bucket: Bucket, node: &NodeId) -> Result<(), LeaseError> {
        self.redis.call(&DROP_NODE, self.table(bucket), vec![Arg::from(node.to_string())]).await?;
        Ok(())
    }

    fn reconnects(&self) -> Option<watch::Receiver<u64>> {
        Some(self.redis.connects())
    }
}

fn renewed(reply: &Reply) -> Result<Renewed, RedisError> {
    let Reply::Array(row) = reply else { return Err(unexpected("renew")) };
    let text =
        |at: usize| row.get(at).and_then(Reply::as_string).ok_or_else(|| unexpected("renew"));
    let number = |at: usize| row.get(at).and_then(Reply::as_u64).ok_or_else(|| unexpected("renew"));
    let server_id = text(0)?;
    if server_id == "EVICTED" {
        return Ok(Renewed { server_id, continuous: false, evicted: true, now_ms: number(1)? });
    }
    Ok(Renewed { server_id, continuous: number(1)? == 1, evicted: false, now_ms: number(2)? })
}

fn settled(reply: &Reply) -> Result<Settled, RedisError> {
    let Reply::Array(row) = reply else { return Err(unexpected("settle")) };
    match row.first().and_then(Reply::as_i64) {
        Some(-1) => Ok(Settled::OtherServer),
        Some(0) => Ok(Settled::Open),
        Some(remaining) => Ok(Settled::Waiting { remaining_ms: remaining.unsigned_abs() }),
        None => Err(unexpected("settle")),
    }
}

fn unexpected(script: &str) -> RedisError {
    RedisError::Protocol(format!("the answer of lease.{script}"))
}

fn millis(duration: Duration) -> Arg {
    Arg::Integer(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// Says what an operator can do about a refusal.
pub(super) fn advice(error: &RedisError) -> String {
    let text = error.to_string();
    let about_commands =
        text.contains("can't run this command") || text.contains("ACL") || text.contains("NOPERM");
    let advice = if about_commands {
        "redis refuses the lease script: its ACL user must be allowed `+info` (scripts read the run id of the server)"
    } else if error.code() == Some("NORUNID") {
        "redis does not tell its run id to scripts (INFO is withheld): leases cannot be kept on this server"
    } else if error.code() == Some("OOM") {
        "redis is full (maxmemory): leases cannot be renewed until there is room"
    } else {
        "redis refuses to renew leases"
    };
    advice.to_owned()
}
