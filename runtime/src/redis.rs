//! Everything about Redis: one builder for every connection, and one way to call a script.
//!
//! The client library (fred) is spoken to in this module only, because it is not maintained at the moment and
//! because its defaults are dangerous for us. What this module adds or sets:
//!
//! - A command ends within [`RedisConfig::command_timeout`], at once when there is no connection; a request never
//!   hangs. **A command that failed may still have been carried out, or will be**: it is sent once
//!   (`max_attempts` 1), but what lies in a socket cannot be called back. So whatever is sent is idempotent or fenced.
//! - It reconnects for ever, with jitter; at once when the server answers again, when a Sentinel names another
//!   primary, and when a connection is silent (the library's own check never fires under traffic).
//! - Standalone, Sentinel, Cluster; TLS with the system's authorities or one's own; a client certificate; ACL user.
//!
//! Needs Redis 6 or Valkey. The ACL user needs neither `@dangerous` nor `KEYS`: `~us:* &us:* +@all -@dangerous
//! +info`, and with Sentinel also `+role`. Keys and channels are spelled in [`crate::keys`], not here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fred::bytes_utils::Str;
use fred::clients::{Client, WithOptions};
use fred::interfaces::{ClientLike, HashesInterface, PubsubInterface};
use fred::types::{ClusterHash, CustomCommand};
use fred::util::redis_keyslot;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{RedisConfig, Topology};
use crate::finding::Finding;
use crate::ids::NodeId;

mod detect;
mod error;
pub(crate) mod findings;
mod health;
mod replicated;
mod script;
mod sentinel;
mod settings;
mod subscription;
mod supervisor;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

pub use error::{ConnectError, RedisError};
pub use replicated::Replicated;
pub use script::Script;
pub use subscription::{Incoming, Subscription};

use health::Health;
use supervisor::Link;

/// A value that Redis sent: what a script returned.
pub use fred::types::Value as Reply;

/// An argument of a script.
pub use fred::types::Value as Arg;

/// How many commands may be under way on one connection; more are refused at once.
const MAX_UNDER_WAY: usize = 10_000;

/// How many slots of a Redis Cluster the keys are spread over.
const CLUSTER_BUCKETS: u16 = 64;

/// What a connection is for; it appears in the name that `CLIENT LIST` shows, `us-<node>-<role>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Renewals only, never behind other traffic.
    Lease,
    /// The lease of the cluster's leader, renewed on a thread of its own.
    Leader,
    /// Ordinary commands; the number tells several apart.
    Data(usize),
    /// Changes that a replica must have before they count; see [`Redis::call_replicated`].
    Replicated(usize),
    /// Sending messages to other nodes.
    Bus,
    /// Receiving messages.
    Subscriber,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease => f.write_str("lease"),
            Self::Leader => f.write_str("leader"),
            Self::Data(number) => write!(f, "data{number}"),
            Self::Replicated(number) => write!(f, "replicated{number}"),
            Self::Bus => f.write_str("bus"),
            Self::Subscriber => f.write_str("subscriber"),
        }
    }
}

/// One supervised connection (on a Cluster: one to each primary); a cheap clone. Closed when the last clone is gone.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    link: Arc<Link>,
    health: Arc<Health>,
    topology: Topology,
    name: String,
    _supervisor: AbortOnDrop,
}

