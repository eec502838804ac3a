//! What a Redis is started with.

use std::time::Duration;

use super::certificates::{Certificates, Clients};
use super::server::{Access, Server};
use super::{Redis, Topology, sentinel, slots};

const DEFAULT_PASSWORD: &str = "harness";

/// Options of a Redis to be started.
#[derive(Debug, Clone)]
pub struct RedisBuilder {
    topology: Topology,
    replicas: usize,
    min_replicas: u32,
    append_only: bool,
    password: Option<String>,
    user: Option<(String, String, String)>,
    clients: Clients,
    down_after: Duration,
    lines: Vec<String>,
}

impl RedisBuilder {
    /// The usual options: one replica with Sentinel, no password, nothing kept over a kill.
    pub(super) fn new(topology: Topology) -> Self {
        Self {
            topology,
            replicas: 1,
            min_replicas: 0,
            append_only: false,
            password: None,
            user: None,
            clients: Clients::Anonymous,
            down_after: Duration::from_secs(1),
            lines: Vec::new(),
        }
    }

    /// Replicas of the primary with Sentinel; 1 unless set.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Writes are refused while fewer replicas listen (`min-replicas-to-write`); 0 unless set.
    #[must_use]
    pub fn min_replicas_to_write(mut self, replicas: u32) -> Self {
        self.min_replicas = replicas;
        self
    }

    /// For how long the sentinels hear nothing of a server before they take it for dead; a second unless set. On a machine
    /// that is kept busy longer, or they replace one that lives.
    #[must_use]
    pub fn down_after(mut self, time: Duration) -> Self {
        self.down_after = time;
        self
    }

    /// Writes a log of commands, so that data outlives a kill.
    #[must_use]
    pub fn append_only(mut self) -> Self {
        self.append_only = true;
        self
    }

    /// Demands a password of the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Adds the user `app` that the product's documentation asks for: everything but dangerous
    /// commands and KEYS, with INFO. The URL then names it, and the default user has a password.
    #[must_use]
    pub fn restricted_user(self) -> Self {
        self.user("app", "app-password", "~* &* +@all -@dangerous -keys +info")
    }

    /// Adds a user with these ACL rules, which the URL then names.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned(), rules.to_owned()));
        self.password.get_or_insert_with(|| DEFAULT_PASSWORD.to_owned());
        self
    }

    /// Demands a certificate of every client; only with [`Topology::Tls`].
    #[must_use]
    pub fn client_certificates(mut self) -> Self {
        self.clients = Clients::Certified;
        self
    }

    /// Adds a line to redis.conf of every data server.
    #[must_use]
    pub fn config_line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Starts it and waits until it accepts writes.
    pub async fn start(self) -> Redis {
        let is_tls = self.topology == Topology::Tls;
        let certificates = is_tls.then(|| Certificates::create(self.clients));
        let access = Access { password: self.password.clone(), certificates };
        let lines = self.common_lines();
        let servers = match self.topology {
            Topology::Standalone | Topology::Tls => {
                vec![Server::create("redis", &lines, &access).await]
            }
            Topology::Sentinel => replicated(&lines, self.replicas, &access).await,
            Topology::Cluster => slots::create(&lines, &access).await,
        };
        let sentinels = match self.topology {
            Topology::Sentinel => sentinel::create(&servers, &access, self.down_after).await,
            Topology::Standalone | Topology::Tls | Topology::Cluster => Vec::new(),
        };
        let redis = Redis {
            topology: self.topology,
            user: self.user,
            append_only: self.append_only,
            servers,
            sentinels,
            access,
        };
        redis.ready().await;
        redis
    }

    fn common_lines(&self) -> Vec<String> {
        let mut lines = self.lines.clone();
        lines.push(format!("appendonly {}", if self.append_only { "yes" } else { "no" }));
        if let Some(password) = &self.password {
            lines.push(format!("requirepass {password}"));
            lines.push(format!("masterauth {password}"));
        }
        if let Some((name, password, rules)) = &self.user {
            lines.push(format!("user {name} on >{password} {rules}"));
        }
        if self.min_replicas > 0 {
            lines.push(format!("min-replicas-to-write {}", self.min_replicas));
            lines.push("min-replicas-max-lag 2".to_owned());
        }
        lines
    }
}

/// A primary and its replicas.
async fn replicated(lines: &[String], replicas: usize, access: &Access) -> Vec<Server> {
    let primary = Server::create("primary", lines, access).await;
    let mut lines = lines.to_vec();
    lines.push(format!("replicaof 127.0.0.1 {}", primary.port()));
    let mut servers = vec![primary];
    for number in 1..=replicas {
        servers.push(Server::create(&format!("replica{number}"), &lines, access).await);
    }
    servers
}
