//! Sessions in Redis that are kept in the database as well: a layer over both.
//!
//! *Who decides.* Redis does, as without this layer: ownership, fences and versions are its. The database has a copy with a
//! version, which only a later one replaces, whoever brings it and however late; and it has all ends, which nothing
//! replaces. So there is one order of a session's states, and the copy is one of them.
//!
//! *A change.* Its script notes in the same step that the database does not have it yet ([`super::redis`], `unsaved`). With
//! `write_behind` it is acknowledged then, and any node brings it over ([`Saver`]). With `write_through` it is acknowledged
//! when the database has it too. When the database is away meanwhile, the change is in Redis, noted, and not acknowledged: the
//! writer sends it again under its id, Redis recognises it, and the database is tried again. When nobody does, it comes to
//! the database later; then a client was told that it may or may not have been carried out, and it was. When the process
//! dies in between, it is the same.
//!
//! *A claim* looks into the database, so that whatever Redis lost is found before anybody builds upon what is left:
//!
//! | Redis | database | what happens |
//! |---|---|---|
//! | has it | the same version | goes on |
//! | has it | an older version, or nothing | goes on; with `write_through` it is brought there first, since an answer may have got lost |
//! | has it | a later version | the later one is put into Redis behind the fence of the claim: Redis lost writes |
//! | has it | an end | it is ended in Redis too: Redis lost the end |
//! | nothing, and the grace is over | a session | put into Redis, owned by nobody, with an epoch far above any that was given out; then it is claimed, and looked at once more |
//! | nothing | an end, or nothing | it is over |
//!
//! In the grace nothing is taken from the database: an owner that lives may have a later copy, and puts it back. When the
//! database is away, `write_through` lets nobody claim; `write_behind` goes on with what Redis has, and counts it
//! (`session_unchecked_total`).
//!
//! *An end* is answered when the database has it, in both modes, since a copy without its end would come to life when Redis is
//! lost. It is in force before that: Redis has it first. For a session that Redis does not have the end goes to Redis once
//! more after it went to the database, for somebody may have brought the session back in between.
//!
//! *What there is to tell of an end* is kept in Redis, and with it what the session held. When Redis has the session, its end
//! is told whoever finds it: one that only the database knew of is told once more, as [`End::Ordered`]. When only the database has
//! it, what it has is brought to Redis before the database forgets it. Whoever dies in between has it told twice at worst. The
//! end is not told when the queue took it to the database first, and that forgot what there was to tell.
//!
//! *Time.* Accesses come to the database with the next change, or by the queue. What ran out of time after the database heard all of it
//! needs no word: its copy has run out too. Of what ran out before, which waits in the queue, the database has an older copy, which may
//! last longer, for a login may have made the times shorter; so the sweep leaves its end in the queue, and who empties that and finds
//! no session ends the copy. What is in the database may have an access that Redis passed over, by a quarter of
//! the slack, so it comes back that much less than the slack after its idle time: what a sweep ended and told of stays over.

mod register;
mod saver;
mod settler;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use understudy_runtime::config::PersistMode;
use understudy_runtime::ids::Bucket;

use super::database::{DatabaseStore, Kept, Known};
use super::redis::{BroughtBack, RedisStore, Saved};
use super::{
    ClaimReply, CreateReply, End, Expired, ReadReply, Remains, RestoreReply, RevokeReply,
    SessionStore, StoreError, Swept, ValidateReply, Write, WriteReply,
};
use crate::record::{Fence, Locator, Record, Token};

use settler::Settler;

pub use saver::{SaveReport, Saver};

/// How long a request waits for the database.
const LIMIT: Duration = Duration::from_secs(1);
/// How often a claim is tried again when what it found had to be put right first.
const ATTEMPTS: usize = 4;
/// So far above the epoch of its copy a session is that comes back: more claims than there can have been since.
const ABOVE: u64 = 1 << 20;

/// A store in Redis with a copy in the database.
#[derive(Debug, Clone)]
pub struct PersistedStore {
    redis: RedisStore,
    archive: DatabaseStore,
    mode: PersistMode,
    longest: Duration,
    settler: Settler,
}

/// What a look into the database says of a claim.
enum Compared {
    /// It stands.
    Good,
    /// Something was put right: claim again.
    Again,
    /// The session was ended.
    Ended,
}

