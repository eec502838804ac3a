//! What a store knows of its sessions together has nothing in it that is sealed.

use async_trait::async_trait;

use super::SealedStore;
use crate::record::Locator;
use crate::store::StoreError;
use crate::store::online::{OnlineCount, OnlineCursor, OnlinePage};
use crate::store::register::{
    Condemn, Confirmed, Count, Cursor, Enrolled, Enrolment, Listed, Page, Place, Roll,
    SessionRegister, Sight, StillHeld,
};

#[async_trait]
impl SessionRegister for SealedStore {
    async fn enroll(&self, enrolment: Enrolment<'_>) -> Result<Enrolled, StoreError> {
        self.store.enroll(enrolment).await
    }

    async fn confirm(&self, user: &str, locator: Locator) -> Result<Confirmed, StoreError> {
        self.store.confirm(user, locator).await
    }

    async fn condemn(&self, user: &str, which: Condemn) -> Result<Vec<Place>, StoreError> {
        self.store.condemn(user, which).await
    }

    async fn strike(&self, user: &str, places: &[Listed]) -> Result<(), StoreError> {
        self.store.strike(user, places).await
    }

    async fn roll(&self, user: &str) -> Result<Roll, StoreError> {
        self.store.roll(user).await
    }

    async fn look(&self, locators: &[Locator]) -> Result<Vec<Sight>, StoreError> {
        self.store.look(locators).await
    }

    async fn page(&self, after: Option<&Cursor>, limit: u32) -> Result<Page, StoreError> {
        self.store.page(after, limit).await
    }

    async fn find(&self, id: &str) -> Result<Vec<Locator>, StoreError> {
        self.store.find(id).await
    }

    async fn count(&self) -> Result<Count, StoreError> {
        self.store.count().await
    }

    async fn seen(&self, locator: Locator, user: Option<&str>) -> Result<(), StoreError> {
        self.store.seen(locator, user).await
    }

    async fn guest_left(&self, locator: Locator) -> Result<(), StoreError> {
        self.store.guest_left(locator).await
    }

    async fn online(
        &self,
        within_ms: u64,
        after: Option<&OnlineCursor>,
        limit: u32,
    ) -> Result<OnlinePage, StoreError> {
        self.store.online(within_ms, after, limit).await
    }

    async fn count_online(&self, within_ms: u64) -> Result<OnlineCount, StoreError> {
        self.store.count_online(within_ms).await
    }

    async fn still_held(&self, locator: Locator) -> Result<Option<StillHeld>, StoreError> {
        self.store.still_held(locator).await
    }
}
