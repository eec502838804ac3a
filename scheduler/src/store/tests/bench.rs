//! A store on a database of its own, and the few things that most scenarios do to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use tokio::sync::Mutex;
use understudy_runtime::config::{DatabaseUrl, MigrateMode};
use understudy_runtime::database::Database;
use understudy_runtime::database::test_postgres::{TestPostgres, test_config};
use understudy_runtime::ids::NodeId;
use understudy_runtime::secret::Secret;

use super::super::*;
use crate::leader::Inauguration as _;
use crate::plan::{Moment, plan};
use crate::run::{Cause, RunId, RunState};
use crate::spec::{JobName, JobSpec, Overlap, Placement, Schedule};

pub(super) const HOUR_MS: i64 = 3_600_000;

/// What runs of a handler without labels ask for.
pub(super) fn need(handler: &str) -> Need {
    Need { handler: handler.to_owned(), labels: BTreeMap::new() }
}

/// One server for all tests that run at the same time; it ends with the last of them.
static SERVER: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());

struct Server {
    url: String,
    stop: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    async fn shared() -> Arc<Self> {
        let mut known = SERVER.lock().await;
        if let Some(server) = known.upgrade() {
            return server;
        }
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (tell, told) = tokio::sync::oneshot::channel();
        // The server lives as long as the thread that started it.
        let thread = std::thread::spawn(move || {
            let server = TestPostgres::start();
            tell.send(server.url()).ok();
            stopped.recv().ok();
        });
        let url = told.await.unwrap();
        let server = Arc::new(Self { url, stop: Some(stop), thread: Some(thread) });
        *known = Arc::downgrade(&server);
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

pub(super) struct Bench {
    pub(super) store: Store,
    _server: Option<Arc<Server>>,
    _folder: Option<tempfile::TempDir>,
}

impl Bench {
    pub(super) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("scheduler.sqlite3"));
        Self { store: open(url).await, _server: None, _folder: Some(folder) }
    }

    pub(super) async fn postgres() -> Self {
        let server = Server::shared().await;
        let name = format!("t{:016x}", rand::random::<u64>());
        let config = test_config(DatabaseUrl::Postgres(Secret::new(server.url.clone())));
        let database = Database::connect(&config).await.unwrap();
        let make = format!("CREATE DATABASE {name}");
        database.connection().execute_unprepared(&make).await.unwrap();
        let url = server.url.replace("/postgres?", &format!("/{name}?"));
        let store = open(DatabaseUrl::Postgres(Secret::new(url))).await;
        Self { store, _server: Some(server), _folder: None }
    }

    pub(super) async fn sql(&self, sql: &str) -> u64 {
        self.store.execute(sql.to_owned(), Vec::new()).await.unwrap()
    }

    /// Counts rows: what stands after FROM.
    pub(super) async fn count(&self, from: &str) -> i64 {
        let sql = format!("SELECT count(*) AS n FROM {from}");
        required(self.store.one(sql, Vec::new()).await.unwrap()).unwrap().try_get("", "n").unwrap()
    }

    pub(super) async fn now(&self) -> i64 {
        self.store.now_ms().await.unwrap()
    }

    /// Begins a term of a node.
    pub(super) async fn lead(&self, name: &str) -> u64 {
        let value = format!("{:x}", rand::random::<u64>());
        self.store.inaugurate(&node(name), &value).await.unwrap()
    }

    /// Makes a job whose cursor stands ten seconds ago and that is not due by itself for an hour.
    pub(super) async fn job(&self, spec: JobSpec) -> Arc<Definition> {
        let name = spec.name.clone();
        self.store.define(spec, Origin::Api, "test", None).await.unwrap();
        self.rewind(name.as_str(), 10_000).await;
        self.definition(name.as_str()).await
    }

    pub(super) async fn definition(&self, job: &str) -> Arc<Definition> {
        self.store.definition(&name(job)).await.unwrap().unwrap()
    }

    /// Puts the cursors of a job to so long ago.
    pub(super) async fn rewind(&self, job: &str, ms: i64) {
        let now = self.store.backend().now_ms();
        let sql =
            format!("UPDATE us_job_cursor SET last_fire_ms = {now} - {ms} WHERE job = '{job}'");
        assert!(self.sql(&sql).await > 0);
    }

    pub(super) async fn cursor(&self, job: &str, scope: &str) -> Cursor {
        let sql = "SELECT job, scope, last_fire_ms, next_fire_ms, revision FROM us_job_cursor \
                   WHERE job = $1 AND scope = $2";
        let row = self.store.one(sql.to_owned(), vec![job.into(), scope.into()]).await.unwrap();
        Cursor::read(&row.unwrap()).unwrap()
    }

    /// Plans a job as the leader would at this moment.
    pub(super) async fn planned(&self, job: &str) -> Option<(JobPlan, Arc<Definition>)> {
        let (definition, cursor) = (self.definition(job).await, self.cursor(job, "").await);
        let at = moment(self.now().await);
        Some((plan(&definition, &cursor, at)?, definition))
    }

    /// Plans a job as the leader would so long after where its cursor stands.
    pub(super) async fn planned_after(&self, job: &str, ms: i64) -> (JobPlan, Arc<Definition>) {
        let (definition, cursor) = (self.definition(job).await, self.cursor(job, "").await);
        (plan(&definition, &cursor, moment(cursor.last_ms + ms)).unwrap(), definition)
    }

