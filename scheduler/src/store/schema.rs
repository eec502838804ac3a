//! The scheduler's tables.

use sea_orm_migration::sea_orm::{ConnectionTrait as _, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

/// Gives this crate's migrations in their order. Names are for ever: a database remembers them.
#[must_use]
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(Jobs), Box::new(Lookups), Box::new(Trace)]
}

/// Leader terms, jobs with their cursors, runs with their logs, decisions, nodes, and what operators have set.
///
/// All times are ms since 1970 by the database's clock; JSON is in text columns. What each table is for:
///
/// - `us_leader_term` has the epoch in force, one row that every claim locks for the length of its transaction;
///   `us_leader_history` has all terms; `us_leader_lease` is the lease of clusters that elect through the database.
/// - `us_job` has the definition in force; `code_spec` the one of the program or file while an operator's edit stands
///   before it; `us_job_definition` all that were ever seen, so that an older program is told from a newer one.
/// - `us_job_removed` has the last revision of jobs that were removed: one that is made again goes on from there, so that
///   no revision ever means two things.
/// - `us_job_cursor` has per job and scope (`''`, or a node's name for jobs that run on every node) up to which due time
///   was decided, and which is next: the leader's whole memory.
/// - `us_job_run` has one row per run whatever the number of attempts; `us_run_attempt` those attempts that did not end it.
struct Jobs;

