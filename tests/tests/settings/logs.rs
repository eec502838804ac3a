//! The log of a node followed from elsewhere, and what its process is doing.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use understudy_tests::{Client, Cluster, Node, oracle, wait};

use super::stage::{ADMIN, LIMIT, OPERATOR, Stage, VIEWER, admin};

const SETTING: &str = "/v1/settings/log_tail";
const TAIL: &str = "/v1/logs/tail";

/// Somebody who follows the log of a node.
struct Follower {
    text: Arc<RwLock<String>>,
    ended: JoinHandle<()>,
}

impl Follower {
    async fn of(node: &Node, query: &str) -> Self {
        Self::asked_by(&admin(), node, query).await
    }

    async fn asked_by(client: &Client, node: &Node, query: &str) -> Self {
        let request = client.build(Method::GET, node.admin_url(), &format!("{TAIL}?{query}"));
        let mut answer = request.timeout(Duration::from_secs(600)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let text = Arc::new(RwLock::new(String::new()));
        let heard = Arc::clone(&text);
        let ended = tokio::spawn(async move {
            while let Ok(Some(chunk)) = answer.chunk().await {
                heard.write().unwrap().push_str(&String::from_utf8_lossy(&chunk));
            }
        });
        let follower = Self { text, ended };
        wait::until("the stream begins", LIMIT, async || follower.heard().contains("retry: "))
            .await;
        follower
    }

    fn heard(&self) -> String {
        self.text.read().unwrap().clone()
    }

    /// The lines so far, as they were told.
    fn lines(&self) -> Vec<Value> {
        let heard = self.heard();
        // The last part may not have come whole.
        let whole = heard.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        let events =
            whole.split("\n\n").filter_map(|event| event.strip_prefix("event: line\ndata: "));
        events.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

async fn switch(stage: &Stage, value: &str) {
    let body = json!({ "value": value, "why": "a look", "for_s": 600 });
    let answer: Value = stage.put(0, SETTING, body).await.expect(200).json();
    assert_eq!(answer["unreachable"], json!([]), "{answer}");
}

/// What the API refuses, as status and code.
async fn refused(client: &Client, node: &Node, path: &str) -> (u16, String) {
    let answer = client.get(node.admin_url(), path).await.unwrap();
    let problem: Value = answer.json();
    (answer.status, problem["code"].as_str().unwrap_or_default().to_owned())
}

/// What cannot be followed is refused, with what would be right.
async fn wrong_questions_are_refused(stage: &Stage) {
    let (node, other) = (stage.node(0), stage.node(1));
    let elsewhere: Value = admin()
        .get(node.admin_url(), &format!("{TAIL}?node=node-b"))
        .await
        .unwrap()
        .expect(409)
        .json();
    assert_eq!(elsewhere["code"], "other_node", "{elsewhere}");
    let address = format!("http://{}", elsewhere["admin_addr"].as_str().unwrap());
    assert_eq!(address, other.admin_url(), "it says whom to ask");
    for (query, status, code) in [
        ("level=loud", 400, "bad_query"),
        ("last=513", 400, "bad_query"),
        ("node=node-x", 404, "unknown_node"),
        ("follow=maybe", 400, "bad_query"),
    ] {
        let path = format!("{TAIL}?{query}");
        assert_eq!(refused(&admin(), node, &path).await, (status, code.to_owned()), "{query}");
    }
}

/// Who may no longer look is told no more, though the stream was begun in time.
async fn a_stream_ends_with_its_token(stage: &Stage) {
    let url = stage.node(0).admin_url();
    let body = json!({ "name": "a guest", "role": "admin" });
    let made: Value = admin().post_json(url, "/v1/tokens", &body).await.unwrap().expect(201).json();
    let guest = Client::new().bearing(made["token"].as_str().unwrap());
    let follower = Follower::asked_by(&guest, stage.node(0), "last=0").await;
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    admin().delete(url, &path).await.unwrap().expect(204);
    wait::until("the stream ends", LIMIT, async || follower.ended.is_finished()).await;
    assert!(follower.heard().contains("event: end\n"), "{}", follower.heard());
}

#[tokio::test(flavor = "multi_thread")]
async fn u14_the_log_of_a_node_is_followed_while_it_is_on() {
    let stage = Stage::with(Cluster::builder().nodes(2)).await;
    let (node, other) = (stage.node(0), stage.node(1));
    let off = refused(&admin(), node, TAIL).await;
    oracle!("answer while it is off", format!("{off:?}"), "(409, \"log_tail_off\")".to_owned());
    for token in [VIEWER, OPERATOR] {
        let client = Client::new().bearing(token);
        assert_eq!(refused(&client, node, TAIL).await, (403, "forbidden".to_owned()));
    }
    switch(&stage, "on").await;
    wrong_questions_are_refused(&stage).await;
    wait::until("both nodes tell that it is on", LIMIT, async || {
        let told = stage.told(0, "/v1/problems").await;
        let problems = told["problems"].as_array().unwrap();
        let followed = problems.iter().find(|problem| problem["code"] == "log_followed");
        followed.is_some_and(|problem| problem["nodes"] == json!(["node-a", "node-b"]))
    })
    .await;
    // The line of the audit log that this test causes itself.
    let follower = Follower::of(node, "level=info&target=understudy_&contains=SETTINGS.SET").await;
    let before = follower.lines().len();
    switch(&stage, "on").await;
    let (line, took) = wait::until_some("the line comes", LIMIT, async || {
        let lines = follower.lines();
        lines
            .iter()
            .skip(before)
            .find(|line| line["text"].as_str().unwrap().starts_with("audit"))
            .cloned()
    })
    .await;
    oracle!("ms until a line was seen", took.as_millis(), within 10_000);
    let written = node.events().into_iter().find(|event| event["timestamp"] == line["at"]);
    let written = written.expect("it stands in the log of the node");
    assert_eq!(written["target"], line["target"]);
    assert_eq!(written["fields"]["message"], "audit", "{written}");
    let told = format!("{}{}", follower.heard(), line);
    oracle!(
        "tokens in what was told",
        [ADMIN, OPERATOR, VIEWER].iter().filter(|token| told.contains(**token)).count(),
        0
    );
    let kept = admin().get(node.admin_url(), &format!("{TAIL}?follow=false&last=1")).await.unwrap();
    assert_eq!(kept.expect(200).text.matches("event: line\n").count(), 1, "it ends by itself");
    a_stream_ends_with_its_token(&stage).await;
    switch(&stage, "off").await;
    wait::until("nobody tells that it is on", LIMIT, async || {
        !stage.told(0, "/v1/problems").await.to_string().contains("log_followed")
    })
    .await;
    wait::until("the stream ends", LIMIT, async || follower.ended.is_finished()).await;
    assert!(follower.heard().contains("event: end\n"), "{}", follower.heard());
    switch(&stage, "on").await;
    let follower = Follower::of(other, "last=0").await;
    other.terminate();
    let ended = wait::until("it ends with its node", LIMIT, async || follower.ended.is_finished());
    oracle!("ms until the stream ended with its node", ended.await.as_millis(), within 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_what_a_process_is_doing_is_told_by_any_node() {
    let stage = Stage::with(Cluster::builder().nodes(2)).await;
    let hanging = tokio::spawn({
        let url = stage.cluster.url(1).to_owned();
        async move { Client::new().get(&url, "/sleep?ms=50000&secret=x").await }
    });
    let run = long_run(&stage).await;
    let path = "/v1/diag/tasks?node=node-b";
    let (doing, _) = wait::until_some("the request is listed", LIMIT, async || {
        let doing = stage.told(0, path).await;
        (doing["requests"].as_array().unwrap().len() == 1).then_some(doing)
    })
    .await;
    assert_eq!(
        (&doing["node"], &doing["requests"][0]["path"]),
        (&"node-b".into(), &"/sleep".into())
    );
    assert_eq!((&doing["blocked_workers"], &doing["silent"]), (&0.into(), &json!([])), "{doing}");
    let tasks = doing["tasks"].as_array().unwrap();
    let running: Vec<&str> = tasks
        .iter()
        .filter(|task| task["state"] == "runs" && task["restarts"] == 0)
        .map(|task| task["name"].as_str().unwrap())
        .collect();
    let of_runtime = ["readiness", "settings", "events", "gauges", "problems"];
    for name in of_runtime.into_iter().chain(["session-keeper", "session-kin"]) {
        assert!(running.contains(&name), "{name} in {doing}");
    }
    let threads = &doing["threads"];
    let busy = threads["busy"].as_array().unwrap();
    assert_eq!(busy.len() as u64, threads["count"].as_u64().unwrap());
    assert!(busy.iter().all(|share| (0.0..=1.0).contains(&share.as_f64().unwrap())), "{doing}");
    assert!(threads["alive_tasks"].as_u64().unwrap() >= 5, "{doing}");
    oracle!(
        "leases that the node holds",
        doing["leases"]["held"].to_string(),
        doing["leases"]["buckets"].to_string()
    );
    assert!(doing["leases"]["shortest_ms"].as_u64().unwrap() > 0, "{doing}");
    let (work, _) = wait::until_some("the run is listed where it runs", LIMIT, async || {
        for node in ["node-a", "node-b"] {
            let doing = stage.told(1, &format!("/v1/diag/tasks?node={node}")).await;
            let work = doing["work"].as_array().unwrap().clone();
            if let Some(found) = work.into_iter().find(|work| work["of"] == "long") {
                return Some(found);
            }
        }
        None
    })
    .await;
    assert_eq!((&work["kind"], &work["id"]), (&"run".into(), &run["run"].to_string().into()));
    only_admins_look_and_looking_leaves_nothing(&stage).await;
    hanging.abort();
}

/// Begins a run that goes on for as long as the test does.
async fn long_run(stage: &Stage) -> Value {
    // Where the handler notes that it has begun.
    stage.cluster.postgres.query(
        "CREATE TABLE probe (job text, fire_ms bigint, epoch bigint, node text, run bigint, attempt integer, at_ms bigint)",
    );
    let job = json!({
        "name": "long", "handler": "slow", "params": { "ms": 50_000 }, "schedule": { "kind": "manual" },
    });
    stage.put(0, "/v1/jobs/long", job).await.expect(201);
    admin().post(stage.node(0).admin_url(), "/v1/jobs/long/run").await.unwrap().json()
}

async fn only_admins_look_and_looking_leaves_nothing(stage: &Stage) {
    let url = stage.node(0).admin_url();
    for (path, status) in [("/v1/diag/tasks?node=node-x", 404), ("/v1/diag/tasks?nod=a", 400)] {
        admin().get(url, path).await.unwrap().expect(status);
    }
    Client::new().bearing(OPERATOR).get(url, "/v1/diag/tasks").await.unwrap().expect(403);
    wait::until("what was asked of the worker does not count as waiting", LIMIT, async || {
        stage.told(0, "/v1/actors/worker/node-b").await["waiting"] == 0
    })
    .await;
}
