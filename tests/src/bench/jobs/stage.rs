//! One node with PostgreSQL and Redis, a connection to look into the database, and many jobs made out of one.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_runtime::database::sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement,
};

use super::costs::postmaster;
use crate::{Client, Cluster, Node, wait};

/// How long anything may take that must happen.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// How often the database is asked whether something has happened.
const INTERVAL: Duration = Duration::from_millis(20);
/// The token of the operators of these clusters.
const OPERATOR: &str = "an-operator-of-the-benchmark";

/// A cluster of one node whose jobs are measured.
#[derive(Debug)]
pub(super) struct JobStage {
    pub(super) cluster: Cluster,
    pub(super) client: Client,
    /// The process id of PostgreSQL.
    pub(super) postmaster: u32,
    database: DatabaseConnection,
    environment: Vec<(String, String)>,
}

/// When many jobs are due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    /// The first due time, ms since 1970.
    pub(super) first_ms: i64,
    /// How often after that, ms.
    pub(super) every_ms: i64,
    /// Over how long a time first due times are spread, ms.
    pub(super) spread_ms: i64,
}

/// Opens connections as a node does: one that was just used is not tried before it is used again.
pub(super) async fn connect(url: String, connections: u32) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(connections).min_connections(connections);
    options.test_before_acquire(false).sqlx_logging(false);
    Database::connect(options).await.expect("PostgreSQL runs")
}

impl JobStage {
    /// Starts it with room for so many runs at once; waits until the node leads.
    pub(super) async fn start(room: u64, environment: &[(String, String)]) -> Self {
        let mut own = vec![
            ("UNDERSTUDY_JOBS_CONCURRENCY".to_owned(), room.to_string()),
            ("UNDERSTUDY_ADMIN_OPERATOR_TOKEN".to_owned(), OPERATOR.to_owned()),
            ("UNDERSTUDY_OPS_DRAIN_DELAY_MS".to_owned(), "0".to_owned()),
        ];
        own.extend_from_slice(environment);
        let builder = own
            .iter()
            .fold(Cluster::builder().nodes(1), |builder, (name, value)| builder.env(name, value));
        let cluster = builder.start().await;
        let stage = Self {
            client: Client::new().bearing(OPERATOR),
            postmaster: postmaster(&cluster.postgres),
            database: connect(cluster.postgres.url(), 1).await,
            environment: own,
            cluster,
        };
        wait::until("the node leads", LIMIT, async || {
            let answer = stage.client.get(stage.admin(), "/v1/leader").await;
            answer.is_ok_and(|answer| {
                answer.status == 200 && answer.json::<Value>()["leader"] == true
            })
        })
        .await;
        stage
    }

    /// Starts another node, with the same options.
    pub(super) async fn second_node(&mut self) -> Node {
        let spec = self.cluster.spec("node-b").await;
        let own = format!("http://127.0.0.1:{}", spec.public_port());
        let spec = spec.env("UNDERSTUDY_HTTP_EXTERNAL_URL", &own);
        let mut node = spec.envs(self.environment.clone()).start();
        node.ready(LIMIT).await;
        node
    }

    /// Where operators ask the node.
    pub(super) fn admin(&self) -> &str {
        self.cluster.nodes[0].admin_url()
    }

    /// Makes or replaces a job over the admin API.
    pub(super) async fn define(&self, spec: &Value) {
        let name = spec["name"].as_str().expect("a job has a name");
        let path = format!("/v1/jobs/{name}");
        let answer = self.client.put_json(self.admin(), &path, spec).await.expect("an answer");
        assert!(matches!(answer.status, 200 | 201), "{path}: {} {}", answer.status, answer.text);
    }

