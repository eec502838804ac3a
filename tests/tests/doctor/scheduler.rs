//! What is told and found about leading and about jobs.

use serde_json::json;
use understudy_tests::{Client, Cluster, wait};

use super::ground::{LIMIT, OPERATOR, Stage, found, gone, problem};

#[tokio::test(flavor = "multi_thread")]
async fn h7_a_cluster_in_which_nobody_may_lead_says_so() {
    let builder = Cluster::builder()
        .nodes(2)
        .env("UNDERSTUDY_LEADER_TTL_MS", "1000")
        .env("UNDERSTUDY_LEADER_ELIGIBLE", "false");
    let stage = Stage::with(builder).await;
    let told = stage.all_tell("no_leader", "nobody leads").await;
    assert_eq!(told["severity"], "critical");
    stage.all_in_the_same_words("no_leader", || ()).await;
    found(stage.node(1), "leader", "critical").await;
    found(stage.node(1), "services", "critical").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_leaders_that_go_round_and_other_time_zone_data_are_told() {
    let stage =
        Stage::with(Cluster::builder().nodes(2).env("UNDERSTUDY_JOBS_ALIVE_MS", "500")).await;
    let postgres = &stage.cluster.postgres;
    found(stage.node(0), "leader", "ok").await;
    found(stage.node(0), "time_zones", "ok").await;
    postgres.query(
        "INSERT INTO us_leader_history (epoch, node, started_ms, seen_ms, ended_ms, reason) \
         SELECT -n, 'x', extract(epoch FROM now()) * 1000, 0, 0, 'lost_lease' FROM generate_series(1, 4) n",
    );
    stage.all_tell("leader_loop", "").await;
    found(stage.node(0), "leader", "warning").await;
    postgres.query(
        "INSERT INTO us_scheduler_node SELECT 'ghost#0000000000000001', extract(epoch FROM now() + interval '1 hour') * 1000, \
         handlers, definitions, labels, '1999z', takes_jobs, offset_ms FROM us_scheduler_node LIMIT 1",
    );
    let told = stage.all_tell("time_zone_data_differ", "1999z (ghost)").await;
    assert!(told["text"].as_str().unwrap().contains("(node-a, node-b)"), "{told}");
    found(stage.node(0), "time_zones", "warning").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_a_job_that_nobody_can_start_is_told_before_it_is_due() {
    let builder = Cluster::builder()
        .nodes(2)
        .env("UNDERSTUDY_JOBS_ALIVE_MS", "500")
        .node_env(0, "UNDERSTUDY_LEADER_ELIGIBLE", "true")
        .node_env(1, "UNDERSTUDY_LEADER_ELIGIBLE", "false")
        .node_env(0, "FIXTURE_WITHOUT", "probe");
    let mut stage = Stage::with(builder).await;
    let spec = json!({
        "name": "soon", "handler": "probe", "schedule": { "kind": "every", "every_ms": 1_800_000 },
    });
    let client = Client::new().bearing(OPERATOR);
    wait::until("the job is there", LIMIT, async || {
        let answer = client.put_json(stage.node(0).admin_url(), "/v1/jobs/soon", &spec).await;
        answer.is_ok_and(|answer| matches!(answer.status, 200 | 201))
    })
    .await;
    assert!(problem(stage.node(0), "handler_missing", "").await.is_none());
    stage.cluster.kill9(1);
    let told = wait::until_some("it is told", LIMIT, async || {
        problem(stage.node(0), "handler_missing", "soon").await
    });
    let (told, _) = told.await;
    assert!(told["text"].as_str().unwrap().contains("`probe`"), "{told}");
    stage.cluster.restart(1).await;
    gone(stage.node(0), "handler_missing").await;
}
