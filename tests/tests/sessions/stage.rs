//! The cluster that the tests of one stage share.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use understudy_tests::{Cluster, Redis, Topology};

/// Where the sessions of a stage are kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ground {
    /// In a Redis of this kind.
    Redis(Topology),
    /// In PostgreSQL.
    Database,
}

/// Three nodes of the fixture application behind nginx: started by the first test that comes, ended by the last.
pub(super) struct Stage {
    ground: Ground,
    /// Tests that have not left yet. With a filter on the names some never come: then the cluster ends with the process.
    expected: AtomicUsize,
    cluster: RwLock<Option<Cluster>>,
}

impl Stage {
    pub(super) const fn new(ground: Ground, tests: usize) -> Self {
        let expected = AtomicUsize::new(tests);
        Self { ground, expected, cluster: RwLock::const_new(None) }
    }

    /// Uses the cluster beside other tests; once per test.
    pub(super) async fn share(&self) -> Shared<'_> {
        loop {
            let guard = self.cluster.read().await;
            if guard.is_some() {
                return Shared { stage: self, guard: Some(guard) };
            }
            drop(guard);
            drop(self.started().await);
        }
    }

    /// Uses the cluster alone, to do something to its nodes; once per test.
    pub(super) async fn alone(&self) -> Alone<'_> {
        Alone { stage: self, guard: Some(self.started().await) }
    }

    async fn started(&self) -> RwLockWriteGuard<'_, Option<Cluster>> {
        let mut guard = self.cluster.write().await;
        if guard.is_none() {
            *guard = Some(start(self.ground).await);
        }
        guard
    }

    fn leave(&self) {
        let last = self.expected.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && let Ok(mut guard) = self.cluster.try_write() {
            // Here a node that logged an error fails the last test.
            drop(guard.take());
        }
    }
}

async fn start(ground: Ground) -> Cluster {
    let builder = Cluster::builder().nginx(true);
    let builder = match ground {
        Ground::Database => builder.env("UNDERSTUDY_SESSION_STORE", "database"),
        // k9: the whole suite runs without @dangerous and KEYS.
        Ground::Redis(Topology::Standalone) => {
            builder.redis_with(Redis::builder(Topology::Standalone).restricted_user())
        }
        Ground::Redis(topology) => builder.redis(topology),
    };
    builder.start().await
}

/// The cluster, shared.
pub(super) struct Shared<'a> {
    stage: &'a Stage,
    guard: Option<RwLockReadGuard<'a, Option<Cluster>>>,
}

impl Deref for Shared<'_> {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.guard.as_ref().and_then(|guard| guard.as_ref()).expect("held until the drop")
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        drop(self.guard.take());
        self.stage.leave();
    }
}

/// The cluster, for one test only.
pub(super) struct Alone<'a> {
    stage: &'a Stage,
    guard: Option<RwLockWriteGuard<'a, Option<Cluster>>>,
}

impl Deref for Alone<'_> {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.guard.as_ref().and_then(|guard| guard.as_ref()).expect("held until the drop")
    }
}

impl DerefMut for Alone<'_> {
    fn deref_mut(&mut self) -> &mut Cluster {
        self.guard.as_mut().and_then(|guard| guard.as_mut()).expect("held until the drop")
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        drop(self.guard.take());
        self.stage.leave();
    }
}
