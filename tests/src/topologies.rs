//! One test body, four ways to run Redis.

/// Makes four tests out of one async function that takes a [`Topology`](crate::Topology).
///
/// ```text
/// on_every_topology!(no_update_is_lost);
/// async fn no_update_is_lost(topology: Topology) { .. }
/// ```
/// gives `no_update_is_lost::standalone`, `::tls`, `::sentinel` and `::cluster`.
#[macro_export]
macro_rules! on_every_topology {
    ($($body:ident),+ $(,)?) => {$(
        mod $body {
            #[tokio::test(flavor = "multi_thread")]
            async fn standalone() {
                super::$body($crate::Topology::Standalone).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn tls() {
                super::$body($crate::Topology::Tls).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn sentinel() {
                super::$body($crate::Topology::Sentinel).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn cluster() {
                super::$body($crate::Topology::Cluster).await;
            }
        }
    )+};
}
