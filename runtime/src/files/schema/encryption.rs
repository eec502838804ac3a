//! The columns that say what opens an encrypted file.

use sea_orm::{ConnectionTrait as _, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

/// `us_file.key_sealed` is the key of an encrypted file, sealed under the key of `UNDERSTUDY_FILES_ENCRYPTION_KEYS` that `key_name`
/// names. Both are null where a file is not encrypted; where it is, the word of its place says so too, which an earlier
/// version does not know.
pub(super) struct Keys;

impl MigrationName for Keys {
    fn name(&self) -> &'static str {
        "files_0004_encryption"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Keys {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let add = "ALTER TABLE us_file ADD COLUMN key_name text;
            ALTER TABLE us_file ADD COLUMN key_sealed text;
            CREATE INDEX us_file_key ON us_file (key_name, id) WHERE key_name IS NOT NULL";
        manager.get_connection().execute_unprepared(add).await.map(|_| ())
    }
}