    /// Makes jobs called `<prefix>-<number>` that do nothing: one over the API, which is then copied by the database.
    pub(super) async fn spread(&self, prefix: &str, count: u64, placement: &str, due: Due) {
        let Due { first_ms, every_ms, spread_ms } = due;
        let name = format!("{prefix}-0");
        self.define(&json!({
            "name": name, "handler": "nothing", "placement": placement,
            // Far from now, so that it does not start before the others are there.
            "schedule": { "kind": "every", "every_ms": every_ms, "anchor_ms": first_ms },
        }))
        .await;
        let shift = format!("CAST(n AS bigint) * {spread_ms} / {count}");
        self.execute(&format!(
            "WITH made AS (INSERT INTO us_job (name, spec, fingerprint, origin, placement, system, revision, enabled, \
               created_ms, changed_ms, changed_by) \
             SELECT '{prefix}-' || n, CAST(jsonb_set(jsonb_set(CAST(spec AS jsonb), '{{name}}', \
               to_jsonb('{prefix}-' || n)), '{{schedule,anchor_ms}}', to_jsonb({first_ms} + {shift})) AS text), \
               fingerprint, origin, placement, system, revision, enabled, created_ms, changed_ms, changed_by \
             FROM us_job, generate_series(1, {last}) AS n WHERE name = '{name}' RETURNING name) \
             INSERT INTO us_job_cursor (job, scope, last_fire_ms, next_fire_ms, revision) \
             SELECT '{prefix}-' || n, '', {first_ms} + {shift} - 1, {first_ms} + {shift}, j.revision \
             FROM us_job j, generate_series(1, {last}) AS n WHERE j.name = '{name}'",
            last = count - 1
        ))
        .await;
        // As the server does by itself after a while.
        self.execute("ANALYZE us_job").await;
        self.execute("ANALYZE us_job_cursor").await;
    }

    /// Removes those jobs; what was run stays.
    pub(super) async fn remove(&self, prefix: &str) {
        for sql in [
            format!("DELETE FROM us_job_cursor WHERE job LIKE '{prefix}-%'"),
            format!("DELETE FROM us_job WHERE name LIKE '{prefix}-%'"),
        ] {
            self.execute(&sql).await;
        }
        for table in ["us_job", "us_job_cursor", "us_job_run", "us_fire_decision"] {
            self.execute(&format!("VACUUM ANALYZE {table}")).await;
        }
    }

    /// Carries out SQL.
    pub(super) async fn execute(&self, sql: &str) {
        let done = self.database.execute_unprepared(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Reads numbers: the columns `n0`, `n1`, … of one row.
    pub(super) async fn numbers<const COUNT: usize>(
        &self,
        columns: [&str; COUNT],
        rest: &str,
    ) -> [i64; COUNT] {
        let named: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(place, column)| format!("CAST(COALESCE({column}, -1) AS bigint) AS n{place}"))
            .collect();
        let sql = format!("SELECT {} {rest}", named.join(", "));
        let statement = Statement::from_string(DbBackend::Postgres, &sql);
        let row = self.database.query_one_raw(statement).await;
        let row = row.unwrap_or_else(|error| panic!("{sql}: {error}")).expect("there is a row");
        std::array::from_fn(|place| {
            let value = row.try_get::<i64>("", &format!("n{place}"));
            value.unwrap_or_else(|error| panic!("{sql}: {error}"))
        })
    }

    /// Reads one number.
    pub(super) async fn number(&self, sql: &str) -> i64 {
        self.numbers([&format!("({sql})")], "").await[0]
    }

    /// The time of the database, ms.
    pub(super) async fn now_ms(&self) -> i64 {
        self.number("SELECT extract(epoch from clock_timestamp()) * 1000").await
    }

    /// The first whole second that is at least so far away, ms.
    pub(super) async fn second_in(&self, ms: i64) -> i64 {
        ((self.now_ms().await + ms) / 1_000 + 1) * 1_000
    }

    /// Waits until the database's clock shows a time, ms.
    pub(super) async fn until_ms(&self, at_ms: i64) {
        let left = u64::try_from(at_ms - self.now_ms().await).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(left)).await;
    }

    /// Waits until a question has this answer.
    pub(super) async fn until(&self, what: &str, sql: &str, wanted: i64) {
        wait::poll(what, LIMIT, INTERVAL, async || {
            (self.number(sql).await == wanted).then_some(())
        })
        .await;
    }
}
