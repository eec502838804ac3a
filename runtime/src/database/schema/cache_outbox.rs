//! What is to be forgotten of the cache because a transaction changed what it was loaded from: `us_cache_outbox`, and on
//! PostgreSQL the function with which triggers write there. What becomes of the rows is told by `crate::cache::outbox`.

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::database::Backend;

/// A row for each value (`k`), tag (`t`) or region (`c`) that is to be forgotten; it goes when all nodes have been told.
pub(super) struct CacheOutbox;

impl MigrationName for CacheOutbox {
    fn name(&self) -> &'static str {
        "runtime_0006_cache_outbox"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for CacheOutbox {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let is_sqlite = connection.get_database_backend() == DbBackend::Sqlite;
        let key = if is_sqlite {
            "integer NOT NULL PRIMARY KEY AUTOINCREMENT"
        } else {
            "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        };
        let create = format!(
            "CREATE TABLE us_cache_outbox (
                 id {key},
                 region text NOT NULL,
                 kind text NOT NULL,
                 key text NOT NULL,
                 keep_ms bigint NOT NULL,
                 at_ms bigint NOT NULL
             )"
        );
        connection.execute_unprepared(&create).await?;
        if is_sqlite {
            // Nobody else writes into the file of a node, and there are no listeners.
            return Ok(());
        }
        let query = "SELECT quote_ident(current_schema()::text) AS place";
        let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, query));
        let lost =
            || DbErr::Custom("the database does not say which schema is its current one".into());
        let place: String = row.await?.ok_or_else(lost)?.try_get("", "place")?;
        connection.execute_unprepared(&function(&place)).await.map(|_| ())
    }
}

/// The function of triggers on tables of the application, which other programs change. It writes with the rights of who made it,
/// so that those programs need none on the outbox; nothing of theirs is looked up by a name that they could take. What has no
/// key that can be one clears the region: too much is forgotten rather than too little, and nobody's change fails for it.
fn function(place: &str) -> String {
    let now = Backend::Postgres.now_ms();
    format!(
        "CREATE FUNCTION understudy_cache_changed() RETURNS trigger
         LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $understudy$
         DECLARE
             of_region text := TG_ARGV[0];
             changed text[] := '{{}}';
         BEGIN
             IF of_region IS NULL OR of_region !~ '^[a-z0-9_-]{{1,40}}$' THEN
                 RAISE EXCEPTION 'understudy_cache_changed needs the name of a region: 1 to 40 of a-z 0-9 _ -';
             END IF;
             IF TG_LEVEL = 'ROW' AND TG_NARGS > 1 THEN
                 IF TG_OP <> 'INSERT' THEN
                     changed := array_append(changed, to_jsonb(OLD) ->> TG_ARGV[1]);
                 END IF;
                 IF TG_OP <> 'DELETE' THEN
                     changed := array_append(changed, to_jsonb(NEW) ->> TG_ARGV[1]);
                 END IF;
             END IF;
             IF cardinality(changed) > 0 AND cardinality(changed) =
                 (SELECT count(*) FROM unnest(changed) AS one WHERE octet_length(one) BETWEEN 1 AND 512)
             THEN
                 INSERT INTO {place}.us_cache_outbox (region, kind, key, keep_ms, at_ms)
                 SELECT of_region, 'k', one, 0, {now} FROM (SELECT DISTINCT unnest(changed) AS one) AS ones;
             ELSE
                 INSERT INTO {place}.us_cache_outbox (region, kind, key, keep_ms, at_ms)
                 VALUES (of_region, 'c', '', 0, {now});
             END IF;
             PERFORM pg_notify('understudy_cache', '');
             IF TG_LEVEL = 'STATEMENT' THEN RETURN NULL; END IF;
             IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
             RETURN NEW;
         END
         $understudy$"
    )
}
