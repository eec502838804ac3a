//! The tests that every kind of Redis has to pass, one module per kind.

macro_rules! on_every_stage {
    ($($room:ident :: $test:ident),+ $(,)?) => {
        on_every_stage!(@stage standalone, Standalone, $($room::$test),+);
        on_every_stage!(@stage tls, Tls, $($room::$test),+);
        on_every_stage!(@stage sentinel, Sentinel, $($room::$test),+);
        on_every_stage!(@stage cluster, Cluster, $($room::$test),+);
    };
    (@stage $module:ident, $topology:ident, $($room:ident :: $test:ident),+) => {
        mod $module {
            use super::stage::Stage;
            use understudy_tests::Topology;

            static STAGE: Stage = Stage::new(Topology::$topology, [$(stringify!($test)),+].len());

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$room::$test(&STAGE).await;
                }
            )+
        }
    };
}
