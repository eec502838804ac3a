//! Real Redis servers for the tests of this crate: children of the test process, gone when dropped.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{Redis, Role};
use crate::config::{RedisConfig, RedisTarget, Topology};
use crate::ids::NodeId;

/// A throw-away server on a free port of the loopback.
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    dir: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with options as they are given on the command line.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let mut server = Self {
            port: free_port(),
            dir: tempfile::tempdir().unwrap(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            child: None,
        };
        server.launch().await;
        server
    }

    /// Starts the process again: another run id, and nothing of what was in it.
    pub(crate) async fn launch(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--dir"]).arg(self.dir.path()).args(&self.options);
        self.child =
            Some(command.stdout(Stdio::null()).spawn().expect("redis-server is installed"));
        // A server that wants a password answers, too.
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

    /// Lets the process stand still, as a stalled machine does; connections stay open.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("running");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Runs redis-cli; returns what it prints.
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(args).stderr(Stdio::null());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    pub(crate) fn config(&self) -> RedisConfig {
        config(vec![self.port], Topology::Standalone)
    }

    pub(crate) async fn connect(&self, role: Role, node: &NodeId) -> Redis {
        let redis = Redis::connect(&self.config(), role, node).await.unwrap();
        connected(&redis).await;
        redis
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three primaries without replicas.
pub(crate) async fn cluster() -> Vec<RedisServer> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        servers.push(RedisServer::start_with(&options).await);
    }
    let hosts: Vec<String> =
        servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let mut create = vec!["--cluster", "create"];
    create.extend(hosts.iter().map(String::as_str));
    create.push("--cluster-yes");
    servers[0].cli(&create);
    for server in &servers {
        while !server.cli(&["cluster", "info"]).contains("cluster_state:ok") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    servers
}

pub(crate) fn config(ports: Vec<u16>, topology: Topology) -> RedisConfig {
    RedisConfig {
        targets: RedisTarget {
            topology,
            hosts: ports.into_iter().map(|port| ("127.0.0.1".to_owned(), port)).collect(),
            tls: false,
            db: 0,
            username: None,
            password: None,
        },
        sentinel_password: None,
        sentinel_username: None,
        tls_ca_file: None,
        tls_cert_file: None,
        tls_key_file: None,
        pool_size: 1,
        connect_timeout: Duration::from_secs(1),
        command_timeout: Duration::from_millis(500),
        reconnect_min: Duration::from_millis(100),
        reconnect_max: Duration::from_secs(5),
    }
}

pub(crate) async fn connected(redis: &Redis) {
    redis.connects().wait_for(|count| *count > 0).await.unwrap();
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::begin(name.parse().unwrap())
}

pub(crate) fn free_port() -> u16 {
    // Another process could take it before the server does; the kernel hands ports out in turn, so it will not.
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for a condition, for at most ten seconds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 10 s: {what}");
}

/// Demands that something stays as it is for so long, and looks all the time: for what must not happen there is no moment
/// that could be waited for.
pub(crate) async fn stays(what: &str, time: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(condition(), "no longer: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(condition(), "no longer: {what}");
}

/// A primary with one replica, and a Sentinel that watches over them.
pub(crate) struct Guarded {
    pub(crate) primary: RedisServer,
    pub(crate) replica: RedisServer,
    pub(crate) sentinel: RedisServer,
}

impl Guarded {
    pub(crate) async fn start() -> Self {
        let primary = RedisServer::start().await;
        let port = primary.port.to_string();
        let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]).await;
        let mut sentinel = RedisServer {
            port: free_port(),
            dir: tempfile::tempdir().unwrap(),
            options: Vec::new(),
            child: None,
        };
        let file = sentinel.dir.path().join("sentinel.conf");
        let text = format!(
            "port {}\nbind 127.0.0.1\nsentinel monitor prime 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds prime 1000\nsentinel failover-timeout prime 3000\n",
            sentinel.port
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").stdout(Stdio::null());
        sentinel.child = Some(command.spawn().unwrap());
        while !sentinel.cli(&["sentinel", "master", "prime"]).contains("num-slaves\n1\n") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { primary, replica, sentinel }
    }

    pub(crate) fn config(&self) -> RedisConfig {
        config(vec![self.sentinel.port], Topology::Sentinel { service: "prime".to_owned() })
    }
}
