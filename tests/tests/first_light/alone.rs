//! The node of these tests: it is told where to listen, since 8080 may be taken on the machine of a test, and nothing else.

use std::time::Duration;

use understudy_tests::{Node, NodeSpec};

/// How long a node may take to be ready, or to be gone.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// A node with nothing configured.
pub(super) fn spec() -> NodeSpec {
    let usual_in_tests = [
        "UNDERSTUDY_NODE_ID",
        "UNDERSTUDY_HTTP_WORKERS",
        "UNDERSTUDY_HTTP_EXPOSE_NODE",
        "UNDERSTUDY_OPS_DRAIN_DELAY_MS",
        "UNDERSTUDY_LOG_FORMAT",
    ];
    usual_in_tests.into_iter().fold(NodeSpec::new("alone"), NodeSpec::without_env)
}

/// The same, running.
pub(super) async fn node() -> Node {
    started(spec()).await
}

/// A node that runs.
pub(super) async fn started(spec: NodeSpec) -> Node {
    let mut node = spec.start();
    node.ready(LIMIT).await;
    node
}
