//! Whether the server has room for the connections of all nodes at once.
//!
//! Each node opens connections as it needs them, so a cluster that asks for too many works until it is busy: then the
//! server refuses, and what fails is not what took the connections. The sums are therefore done at start.

use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Backend, Database, DatabaseError};
use crate::finding::{Finding, Severity};

/// Outside of all pools: the one that holds the node's place, see [`super::presence`].
const OUTSIDE: u32 = 1;

/// What the server leaves to ordinary users; the second reserve came with PostgreSQL 16.
const ROOM: &str = "SELECT current_setting('max_connections')::bigint AS most, \
    current_setting('superuser_reserved_connections')::bigint \
    + coalesce(current_setting('reserved_connections', true), '0')::bigint AS reserved";

/// Counts the connections that the pools of this process may open; clones count together.
#[derive(Clone, Default)]
pub(super) struct Demand(Arc<AtomicU32>);

/// The share of one pool, given back when it is dropped.
pub(super) struct Share {
    demand: Demand,
    most: u32,
}

impl Demand {
    pub(super) fn share(&self, most: u32) -> Share {
        self.0.fetch_add(most, Ordering::Relaxed);
        Share { demand: self.clone(), most }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.demand.0.fetch_sub(self.most, Ordering::Relaxed);
    }
}

/// The numbers that must go together; all counts are connections.
#[derive(Debug, Clone, Copy)]
struct Sums {
    nodes: i64,
    /// Of one node, in the pool for everything.
    pool: i64,
    /// Of one node, beside that pool.
    others: i64,
    /// What the server takes in all.
    most: i64,
    /// What it keeps for its superusers.
    reserved: i64,
}

impl Sums {
    fn judge(self) -> Option<Finding> {
        let Self { nodes, pool, others, most, reserved } = self;
        let (each, room) = (pool + others, most - reserved);
        let all = nodes * each;
        if all < room {
            return None;
        }
        let raise = format!("raise max_connections to {} or more", all + reserved + 1);
        // The largest pool with which the sum stays below the room.
        let fitting = (room - 1) / nodes - others;
        let advice = if fitting >= 1 {
            format!("lower UNDERSTUDY_DATABASE_POOL_MAX from {pool} to {fitting}, or {raise}")
        } else {
            raise
        };
        let who = if nodes == 1 { "1 node" } else { &format!("{nodes} nodes") };
        let text = format!(
            "{who} with up to {each} connections each ({pool} in the pool, {others} beside it) may open {all}, but \
             PostgreSQL has room for {room} (max_connections {most} less {reserved} reserved): under load it would \
             refuse connections"
        );
        Some(Finding::new(Severity::Warning, "database_pools_too_large", text, advice))
    }
}

impl Database {
    /// Returns what is wrong with the sizes of the pools, if anything, supposing that there are so many `nodes` like
    /// this one. Pools that are made later are not counted yet. On SQLite nothing can be wrong.
    ///
    /// # Errors
    /// [`DatabaseError`] when the database is away.
    pub async fn findings(&self, nodes: usize) -> Result<Vec<Finding>, DatabaseError> {
        let Some(target) = self.postgres() else { return Ok(Vec::new()) };
        let (most, reserved) = self.read(|on| Box::pin(room(on))).await?;
        let pool = target.pool_max();
        let all = target.demand.0.load(Ordering::Relaxed) + OUTSIDE;
        let sums = Sums {
            nodes: i64::try_from(nodes.max(1)).unwrap_or(i64::MAX),
            pool: pool.into(),
            others: all.saturating_sub(pool).into(),
            most,
            reserved,
        };
        Ok(sums.judge().into_iter().collect())
    }

    /// Returns how many connections of this pool are open, how many of these are idle, and how many there may be.
    pub(crate) fn pool_use(&self) -> (u32, u32, u32) {
        match self.backend() {
            Backend::Postgres => use_of(self.connection().get_postgres_connection_pool()),
            Backend::Sqlite => use_of(self.connection().get_sqlite_connection_pool()),
        }
    }

    /// Tells the metrics how many connections are open, and how many may be, under a name for this pool.
    pub fn show_pool(&self, name: &'static str) {
        let (open, idle, most) = self.pool_use();
        let used = f64::from(open.saturating_sub(idle));
        metrics::gauge!("understudy_database_connections", "pool" => name, "state" => "used")
            .set(used);
        metrics::gauge!("understudy_database_connections", "pool" => name, "state" => "idle")
            .set(f64::from(idle));
        metrics::gauge!("understudy_database_connections_max", "pool" => name).set(f64::from(most));
    }
}

/// Open connections, idle ones among them, and the most there may be.
fn use_of<D: sqlx::Database>(pool: &sqlx::Pool<D>) -> (u32, u32, u32) {
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    (pool.size(), idle, pool.options().get_max_connections())
}

async fn room(on: &DatabaseExecutor<'_>) -> Result<(i64, i64), DbErr> {
    let row = on.query_one_raw(Backend::Postgres.statement(ROOM, [])).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("settings of the server".to_owned()))?;
    Ok((row.try_get("", "most")?, row.try_get("", "reserved")?))
}

#[cfg(test)]
mod tests {
    use super::super::test_postgres::TestPostgres;
    use super::*;

    const SUMS: Sums = Sums { nodes: 3, pool: 50, others: 3, most: 100, reserved: 3 };

    #[test]
    fn g7_three_nodes_of_fifty_do_not_fit_into_a_hundred() {
        let finding = SUMS.judge().unwrap();
        assert_eq!(
            finding.text,
            "3 nodes with up to 53 connections each (50 in the pool, 3 beside it) may open 159, but PostgreSQL has \
             room for 97 (max_connections 100 less 3 reserved): under load it would refuse connections"
        );
        assert_eq!(
            finding.fix,
            "lower UNDERSTUDY_DATABASE_POOL_MAX from 50 to 29, or raise max_connections to 163 or more"
        );
    }

    #[test]
    fn g7_what_the_advice_says_is_enough() {
        assert!(Sums { pool: 29, ..SUMS }.judge().is_none());
        assert!(Sums { pool: 30, ..SUMS }.judge().is_some());
        assert!(Sums { most: 163, ..SUMS }.judge().is_none());
        assert!(Sums { most: 162, ..SUMS }.judge().is_some());
        let crowd = Sums { nodes: 40, ..SUMS }.judge().unwrap();
        assert!(!crowd.fix.contains("lower"), "no pool is small enough: {}", crowd.fix);
    }

    #[tokio::test]
    async fn g7_the_server_is_asked_and_every_pool_of_the_node_counts() {
        let server = TestPostgres::start(); // takes 200, of which 3 are reserved
        let database = Database::connect(&server.config()).await.unwrap();
        let found = |database: Database, nodes| async move {
            let found = database.findings(nodes).await.unwrap();
            found.iter().map(|finding| finding.code.to_string()).collect::<Vec<_>>()
        };
        assert!(found(database.clone(), 21).await.is_empty(), "21 times 8 and 1 is 189");
        assert_eq!(found(database.clone(), 22).await, ["database_pools_too_large"]);
        let own = database.clone().with_own_connections(2);
        assert!(found(own.clone(), 17).await.is_empty(), "17 times 8, 2 and 1 is 187");
        assert_eq!(found(own.clone(), 18).await, ["database_pools_too_large"]);
        assert_eq!(found(database.clone(), 18).await, ["database_pools_too_large"]);
        drop(own);
        assert!(found(database, 21).await.is_empty(), "the pool is gone");
    }
}
