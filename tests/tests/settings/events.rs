//! The stream of events, as a page sees it.

use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use understudy_tests::servers::Scratch;
use understudy_tests::{Client, Cluster, Node, oracle, wait};

use super::stage::{LIMIT, Stage, VIEWER, admin};

/// Somebody who watches a node.
struct Watcher {
    text: Arc<RwLock<String>>,
    ended: JoinHandle<()>,
}

impl Watcher {
    async fn of(node: &Node) -> Self {
        Self::bearing(VIEWER, node).await
    }

    async fn bearing(token: &str, node: &Node) -> Self {
        let client = Client::new().bearing(token);
        let request = client.build(Method::GET, node.admin_url(), "/v1/events");
        let mut answer = request.timeout(Duration::from_secs(600)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let kind = answer.headers().get("content-type").unwrap().to_str().unwrap();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        let text = Arc::new(RwLock::new(String::new()));
        let heard = Arc::clone(&text);
        let ended = tokio::spawn(async move {
            while let Ok(Some(chunk)) = answer.chunk().await {
                heard.write().unwrap().push_str(&String::from_utf8_lossy(&chunk));
            }
        });
        let watcher = Self { text, ended };
        wait::until("the stream begins", LIMIT, async || watcher.heard().contains("retry: ")).await;
        watcher
    }

    fn heard(&self) -> String {
        self.text.read().unwrap().clone()
    }

    fn count(&self, kind: &str) -> usize {
        self.heard().matches(&format!("event: {kind}\ndata: {{\"at_ms\":")).count()
    }

    /// Waits until there are more events of a kind than before; returns how long that took.
    async fn more(&self, kind: &str, before: usize) -> Duration {
        let what = format!("an event `{kind}` comes");
        wait::until(&what, LIMIT, async || self.count(kind) > before).await
    }
}

async fn leader(stage: &Stage) -> usize {
    let (leader, _) = wait::until_some("one node leads", LIMIT, async || {
        for number in 0..3 {
            if stage.told(number, "/v1/leader").await["leader"] == true {
                return Some(number);
            }
        }
        None
    })
    .await;
    leader
}

#[tokio::test(flavor = "multi_thread")]
async fn u18_a_watcher_sees_a_node_die_and_the_lead_change() {
    let mut stage = Stage::start().await;
    let leads = leader(&stage).await;
    let watched = (leads + 1) % 3;
    let watcher = Watcher::of(stage.node(watched)).await;
    let (nodes, leaders) = (watcher.count("nodes"), watcher.count("leader"));
    stage.cluster.kill9(leads);
    let died = watcher.more("nodes", nodes).await;
    oracle!("ms until a death was seen", died.as_millis(), within 15_000);
    wait::until("another node leads", LIMIT, async || {
        let told = stage.told(watched, "/v1/leader").await;
        let holder = told["leaderNodeId"].as_str();
        holder.is_some_and(|holder| holder != stage.node(leads).name())
    })
    .await;
    watcher.more("leader", leaders).await;
    stage.cluster.restart(leads).await;
    watcher.more("nodes", nodes + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u18_what_happens_on_another_node_is_seen_and_a_drain_ends_the_stream() {
    let folder = Scratch::new("events");
    let file = folder.join("health");
    let path = file.display().to_string();
    let stage = Stage::with(Cluster::builder().node_env(1, "FIXTURE_HEALTH", &path)).await;
    a_stream_ends_with_its_token(stage.node(0)).await;
    let watcher = Watcher::of(stage.node(0)).await;
    let settings = watcher.count("settings");
    stage.maintenance(1, json!({ "mode": "read_only", "why": "a look" })).await;
    let seen = watcher.more("settings", settings).await;
    oracle!("ms until a changed setting was seen elsewhere", seen.as_millis(), within 1_500);
    watcher.more("audit", 0).await;
    a_problem_comes_and_goes(&stage, &watcher, &file).await;
    let job = json!({ "name": "quiet", "handler": "nothing", "schedule": { "kind": "every", "every_ms": 100 } });
    stage.put(1, "/v1/jobs/quiet", job).await.expect(201);
    watcher.more("jobs", 0).await;
    let (began, before) = (Instant::now(), watcher.count("jobs"));
    wait::until("it was quiet for long enough", LIMIT, async || {
        watcher.heard().contains(": keep-alive\n\n") || began.elapsed() > Duration::from_secs(5)
    })
    .await;
    let jobs = watcher.count("jobs") - before;
    assert!(jobs >= 2, "{jobs}");
    // Three nodes, of which each tells at most two a second, and the watched one shows at most two a second.
    oracle!("events of jobs in 5 s", jobs, <= 12);
    stage.node(0).terminate();
    let asked = Instant::now();
    watcher.ended.await.unwrap();
    oracle!("ms until the stream ended with its node", asked.elapsed().as_millis(), within 2_000);
}

/// A problem of another node is news when it comes, and when it goes.
async fn a_problem_comes_and_goes(stage: &Stage, watcher: &Watcher, health: &Path) {
    for (word, is_there) in [("degraded the disk is nearly full", true), ("", false)] {
        let before = watcher.count("problems");
        std::fs::write(health, word).unwrap();
        let seen = watcher.more("problems", before).await;
        oracle!("ms until a problem of another node was news", seen.as_millis(), within 10_000);
        wait::until("the list of problems says so too", LIMIT, async || {
            let told = stage.told(0, "/v1/problems").await.to_string();
            told.contains("the disk is nearly full") == is_there
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u18_a_silent_stream_is_kept_alive_and_watchers_are_bounded() {
    let builder = Cluster::builder().nodes(1).env("UNDERSTUDY_HTTP_REQUEST_TIMEOUT_S", "1");
    let stage = Stage::with(builder).await;
    let mut watchers = Vec::new();
    for _ in 0..100 {
        watchers.push(Watcher::of(stage.node(0)).await);
    }
    let one_more = Client::new().bearing(VIEWER).get(stage.node(0).admin_url(), "/v1/events").await;
    let problem: Value = one_more.unwrap().expect(503).json();
    assert_eq!(problem["code"], "too_many_watchers");
    wait::until("a sign of life comes", LIMIT, async || {
        watchers[99].heard().contains(": keep-alive\n\n")
    })
    .await;
    let gone = watchers.pop().unwrap();
    gone.ended.abort();
    wait::until("there is room again", LIMIT, async || {
        let client = Client::new().bearing(VIEWER);
        let request = client.build(Method::GET, stage.node(0).admin_url(), "/v1/events");
        request.send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    admin().get(stage.node(0).admin_url(), "/v1/events?x=1").await.unwrap().expect(400);
    Client::new().get(stage.node(0).admin_url(), "/v1/events").await.unwrap().expect(401);
}

/// Who may no longer look is told no more, though the stream was begun in time.
async fn a_stream_ends_with_its_token(node: &Node) {
    let url = node.admin_url();
    let body = json!({ "name": "a guest", "role": "viewer" });
    let made: Value = admin().post_json(url, "/v1/tokens", &body).await.unwrap().expect(201).json();
    let watcher = Watcher::bearing(made["token"].as_str().unwrap(), node).await;
    let stays = Watcher::of(node).await;
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    admin().delete(url, &path).await.unwrap().expect(204);
    wait::until("the stream ends", LIMIT, async || watcher.ended.is_finished()).await;
    let before = stays.heard().len();
    wait::until("others go on", LIMIT, async || stays.heard().len() > before).await;
    stays.ended.abort();
}
