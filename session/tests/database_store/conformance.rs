//! The suite that every store of sessions must pass.

use std::sync::Arc;
use std::time::Duration;

use understudy_runtime::lease::LeaseStore;
use understudy_session::store::SharedStore;
use understudy_session::store::conformance::{self, Fixture};
use understudy_session::store::database::DatabaseStore;

use crate::bench::{Bench, postgres, sealed, sqlite};

/// Long enough for a server on a busy machine, short enough to be waited for.
const LEASE: Duration = Duration::from_millis(400);
const SLACK: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Examined(Bench);

impl Fixture for Examined {
    fn store(&self) -> SharedStore {
        Arc::new(DatabaseStore::new(self.0.database.clone(), LEASE, SLACK))
    }

    fn leases(&self) -> Arc<dyn LeaseStore> {
        Arc::new(self.0.leases.clone())
    }

    fn lease(&self) -> Duration {
        LEASE
    }

    fn touch_slack(&self) -> Duration {
        SLACK
    }
}

/// The same, sealed.
#[derive(Debug)]
struct Sealed(Examined);

impl Fixture for Sealed {
    fn store(&self) -> SharedStore {
        let store = DatabaseStore::new(self.0.0.database.clone(), LEASE, SLACK);
        Arc::new(sealed(store, "a"))
    }

    fn leases(&self) -> Arc<dyn LeaseStore> {
        self.0.leases()
    }

    fn lease(&self) -> Duration {
        LEASE
    }

    fn touch_slack(&self) -> Duration {
        SLACK
    }

    fn keeps_seals(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn x6_a_sealed_sqlite_passes_the_suite() {
    conformance::run(&Sealed(Examined(sqlite().await))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn x6_a_sealed_postgres_passes_the_suite() {
    conformance::run(&Sealed(Examined(postgres().await))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn k7_sqlite_passes_the_suite() {
    conformance::run(&Examined(sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn k7_postgres_passes_the_suite() {
    conformance::run(&Examined(postgres().await)).await;
}
