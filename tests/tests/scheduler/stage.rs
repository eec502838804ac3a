//! Three nodes with a job that notes its starts in a table without a unique key, and what must hold whatever happens.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
pub(crate) use understudy_tests::rounds;
use understudy_tests::{Answer, Client, Cluster, ClusterBuilder, oracle, wait};

/// How long anything may take that only must happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// The lease of the tests.
pub(crate) const TTL: Duration = Duration::from_millis(3_000);
/// The token of the operators of these clusters.
pub(crate) const OPERATOR: &str = "an-operator-of-these-tests";
/// A due time that is decided later than this after it came is late beyond every fault of these tests.
const DECIDED_WITHIN: Duration = Duration::from_secs(60);

/// The tables in which handlers note what they do: no unique key, so that a second start would be seen.
const TABLES: &str = "
    CREATE TABLE probe (job text, fire_ms bigint, epoch bigint, node text, run bigint, attempt integer, at_ms bigint);
    CREATE TABLE ended (job text, fire_ms bigint, epoch bigint, node text, run bigint, attempt integer, at_ms bigint);";

/// Two clusters at a time: two cores bear no more.
static TURN: Semaphore = Semaphore::const_new(2);

/// A cluster under test.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    _turn: SemaphorePermit<'static>,
}

/// Options that all nodes of these tests have.
pub(crate) fn options(builder: ClusterBuilder) -> ClusterBuilder {
    let ttl = TTL.as_millis().to_string();
    builder
        .env("UNDERSTUDY_LEADER_TTL_MS", &ttl)
        .env("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "0")
        .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
}

/// Has runs that were under way on a node that was killed, or stands still, given to another soon.
pub(crate) fn soon_orphaned(builder: ClusterBuilder) -> ClusterBuilder {
    builder.env("UNDERSTUDY_JOBS_ALIVE_MS", "1000").env("UNDERSTUDY_JOBS_STALE_AFTER_MS", "6000")
}

/// Waits until few enough other tests of this binary run.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    TURN.acquire().await.expect("the semaphore is never closed")
}

impl Stage {
    /// Three nodes on a standalone Redis.
    pub(crate) async fn start() -> Self {
        Self::with(options(Cluster::builder())).await
    }

    /// A cluster with these options.
    pub(crate) async fn with(builder: ClusterBuilder) -> Self {
        let turn = turn().await;
        let cluster = builder.start().await;
        cluster.postgres.query(TABLES);
        let stage = Self { cluster, client: Client::new().bearing(OPERATOR), _turn: turn };
        stage.leader().await;
        stage
    }

    /// A job that notes its starts once a second.
    pub(crate) async fn with_probe(&self, misfire: Value) {
        self.define(json!({
            "name": "probe", "handler": "probe", "misfire": misfire,
            "schedule": { "kind": "every", "every_ms": 1_000 },
        }))
        .await;
        wait::until("the probe runs", LIMIT, async || self.starts("probe") > 0).await;
    }

    /// Makes or replaces a job, over the admin API of the first node that answers.
    pub(crate) async fn define(&self, spec: Value) -> Value {
        let name = spec["name"].as_str().expect("a job has a name").to_owned();
        let path = format!("/v1/jobs/{name}");
        let answer = self.client.put_json(self.admin(), &path, &spec).await.expect("an answer");
        assert!(matches!(answer.status, 200 | 201), "{path}: {} {}", answer.status, answer.text);
        answer.json()
    }

