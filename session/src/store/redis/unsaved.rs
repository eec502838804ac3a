//! What the database does not have yet of the sessions in Redis, and sessions that come back from there.
//!
//! The same scripts that change a session put its locator into a sorted set of its bucket, so in the same slot; an end puts a
//! mark of its own there, which outlives the tombstone. Nothing leaves the set before the database has what the session
//! holds *at that moment*, which the last script compares. So a node that dies while it empties the set loses nothing, and
//! two that do so at once only work twice. The set holds each session once at most: it grows no further than there are
//! sessions and ends of the time in which the database was away.

use std::time::Duration;

use understudy_runtime::ids::Bucket;
use understudy_runtime::redis::Arg;

use super::{
    BRING_BACK, LEAVE_UNSAVED, RedisStore, SETTLE, TAKE_UNSAVED, as_text, fields, int, ms, number,
    register, tag, text, unexpected,
};
use crate::record::{Locator, Record};
use crate::store::StoreError;

/// The mark of an end.
const END: char = '!';

/// Something that the database does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Unsaved {
    /// What a session holds by now.
    Session(Locator),
    /// That it was ended.
    End(Locator),
}

/// What is handed out of the queue of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Taken {
    /// The caller may empty the queue; else another node does.
    pub(in crate::store) mine: bool,
    /// How many there are in all.
    pub(in crate::store) waiting: u64,
    /// How long the oldest one has waited.
    pub(in crate::store) oldest: Duration,
    /// Those that are handed out, the oldest first.
    pub(in crate::store) some: Vec<Unsaved>,
}

/// What became of something that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Saved {
    /// The database has the session as it was then.
    Session {
        /// Which.
        locator: Locator,
        /// Epoch that was saved.
        epoch: u64,
        /// Version that was saved.
        version: u64,
        /// Latest access that was saved; `None`: later ones than it had may be passed over.
        last_access_ms: Option<u64>,
    },
    /// There was no session any more.
    Nothing(Locator),
    /// The database knows that it was ended.
    End(Locator),
    /// It could not be saved, and comes last from now on.
    Failed(Unsaved),
}

/// What came of bringing a session back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum BroughtBack {
    /// It is there, and nobody owns it.
    Back,
    /// Something is there already.
    There,
    /// Nobody can for so many ms: an owner may put back a newer copy.
    Grace {
        /// How long, ms.
        remaining_ms: u64,
    },
    /// It was ended, or ran out of time.
    Over,
}

impl Unsaved {
    /// Gives the session that it is about.
    pub(in crate::store) const fn locator(self) -> Locator {
        match self {
            Self::Session(locator) | Self::End(locator) => locator,
        }
    }

    fn member(self) -> String {
        match self {
            Self::Session(locator) => locator.to_string(),
            Self::End(locator) => format!("{END}{locator}"),
        }
    }

    fn from_member(member: &str) -> Option<Self> {
        match member.strip_prefix(END) {
            Some(locator) => locator.parse().ok().map(Self::End),
            None => member.parse().ok().map(Self::Session),
        }
    }
}

impl Saved {
    /// Gives the session that it is about.
    pub(in crate::store) const fn locator(self) -> Locator {
        match self {
            Self::Session { locator, .. } | Self::Nothing(locator) | Self::End(locator) => locator,
            Self::Failed(unsaved) => unsaved.locator(),
        }
    }
}

impl RedisStore {
    /// Hands out what has waited longest in a bucket, unless another node is being handed it.
    pub(in crate::store) async fn take_unsaved(
        &self,
        bucket: Bucket,
        take: &Take<'_>,
    ) -> Result<Taken, StoreError> {
        let keys = vec![self.keys.unsaved_sessions(bucket), self.keys.session_saver(bucket)];
        let args = vec![
            text(take.saver),
            number(ms(take.hold)),
            number(ms(take.min_age)),
            number(take.limit.into()),
        ];
        let reply = self.call(&TAKE_UNSAVED, keys, args).await?;
        // What is no member of ours is left; nothing depends on it.
        let some = reply.iter().skip(3).filter_map(as_text);
        Ok(Taken {
            mine: int(&reply, 0)? == 1,
            waiting: int(&reply, 1)?,
            oldest: Duration::from_millis(int(&reply, 2)?),
            some: some.filter_map(|member| Unsaved::from_member(&member)).collect(),
        })
    }

