//! Rolls of users, and the list of all sessions by their public ids.
//!
//! A roll is a sorted set under a key of its own tag: on a Redis Cluster it lies in another slot than the sessions that it
//! names, so no script touches both. The list of ids lies beside the sessions of its bucket and is kept by the same scripts;
//! its members all have the same score, so that they stand in the order of the ids and are found by their beginning. Nodes
//! of a version before these lists begin sessions without them; a claim adds them to the list.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};
use understudy_runtime::ids::Bucket;
use understudy_runtime::redis::{Arg, Reply};

use super::{
    ADMIT, CONDEMN, CONFIRM, COUNT, ENROLL, FORGET_IDS, HELD, IDS, LOOK, NAME, PROLONG, ROLL,
    RedisStore, STRIKE, as_text, int, ms, number, tag, text, unexpected,
};
use crate::record::{Locator, Record, Token};
use crate::store::StoreError;
use crate::store::online::{OnlineCount, OnlineCursor, OnlinePage, OnlineUser};
use crate::store::register::{
    Condemn, Confirmed, Count, Cursor, Enrolled, Enrolment, Glimpse, Listed, Page, Place, Progress,
    Roll, SessionRegister, Sight, StillHeld,
};

/// Most sessions that one script looks at: the server does nothing else meanwhile, usually for some 10 microseconds each.
const LOOKS: usize = 32;
/// Most members of a list that one script takes away.
const FORGETS: usize = 128;
/// How many scripts are under way for one question.
const AT_ONCE: usize = 8;
/// So many of the digits of a public id stand in the list; two sessions never share them.
const DIGITS: usize = 16;
/// So much longer than what is put into it the list of ids stays at least; also in `index.lua`.
const WEEK_MS: u64 = 604_800_000;
/// How many sessions are found at most, when too few digits were given.
const FOUND: u32 = 10;

/// What stands in the list of ids: the first digits of the public id, then the locator.
pub(super) fn in_list_of_ids(locator: Locator) -> String {
    format!("{}{locator}", locator.digest(DIGITS / 2))
}

fn from_list_of_ids(member: &str) -> Option<Locator> {
    member.get(DIGITS..)?.parse().ok()
}

impl RedisStore {
    pub(super) fn roll_key(&self, user: &str) -> String {
        let digest = Sha256::digest(user);
        let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.keys.user_sessions(&digits)
    }

    /// Gives a session that is about to be put back a place on the roll of its user.
    pub(super) async fn admit(&self, locator: Locator, record: &Record) -> Result<(), StoreError> {
        let Some(user) = &record.user else { return Ok(()) };
        let lives = record.absolute_ms.saturating_sub(record.created_ms);
        let args = vec![text(&locator.to_string()), number(record.created_ms), number(lives)];
        self.call(&ADMIT, vec![self.roll_key(user)], args).await.map(|_| ())
    }

    /// Gives a session that a node of an older version began a place on the roll of its user.
    pub(super) async fn list_elder(&self, locator: Locator, record: &Record) {
        if let Err(error) = self.admit(locator, record).await {
            tracing::debug!(%error, "a session of an older node is not on the roll of its user");
        }
    }

    /// Keeps the list of ids as long as a session that lives longer from now on. It outlives what was put into it by a week by
    /// itself. When this fails, or the process dies before it, the session may be missing from the list of all sessions in its
    /// last days, until somebody claims it.
    pub(super) async fn list_as_long(&self, locator: Locator, left_ms: u64) {
        if left_ms <= WEEK_MS {
            return;
        }
        let keys = vec![self.keys.session_ids(self.keys.bucket_of(locator.as_bytes()))];
        let args = vec![text(&in_list_of_ids(locator)), number(left_ms)];
        if let Err(error) = self.call(&PROLONG, keys, args).await {
            tracing::debug!(%error, "the list of sessions may end before one of them");
        }
    }

    /// Counts a session among those with a user, or no more, after a login. When this fails, or the process dies before it, it is
    /// counted when somebody claims it.
    pub(super) async fn count_named(&self, locator: Locator, left_ms: u64) {
        let keys = vec![self.session_key(locator), self.named_key(locator)];
        let args = vec![text(&locator.to_string()), number(left_ms)];
        if let Err(error) = self.call(&NAME, keys, args).await {
            tracing::debug!(%error, "a login is not counted yet");
        }
    }