    /// Asks the admin API of a node that runs.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.client.get(self.admin(), path).await.expect("an answer")
    }

    /// Sends something to the admin API of a node that runs.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.client.post_json(self.admin(), path, &body).await.expect("an answer")
    }

    fn admin(&self) -> &str {
        self.cluster.nodes.iter().find(|node| node.is_running()).expect("a node runs").admin_url()
    }

    /// The number in the cluster of the node that leads, once all that answer agree on one that leads.
    pub(crate) async fn leader(&self) -> usize {
        let (leader, _) =
            wait::until_some("one node leads", LIMIT, async || self.leads().await).await;
        leader
    }

    /// Who says that it leads, if one does.
    pub(crate) async fn leads(&self) -> Option<usize> {
        let client = Client::with_timeout(Duration::from_millis(500)).bearing(OPERATOR);
        for (number, node) in self.cluster.nodes.iter().enumerate() {
            if !node.is_running() {
                continue;
            }
            let answer = client.get(node.admin_url(), "/v1/leader").await;
            if answer.is_ok_and(|answer| {
                answer.status == 200 && answer.json::<Value>()["leader"] == true
            }) {
                return Some(number);
            }
        }
        None
    }

    /// How many starts of a job were noted.
    pub(crate) fn starts(&self, job: &str) -> u64 {
        self.count(&format!("SELECT count(*) FROM probe WHERE job = '{job}'"))
    }

    /// A number out of the database.
    pub(crate) fn count(&self, sql: &str) -> u64 {
        let text = self.cluster.postgres.query(sql);
        text.trim().parse().unwrap_or_else(|_| panic!("{sql}: {text}"))
    }

    /// Waits until the probe has started at a due time that comes after this call.
    pub(crate) async fn goes_on(&self) {
        let now = self.now_ms();
        wait::until("the probe starts again", LIMIT, async || {
            self.count(&format!(
                "SELECT count(*) FROM probe WHERE job = 'probe' AND fire_ms > {now}"
            )) > 0
        })
        .await;
    }

    /// The time of the database, by which due times are told.
    pub(crate) fn now_ms(&self) -> u64 {
        self.count("SELECT CAST(extract(epoch from clock_timestamp()) * 1000 AS bigint)")
    }

    /// What must hold after every test: asks the database, which saw everything.
    pub(crate) async fn settle(&self, job: &str) {
        let first = self.count(&format!(
            "SELECT COALESCE(min(fire_ms), 0) FROM us_job_run WHERE job = '{job}'"
        ));
        let last = (self.now_ms() / 1_000 - 1) * 1_000;
        wait::until("all due times are decided", DECIDED_WITHIN, async || {
            self.count(&format!(
                "SELECT count(*) FROM us_job_cursor WHERE job = '{job}' AND scope = '' AND last_fire_ms >= {last}"
            )) == 1
        })
        .await;
        wait::until("all runs have ended", LIMIT, async || {
            self.count(&format!(
                "SELECT count(*) FROM us_job_run WHERE job = '{job}' AND finished_ms IS NULL AND fire_ms <= {last}"
            )) == 0
        })
        .await;
        self.no_second_start(job);
        self.every_due_second_is_known(job, first, last);
        self.terms_are_in_order();
    }

    /// No due time started twice, in whichever attempt.
    pub(crate) fn no_second_start(&self, job: &str) {
        let twice = self.count(&format!(
            "SELECT count(*) FROM (SELECT run, attempt FROM probe WHERE job = '{job}' \
             GROUP BY run, attempt HAVING count(*) > 1) twice"
        ));
        oracle!("attempts that started twice", twice, 0);
        let two_runs = self.count(&format!(
            "SELECT count(*) FROM (SELECT fire_ms FROM probe WHERE job = '{job}' \
             GROUP BY fire_ms HAVING count(DISTINCT run) > 1) twice"
        ));
        oracle!("due times with two runs", two_runs, 0);
    }

    /// Every second between two due times is a run or a decision.
    fn every_due_second_is_known(&self, job: &str, first: u64, last: u64) {
        let unknown = self.count(&format!(
            "SELECT count(*) FROM generate_series({first}, {last}, 1000) AS due(ms) WHERE \
             NOT EXISTS (SELECT 1 FROM us_job_run r WHERE r.job = '{job}' AND r.fire_ms = due.ms) AND \
             NOT EXISTS (SELECT 1 FROM us_fire_decision d WHERE d.job = '{job}' \
               AND due.ms BETWEEN d.from_ms AND d.to_ms)"
        ));
        oracle!("due times without a run or a decision", unknown, 0);
    }

    /// Epochs grow with time, and a term begins after the one before has ended.
    fn terms_are_in_order(&self) {
        let overlaps = self.count(
            "SELECT count(*) FROM us_leader_history a JOIN us_leader_history b ON b.epoch = a.epoch + 1 \
             WHERE a.ended_ms IS NULL OR a.ended_ms > b.started_ms OR b.started_ms < a.started_ms",
        );
        oracle!("terms that overlap", overlaps, 0);
    }
}

/// A leader on whom all nodes agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lead {
    /// Its number in the cluster.
    pub(crate) node: usize,
    /// The epoch in which it leads.
    pub(crate) epoch: u64,
}

impl Stage {
    /// The same job as [`with_probe`](Self::with_probe), but its runs do not wait for each other: one that died with its
    /// node holds up none that is due later.
    pub(crate) async fn with_patient_probe(&self) {
        self.define(json!({
            "name": "probe", "handler": "probe", "overlap": { "policy": "allow", "max": 10 },
            "schedule": { "kind": "every", "every_ms": 1_000 },
        }))
        .await;
        wait::until("the probe runs", LIMIT, async || self.starts("probe") > 0).await;
    }

    /// The leader, once all nodes that run name the same one in the same epoch, and it alone says that it leads.
    pub(crate) async fn agreed(&self) -> Lead {
        wait::until_some("all name the same leader", LIMIT, async || self.agree().await).await.0
    }

    async fn agree(&self) -> Option<Lead> {
        let (mut named, mut leads) = (None, Vec::new());
        for (number, node) in self.cluster.nodes.iter().enumerate() {
            if !node.is_running() {
                continue;
            }
            let answer = self.client.get(node.admin_url(), "/v1/leader").await.ok()?;
            let told: Value = (answer.status == 200).then(|| answer.json())?;
            let said = ["leaderNodeId", "leaderNodeUuid", "epoch", "token", "since_ms"]
                .map(|it| told[it].clone());
            if said.contains(&Value::Null) || *named.get_or_insert_with(|| said.clone()) != said {
                return None;
            }
            if told["leader"] == true {
                leads.push(number);
            }
        }
        let [node] = leads[..] else { return None };
        Some(Lead { node, epoch: named?[2].as_u64()? })
    }

    /// The latest epoch, whether its leader is still there or not.
    pub(crate) fn epoch(&self) -> u64 {
        self.count("SELECT max(epoch) FROM us_leader_history")
    }

    /// Waits until a term has begun after an epoch; gives when it did, by the database's clock.
    pub(crate) async fn term_after(&self, epoch: u64) -> u64 {
        let sql = format!(
            "SELECT COALESCE(min(started_ms), 0) FROM us_leader_history WHERE epoch > {epoch}"
        );
        let begun = async || Some(self.count(&sql)).filter(|started_ms| *started_ms > 0);
        wait::poll("another term begins", LIMIT, Duration::from_millis(50), begun).await.0
    }
}
