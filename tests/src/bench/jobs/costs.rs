//! What a node and PostgreSQL did between two looks.

use std::time::Duration;

use tokio::time::Instant;

use super::stage::JobStage;
use crate::Postgres;

/// Processor time of both, and transactions, between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Costs {
    /// Time of the first node on a processor.
    pub(super) node: Duration,
    /// Time of all processes of PostgreSQL on a processor.
    pub(super) postgres: Duration,
    /// Transactions that PostgreSQL carried out, those of the benchmark included.
    pub(super) transactions: f64,
    /// How long it was.
    pub(super) elapsed: Duration,
}

/// A first look; [`since`](Look::since) is the second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    at: Instant,
    node: Duration,
    postgres: Duration,
    transactions: f64,
}

impl Look {
    pub(super) async fn now(stage: &JobStage) -> Self {
        let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
        Self {
            transactions: stage.number(sql).await as f64,
            node: stage.cluster.nodes[0].usage().processor,
            postgres: postgres_time(stage.postmaster),
            at: Instant::now(),
        }
    }

    pub(super) async fn since(self, stage: &JobStage) -> Costs {
        let now = Self::now(stage).await;
        Costs {
            node: now.node.saturating_sub(self.node),
            postgres: now.postgres.saturating_sub(self.postgres),
            transactions: now.transactions - self.transactions,
            elapsed: now.at - self.at,
        }
    }
}

impl Costs {
    /// Processor time of the node per one of `count`, µs.
    pub(super) fn node_us(&self, count: f64) -> f64 {
        self.node.as_secs_f64() * 1e6 / count.max(1.0)
    }

    /// Processor time of PostgreSQL per one of `count`, µs.
    pub(super) fn postgres_us(&self, count: f64) -> f64 {
        self.postgres.as_secs_f64() * 1e6 / count.max(1.0)
    }
}

/// The process id of the server.
pub(in crate::bench) fn postmaster(postgres: &Postgres) -> u32 {
    let file = postgres.query("SELECT pg_read_file('postmaster.pid')");
    let first = file.lines().next().and_then(|line| line.trim().parse().ok());
    first.expect("PostgreSQL keeps its process id there")
}

/// Processor time of the server process, of its children, and of those children that have ended; to 10 ms each.
pub(in crate::bench) fn postgres_time(postmaster: u32) -> Duration {
    let mut ticks = 0;
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name in brackets: state, parent, ... utime, stime, cutime, cstime as the 12th to 15th, in 1/100 s.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let fields: Vec<u64> =
            fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        let taken = match fields.get(1) {
            _ if pid == postmaster => 4,
            Some(parent) if *parent == u64::from(postmaster) => 2,
            Some(_) | None => 0,
        };
        ticks += fields.iter().skip(11).take(taken).sum::<u64>();
    }
    Duration::from_millis(ticks * 10)
}
