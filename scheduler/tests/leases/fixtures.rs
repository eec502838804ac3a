//! Real servers, and what the tests need of them.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use understudy_runtime::config::{Config, DatabaseUrl, RedisConfig};
use understudy_runtime::database::Database;
use understudy_runtime::database::test_postgres::{TestPostgres, test_config};
use understudy_runtime::ids::NodeId;
use understudy_runtime::keys::KeySpace;
use understudy_runtime::redis::{Redis, Role};
use understudy_scheduler::leader::{DatabaseLease, LeaseValue, RedisLease};

/// As the migrations of the scheduler make it.
const TABLE: &str = "CREATE TABLE us_leader_lease (
    name text NOT NULL PRIMARY KEY, value text NOT NULL, deadline_ms bigint NOT NULL)";

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::begin(name.parse().unwrap())
}

pub(crate) fn value(name: &str) -> LeaseValue {
    static TERMS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let term = TERMS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    LeaseValue::new(node(name), u128::from(term))
}

pub(crate) fn keys() -> KeySpace {
    KeySpace::new(&"t".parse().unwrap(), 1)
}

/// A throw-away server; gone when dropped.
pub(crate) struct RedisServer {
    port: u16,
    folder: tempfile::TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    pub(crate) async fn start(options: &[&str]) -> Self {
        // The kernel hands free ports out in turn, so nobody else gets this one soon.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = Self { port, folder: tempfile::tempdir().unwrap(), options, child: None };
        server.launch().await;
        server
    }

    /// Starts the process again: nothing of what was in it is left.
    pub(crate) async fn launch(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--dir"]).arg(self.folder.path()).args(&self.options);
        self.child = Some(command.stdout(Stdio::null()).spawn().unwrap());
        while self.cli(&["ping"]).trim().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(args).stderr(Stdio::null());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    pub(crate) fn config(&self) -> RedisConfig {
        let url = format!("redis://127.0.0.1:{}", self.port);
        Config::from_vars([("UNDERSTUDY_REDIS_URL".to_owned(), url)]).unwrap().redis.unwrap()
    }

    pub(crate) async fn connect(&self, role: Role) -> Redis {
        let redis = Redis::connect(&self.config(), role, &node("leases")).await.unwrap();
        redis.connects().wait_for(|count| *count > 0).await.unwrap();
        redis
    }

    pub(crate) async fn lease(&self, min_replicas: u32) -> RedisLease {
        let ttl = Duration::from_secs(60);
        RedisLease::new(self.connect(Role::Leader).await, &keys(), min_replicas, ttl)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) struct OnDatabase {
    pub(crate) lease: DatabaseLease,
    database: Database,
    pub(crate) server: Option<TestPostgres>,
    _folder: tempfile::TempDir,
}

impl OnDatabase {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::open(DatabaseUrl::Sqlite(folder.path().join("lease.sqlite3")), None, folder).await
    }

    pub(crate) async fn postgres() -> Self {
        let server = TestPostgres::start();
        let url = server.config().url;
        Self::open(url, Some(server), tempfile::tempdir().unwrap()).await
    }

    async fn open(
        url: DatabaseUrl,
        server: Option<TestPostgres>,
        folder: tempfile::TempDir,
    ) -> Self {
        let database = Database::connect(&test_config(url)).await.unwrap();
        let lease = DatabaseLease::new(database.clone(), Duration::from_secs(5));
        let made = Self { lease, database, server, _folder: folder };
        made.run(TABLE).await;
        made
    }

    pub(crate) async fn run(&self, sql: &str) {
        let statement = self.database.backend().statement(sql, []);
        self.database.connection().execute_raw(statement).await.unwrap();
    }
}

/// Waits for a condition, for at most ten seconds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within 10 s: {what}");
}
