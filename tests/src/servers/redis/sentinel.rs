//! Three sentinels that know each other from the start.
//!
//! Left alone, sentinels need 2-12 s to find each other through the primary. The harness writes
//! down for each what it would find out.

use std::time::Duration;

use super::server::{Access, Server};
use super::{START_LIMIT, patiently};
use crate::servers::commands::find_program;
use crate::servers::ports::free_port;
use crate::servers::process::{Launch, Process, Signal, spawn};
use crate::servers::scratch::Scratch;

/// The name of the service that the sentinels watch.
pub(super) const SERVICE: &str = "mymaster";

const COUNT: usize = 3;

/// One sentinel; killed on drop.
#[derive(Debug)]
pub(super) struct Sentinel {
    _process: Process,
    port: u16,
    _folder: Scratch,
    access: Access,
}

impl Sentinel {
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn cli(&self, arguments: &[&str]) -> String {
        self.try_cli(arguments).unwrap_or_else(|error| panic!("sentinel {arguments:?}: {error}"))
    }

    fn try_cli(&self, arguments: &[&str]) -> Result<String, String> {
        self.access.cli(self.port, arguments)
    }

    /// The port of the server that it takes for the primary.
    pub(super) fn primary_port(&self) -> Option<u16> {
        let answer = self.try_cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).ok()?;
        answer.lines().nth(1)?.parse().ok()
    }

    /// True when it names this primary and sees enough others to elect a new one.
    fn agrees(&self, primary: Option<u16>) -> bool {
        let quorum = self.try_cli(&["SENTINEL", "CKQUORUM", SERVICE]);
        self.primary_port() == primary && quorum.is_ok_and(|answer| answer.starts_with("OK 3"))
    }
}

/// Starts three sentinels over the first of `servers` and its replicas.
pub(super) async fn create(
    servers: &[Server],
    access: &Access,
    down_after: Duration,
) -> Vec<Sentinel> {
    let identities: Vec<(u16, String)> = (0..COUNT)
        .map(|_| (free_port(), format!("{:032x}{:08x}", rand::random::<u128>(), 0)))
        .collect();
    let mut sentinels = Vec::new();
    for own in 0..COUNT {
        let folder = Scratch::new("sentinel");
        let mut config = configuration(own, &identities, servers, access);
        let ms = down_after.as_millis();
        config += &format!("sentinel down-after-milliseconds {SERVICE} {ms}\n");
        let file = folder.join("sentinel.conf");
        std::fs::write(&file, config).expect("an own directory is writable");
        let process = spawn(Launch {
            name: format!("sentinel{own}"),
            program: find_program("redis-server"),
            arguments: vec![file.into(), "--sentinel".into()],
            environment: Vec::new(),
            directory: folder.path().to_owned(),
            log: folder.join("log"),
            user: None,
            farewell: Signal::KILL,
        });
        // The password is that of the data servers; a sentinel asks for none.
        let access = Access { password: None, certificates: None };
        let port = identities[own].0;
        sentinels.push(Sentinel { _process: process, port, _folder: folder, access });
    }
    sentinels
}

fn configuration(
    own: usize,
    identities: &[(u16, String)],
    servers: &[Server],
    access: &Access,
) -> String {
    let (port, id) = &identities[own];
    let primary = servers[0].port();
    let mut config = format!(
        "port {port}\nbind 127.0.0.1\nsentinel myid {id}\n\
         sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n\
         sentinel failover-timeout {SERVICE} 2000\nsentinel parallel-syncs {SERVICE} 1\n"
    );
    if let Some(password) = &access.password {
        config += &format!("sentinel auth-pass {SERVICE} {password}\n");
    }
    for replica in &servers[1..] {
        let port = replica.port();
        config += &format!("sentinel known-replica {SERVICE} 127.0.0.1 {port}\n");
    }
    for (port, id) in identities.iter().filter(|(_, other)| other != id) {
        config += &format!("sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {id}\n");
    }
    config
}

/// Waits until all sentinels are able to elect, name one primary, and its replicas follow.
pub(super) async fn ready(servers: &[Server], sentinels: &[Sentinel]) {
    patiently("the sentinels and replicas are ready", START_LIMIT, || {
        let named = sentinels[0].primary_port();
        let primary = servers.iter().find(|server| Some(server.port()) == named);
        primary.is_some_and(|primary| follows(primary, servers.len() - 1))
            && sentinels.iter().all(|sentinel| sentinel.agrees(named))
    })
    .await;
}

fn follows(primary: &Server, replicas: usize) -> bool {
    let state = primary.try_cli(&["INFO", "replication"]).unwrap_or_default();
    state.contains("role:master") && state.matches("state=online").count() == replicas
}