/// Ends a task together with what it belongs to.
#[derive(Debug)]
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Redis {
    /// Begins to connect, and goes on for ever. The tokio runtime this is called on drives the connection.
    ///
    /// A server that is away is no error: commands fail with [`RedisError::Unavailable`] until it is there. Only
    /// where the kind of server must first be asked for ([`Topology::Auto`]) does this wait for it.
    ///
    /// # Errors
    /// [`ConnectError`] when the options are wrong.
    pub async fn connect(
        config: &RedisConfig,
        role: Role,
        node: &NodeId,
    ) -> Result<Self, ConnectError> {
        let tls = settings::tls_config(config)?;
        let topology = match &config.targets.topology {
            Topology::Auto => detect::topology(config, tls.as_ref()).await?,
            known @ (Topology::Standalone | Topology::Cluster | Topology::Sentinel { .. }) => {
                known.clone()
            }
        };
        let mut settings = settings::Settings::new(config, &topology, tls)?;
        match role {
            Role::Subscriber => settings = settings.with_inbox(),
            Role::Replicated(_) => settings = settings.without_redirections(),
            Role::Lease | Role::Leader | Role::Data(_) | Role::Bus => {}
        }
        let name = format!("us-{}-{role}", node.name());
        let health = Arc::new(Health::new(config.command_timeout));
        let (link, supervisor) = supervisor::start(settings, name.clone(), health.clone());
        let shared = Shared { link, health, topology, name, _supervisor: AbortOnDrop(supervisor) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Runs a script: by its hash, and with its text if the server does not know it.
    ///
    /// On a Cluster all keys must carry the same tag.
    ///
    /// # Errors
    /// [`RedisError`]; after [`RedisError::Unavailable`] the script may have run, or still will.
    pub async fn call(
        &self,
        script: &'static Script,
        keys: Vec<String>,
        args: Vec<Arg>,
    ) -> Result<Reply, RedisError> {
        let client = self.shared.link.commands();
        let slot = self.slot_of(&keys);
        let sent = script_arguments(script.hash(), keys, args);
        // Kept for a second attempt; the texts in it are shared, not copied.
        let mut again = sent.clone();
        let flight = self.take_off()?;
        let mut answer = send_script(&client, "EVALSHA", slot, sent).await;
        if answer.as_ref().is_err_and(error::is_noscript) {
            again[0] = script.source().into();
            answer = send_script(&client, "EVAL", slot, again.clone()).await;
        }
        if answer.as_ref().is_err_and(|error| script.falls_back(error.details())) {
            again[0] = script.source().into();
            answer = send_script(&client, "EVAL", slot, again).await;
        }
        if answer.is_ok() {
            script.latency().record(flight.sent_at.elapsed());
        }
        flight.land(answer)
    }

    /// Waits until `replicas` replicas have what this connection wrote before, or `limit` is over; returns how many
    /// have it. The connection does nothing else meanwhile, so use one that is nobody else's, and a limit that is
    /// shorter than [`command_timeout`](Self::command_timeout). `key` is what was written: on a Cluster it names the
    /// server that is asked.
    ///
    /// When the connection is another one by now, what was written before it is not waited for, and nobody notices: where
    /// that must not be, use [`call_replicated`](Self::call_replicated).
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn wait_replicas(
        &self,
        key: &str,
        replicas: u32,
        limit: Duration,
    ) -> Result<u64, RedisError> {
        let client = self.shared.link.commands();
        let hash = if self.is_cluster() {
            ClusterHash::Custom(redis_keyslot(key.as_bytes()))
        } else {
            ClusterHash::Random
        };
        // Zero would mean for ever.
        let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1);
        let command = CustomCommand::new_static("WAIT", hash, false);
        let arguments = vec![Arg::from(i64::from(replicas)), Arg::from(limit)];
        let flight = self.take_off()?;
        let answer: Reply = flight.land(client.custom(command, arguments).await)?;
        answer
            .as_u64()
            .ok_or_else(|| RedisError::Protocol("WAIT did not return a number".to_owned()))
    }

    /// Reads a whole hash, as field and value in turn; empty when there is none.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn hgetall(&self, key: &str) -> Result<Vec<(String, String)>, RedisError> {
        let client = self.shared.link.commands();
        let flight = self.take_off()?;
        let answer: Reply = flight.land(client.hgetall(key.to_owned()).await)?;
        let map: std::collections::HashMap<String, String> =
            answer.convert().map_err(|error| RedisError::Protocol(error.details().to_owned()))?;
        Ok(map.into_iter().collect())
    }

    /// Sends a message to whoever listens on a channel; returns how many that were. On a Cluster it is a sharded
    /// channel, so the number is exact there too.
    ///
    /// # Errors
    /// [`RedisError`]; after [`RedisError::Unavailable`] the message may have been delivered, or still will.
    pub async fn publish(&self, channel: &str, message: bytes::Bytes) -> Result<u64, RedisError> {
        let client = self.shared.link.commands();
        let flight = self.take_off()?;
        let answer = if self.is_cluster() {
            client.spublish(channel, message).await
        } else {
            client.publish(channel, message).await
        };
        let answer: Reply = flight.land(answer)?;
        answer
            .as_u64()
            .ok_or_else(|| RedisError::Protocol("publish did not return a number".to_owned()))
    }

    /// Reads a section of `INFO`; from any one server of a Cluster.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn info(&self, section: &'static str) -> Result<String, RedisError> {
        let client = self.shared.link.commands();
        let command = CustomCommand::new_static("INFO", ClusterHash::Random, false);
        let flight = self.take_off()?;
        let answer: Reply = flight.land(client.custom(command, vec![section]).await)?;
        answer
            .as_string()
            .ok_or_else(|| RedisError::Protocol("INFO did not return text".to_owned()))
    }

    /// Looks for what an operator should change about the server; on a Cluster about one of them.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn findings(&self) -> Result<Vec<Finding>, RedisError> {
        Ok(findings::judge(&self.info("default").await?, self.topology()))
    }

    /// Looks whether a server whose changes a replica must have has one; on a Cluster one of them.
    ///
    /// # Errors
    /// [`RedisError`].
    pub(crate) async fn lack_of_replicas(&self) -> Result<Option<Finding>, RedisError> {
        Ok(findings::unreplicated(&self.info("replication").await?))
    }

    /// Sends a command that has no script around it; on a Cluster to any of its servers.
    ///
    /// # Errors
    /// [`RedisError`].
    pub(crate) async fn command(
        &self,
        name: &'static str,
        arguments: Vec<&str>,
    ) -> Result<Reply, RedisError> {
        let client = self.shared.link.commands();
        let command = CustomCommand::new_static(name, ClusterHash::Random, false);
        let arguments: Vec<Arg> = arguments.into_iter().map(Arg::from).collect();
        let flight = self.take_off()?;
        flight.land(client.custom(command, arguments).await)
    }

    /// Whether two handles are on the same connection.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Listens on channels, for as long as the subscription is kept. Use a connection of [`Role::Subscriber`].
    #[must_use]
    pub fn subscribe(&self, channels: Vec<String>) -> Subscription {
        Subscription::new(self.clone(), channels)
    }

    /// Returns what kind of Redis this is; never [`Topology::Auto`].
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.shared.topology
    }

    /// Returns over how many buckets keys are spread: 1, or 64 on a Cluster.
    #[must_use]
    pub fn buckets(&self) -> u16 {
        if self.is_cluster() { CLUSTER_BUCKETS } else { 1 }
    }

    /// Whether there is a connection at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.link.client().is_connected()
    }

    /// Counts the commands that wait for an answer on this connection.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared.health.under_way()
    }

    /// Counts the connections made so far: 0 until the first, and one more after each loss.
    #[must_use]
    pub fn connects(&self) -> watch::Receiver<u64> {
        self.shared.health.connects()
    }

    /// Gives up the present connection and makes a new one.
    pub fn reconnect(&self, reason: &'static str) {
        self.shared.health.ask_for_reconnect(reason);
    }

    /// Returns how long a command may take.
    #[must_use]
    pub fn command_timeout(&self) -> Duration {
        self.shared.health.command_timeout()
    }

    fn is_cluster(&self) -> bool {
        self.shared.topology == Topology::Cluster
    }

    /// Gives the slot of what a script is about, on a Cluster.
    fn slot_of(&self, keys: &[String]) -> Option<u16> {
        let first = keys.first().filter(|_| self.is_cluster());
        first.map(|key| redis_keyslot(key.as_bytes()))
    }

    fn client(&self) -> Arc<WithOptions<Client>> {
        self.shared.link.commands()
    }

    /// Begins a command, unless too many are under way. What the library returns goes to [`Flight::land`].
    ///
    /// Not a function around the command's future: the library's futures are large, and each layer doubles them.
    fn take_off(&self) -> Result<Flight<'_>, RedisError> {
        let Some(place) = self.shared.health.enter(MAX_UNDER_WAY) else {
            return Err(RedisError::Unavailable("too many commands are under way".to_owned()));
        };
        Ok(Flight { redis: self, _place: place, sent_at: Instant::now() })
    }
}