impl PersistedStore {
    /// Keeps what is in `redis` in `archive` as well: before a change is acknowledged with [`PersistMode::WriteThrough`], else
    /// later, which takes a [`Saver`] on some node. `longest` is how long a session may live at most. The tokio runtime this is
    /// called on drives its writes.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(
        redis: RedisStore,
        archive: DatabaseStore,
        mode: PersistMode,
        longest: Duration,
    ) -> Self {
        let redis = redis.noting_unsaved();
        let settler = Settler::start(&redis);
        Self { redis, archive, mode, longest, settler }
    }

    /// Makes what brings to the database what it does not have yet; `name` tells nodes apart.
    #[must_use]
    pub fn saver(&self, name: &str) -> Saver {
        let at_once = self.mode == PersistMode::WriteThrough;
        Saver::new(self.redis.clone(), self.archive.clone(), self.longest).named(name, at_once)
    }

    /// Keeps a session in the database.
    async fn keep(&self, locator: Locator, record: &Record) -> Result<Kept, StoreError> {
        let put = self.archive.prepare(locator, record)?;
        let kept = within(self.archive.put(put)).await?;
        if kept != Kept::Ended {
            let (epoch, version) = (record.epoch, record.version);
            self.settler.settle(Saved::Session { locator, epoch, version, last_access_ms: None });
        }
        Ok(kept)
    }

    /// Ends in Redis what the database says was ended. Why it was, is not known any more.
    async fn end_in_redis(&self, locator: Locator) -> Result<(), StoreError> {
        self.redis.revoke(locator, End::Ordered).await?;
        self.settler.settle(Saved::End(locator));
        metrics::counter!("session_recovered_total", "why" => "ended").increment(1);
        Ok(())
    }

    /// Compares what was claimed with what the database has. `record` is what was claimed, unless the caller knows it.
    async fn compare(
        &self,
        locator: Locator,
        fence: &Fence,
        version: u64,
        record: Option<&Record>,
    ) -> Result<Compared, StoreError> {
        let through = self.mode == PersistMode::WriteThrough;
        let compared = match within(self.archive.known_of(locator)).await {
            Ok(Known::Version(known)) if known > version => self.repair(locator, fence).await,
            Ok(Known::Version(known)) if known == version => Ok(Compared::Good),
            // A write of the owner before, whose answer got lost, is taken for acknowledged by whoever finds it here.
            Ok(Known::Version(_) | Known::Nothing) if through => {
                self.catch_up(locator, record).await
            }
            Ok(Known::Version(_) | Known::Nothing) => Ok(Compared::Good),
            Ok(Known::Ended) => self.end_in_redis(locator).await.map(|()| Compared::Ended),
            Err(error @ StoreError::Unavailable(_)) if !through => {
                metrics::counter!("session_unchecked_total").increment(1);
                tracing::debug!(%error, "a session is used as Redis has it: the database is away");
                Ok(Compared::Good)
            }
            Err(error) => Err(error),
        };
        if compared.is_err() {
            // Another node may reach the database.
            if let Err(error) = self.redis.release(locator, fence).await {
                tracing::debug!(%error, "a session that was not compared waits for this node");
            }
        }
        compared
    }

    /// Brings to the database what was claimed, before anybody takes it for acknowledged.
    async fn catch_up(
        &self,
        locator: Locator,
        record: Option<&Record>,
    ) -> Result<Compared, StoreError> {
        let kept = match record {
            Some(record) => self.keep(locator, record).await?,
            None => {
                let ReadReply::Found(record) = self.redis.read(locator).await? else {
                    return Ok(Compared::Again); // ended meanwhile
                };
                self.keep(locator, &record).await?
            }
        };
        if kept == Kept::Ended {
            self.end_in_redis(locator).await?;
            return Ok(Compared::Ended);
        }
        Ok(Compared::Good)
    }

    /// Puts the later version of the database into Redis, behind the fence of a claim.
    async fn repair(&self, locator: Locator, fence: &Fence) -> Result<Compared, StoreError> {
        let ReadReply::Found(record) = within(self.archive.read(locator)).await? else {
            return Ok(Compared::Again); // ended meanwhile
        };
        let mut record = *record;
        record.owner = Some(fence.token.clone());
        record.epoch = fence.epoch;
        if self.redis.restore(locator, &record).await? == RestoreReply::Restored {
            metrics::counter!("session_recovered_total", "why" => "behind").increment(1);
            tracing::warn!(
                session.id = locator.id_for_logs(),
                "Redis had lost writes of a session, which came back from the database"
            );
        }
        Ok(Compared::Again)
    }

    /// Ends a session that Redis does not have. The mark that was left there sees to it that the database hears of the end
    /// even when it does not have the session yet: somebody may be bringing over what Redis had before it was emptied.
    async fn revoke_missing(&self, locator: Locator, end: End) -> Result<RevokeReply, StoreError> {
        let known = match within(self.archive.known_of(locator)).await {
            Ok(known) => known,
            Err(_) if end == End::OutOfTime => Known::Nothing,
            Err(error) => return Err(error),
        };
        match known {
            Known::Nothing | Known::Ended => return Ok(RevokeReply::Missing),
            Known::Version(_) => {
                self.tell_of(locator, end).await?;
                within(self.archive.keep_end(locator, self.longest)).await?;
            }
        }
        // Somebody may have brought it back before the database had its end.
        self.redis.revoke(locator, end).await
    }

    /// Keeps in Redis what there is to tell of a session that only the database has, before that forgets it.
    async fn tell_of(&self, locator: Locator, end: End) -> Result<(), StoreError> {
        let Some(reason) = end.reason() else { return Ok(()) };
        match within(self.archive.read(locator)).await {
            Ok(ReadReply::Found(record)) if !record.is_child() => {
                self.redis.tell_of(locator, &record, reason).await
            }
            // What cannot be read ends all the same, and nobody can say what it was.
            Ok(ReadReply::Found(_) | ReadReply::Missing | ReadReply::Revoked)
            | Err(StoreError::Unreadable(_)) => Ok(()),
            Err(error @ (StoreError::Unavailable(_) | StoreError::Refused(_))) => Err(error),
        }
    }

    /// Takes a session from the database that Redis does not have; gives the answer to a claim that nothing came of.
    async fn bring_back(&self, locator: Locator) -> Result<Option<ClaimReply>, StoreError> {
        let mut record = match within(self.archive.read(locator)).await? {
            ReadReply::Found(record) => *record,
            ReadReply::Missing | ReadReply::Revoked => return Ok(Some(ClaimReply::Missing)),
        };
        record.epoch = record.epoch.saturating_add(ABOVE);
        Ok(match self.redis.bring_back(locator, &record).await? {
            BroughtBack::Back => {
                metrics::counter!("session_recovered_total", "why" => "missing").increment(1);
                tracing::debug!(
                    session.id = locator.id_for_logs(),
                    "a session that Redis had lost came back from the database"
                );
                None
            }
            BroughtBack::There => None,
            BroughtBack::Grace { remaining_ms } => Some(ClaimReply::Grace { remaining_ms }),
            BroughtBack::Over => Some(ClaimReply::Missing),
        })
    }
}

