//! Processes that must not join: who has the name of another, and who would log out everybody.

use understudy_tests::{Client, Cluster, oracle};

use super::ground::{Stage, found, refused, told};

const STRANGE: &str = "canary-another-secret-0123456789-abcdef";

#[tokio::test(flavor = "multi_thread")]
async fn t9_a_second_process_of_a_name_is_told_by_every_node() {
    let mut stage = Stage::of(2).await;
    one_migration_is_missing(&stage);
    let second = stage.spec("node-a").await;
    let (status, said) = refused(second).await;
    oracle!("exit status of the second process", status, 78);
    oracle!("migrations that it has touched", said.matches("migration").count(), 0);
    it_is_there_again(&stage);
    assert!(said.contains(&stage.node(0).pid().to_string()), "it says who has the name: {said}");
    let problem = stage.all_tell("duplicate_node", "refused as node-a").await;
    let text = problem["text"].as_str().unwrap();
    let record = told(stage.node(0), "/v1/nodes").await["nodes"][0]["record"].clone();
    for part in
        ["process ", record["host"].as_str().unwrap(), &stage.node(0).pid().to_string(), " at 20"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(problem["fix"].as_str().unwrap().contains("UNDERSTUDY_NODE_ID"), "{problem}");
    found(stage.node(1), "refused_nodes", "warning").await;
    // Who lives has noticed nothing.
    assert_eq!(record["pid"], stage.node(0).pid());
    Client::new().post(stage.cluster.url(0), "/incr").await.unwrap().expect(200);
}

/// As if the program of whoever comes now were newer than theirs: one migration is not in.
fn one_migration_is_missing(stage: &Stage) {
    let missing = "WHERE version = 'runtime_0004_settings'";
    let postgres = &stage.cluster.postgres;
    postgres.query(&format!("CREATE TABLE kept AS SELECT * FROM us_migration {missing}"));
    postgres.query(&format!("DELETE FROM us_migration {missing}"));
}

fn it_is_there_again(stage: &Stage) {
    let postgres = &stage.cluster.postgres;
    postgres.query("INSERT INTO us_migration SELECT * FROM kept; DROP TABLE kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_a_node_with_another_secret_is_refused_and_told_by_every_node() {
    let mut stage = Stage::of(2).await;
    one_migration_is_missing(&stage);
    let strange = stage.spec("node-c").await.env("UNDERSTUDY_SESSION_SECRET", STRANGE);
    let (status, said) = refused(strange).await;
    oracle!("exit status of a node with another secret", status, 78);
    oracle!("migrations that it has touched", said.matches("migration").count(), 0);
    it_is_there_again(&stage);
    for part in ["UNDERSTUDY_SESSION_SECRET", "node-a", "node-b"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let problem = stage.all_tell("refused_node", "no key in common").await;
    assert_eq!(problem["severity"], "critical");
    let told = format!("{said}{problem}");
    oracle!("places that tell the secret", told.matches(STRANGE).count(), 0);
    oracle!("traces of the refused node", stage.cluster.traces_of("node-c").len(), 0);
    found(stage.node(0), "refused_nodes", "critical").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_living_nodes_without_a_common_key_are_told_by_every_node() {
    let stage = Stage::with(Cluster::builder().nodes(2).allow_error("session keys")).await;
    let list = told(stage.node(0), "/v1/nodes").await;
    let key = list["nodes"][0]["record"]["secret_keys"][0].as_str().unwrap().to_owned();
    let changes = [(key.as_str(), "000000000000")];
    let problem = stage.all_tell_while("wrong_secret", "ghost", || stage.haunt(&changes)).await;
    assert_eq!(problem["severity"], "critical");
    stage.all_in_the_same_words("wrong_secret", || stage.haunt(&changes)).await;
    stage.haunt(&changes);
    found(stage.node(1), "session_keys", "critical").await;
}
