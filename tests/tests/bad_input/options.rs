//! Row 20: options that cannot be meant.

use understudy_tests::{NodeSpec, oracle};

use super::wire::LIMIT;

/// Starts a node with these options; returns its exit status and what it said.
async fn refused(options: &[(&str, &str)]) -> (i32, String) {
    let spec =
        options.iter().fold(NodeSpec::new("refused"), |spec, (name, value)| spec.env(name, value));
    let mut node = spec.start();
    let status = node.wait_exit(LIMIT).await.code().expect("it ended by itself");
    (status, node.log())
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_all_wrong_options_are_told_at_once_by_name_and_without_values() {
    let options = [
        ("UNDERSTUDY_REDIS_URL", "[{\"host\":\"canary-1\""),
        ("UNDERSTUDY_SESSION_SECRET", "canary-2"),
        ("UNDERSTUDY_SESSION_IDLE_S", "-5"),
        ("UNDERSTUDY_CLUSTER_NODE_TTL_MS", "1"),
        ("UNDERSTUDY_HTTP_BODY_LIMIT_BYTES", "canary-3"),
        ("UNDERSTUDY_HTTP_EXTERNAL_URL", "ftp://canary-4"),
        ("UNDERSTUDY_HTTP_TRUSTED_PROXIES", "canary-5/99"),
        ("UNDERSTUDY_OPS_DRAIN_MODE", "canary-6"),
        ("UNDERSTUDY_SESSION_COOKIE_SAMESITE", "none"),
        ("UNDERSTUDY_DATABASE_URL", "mysql://canary-7"),
        ("UNDERSTUDY_REDSI_URL", "canary-8"),
        ("UNDERSTUDY_LOG_FORMAT", "canary-9"),
        // Longer than requests are given to finish.
        ("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "600000"),
    ];
    let (status, said) = refused(&options).await;
    oracle!("exit status", status, 78);
    let lines: Vec<&str> = said.lines().collect();
    for (name, _) in options {
        let about = lines.iter().filter(|line| line.starts_with(&format!("{name}: "))).count();
        assert_eq!(about, 1, "one line about {name} in\n{said}");
    }
    oracle!("lines", lines.len(), options.len());
    oracle!("values that were repeated", said.matches("canary").count(), 0);
    assert!(said.contains("UNDERSTUDY_REDIS_URL?"), "the name that was meant: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_each_of_them_is_refused_on_its_own() {
    let table = [
        ("UNDERSTUDY_REDIS_URL", "redis://h:99999"),
        ("UNDERSTUDY_REDIS_URL", "[]"),
        ("UNDERSTUDY_SESSION_IDLE_S", "99999999999999999999"),
        ("UNDERSTUDY_SESSION_IDLE_S", "1.5"),
        ("UNDERSTUDY_SESSION_SECRET", "changeme-changeme-changeme-changeme"),
        ("UNDERSTUDY_SESSION_SECRET", "at-least-32-random-characters-of-yours"),
        ("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "30001"),
        ("UNDERSTUDY_OPS_DRAIN_TIMEOUT_MS", "999"), // the delay of these nodes is 1000
        ("UNDERSTUDY_HTTP_BIND", "8080"),
        ("UNDERSTUDY_ADMIN_BIND", "0.0.0.0:1"),
        ("UNDERSTUDY_NODE_ID", "a b"),
        ("UNDERSTUDY_LOG_FILTER", "info,understudy=loud=er"),
        ("UNDERSTUDY_HTTP_CSRF", "yes"),
        ("UNDERSTUDY_SESSION_STORE", "redis"),
    ];
    let mut wrong = Vec::new();
    for (name, value) in table {
        let (status, said) = refused(&[(name, value)]).await;
        // An address for everybody asks for a token, by the token's own name.
        let named = if name == "UNDERSTUDY_ADMIN_BIND" { "UNDERSTUDY_ADMIN_TOKEN" } else { name };
        if status != 78 || !said.contains(named) {
            wrong.push(format!("{name}={value}: {status} {said}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
