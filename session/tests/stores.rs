//! Every store passes the conformance suite: the one in memory here, Redis on a real server.
//!
//! The database store has a file of its own, `database_store`, for it takes real databases and processes.

#![expect(clippy::unwrap_used, reason = "all of it is test code")]

#[path = "stores/expiry.rs"]
mod expiry;
#[path = "stores/fixtures.rs"]
mod fixtures;
#[path = "stores/persisted.rs"]
mod persisted;
#[path = "stores/sealed.rs"]
mod sealed;
#[path = "stores/together.rs"]
mod together;

use fixtures::{InMemory, OnRedis};
use persisted::Persisted;
use sealed::Sealed;
use understudy_runtime::config::PersistMode;
use understudy_session::store::conformance;

#[tokio::test]
async fn the_store_in_memory_passes() {
    conformance::run(&InMemory::keeping_everything()).await;
}

#[tokio::test]
async fn the_store_in_memory_passes_when_it_forgets() {
    conformance::run(&InMemory::forgetting()).await;
}

#[tokio::test]
async fn s7_rolls_miss_nobody_however_slow_logins_are() {
    for seed in 0..40 {
        let leap = std::time::Duration::from_secs(61);
        conformance::random_logins(&InMemory::keeping_everything(), seed, 400, leap).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_passes() {
    conformance::run(&OnRedis::start().await).await;
}

#[tokio::test]
async fn x6_a_sealed_store_in_memory_passes() {
    conformance::run(&Sealed::in_memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_a_sealed_redis_passes() {
    conformance::run(&Sealed::on_redis().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_redis_with_a_copy_in_the_database_passes() {
    conformance::run(&Persisted::start(PersistMode::WriteThrough).await).await;
}