    /// Adds up how many there are in these sets.
    async fn count_all(&self, sets: impl Iterator<Item = String>) -> Result<u64, StoreError> {
        let counts = sets.map(|set| self.call(&COUNT, vec![set], Vec::<Arg>::new()));
        let mut counts = stream::iter(counts.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        let mut all = 0;
        while let Some(reply) = counts.next().await {
            all += int(&reply?, 0)?;
        }
        Ok(all)
    }

    /// Takes sessions that are over off the rolls, whatever their places are. Whoever looks next does it when this fails.
    pub(super) async fn take_off_rolls(&self, ended: &[(String, Locator)]) {
        let strikes = ended.iter().map(|(user, locator)| {
            let args = vec![text(&locator.to_string()), text(""), text("")];
            self.call(&STRIKE, vec![self.roll_key(user)], args)
        });
        let strikes = stream::iter(strikes.collect::<Vec<_>>()).buffered(AT_ONCE);
        let strikes: Vec<Result<Vec<Reply>, StoreError>> = strikes.collect().await;
        let mut left = Vec::new();
        for ((user, _), struck) in ended.iter().zip(strikes) {
            match struck {
                // That was the last one. A login since then is later than the time of this.
                Ok(reply) if reply.first().and_then(Reply::as_u64) == Some(0) => {
                    let seen_ms = reply.get(1).and_then(Reply::as_u64).unwrap_or(0);
                    left.push(OnlineUser { user: user.clone(), seen_ms });
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "the roll of a user names a session that is over");
                }
            }
        }
        self.forget_users(&left).await;
    }

    /// Takes sessions that are over off the list of ids; as [`Self::take_off_rolls`].
    pub(super) async fn forget_ids(&self, bucket: Bucket, locators: &[Locator]) {
        for some in locators.chunks(FORGETS) {
            let mut keys = vec![self.keys.session_ids(bucket)];
            keys.extend(some.iter().map(|it| self.keys.session(bucket, &it.to_string())));
            let args = some.iter().map(|locator| text(&in_list_of_ids(*locator))).collect();
            if let Err(error) = self.call(&FORGET_IDS, keys, args).await {
                tracing::debug!(%error, "the list of sessions names one that is over");
            }
        }
    }

    /// Looks at some sessions of one bucket.
    async fn look_at(
        &self,
        bucket: Bucket,
        some: &[(usize, Locator)],
    ) -> Result<Vec<(usize, Sight)>, StoreError> {
        let sessions = some.iter().map(|(_, it)| self.keys.session(bucket, &it.to_string()));
        let keys = sessions.chain([self.keys.lease_table(bucket)]).collect();
        let reply = self.call(&LOOK, keys, vec![number(self.slack_ms)]).await?;
        if reply.len() != some.len() {
            return Err(unexpected("as many answers as sessions are wanted"));
        }
        let sights = some.iter().zip(reply);
        sights.map(|((at, locator), answer)| Ok((*at, sight(*locator, answer)?))).collect()
    }

    /// Reads up to `limit` locators of a bucket behind the id `after`.
    async fn ids(
        &self,
        bucket: Bucket,
        range: [String; 2],
        limit: u32,
    ) -> Result<Vec<Locator>, StoreError> {
        let [from, to] = range;
        let args = vec![text(&from), text(&to), number(limit.into())];
        let members = self.call(&IDS, vec![self.keys.session_ids(bucket)], args).await?;
        let members = members.iter().filter_map(as_text);
        Ok(members.filter_map(|member| from_list_of_ids(&member)).collect())
    }

    /// Looks at up to `limit` sessions of a bucket behind the id `after`, and tidies the list up.
    async fn page_of(
        &self,
        bucket: Bucket,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<Sight>, Option<String>), StoreError> {
        let from = if after.is_empty() { "-".to_owned() } else { format!("({after}~") };
        let locators = self.ids(bucket, [from, "+".to_owned()], limit).await?;
        let last = locators.last().filter(|_| locators.len() >= limit as usize);
        let last = last.map(|locator| locator.digest(DIGITS / 2));
        let sights = self.look(&locators).await?;
        let gone = locators.iter().zip(&sights).filter(|(_, sight)| **sight == Sight::Gone);
        let gone: Vec<Locator> = gone.map(|(locator, _)| *locator).collect();
        self.forget_ids(bucket, &gone).await;
        Ok((sights, last))
    }
}

