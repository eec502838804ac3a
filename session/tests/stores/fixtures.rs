//! The stores that are examined.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use understudy_runtime::clock::ManualClock;
use understudy_runtime::config::Config;
use understudy_runtime::ids::{Bucket, NodeId};
use understudy_runtime::keys::KeySpace;
use understudy_runtime::lease::{LeaseStore, RedisLeases};
use understudy_runtime::redis::{Redis, Role};
use understudy_session::packing::Packing;
use understudy_session::record::Locator;
use understudy_session::sealing::SealRing;
use understudy_session::store::conformance::{Fixture, Remembered};
use understudy_session::store::memory::{MemoryStore, Remembers};
use understudy_session::store::redis::RedisStore;
use understudy_session::store::{SealedStore, SharedStore};

/// How long leases last, and the grace. Real time passes on Redis: short, but no shorter than a busy machine may stall.
pub(crate) const LEASE: Duration = Duration::from_millis(1_000);
pub(crate) const SLACK: Duration = Duration::from_millis(200);

/// The store in memory, on a clock that is moved by hand.
#[derive(Debug)]
pub(crate) struct InMemory {
    store: MemoryStore,
    clock: Arc<ManualClock>,
    remembered: Remembered,
}

impl InMemory {
    pub(crate) fn keeping_everything() -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = MemoryStore::new(clock.clone(), LEASE, SLACK);
        Self { store, clock, remembered: Remembered::Everything }
    }

    pub(crate) fn forgetting() -> Self {
        Self { remembered: Remembered::Nothing, ..Self::keeping_everything() }
    }
}

#[async_trait]
impl Fixture for InMemory {
    fn store(&self) -> SharedStore {
        Arc::new(self.store.clone())
    }

    fn leases(&self) -> Arc<dyn LeaseStore> {
        Arc::new(self.store.clone())
    }

    fn lease(&self) -> Duration {
        LEASE
    }

    fn touch_slack(&self) -> Duration {
        SLACK
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    async fn change_identity(&self) -> Option<Remembered> {
        let remembers = match self.remembered {
            Remembered::Everything => Remembers::Everything,
            Remembered::Nothing => Remembers::Nothing,
        };
        self.store.change_identity(remembers).await;
        Some(self.remembered)
    }
}

/// The store in Redis, on a server of its own.
#[derive(Debug)]
pub(crate) struct OnRedis {
    server: Mutex<RedisServer>,
    redis: Redis,
    keys: Arc<KeySpace>,
}

impl OnRedis {
    /// Starts a server, with a connection to it.
    pub(crate) async fn start() -> Self {
        let server = RedisServer::start();
        let (redis, keys) = connect(server.port, Duration::from_secs(10)).await;
        Self { server: Mutex::new(server), redis, keys }
    }

    /// A store over a connection whose commands may take 300 ms.
    pub(crate) async fn impatient(&self) -> SharedStore {
        let port = self.server.lock().await.port;
        let redis = connect(port, Duration::from_millis(300)).await.0;
        Arc::new(RedisStore::new(redis, self.keys.clone(), LEASE, SLACK))
    }

    /// The store itself, for a layer over it.
    pub(crate) fn plain(&self) -> RedisStore {
        RedisStore::new(self.redis.clone(), self.keys.clone(), LEASE, SLACK)
    }

    /// A store whose contents are sealed.
    pub(crate) fn sealed(&self, ring: SealRing) -> SharedStore {
        let store = RedisStore::new(self.redis.clone(), self.keys.clone(), LEASE, SLACK);
        Arc::new(SealedStore::new(Arc::new(store.opening(&ring.known())), ring))
    }

    /// A store whose contents are packed above 100 bytes, and sealed.
    pub(crate) fn packed(&self, ring: SealRing) -> SharedStore {
        let store = RedisStore::new(self.redis.clone(), self.keys.clone(), LEASE, SLACK);
        let store = SealedStore::new(Arc::new(store.opening(&ring.known())), ring);
        Arc::new(store.packing(Packing::new(100, 1_000_000)))
    }

    /// Runs a command at the server, beside the store.
    pub(crate) async fn command(&self, words: &[&str]) -> String {
        let port = self.server.lock().await.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The index of the sessions by when they may be over.
    pub(crate) fn index(&self) -> String {
        self.keys.session_expiry(Bucket(0))
    }

    /// What the database does not have yet, and who brings it there.
    pub(crate) fn unsaved(&self) -> String {
        self.keys.unsaved_sessions(Bucket(0))
    }

    pub(crate) fn saver(&self) -> String {
        self.keys.session_saver(Bucket(0))
    }

    pub(crate) fn key(&self, locator: Locator) -> String {
        self.keys.session(self.bucket(locator), &locator.to_string())
    }
}

async fn connect(port: u16, command_timeout: Duration) -> (Redis, Arc<KeySpace>) {
    let url = format!("redis://127.0.0.1:{port}");
    let config = Config::from_vars([("UNDERSTUDY_REDIS_URL".to_owned(), url)]).unwrap();
    let node = NodeId::begin("conformance".parse().unwrap());
    let mut to = config.redis.unwrap();
    to.command_timeout = command_timeout;
    let redis = Redis::connect(&to, Role::Data(0), &node).await.unwrap();
    redis.connects().wait_for(|count| *count > 0).await.unwrap();
    let keys = Arc::new(KeySpace::new(&config.cluster.name, redis.buckets()));
    (redis, keys)
}

#[async_trait]
impl Fixture for OnRedis {
    fn store(&self) -> SharedStore {
        Arc::new(RedisStore::new(self.redis.clone(), self.keys.clone(), LEASE, SLACK))
    }

    fn leases(&self) -> Arc<dyn LeaseStore> {
        Arc::new(RedisLeases::new(self.redis.clone(), (*self.keys).clone()))
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

    async fn change_identity(&self) -> Option<Remembered> {
        let mut connects = self.redis.connects();
        let before = *connects.borrow_and_update();
        self.server.lock().await.restart();
        connects.wait_for(|count| *count > before).await.unwrap();
        Some(Remembered::Nothing)
    }
}

/// A throw-away server; gone when dropped.
#[derive(Debug)]
struct RedisServer {
    port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl RedisServer {
    fn start() -> Self {
        // The kernel hands free ports out in turn, so nobody else gets this one soon.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { port, folder: tempfile::tempdir().unwrap(), child: None };
        server.launch();
        server
    }

    fn launch(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--dir"]).arg(self.folder.path());
        self.child = Some(command.stdout(Stdio::null()).spawn().unwrap());
    }

    /// Ends the process and starts another: a new run id, and nothing of what was in it.
    fn restart(&mut self) {
        self.end();
        self.launch();
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.end();
    }
}