impl MigrationName for Jobs {
    fn name(&self) -> &'static str {
        "scheduler_0001_jobs"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Jobs {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let key = if connection.get_database_backend() == DbBackend::Sqlite {
            "integer NOT NULL PRIMARY KEY AUTOINCREMENT"
        } else {
            "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        };
        for part in [LEADER, JOBS, RUNS, AROUND] {
            connection.execute_unprepared(&part.replace("{key}", key)).await?;
        }
        Ok(())
    }
}

/// Indexes for two questions that would otherwise look through all jobs: which run on every node, asked with each sign of
/// life; and what is due soon in any scope, asked by operators.
struct Lookups;

impl MigrationName for Lookups {
    fn name(&self) -> &'static str {
        "scheduler_0002_lookups"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Lookups {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "
            CREATE INDEX us_job_every ON us_job (name) WHERE placement = 'every';
            CREATE INDEX us_job_cursor_soon ON us_job_cursor (next_fire_ms) WHERE next_fire_ms IS NOT NULL";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}

/// The trace of whoever asked for a run, as in the header `traceparent`. Nodes that do not know it yet leave it empty.
struct Trace;

impl MigrationName for Trace {
    fn name(&self) -> &'static str {
        "scheduler_0003_trace"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Trace {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let add = "ALTER TABLE us_job_run ADD COLUMN trace text";
        manager.get_connection().execute_unprepared(add).await.map(|_| ())
    }
}

const LEADER: &str = "
    CREATE TABLE us_leader_term (
        name text NOT NULL PRIMARY KEY,
        epoch bigint NOT NULL,
        node text NOT NULL,
        lease_value text NOT NULL,
        started_ms bigint NOT NULL,
        seen_ms bigint NOT NULL
    );
    INSERT INTO us_leader_term (name, epoch, node, lease_value, started_ms, seen_ms)
        VALUES ('scheduler', 0, '', '', 0, 0);
    CREATE TABLE us_leader_history (
        epoch bigint NOT NULL PRIMARY KEY,
        node text NOT NULL,
        started_ms bigint NOT NULL,
        seen_ms bigint NOT NULL,
        ended_ms bigint,
        reason text
    );
    CREATE TABLE us_leader_lease (
        name text NOT NULL PRIMARY KEY,
        value text NOT NULL,
        deadline_ms bigint NOT NULL
    )";

const JOBS: &str = "
    CREATE TABLE us_job (
        name text NOT NULL PRIMARY KEY,
        spec text NOT NULL,
        fingerprint text NOT NULL,
        origin text NOT NULL,
        placement text NOT NULL,
        system boolean NOT NULL,
        code_spec text,
        code_fingerprint text,
        revision bigint NOT NULL,
        enabled boolean NOT NULL DEFAULT true,
        paused_at_ms bigint,
        paused_by text,
        paused_why text,
        created_ms bigint NOT NULL,
        changed_ms bigint NOT NULL,
        changed_by text NOT NULL
    );
    CREATE TABLE us_job_definition (
        job text NOT NULL,
        fingerprint text NOT NULL,
        first_ms bigint NOT NULL,
        PRIMARY KEY (job, fingerprint)
    );
    CREATE TABLE us_job_removed (
        name text NOT NULL PRIMARY KEY,
        revision bigint NOT NULL
    );
    CREATE TABLE us_job_cursor (
        job text NOT NULL,
        scope text NOT NULL,
        last_fire_ms bigint NOT NULL,
        next_fire_ms bigint,
        revision bigint NOT NULL,
        PRIMARY KEY (job, scope)
    );
    CREATE INDEX us_job_cursor_next ON us_job_cursor (scope, next_fire_ms)
        WHERE next_fire_ms IS NOT NULL";

const RUNS: &str = "
    CREATE TABLE us_job_run (
        id {key},
        job text NOT NULL,
        fire_key text NOT NULL,
        scope text NOT NULL,
        fire_ms bigint NOT NULL,
        cause text NOT NULL,
        state text NOT NULL,
        attempt integer NOT NULL,
        orphaned integer NOT NULL DEFAULT 0,
        failed integer NOT NULL DEFAULT 0,
        placement text NOT NULL,
        handler text NOT NULL,
        labels text,
        params text,
        priority integer NOT NULL,
        system boolean NOT NULL,
        exclusive boolean NOT NULL,
        limit_key text,
        limit_max integer,
        chain text,
        queued_ms bigint NOT NULL,
        not_before_ms bigint NOT NULL,
        expires_ms bigint,
        epoch bigint NOT NULL,
        node text,
        started_ms bigint,
        heartbeat_ms bigint,
        cancel_ms bigint,
        cancel_by text,
        finished_ms bigint,
        progress text,
        result text,
        error text,
        UNIQUE (job, fire_key, scope)
    );
    CREATE INDEX us_job_run_waiting ON us_job_run (not_before_ms)
        WHERE state IN ('queued', 'retrying');
    CREATE INDEX us_job_run_queue ON us_job_run (system DESC, priority DESC, not_before_ms, id)
        WHERE state IN ('queued', 'retrying');
    CREATE INDEX us_job_run_busy ON us_job_run (job, scope) WHERE state = 'running';
    CREATE INDEX us_job_run_active ON us_job_run (job, scope)
        WHERE state IN ('queued', 'retrying', 'running');
    CREATE INDEX us_job_run_running ON us_job_run (node) WHERE state = 'running';
    CREATE INDEX us_job_run_limit ON us_job_run (limit_key)
        WHERE state = 'running' AND limit_key IS NOT NULL;
    CREATE INDEX us_job_run_history ON us_job_run (job, id);
    CREATE INDEX us_job_run_ended ON us_job_run (job, id) WHERE finished_ms IS NOT NULL;
    CREATE INDEX us_job_run_fire ON us_job_run (job, fire_ms);
    CREATE INDEX us_job_run_finished ON us_job_run (finished_ms) WHERE finished_ms IS NOT NULL;
    CREATE TABLE us_run_attempt (
        run_id bigint NOT NULL,
        attempt integer NOT NULL,
        node text,
        started_ms bigint,
        ended_ms bigint NOT NULL,
        outcome text NOT NULL,
        error text,
        PRIMARY KEY (run_id, attempt)
    );
    CREATE TABLE us_run_log (
        run_id bigint NOT NULL,
        attempt integer NOT NULL,
        seq integer NOT NULL,
        at_ms bigint NOT NULL,
        level text NOT NULL,
        line text NOT NULL,
        PRIMARY KEY (run_id, attempt, seq)
    );
    CREATE TABLE us_limit (limit_key text NOT NULL PRIMARY KEY)";

const AROUND: &str = "
    CREATE TABLE us_fire_decision (
        id {key},
        job text NOT NULL,
        scope text NOT NULL,
        from_ms bigint NOT NULL,
        to_ms bigint NOT NULL,
        fires integer NOT NULL,
        outcome text NOT NULL,
        reason text NOT NULL,
        epoch bigint NOT NULL,
        at_ms bigint NOT NULL
    );
    CREATE INDEX us_fire_decision_job ON us_fire_decision (job, to_ms);
    CREATE INDEX us_fire_decision_at ON us_fire_decision (at_ms);
    CREATE TABLE us_scheduler_node (
        node text NOT NULL PRIMARY KEY,
        seen_ms bigint NOT NULL,
        handlers text NOT NULL,
        definitions text NOT NULL,
        labels text NOT NULL,
        tzdb text NOT NULL,
        takes_jobs boolean NOT NULL,
        offset_ms bigint NOT NULL,
        left_ms bigint
    );
    CREATE TABLE us_scheduler_state (
        name text NOT NULL PRIMARY KEY,
        value text NOT NULL,
        changed_by text NOT NULL,
        why text NOT NULL,
        at_ms bigint NOT NULL
    );
    INSERT INTO us_scheduler_state (name, value, changed_by, why, at_ms)
        VALUES ('pause', '', '', '', 0), ('jobs_enabled', '', '', '', 0), ('frozen', '', '', '', 0)";
