//! Streams in Redis: one key for each, added to and read by one script each. With keys (`UNDERSTUDY_SESSION_ENCRYPTION_KEYS`)
//! values are sealed, as what sessions hold is.

use std::sync::{Arc, LazyLock};

use understudy_runtime::keys::KeySpace;
use understudy_runtime::redis::{Arg, Redis, Reply, Script};

use super::{AT_ONCE, Read};
use crate::realtime::event::SessionEvent;
use crate::realtime::position::Mark;
use crate::realtime::{KEPT_FOR, MOST_EVENTS, Topic};
use crate::sealing::{Place, SealRing};
use crate::store::StoreError;
use crate::store::redis::failed;

static TELL: LazyLock<Script> = LazyLock::new(|| {
    let text = concat!(include_str!("begin.lua"), include_str!("tell.lua"));
    Script::new("session.tell", text)
});
static LISTEN: LazyLock<Script> = LazyLock::new(|| {
    let text = concat!(include_str!("begin.lua"), include_str!("listen.lua"));
    Script::new("session.listen", text)
});
static NEWS: LazyLock<Script> = LazyLock::new(|| {
    let text = concat!(include_str!("begin.lua"), include_str!("news.lua"));
    Script::new("session.news", text)
});

/// Marks a value that is not sealed, and one that is.
const PLAIN: &str = "d";
const SEALED: &str = "s";

/// Keeps events in Redis.
#[derive(Debug)]
pub(in crate::realtime) struct RedisLog {
    redis: Redis,
    keys: Arc<KeySpace>,
    ring: SealRing,
}

impl RedisLog {
    pub(in crate::realtime) fn new(redis: Redis, keys: Arc<KeySpace>, ring: SealRing) -> Self {
        Self { redis, keys, ring }
    }

    fn key(&self, topic: &Topic) -> String {
        match topic {
            Topic::Session(locator) => {
                let bucket = self.keys.bucket_of(locator.as_bytes());
                self.keys.session_events(bucket, &locator.to_string())
            }
            Topic::User(digest) => self.keys.user_events(digest),
        }
    }

    async fn call(
        &self,
        script: &'static LazyLock<Script>,
        topic: &Topic,
        args: Vec<Arg>,
    ) -> Result<Vec<Reply>, StoreError> {
        let reply = self.redis.call(script, vec![self.key(topic)], args).await.map_err(failed)?;
        if let Reply::Array(items) = reply { Ok(items) } else { Ok(vec![reply]) }
    }

    pub(super) async fn append(
        &self,
        topic: &Topic,
        event: &SessionEvent,
    ) -> Result<(), StoreError> {
        let (mark, value) = match self.ring.sealer() {
            Some(sealer) => (SEALED, sealer.seal(place(topic), event.data())),
            None => (PLAIN, event.data().to_owned()),
        };
        let mut args = vec![Arg::from(event.name()), Arg::from(mark), Arg::from(value)];
        args.extend([Arg::from(MOST_EVENTS.to_string()), kept_for()]);
        self.call(&TELL, topic, args).await.map(|_| ())
    }

    pub(super) async fn newest(&self, topic: &Topic) -> Result<Mark, StoreError> {
        mark(&self.call(&LISTEN, topic, vec![kept_for()]).await?)
    }

    pub(super) async fn read(&self, topic: &Topic, after: Mark) -> Result<Read, StoreError> {
        let mut args = vec![Arg::from(after.birth.to_string())];
        args.extend([Arg::from(after.number.to_string()), Arg::from(AT_ONCE.to_string())]);
        args.push(kept_for());
        let reply = self.call(&NEWS, topic, args).await?;
        let kind = reply.first().and_then(Reply::as_string);
        match kind.as_deref() {
            Some("GAP") => Ok(Read::Gap(mark(&reply[1..])?)),
            Some("OK") => self.news(topic, after, &reply[1..]),
            Some(_) | None => Err(unexpected()),
        }
    }

    fn news(&self, topic: &Topic, after: Mark, reply: &[Reply]) -> Result<Read, StoreError> {
        let (found, rest) = reply.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(unexpected());
        }
        let (mut events, mut latest, mut lost) = (Vec::new(), after, false);
        for [number, name, mark, value] in found {
            let number = number.as_u64().ok_or_else(unexpected)?;
            let name = name.as_string().ok_or_else(unexpected)?;
            let value = value.as_string().ok_or_else(unexpected)?;
            latest.number = number;
            if mark.as_string().as_deref() != Some(SEALED) {
                events.push((number, SessionEvent::kept(name, value)));
                continue;
            }
            match self.ring.open(place(topic), &value) {
                Ok(value) => events.push((number, SessionEvent::kept(name, value))),
                Err(error) => {
                    tracing::warn!(%error, "an event cannot be opened: pages read everything anew");
                    lost = true;
                }
            }
        }
        // The page reads everything anew, what the others say too.
        Ok(if lost { Read::Gap(latest) } else { Read::News(events) })
    }
}

/// Where a value is sealed for.
fn place(topic: &Topic) -> Place<'_> {
    match topic {
        Topic::Session(locator) => Place::event_of_session(*locator),
        Topic::User(digest) => Place::event_of_user(digest),
    }
}

fn kept_for() -> Arg {
    Arg::from(KEPT_FOR.as_millis().to_string())
}

fn mark(reply: &[Reply]) -> Result<Mark, StoreError> {
    let [birth, number] = reply else { return Err(unexpected()) };
    let birth = birth.as_string().and_then(|birth| birth.parse().ok());
    let number = number.as_u64();
    birth.zip(number).map(|(birth, number)| Mark { birth, number }).ok_or_else(unexpected)
}

fn unexpected() -> StoreError {
    StoreError::Unreadable("unexpected reply of a script of events".to_owned())
}
