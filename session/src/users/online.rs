//! Who is online, for the application and for operators.
//!
//! In Redis this is a sorted set per bucket, of users by when they were last seen, and one of sessions without a user. A node
//! adds to it when it uses a session, at most once per touch interval and session, beside the access itself and without making
//! a request wait; whoever adds takes away what is older than an hour, so that it stays as small as an hour of visitors. A user
//! is in one set only, whichever sessions there are, so nobody is counted twice, on a Redis Cluster neither. In the database
//! the sessions themselves say it, by an index.
//!
//! Nothing here is fenced: to have been seen only ever grows, by the store's clock. What a node did not write because it died is
//! written when the session is used next; what it writes late, because it stood still, says that somebody is there who has
//! just left. So lists look at the rolls of whom they name and leave out (and forget) those who have no session any more;
//! counts may be too high by such users until the time that is asked for is over. Nodes of a version before this do not add
//! to the sets.

use std::time::Duration;

use crate::handle::SessionHandle;
use crate::record::{Locator, Record};
use crate::store::StoreError;
use crate::store::online::{LONGEST_WINDOW_MS, OnlineCount, OnlineCursor, OnlinePage};

impl SessionHandle {
    /// Lists users of whom a session was used `within` this time, an hour at most, up to `limit` of them behind `after`; the
    /// latest first (on a Redis Cluster in each of its parts). Somebody who is seen again while pages are read may be left
    /// out of the rest of them, and is on none twice but for those who are seen again in between.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    pub async fn online(
        &self,
        within: Duration,
        after: Option<&OnlineCursor>,
        limit: u32,
    ) -> Result<OnlinePage, StoreError> {
        self.register().online(window_ms(within), after, limit).await
    }

    /// Counts the users of whom a session was used `within` this time, an hour at most, and the sessions without a user.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    pub async fn count_online(&self, within: Duration) -> Result<OnlineCount, StoreError> {
        self.register().count_online(window_ms(within)).await
    }

    /// Notes that somebody is here, without making the request wait for it.
    pub(crate) fn note_seen(&self, locator: Locator, record: &Record) {
        self.shard(locator).note_seen(locator, record);
    }

    /// Notes that a visitor has become a user.
    pub(super) fn note_login(&self, locator: Locator, user: &str) {
        let shard = std::sync::Arc::clone(self.shard(locator));
        let (user, arbiter) = (user.to_owned(), shard.arbiter.clone());
        arbiter.spawn(async move {
            let seen = shard.store.seen(locator, Some(&user)).await;
            let left = shard.store.guest_left(locator).await;
            if let Err(error) = seen.and(left) {
                tracing::debug!(%error, "it was not noted that a user is here");
            }
        });
    }
}

fn window_ms(within: Duration) -> u64 {
    u64::try_from(within.as_millis()).unwrap_or(u64::MAX).clamp(1, LONGEST_WINDOW_MS)
}
