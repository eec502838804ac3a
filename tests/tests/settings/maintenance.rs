//! Maintenance of the whole cluster and of one node, with its message, its way in, and its end.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use understudy_tests::{Answer, Client, Cluster, Node, oracle, wait};

use super::stage::{LIMIT, Stage, admin, all_ready, ask};

const MESSAGE: &str = "New shelves; back at 14:00";

fn full() -> Value {
    json!({ "mode": "full", "message": MESSAGE, "retry_after_s": 120, "why": "new shelves" })
}

async fn with_header(node: &Node, method: Method, header: (&str, &str)) -> Answer {
    let client = Client::new();
    let request = client.build(method, node.public_url(), "/nothing").header(header.0, header.1);
    client.send(request).await.expect("an answer")
}

async fn bypass(node: &Node) -> String {
    let path = "/v1/maintenance/bypass";
    let answer = admin().post(node.admin_url(), path).await.unwrap().expect(200);
    let word: Value = answer.json();
    assert_eq!(word["header"], "Understudy-Bypass", "{word}");
    word["token"].as_str().expect("a word").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_full_maintenance_is_on_all_nodes_when_it_is_answered() {
    let stage = Stage::start().await;
    assert_eq!(stage.statuses("/nothing").await, [200, 200, 200]);
    let asked = Instant::now();
    stage.maintenance(0, full()).await;
    let took = asked.elapsed();
    let mut served = 0;
    for _ in 0..10 {
        for node in &stage.cluster.nodes {
            let answer = ask(node, "/nothing").await;
            served += usize::from(answer.status != 503);
            let problem: Value = answer.json();
            assert_eq!(
                (&problem["code"], &problem["detail"]),
                (&"maintenance".into(), &MESSAGE.into())
            );
            assert_eq!(answer.header("retry-after"), Some("120"));
        }
    }
    oracle!("requests that were served after it was answered", served, 0);
    oracle!("ms until all nodes had said that they know", took.as_millis(), within 1_000);
    for path in ["/health/live", "/health/ready", "/readyz", "/startupz"] {
        assert_eq!(stage.statuses(path).await, [200, 200, 200], "{path}");
    }
    assert_eq!(stage.statuses("/no-such-page").await, [503, 503, 503]);
    let page =
        with_header(stage.node(1), Method::GET, ("accept", "text/html,*/*")).await.expect(503);
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "{page:?}");
    assert!(page.text.contains(MESSAGE) && !page.text.contains("<script"), "{page:?}");
    let shown = stage.told(2, "/v1/maintenance").await;
    assert_eq!(
        (&shown["mode"], &shown["by"], &shown["why"], &shown["here"], &shown["bypass"]),
        (&json!("full"), &json!("admin"), &json!("new shelves"), &json!("full"), &json!(true))
    );
    stage.maintenance(1, json!({ "mode": "off", "why": "the shelves are there" })).await;
    assert_eq!(stage.statuses("/nothing").await, [200, 200, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_readers_may_go_on_and_who_has_the_word_may_do_everything() {
    let stage = Stage::start().await;
    stage.maintenance(0, json!({ "mode": "read_only", "why": "moving the database" })).await;
    let client = Client::new();
    for node in &stage.cluster.nodes {
        client.get(node.public_url(), "/nothing").await.unwrap().expect(200);
        let problem: Value =
            client.post(node.public_url(), "/nothing").await.unwrap().expect(503).json();
        assert_eq!(
            (&problem["code"], &problem["mode"]),
            (&"maintenance".into(), &"read_only".into())
        );
    }
    stage.maintenance(0, full()).await;
    let word = bypass(stage.node(0)).await;
    let mut let_in = 0;
    for node in &stage.cluster.nodes {
        let header = with_header(node, Method::POST, ("Understudy-Bypass", &word)).await;
        let cookie = with_header(node, Method::GET, ("cookie", &format!("us_bypass={word}"))).await;
        let_in += usize::from(header.status == 200) + usize::from(cookie.status == 200);
        for wrong in ["", "1.2.3", &word[1..], &format!("{word}x")] {
            with_header(node, Method::GET, ("Understudy-Bypass", wrong)).await.expect(503);
        }
    }
    oracle!("requests with a word of the first node that all nodes let in", let_in, 6);
    no_word_is_kept(&stage).await;
    // A browser gets its cookie from a page that is served in every mode, through any node.
    let path = "/.well-known/understudy/bypass";
    let browser = Client::new();
    browser.get(stage.cluster.url(1), path).await.unwrap().expect(200);
    let form = |word: &str| {
        let request = browser.build(Method::POST, stage.cluster.url(1), path);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.header("sec-fetch-site", "same-origin").body(format!("word={word}"))
    };
    browser.send(form("1.2.3")).await.unwrap().expect(403);
    browser.get(stage.cluster.url(2), "/nothing").await.unwrap().expect(503);
    browser.send(form(&word)).await.unwrap().expect(303);
    browser.get(stage.cluster.url(2), "/nothing").await.unwrap().expect(200);
}

/// A word is told once, also to those who say with a key that they may ask again: no table holds it.
async fn no_word_is_kept(stage: &Stage) {
    let kept = || {
        let count = stage.cluster.postgres.query("SELECT count(*) FROM us_admin_action");
        count.trim().parse::<u32>().expect("a number")
    };
    let with_key = async |path: &str, body: Value| {
        let client = admin();
        let request = client.build(Method::POST, stage.node(0).admin_url(), path);
        let request = request.header("idempotency-key", path).json(&body);
        client.send(request).await.expect("an answer").expect(200)
    };
    let bypass = "/v1/maintenance/bypass";
    let words = [with_key(bypass, json!({})).await, with_key(bypass, json!({})).await];
    let replayed = words.iter().filter(|word| word.header("idempotency-replayed").is_some());
    oracle!("words that were told again", replayed.count(), 0);
    oracle!("answers that are kept after that", kept(), 0);
    // So that one would be seen.
    with_key("/v1/scheduler/pause", json!({ "why": "a look" })).await;
    oracle!("answers that are kept of another action", kept(), 1);
    with_key("/v1/scheduler/resume", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_one_node_alone_may_be_in_maintenance() {
    let stage = Stage::start().await;
    stage.maintenance(0, json!({ "mode": "full", "node": "node-b", "why": "its disk" })).await;
    assert_eq!(stage.statuses("/nothing").await, [200, 503, 200]);
    let shown = stage.told(2, "/v1/maintenance").await;
    assert_eq!((&shown["mode"], &shown["here"]), (&json!("off"), &json!("off")));
    assert_eq!(shown["nodes"]["node-b"]["mode"], "full", "{shown}");
    stage.maintenance(0, json!({ "mode": "read_only", "why": "all of them" })).await;
    assert_eq!(stage.statuses("/nothing").await, [200, 503, 200], "the stricter counts");
    stage.maintenance(0, json!({ "mode": "off", "node": "node-b", "why": "a new disk" })).await;
    assert_eq!(stage.statuses("/nothing").await, [200, 200, 200]);
    Client::new().post(stage.cluster.url(1), "/nothing").await.unwrap().expect(503);
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_maintenance_survives_a_restart_of_all_nodes() {
    let mut stage = Stage::start().await;
    stage.maintenance(0, full()).await;
    for number in 0..3 {
        stage.cluster.kill9(number);
    }
    for node in &mut stage.cluster.nodes {
        node.start_again();
    }
    let client = Client::with_timeout(Duration::from_secs(2));
    let (mut served, mut turned_away) = (0, [0; 3]);
    wait::until("all nodes turn everybody away", LIMIT, async || {
        for (number, node) in stage.cluster.nodes.iter().enumerate() {
            let Ok(answer) = client.get(node.public_url(), "/nothing").await else { continue };
            if answer.status == 503 && answer.text.contains(MESSAGE) {
                turned_away[number] += 1;
            } else {
                served += 1;
            }
        }
        turned_away.iter().all(|count| *count >= 3)
    })
    .await;
    oracle!("requests that a node served after its restart", served, 0);
    all_ready(&stage).await;
    stage.maintenance(2, json!({ "mode": "off", "why": "done" })).await;
    assert_eq!(stage.statuses("/nothing").await, [200, 200, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_behind_a_balancer_everybody_gets_the_message_and_not_its_own_error() {
    let stage = Stage::with(Cluster::builder().nginx(true)).await;
    let (client, balancer) = (Client::new(), stage.cluster.balancer());
    stage.maintenance(0, full()).await;
    let mut others = Vec::new();
    for number in 0..60 {
        let method = if number % 2 == 0 { Method::GET } else { Method::POST };
        let answer = client.send(client.build(method, &balancer, "/nothing")).await.unwrap();
        if answer.status != 503 || !answer.text.contains(MESSAGE) {
            others.push((number, answer.status));
        }
    }
    assert!(others.is_empty(), "{others:?}");
    oracle!("answers of the balancer that were not the message", others.len(), 0);
    stage.maintenance(0, json!({ "mode": "off", "why": "done" })).await;
    let back = wait::until("the balancer serves again", LIMIT, async || {
        client.get(&balancer, "/nothing").await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    oracle!("ms until the balancer served again", back.as_millis(), within 2_000);
}
