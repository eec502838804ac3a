//! What the cases share: nodes, sessions, and calls that must succeed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use understudy_runtime::ids::{NodeId, NodeName};
use understudy_runtime::lease::LeaseStore;

use super::Fixture;
use crate::record::{Change, Fence, Locator, OpId, RecentOps, Record, Seal, SecretHash, Token};
use crate::spec::apply;
use crate::store::{ClaimReply, CreateReply, ReadReply, SharedStore, Write, WriteReply};

/// How long sessions and leases live that shall not end in a case.
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// The store under examination.
pub(super) struct Bench<'a> {
    pub(super) fixture: &'a dyn Fixture,
    pub(super) store: SharedStore,
    pub(super) leases: Arc<dyn LeaseStore>,
}

/// A session as its owner knows it.
#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub(super) locator: Locator,
    pub(super) fence: Fence,
    pub(super) record: Record,
}

impl<'a> Bench<'a> {
    pub(super) fn new(fixture: &'a dyn Fixture) -> Self {
        Self { fixture, store: fixture.store(), leases: fixture.leases() }
    }

    /// Draws a locator in a bucket whose grace is over.
    pub(super) async fn locator(&self) -> Locator {
        self.settled(Locator::random()).await
    }

    /// Draws a locator in the bucket of another one, so that the same leases count for both.
    pub(super) async fn locator_beside(&self, other: Locator) -> Locator {
        let bucket = self.fixture.bucket(other);
        let mut locator = Locator::random();
        while self.fixture.bucket(locator) != bucket {
            locator = Locator::random();
        }
        self.settled(locator).await
    }

    /// Waits until the grace of the locator's bucket is over.
    async fn settled(&self, locator: Locator) -> Locator {
        loop {
            match self.claim(locator, &Token::new(&node("nobody"))).await {
                ClaimReply::Missing => return locator,
                ClaimReply::Grace { remaining_ms } => {
                    self.fixture.pass(Duration::from_millis(remaining_ms + 1)).await;
                }
                other => panic!("a locator that nobody used is claimed: {other:?}"),
            }
        }
    }

    /// Puts in a session of `owner` that lives long.
    pub(super) async fn session(&self, owner: &NodeId) -> Owned {
        self.session_like(&blank(owner), LONG).await
    }

    pub(super) async fn session_like(&self, record: &Record, lifetime: Duration) -> Owned {
        let locator = self.locator().await;
        let reply = self.store.create(locator, record, ms(lifetime)).await.expect("create answers");
        assert!(matches!(reply, CreateReply::Created { .. }), "create: {reply:?}");
        let token = record.owner.clone().expect("a new session has an owner");
        Owned { locator, fence: Fence { token, epoch: 1 }, record: self.found(locator).await }
    }

    /// Gives `node` a lease for long in the session's bucket.
    pub(super) async fn alive(&self, node: &NodeId, locator: Locator, ttl: Duration) {
        let bucket = self.fixture.bucket(locator);
        let renewed = self.leases.renew(bucket, node, ttl).await.expect("renew answers");
        assert!(!renewed.evicted, "nobody put {node} out");
    }

    pub(super) async fn claim(&self, locator: Locator, token: &Token) -> ClaimReply {
        self.store.claim(locator, token, None).await.expect("claim answers")
    }

    /// Claims for `node`, which must succeed.
    pub(super) async fn claimed(&self, locator: Locator, node: &NodeId) -> Owned {
        let token = Token::new(node);
        match self.claim(locator, &token).await {
            ClaimReply::Claimed { epoch, version, record: Some(record), .. } => {
                assert_eq!(version, record.version, "the version beside the record is its own");
                assert_eq!(record.owner.as_ref(), Some(&token), "the record names the new owner");
                assert_eq!(record.epoch, epoch, "the record carries the new epoch");
                Owned { locator, fence: Fence { token, epoch }, record: *record }
            }
            other => panic!("a claim that nobody stands against: {other:?}"),
        }
    }

    pub(super) async fn read(&self, locator: Locator) -> ReadReply {
        self.store.read(locator).await.expect("read answers")
    }

    pub(super) async fn found(&self, locator: Locator) -> Record {
        match self.read(locator).await {
            ReadReply::Found(record) => *record,
            other => panic!("a session that must be there: {other:?}"),
        }
    }

    /// Writes `change` upon what `owned` knows, without taking the answer in.
    pub(super) async fn write(&self, owned: &Owned, change: &Change, op_id: OpId) -> WriteReply {
        let after = owned.after(change, op_id);
        let write = Write {
            locator: owned.locator,
            fence: &owned.fence,
            base_version: owned.record.version,
            op_id,
            change,
            after: &after,
        };
        self.store.write(write).await.expect("write answers")
    }

    /// Writes, which must succeed, and takes it in.
    pub(super) async fn written(&self, owned: &mut Owned, change: &Change) -> OpId {
        let op_id = OpId::random();
        let reply = self.write(owned, change, op_id).await;
        let WriteReply::Written { version, .. } = reply else {
            panic!("a write of the owner: {reply:?}")
        };
        assert_eq!(version, owned.record.version + 1, "a write makes the next version");
        let last_access_ms = self.found(owned.locator).await.last_access_ms;
        owned.record = Record { last_access_ms, ..owned.after(change, op_id) };
        op_id
    }
}

impl Owned {
    /// The record as it must be after `change`.
    pub(super) fn after(&self, change: &Change, op_id: OpId) -> Record {
        let mut after = self.record.clone();
        apply(&mut after, change);
        after.version += 1;
        after.last_op = Some(op_id);
        after
    }
}

/// Begins a new life of a node.
pub(super) fn node(name: &str) -> NodeId {
    NodeId::begin(NodeName::from_lossy(name))
}

/// A new session without contents.
pub(super) fn blank(owner: &NodeId) -> Record {
    Record {
        owner: Some(Token::new(owner)),
        epoch: 1,
        version: 1,
        last_op: None,
        created_ms: 0,
        absolute_ms: 0,
        last_access_ms: 0,
        idle_ms: ms(LONG),
        user: None,
        secret: SecretHash([7; 32]),
        previous_secret: None,
        attributes: Arc::default(),
        recent: RecentOps::default(),
        unknown: BTreeMap::new(),
        seal: Seal::Open,
    }
}

/// A change that sets one attribute.
pub(super) fn set(name: &str, value: &str) -> Change {
    Change { set: vec![(name.into(), value.into())], ..Change::default() }
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