#[async_trait]
impl SessionRegister for RedisStore {
    async fn enroll(&self, enrolment: Enrolment<'_>) -> Result<Enrolled, StoreError> {
        let Enrolment { user, locator, most, lifetime_ms } = enrolment;
        let most = most.map_or_else(|| text(""), |most| number(most.into()));
        let args = vec![text(&locator.to_string()), most, number(lifetime_ms)];
        let reply = self.call(&ENROLL, vec![self.roll_key(user)], args).await?;
        Ok(match tag(&reply)? {
            "IN" => {
                let place = Place { at_ms: int(&reply, 1)?, locator };
                Enrolled::In { place, again: int(&reply, 2)? == 1 }
            }
            "FULL" => Enrolled::Full,
            "CONDEMNED" => Enrolled::Condemned,
            other => return Err(unexpected(other)),
        })
    }

    async fn confirm(&self, user: &str, locator: Locator) -> Result<Confirmed, StoreError> {
        let args = vec![text(&locator.to_string())];
        let reply = self.call(&CONFIRM, vec![self.roll_key(user)], args).await?;
        let standing = reply.first().and_then(Reply::as_i64);
        let standing = standing.ok_or_else(|| unexpected("no number"))?;
        Ok(u64::try_from(standing)
            .map_or(Confirmed::Lost, |standing| Confirmed::Stands { standing }))
    }

    async fn condemn(&self, user: &str, which: Condemn) -> Result<Vec<Place>, StoreError> {
        let args = match which {
            Condemn::All => vec![text(""), text("")],
            Condemn::Others(spared) => vec![text(""), text(&spared.to_string())],
            Condemn::Beyond(most) => vec![number(most.into()), text("")],
        };
        let reply = self.call(&CONDEMN, vec![self.roll_key(user)], args).await?;
        let (pairs, _) = reply.as_chunks::<2>();
        pairs.iter().map(|pair| place(&pair[0], &pair[1])).collect()
    }

    async fn strike(&self, user: &str, places: &[Listed]) -> Result<(), StoreError> {
        for some in places.chunks(FORGETS) {
            let args = some.iter().flat_map(|(place, progress)| {
                let locator = text(&place.locator.to_string());
                [locator, number(place.at_ms), text(progress.as_str())]
            });
            self.call(&STRIKE, vec![self.roll_key(user)], args.collect()).await?;
        }
        Ok(())
    }

    async fn roll(&self, user: &str) -> Result<Roll, StoreError> {
        let reply = self.call(&ROLL, vec![self.roll_key(user)], Vec::<Arg>::new()).await?;
        let now_ms = int(&reply, 0)?;
        let (triples, _) = reply[1..].as_chunks::<3>();
        let places = triples.iter().map(|triple| {
            let progress = as_text(&triple[2]).and_then(|text| Progress::from_text(&text));
            let progress = progress.ok_or_else(|| unexpected("no progress"))?;
            Ok((place(&triple[0], &triple[1])?, progress))
        });
        let mut places = places.collect::<Result<Vec<_>, StoreError>>()?;
        places.sort_by_key(|(place, _)| *place);
        Ok(Roll { now_ms, places })
    }

    async fn look(&self, locators: &[Locator]) -> Result<Vec<Sight>, StoreError> {
        let mut buckets: BTreeMap<u16, Vec<(usize, Locator)>> = BTreeMap::new();
        for (at, locator) in locators.iter().enumerate() {
            let bucket = self.keys.bucket_of(locator.as_bytes());
            buckets.entry(bucket.0).or_default().push((at, *locator));
        }
        let looks = buckets.iter().flat_map(|(bucket, all)| {
            all.chunks(LOOKS).map(|some| self.look_at(Bucket(*bucket), some))
        });
        let looks = stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        let mut sights: Vec<(usize, Sight)> = looks.try_concat().await?;
        sights.sort_by_key(|(at, _)| *at);
        Ok(sights.into_iter().map(|(_, sight)| sight).collect())
    }

    async fn page(&self, after: Option<&Cursor>, limit: u32) -> Result<Page, StoreError> {
        let mut page = Page::default();
        let (mut part, mut after) =
            after.map_or((0, String::new()), |cursor| (cursor.part, cursor.id.clone()));
        while part < self.keys.buckets() {
            let missing = limit.saturating_sub(u32::try_from(page.sessions.len()).unwrap_or(limit));
            if missing == 0 {
                page.next = Some(Cursor { part, id: after });
                break;
            }
            let (sights, last) = self.page_of(Bucket(part), &after, missing).await?;
            for sight in sights {
                match sight {
                    Sight::Seen(glimpse) => page.sessions.push(glimpse),
                    Sight::Unreadable => page.unreadable += 1,
                    Sight::Gone => {}
                }
            }
            match last {
                Some(id) => after = id,
                None => (part, after) = (part + 1, String::new()),
            }
        }
        Ok(page)
    }

