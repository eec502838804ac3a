//! The tables of files.

mod encryption;
mod owners;
mod unjudged;

use sea_orm::{ConnectionTrait as _, DatabaseBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

/// Gives the migrations of files in their order. Names are for ever: a database remembers them.
pub(super) fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![
        Box::new(Files),
        Box::new(owners::Owners),
        Box::new(super::verdicts::Table),
        Box::new(encryption::Keys),
        Box::new(super::once::Table),
        Box::new(super::verdicts::Reasons),
        Box::new(unjudged::Unjudged),
        Box::new(unjudged::Index),
    ]
}

/// `us_file_space` has a row for each space in which there is something: how many bytes and files. `us_file` has one for each
/// file: `writing` until all of it is there, `ready` while it has its name, `gone` from when it has not until its content is
/// removed. `us_file_piece` is the store of contents in the database.
struct Files;

impl MigrationName for Files {
    fn name(&self) -> &'static str {
        "files_0001_files"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Files {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let is_postgres = manager.get_database_backend() == DatabaseBackend::Postgres;
        let bytes = if is_postgres { "bytea" } else { "blob" };
        let create = format!(
            "CREATE TABLE us_file_space (
                name text NOT NULL PRIMARY KEY,
                bytes bigint NOT NULL,
                files bigint NOT NULL
            );
            CREATE TABLE us_file (
                id text NOT NULL PRIMARY KEY,
                space text NOT NULL,
                name text NOT NULL,
                kind text NOT NULL,
                bytes bigint NOT NULL,
                piece bigint NOT NULL,
                sha256 text NOT NULL,
                place text NOT NULL,
                state text NOT NULL,
                created_ms bigint NOT NULL,
                touched_ms bigint NOT NULL
            );
            CREATE UNIQUE INDEX us_file_name ON us_file (space, name) WHERE state = 'ready';
            CREATE INDEX us_file_unready ON us_file (state, touched_ms) WHERE state <> 'ready';
            CREATE TABLE us_file_piece (
                file text NOT NULL,
                number bigint NOT NULL,
                data {bytes} NOT NULL,
                PRIMARY KEY (file, number)
            )"
        );
        manager.get_connection().execute_unprepared(&create).await.map(|_| ())
    }
}
