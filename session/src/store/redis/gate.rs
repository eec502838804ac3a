//! Sends writes of many sessions together: group commit over sessions, as each session's actor does it over requests.
//!
//! One flight at a time is under way per connection and bucket. What arrives meanwhile goes out together, as one script,
//! as soon as the answer is there; a write that finds nothing under way goes out at once. A busy node sends a few commands
//! instead of thousands: a script call, its parsing and its answer cost Redis and the client more than the three or four
//! fields it changes. Nobody waits longer than a command may take and a little: a store that falls behind is told.
//!
//! The sessions of a flight have nothing in common: each write has its own fence, and its own answer. A flight without an
//! answer may have been carried out, like any write that was lost: its writes carry ids and may be sent again.
//!
//! The idea is that of group commit (DeWitt et al., *Implementation techniques for main memory database systems*, 1984),
//! with Nagle's rule for when to send (RFC 896).

use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use understudy_runtime::ids::Bucket;
use understudy_runtime::redis::{Arg, Redis, Reply};

use super::{AFTER_END_MS, WRITE, as_text, call_and_wait, int, number, packed, tag, unexpected};
use crate::store::{StoreError, Write, WriteReply};

/// Most writes in one flight: the server does nothing else meanwhile, for 5 to 10 microseconds each.
const WRITES: usize = 128;
/// Bytes after which a flight takes no more on; one write alone may have more.
const BYTES: usize = 256 * 1024;
/// Most writes that wait; more are refused.
const WAITING: usize = 10_000;

/// The way of all writes of one connection.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// How long a write may wait for its answer.
    patience: Duration,
    /// One for each bucket: their keys lie in different slots of a Redis Cluster, perhaps on a server that is away.
    lanes: Vec<mpsc::Sender<Waiting>>,
}

/// A write as the script wants it.
#[derive(Debug)]
pub(super) struct Prepared {
    key: String,
    packed: Vec<u8>,
    /// The version that it makes.
    version: u64,
}

#[derive(Debug)]
struct Waiting {
    write: Prepared,
    answer: oneshot::Sender<Result<WriteReply, StoreError>>,
}

/// How all writes are sent.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) redis: Redis,
    pub(super) slack_ms: u64,
    /// How long a replica is waited for that has them; `None`: none is.
    pub(super) replica: Option<Duration>,
}

/// How those of one bucket are.
struct Lane {
    way: Way,
    /// Where it is noted that the database does not have them yet.
    unsaved: Option<String>,
}

impl Gate {
    /// Opens a gate with a lane for each of `buckets`, which say where a write is noted that the database does not have yet;
    /// driven by the tokio runtime this is called on, until the last clone is gone.
    pub(super) fn open(way: &Way, buckets: Vec<Option<String>>) -> Self {
        let lanes = buckets.into_iter().map(|unsaved| {
            let (lane, queue) = mpsc::channel(WAITING);
            tokio::spawn(serve(Lane { way: way.clone(), unsaved }, queue));
            lane
        });
        let timeout = way.redis.command_timeout();
        let patience = timeout + timeout / 4 + way.replica.unwrap_or_default();
        Self { patience, lanes: lanes.collect() }
    }

    /// Sends a write with the next flight of its bucket that has room, and waits for its answer.
    pub(super) async fn pass(
        &self,
        bucket: Bucket,
        write: Prepared,
    ) -> Result<WriteReply, StoreError> {
        let closed = || StoreError::Unavailable("the connection was closed".to_owned());
        let lane = self.lanes.get(usize::from(bucket.0)).ok_or_else(closed)?;
        let (answer, answered) = oneshot::channel();
        lane.try_send(Waiting { write, answer }).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Unavailable("too many writes wait".to_owned()),
            TrySendError::Closed(_) => closed(),
        })?;
        let late = || StoreError::Unavailable("the store does not keep up with writes".to_owned());
        let answer = timeout(self.patience, answered).await.map_err(|_elapsed| late())?;
        answer.map_err(|_| closed())?
    }
}

/// Sends one flight after the other.
async fn serve(lane: Lane, mut queue: mpsc::Receiver<Waiting>) {
    let mut flight = Vec::with_capacity(WRITES);
    while let Some(first) = queue.recv().await {
        if first.answer.is_closed() {
            continue; // it waited too long, and was told so
        }
        // Whatever this thread can read from its sockets now comes along: a few microseconds, for half as many flights.
        tokio::task::yield_now().await;
        let mut bytes = first.write.packed.len();
        flight.push(first);
        while flight.len() < WRITES && bytes < BYTES {
            let Ok(next) = queue.try_recv() else { break };
            if next.answer.is_closed() {
                continue;
            }
            bytes += next.write.packed.len();
            flight.push(next);
        }
        if let Err(away @ StoreError::Unavailable(_)) = send(&lane, &mut flight).await {
            // Who waited behind it has waited as long as for an answer of his own.
            while let Ok(behind) = queue.try_recv() {
                drop(behind.answer.send(Err(away.clone())));
            }
        }
    }
}

