//! The store on SQLite and on PostgreSQL: every scenario is a function that is given a database of its own, and runs on
//! both.

mod bench;
mod claims;
mod definitions;
mod finishing;
mod history;
mod model;
mod overlap;
mod queue;
mod reaping;
mod states;
mod taking;
mod terms;

/// Makes two tests of each scenario, one on each database.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                Box::pin(super::$name($crate::store::tests::bench::Bench::sqlite().await)).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $name() {
                Box::pin(super::$name($crate::store::tests::bench::Bench::postgres().await)).await;
            })+
        }
    };
}
use on_both;