/// Bounds what a request waits for at the database; it may be carried out all the same.
async fn within<T>(
    step: impl Future<Output = Result<T, StoreError>> + Send,
) -> Result<T, StoreError> {
    timeout(LIMIT, step).await.unwrap_or_else(|_elapsed| {
        Err(StoreError::Unavailable("the database did not answer in time".to_owned()))
    })
}

/// Redis has carried out what the database does not take: nobody may be told that nothing happened.
fn is_in_redis(error: StoreError) -> StoreError {
    let (StoreError::Unavailable(why) | StoreError::Refused(why) | StoreError::Unreadable(why)) =
        error;
    StoreError::Unavailable(why)
}

#[async_trait]
impl SessionStore for PersistedStore {
    async fn create(
        &self,
        locator: Locator,
        record: &Record,
        lifetime_ms: u64,
    ) -> Result<CreateReply, StoreError> {
        // Only a child begins again under its locator. The database would end it once more, with all that was written meanwhile.
        if record.is_child() && within(self.archive.known_of(locator)).await? == Known::Ended {
            return Ok(CreateReply::Exists);
        }
        let reply = self.redis.create(locator, record, lifetime_ms).await?;
        if let (CreateReply::Created { now_ms }, PersistMode::WriteThrough) = (&reply, self.mode) {
            let record = Record {
                version: 1,
                created_ms: *now_ms,
                last_access_ms: *now_ms,
                absolute_ms: now_ms.saturating_add(lifetime_ms),
                ..record.clone()
            };
            if self.keep(locator, &record).await? == Kept::Ended {
                self.end_in_redis(locator).await?;
                return Ok(CreateReply::Exists);
            }
        }
        Ok(reply)
    }

