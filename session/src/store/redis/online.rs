//! Who was here lately: a sorted set per bucket, of users by when they were last seen, and one of sessions without a user.
//!
//! A user is in the bucket of the hash of the name, so in one set only; a session without a user in its own.

use futures_util::stream::{self, StreamExt as _};
use sha2::{Digest as _, Sha256};
use understudy_runtime::ids::Bucket;
use understudy_runtime::redis::{Arg, Reply};

use super::{
    COUNT, ONLINE, ONLINE_COUNT, RedisStore, SEEN, UNSEEN, as_text, int, number, text, unexpected,
};
use crate::record::Locator;
use crate::store::StoreError;
use crate::store::online::{LONGEST_WINDOW_MS, OnlineCount, OnlineCursor, OnlinePage, OnlineUser};

/// How many scripts are under way for one question.
const AT_ONCE: usize = 8;
/// Later than any time.
const ALWAYS_MS: u64 = 1 << 53;
/// Most that one script forgets.
const FORGETS: usize = 128;

impl RedisStore {
    fn bucket_of_user(&self, user: &str) -> Bucket {
        let digest = Sha256::digest(user);
        let mut first = [0_u8; 16];
        first.copy_from_slice(&digest[..16]);
        self.keys.bucket_of(&first)
    }

    pub(super) async fn note_seen(
        &self,
        locator: Locator,
        user: Option<&str>,
    ) -> Result<(), StoreError> {
        let (key, who) = match user {
            Some(user) => (self.keys.seen_users(self.bucket_of_user(user)), user.to_owned()),
            None => {
                let bucket = self.keys.bucket_of(locator.as_bytes());
                (self.keys.seen_guests(bucket), locator.to_string())
            }
        };
        let kept = number(LONGEST_WINDOW_MS.saturating_add(self.slack_ms));
        self.call(&SEEN, vec![key], vec![text(&who), kept]).await.map(|_| ())
    }

    /// Forgets users who have no session any more, unless they were seen after the time that stands beside each.
    pub(super) async fn forget_users(&self, users: &[OnlineUser]) {
        let forgets = users.iter().map(|OnlineUser { user, seen_ms }| {
            let key = self.keys.seen_users(self.bucket_of_user(user));
            self.call(&UNSEEN, vec![key], vec![text(user), number(*seen_ms)])
        });
        let mut forgets = stream::iter(forgets.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        while let Some(forgot) = forgets.next().await {
            if let Err(error) = forgot {
                tracing::debug!(%error, "a user who has left counts as seen for a while");
            }
        }
    }

    /// Forgets sessions of one bucket that are over, or have a user now.
    pub(super) async fn forget_guests(
        &self,
        bucket: Bucket,
        locators: &[Locator],
    ) -> Result<(), StoreError> {
        for some in locators.chunks(FORGETS) {
            let args = some.iter().flat_map(|it| [text(&it.to_string()), number(ALWAYS_MS)]);
            let args: Vec<Arg> = args.collect();
            self.call(&UNSEEN, vec![self.keys.seen_guests(bucket)], args).await?;
        }
        Ok(())
    }

    async fn seen_in(
        &self,
        bucket: Bucket,
        since_ms: u64,
        limit: u32,
        last: Option<&OnlineUser>,
    ) -> Result<Vec<OnlineUser>, StoreError> {
        let [last_ms, last] = match last {
            Some(last) => [number(last.seen_ms), text(&last.user)],
            None => [text(""), text("")],
        };
        let args = vec![number(since_ms), number(limit.into()), last_ms, last];
        let reply = self.call(&ONLINE, vec![self.keys.seen_users(bucket)], args).await?;
        let (pairs, _) = reply.as_chunks::<2>();
        let users = pairs.iter().map(|[user, seen_ms]| {
            let user = as_text(user).ok_or_else(|| unexpected("no name"))?;
            let seen_ms = seen_ms.as_u64().ok_or_else(|| unexpected("no number"))?;
            Ok(OnlineUser { user, seen_ms })
        });
        users.collect()
    }

    /// Leaves out, and forgets, those who have no session any more.
    async fn still_there(&self, users: Vec<OnlineUser>) -> Result<Vec<OnlineUser>, StoreError> {
        let counts = users
            .iter()
            .map(|it| self.call(&COUNT, vec![self.roll_key(&it.user)], Vec::<Arg>::new()));
        let counts = stream::iter(counts.collect::<Vec<_>>()).buffered(AT_ONCE);
        let counts: Vec<Result<Vec<Reply>, StoreError>> = counts.collect().await;
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for (user, count) in users.into_iter().zip(counts) {
            if int(&count?, 0)? > 0 { there.push(user) } else { gone.push(user) }
        }
        self.forget_users(&gone).await;
        Ok(there)
    }

    pub(super) async fn page_of_online(
        &self,
        within_ms: u64,
        after: Option<&OnlineCursor>,
        limit: u32,
    ) -> Result<OnlinePage, StoreError> {
        let since_ms = within_ms.saturating_add(self.slack_ms);
        let mut page = OnlinePage::default();
        let (mut part, mut last) =
            after.map_or((0, None), |cursor| (cursor.part, cursor.last.clone()));
        while part < self.keys.buckets() {
            let missing = limit.saturating_sub(u32::try_from(page.users.len()).unwrap_or(limit));
            if missing == 0 {
                page.next = Some(OnlineCursor { part, last });
                break;
            }
            let seen = self.seen_in(Bucket(part), since_ms, missing, last.as_ref()).await?;
            let is_all = seen.len() < missing as usize;
            last = seen.last().cloned();
            page.users.extend(self.still_there(seen).await?);
            if is_all {
                (part, last) = (part + 1, None);
            }
        }
        Ok(page)
    }

    pub(super) async fn count_of_online(&self, within_ms: u64) -> Result<OnlineCount, StoreError> {
        let buckets: Vec<Bucket> = self.keys.all_buckets().collect();
        let users = buckets.iter().map(|bucket| self.keys.seen_users(*bucket)).collect();
        let guests = buckets.iter().map(|bucket| self.keys.seen_guests(*bucket)).collect();
        let users = self.count_seen(within_ms, users).await?;
        let guests = self.count_seen(within_ms, guests).await?;
        Ok(OnlineCount { users, guests })
    }

    async fn count_seen(&self, within_ms: u64, sets: Vec<String>) -> Result<u64, StoreError> {
        let since = number(within_ms.saturating_add(self.slack_ms));
        let counts =
            sets.into_iter().map(|set| self.call(&ONLINE_COUNT, vec![set], vec![since.clone()]));
        let mut counts = stream::iter(counts.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        let mut all = 0;
        while let Some(reply) = counts.next().await {
            all += int(&reply?, 0)?;
        }
        Ok(all)
    }
}
