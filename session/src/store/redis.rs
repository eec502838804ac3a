//! Sessions in Redis: one hash each, every step one script, all keys of a script in one slot.
//!
//! The scripts lie in `redis/*.lua` and do what [`crate::spec`] says; the conformance suite compares the two on a real
//! server. Time is the server's (`TIME` inside the script). A sorted set per bucket lists sessions by when they may be
//! over, and what is to be told of those that were; the sweep goes by it, so that nothing needs keyspace notifications.
//! Keys expire by themselves an hour after the session's deadlines, so that nothing is left behind when nobody sweeps.
//! Every script takes what is over for gone by its times, whether the key is still there or not.

mod expiry;
mod fields;
mod gate;
mod online;
mod packed;
mod register;
mod unsaved;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use understudy_runtime::ids::{Bucket, NodeId};
use understudy_runtime::keys::KeySpace;
use understudy_runtime::redis::{Arg, Redis, RedisError, Reply, Script};

use super::{
    ClaimReply, CreateReply, End, Estate, Expired, ReadReply, Remains, RestoreReply, RevokeReply,
    SessionRegister as _, SessionStore, StoreError, Swept, ValidateReply, Write, WriteReply,
};
use crate::record::{Fence, KeyId, KnownKeys, Locator, Record, Token};
use crate::sealing::unknown_key;

use gate::{Gate, Prepared, Way};

pub(super) use unsaved::{BroughtBack, Saved, Take, Unsaved};

macro_rules! script {
    ($name:ident, $new:ident, $file:literal $(, $part:literal)*) => {
        static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = concat!(
                $(include_str!(concat!("redis/", $part, ".lua")),)*
                include_str!(concat!("redis/", $file, ".lua"))
            );
            Script::$new(concat!("session.", $file), text)
        });
    };
}

script!(CREATE, new, "create", "index", "unsaved");
script!(CLAIM, new, "claim", "index");
script!(WRITE, new, "write", "unsaved");
script!(VALIDATE, new, "validate");
script!(RESTORE, new, "restore", "index", "unsaved");
script!(BRING_BACK, new, "bring_back", "index");
script!(REVOKE, new, "revoke", "index", "entry", "remains", "unsaved");
script!(TELL_OF, new, "tell_of", "index", "entry");
script!(RELEASE, new, "release");
script!(TOUCH, new, "touch", "unsaved");
script!(PROLONG, new, "prolong", "index");
script!(NAME, new, "name", "index");
script!(DUE, new, "due");
script!(ENROLL, new, "enroll", "place");
script!(CONFIRM, new, "confirm", "place");
script!(ADMIT, new, "admit", "place");
script!(ROLL, new, "roll", "place");
script!(LOOK, new, "look");
script!(IDS, new, "ids");
script!(COUNT, new, "count");
script!(HELD, new, "held");
script!(SEEN, new, "seen");
script!(ONLINE, new, "online");
script!(ONLINE_COUNT, new, "online_count");
// These make room.
script!(SWEEP, even_when_full, "sweep", "index", "entry", "remains", "unsaved");
script!(ACKNOWLEDGE, even_when_full, "acknowledge");
script!(CONDEMN, even_when_full, "condemn", "place");
script!(STRIKE, even_when_full, "strike", "place");
script!(FORGET_IDS, even_when_full, "forget_ids");
script!(UNSEEN, even_when_full, "unseen");
// These bring sessions to where there is room.
script!(TAKE_UNSAVED, even_when_full, "take_unsaved");
script!(LEAVE_UNSAVED, even_when_full, "leave_unsaved");
script!(SETTLE, even_when_full, "settle");

/// How much longer than a session its key stays, besides the slack: so long may nobody sweep, or the server be away, without
/// the end of a session going by untold. What it held is kept so long after its end.
const AFTER_END_MS: u64 = 3_600_000;

/// Keeps sessions in Redis, over one connection.
#[derive(Clone, Debug)]
pub struct RedisStore {
    redis: Redis,
    gate: Gate,
    keys: Arc<KeySpace>,
    lease: Duration,
    slack_ms: u64,
    /// Names of keys, with a blank before and after each: what is sealed under another one is not claimed.
    known: Arc<str>,
    estate: Estate,
    /// What changes goes over this; the same as `redis` unless replicas are waited for.
    writer: Redis,
    /// How long a replica is waited for that has a change; `None`: none is.
    replica: Option<Duration>,
    /// Whether each step notes what the database does not have yet.
    notes_unsaved: bool,
}