    async fn find(&self, id: &str) -> Result<Vec<Locator>, StoreError> {
        let beginning = id.get(..DIGITS).unwrap_or(id);
        let range = [format!("[{beginning}"), format!("[{beginning}~")];
        let finds = self.keys.all_buckets().map(|bucket| self.ids(bucket, range.clone(), FOUND));
        let finds = stream::iter(finds.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        let mut found: Vec<Locator> = finds.try_concat().await?;
        found.retain(|locator| locator.public_id().starts_with(id));
        // The list may name sessions that are over.
        let sights = self.look(&found).await?;
        let there = found.into_iter().zip(sights).filter(|(_, sight)| *sight != Sight::Gone);
        Ok(there.map(|(locator, _)| locator).collect())
    }

    async fn count(&self) -> Result<Count, StoreError> {
        let buckets: Vec<Bucket> = self.keys.all_buckets().collect();
        let sessions = buckets.iter().map(|bucket| self.keys.session_ids(*bucket));
        let sessions = self.count_all(sessions).await?;
        let named = buckets.iter().map(|bucket| self.keys.session_named(*bucket));
        let named = self.count_all(named).await?.min(sessions);
        Ok(Count { sessions, named, users: None })
    }

    async fn seen(&self, locator: Locator, user: Option<&str>) -> Result<(), StoreError> {
        self.note_seen(locator, user).await
    }

    async fn guest_left(&self, locator: Locator) -> Result<(), StoreError> {
        self.forget_guests(self.keys.bucket_of(locator.as_bytes()), &[locator]).await
    }

    async fn online(
        &self,
        within_ms: u64,
        after: Option<&OnlineCursor>,
        limit: u32,
    ) -> Result<OnlinePage, StoreError> {
        self.page_of_online(within_ms, after, limit).await
    }

    async fn count_online(&self, within_ms: u64) -> Result<OnlineCount, StoreError> {
        self.count_of_online(within_ms).await
    }

    async fn still_held(&self, locator: Locator) -> Result<Option<StillHeld>, StoreError> {
        let bucket = self.keys.bucket_of(locator.as_bytes());
        let keys = vec![self.session_key(locator), self.keys.lease_table(bucket)];
        let reply = self.call(&HELD, keys, vec![number(ms(self.lease))]).await?;
        let owner = reply.first().and_then(as_text).map(|owner| Token::from_text(&owner));
        let Some(node) = owner.and_then(|owner| owner.node()) else { return Ok(None) };
        Ok(Some(StillHeld { node, for_ms: int(&reply, 1)? }))
    }
}

fn place(locator: &Reply, at_ms: &Reply) -> Result<Place, StoreError> {
    let locator = as_text(locator).and_then(|text| text.parse().ok());
    let locator = locator.ok_or_else(|| unexpected("no locator"))?;
    let at_ms = at_ms.as_u64().ok_or_else(|| unexpected("no number"))?;
    Ok(Place { at_ms, locator })
}

fn sight(locator: Locator, answer: Reply) -> Result<Sight, StoreError> {
    match answer.as_i64() {
        Some(0) => return Ok(Sight::Gone),
        Some(_) => return Ok(Sight::Unreadable),
        None => {}
    }
    let Reply::Array(parts) = answer else { return Err(unexpected("no answer to a look")) };
    let owner = parts.first().and_then(as_text).filter(|owner| !owner.is_empty());
    Ok(Sight::Seen(Glimpse {
        locator,
        owner: owner.map(|owner| Token::from_text(&owner)),
        lease_ms: int(&parts, 1)?,
        epoch: int(&parts, 2)?,
        version: int(&parts, 3)?,
        created_ms: int(&parts, 4)?,
        last_access_ms: int(&parts, 5)?,
        absolute_ms: int(&parts, 6)?,
        idle_ms: int(&parts, 7)?,
        bytes: int(&parts, 8)?,
        user: parts.get(9).and_then(as_text),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_ids_stands_in_the_order_of_the_public_ids() {
        let mut locators: Vec<Locator> = (0..50).map(|n| Locator::from_bytes([n; 16])).collect();
        locators.sort_by_cached_key(|locator| in_list_of_ids(*locator));
        assert!(locators.is_sorted_by_key(Locator::public_id));
        for locator in locators {
            let member = in_list_of_ids(locator);
            assert!(locator.public_id().starts_with(&member[..DIGITS]));
            assert_eq!(from_list_of_ids(&member), Some(locator));
        }
        assert_eq!(from_list_of_ids("short"), None);
    }
}
