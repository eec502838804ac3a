//! The floor: what PostgreSQL needs for one row per due time, and nothing else.

use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use understudy_runtime::database::sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DbBackend, Statement,
};

use super::DUE_AT_ONCE;
use super::costs::postgres_time;
use super::stage::{JobStage, connect};

/// The default of `UNDERSTUDY_DATABASE_POOL_MAX`.
pub(super) const POOL: u32 = 20;
/// How often each is measured; the fastest but one counts, as with everything that can only be disturbed.
const REPEATS: usize = 7;
/// Before that, so that connections are warm.
const WARM_UP: usize = 2;

/// One way to write a row per due time.
#[derive(Debug, Clone, PartialEq)]
pub struct Floor {
    /// Which.
    pub what: String,
    /// How long 1,000 rows took, ms.
    pub thousand_ms: f64,
    /// Processor time of PostgreSQL per row, µs.
    pub postgres_us: f64,
}

impl Floor {
    /// Rows per second.
    pub fn rate(&self) -> f64 {
        DUE_AT_ONCE as f64 * 1_000.0 / self.thousand_ms
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, thousand_ms, postgres_us } = self;
        write!(f, "{what}: {thousand_ms:.1} ms for 1,000, {postgres_us:.1} µs of PostgreSQL each")
    }
}

/// The three ways: one after the other, as many at once as a node has connections, all in one statement.
pub(super) async fn measure(stage: &JobStage) -> [Floor; 3] {
    stage.execute("CREATE TABLE floor (job text, fire_ms bigint, node text, at bigint)").await;
    let url = stage.cluster.postgres.url();
    let (one, pool) = (connect(url.clone(), 1).await, connect(url, POOL).await);
    let rows = usize::try_from(DUE_AT_ONCE).unwrap_or(usize::MAX);
    let pool_of = usize::try_from(POOL).unwrap_or(1);
    [
        timed(stage, "INSERTs over one connection", async || singles(&one, rows).await).await,
        timed(stage, "INSERTs over 20 connections", async || {
            join_all((0..pool_of).map(|_| singles(&pool, rows / pool_of))).await;
        })
        .await,
        timed(stage, "one INSERT of 1,000 rows", async || batch(&one).await).await,
    ]
}

async fn timed(stage: &JobStage, what: &str, work: impl AsyncFn()) -> Floor {
    for _ in 0..WARM_UP {
        work().await;
    }
    let (mut times, before) = (Vec::new(), postgres_time(stage.postmaster));
    for _ in 0..REPEATS {
        let begun = Instant::now();
        work().await;
        times.push(begun.elapsed());
    }
    let spent = postgres_time(stage.postmaster).saturating_sub(before);
    times.sort_unstable();
    let rows = REPEATS as f64 * DUE_AT_ONCE as f64;
    Floor {
        what: what.to_owned(),
        thousand_ms: times.get(1).map_or(0.0, Duration::as_secs_f64) * 1e3,
        postgres_us: spent.as_secs_f64() * 1e6 / rows,
    }
}

async fn singles(database: &DatabaseConnection, rows: usize) {
    let sql = "INSERT INTO floor (job, fire_ms, node, at) VALUES ($1, $2, $3, $4)";
    for row in 0..rows {
        let row = i64::try_from(row).unwrap_or(0);
        let values = ["a-job".into(), row.into(), "node-a#1".into(), row.into()];
        let insert = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        database.execute_raw(insert).await.expect("PostgreSQL runs");
    }
}

async fn batch(database: &DatabaseConnection) {
    let sql = "INSERT INTO floor (job, fire_ms, node, at) SELECT 'a-job', n, 'node-a#1', n FROM generate_series(1, $1) AS n";
    let rows = i64::try_from(DUE_AT_ONCE).unwrap_or(0);
    let insert = Statement::from_sql_and_values(DbBackend::Postgres, sql, [rows.into()]);
    database.execute_raw(insert).await.expect("PostgreSQL runs");
}
