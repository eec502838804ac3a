//! The database on real servers and real files, with real processes where processes are what is being tested.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use super::test_postgres::{TestPostgres, test_config};
use super::*;
use crate::config::MigrateMode;
use crate::secret::Secret;

/// Tells a test process, started by a test, which database to migrate.
const CHILD_URL: &str = "UNDERSTUDY_TEST_DATABASE";
/// How many processes start at once.
const PROCESSES: usize = 10;

/// A migration that fails when it is applied twice, in any way.
struct Step {
    name: &'static str,
    sql: &'static str,
}

impl MigrationName for Step {
    fn name(&self) -> &str {
        self.name
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait's macro does not see them")]
#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.sql).await.map(|_| ())
    }
}

fn steps() -> Vec<Box<dyn MigrationTrait>> {
    vec![
        Box::new(Step {
            name: "test_0001",
            sql: "CREATE TABLE step (name text NOT NULL); INSERT INTO step VALUES ('one')",
        }),
        Box::new(Step {
            name: "test_0002",
            sql: "ALTER TABLE step ADD COLUMN more bigint; INSERT INTO step VALUES ('two', 2)",
        }),
    ]
}

/// The names of all migrations, in their order.
fn all_names() -> Vec<String> {
    let all = schema::migrations().into_iter().chain(steps());
    all.map(|migration| migration.name().to_owned()).collect()
}

async fn migrate(database: &Database, mode: MigrateMode) -> Result<Migrated, DatabaseError> {
    database.migrate(mode, &steps(), &|_| {}).await
}

async fn count(database: &Database, sql: &str) -> i64 {
    let query = database.backend().statement(sql, []);
    database.connection().query_one_raw(query).await.unwrap().unwrap().try_get_by(0).unwrap()
}

async fn assert_migrated_once(database: &Database) {
    assert_eq!(count(database, "SELECT CAST(count(*) AS bigint) FROM step").await, 2);
    let applied = count(database, "SELECT CAST(count(*) AS bigint) FROM us_migration").await;
    assert_eq!(usize::try_from(applied).unwrap(), all_names().len());
    assert_eq!(count(database, "SELECT CAST(count(*) AS bigint) FROM us_meta").await, 1);
}

fn sqlite_config(folder: &tempfile::TempDir) -> DatabaseConfig {
    test_config(DatabaseUrl::Sqlite(folder.path().join("data/understudy.sqlite3")))
}

/// The database that this process is to migrate, when a test started it for that. Then the test is the same one: it starts
/// itself ten times more, and finds in its environment which of them it is.
fn child_of_a_test() -> Option<DatabaseUrl> {
    let url = std::env::var_os(CHILD_URL)?.into_string().unwrap();
    Some(match url.strip_prefix("sqlite:") {
        Some(path) => DatabaseUrl::Sqlite(PathBuf::from(path)),
        None => DatabaseUrl::Postgres(Secret::new(url)),
    })
}

async fn migrate_as_one_of_ten(url: DatabaseUrl) {
    let database = Database::connect(&test_config(url)).await.unwrap();
    migrate(&database, MigrateMode::Auto).await.unwrap();
    assert_migrated_once(&database).await;
}

/// Starts `test` in processes of their own, and waits until all have passed it.
fn start_ten_processes(test: &str, url: &str) {
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("database::tests::{test}")])
            .env(CHILD_URL, url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..PROCESSES).map(|_| start()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}

#[tokio::test]
async fn t7_ten_processes_on_an_empty_postgres_apply_each_migration_once() {
    if let Some(url) = child_of_a_test() {
        return migrate_as_one_of_ten(url).await;
    }
    let server = TestPostgres::start();
    let this = "t7_ten_processes_on_an_empty_postgres_apply_each_migration_once";
    start_ten_processes(this, &server.url());
    assert_migrated_once(&Database::connect(&server.config()).await.unwrap()).await;
}

