//! The tables of sessions, of sessions that ran out of time and of which nobody was told yet, and of users' places.

use sea_orm_migration::sea_orm::{ConnectionTrait as _, DatabaseBackend, DbErr, Statement};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

/// Gives this crate's migrations in their order. Names are for ever: a database remembers them.
#[must_use]
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![
        Box::new(Sessions),
        Box::new(Expired),
        Box::new(Users),
        Box::new(Lockouts),
        Box::new(Seals),
        Box::new(Online),
        Box::new(Ends),
        Box::new(Kin),
        Box::new(Notes),
    ]
}

/// One row for each session or tombstone.
///
/// A row with `revoked_until_ms` is a tombstone. `owner_node` is the node in `owner`, for the join with the leases.
/// `attributes`, `recent` and `unknown` are JSON in text columns, because the attributes must come back byte for byte,
/// which `jsonb` does not promise. `ends_ms` is when the sweep may look at the row; the database computes it, so that
/// no statement can forget to.
struct Sessions;

impl MigrationName for Sessions {
    fn name(&self) -> &'static str {
        "session_0001_sessions"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Sessions {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "
            CREATE TABLE us_session (
                locator text NOT NULL PRIMARY KEY,
                owner text,
                owner_node text,
                epoch bigint NOT NULL,
                version bigint NOT NULL,
                last_op text,
                revoked_until_ms bigint,
                created_ms bigint NOT NULL,
                absolute_ms bigint NOT NULL,
                last_access_ms bigint NOT NULL,
                idle_ms bigint NOT NULL,
                user_name text,
                secret text NOT NULL,
                previous_secret text,
                previous_until_ms bigint,
                attributes text NOT NULL,
                recent text NOT NULL,
                unknown text NOT NULL,
                ends_ms bigint GENERATED ALWAYS AS (
                    CASE WHEN revoked_until_ms IS NOT NULL THEN revoked_until_ms
                         WHEN absolute_ms < last_access_ms + idle_ms THEN absolute_ms
                         ELSE last_access_ms + idle_ms END
                ) STORED
            );
            CREATE INDEX us_session_ends ON us_session (ends_ms)";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}

/// One row for each session that ran out of time, until somebody was told.
///
/// `hand_out_ms` is from when on it may be handed out (again), `handed_out` how often it was.
struct Expired;

impl MigrationName for Expired {
    fn name(&self) -> &'static str {
        "session_0002_expired"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Expired {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "
            CREATE TABLE us_session_expired (
                locator text NOT NULL PRIMARY KEY,
                user_name text,
                reason text NOT NULL,
                created_ms bigint NOT NULL,
                ended_ms bigint NOT NULL,
                hand_out_ms bigint NOT NULL,
                handed_out bigint NOT NULL
            );
            CREATE INDEX us_session_expired_hand_out ON us_session_expired (hand_out_ms)";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}

/// Whose sessions there are, and the ids that operators see.
///
/// `us_session_user` has a row for each place on the roll of a user; `progress` is `begun`, `stands` or `condemned`. The
/// user in the session itself counts: sessions that nodes of an older version log in have no place and are found by that.
/// Their `public_id` is missing until somebody claims or lists them.
struct Users;

impl MigrationName for Users {
    fn name(&self) -> &'static str {
        "session_0003_users"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Users {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "
            ALTER TABLE us_session ADD COLUMN public_id text;
            CREATE INDEX us_session_public_id ON us_session (public_id);
            CREATE INDEX us_session_user_name ON us_session (user_name);
            CREATE TABLE us_session_user (
                user_name text NOT NULL,
                locator text NOT NULL,
                at_ms bigint NOT NULL,
                progress text NOT NULL,
                PRIMARY KEY (user_name, locator)
            );
            CREATE INDEX us_session_user_locator ON us_session_user (locator)";
        manager.get_connection().execute_unprepared(create).await?;
        name_sessions(manager).await
    }
}

/// Gives the sessions that are there their public ids.
async fn name_sessions(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let backend = manager.get_database_backend();
    if backend == DatabaseBackend::Postgres {
        let name = "UPDATE us_session SET public_id = substr(encode(sha256(decode(\
                    translate(locator, '-_', '+/') || '==', 'base64')), 'hex'), 1, 32)";
        return connection.execute_unprepared(name).await.map(|_| ());
    }
    let all = Statement::from_string(backend, "SELECT locator FROM us_session");
    for row in connection.query_all_raw(all).await? {
        let locator: String = row.try_get("", "locator")?;
        let Ok(parsed) = locator.parse::<crate::record::Locator>() else { continue };
        let values = [parsed.public_id().into(), locator.into()];
        let name = "UPDATE us_session SET public_id = $1 WHERE locator = $2";
        connection.execute_raw(Statement::from_sql_and_values(backend, name, values)).await?;
    }
    Ok(())
}

/// Failures to log in, where there is no Redis to count them: one row for each user and address, by a hash of both.
struct Lockouts;

impl MigrationName for Lockouts {
    fn name(&self) -> &'static str {
        "session_0004_lockout"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Lockouts {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "
            CREATE TABLE us_lockout (
                key text NOT NULL PRIMARY KEY,
                attempts bigint NOT NULL,
                until_ms bigint NOT NULL
            );
            CREATE INDEX us_lockout_until ON us_lockout (until_ms)";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}

/// The name of the key under which `attributes` and `recent` are sealed, if one is, with `+z` where attributes may be packed.
///
/// Of a sealed session `attributes` is a JSON array around the object, and `owner_node` is `-` while nobody owns it: a node of
/// a version that does not know this column then neither claims the session nor takes it for an empty one.
struct Seals;

impl MigrationName for Seals {
    fn name(&self) -> &'static str {
        "session_0005_seal"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Seals {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let add = "ALTER TABLE us_session ADD COLUMN seal text";
        manager.get_connection().execute_unprepared(add).await.map(|_| ())
    }
}

/// An index by which it is told who was here lately: as many rows are looked at as sessions were used since then.
struct Online;

impl MigrationName for Online {
    fn name(&self) -> &'static str {
        "session_0006_online"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Online {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "CREATE INDEX us_session_last_access ON us_session (last_access_ms)";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}

/// What a session held when it ended, in the form of `us_session`, for whoever is told of its end.
struct Ends;

impl MigrationName for Ends {
    fn name(&self) -> &'static str {
        "session_0007_ends"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Ends {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let add = "
            ALTER TABLE us_session_expired ADD COLUMN attributes text;
            ALTER TABLE us_session_expired ADD COLUMN seal text";
        manager.get_connection().execute_unprepared(add).await.map(|_| ())
    }
}

/// What hangs on sessions, wherever those are kept; see `crate::kin`.
///
/// `us_session_kin` has a row for each session on which something does: how many bytes and files, and since when the session
/// is missing. `us_session_child` names its children, `us_session_file` its temporary files (not `ready`: still being
/// written), `us_session_file_chunk` what is in them.
struct Kin;

impl MigrationName for Kin {
    fn name(&self) -> &'static str {
        "session_0008_kin"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Kin {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let is_postgres = manager.get_database_backend() == DatabaseBackend::Postgres;
        let bytes = if is_postgres { "bytea" } else { "blob" };
        let create = format!(
            "CREATE TABLE us_session_kin (
                session text NOT NULL PRIMARY KEY,
                bytes bigint NOT NULL,
                files bigint NOT NULL,
                gone_since_ms bigint
            );
            CREATE TABLE us_session_child (
                child text NOT NULL PRIMARY KEY,
                session text NOT NULL
            );
            CREATE INDEX us_session_child_session ON us_session_child (session);
            CREATE TABLE us_session_file (
                id text NOT NULL PRIMARY KEY,
                session text NOT NULL,
                scope text NOT NULL,
                name text NOT NULL,
                kind text NOT NULL,
                bytes bigint NOT NULL,
                chunks bigint NOT NULL,
                ready boolean NOT NULL,
                created_ms bigint NOT NULL
            );
            CREATE UNIQUE INDEX us_session_file_name ON us_session_file (session, scope, name) WHERE ready;
            CREATE INDEX us_session_file_session ON us_session_file (session);
            CREATE INDEX us_session_file_unready ON us_session_file (created_ms) WHERE NOT ready;
            CREATE TABLE us_session_file_chunk (
                file text NOT NULL,
                number bigint NOT NULL,
                data {bytes} NOT NULL,
                PRIMARY KEY (file, number)
            )"
        );
        manager.get_connection().execute_unprepared(&create).await.map(|_| ())
    }
}

/// When a child was noted the last time, and since when it is missing: it may end, and begin again under its name, while its
/// parent lives.
struct Notes;

impl MigrationName for Notes {
    fn name(&self) -> &'static str {
        "session_0009_notes"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Notes {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let add = "
            ALTER TABLE us_session_child ADD COLUMN noted_ms bigint NOT NULL DEFAULT 0;
            ALTER TABLE us_session_child ADD COLUMN gone_since_ms bigint";
        manager.get_connection().execute_unprepared(add).await.map(|_| ())
    }
}
