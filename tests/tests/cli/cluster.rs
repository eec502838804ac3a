//! A cluster of two nodes, operated from a prompt.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_tests::{Cluster, oracle, wait};

use super::files;
use super::typed::{Ended, typed};

const OPERATOR: &str = "an-operator-of-these-tests";
const ADMIN: &str = "an-administrator-of-these-tests";
const LIMIT: Duration = Duration::from_secs(30);

/// A cluster, and a prompt on one of its nodes.
struct Prompt {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Prompt {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let builder = Cluster::builder()
            .nodes(2)
            .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
            .env("UNDERSTUDY_ADMIN_TOKEN", ADMIN)
            .env("UNDERSTUDY_FILES_CACHE_DIR", folder.path().join("near").to_str().unwrap())
            .allow_error("the content of a file is not what was written");
        let prompt = Self { cluster: builder.start().await, folder };
        wait::until("one node leads", LIMIT, async || {
            let leader = prompt.type_in(&["leader", "show", "--json"]).await;
            leader.status == 0 && leader.json()["leaderNodeId"].is_string()
        })
        .await;
        prompt
    }

    /// Types a command at the second node.
    async fn type_in(&self, arguments: &[&str]) -> Ended {
        let variables = [
            ("UNDERSTUDY_ADMIN_URL", self.cluster.nodes[1].admin_url()),
            ("UNDERSTUDY_TOKEN", OPERATOR),
        ];
        typed(arguments, &variables).await
    }

