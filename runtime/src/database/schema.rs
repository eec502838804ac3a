//! The runtime's own tables: facts about the database, and node leases for stores that are not Redis.

use sea_orm::{ConnectionTrait as _, DbErr, Statement};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

/// Gives the runtime's migrations in their order. Names are for ever: a database remembers them.
pub(crate) fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(NodeLeases)]
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
