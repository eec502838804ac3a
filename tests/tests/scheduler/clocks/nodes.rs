//! Nodes whose wall clocks are wrong by an hour, and jump while they lead.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use understudy_tests::{Cluster, ClusterBuilder, oracle, wait};

use super::super::stage::{LIMIT, Stage, options, rounds};

/// A fire may be so much earlier than the database's clock says, and so much later.
const EARLY_MS: u64 = 100;
const LATE_MS: u64 = 1_200;
/// Seconds by which the clocks of the two nodes that lead are wrong, one after the other.
const JUMPS: [(i64, i64); 7] =
    [(3_600, -3_600), (-3_600, 3_600), (2, -2), (-2, 2), (2, -2), (30, -30), (0, 0)];
/// A clock that is wrong by more than this is reported.
const REPORTED_S: i64 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_whose_clocks_jump_start_everything_once_and_in_time() {
    let clocks = [WrongClock::new(), WrongClock::new()];
    // The node whose clock is right never leads.
    let builder = options(Cluster::builder()).env("UNDERSTUDY_JOBS_ALIVE_MS", "500");
    let builder = builder.node_env(0, "UNDERSTUDY_LEADER_ELIGIBLE", "false");
    let builder = clocks[0].shown_to(1, builder);
    let stage = Stage::with(clocks[1].shown_to(2, builder)).await;
    stage.with_patient_probe().await;
    let first = stage.epoch();
    let mut hand_overs = 0;
    for _ in 0..rounds(1, 10) {
        for (one, other) in JUMPS {
            for (clock, seconds) in clocks.iter().zip([one, other]) {
                clock.set(seconds);
            }
            stage.goes_on().await;
            for (node, seconds) in [(0, 0), (1, one), (2, other)] {
                reports(&stage, node, seconds.abs() > REPORTED_S).await;
            }
            stage.goes_on().await;
            hand_over(&stage).await;
            hand_overs += 1;
            stage.goes_on().await;
        }
    }
    oracle!(
        "terms begun for another reason than that this test asked for it",
        stage.epoch() - first - hand_overs,
        0
    );
    stage.settle("probe").await;
    is_in_time(&stage);
}

/// A clock that a node is shown in place of its own: that of the machine, and so many seconds.
struct WrongClock {
    folder: TempDir,
}

impl WrongClock {
    fn new() -> Self {
        let clock =
            Self { folder: tempfile::tempdir().expect("the temporary directory is writable") };
        clock.set(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// Jumps, at the next look at the clock.
    fn set(&self, seconds: i64) {
        let draft = self.folder.path().join("draft");
        std::fs::write(&draft, format!("{seconds:+}\n")).expect("an own directory is writable");
        std::fs::rename(draft, self.file()).expect("an own file can be renamed");
    }

    /// The clocks that count time stay right, as they do when the wall clock of a machine is set.
    fn shown_to(&self, node: usize, builder: ClusterBuilder) -> ClusterBuilder {
        builder
            .node_env(node, "LD_PRELOAD", &library().display().to_string())
            .node_env(node, "FAKETIME_TIMESTAMP_FILE", &self.file().display().to_string())
            .node_env(node, "FAKETIME_NO_CACHE", "1")
            .node_env(node, "FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .node_env(node, "NO_FAKE_STAT", "1")
    }
}

fn library() -> &'static Path {
    const PLACES: [&str; 4] = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/faketime/libfaketimeMT.so.1",
        "/usr/local/lib/faketime/libfaketimeMT.so.1",
    ];
    let found = PLACES.iter().map(Path::new).find(|place| place.is_file());
    found.expect("libfaketime is installed: run .ci/packages.sh (Debian: the package faketime)")
}

/// Waits until the health of a node says that its clock is wrong, or does not.
async fn reports(stage: &Stage, node: usize, wrong: bool) {
    let admin = stage.cluster.nodes[node].admin_url();
    let what = format!("node {node} reports a wrong clock: {wrong}");
    wait::until(&what, LIMIT, async || {
        let Ok(answer) = stage.client.get(admin, "/v1/about").await else { return false };
        let about: Value = answer.expect(200).json();
        let services = about["services"].as_array().cloned().unwrap_or_default();
        let scheduler = services.iter().find(|service| service["name"] == "scheduler");
        scheduler.is_some_and(|scheduler| {
            let reason = scheduler["reason"].as_str().unwrap_or_default();
            wrong == (scheduler["health"] == "degraded" && reason.contains("clock"))
        })
    })
    .await;
}

/// Has the other of the two lead, as soon as its own hold after the hand-over before is over.
async fn hand_over(stage: &Stage) {
    let lead = stage.agreed().await;
    wait::until("a hand-over is possible", LIMIT, async || {
        let answer = stage.post("/v1/leader/step-down", json!({ "hold_ms": 1_000 })).await;
        answer.status != 409 && answer.expect(200).status == 200
    })
    .await;
    wait::until("the other leads", LIMIT, async || {
        stage.leads().await.is_some_and(|other| other != lead.node)
    })
    .await;
}

/// By the clock of the database, which is right.
fn is_in_time(stage: &Stage) {
    let early = stage.count(&format!(
        "SELECT count(*) FROM probe WHERE job = 'probe' AND at_ms < fire_ms - {EARLY_MS}"
    ));
    oracle!("starts more than 100 ms before their time", early, 0);
    let late = stage.count(
        "SELECT CAST(percentile_disc(0.99) WITHIN GROUP (ORDER BY greatest(at_ms - fire_ms, 0)) AS bigint) \
         FROM probe WHERE job = 'probe'",
    );
    oracle!("lateness of starts, p99 in ms", late, within LATE_MS);
}
