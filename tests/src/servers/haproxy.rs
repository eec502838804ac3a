//! HAProxy with the configuration that is shipped in deploy/haproxy.cfg.

use std::net::TcpStream;
use std::time::Duration;

use super::commands::find_program;
use super::process::{Launch, Process, Signal, spawn};
use super::scratch::Scratch;
use crate::{Cluster, wait};

const SAMPLE: &str = include_str!("../../../deploy/haproxy.cfg");
const LIMIT: Duration = Duration::from_secs(60);

/// A running HAProxy; ended on drop.
#[derive(Debug)]
pub struct HaProxy {
    process: Process,
    port: u16,
    _folder: Scratch,
}

impl HaProxy {
    /// Starts it on this port, before nodes on those ports of 127.0.0.1.
    pub async fn start(port: u16, nodes: &[u16]) -> Self {
        let folder = Scratch::new("haproxy");
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, adapted(SAMPLE, port, nodes)).expect("an own directory is writable");
        let mut process = spawn(Launch {
            name: "haproxy".to_owned(),
            program: find_program("haproxy"),
            arguments: vec!["-db".into(), "-f".into(), file.into()],
            environment: Vec::new(),
            directory: folder.path().to_owned(),
            log: folder.join("log"),
            user: None,
            farewell: Signal::KILL,
        });
        wait::until("haproxy listens", LIMIT, async || {
            assert!(process.exited().is_none(), "{}", process.tail());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        Self { process, port, _folder: folder }
    }

    /// Starts it on this port before all nodes of a cluster, which must know its address from the first on.
    pub async fn before(cluster: &Cluster, port: u16) -> Self {
        let port_of = |url: &str| url.rsplit(':').next().and_then(|port| port.parse().ok());
        let ports = cluster.nodes.iter().map(|node| port_of(node.public_url()));
        Self::start(port, &ports.collect::<Option<Vec<u16>>>().expect("URLs with a port")).await
    }

    /// The address of one on this port.
    pub fn url_at(port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    /// What it has written.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its address without a slash at the end.
    pub fn url(&self) -> String {
        Self::url_at(self.port)
    }

    /// Waits until it has taken notice of so many nodes that went up or down since it started.
    pub async fn noticed(&self, what: &str, times: usize) {
        let text = format!("is {what}");
        wait::until(&format!("haproxy says {what} {times} times"), LIMIT, async || {
            let log = self.process.log();
            log.lines().filter(|line| line.contains("ready_nodes/") && line.contains(&text)).count()
                >= times
        })
        .await;
    }
}

/// Puts the addresses of a test into the configuration, and leaves out what only root may do.
fn adapted(config: &str, port: u16, nodes: &[u16]) -> String {
    let mut ports = nodes.iter().cycle();
    let lines = config.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["user" | "group", _] => None,
            ["bind", _] => Some(format!("bind 127.0.0.1:{port}")),
            ["server", name, _] => {
                ports.next().map(|node| format!("server {name} 127.0.0.1:{node}"))
            }
            _ => Some(line.to_owned()),
        }
    });
    lines.map(|line| line + "\n").collect()
}