    async fn claim(
        &self,
        locator: Locator,
        token: &Token,
        known_version: Option<u64>,
    ) -> Result<ClaimReply, StoreError> {
        let mut known_version = known_version;
        for _ in 0..ATTEMPTS {
            match self.redis.claim(locator, token, known_version).await? {
                ClaimReply::Claimed { epoch, version, now_ms, record } => {
                    let fence = Fence { token: token.clone(), epoch };
                    match self.compare(locator, &fence, version, record.as_deref()).await? {
                        Compared::Good => {
                            return Ok(ClaimReply::Claimed { epoch, version, now_ms, record });
                        }
                        Compared::Again => {}
                        Compared::Ended => return Ok(ClaimReply::Revoked),
                    }
                }
                ClaimReply::Missing => {
                    if let Some(reply) = self.bring_back(locator).await? {
                        return Ok(reply);
                    }
                }
                other @ (ClaimReply::Owned { .. }
                | ClaimReply::Grace { .. }
                | ClaimReply::Revoked
                | ClaimReply::Expired) => return Ok(other),
            }
            // What it holds now came from elsewhere: a copy of the caller's proves nothing.
            known_version = None;
        }
        Err(StoreError::Unavailable("the session is being put right".to_owned()))
    }

    async fn read(&self, locator: Locator) -> Result<ReadReply, StoreError> {
        // What is missing is confirmed by a claim.
        self.redis.read(locator).await
    }

    async fn write(&self, write: Write<'_>) -> Result<WriteReply, StoreError> {
        let reply = self.redis.write(write).await?;
        if self.mode != PersistMode::WriteThrough {
            return Ok(reply);
        }
        let now_ms = match &reply {
            WriteReply::Written { now_ms, .. } => *now_ms,
            // It was in already, or something that was made upon it is.
            WriteReply::Duplicate { .. } => {
                return match self.catch_up(write.locator, None).await.map_err(is_in_redis)? {
                    Compared::Good => Ok(reply),
                    Compared::Again => Ok(WriteReply::Missing),
                    Compared::Ended => Ok(WriteReply::Revoked),
                };
            }
            WriteReply::Missing
            | WriteReply::Revoked
            | WriteReply::Fenced
            | WriteReply::Regressed { .. }
            | WriteReply::Conflict { .. } => return Ok(reply),
        };
        let mut record = write.after.clone();
        record.owner = Some(write.fence.token.clone());
        record.epoch = write.fence.epoch;
        record.version = write.base_version.saturating_add(1);
        record.last_access_ms = record.last_access_ms.max(now_ms);
        // A later version there is one that was made upon this one: versions are given out by Redis, one by one.
        if self.keep(write.locator, &record).await.map_err(is_in_redis)? == Kept::Ended {
            self.end_in_redis(write.locator).await?;
            return Ok(WriteReply::Revoked);
        }
        Ok(reply)
    }

    fn takes_changes(&self) -> bool {
        self.mode != PersistMode::WriteThrough
    }

    async fn validate(
        &self,
        locator: Locator,
        fence: &Fence,
        version: u64,
    ) -> Result<ValidateReply, StoreError> {
        self.redis.validate(locator, fence, version).await
    }

    /// Asks the database nothing: many sessions are put back at once, in the short time of a grace. A session that was ended
    /// is found when it is brought to the database.
    async fn restore(&self, locator: Locator, record: &Record) -> Result<RestoreReply, StoreError> {
        self.redis.restore(locator, record).await
    }

    async fn revoke(&self, locator: Locator, end: End) -> Result<RevokeReply, StoreError> {
        let reply = self.redis.revoke(locator, end).await?;
        if reply == RevokeReply::Missing {
            return self.revoke_missing(locator, end).await;
        }
        match within(self.archive.keep_end(locator, self.longest)).await {
            Ok(()) => self.settler.settle(Saved::End(locator)),
            // By its times it is over there too, or will be in a moment.
            Err(error) if end == End::OutOfTime => {
                tracing::debug!(%error, "the database hears later of a session that ran out of time");
            }
            Err(error) => return Err(error),
        }
        Ok(reply)
    }

    async fn release(&self, locator: Locator, fence: &Fence) -> Result<bool, StoreError> {
        self.redis.release(locator, fence).await
    }

    async fn touch(&self, locator: Locator) -> Result<(), StoreError> {
        self.redis.touch(locator).await
    }

    async fn sweep(
        &self,
        bucket: Bucket,
        limit: u32,
        hold: Option<Duration>,
    ) -> Result<Swept, StoreError> {
        self.redis.sweep(bucket, limit, hold).await
    }

    async fn acknowledge(&self, expired: &Expired) -> Result<(), StoreError> {
        self.redis.acknowledge(expired).await
    }

    async fn last_state(&self, locator: Locator) -> Result<Option<Remains>, StoreError> {
        self.redis.last_state(locator).await
    }
}
