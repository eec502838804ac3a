//! The cluster that the tests of one topology share.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use understudy_tests::{Cluster, Redis, Topology};

/// Three nodes of the fixture application behind nginx: started by the first test that comes, ended by the last.
pub(super) struct Stage {
    topology: Topology,
    /// Tests that have not left yet. With a filter on the names some never come: then the cluster ends with the process.
    expected: AtomicUsize,
    cluster: RwLock<Option<Cluster>>,
}

impl Stage {
    pub(super) const fn new(topology: Topology, tests: usize) -> Self {
        let expected = AtomicUsize::new(tests);
        Self { topology, expected, cluster: RwLock::const_new(None) }
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
            *guard = Some(start(self.topology).await);
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

async fn start(topology: Topology) -> Cluster {
    let redis = match topology {
        // k9: the whole suite runs without @dangerous and KEYS.
        Topology::Standalone => Redis::builder(topology).restricted_user(),
        Topology::Tls | Topology::Sentinel | Topology::Cluster => Redis::builder(topology),
    };
    let builder = Cluster::builder().redis_with(redis).nginx(true);
    // These tests prove exactness, not times: a loaded machine may answer late.
    builder.env("UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS", "1000").start().await
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
