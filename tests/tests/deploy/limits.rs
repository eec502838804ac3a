//! How long a node may take to stop, worked out by a node with the services that every node has.

use std::collections::BTreeMap;
use std::time::Duration;

use understudy::Node;
use understudy::runtime::config::Config;
use understudy_tests::servers::Scratch;

/// The most that a node with these options takes to stop. Only options of draining and jobs count; the node is started
/// in this process, on its own and on free ports.
pub(super) async fn stop_limit(options: &BTreeMap<String, String>) -> Duration {
    let folder = Scratch::new("limits");
    let counts =
        |name: &str| name.starts_with("UNDERSTUDY_OPS_") || name.starts_with("UNDERSTUDY_JOBS_");
    let mut variables: BTreeMap<String, String> = options.clone();
    variables.retain(|name, _| counts(name));
    for (name, value) in [
        ("UNDERSTUDY_HTTP_BIND", "127.0.0.1:0"),
        ("UNDERSTUDY_ADMIN_BIND", "127.0.0.1:0"),
        ("UNDERSTUDY_HTTP_WORKERS", "1"),
        ("UNDERSTUDY_DATA_DIR", &folder.path().to_string_lossy()),
    ] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    let config = Config::from_vars(variables).unwrap_or_else(|errors| panic!("{errors}"));
    let node = Node::new(config).build().unwrap_or_else(|error| panic!("{error}"));
    let node = Box::pin(node.start()).await.unwrap_or_else(|error| panic!("{error}"));
    let limit = node.stop_limit();
    node.stop().await;
    limit
}

/// Demands that whoever ends the process waits for longer than that, and says how much longer.
pub(super) fn is_enough(who: &str, seconds: u64, limit: Duration) {
    understudy_tests::oracle!(&format!("{who}: waits for, s"), seconds, >= limit.as_secs() + 1);
}
