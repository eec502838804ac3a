//! What is wrong with the servers that the cluster stands on, looked at now and then: each look costs them something.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::clocks::Skew;
use crate::config::Durability;
use crate::database::{Backend, Database, DatabaseError};
use crate::finding::Finding;
use crate::service::NodeContext;

/// The clock of the database is looked at in one round of so many, the settings of the servers in one of so many.
const CLOCK_ROUNDS: u32 = 5;
const SETTING_ROUNDS: u32 = 15;
/// How long a look may take.
const LIMIT: Duration = Duration::from_millis(800);
/// So many looks at a clock must agree: those at Redis come with each report, those at the database are rarer.
const REDIS_LOOKS: usize = 5;
const DATABASE_LOOKS: usize = 2;

/// What is known of the servers.
#[derive(Clone)]
pub(super) struct Servers {
    round: u32,
    /// How many nodes lived at the last look: with their number the room for connections changes.
    nodes: usize,
    redis: Vec<Finding>,
    database: Vec<Finding>,
    redis_clock: Skew,
    database_clock: Skew,
    /// When the list of nodes was last read of which the clock was taken.
    heard_redis: Option<crate::clock::BootInstant>,
}

impl Servers {
    pub(super) fn new() -> Self {
        Self {
            round: 0,
            nodes: 0,
            redis: Vec::new(),
            database: Vec::new(),
            redis_clock: Skew::new(REDIS_LOOKS),
            database_clock: Skew::new(DATABASE_LOOKS),
            heard_redis: None,
        }
    }

    /// Looks at what is due in this round; `nodes` is how many live. A server that does not answer keeps its findings.
    pub(super) async fn look(&mut self, node: &NodeContext, nodes: usize) {
        let (clock, settings) = (
            self.round.is_multiple_of(CLOCK_ROUNDS),
            self.round.is_multiple_of(SETTING_ROUNDS) || self.nodes != nodes,
        );
        self.round = self.round.wrapping_add(1);
        self.nodes = nodes;
        self.hear_redis(node);
        if clock
            && node.database.backend() == Backend::Postgres
            && let Ok(Ok((offset_ms, doubt_ms))) = timeout(LIMIT, offset(node)).await
        {
            self.database_clock.heard(offset_ms, doubt_ms);
        }
        if settings {
            let (redis, database) =
                tokio::join!(redis(node), timeout(LIMIT, node.database.findings(nodes)));
            if let Some(findings) = redis {
                self.redis = findings;
            }
            if let Ok(Ok(findings)) = database {
                self.database = findings;
            }
        }
    }

    pub(super) fn findings(&self, node: &str) -> Vec<Finding> {
        let settings = self.redis.iter().chain(&self.database).cloned();
        let clocks = [
            self.redis_clock.finding(node, "Redis"),
            self.database_clock.finding(node, "the database"),
        ];
        settings.chain(clocks.into_iter().flatten()).collect()
    }

    /// The clock of Redis comes with the list of nodes, at no price.
    fn hear_redis(&mut self, node: &NodeContext) {
        let Some((server_ms, read_at)) = node.membership.server_time() else { return };
        if self.heard_redis.replace(read_at) != Some(read_at) {
            self.redis_clock.heard(difference(server_ms, node.clock.wall_ms()), 0);
        }
    }
}

/// Looks at the Redis of the cluster, and at that of the sessions if it is another; nothing when one does not answer.
async fn redis(node: &NodeContext) -> Option<Vec<Finding>> {
    let mut findings: Vec<Finding> = Vec::new();
    for redis in [&node.redis, &node.lease_redis].into_iter().flatten() {
        let found = timeout(LIMIT, Box::pin(redis.findings())).await.ok()?.ok()?;
        for finding in found {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings.extend(lack_of_replicas(node).await);
    Some(findings)
}

/// Changes of sessions may have to wait for a replica.
async fn lack_of_replicas(node: &NodeContext) -> Option<Finding> {
    if node.config.session.persist.durability != Durability::Replicated {
        return None;
    }
    let redis = node.lease_redis.as_ref()?;
    timeout(LIMIT, Box::pin(redis.lack_of_replicas())).await.ok()?.ok()?
}

/// Returns by how much the database's clock is ahead of this node's, in ms, and how far that may be wrong.
pub(crate) async fn offset(node: &NodeContext) -> Result<(i64, i64), DatabaseError> {
    let (before_ms, begun) = (node.clock.wall_ms(), Instant::now());
    let there_ms = now_ms(&node.database).await?;
    let took = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    let middle_ms = before_ms.saturating_add(took.unsigned_abs() / 2);
    Ok((difference(there_ms, middle_ms), took / 2 + 1))
}

async fn now_ms(database: &Database) -> Result<u64, DatabaseError> {
    let backend = database.backend();
    let statement = backend.statement(&format!("SELECT {} AS now_ms", backend.now_ms()), []);
    let read = database.read(move |on| {
        let statement = statement.clone();
        Box::pin(async move {
            let row = sea_orm::ConnectionTrait::query_one_raw(on, statement).await?;
            row.map_or(Ok(0), |row| row.try_get::<i64>("", "now_ms"))
        })
    });
    Ok(read.await?.unsigned_abs())
}

fn difference(there_ms: u64, here_ms: u64) -> i64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    signed(there_ms) - signed(here_ms)
}