impl RedisStore {
    /// Uses `redis` for all sessions; `lease` is the time to live of a node lease, `slack` how late an access may be
    /// written down. The tokio runtime this is called on drives its writes.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(redis: Redis, keys: Arc<KeySpace>, lease: Duration, slack: Duration) -> Self {
        let slack_ms = ms(slack);
        let way = Way { redis: redis.clone(), slack_ms, replica: None };
        let gate = Gate::open(&way, vec![None; usize::from(keys.buckets())]);
        let (known, estate) = (Arc::from(""), Estate::default());
        let (writer, replica, notes_unsaved) = (redis.clone(), None, false);
        Self { redis, gate, keys, lease, slack_ms, known, estate, writer, replica, notes_unsaved }
    }

    /// Says whether what sessions held is kept for whoever is told of their end.
    #[must_use]
    pub fn with_estate(self, estate: Estate) -> Self {
        Self { estate, ..self }
    }

    /// Has each step note what the database does not have yet, in the same script; see [`super::persisted`].
    #[must_use]
    pub(super) fn noting_unsaved(self) -> Self {
        Self { notes_unsaved: true, ..self }.with_new_gate()
    }

    /// Has changes and ends acknowledged when a replica has them too. They go over `writer`, a connection of
    /// [`Role::Replicated`](understudy_runtime::redis::Role::Replicated) that nobody else uses, since it does nothing else
    /// while it waits: half of the time that a command may take at most.
    #[must_use]
    pub fn replicated(self, writer: Redis) -> Self {
        let replica = Some(writer.command_timeout() / 2);
        Self { writer, replica, ..self }.with_new_gate()
    }

    fn with_new_gate(self) -> Self {
        let way =
            Way { redis: self.writer.clone(), slack_ms: self.slack_ms, replica: self.replica };
        let noted = |bucket: Bucket| self.notes_unsaved.then(|| self.keys.unsaved_sessions(bucket));
        let gate = Gate::open(&way, self.keys.all_buckets().map(noted).collect());
        Self { gate, ..self }
    }

    /// Takes the names of the keys that this node has.
    #[must_use]
    pub fn opening(self, known: &KnownKeys) -> Self {
        let names: String = known.ids().iter().map(|id| format!(" {id} ")).collect();
        Self { known: names.into(), ..self }
    }

    fn session_key(&self, locator: Locator) -> String {
        self.keys.session(self.keys.bucket_of(locator.as_bytes()), &locator.to_string())
    }

    /// The session, the index of its bucket, and the list of public ids.
    fn session_and_index(&self, locator: Locator) -> Vec<String> {
        let bucket = self.keys.bucket_of(locator.as_bytes());
        let session = self.keys.session(bucket, &locator.to_string());
        vec![session, self.keys.session_expiry(bucket), self.keys.session_ids(bucket)]
    }

    /// The session, the leases of its bucket, the index, the list of public ids, and the set of sessions with a user.
    fn all_keys(&self, locator: Locator) -> Vec<String> {
        let mut keys = self.session_and_index(locator);
        keys.insert(1, self.keys.lease_table(self.keys.bucket_of(locator.as_bytes())));
        keys.push(self.named_key(locator));
        keys
    }

    /// The sessions of the bucket in which somebody is logged in.
    fn named_key(&self, locator: Locator) -> String {
        self.keys.session_named(self.keys.bucket_of(locator.as_bytes()))
    }

    /// What a session held when it ended.
    fn remains_key(&self, locator: Locator) -> String {
        let bucket = self.keys.bucket_of(locator.as_bytes());
        self.keys.session_remains(bucket, &locator.to_string())
    }

    /// How long that is kept; nothing when it is not.
    fn keep_remains(&self) -> Arg {
        match self.estate {
            Estate::Kept => number(AFTER_END_MS),
            Estate::Dropped => text(""),
        }
    }

    /// Adds where it is noted what the database does not have yet, if it is.
    fn noting(&self, mut keys: Vec<String>, locator: Locator) -> Vec<String> {
        if self.notes_unsaved {
            keys.push(self.keys.unsaved_sessions(self.keys.bucket_of(locator.as_bytes())));
        }
        keys
    }

    /// Calls a script that changes a session, and waits for a replica if that is wanted.
    async fn change(
        &self,
        script: &'static LazyLock<Script>,
        keys: Vec<String>,
        args: Vec<Arg>,
    ) -> Result<Vec<Reply>, StoreError> {
        let reply = call_and_wait(&self.writer, script, keys, args, self.replica).await?;
        if let Reply::Array(items) = reply { Ok(items) } else { Ok(vec![reply]) }
    }

    /// How much longer than a session its key stays.
    fn keep(&self) -> Arg {
        number(self.slack_ms.saturating_add(AFTER_END_MS))
    }

    async fn call(
        &self,
        script: &'static LazyLock<Script>,
        keys: Vec<String>,
        args: Vec<Arg>,
    ) -> Result<Vec<Reply>, StoreError> {
        let reply = self.redis.call(script, keys, args).await.map_err(failed)?;
        if let Reply::Array(items) = reply { Ok(items) } else { Ok(vec![reply]) }
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn create(
        &self,
        locator: Locator,
        record: &Record,
        lifetime_ms: u64,
    ) -> Result<CreateReply, StoreError> {
        let mut args = vec![
            number(lifetime_ms),
            number(record.idle_ms),
            number(self.slack_ms),
            self.keep(),
            text(&locator.to_string()),
            text(&register::in_list_of_ids(locator)),
        ];
        fields::all(record, fields::Times::Stores, &mut args);
        let mut keys = self.session_and_index(locator);
        keys.push(self.named_key(locator));
        let reply = self.change(&CREATE, self.noting(keys, locator), args).await?;
        match tag(&reply)? {
            "CREATED" => Ok(CreateReply::Created { now_ms: int(&reply, 1)? }),
            "EXISTS" => Ok(CreateReply::Exists),
            other => Err(unexpected(other)),
        }
    }

    async fn claim(
        &self,
        locator: Locator,
        token: &Token,
        known: Option<u64>,
    ) -> Result<ClaimReply, StoreError> {
        let args = vec![
            text(token.as_str()),
            text(token.node_text()),
            number(ms(self.lease)),
            known.map_or_else(|| text(""), number),
            number(self.slack_ms),
            self.keep(),
            text(&locator.to_string()),
            text(&register::in_list_of_ids(locator)),
            text(&self.known),
        ];
        let mut reply = self.call(&CLAIM, self.all_keys(locator), args).await?;
        let record = |item: Option<Reply>| item.map(fields::read).transpose();
        Ok(match tag(&reply)? {
            "OK" => {
                let [epoch, version, now_ms] = [int(&reply, 1)?, int(&reply, 2)?, int(&reply, 3)?];
                let unlisted = int(&reply, 4)? == 1;
                let record = record(reply.drain(5..).next())?.map(Box::new);
                if let Some(record) = record.as_ref().filter(|_| unlisted) {
                    self.list_elder(locator, record).await;
                }
                ClaimReply::Claimed { epoch, version, now_ms, record }
            }
            "OWNED" => {
                let owner = reply.get(1).and_then(as_text).map(|owner| Token::from_text(&owner));
                let node: Option<NodeId> = owner.as_ref().and_then(Token::node);
                let node = node.ok_or_else(|| StoreError::Unreadable("owner".to_owned()))?;
                let [remaining_ms, now_ms] = [int(&reply, 2)?, int(&reply, 3)?];
                let record = record(reply.drain(4..).next())?
                    .ok_or_else(|| unexpected("OWNED without fields"))?;
                ClaimReply::Owned { node, remaining_ms, now_ms, record: Box::new(record) }
            }
            "GRACE" => ClaimReply::Grace { remaining_ms: int(&reply, 1)? },
            "NONE" => ClaimReply::Missing,
            "REVOKED" => ClaimReply::Revoked,
            "EXPIRED" => ClaimReply::Expired,
            "UNREADABLE" => {
                let key = reply.get(1).and_then(as_text).and_then(|id| KeyId::new(&id));
                let other = || StoreError::Unreadable("its fields, or its format".to_owned());
                return Err(key.as_ref().map_or_else(other, unknown_key));
            }
            other => return Err(unexpected(other)),
        })
    }

    async fn read(&self, locator: Locator) -> Result<ReadReply, StoreError> {
        let found = self.redis.hgetall(&self.session_key(locator)).await.map_err(failed)?;
        if found.is_empty() {
            return Ok(ReadReply::Missing);
        }
        if found.iter().any(|(name, _)| name == fields::TOMBSTONE) {
            return Ok(ReadReply::Revoked);
        }
        Ok(ReadReply::Found(Box::new(fields::record(found.into_iter())?)))
    }

    async fn write(&self, write: Write<'_>) -> Result<WriteReply, StoreError> {
        let bucket = self.keys.bucket_of(write.locator.as_bytes());
        let key = self.keys.session(bucket, &write.locator.to_string());
        let reply = self.gate.pass(bucket, Prepared::new(key, &write)).await?;
        if let (Some(_), WriteReply::Written { now_ms, .. }) = (&write.change.user, &reply) {
            self.count_named(write.locator, write.after.absolute_ms.saturating_sub(*now_ms)).await;
        }
        if let (Some(absolute_ms), WriteReply::Written { now_ms, .. }) =
            (write.change.absolute_ms, &reply)
        {
            self.list_as_long(write.locator, absolute_ms.saturating_sub(*now_ms)).await;
        }
        Ok(reply)
    }

    fn takes_changes(&self) -> bool {
        true
    }

    async fn validate(
        &self,
        locator: Locator,
        fence: &Fence,
        version: u64,
    ) -> Result<ValidateReply, StoreError> {
        let args = vec![text(fence.token.as_str()), number(fence.epoch), number(version)];
        let reply = self.call(&VALIDATE, vec![self.session_key(locator)], args).await?;
        Ok(match tag(&reply)? {
            "OK" => {
                ValidateReply::Valid { last_access_ms: int(&reply, 1)?, now_ms: int(&reply, 2)? }
            }
            "GONE" => ValidateReply::Missing,
            "REVOKED" => ValidateReply::Revoked,
            "FENCED" => ValidateReply::Fenced,
            "REGRESSED" => ValidateReply::Regressed { version: int(&reply, 1)? },
            "CONFLICT" => ValidateReply::Conflict { version: int(&reply, 1)? },
            other => return Err(unexpected(other)),
        })
    }

    async fn restore(&self, locator: Locator, record: &Record) -> Result<RestoreReply, StoreError> {
        let Some(owner) = &record.owner else {
            return Ok(RestoreReply::Refused);
        };
        // First the roll, then the record: a roll may name too many, never too few.
        self.admit(locator, record).await?;
        let mut args = vec![
            text(owner.as_str()),
            number(record.epoch),
            number(record.version),
            number(record.idle_ms),
            number(record.absolute_ms),
            number(self.slack_ms),
            number(ms(self.lease)),
            self.keep(),
            number(record.last_access_ms),
            text(&locator.to_string()),
            text(&register::in_list_of_ids(locator)),
        ];
        fields::all(record, fields::Times::Own, &mut args);
        let keys = self.noting(self.all_keys(locator), locator);
        let reply = self.change(&RESTORE, keys, args).await?;
        Ok(match tag(&reply)? {
            "OK" => {
                // Who looked at both in between found a place without a session, and struck it off. From here on it is
                // there. When this fails the owner comes again, and finds its place by the first step.
                self.admit(locator, record).await?;
                RestoreReply::Restored
            }
            "REFUSED" => RestoreReply::Refused,
            "REVOKED" => RestoreReply::Revoked,
            other => return Err(unexpected(other)),
        })
    }

    async fn revoke(&self, locator: Locator, end: End) -> Result<RevokeReply, StoreError> {
        let stands = ms(self.lease).saturating_mul(2).max(60_000);
        let [slack, reason] = match end.reason() {
            Some(reason) => [text(""), text(reason.as_str())],
            None => [number(self.slack_ms), text("")],
        };
        let id = text(&register::in_list_of_ids(locator));
        let lease = number(ms(self.lease));
        let mut args = vec![number(stands), text(&locator.to_string()), slack, id, lease];
        args.extend([reason, self.keep_remains()]);
        let mut keys = self.session_and_index(locator);
        keys.push(self.keys.lease_table(self.keys.bucket_of(locator.as_bytes())));
        keys.extend([self.remains_key(locator), self.named_key(locator)]);
        let reply = self.change(&REVOKE, self.noting(keys, locator), args).await?;
        if let Some(user) = reply.get(2).and_then(as_text) {
            self.take_off_rolls(&[(user, locator)]).await;
        }
        Ok(match tag(&reply)? {
            "REVOKED" => {
                // Whoever counts guests meanwhile counts one too many; so it is when this fails.
                if reply.get(2).and_then(as_text).is_none() {
                    drop(self.guest_left(locator).await);
                }
                let owner = reply.get(1).and_then(as_text).filter(|owner| !owner.is_empty());
                RevokeReply::Revoked { owner: owner.map(|owner| Token::from_text(&owner)) }
            }
            "NONE" => RevokeReply::Missing,
            other => return Err(unexpected(other)),
        })
    }

    async fn release(&self, locator: Locator, fence: &Fence) -> Result<bool, StoreError> {
        let args = vec![text(fence.token.as_str()), number(fence.epoch)];
        let reply = self.call(&RELEASE, vec![self.session_key(locator)], args).await?;
        Ok(int(&reply, 0)? == 1)
    }

    async fn touch(&self, locator: Locator) -> Result<(), StoreError> {
        let args = vec![number(self.slack_ms), self.keep(), text(&locator.to_string())];
        let keys = self.noting(vec![self.session_key(locator)], locator);
        self.call(&TOUCH, keys, args).await.map(|_| ())
    }

    async fn sweep(
        &self,
        bucket: Bucket,
        limit: u32,
        hold: Option<Duration>,
    ) -> Result<Swept, StoreError> {
        self.sweep_bucket(bucket, limit, hold).await
    }

    async fn acknowledge(&self, expired: &Expired) -> Result<(), StoreError> {
        self.forget_told(expired).await
    }

    async fn last_state(&self, locator: Locator) -> Result<Option<Remains>, StoreError> {
        let found = self.redis.hgetall(&self.remains_key(locator)).await.map_err(failed)?;
        if found.is_empty() { Ok(None) } else { fields::remains(found.into_iter()).map(Some) }
    }
}