    /// Makes a job out of a file.
    async fn define(&self, name: &str, definition: &Value) {
        let file = self.folder.path().join(name);
        std::fs::write(&file, definition.to_string()).unwrap();
        let arguments = ["job", "put", file.to_str().unwrap(), "--name", name];
        self.type_in(&arguments).await.expect(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_operated_from_a_prompt() {
    let mut prompt = Prompt::start().await;
    looks(&prompt).await;
    is_refused(&prompt).await;
    starts_jobs(&prompt).await;
    reads_long_lists(&prompt).await;
    files::go_in_and_out(&prompt.cluster, [ADMIN, OPERATOR]).await;
    moves_the_lead(&prompt).await;
    files::are_examined(&mut prompt.cluster, [ADMIN, OPERATOR]).await;
}

async fn looks(prompt: &Prompt) {
    let nodes = prompt.type_in(&["nodes"]).await.expect(0);
    for part in ["NODE", "node-a", "node-b", "ready"] {
        assert!(nodes.out.contains(part), "{}", nodes.out);
    }
    let raw = prompt.type_in(&["nodes", "--json"]).await.json();
    oracle!("nodes", raw["nodes"].as_array().unwrap().len(), 2);
    let config = prompt.type_in(&["config", "show"]).await.expect(0);
    assert!(config.out.contains("******") && !config.out.contains(OPERATOR), "{}", config.out);
    let metrics = prompt.type_in(&["metrics"]).await.expect(0);
    assert!(metrics.out.contains("# TYPE "), "{}", metrics.out);
    let nginx = prompt.type_in(&["lb", "nginx"]).await.expect(0);
    for node in &prompt.cluster.nodes {
        let address = node.public_url().trim_start_matches("http://");
        assert!(nginx.out.contains(&format!("server {address} max_fails=1")), "{}", nginx.out);
    }
    let top = prompt.type_in(&["top", "--once"]).await.expect(0);
    assert!(top.out.contains("NODES 2") && !top.out.contains('\x1b'), "{}", top.out);
}

async fn is_refused(prompt: &Prompt) {
    for (arguments, status, told) in [
        (&["job", "show", "nobody"][..], 1, "`understudy jobs`"),
        (&["run", "show", "4711"], 1, "`understudy runs`"),
        (&["locks", "clear", "a/b c", "--yes"], 1, "`understudy locks`"),
        (&["runs", "--state", "odd"], 1, "queued"),
        (&["node", "maintenance", "no such node", "--why", "x"], 1, "what to do"),
    ] {
        let ended = prompt.type_in(arguments).await.expect(status);
        assert!(ended.complaints.contains(told), "{arguments:?}: {}", ended.complaints);
    }
    let url = [("UNDERSTUDY_ADMIN_URL", prompt.cluster.nodes[0].admin_url())];
    let ended = typed(&["nodes"], &url).await.expect(77);
    assert!(ended.complaints.contains("--token-file"), "{}", ended.complaints);
}

async fn starts_jobs(prompt: &Prompt) {
    let manual = |handler: &str, params: Value| json!({ "handler": handler, "schedule": { "kind": "manual" }, "params": params, "placement": "any" });
    prompt.cluster.postgres.query(
        "CREATE TABLE probe (job text, fire_ms bigint, epoch bigint, node text, run bigint, attempt integer, at_ms bigint);
         CREATE TABLE ended (job text, fire_ms bigint, epoch bigint, node text, run bigint, attempt integer, at_ms bigint);",
    );
    prompt.define("good", &manual("slow", json!({ "ms": 300 }))).await;
    prompt.define("bad", &manual("fail", json!({ "fatal": true }))).await;
    let good = prompt.type_in(&["job", "run", "good", "--wait", "--json"]).await.expect(0).json();
    oracle!("state of what was waited for", good["state"], json!("completed"));
    let run = good["id"].to_string();
    let shown = prompt.type_in(&["run", "show", &run]).await.expect(0);
    assert!(shown.out.contains("completed"), "{}", shown.out);
    prompt.type_in(&["run", "log", &run, "--follow"]).await.expect(0);
    let bad = prompt.type_in(&["job", "run", "bad", "--wait"]).await.expect(1);
    assert!(bad.out.contains("failed"), "{}", bad.out);
    let first = prompt.type_in(&["job", "run", "good", "--key", "k1", "--json"]).await.json();
    let again = prompt.type_in(&["job", "run", "good", "--key", "k1", "--json"]).await.json();
    oracle!("a run asked for twice by one key", first["run"], again["run"]);
    let run = first["run"].to_string();
    prompt.type_in(&["run", "log", &run, "--follow"]).await.expect(0);
    let paused =
        prompt.type_in(&["job", "pause", "good", "--why", "the disk is full"]).await.expect(0);
    assert!(
        paused.out.contains("by operator, ") && paused.out.contains(": the disk is full"),
        "{}",
        paused.out
    );
}

async fn reads_long_lists(prompt: &Prompt) {
    for _ in 0..4 {
        prompt.type_in(&["job", "run", "good", "--wait"]).await.expect(0);
    }
    let all = prompt.type_in(&["runs", "--limit", "2", "--all", "--json"]).await.expect(0).json();
    let ids: Vec<i64> =
        all["runs"].as_array().unwrap().iter().filter_map(|run| run["id"].as_i64()).collect();
    assert!(ids.len() >= 6 && ids.is_sorted_by(|a, b| a > b), "{ids:?}");
    assert_eq!(all["next"], Value::Null);
    let page = prompt.type_in(&["runs", "--limit", "2"]).await.expect(0);
    assert!(page.complaints.contains("--before"), "{}", page.complaints);
}

async fn moves_the_lead(prompt: &Prompt) {
    let before = prompt.type_in(&["leader", "show", "--json"]).await.json()["leaderNodeId"].clone();
    let moved = prompt.type_in(&["leader", "step-down", "--json"]).await.expect(0).json();
    oracle!("who led", moved["from"], before);
    let held = prompt.type_in(&["leader", "freeze", "--why", "a test"]).await.expect(0);
    assert!(held.out.contains("frozen") && held.out.contains("a test"), "{}", held.out);
    let history = prompt.type_in(&["leader", "history"]).await.expect(0);
    assert!(history.out.contains("TERM"), "{}", history.out);
}
