//! Whole nodes within this process, with jobs of a file and what happens once per deployment.

use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use understudy_runtime::node::RunningNode;
use understudy_scheduler::RunState;
use understudy_scheduler::store::{RunFilter, RunRow};

use super::*;

fn config(folder: &TempDir) -> Config {
    let vars = [
        ("UNDERSTUDY_HTTP_BIND", "127.0.0.1:0"),
        ("UNDERSTUDY_ADMIN_BIND", "127.0.0.1:0"),
        ("UNDERSTUDY_DATA_DIR", folder.path().to_str().unwrap()),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut config = Config::from_vars(vars).unwrap();
    config.http.workers = 1;
    config.ops.drain_delay = Duration::ZERO;
    config
}

/// Starts a node, and gives its handle on jobs.
async fn start(node: Node) -> (RunningNode, Jobs) {
    let (sender, mut receiver): (_, UnboundedReceiver<Jobs>) = unbounded_channel();
    let node = node.on_node_start(move |_, jobs| {
        sender.send(jobs).unwrap();
        std::future::ready(())
    });
    let running = node.build().unwrap().start().await.unwrap();
    (running, receiver.recv().await.unwrap())
}

async fn runs(jobs: &Jobs, job: &str) -> Vec<RunRow> {
    let filter = RunFilter { job: Some(job.parse().unwrap()), limit: 100, ..RunFilter::default() };
    jobs.store().runs(&filter).await.unwrap()
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

async fn until_completed(jobs: &Jobs, job: &str) -> RunRow {
    let completed = |row: &RunRow| row.state == RunState::Completed;
    until(&format!("{job} is completed"), || async { runs(jobs, job).await.iter().any(completed) })
        .await;
    runs(jobs, job).await.into_iter().find(completed).unwrap()
}

#[actix_web::test]
async fn jobs_of_a_file_run_and_a_changed_file_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    let call = "command = { argv = [\"/bin/sh\", \"-c\", \"echo hello from $UNDERSTUDY_JOB\"] }";
    let text = |name: &str| {
        format!("[[job]]\nname = \"{name}\"\nschedule = {{ every = \"100ms\" }}\n{call}\n")
    };
    std::fs::write(&path, text("first")).unwrap();
    let (node, jobs) = start(Node::new(config(&folder)).jobs_file(&path)).await;
    let run = until_completed(&jobs, "first").await;
    until("its output is in the log", || async {
        let lines = jobs.store().log_lines(run.id, (0, 0), 100).await.unwrap();
        lines.iter().any(|line| line.line == "hello from first" && line.level == "info")
    })
    .await;
    std::fs::write(&path, text("the-second")).unwrap();
    until_completed(&jobs, "the-second").await;
    let first = "first".parse().unwrap();
    until("the first is gone", || async { jobs.store().job(&first).await.unwrap().is_none() })
        .await;
    node.stop().await;
}

#[actix_web::test]
async fn a_broken_file_keeps_the_node_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    std::fs::write(&path, "[[job]]\nnam = \"a\"\n").unwrap();
    let error = Node::new(config(&folder)).jobs_file(&path).build().unwrap_err();
    assert_eq!(error.exit_code(), 78);
    let text = error.to_string();
    for part in [
        "UNDERSTUDY_JOBS_FILE",
        "jobs.toml:1:1: job 1: name is missing",
        "jobs.toml:2:1: job 1: nam",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[actix_web::test]
async fn what_is_done_once_per_deployment_is_not_done_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let make = |deployment: &str| {
        let greet = |job: JobContext| async move {
            job.info("first of all");
            Ok::<_, JobError>(())
        };
        Node::new(config(&folder)).on_cluster_first_start(deployment, greet)
    };
    let (node, jobs) = start(make("v1")).await;
    let first = until_completed(&jobs, "cluster-first-start.v1").await;
    node.stop().await;
    let (node, jobs) = start(make("v1")).await;
    let again = runs(&jobs, "cluster-first-start.v1").await;
    assert_eq!(again.iter().map(|run| run.id).collect::<Vec<_>>(), [first.id]);
    node.stop().await;
    let (node, jobs) = start(make("v2")).await;
    until_completed(&jobs, "cluster-first-start.v2").await;
    assert_eq!(runs(&jobs, "cluster-first-start.v1").await.len(), 1);
    node.stop().await;
}
