//! Rolls, pages and counts of the store in memory.

use async_trait::async_trait;

use super::MemoryStore;
use crate::record::Locator;
use crate::store::StoreError;
use crate::store::online::{OnlineCount, OnlineCursor, OnlinePage};
use crate::store::register::{
    Condemn, Confirmed, Count, Cursor, Enrolled, Enrolment, Listed, Page, Place, Roll,
    SessionRegister, Sight, StillHeld,
};

#[async_trait]
impl SessionRegister for MemoryStore {
    async fn enroll(&self, enrolment: Enrolment<'_>) -> Result<Enrolled, StoreError> {
        Ok(self.spec.lock().await.enroll(enrolment, self.now_ms()))
    }

    async fn confirm(&self, user: &str, locator: Locator) -> Result<Confirmed, StoreError> {
        Ok(self.spec.lock().await.confirm(user, locator))
    }

    async fn condemn(&self, user: &str, which: Condemn) -> Result<Vec<Place>, StoreError> {
        Ok(self.spec.lock().await.condemn(user, which))
    }

    async fn strike(&self, user: &str, places: &[Listed]) -> Result<(), StoreError> {
        self.spec.lock().await.strike(user, places);
        Ok(())
    }

    async fn roll(&self, user: &str) -> Result<Roll, StoreError> {
        Ok(self.spec.lock().await.roll(user, self.now_ms()))
    }

    async fn look(&self, locators: &[Locator]) -> Result<Vec<Sight>, StoreError> {
        let (spec, now_ms) = (self.spec.lock().await, self.now_ms());
        Ok(locators.iter().map(|locator| spec.look(*locator, now_ms)).collect())
    }

    async fn page(&self, after: Option<&Cursor>, limit: u32) -> Result<Page, StoreError> {
        Ok(self.spec.lock().await.page(after, limit, self.now_ms()))
    }

    async fn find(&self, id: &str) -> Result<Vec<Locator>, StoreError> {
        Ok(self.spec.lock().await.find(id))
    }

    async fn count(&self) -> Result<Count, StoreError> {
        Ok(self.spec.lock().await.count())
    }

    /// The sessions themselves tell it.
    async fn seen(&self, _locator: Locator, _user: Option<&str>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn guest_left(&self, _locator: Locator) -> Result<(), StoreError> {
        Ok(())
    }

    async fn online(
        &self,
        within_ms: u64,
        after: Option<&OnlineCursor>,
        limit: u32,
    ) -> Result<OnlinePage, StoreError> {
        Ok(self.spec.lock().await.online(within_ms, after, limit, self.now_ms()))
    }

    async fn count_online(&self, within_ms: u64) -> Result<OnlineCount, StoreError> {
        Ok(self.spec.lock().await.count_online(within_ms, self.now_ms()))
    }

    async fn still_held(&self, locator: Locator) -> Result<Option<StillHeld>, StoreError> {
        Ok(self.spec.lock().await.still_held(locator, self.now_ms()))
    }
}
