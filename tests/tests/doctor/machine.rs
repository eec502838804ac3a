//! What is found about the machine, the options and the process.

use std::process::Command;
use std::time::Duration;

use understudy_tests::servers::{Scratch, find_program, run};
use understudy_tests::{Client, Cluster, oracle, wait};

use super::ground::{LIMIT, Stage, check, found, told};

const SHORT: &str = "short-0123456789";

#[tokio::test(flavor = "multi_thread")]
async fn h7_options_that_are_not_safe_are_found() {
    let folder = Scratch::new("doctor");
    let file = folder.join("a-file");
    std::fs::write(&file, "").unwrap();
    let builder = Cluster::builder()
        .nodes(1)
        .env("UNDERSTUDY_HTTP_EXTERNAL_URL", "http://shop.example")
        .env("UNDERSTUDY_ADMIN_VIEWER_TOKEN", SHORT)
        .env("UNDERSTUDY_HTTP_TRUSTED_PROXIES", "10.0.0.1")
        .env("UNDERSTUDY_DATA_DIR", &file.display().to_string());
    let stage = Stage::behind_a_balancer(builder).await;
    let node = stage.node(0);
    found(node, "external_url", "warning").await;
    let secrets = found(node, "secrets", "warning").await;
    let text = secrets["text"].as_str().unwrap();
    assert!(text.contains("UNDERSTUDY_ADMIN_VIEWER_TOKEN") && !text.contains(SHORT), "{secrets}");
    found(node, "data_dir", "critical").await;
    found(node, "trusted_proxies", "ok").await;
    let client = Client::new();
    let request =
        client.build(reqwest::Method::POST, node.public_url(), "/guess?user=mary&right=false");
    client.send(request.header("x-forwarded-for", "192.0.2.1")).await.unwrap().expect(401);
    found(node, "trusted_proxies", "warning").await;
    let examination = told(node, "/v1/diag").await;
    for code in ["admin_port", "disk_space", "time_zones"] {
        assert_eq!(check(&examination, code)["result"], "ok", "{}", check(&examination, code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_an_admin_port_for_everybody_and_few_files_are_found() {
    let mut stage = Stage::of(1).await;
    let pid = stage.node(0).pid().to_string();
    // What systemd or a shell would set.
    let mut limit = Command::new(find_program("prlimit"));
    run(limit.args(["--pid", &pid, "--nofile=2048:2048"]), LIMIT).unwrap();
    found(stage.node(0), "open_files", "warning").await;
    let admin = stage.node(0).admin_url().replace("http://127.0.0.1", "0.0.0.0");
    stage.cluster.nodes[0].set_env("UNDERSTUDY_ADMIN_BIND", &admin);
    stage.cluster.restart(0).await;
    found(stage.node(0), "admin_port", "warning").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_a_node_that_stood_still_says_so_and_others_miss_its_answer() {
    let stage =
        Stage::with(Cluster::builder().nodes(2).env("UNDERSTUDY_CLUSTER_NODE_TTL_MS", "10000"))
            .await;
    found(stage.node(0), "bus_nodes", "ok").await;
    stage.node(1).stop();
    let silent = found(stage.node(0), "bus_nodes", "critical").await;
    assert!(silent["text"].as_str().unwrap().contains("node-b"), "{silent}");
    tokio::time::sleep(Duration::from_secs(6)).await; // it stands still for longer than half of its time to live
    stage.node(1).cont();
    stage.all_tell("node_paused", "node-b stood still for").await;
    found(stage.node(1), "pauses", "warning").await;
    found(stage.node(0), "bus_nodes", "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_a_sick_application_is_out_of_the_balancer_with_its_diagnosis() {
    let folder = Scratch::new("doctor");
    let file = folder.join("health");
    std::fs::write(&file, "").unwrap();
    let path = file.display().to_string();
    let stage = Stage::with(Cluster::builder().nodes(2).node_env(1, "FIXTURE_HEALTH", &path)).await;
    let (node, client) = (stage.node(1), Client::new());
    found(node, "application", "ok").await;
    std::fs::write(&file, "degraded the disk is nearly full").unwrap();
    let told_of = stage.all_tell("check_degraded", "the disk is nearly full").await;
    assert_eq!((&told_of["node"], &told_of["severity"]), (&"node-b".into(), &"warning".into()));
    client.get(node.public_url(), "/health/ready").await.unwrap().expect(200);
    found(node, "application", "warning").await;
    std::fs::write(&file, "failed the gateway refuses").unwrap();
    let (_, took) = wait::until_some("it is not ready", LIMIT, async || {
        let answer = client.get(node.public_url(), "/health/ready").await.ok()?;
        (answer.status == 503).then_some(())
    })
    .await;
    oracle!("not ready after, ms", took.as_millis(), within 3_000);
    let reasons = client.get(node.admin_url(), "/health/ready").await.unwrap().expect(503).text;
    assert!(reasons.contains("the gateway refuses"), "{reasons}");
    stage.all_tell("check_sick", "the gateway refuses").await;
    found(node, "application", "critical").await;
    client.get(stage.node(0).public_url(), "/health/ready").await.unwrap().expect(200);
    std::fs::write(&file, "hang").unwrap();
    wait::until("it says that there is no answer", LIMIT, async || {
        let answer = client.get(node.admin_url(), "/health/ready").await.unwrap();
        answer.text.contains("no answer within 1000 ms")
    })
    .await;
    std::fs::write(&file, "").unwrap();
    wait::until("it is ready again", LIMIT, async || {
        client.get(node.public_url(), "/health/ready").await.unwrap().status == 200
    })
    .await;
}
