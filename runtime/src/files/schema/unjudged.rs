//! Which files nobody has judged, so that they are found without looking at all the others.

use sea_orm::{ConnectionTrait as _, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

/// `us_file.judged` is 1 when there is a verdict. It only says where to look: whether a file may be served is said by the
/// verdict itself, which older releases note without this. Those that were judged before are marked by the duty
/// `files-judge`, step by step: here the table could not even be read meanwhile.
pub(super) struct Unjudged;

impl MigrationName for Unjudged {
    fn name(&self) -> &'static str {
        "files_0007_unjudged"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Unjudged {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let alter = "ALTER TABLE us_file ADD COLUMN judged bigint NOT NULL DEFAULT 0";
        manager.get_connection().execute_unprepared(alter).await.map(|_| ())
    }
}

/// The index of those, in a transaction of its own: while it is made files can be read.
pub(super) struct Index;

impl MigrationName for Index {
    fn name(&self) -> &'static str {
        "files_0008_unjudged_index"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Index {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Where the migration before was done by a build that made it too, it is there.
        let create = "CREATE INDEX IF NOT EXISTS us_file_unjudged ON us_file (id) \
             WHERE state = 'ready' AND judged = 0";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}