/// One command under way: counted, timed, and judged in the end, since silence leads to a new connection.
struct Flight<'a> {
    redis: &'a Redis,
    _place: health::Place<'a>,
    sent_at: Instant,
}

impl Flight<'_> {
    fn land(self, answer: Result<Reply, fred::error::Error>) -> Result<Reply, RedisError> {
        let shared = &self.redis.shared;
        let error = match answer {
            Ok(reply) => {
                shared.health.heard(Instant::now());
                return Ok(reply);
            }
            Err(error) => error,
        };
        shared.health.failed(&error, Instant::now());
        let error = RedisError::from(error);
        tracing::debug!(redis.client = %shared.name, %error, duration = ?self.sent_at.elapsed(), "command failed");
        Err(error)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({}, connected: {})", self.shared.name, self.is_connected())
    }
}

fn script_arguments(script: Str, keys: Vec<String>, args: Vec<Arg>) -> Vec<Arg> {
    let mut all = Vec::with_capacity(2 + keys.len() + args.len());
    all.push(script.into());
    // A script has a handful of keys.
    all.push(Arg::Integer(i64::try_from(keys.len()).unwrap_or(i64::MAX)));
    all.extend(keys.into_iter().map(Arg::from));
    all.extend(args);
    all
}

/// The library's own `evalsha` overlooks the options of a client, so a lost connection would cost the whole time-out.
async fn send_script(
    client: &WithOptions<Client>,
    command: &'static str,
    slot: Option<u16>,
    arguments: Vec<Arg>,
) -> Result<Reply, fred::error::Error> {
    let hash = slot.map_or(ClusterHash::Random, ClusterHash::Custom);
    client.custom(CustomCommand::new_static(command, hash, false), arguments).await
}

#[cfg(test)]
mod tests;
