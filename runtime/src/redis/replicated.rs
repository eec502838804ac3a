//! Scripts whose changes a replica must have before they count.
//!
//! `WAIT` counts the replicas that have what *its own connection* sent before; over another connection, or at another server,
//! it counts replicas of something else, and a change that the failover lost would be acknowledged. So the script and `WAIT`
//! go out together, over one connection, and neither waits for the answer of the other in between. On a Cluster the script
//! alone could be redirected to another server; a connection of [`Role::Replicated`](super::Role::Replicated) follows no
//! redirection, and the attempt fails.

use std::time::Duration;

use fred::clients::{Client, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand};
use tokio::time::Instant;

use super::{Arg, Redis, RedisError, Reply, Script, error, script_arguments};

/// What came of a script whose changes a replica should have.
#[derive(Debug)]
pub struct Replicated {
    /// What it returned.
    pub reply: Reply,
    /// How many replicas have what it changed.
    pub replicas: u64,
}

/// The answers to a script, and to the `WAIT` behind it.
type Answers = (Result<Reply, Error>, Result<Reply, Error>);

impl Redis {
    /// Runs a script like [`call`](Self::call), and waits until one replica has what it changed, or `limit` is over. The
    /// connection does nothing else meanwhile, so use one that is nobody else's, of
    /// [`Role::Replicated`](super::Role::Replicated), and a limit that is shorter than
    /// [`command_timeout`](Self::command_timeout).
    ///
    /// # Errors
    /// [`RedisError`]; after [`RedisError::Unavailable`] the script may have run, or still will.
    pub async fn call_replicated(
        &self,
        script: &'static Script,
        keys: Vec<String>,
        args: Vec<Arg>,
        limit: Duration,
    ) -> Result<Replicated, RedisError> {
        let client = self.shared.link.commands();
        let slot = self.slot_of(&keys);
        let sent = script_arguments(script.hash(), keys, args);
        // Kept for a second attempt; the texts in it are shared, not copied.
        let mut again = sent.clone();
        let flight = self.take_off()?;
        // In boxes, since the library's futures are large.
        let mut answers = Box::pin(send_both(&client, "EVALSHA", slot, (sent, limit))).await;
        if answers.0.as_ref().is_err_and(error::is_noscript) {
            again[0] = script.source().into();
            answers = Box::pin(send_both(&client, "EVAL", slot, (again.clone(), limit))).await;
        }
        if answers.0.as_ref().is_err_and(|error| script.falls_back(error.details())) {
            again[0] = script.source().into();
            answers = Box::pin(send_both(&client, "EVAL", slot, (again, limit))).await;
        }
        let (ran, waited) = answers;
        if ran.is_ok() {
            script.latency().record(flight.sent_at.elapsed());
        }
        let reply = flight.land(ran)?;
        // Whatever the reason is, the script has run: nobody may be told that nothing happened.
        let waited = waited.map_err(|error| {
            self.shared.health.failed(&error, Instant::now());
            RedisError::Unavailable(error.details().to_owned())
        })?;
        let replicas = waited
            .as_u64()
            .ok_or_else(|| RedisError::Protocol("WAIT did not return a number".to_owned()))?;
        Ok(Replicated { reply, replicas })
    }
}

/// Sends a script, and behind it the question whether a replica has what it wrote.
async fn send_both(
    client: &WithOptions<Client>,
    command: &'static str,
    slot: Option<u16>,
    (script, limit): (Vec<Arg>, Duration),
) -> Answers {
    let hash = || slot.map_or(ClusterHash::Random, ClusterHash::Custom);
    // Zero would mean for ever.
    let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1);
    let wait = vec![Arg::from(1_i64), Arg::from(limit)];
    let both = client.pipeline().with_options(client.options());
    for (name, arguments) in [(command, script), ("WAIT", wait)] {
        let named = CustomCommand::new_static(name, hash(), false);
        let queued: Result<Reply, Error> = both.custom(named, arguments).await;
        if let Err(error) = queued {
            return (Err(error.clone()), Err(error)); // nothing was sent
        }
    }
    let mut answers = both.try_all::<Reply>().await.into_iter();
    match (answers.next(), answers.next()) {
        (Some(script), Some(wait)) => (script, wait),
        // One word for both: there is no connection, or none any more.
        (Some(Err(error)), None) => (Err(error.clone()), Err(error)),
        (Some(Ok(_)) | None, _) => {
            let error = Error::new(ErrorKind::Protocol, "as many answers as commands are wanted");
            (Err(error.clone()), Err(error))
        }
    }
}