/// Calls a script, and waits for as long as `replica` says until a replica has what it changed. Without one the change is at
/// the primary all the same, and whoever asked is told that it may be.
async fn call_and_wait(
    redis: &Redis,
    script: &'static Script,
    keys: Vec<String>,
    args: Vec<Arg>,
    replica: Option<Duration>,
) -> Result<Reply, StoreError> {
    let Some(limit) = replica else {
        return redis.call(script, keys, args).await.map_err(failed);
    };
    let done = redis.call_replicated(script, keys, args, limit).await.map_err(failed)?;
    if done.replicas == 0 {
        metrics::counter!("session_unreplicated_total").increment(1);
        return Err(StoreError::Unavailable("no replica said in time that it has it".to_owned()));
    }
    Ok(done.reply)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn text(text: &str) -> Arg {
    Arg::from(text)
}

/// Numbers travel as text: Redis keeps them so, and compares them so.
fn number(number: u64) -> Arg {
    Arg::from(number.to_string())
}

fn as_text(value: &Reply) -> Option<String> {
    value.as_string()
}

fn tag(reply: &[Reply]) -> Result<&str, StoreError> {
    match reply.first() {
        Some(Reply::String(tag)) => Ok(tag),
        Some(Reply::Integer(_)) => Ok("integer"),
        _other => Err(unexpected("no tag")),
    }
}

fn int(reply: &[Reply], at: usize) -> Result<u64, StoreError> {
    reply.get(at).and_then(Reply::as_u64).ok_or_else(|| unexpected("no number"))
}

fn unexpected(what: &str) -> StoreError {
    StoreError::Unreadable(format!("unexpected reply of a script: {what}"))
}

/// What the server says while it starts, fails over or moves slots passes by itself; the step was not carried out.
pub(crate) fn failed(error: RedisError) -> StoreError {
    const PASSING: [&str; 7] =
        ["LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "NOREPLICAS", "BUSY"];
    let passes = error.is_retryable() || error.code().is_some_and(|code| PASSING.contains(&code));
    match error {
        // Something else stands there than a session, or a part of it is missing: the script stumbles over it.
        RedisError::Rejected(reason)
            if reason.contains("WRONGTYPE") || reason.contains("attempt to ") =>
        {
            StoreError::Unreadable(reason)
        }
        RedisError::Unavailable(reason)
        | RedisError::Rejected(reason)
        | RedisError::Protocol(reason)
            if passes =>
        {
            StoreError::Unavailable(reason)
        }
        RedisError::Rejected(reason) | RedisError::Unavailable(reason) => {
            StoreError::Refused(reason)
        }
        RedisError::Protocol(reason) => StoreError::Unreadable(reason),
    }
}
