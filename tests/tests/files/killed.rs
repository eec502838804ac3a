//! Nodes are killed (SIGKILL) at every place where a file could be left half: what is there afterwards is what that place says.

use std::time::Duration;

use serde_json::Value;
use understudy_tests::{Client, oracle, rounds, wait};

use super::content::Content;
use super::stage::{LIMIT, STORES, Stage, put};

/// Where a node that writes is killed, and whether the file is the new one then.
const PLACES: [(&str, bool); 5] = [
    ("piece", false),    // while it is staged
    ("written", false),  // before it is moved to where it stays
    ("kept", false),     // after that
    ("named", false),    // before the commit
    ("published", true), // after it
];
/// Two pieces in the store with the largest.
const MEBIBYTES: u64 = 9;

fn name(node: usize) -> String {
    format!("killed-{node}")
}

/// What is written into the file of a node in a round.
fn content(node: usize, round: usize) -> Content {
    Content { seed: (100 + STORES.len() * round + node) as u64, mebibytes: MEBIBYTES }
}

async fn stand_still(stage: &Stage, node: usize, place: &str, may_pass: usize) {
    let path = format!("/stand-still?at={place}&may_pass={may_pass}");
    Client::new().post(stage.cluster.url(node), &path).await.unwrap().expect(204);
}

async fn stands(stage: &Stage, node: usize) -> bool {
    let asked = Client::new().get(stage.cluster.url(node), "/stand-still").await;
    asked.is_ok_and(|answer| answer.json::<Value>()["stands"] == true)
}

/// What became of the files of all rounds.
#[derive(Debug, Default)]
struct Found {
    /// Neither the old nor the new one.
    neither: usize,
    /// One of them, and not the one that it must be.
    unexpected: usize,
}

pub(super) async fn while_they_write(stage: &mut Stage) {
    let mut known = Vec::new();
    for node in 0..STORES.len() {
        stage.put(node, &name(node), content(node, 0)).await.expect(200);
        known.push(content(node, 0).digest());
    }
    let (all, mut found) = (rounds(5, 100), Found::default());
    for round in 0..all {
        let (place, is_new) = PLACES[round % PLACES.len()];
        kill_all(stage, round + 1, place).await;
        for (node, known) in known.iter_mut().enumerate() {
            let new = content(node, round + 1).digest();
            let reader = (node + 1) % STORES.len();
            let there = stage.digest(reader, &name(node)).await.unwrap_or_default();
            let wanted = if is_new { &new } else { &*known };
            found.neither += usize::from(there != new && there != *known);
            found.unexpected += usize::from(there != *wanted);
            if there == new {
                *known = new;
            }
        }
    }
    let killed = all * STORES.len();
    let what = format!("files that are neither old nor new, of {killed} kills of a writer");
    oracle!(what.as_str(), found.neither, 0);
    oracle!("files that are not the one of the place of the kill", found.unexpected, 0);
    stage.sweep().await;
    stage.nothing_is_left_and_nothing_lost();
    oracle!("parts in the bucket that became no object", stage.s3.parts(), 0);
}

/// Lets every node write its file, kills each as soon as it stands at this place, and starts them again.
async fn kill_all(stage: &mut Stage, round: usize, place: &str) {
    // The second piece, and in every other round the first one.
    let may_pass = usize::from(place == "piece" && (round / PLACES.len()).is_multiple_of(2));
    let mut writing = Vec::new();
    for node in 0..STORES.len() {
        stand_still(stage, node, place, may_pass).await;
        let (url, content) = (stage.cluster.url(node).to_owned(), content(node, round));
        writing.push(tokio::spawn(async move { put(&url, &name(node), content).await }));
    }
    for (node, store) in STORES.iter().enumerate() {
        let what = format!("the node that writes to `{store}` stands at `{place}`");
        wait::until(&what, LIMIT, async || stands(stage, node).await).await;
        stage.cluster.kill9(node);
    }
    for put in writing {
        let told = put.await.unwrap();
        assert!(!told.is_ok_and(|answer| answer.status == 200), "it was killed before it answered");
    }
    for node in &mut stage.cluster.nodes {
        node.start_again();
    }
    stage.cluster.ready().await;
}

pub(super) async fn while_they_sweep(stage: &mut Stage) {
    let (all, mut gone) = (rounds(2, 100), 0);
    for round in 0..all {
        for node in 0..STORES.len() {
            // The one before is what there is to be swept, one in each store.
            let content = Content { seed: (10_000 + round) as u64, mebibytes: 1 };
            stage.put(node, &name(node), content).await.expect(200);
            stand_still(stage, node, "removed", round % STORES.len()).await;
        }
        let every = Duration::from_millis(500);
        let (sweeper, _) =
            wait::poll("the leader stands in a sweep", LIMIT * 2, every, async || {
                stage.ask_for_a_sweep().await;
                for node in 0..STORES.len() {
                    if stands(stage, node).await {
                        return Some(node);
                    }
                }
                None
            })
            .await;
        stage.cluster.kill9(sweeper);
        stage.cluster.restart(sweeper).await;
        for node in 0..STORES.len() {
            stand_still(stage, node, "nowhere", 0).await;
        }
        let wanted = Content { seed: (10_000 + round) as u64, mebibytes: 1 }.digest();
        for node in 0..STORES.len() {
            gone += usize::from(stage.digest(node, &name(node)).await != Some(wanted.clone()));
        }
    }
    let what = format!("living files that are not there, after {all} kills of a sweeper");
    oracle!(what.as_str(), gone, 0);
    stage.sweep().await;
    stage.nothing_is_left_and_nothing_lost();
}
