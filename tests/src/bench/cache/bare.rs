//! What the cache is compared with: the libraries alone, and one command per call.

use std::sync::Arc;

use fred::clients::Client;
use fred::interfaces::{ClientLike as _, KeysInterface as _, PubsubInterface as _};
use fred::types::Builder;
use fred::types::config::{Config, ReconnectPolicy, TcpConfig};
use understudy_runtime::clock::{Clock as _, SystemClock};

/// A cache of values behind pointers, as ours are.
pub(super) trait Bare {
    fn get(&self, key: &str) -> Option<Arc<u64>>;
}

/// quick_cache, the library that is behind ours.
pub(super) struct InQuickCache(quick_cache::sync::Cache<Arc<str>, Arc<u64>>);

impl InQuickCache {
    pub(super) fn filled(keys: &[String]) -> Self {
        let cache: quick_cache::sync::Cache<Arc<str>, Arc<u64>> =
            quick_cache::sync::Cache::new(2 * keys.len());
        keys.iter().for_each(|key| cache.insert(Arc::from(key.as_str()), Arc::new(1)));
        Self(cache)
    }
}

impl Bare for InQuickCache {
    fn get(&self, key: &str) -> Option<Arc<u64>> {
        self.0.get(key)
    }
}

/// quick_cache and the clock: no less is to be done by what promises how old a value is at most.
pub(super) struct Clocked(pub(super) InQuickCache, pub(super) SystemClock);

impl Bare for Clocked {
    fn get(&self, key: &str) -> Option<Arc<u64>> {
        let value = self.0.get(key);
        std::hint::black_box(self.1.now());
        value
    }
}

/// moka, the library that is used most.
pub(super) struct InMoka(moka::sync::Cache<Arc<str>, Arc<u64>>);

impl InMoka {
    pub(super) fn filled(keys: &[String]) -> Self {
        let cache: moka::sync::Cache<Arc<str>, Arc<u64>> =
            moka::sync::Cache::new(2 * keys.len() as u64);
        keys.iter().for_each(|key| cache.insert(Arc::from(key.as_str()), Arc::new(1)));
        Self(cache)
    }
}

impl Bare for InMoka {
    fn get(&self, key: &str) -> Option<Arc<u64>> {
        self.0.get(key)
    }
}

/// A connection to Redis without anything around it.
pub(super) struct Commands(Client);

impl Commands {
    pub(super) async fn connect(url: &str) -> Self {
        let config = Config::from_url(url).expect("the URL of the harness is one");
        let client = Builder::from_config(config)
            .with_connection_config(|connection| {
                connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
            })
            .set_policy(ReconnectPolicy::default())
            .build()
            .expect("the options are valid");
        client.init().await.expect("Redis runs");
        Self(client)
    }

    pub(super) async fn set(&self, key: &str, value: &str) {
        let () = self.0.set(key, value, None, None, false).await.expect("Redis runs");
    }

    pub(super) async fn get(&self, key: &str) {
        let value: Option<String> = self.0.get(key).await.expect("Redis runs");
        assert!(std::hint::black_box(value).is_some(), "the value is there");
    }

    pub(super) async fn publish(&self, message: &str) {
        let heard: i64 = self.0.publish("us:bench", message).await.expect("Redis runs");
        std::hint::black_box(heard);
    }
}
