//! Requests under way, seen and ended from another node.

use serde_json::Value;
use tokio::time::Instant;
use understudy_tests::servers::Scratch;
use understudy_tests::{Client, oracle, wait};

use super::stage::{LIMIT, OPERATOR, Stage, admin};

#[tokio::test(flavor = "multi_thread")]
async fn h3_a_hanging_request_is_ended_from_another_node() {
    let stage = Stage::start().await;
    let hanging = tokio::spawn({
        let url = stage.cluster.url(1).to_owned();
        async move {
            let request =
                Client::new().build(reqwest::Method::GET, &url, "/sleep?ms=50000&secret=x");
            Client::new().send(request.header("x-forwarded-for", "203.0.113.9")).await.unwrap()
        }
    });
    let path = "/v1/requests?node=node-b";
    let (listed, _) = wait::until_some("it is listed", LIMIT, async || {
        let listing = stage.told(0, path).await;
        assert_eq!((&listing["node"], &listing["blocked_workers"]), (&"node-b".into(), &0.into()));
        listing["requests"].as_array().expect("a list").first().cloned()
    })
    .await;
    assert_eq!((&listed["method"], &listed["path"]), (&"GET".into(), &"/sleep".into()), "{listed}");
    assert_eq!(listed["client"], "203.0.113.9", "behind the balancer: {listed}");
    let own = stage.told(0, "/v1/requests").await;
    assert_eq!((&own["node"], own["requests"].as_array().unwrap().len()), (&"node-a".into(), 0));
    let id = listed["id"].as_str().unwrap();
    let began = Instant::now();
    let ended = admin()
        .delete(stage.node(2).admin_url(), &format!("/v1/requests/{id}?node=node-b"))
        .await
        .unwrap()
        .expect(200);
    assert_eq!(ended.json::<Value>()["cancelled"], id);
    let answer = hanging.await.unwrap().expect(504);
    oracle!("ms until the client had its answer", began.elapsed().as_millis(), within 1_000);
    assert_eq!(answer.json::<Value>()["code"], "cancelled_by_operator");
    assert_eq!(answer.header("connection"), Some("close"));
    let none = stage.told(0, path).await;
    assert_eq!(none["requests"], Value::Array(Vec::new()));
    one_whose_worker_is_blocked_is_ended_when_that_answers(&stage).await;
}

/// While a handler blocks its worker, nobody is told that its request is not there: it is ended as soon as that can be.
async fn one_whose_worker_is_blocked_is_ended_when_that_answers(stage: &Stage) {
    let folder = Scratch::new("requests");
    let file = folder.join("handler");
    let asking = tokio::spawn({
        let url = stage.cluster.url(1).to_owned();
        let path = format!("/block?file={}", file.display());
        async move { Client::new().get(&url, &path).await.unwrap() }
    });
    let path = "/v1/requests?node=node-b";
    let (id, _) = wait::until_some("it is listed", LIMIT, async || {
        let listing = stage.told(0, path).await;
        listing["requests"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    std::fs::write(&file, "block").unwrap();
    wait::until("its worker answers nothing", LIMIT, async || {
        stage.told(0, path).await["blocked_workers"] == 1
    })
    .await;
    let one = format!("/v1/requests/{id}?node=node-b");
    let told = admin().delete(stage.node(2).admin_url(), &one).await.unwrap();
    oracle!("status while its worker is blocked", told.status, 202);
    assert_eq!(told.json::<Value>()["will_be_cancelled"], id.as_str());
    assert!(!asking.is_finished(), "a thread that is blocked answers nobody");
    std::fs::write(&file, "").unwrap();
    let answer = asking.await.unwrap();
    oracle!("status for its client", answer.status, 504);
    assert_eq!(answer.json::<Value>()["code"], "cancelled_by_operator");
    let told = admin().delete(stage.node(2).admin_url(), &one).await.unwrap();
    oracle!("status after that", told.status, 404);
}

/// Only what is under way can be ended, and only by an admin. The last node is dead afterwards.
pub(super) async fn only_what_is_under_way_can_be_ended(stage: &mut Stage) {
    let url = stage.node(0).admin_url().to_owned();
    let status = async |client: &Client, method: &str, path: &str| {
        let request = client.build(method.parse().unwrap(), &url, path);
        let answer = client.send(request).await.unwrap();
        let problem: Value = answer.json();
        (answer.status, problem["code"].as_str().unwrap_or_default().to_owned())
    };
    let operator = Client::new().bearing(OPERATOR);
    for (method, path) in [("GET", "/v1/requests"), ("DELETE", "/v1/requests/0-1")] {
        assert_eq!(status(&operator, method, path).await, (403, "forbidden".to_owned()), "{path}");
    }
    for (method, path, expected) in [
        ("DELETE", "/v1/requests/0-1", (404, "unknown_request")),
        ("DELETE", "/v1/requests/nonsense?node=node-b", (404, "unknown_request")),
        ("GET", "/v1/requests?node=node-x", (404, "unknown_node")),
        ("GET", "/v1/requests?node=a/b", (400, "bad_query")),
        ("GET", "/v1/requests?nod=node-b", (400, "bad_query")),
    ] {
        let (expected, code) = expected;
        assert_eq!(status(&admin(), method, path).await, (expected, code.to_owned()), "{path}");
    }
    stage.cluster.kill9(2);
    let gone = status(&admin(), "GET", "/v1/requests?node=node-c").await;
    assert_eq!(gone, (503, "node_unreachable".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_many_requests_under_way_are_all_listed() {
    let stage = Stage::start().await;
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let url = stage.cluster.url(0).to_owned();
            tokio::spawn(async move { Client::new().get(&url, "/sleep?ms=20000").await })
        })
        .collect();
    wait::until("all are listed", LIMIT, async || {
        let listing = stage.told(1, "/v1/requests?node=node-a").await;
        listing["requests"].as_array().unwrap().len() == clients.len()
    })
    .await;
    let listing = stage.told(1, "/v1/requests?node=node-a").await;
    let requests = listing["requests"].as_array().unwrap();
    let ages: Vec<u64> = requests.iter().map(|one| one["age_ms"].as_u64().unwrap()).collect();
    assert!(ages.is_sorted_by(|one, next| one >= next), "the oldest first: {ages:?}");
    for client in clients {
        client.abort();
    }
    let took = wait::until("who has gone away is not listed", LIMIT, async || {
        let listing = stage.told(1, "/v1/requests?node=node-a").await;
        listing["requests"].as_array().unwrap().is_empty()
    })
    .await;
    println!("clients that went away were gone from the list after {took:?}");
}