    /// A plan that starts one run a millisecond after where the cursor stands.
    pub(super) async fn one_fire(&self, job: &str) -> (JobPlan, Arc<Definition>) {
        let (definition, cursor) = (self.definition(job).await, self.cursor(job, "").await);
        (fire_at(&cursor, cursor.last_ms + 1), definition)
    }

    pub(super) async fn claim(
        &self,
        epoch: u64,
        plans: Vec<(JobPlan, Arc<Definition>)>,
    ) -> ClaimOutcome {
        let handlers: Vec<&str> =
            plans.iter().map(|(_, definition)| definition.spec.handler.as_str()).collect();
        let claimant = Claimant { node: id("a"), epoch: Some(epoch), room: room(100, &handlers) };
        self.store.claim(claimant, plans, BTreeSet::new(), HOUR_MS).await.unwrap()
    }

    /// Lets a job fire once more.
    pub(super) async fn fire(&self, epoch: u64, job: &str) -> ClaimOutcome {
        let plan = self.one_fire(job).await;
        self.claim(epoch, vec![plan]).await
    }

    pub(super) async fn take(&self, taker: Taker) -> Vec<TakenRun> {
        self.store.take(taker).await.unwrap()
    }

    pub(super) async fn run(&self, run: RunId) -> RunRow {
        self.store.run(run).await.unwrap().unwrap()
    }

    pub(super) async fn runs(&self, job: &str) -> Vec<RunRow> {
        let filter = RunFilter { job: Some(name(job)), limit: 1_000, ..RunFilter::default() };
        self.store.runs(&filter).await.unwrap()
    }

    pub(super) async fn outcomes(&self, job: &str) -> Vec<String> {
        let all = self.store.decisions(&name(job), (0, i64::MAX), 10_000).await.unwrap();
        all.into_iter().map(|decision| decision.outcome).collect()
    }

    pub(super) async fn end(&self, run: &TakenRun, on: &str, state: RunState) -> Finished {
        let ending = Ending::Final { state, result: None, error: None };
        self.store.finish(run, &id(on), ending, None).await.unwrap()
    }

    pub(super) async fn task(
        &self,
        job: &str,
        key: Option<&str>,
    ) -> std::result::Result<Enqueued, EnqueueError> {
        let mut order = Order::new(name(job), Cause::Task);
        order.key = key.map(str::to_owned);
        self.store.enqueue(order).await
    }

    /// Asks again and again, for at most ten seconds, until a question has as many rows.
    pub(super) async fn until(&self, from: &str, rows: i64) {
        for _ in 0..1_000 {
            if self.count(from).await == rows {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 10 s: {rows} rows of {from}");
    }

    /// Waits until somebody waits for a lock.
    pub(super) async fn until_blocked(&self) {
        let waiting =
            "pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        self.until(waiting, 1).await;
    }
}

async fn open(url: DatabaseUrl) -> Store {
    let database = Database::connect(&test_config(url)).await.unwrap();
    database.migrate(MigrateMode::Auto, &migrations(), &|_| {}).await.unwrap();
    Store::new(database, "UTC".parse().unwrap())
}

pub(super) fn name(job: &str) -> JobName {
    job.parse().unwrap()
}

pub(super) fn node(name: &str) -> NodeId {
    format!("{name}#0000000000000001").parse().unwrap_or_else(|_| panic!("a node called {name}"))
}

/// The id of a node, as the database has it.
pub(super) fn id(name: &str) -> String {
    node(name).to_string()
}

pub(super) fn moment(now_ms: i64) -> Moment<'static> {
    let (after, grace) = (Duration::from_secs(2), Duration::from_secs(3_600));
    Moment { now_ms, misfire_after: after, misfire_grace: grace, leaderless: &[] }
}

/// A job on a grid of seconds.
pub(super) fn seconds(job: &str) -> JobSpec {
    JobSpec::new(name(job), Schedule::Every { every: Duration::from_secs(1), anchor_ms: 0 })
}

/// A job that is due only when a test says so.
pub(super) fn rare(job: &str) -> JobSpec {
    JobSpec::new(name(job), Schedule::Once { at_ms: 4_000_000_000_000 })
}

/// A job of which many runs may go on at once, on any node.
pub(super) fn parallel(job: &str) -> JobSpec {
    let mut spec = JobSpec::new(name(job), Schedule::Manual);
    spec.overlap = Overlap::Allow { max: 10_000 };
    spec.placement = Placement::Any;
    spec
}

pub(super) fn fire_at(cursor: &Cursor, at_ms: i64) -> JobPlan {
    JobPlan {
        job: cursor.job.clone(),
        scope: cursor.scope.clone(),
        revision: cursor.revision,
        expected_last_ms: cursor.last_ms,
        last_ms: at_ms,
        next_ms: cursor.next_ms,
        starts: vec![Start { fire_ms: at_ms, key: format!("test:{at_ms}"), caught_up: false }],
        decisions: Vec::new(),
    }
}

pub(super) fn room(slots: usize, handlers: &[&str]) -> Room {
    let handlers: BTreeSet<String> = handlers.iter().map(|&one| one.to_owned()).collect();
    Room { slots, handlers: Arc::new(handlers), labels: Arc::new(BTreeMap::new()) }
}

pub(super) fn taker(on: &str, slots: usize, handlers: &[&str]) -> Taker {
    Taker { node: id(on), name: on.to_owned(), epoch: None, room: room(slots, handlers) }
}