/// Sends the writes and answers each; gives the error that all of them got, if they did.
async fn send(lane: &Lane, flight: &mut Vec<Waiting>) -> Result<(), StoreError> {
    match fly(lane, flight).await {
        // While a Cluster moves a slot, keys of which some have moved cannot go together, and each alone can.
        Err(StoreError::Unavailable(why)) if why.starts_with("TRYAGAIN") && flight.len() > 1 => {
            one_by_one(lane, flight).await
        }
        Err(error) => {
            answer_all(flight, &error);
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

async fn one_by_one(lane: &Lane, flight: &mut Vec<Waiting>) -> Result<(), StoreError> {
    while let Some(next) = flight.pop() {
        if next.answer.is_closed() {
            continue;
        }
        let mut alone = vec![next];
        let Err(error) = fly(lane, &mut alone).await else { continue };
        answer_all(&mut alone, &error);
        if matches!(&error, StoreError::Unavailable(why) if !why.starts_with("TRYAGAIN")) {
            answer_all(flight, &error); // the server is silent now: the others need not find out by themselves
            return Err(error);
        }
    }
    Ok(())
}

fn answer_all(flight: &mut Vec<Waiting>, error: &StoreError) {
    for waiting in flight.drain(..) {
        // Whoever asked may have gone.
        drop(waiting.answer.send(Err(error.clone())));
    }
}

/// Sends the writes together and answers each, unless there is an error that concerns them all.
async fn fly(lane: &Lane, flight: &mut Vec<Waiting>) -> Result<(), StoreError> {
    let Way { redis, slack_ms, replica } = &lane.way;
    let sessions = flight.iter().map(|waiting| waiting.write.key.clone());
    let keys: Vec<String> = sessions.chain(lane.unsaved.clone()).collect();
    let writes = packed::list(flight.iter().map(|waiting| &*waiting.write.packed));
    let keep_ms = slack_ms.saturating_add(AFTER_END_MS);
    let args = vec![number(*slack_ms), number(keep_ms), Arg::Bytes(writes.into())];
    // Sent again with their ids they are recognised, and a replica is waited for once more.
    let reply = call_and_wait(redis, &WRITE, keys, args, *replica).await?;
    let (now_ms, answers) = answers(reply, flight.len())?;
    for (waiting, answer) in flight.drain(..).zip(answers) {
        drop(waiting.answer.send(judge(answer, waiting.write.version, now_ms)));
    }
    Ok(())
}

/// Takes a reply apart: the server's clock, and an answer for each of `count` writes.
fn answers(reply: Reply, count: usize) -> Result<(u64, impl Iterator<Item = Reply>), StoreError> {
    let Reply::Array(items) = reply else { return Err(unexpected("no list of answers")) };
    if items.len() != count + 1 {
        return Err(unexpected("as many answers as writes are wanted"));
    }
    let mut items = items.into_iter();
    let now_ms = items.next().and_then(|now| now.as_u64()).ok_or_else(|| unexpected("no time"))?;
    Ok((now_ms, items))
}

fn judge(answer: Reply, version: u64, now_ms: u64) -> Result<WriteReply, StoreError> {
    if answer.as_i64() == Some(0) {
        return Ok(WriteReply::Written { version, now_ms });
    }
    let Reply::Array(parts) = answer else { return Err(unexpected("no answer to a write")) };
    let found = || int(&parts, 1);
    Ok(match tag(&parts)? {
        "DUP" => WriteReply::Duplicate { version: found()? },
        "GONE" => WriteReply::Missing,
        "REVOKED" => WriteReply::Revoked,
        "FENCED" => WriteReply::Fenced,
        "REGRESSED" => WriteReply::Regressed { version: found()? },
        "CONFLICT" => WriteReply::Conflict { version: found()? },
        "UNREADABLE" => {
            let text = parts.get(1).and_then(as_text).unwrap_or_default();
            return Err(StoreError::Unreadable(text));
        }
        // Sent again with its id it is recognised if it is in.
        "UNKNOWN" => {
            let text = parts.get(1).and_then(as_text).unwrap_or_default();
            return Err(StoreError::Unavailable(text));
        }
        other => return Err(unexpected(other)),
    })
}

impl Prepared {
    /// Prepares a write to the session under `key`.
    pub(super) fn new(key: String, write: &Write<'_>) -> Self {
        Self { key, packed: packed::write(write), version: write.base_version.saturating_add(1) }
    }
}
