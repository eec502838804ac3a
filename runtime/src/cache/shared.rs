//! The tier that all nodes share: what a region has in Redis. What each script promises stands in its file.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::notice::{self, Notice};
use crate::bus::{Bus, BusRequest, Targets};
use crate::keys::{CachePart, KeySpace};
use crate::redis::{Arg, Redis, RedisError, Reply, Script};

static TAKE: LazyLock<Script> = LazyLock::new(|| {
    let text =
        concat!(include_str!("head.lua"), include_str!("life.lua"), include_str!("take.lua"));
    Script::new("cache.take", text)
});
static FILL: LazyLock<Script> = LazyLock::new(|| {
    let text =
        concat!(include_str!("head.lua"), include_str!("life.lua"), include_str!("fill.lua"));
    Script::new("cache.fill", text)
});
static FORGET: LazyLock<Script> = LazyLock::new(|| {
    let text = concat!(include_str!("head.lua"), include_str!("forget.lua"));
    Script::even_when_full("cache.forget", text)
});
static FORGET_TAG: LazyLock<Script> = LazyLock::new(|| {
    let text = concat!(include_str!("head.lua"), include_str!("forget_tag.lua"));
    Script::even_when_full("cache.forget_tag", text)
});
static CLEAR: LazyLock<Script> = LazyLock::new(|| {
    let text = concat!(include_str!("head.lua"), include_str!("clear.lua"));
    Script::even_when_full("cache.clear", text)
});
static NEWS: LazyLock<Script> = LazyLock::new(|| {
    let text =
        concat!(include_str!("head.lua"), include_str!("life.lua"), include_str!("news.lua"));
    Script::even_when_full("cache.news", text)
});

/// How long a value is waited for: whoever asks for one would rather load it than wait.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many entries a log has, about.
pub(super) const MOST_ENTRIES: u32 = 10_000;
/// How many entries are read at a time.
const AT_ONCE: u32 = 1_000;

/// Tells other nodes that a region has news; if it is lost they look a little later.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LookForNews {
    pub(super) region: String,
}

impl BusRequest for LookForNews {
    const NAME: &'static str = "cache.news";
    type Reply = ();
}

/// What a region has in Redis, and the way to the other nodes.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) redis: Redis,
    pub(super) keys: Arc<KeySpace>,
    pub(super) region: String,
    pub(super) bus: Bus,
    pub(super) nodes: Targets,
}

/// A value that is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) key: &'a str,
    pub(super) tags: &'a [Arc<str>],
}

/// What becomes of somebody who asks for a value.
#[derive(Debug)]
pub(super) enum Found {
    /// It is there, as JSON, and lives for so long.
    Held(String, Duration),
    /// It is not, and the asker may load it for all.
    Lease,
    /// Another node loads it.
    Busy,
    /// It is being changed: what is loaded now may be old in a moment.
    Blocked,
    /// Redis did not say.
    Unknown,
}

/// Which part of a change is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// All of it: it is made.
    Once,
    /// It begins.
    Begin,
    /// It was made.
    End,
}

/// Up to where a node has read the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Of which life of the region.
    pub(super) life: String,
    /// The last entry that was read.
    pub(super) last: u64,
}

/// What the log tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// These entries follow on what was read; the newest there is has this number.
    Follow(Vec<Forgotten>, u64),
    /// Not all is there that came: everything is to be forgotten. The log is here.
    Anew(Place),
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Forgotten {
    /// The value of this key.
    One(String),
    /// Those that carry this tag.
    Tagged(String),
    /// All of them.
    All,
}

impl Shared {
    fn key(&self, part: CachePart<'_>) -> String {
        self.keys.cache(&self.region, part)
    }

    /// The head and the log, and the parts of a key.
    fn keys_of(&self, key: &str) -> Vec<String> {
        let parts = [
            CachePart::Head,
            CachePart::Log,
            CachePart::Value(key),
            CachePart::Lease(key),
            CachePart::Writers(key),
        ];
        parts.into_iter().map(|part| self.key(part)).collect()
    }

    /// The same, and its tags.
    fn keys_of_wanted(&self, wanted: Wanted<'_>) -> Vec<String> {
        let mut keys = self.keys_of(wanted.key);
        keys.extend(wanted.tags.iter().map(|tag| self.key(CachePart::Tag(tag))));
        keys
    }

    /// Looks for a value; `word` is that of the asker. One that lives less long than `least` counts as none.
    pub(super) async fn take_newer(
        &self,
        wanted: Wanted<'_>,
        word: &str,
        lease: Duration,
        least: Duration,
    ) -> Found {
        let args = vec![Arg::from(word), millis(lease), millis(least)];
        let call = self.redis.call(&TAKE, self.keys_of_wanted(wanted), args);
        let reply = tokio::time::timeout(PATIENCE, call).await;
        reply.ok().and_then(Result::ok).and_then(found).unwrap_or(Found::Unknown)
    }

    /// Stores what was loaded under the lease; says whether it is there.
    pub(super) async fn fill(
        &self,
        wanted: Wanted<'_>,
        word: &str,
        value: &str,
        lives: Duration,
    ) -> bool {
        let args = vec![Arg::from(word), Arg::from(value), millis(lives)];
        let call = self.redis.call(&FILL, self.keys_of_wanted(wanted), args);
        let reply = tokio::time::timeout(PATIENCE, call).await;
        matches!(reply, Ok(Ok(reply)) if reply.as_u64() == Some(1))
    }

    /// Gives a lease back.
    pub(super) async fn give_up(&self, wanted: Wanted<'_>, word: &str) {
        self.fill(wanted, word, "", Duration::ZERO).await;
    }