    /// Lets another node empty the queue of a bucket.
    pub(in crate::store) async fn leave_unsaved(
        &self,
        bucket: Bucket,
        saver: &str,
    ) -> Result<(), StoreError> {
        let keys = vec![self.keys.session_saver(bucket)];
        self.call(&LEAVE_UNSAVED, keys, vec![text(saver)]).await.map(|_| ())
    }

    /// Takes off the queue of a bucket what the database has.
    pub(in crate::store) async fn settle(
        &self,
        bucket: Bucket,
        saved: &[Saved],
    ) -> Result<(), StoreError> {
        if saved.is_empty() {
            return Ok(());
        }
        let mut keys = vec![self.keys.unsaved_sessions(bucket)];
        let (mut sessions, mut others): (Vec<Arg>, Vec<Arg>) = (Vec::new(), Vec::new());
        for one in saved {
            match *one {
                Saved::Session { locator, epoch, version, last_access_ms } => {
                    keys.push(self.keys.session(bucket, &locator.to_string()));
                    let access = last_access_ms.map_or_else(|| text(""), number);
                    let locator = text(&locator.to_string());
                    sessions.extend([locator, number(epoch), number(version), access]);
                }
                Saved::Nothing(locator) => {
                    keys.push(self.keys.session(bucket, &locator.to_string()));
                    let locator = text(&locator.to_string());
                    sessions.extend([locator, text(""), text(""), text("")]);
                }
                Saved::End(locator) => {
                    others.extend([text("-"), text(&Unsaved::End(locator).member())]);
                }
                Saved::Failed(unsaved) => {
                    others.extend([text("+"), text(&unsaved.member())]);
                }
            }
        }
        sessions.extend(others);
        self.call(&SETTLE, keys, sessions).await.map(|_| ())
    }

    /// Takes a session from the database into Redis, if there is none of that name, with `record.epoch`; nobody owns it then.
    pub(in crate::store) async fn bring_back(
        &self,
        locator: Locator,
        record: &Record,
    ) -> Result<BroughtBack, StoreError> {
        let record = Record { owner: None, ..record.clone() };
        // As with what an owner puts back: first the roll, then the record, and the roll again.
        self.admit(locator, &record).await?;
        let mut args = vec![
            number(record.idle_ms),
            number(record.absolute_ms),
            number(self.slack_ms),
            number(ms(self.lease)),
            self.keep(),
            number(record.last_access_ms),
            text(&locator.to_string()),
            text(&register::in_list_of_ids(locator)),
        ];
        fields::all(&record, fields::Times::Own, &mut args);
        let mut keys = self.all_keys(locator);
        keys.push(self.keys.unsaved_sessions(self.keys.bucket_of(locator.as_bytes())));
        let reply = self.call(&BRING_BACK, keys, args).await?;
        Ok(match tag(&reply)? {
            "OK" => {
                self.admit(locator, &record).await?;
                BroughtBack::Back
            }
            "THERE" => BroughtBack::There,
            "GRACE" => BroughtBack::Grace { remaining_ms: int(&reply, 1)? },
            "ENDED" | "OVER" => BroughtBack::Over,
            other => return Err(unexpected(other)),
        })
    }

    /// Gives the bucket of a session.
    pub(in crate::store) fn bucket(&self, locator: Locator) -> Bucket {
        self.keys.bucket_of(locator.as_bytes())
    }

    /// Gives all buckets.
    pub(in crate::store) fn buckets(&self) -> impl Iterator<Item = Bucket> + use<> {
        self.keys.all_buckets()
    }
}

/// What somebody who empties a queue wants of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Take<'a> {
    /// Who.
    pub(in crate::store) saver: &'a str,
    /// How long nobody else is handed anything of this bucket.
    pub(in crate::store) hold: Duration,
    /// How old it must be.
    pub(in crate::store) min_age: Duration,
    /// How many at most.
    pub(in crate::store) limit: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_queue_is_read_as_it_is_written() {
        let locator = Locator::from_bytes([7; 16]);
        for unsaved in [Unsaved::Session(locator), Unsaved::End(locator)] {
            assert_eq!(Unsaved::from_member(&unsaved.member()), Some(unsaved));
        }
        assert_ne!(Unsaved::Session(locator).member(), Unsaved::End(locator).member());
        for wrong in ["", "!", "short", "!!AAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(Unsaved::from_member(wrong), None, "{wrong}");
        }
    }
}
