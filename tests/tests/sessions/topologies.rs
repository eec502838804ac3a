//! The tests that every kind of Redis has to pass, one module per kind, and those that PostgreSQL has to pass in its place.

macro_rules! on_every_stage {
    ($($room:ident :: $test:ident),+ $(,)?) => {
        a_stage!(standalone, Redis(understudy_tests::Topology::Standalone), $($room::$test),+);
        a_stage!(tls, Redis(understudy_tests::Topology::Tls), $($room::$test),+);
        a_stage!(sentinel, Redis(understudy_tests::Topology::Sentinel), $($room::$test),+);
        a_stage!(cluster, Redis(understudy_tests::Topology::Cluster), $($room::$test),+);
    };
}

macro_rules! in_the_database {
    ($($room:ident :: $test:ident),+ $(,)?) => {
        a_stage!(database, Database, $($room::$test),+);
    };
}

macro_rules! a_stage {
    ($module:ident, $ground:ident $(($topology:expr))?, $($room:ident :: $test:ident),+) => {
        mod $module {
            use super::stage::{Ground, Stage};

            static STAGE: Stage =
                Stage::new(Ground::$ground $(($topology))?, [$(stringify!($test)),+].len());

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$room::$test(&STAGE).await;
                }
            )+
        }
    };
}
