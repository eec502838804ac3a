//! The runtime's own tables: facts about the database, node leases for stores that are not Redis, locks of the
//! cluster, who did what on the admin port and who may, and the settings that are changed while the cluster runs.

mod cache_outbox;

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

/// Gives the runtime's migrations in their order. Names are for ever: a database remembers them.
pub(crate) fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![
        Box::new(NodeLeases),
        Box::new(ClusterLocks),
        Box::new(Operators),
        Box::new(Settings),
        Box::new(SignedOut),
        Box::new(cache_outbox::CacheOutbox),
    ]
}

/// `us_meta` holds the identity of the database, drawn once; `us_node_lease` a lease per life of a node.
struct NodeLeases;

impl MigrationName for NodeLeases {
    fn name(&self) -> &'static str {
        "runtime_0001_node_leases"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for NodeLeases {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        connection
            .execute_unprepared(
                "CREATE TABLE us_meta (name text NOT NULL PRIMARY KEY, value text NOT NULL);
                 CREATE TABLE us_node_lease (
                     node text NOT NULL PRIMARY KEY,
                     deadline_ms bigint NOT NULL,
                     dead boolean NOT NULL DEFAULT false
                 )",
            )
            .await?;
        let identity: u128 = rand::random();
        let insert = Statement::from_sql_and_values(
            connection.get_database_backend(),
            "INSERT INTO us_meta (name, value) VALUES ('server_id', $1)",
            [format!("{identity:032x}").into()],
        );
        connection.execute_raw(insert).await.map(|_| ())
    }
}

/// A row per name of a lock; see [`crate::lock`]. The row without a name remembers the greatest token that was swept away.
struct ClusterLocks;

impl MigrationName for ClusterLocks {
    fn name(&self) -> &'static str {
        "runtime_0002_cluster_locks"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for ClusterLocks {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "CREATE TABLE us_cluster_lock (
                 name text NOT NULL PRIMARY KEY,
                 token bigint NOT NULL,
                 holder text,
                 node text NOT NULL,
                 acquired_ms bigint NOT NULL,
                 deadline_ms bigint NOT NULL
             );
             INSERT INTO us_cluster_lock (name, token, holder, node, acquired_ms, deadline_ms)
             VALUES ('', 0, NULL, '', 0, 0)";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}

/// `us_audit` has a row per change and per refusal on the admin port, `us_admin_token` one per token, of
/// which only a digest is kept; `us_admin_action` what actions with an idempotency key came to. See [`crate::admin`].
struct Operators;

impl MigrationName for Operators {
    fn name(&self) -> &'static str {
        "runtime_0003_operators"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Operators {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let key = if connection.get_database_backend() == DbBackend::Sqlite {
            "integer NOT NULL PRIMARY KEY AUTOINCREMENT"
        } else {
            "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        };
        let create = format!(
            "CREATE TABLE us_audit (
                 id {key},
                 at_ms bigint NOT NULL,
                 by_name text,
                 role text,
                 action text NOT NULL,
                 method text NOT NULL,
                 path text NOT NULL,
                 outcome text NOT NULL,
                 status integer NOT NULL,
                 address text NOT NULL,
                 request_id text NOT NULL,
                 node text NOT NULL,
                 note text
             );
             CREATE INDEX us_audit_at ON us_audit (at_ms);
             CREATE INDEX us_audit_action ON us_audit (action, id);
             CREATE TABLE us_admin_token (
                 id text NOT NULL PRIMARY KEY,
                 name text NOT NULL,
                 role text NOT NULL,
                 digest text NOT NULL UNIQUE,
                 created_ms bigint NOT NULL,
                 created_by text NOT NULL,
                 expires_ms bigint,
                 used_ms bigint,
                 revoked_ms bigint
             );
             CREATE TABLE us_admin_action (
                 key text NOT NULL PRIMARY KEY,
                 request text NOT NULL,
                 claimed_ms bigint NOT NULL,
                 status integer,
                 kind text,
                 answer text
             )"
        );
        connection.execute_unprepared(&create).await.map(|_| ())
    }
}

/// A row per setting of the cluster (no node) or of a node; see [`crate::settings`]. The row without a name counts the
/// changes.
struct Settings;

impl MigrationName for Settings {
    fn name(&self) -> &'static str {
        "runtime_0004_settings"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Settings {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "CREATE TABLE us_setting (
                 name text NOT NULL,
                 node text NOT NULL,
                 value text NOT NULL,
                 by_name text NOT NULL,
                 why text NOT NULL,
                 at_ms bigint NOT NULL,
                 until_ms bigint,
                 revision bigint NOT NULL,
                 PRIMARY KEY (name, node)
             );
             INSERT INTO us_setting (name, node, value, by_name, why, at_ms, until_ms, revision)
             VALUES ('', '', '', '', '', 0, NULL, 0)";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}

/// A row for what a browser was given that has signed out of the console since, until that would have ended by itself.
struct SignedOut;

impl MigrationName for SignedOut {
    fn name(&self) -> &'static str {
        "runtime_0005_signed_out"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for SignedOut {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "CREATE TABLE us_admin_signed_out (
                 digest text NOT NULL PRIMARY KEY,
                 until_ms bigint NOT NULL
             )";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}
