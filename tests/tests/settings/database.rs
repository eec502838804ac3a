//! Settings while the database is away.

use std::time::Duration;

use serde_json::json;
use understudy_tests::{Client, Cluster, Data, oracle, wait};

use super::stage::{LIMIT, Stage, admin, ask, put};

#[tokio::test(flavor = "multi_thread")]
async fn g4_while_the_database_is_away_maintenance_stays_and_ends_in_its_time() {
    let mut stage = Stage::with(Cluster::builder().allow_error("database")).await;
    let for_a_while = json!({ "mode": "full", "why": "the database moves", "for_s": 20 });
    stage.maintenance(0, for_a_while).await;
    stage.cluster.postgres.kill();
    let client = Client::with_timeout(Duration::from_secs(5)).bearing(super::stage::ADMIN);
    let mut served = 0;
    for _ in 0..5 {
        for node in &stage.cluster.nodes {
            served += usize::from(!ask(node, "/nothing").await.text.contains("being worked on"));
        }
    }
    oracle!("requests that were served although it was on", served, 0);
    let shown = client.get(stage.node(2).admin_url(), "/v1/maintenance").await.unwrap().expect(200);
    assert_eq!(shown.json::<serde_json::Value>()["mode"], "full", "it is shown from memory");
    let refused =
        put(stage.node(1), "/v1/maintenance", json!({ "mode": "off", "why": "now" })).await;
    oracle!("status of a change without the database", refused.status, 503);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    wait::until("it has ended on all nodes", LIMIT, async || {
        stage.statuses("/nothing").await == [200, 200, 200]
    })
    .await;
    stage.cluster.postgres.restart().await;
    wait::until("it can be changed again", LIMIT, async || {
        let on = json!({ "mode": "read_only", "why": "once more" });
        put(stage.node(0), "/v1/maintenance", on).await.status == 200
    })
    .await;
}

/// Makes a token, and ends it again once it counts on all nodes. Gives the statuses with it right after that was answered,
/// and how long it took until it counted on none.
async fn revoked(stage: &Stage) -> (Vec<u16>, Duration) {
    let url = stage.node(0).admin_url();
    let body = json!({ "name": "a guest", "role": "viewer" });
    let made = admin().post_json(url, "/v1/tokens", &body).await.unwrap().expect(201);
    let made: serde_json::Value = made.json();
    let text = |member: &str| made[member].as_str().expect("it is a text").to_owned();
    let guest = Client::new().bearing(&text("token"));
    let statuses = async || {
        let mut statuses = Vec::new();
        for node in &stage.cluster.nodes {
            statuses.push(guest.get(node.admin_url(), "/v1/whoami").await.unwrap().status);
        }
        statuses
    };
    wait::until("it counts on all nodes", LIMIT, async || statuses().await == [200, 200, 200])
        .await;
    let path = format!("/v1/tokens/{}", text("id"));
    admin().delete(url, &path).await.unwrap().expect(204);
    let at_once = statuses().await;
    let none = async || (statuses().await == [401, 401, 401]).then_some(());
    let every = Duration::from_millis(100);
    let ((), took) = wait::poll("it counts on none", LIMIT, every, none).await;
    (at_once, took)
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_while_redis_is_away_a_change_reaches_all_through_the_database() {
    let mut stage = Stage::with(Cluster::builder().allow_error("redis")).await;
    let (at_once, _) = revoked(&stage).await;
    oracle!("statuses with a token right after its end", format!("{at_once:?}"), "[401, 401, 401]");
    stage.cluster.redis.kill();
    let on = json!({ "mode": "full", "why": "redis is away" });
    let answer: serde_json::Value =
        put(stage.node(0), "/v1/maintenance", on).await.expect(200).json();
    assert_eq!(answer["unreachable"], json!(["node-b", "node-c"]), "{answer}");
    let took = wait::until("all nodes turn everybody away", LIMIT, async || {
        stage.statuses("/nothing").await == [503, 503, 503]
    })
    .await;
    oracle!("ms until nodes that cannot be told knew", took.as_millis(), within 6_000);
    wait::until("they count as dead, since nothing is heard of them", LIMIT, async || {
        let told = stage.told(0, "/v1/nodes").await;
        let nodes = told["nodes"].as_array().expect("a list");
        nodes.iter().filter(|node| node["live"] == true).count() == 1
    })
    .await;
    let on = json!({ "mode": "full", "why": "redis is still away" });
    let answer: serde_json::Value =
        put(stage.node(0), "/v1/maintenance", on).await.expect(200).json();
    let named = answer["unreachable"].to_string();
    oracle!("nodes of which it is not known", named, r#"["node-b","node-c"]"#);
    let (at_once, took) = revoked(&stage).await;
    oracle!("status where it was ended, while the others cannot be told", at_once[0], 401);
    // They read the list every 5 s; the rest is for a machine with much to do.
    oracle!("ms until it counted nowhere", took.as_millis(), within 15_000);
    stage.cluster.redis.restart(Data::Lost).await;
    let off = json!({ "mode": "off", "why": "redis is back" });
    wait::until("nodes hear again", LIMIT, async || {
        let answer = admin().put_json(stage.node(0).admin_url(), "/v1/maintenance", &off).await;
        answer.is_ok_and(|answer| {
            answer.status == 200 && answer.json::<serde_json::Value>()["unreachable"] == json!([])
        })
    })
    .await;
}
