//! A store in the memory of one process: for tests with several nodes in one process, and for a single process that
//! may forget its sessions when it ends.
//!
//! It is [`Spec`] behind a lock, so it does what the protocol says and nothing else. It keeps nothing on disk.

mod register;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use understudy_runtime::clock::SharedClock;
use understudy_runtime::ids::{Bucket, NodeId};
use understudy_runtime::lease::table::RenewReply;
use understudy_runtime::lease::{LeaseError, LeaseStore, Renewed, Settled};

use crate::record::{Fence, Locator, Record, Token};
use crate::spec::Spec;
use crate::store::{
    ClaimReply, CreateReply, End, Expired, ReadReply, Remains, RestoreReply, RevokeReply,
    SessionStore, StoreError, Swept, ValidateReply, Write, WriteReply,
};

/// Sessions and leases in memory. Clones share them: give one to each node of a test.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    spec: Arc<Mutex<Spec>>,
    clock: SharedClock,
}

/// What a server that comes back under another identity remembers.
#[derive(Debug, Clone)]
pub enum Remembers {
    /// All there was.
    Everything,
    /// Nothing: it was started empty.
    Nothing,
    /// What a copy of earlier knew, as a replica that was promoted does.
    Earlier(Box<Spec>),
}

impl MemoryStore {
    /// Makes an empty store that takes its time from the wall time of `clock`.
    ///
    /// `lease` is how long node leases last, and so the grace after [`MemoryStore::change_identity`]; `touch_slack`
    /// is how late accesses may be noted, which is how much longer than its idle limit a session lives.
    #[must_use]
    pub fn new(clock: SharedClock, lease: Duration, touch_slack: Duration) -> Self {
        let spec = Spec::new(&random_identity(), whole_ms(lease), whole_ms(touch_slack));
        Self { spec: Arc::new(Mutex::new(spec)), clock }
    }

    /// Becomes another server, as after a restart or a failover: the leases are void, and nobody can claim until the
    /// grace is over.
    pub async fn change_identity(&self, remembers: Remembers) {
        let mut spec = self.spec.lock().await;
        match remembers {
            Remembers::Everything => {}
            Remembers::Nothing => {
                spec.sessions.clear();
                spec.untold.clear();
                spec.rolls.clear();
            }
            Remembers::Earlier(earlier) => *spec = *earlier,
        }
        spec.server_id = random_identity();
    }

    /// Copies what the store knows now, for [`Remembers::Earlier`] and for looking at it in tests.
    pub async fn snapshot(&self) -> Spec {
        self.spec.lock().await.clone()
    }

    fn now_ms(&self) -> u64 {
        self.clock.wall_ms()
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn create(
        &self,
        locator: Locator,
        record: &Record,
        lifetime_ms: u64,
    ) -> Result<CreateReply, StoreError> {
        Ok(self.spec.lock().await.create(locator, record, lifetime_ms, self.now_ms()))
    }

    async fn claim(
        &self,
        locator: Locator,
        token: &Token,
        known_version: Option<u64>,
    ) -> Result<ClaimReply, StoreError> {
        Ok(self.spec.lock().await.claim(locator, token, known_version, self.now_ms()))
    }

    async fn read(&self, locator: Locator) -> Result<ReadReply, StoreError> {
        Ok(self.spec.lock().await.read(locator))
    }

    async fn write(&self, write: Write<'_>) -> Result<WriteReply, StoreError> {
        Ok(self.spec.lock().await.write(write, self.now_ms()))
    }

    fn takes_changes(&self) -> bool {
        true
    }

    async fn validate(
        &self,
        locator: Locator,
        fence: &Fence,
        version: u64,
    ) -> Result<ValidateReply, StoreError> {
        Ok(self.spec.lock().await.validate(locator, fence, version, self.now_ms()))
    }

    async fn restore(&self, locator: Locator, record: &Record) -> Result<RestoreReply, StoreError> {
        Ok(self.spec.lock().await.restore(locator, record, self.now_ms()))
    }

    async fn revoke(&self, locator: Locator, end: End) -> Result<RevokeReply, StoreError> {
        Ok(self.spec.lock().await.revoke(locator, end, self.now_ms()))
    }

    async fn release(&self, locator: Locator, fence: &Fence) -> Result<bool, StoreError> {
        Ok(self.spec.lock().await.release(locator, fence))
    }

    async fn touch(&self, locator: Locator) -> Result<(), StoreError> {
        self.spec.lock().await.touch(locator, self.now_ms());
        Ok(())
    }

    async fn sweep(
        &self,
        _bucket: Bucket,
        limit: u32,
        hold: Option<Duration>,
    ) -> Result<Swept, StoreError> {
        Ok(self.spec.lock().await.sweep(limit, hold.map(whole_ms), self.now_ms()))
    }

    async fn acknowledge(&self, expired: &Expired) -> Result<(), StoreError> {
        self.spec.lock().await.acknowledge(expired.locator);
        Ok(())
    }

    async fn last_state(&self, locator: Locator) -> Result<Option<Remains>, StoreError> {
        Ok(self.spec.lock().await.last_state(locator))
    }
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn renew(
        &self,
        _bucket: Bucket,
        node: &NodeId,
        ttl: Duration,
    ) -> Result<Renewed, LeaseError> {
        let mut spec = self.spec.lock().await;
        let (server_id, now_ms) = (spec.server_id.clone(), self.now_ms());
        let reply = spec.leases.renew(&server_id, node, whole_ms(ttl), now_ms);
        let (continuous, evicted) = match reply {
            RenewReply::Renewed { continuous } => (continuous, false),
            RenewReply::Evicted => (false, true),
        };
        Ok(Renewed { server_id, continuous, evicted, now_ms })
    }

    async fn settle(
        &self,
        _bucket: Bucket,
        node: &NodeId,
        server_id: &str,
        awaited: Vec<NodeId>,
    ) -> Result<Settled, LeaseError> {
        let mut spec = self.spec.lock().await;
        Ok(spec.leases.settle(server_id, node, &awaited, self.now_ms()))
    }

    async fn drop_node(&self, _bucket: Bucket, node: &NodeId) -> Result<(), LeaseError> {
        self.spec.lock().await.leases.drop_node(node, self.now_ms());
        Ok(())
    }
}

fn random_identity() -> String {
    format!("memory-{:016x}", rand::random::<u64>())
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
