//! What the two stores know of sessions together. Rolls and lists are those of Redis; where they would miss a session that
//! can come back from the database, the database is asked as well.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{PersistedStore, within};
use crate::record::Locator;
use crate::store::StoreError;
use crate::store::online::{OnlineCount, OnlineCursor, OnlinePage};
use crate::store::register::{
    Condemn, Confirmed, Count, Cursor, Enrolled, Enrolment, Glimpse, Listed, Page, Place, Progress,
    Roll, SessionRegister, Sight, StillHeld,
};

#[async_trait]
impl SessionRegister for PersistedStore {
    async fn enroll(&self, enrolment: Enrolment<'_>) -> Result<Enrolled, StoreError> {
        self.redis.enroll(enrolment).await
    }

    async fn confirm(&self, user: &str, locator: Locator) -> Result<Confirmed, StoreError> {
        self.redis.confirm(user, locator).await
    }

    /// Of all, and of all others, those are ended too that are on no roll, because Redis lost it and they have not come back
    /// yet. So this takes the database.
    async fn condemn(&self, user: &str, which: Condemn) -> Result<Vec<Place>, StoreError> {
        let mut condemned = self.redis.condemn(user, which).await?;
        let spared = match which {
            Condemn::Beyond(_) => return Ok(condemned),
            Condemn::All => None,
            Condemn::Others(spared) => Some(spared),
        };
        let listed: BTreeSet<Locator> = condemned.iter().map(|place| place.locator).collect();
        let others = within(self.archive.of_user(user)).await?;
        condemned.extend(
            others
                .into_iter()
                .filter(|place| Some(place.locator) != spared && !listed.contains(&place.locator)),
        );
        Ok(condemned)
    }

    async fn strike(&self, user: &str, places: &[Listed]) -> Result<(), StoreError> {
        self.redis.strike(user, places).await
    }

    async fn roll(&self, user: &str) -> Result<Roll, StoreError> {
        let mut roll = self.redis.roll(user).await?;
        let others = match within(self.archive.of_user(user)).await {
            Ok(others) => others,
            Err(error) => {
                tracing::debug!(%error, "sessions that have not come back to Redis are not listed");
                return Ok(roll);
            }
        };
        let listed: BTreeSet<Locator> =
            roll.places.iter().map(|(place, _)| place.locator).collect();
        let others = others.into_iter().filter(|place| !listed.contains(&place.locator));
        roll.places.extend(others.map(|place| (place, Progress::Stands)));
        roll.places.sort_by_key(|(place, _)| *place);
        Ok(roll)
    }

    async fn look(&self, locators: &[Locator]) -> Result<Vec<Sight>, StoreError> {
        let mut sights = self.redis.look(locators).await?;
        let gone = sights.iter().enumerate().filter(|(_, sight)| **sight == Sight::Gone);
        let gone: Vec<usize> = gone.map(|(at, _)| at).collect();
        let missing: Vec<Locator> =
            gone.iter().filter_map(|at| locators.get(*at).copied()).collect();
        if missing.is_empty() {
            return Ok(sights);
        }
        match within(self.archive.look(&missing)).await {
            Ok(known) => {
                for (at, sight) in gone.into_iter().zip(known) {
                    if let Some(glimpse) = sight.seen() {
                        // Nobody owns what Redis does not have.
                        let glimpse = Glimpse { owner: None, lease_ms: 0, ..glimpse };
                        sights[at] = Sight::Seen(glimpse);
                    }
                }
            }
            // Nobody knows whether they are over: what hangs on them, and their places on rolls, must stay.
            Err(error) => {
                tracing::debug!(%error, "sessions that have not come back to Redis are not shown");
                gone.into_iter().for_each(|at| sights[at] = Sight::Unreadable);
            }
        }
        Ok(sights)
    }

    async fn page(&self, after: Option<&Cursor>, limit: u32) -> Result<Page, StoreError> {
        self.redis.page(after, limit).await
    }

    async fn find(&self, id: &str) -> Result<Vec<Locator>, StoreError> {
        let found = self.redis.find(id).await?;
        if found.is_empty() { within(self.archive.find_living(id)).await } else { Ok(found) }
    }

    async fn count(&self) -> Result<Count, StoreError> {
        self.redis.count().await
    }

    async fn seen(&self, locator: Locator, user: Option<&str>) -> Result<(), StoreError> {
        self.redis.seen(locator, user).await
    }

    async fn guest_left(&self, locator: Locator) -> Result<(), StoreError> {
        self.redis.guest_left(locator).await
    }

    async fn online(
        &self,
        within_ms: u64,
        after: Option<&OnlineCursor>,
        limit: u32,
    ) -> Result<OnlinePage, StoreError> {
        self.redis.online(within_ms, after, limit).await
    }

    async fn count_online(&self, within_ms: u64) -> Result<OnlineCount, StoreError> {
        self.redis.count_online(within_ms).await
    }

    async fn still_held(&self, locator: Locator) -> Result<Option<StillHeld>, StoreError> {
        self.redis.still_held(locator).await
    }
}