    /// What is told of a value that is forgotten; the word is that of whoever changes it.
    pub(super) fn notice(&self, key: &str, step: (Step, &str), hold: Duration) -> Notice {
        Notice::new((&self.keys, &self.region), key, step, hold)
    }

    /// Forgets a value on all nodes, with a call of its own.
    pub(super) async fn forget(
        &self,
        key: &str,
        step: (Step, &str),
        hold: Duration,
    ) -> Result<(), RedisError> {
        let mut told = self.forget_all(vec![self.notice(key, step, hold)]).await;
        told.pop().unwrap_or_else(|| Err(unexpected()))
    }

    /// Forgets values on all nodes, in one step; says of each what came of it.
    pub(super) async fn forget_all(&self, notices: Vec<Notice>) -> Vec<Result<(), RedisError>> {
        let count = notices.len();
        let changes: Vec<usize> =
            (0..count).filter(|place| notices[*place].is_of_change()).collect();
        let head = [self.key(CachePart::Head), self.key(CachePart::Log)];
        let (keys, args) = notice::spell(head, notices);
        let called = self.redis.call(&FORGET, keys, args).await;
        match called.and_then(|reply| refused(&reply).ok_or_else(unexpected)) {
            Ok(refused) => {
                let mut told: Vec<Result<(), RedisError>> = vec![Ok(()); count];
                for (place, why) in refused {
                    if let Some(place) = changes.get(place) {
                        told[*place] = Err(RedisError::Rejected(why));
                    }
                }
                told
            }
            Err(error) => vec![Err(error); count],
        }
    }

    /// Forgets all values that carry a tag on all nodes; `longest` is longer than any of them lives or is loaded.
    pub(super) async fn forget_tag(&self, tag: &str, longest: Duration) -> Result<(), RedisError> {
        let parts = [CachePart::Head, CachePart::Log, CachePart::Tag(tag)];
        let keys = parts.into_iter().map(|part| self.key(part)).collect();
        let args = vec![Arg::from(tag), millis(longest), Arg::from(MOST_ENTRIES.to_string())];
        self.redis.call(&FORGET_TAG, keys, args).await.map(drop)
    }

    /// Forgets all values of the region on all nodes.
    pub(super) async fn clear(&self) -> Result<(), RedisError> {
        let keys = vec![self.key(CachePart::Head), self.key(CachePart::Log)];
        let args = vec![Arg::from(MOST_ENTRIES.to_string())];
        self.redis.call(&CLEAR, keys, args).await.map(drop)
    }

    /// Reads what came after a place in the log.
    pub(super) async fn news(&self, after: &Place, limit: Duration) -> Result<News, RedisError> {
        let keys = vec![self.key(CachePart::Head), self.key(CachePart::Log)];
        let mut args = vec![Arg::from(after.life.clone()), Arg::from(after.last.to_string())];
        args.push(Arg::from(AT_ONCE.to_string()));
        let late = |_| RedisError::Unavailable("no answer in time".to_owned());
        let reply = tokio::time::timeout(limit, self.redis.call(&NEWS, keys, args)).await;
        news(&reply.map_err(late)??).ok_or_else(unexpected)
    }

    /// Has the other nodes look.
    pub(super) fn tell(&self) {
        let news = LookForNews { region: self.region.clone() };
        for node in (self.nodes)() {
            if node != *self.bus.node_id() {
                self.bus.send(&node, &news);
            }
        }
    }
}

pub(super) fn millis(time: Duration) -> Arg {
    Arg::from(time.as_millis().to_string())
}

fn unexpected() -> RedisError {
    RedisError::Protocol("unexpected reply of a script of the cache".to_owned())
}

/// The changes that could not be noted, by their places among those of a call, and why.
fn refused(reply: &Reply) -> Option<Vec<(usize, String)>> {
    let Reply::Array(items) = reply else { return None };
    let [_newest, refused @ ..] = items.as_slice() else { return None };
    let (pairs, rest) = refused.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let mut refused: Vec<(usize, String)> = Vec::with_capacity(pairs.len());
    for [place, why] in pairs {
        // Lua counts from one.
        let place = usize::try_from(place.as_u64()?).ok()?.checked_sub(1)?;
        refused.push((place, why.as_string()?));
    }
    Some(refused)
}

fn found(reply: Reply) -> Option<Found> {
    let Reply::Array(items) = reply else { return None };
    let mut items = items.into_iter();
    let kind = items.next()?.as_string()?;
    match kind.as_str() {
        "HELD" => {
            let value = items.next()?.into_string()?;
            Some(Found::Held(value, Duration::from_millis(items.next()?.as_u64()?)))
        }
        "LEASE" => Some(Found::Lease),
        "BUSY" => Some(Found::Busy),
        "BLOCKED" => Some(Found::Blocked),
        _ => None,
    }
}

fn news(reply: &Reply) -> Option<News> {
    let Reply::Array(items) = reply else { return None };
    let [kind, life, newest, entries @ ..] = items.as_slice() else { return None };
    let (kind, life, newest) = (kind.as_string()?, life.as_string()?, newest.as_u64()?);
    if kind == "ANEW" {
        return Some(News::Anew(Place { life, last: newest }));
    }
    let (pairs, rest) = entries.as_chunks::<2>();
    if kind != "NEWS" || !rest.is_empty() {
        return None;
    }
    let mut forgotten = Vec::with_capacity(pairs.len());
    for [field, key] in pairs {
        forgotten.push(match field.as_string()?.as_str() {
            "k" => Forgotten::One(key.as_string()?),
            "t" => Forgotten::Tagged(key.as_string()?),
            // Also what a newer release means by a word that this one does not know: all is never too little.
            _ => Forgotten::All,
        });
    }
    Some(News::Follow(forgotten, newest))
}