#[tokio::test]
async fn t7_ten_processes_on_an_empty_sqlite_file_apply_each_migration_once() {
    if let Some(url) = child_of_a_test() {
        return migrate_as_one_of_ten(url).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = sqlite_config(&folder);
    let this = "t7_ten_processes_on_an_empty_sqlite_file_apply_each_migration_once";
    let file = folder.path().join("data/understudy.sqlite3");
    start_ten_processes(this, &format!("sqlite:{}", file.display()));
    assert_migrated_once(&Database::connect(&config).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t7_of_twenty_tasks_one_applies_each_migration_and_others_wait() {
    let server = TestPostgres::start();
    let applied = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (config, applied) = (server.config(), Arc::clone(&applied));
            tokio::spawn(async move {
                let database = Database::connect(&config).await.unwrap();
                let done = migrate(&database, MigrateMode::Auto).await.unwrap();
                applied.fetch_add(done.applied.len(), Ordering::Relaxed);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(applied.load(Ordering::Relaxed), all_names().len());
}

#[tokio::test]
async fn g8_off_refuses_an_old_schema_and_wait_waits_for_somebody_else() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::connect(&sqlite_config(&folder)).await.unwrap();
    let error = migrate(&database, MigrateMode::Off).await.unwrap_err();
    assert!(error.to_string().contains(&all_names().join(", ")), "{error}");
    assert!(!error.is_retryable());
    let told = AtomicUsize::new(0);
    let progress = |_: MigrateProgress<'_>| {
        told.fetch_add(1, Ordering::Relaxed);
    };
    let steps = steps();
    let waiting = database.migrate(MigrateMode::Wait, &steps, &progress);
    let (waited, done) = tokio::join!(waiting, migrate(&database, MigrateMode::Auto));
    assert_eq!(waited.unwrap().applied.len(), 0);
    assert_eq!(done.unwrap().applied.len(), all_names().len());
    assert!(told.load(Ordering::Relaxed) > 0);
    migrate(&database, MigrateMode::Off).await.unwrap();
}

#[tokio::test]
async fn g8_an_older_program_refuses_a_newer_schema_and_names_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::connect(&sqlite_config(&folder)).await.unwrap();
    migrate(&database, MigrateMode::Auto).await.unwrap();
    let newer = "INSERT INTO us_migration VALUES ('session_0009_future', 4000000000, '9.9.9')";
    database.connection().execute_unprepared(newer).await.unwrap();
    for mode in [MigrateMode::Auto, MigrateMode::Wait, MigrateMode::Off] {
        let error = migrate(&database, mode).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("session_0009_future") && text.contains("9.9.9"), "{text}");
        assert!(text.contains(env!("CARGO_PKG_VERSION")) && !error.is_retryable(), "{text}");
    }
}

#[tokio::test]
async fn g8_a_migration_that_fails_leaves_nothing_behind() {
    let server = TestPostgres::start();
    let folder = tempfile::tempdir().unwrap();
    for config in [sqlite_config(&folder), server.config()] {
        let database = Database::connect(&config).await.unwrap();
        let sql = "CREATE TABLE half (a text NOT NULL); INSERT INTO nowhere VALUES (1)";
        let bad: Vec<Box<dyn MigrationTrait>> = vec![Box::new(Step { name: "test_bad", sql })];
        let error = database.migrate(MigrateMode::Auto, &bad, &|_| {}).await.unwrap_err();
        assert!(matches!(error, DatabaseError::Migration { .. }), "{error:?}");
        assert!(database.connection().execute_unprepared("SELECT * FROM half").await.is_err());
        assert_eq!(migrate(&database, MigrateMode::Auto).await.unwrap().applied.len(), 2);
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_retryable_and_a_wrong_one_is_not() {
    let away = Secret::new("postgres://nobody@127.0.0.1:1/none".to_owned());
    let error = Database::connect(&test_config(DatabaseUrl::Postgres(away))).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let server = TestPostgres::start();
    let missing = Secret::new(server.url().replace("/postgres?", "/missing?"));
    let error = Database::connect(&test_config(DatabaseUrl::Postgres(missing))).await.unwrap_err();
    assert!(!error.is_retryable(), "{error:?}");
    let database = Database::connect(&server.config()).await.unwrap();
    database.ping(Duration::from_secs(5)).await.unwrap();
    drop(server);
    let error = database.ping(Duration::from_secs(5)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn while_the_server_is_away_steps_fail_at_once_and_then_work_again() {
    let mut server = TestPostgres::start();
    let database = Database::connect(&server.config()).await.unwrap();
    let ask = || database.read(|executor| Box::pin(executor.execute_unprepared("SELECT 1")));
    ask().await.unwrap();
    server.kill();
    let began = Instant::now();
    // The first ones may find out for themselves; what comes meanwhile is told at once.
    let (first, second) = (ask(), ask());
    let first = tokio::time::timeout(Duration::from_millis(100), first).await;
    assert!(!matches!(first, Ok(Ok(_))));
    let error = second.await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    for _ in 0..20 {
        assert!(ask().await.unwrap_err().is_retryable());
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    server.start_again();
    // Level-triggered: asked until it works, for at most five seconds.
    let back = async {
        while ask().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), back).await.unwrap();
    for _ in 0..20 {
        ask().await.unwrap();
    }
}

#[tokio::test]
async fn l12_a_node_without_a_cluster_is_alone_on_its_database() {
    let server = TestPostgres::start();
    let one = Database::connect(&server.config()).await.unwrap();
    let two = Database::connect(&server.config()).await.unwrap();
    let alone = one.take_place(Presence::Alone).await.unwrap();
    for presence in [Presence::Alone, Presence::Cluster] {
        let error = two.take_place(presence).await.unwrap_err();
        assert!(matches!(error, DatabaseError::NotAlone), "{error:?}");
    }
    drop(alone);
    let mut together = Vec::new();
    for database in [&one, &two] {
        // The server notices the end of a connection a moment later.
        together.push(retried(database, Presence::Cluster).await);
    }
    assert!(one.take_place(Presence::Alone).await.is_err());
}

async fn retried(database: &Database, presence: Presence) -> PresenceLock {
    for _ in 0..100 {
        if let Ok(lock) = database.take_place(presence).await {
            return lock;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place was never free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_write_does_not_spoil_those_it_shares_a_commit_with() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::connect(&sqlite_config(&folder)).await.unwrap();
    let create = "CREATE TABLE numbers (n bigint NOT NULL PRIMARY KEY CHECK (n % 10 <> 3))";
    database.connection().execute_unprepared(create).await.unwrap();
    let tasks: Vec<_> = (0..100_i64)
        .map(|number| {
            let database = database.clone();
            tokio::spawn(async move {
                let sql = "INSERT INTO numbers VALUES ($1)";
                let insert = database.backend().statement(sql, [number.into()]);
                let step = database.step(move |executor| {
                    let insert = insert.clone();
                    Box::pin(async move { executor.execute_raw(insert).await })
                });
                (number, step.await)
            })
        })
        .collect();
    for task in tasks {
        let (number, done) = task.await.unwrap();
        match done {
            Ok(_) => assert_ne!(number % 10, 3),
            Err(error) => assert!(number % 10 == 3 && !error.is_retryable(), "{error:?}"),
        }
    }
    assert_eq!(count(&database, "SELECT count(*) FROM numbers").await, 90);
}
