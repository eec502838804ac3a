//! The suite that every store must pass, on Redis as it is run in earnest: one server is examined beside the store.

use std::sync::Arc;
use std::time::Duration;

use understudy::runtime::config::Config;
use understudy::runtime::ids::{Bucket, NodeId};
use understudy::runtime::keys::KeySpace;
use understudy::runtime::lease::{LeaseStore, RedisLeases};
use understudy::runtime::redis::{Redis as Connection, Role};
use understudy::session::store::SharedStore;
use understudy::session::store::redis::RedisStore;
use understudy_session::record::Locator;
use understudy_session::store::conformance::{self, Fixture};
use understudy_tests::{Redis, Topology};

/// Real time passes on a real server: short, but no shorter than a busy machine may stall.
const LEASE: Duration = Duration::from_millis(1_000);
const SLACK: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct OnRedis {
    connection: Connection,
    keys: Arc<KeySpace>,
}

impl OnRedis {
    async fn connect(redis: &Redis) -> Self {
        let config = Config::from_vars(redis.environment()).unwrap();
        let node = NodeId::begin("conformance".parse().unwrap());
        let options = config.redis.expect("the address is set");
        let connection = Connection::connect(&options, Role::Data(0), &node).await.unwrap();
        connection.connects().wait_for(|count| *count > 0).await.unwrap();
        let keys = Arc::new(KeySpace::new(&config.cluster.name, connection.buckets()));
        Self { connection, keys }
    }
}

impl Fixture for OnRedis {
    fn store(&self) -> SharedStore {
        let (connection, keys) = (self.connection.clone(), Arc::clone(&self.keys));
        Arc::new(RedisStore::new(connection, keys, LEASE, SLACK))
    }

    fn leases(&self) -> Arc<dyn LeaseStore> {
        Arc::new(RedisLeases::new(self.connection.clone(), (*self.keys).clone()))
    }

    fn lease(&self) -> Duration {
        LEASE
    }

    fn touch_slack(&self) -> Duration {
        SLACK
    }

    fn bucket(&self, locator: Locator) -> Bucket {
        self.keys.bucket_of(locator.as_bytes())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k7_the_store_passes_its_suite_on_one_redis() {
    let redis = Redis::standalone().await;
    conformance::run(&OnRedis::connect(&redis).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k7_the_store_passes_its_suite_behind_sentinel() {
    let redis = Redis::sentinel().await;
    conformance::run(&OnRedis::connect(&redis).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k7_the_store_passes_its_suite_on_a_redis_cluster() {
    let redis = Redis::cluster().await;
    conformance::run(&OnRedis::connect(&redis).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k7_the_store_passes_its_suite_over_tls_as_a_restricted_user() {
    let redis = Redis::builder(Topology::Tls).restricted_user().start().await;
    conformance::run(&OnRedis::connect(&redis).await).await;
}
