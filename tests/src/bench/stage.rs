//! Everything that is compared, started: two nodes, the peers, one Redis.

use std::net::SocketAddr;
use std::time::Duration;

use super::peers::{Mode, WORKERS};
use super::wire::Exchange;
use super::{Answer, Meter};
use crate::servers::{Launch, Process, Scratch, Signal, free_port, spawn};
use crate::{Cluster, ClusterBuilder, Node, wait};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A process that does what a node does, in another way.
#[derive(Debug)]
pub struct Peer {
    process: Process,
    address: SocketAddr,
    _folder: Scratch,
}

impl Peer {
    /// Starts it and waits until it serves.
    pub async fn start(mode: Mode, redis_url: &str) -> Self {
        let folder = Scratch::new(mode.name());
        let port = free_port();
        let own = std::env::current_exe().expect("a process knows its own file");
        let arguments = [mode.name(), &port.to_string(), redis_url].map(Into::into);
        let mut process = spawn(Launch {
            name: mode.name().to_owned(),
            program: own.with_file_name("bench_server"),
            arguments: arguments.to_vec(),
            environment: Vec::new(),
            directory: folder.path().to_owned(),
            log: folder.join("log"),
            user: None,
            farewell: Signal::KILL,
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait::until(mode.name(), START_LIMIT, async || {
            assert!(process.exited().is_none(), "{}", process.tail());
            answers(address).await
        })
        .await;
        Self { process, address, _folder: folder }
    }
}

async fn answers(address: SocketAddr) -> bool {
    let Ok(mut exchange) = Exchange::connect(address).await else {
        return false;
    };
    let answer = exchange.answer("GET /nothing", None).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// What serves a case: where, and which processes pay for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Where requests go.
    pub address: SocketAddr,
    /// The process.
    pub pid: u32,
}

/// All servers of the comparison.
#[derive(Debug)]
pub struct Stage {
    /// actix-web and nothing else.
    pub bare: Peer,
    /// actix-session.
    pub actix_session: Peer,
    /// One command of fred per request.
    pub fred: Peer,
    /// Counts what a load costs.
    pub meter: Meter,
    /// Two nodes of the fixture application.
    pub cluster: Cluster,
}

impl Stage {
    /// Starts everything, the nodes with these variables, and waits until it serves.
    pub async fn start(environment: &[(String, String)]) -> Self {
        let builder = Cluster::builder()
            .nodes(2)
            .env("UNDERSTUDY_HTTP_WORKERS", &WORKERS.to_string())
            // A session that only others read must stay where it is for the length of a round.
            .env("UNDERSTUDY_SESSION_PASSIVATE_AFTER_MS", "3600000");
        let set =
            |builder: ClusterBuilder, (name, value): &(String, String)| builder.env(name, value);
        let cluster = environment.iter().fold(builder, set).start().await;
        let url = cluster.redis.url();
        Self {
            bare: Peer::start(Mode::Bare, &url).await,
            actix_session: Peer::start(Mode::ActixSession, &url).await,
            fred: Peer::start(Mode::Fred, &url).await,
            meter: Meter::connect(cluster.redis.primary_port())
                .await
                .expect("Redis was started a moment ago"),
            cluster,
        }
    }

    /// A node.
    pub fn node(&self, number: usize) -> Site {
        site(&self.cluster.nodes[number])
    }
}

impl Peer {
    /// Where it is.
    pub fn site(&self) -> Site {
        Site { address: self.address, pid: self.process.id() }
    }
}

/// Where a node is.
pub(super) fn site(node: &Node) -> Site {
    let host = node.public_url().trim_start_matches("http://");
    Site {
        address: host.parse().expect("nodes of the harness listen on an address"),
        pid: node.pid(),
    }
}

impl Site {
    /// Opens a connection; panics unless somebody listens.
    pub async fn connect(&self) -> Exchange {
        Exchange::connect(self.address).await.expect("the server listens")
    }

    /// Asks once, over a connection of its own; panics unless all went well.
    pub async fn ask(&self, line: &str, cookie: Option<&str>) -> Answer {
        let answer = self.connect().await.answer(line, cookie).await;
        let answer = answer.expect("the server answers");
        assert!(answer.status < 300, "{line}: {answer:?}");
        answer
    }
}
