//! What is found about the database when it is set or used wrongly.

use tokio::time::Instant;
use understudy_tests::{Cluster, NodeSpec, Program, oracle, wait};

use super::ground::{LIMIT, OPERATOR, Stage, check, found, gone, problem, told};

#[tokio::test(flavor = "multi_thread")]
async fn h7_each_thing_that_is_wrong_with_the_database_is_found() {
    let stage = Stage::of(2).await;
    let (node, postgres) = (stage.node(0), &stage.cluster.postgres);
    let examination = told(node, "/v1/diag").await;
    for code in
        ["reachable", "version", "migrations", "write", "connections", "pool", "tls", "clock"]
    {
        let check = check(&examination, &format!("database_{code}"));
        assert_eq!(check["result"], "ok", "{check}");
    }
    // The tests' own server does not force its writes to disk.
    let settings = found(node, "database_settings", "critical").await;
    assert!(settings["text"].as_str().unwrap().contains("fsync is off"), "{settings}");
    let left = postgres.query("SELECT count(*) FROM us_meta WHERE name LIKE 'probe.%'");
    oracle!("rows that the doctor left", left.trim(), "0");

    let insert = "INSERT INTO us_migration (version, applied_at, program) VALUES ('future_0001', 0, '9.9.9')";
    postgres.query(insert);
    let unknown = found(node, "database_migrations", "critical").await;
    assert!(unknown["text"].as_str().unwrap().contains("future_0001"), "{unknown}");
    postgres.query("DELETE FROM us_migration WHERE version = 'future_0001'");
    postgres.query(
        "UPDATE us_migration SET version = 'x' WHERE version = 'runtime_0002_cluster_locks'",
    );
    let missing = found(node, "database_migrations", "critical").await;
    assert!(missing["text"].as_str().unwrap().contains("runtime_0002_cluster_locks"), "{missing}");
    postgres.query(
        "UPDATE us_migration SET version = 'runtime_0002_cluster_locks' WHERE version = 'x'",
    );
    found(node, "database_migrations", "ok").await;

    postgres.query("ALTER TABLE us_meta RENAME TO us_meta_elsewhere");
    found(node, "database_write", "critical").await;
    postgres.query("ALTER TABLE us_meta_elsewhere RENAME TO us_meta");
    found(node, "database_write", "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_pools_that_are_too_large_together_are_told_and_found() {
    let stage =
        Stage::with(Cluster::builder().nodes(2).env("UNDERSTUDY_DATABASE_POOL_MAX", "150")).await;
    let told = stage.all_tell("database_pools_too_large", "2 nodes").await;
    assert!(told["fix"].as_str().unwrap().contains("UNDERSTUDY_DATABASE_POOL_MAX"), "{told}");
    let found = found(stage.node(0), "database_connections", "warning").await;
    assert!(found["fix"].as_str().unwrap().contains("UNDERSTUDY_DATABASE_POOL_MAX"), "{found}");
    wait::until("it stands in the log too", LIMIT, async || {
        stage.node(0).log().contains("database_pools_too_large")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_a_database_that_is_silent_is_found_and_told() {
    let stage = Stage::of(2).await;
    stage.cluster.postgres.pause();
    let silent = Instant::now();
    for node in &stage.cluster.nodes {
        wait::until("it is told", LIMIT, async || {
            problem(node, "database_away", node.name()).await.is_some()
        })
        .await;
    }
    // Two looks in a row must have failed before a node says so.
    oracle!("told after, ms", silent.elapsed().as_millis(), within 8_000);
    found(stage.node(0), "database_reachable", "critical").await;
    let examination = told(stage.node(0), "/v1/diag").await;
    assert_eq!(check(&examination, "redis_reachable")["result"], "ok");
    stage.cluster.postgres.resume();
    found(stage.node(0), "database_reachable", "ok").await;
    gone(stage.node(0), "database_away").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_a_node_without_a_cluster_is_examined_too() {
    let spec = NodeSpec::new("alone").program(Program::Fixture);
    let mut node = spec.env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR).start();
    node.ready(LIMIT).await;
    let examination = told(&node, "/v1/diag").await;
    let bad =
        examination["checks"].as_array().unwrap().iter().filter(|it| it["result"] == "critical");
    let bad: Vec<String> = bad.map(ToString::to_string).collect();
    oracle!("critical checks of a node that is alone", bad.join("\n"), "");
    for (code, expected) in [
        ("redis_reachable", "skipped"),
        ("bus_nodes", "skipped"),
        ("database_write", "ok"),
        ("data_dir", "ok"),
        ("external_url", "warning"),
        ("leader", "ok"),
    ] {
        assert_eq!(check(&examination, code)["result"], expected, "{}", check(&examination, code));
    }
    let drift = told(&node, "/v1/config/drift").await;
    assert_eq!(
        (&drift["drift"], drift["fingerprints"].as_object().unwrap().len()),
        (&false.into(), 1)
    );
    let problems = told(&node, "/v1/problems").await;
    oracle!("problems of a node that is alone", problems["problems"].to_string(), "[]");
}
