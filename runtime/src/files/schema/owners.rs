//! The tables that say who uses files, what holds for a space, and which contents several files share.

use sea_orm::{ConnectionTrait as _, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

/// `us_file_rule` has what the application said of spaces; `us_file_reference` who uses a file; `us_file_content` contents that
/// files share, with how many do. `us_file.content` names the one that a file shares; it is null where the content is the
/// file's own, under the id of the file.
pub(super) struct Owners;

impl MigrationName for Owners {
    fn name(&self) -> &'static str {
        "files_0002_owners"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Owners {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "ALTER TABLE us_file ADD COLUMN content text;
            CREATE TABLE us_file_rule (
                name text NOT NULL PRIMARY KEY,
                unused_ms bigint,
                since_ms bigint NOT NULL,
                shares bigint NOT NULL,
                max_bytes bigint,
                max_files bigint
            );
            CREATE TABLE us_file_reference (
                space text NOT NULL,
                name text NOT NULL,
                kind text NOT NULL,
                owner text NOT NULL,
                created_ms bigint NOT NULL,
                PRIMARY KEY (space, name, kind, owner)
            );
            CREATE INDEX us_file_reference_owner ON us_file_reference (kind, owner);
            CREATE TABLE us_file_content (
                id text NOT NULL PRIMARY KEY,
                sha256 text NOT NULL,
                bytes bigint NOT NULL,
                piece bigint NOT NULL,
                place text NOT NULL,
                uses bigint NOT NULL
            );
            CREATE UNIQUE INDEX us_file_content_used ON us_file_content (sha256, bytes, place) WHERE uses > 0;
            CREATE INDEX us_file_content_unused ON us_file_content (place) WHERE uses = 0";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}
