//! A store that is full or away: whoever writes is told so, the node lives, nothing half is seen, and it is over by itself.

use std::path::Path;

use serde_json::Value;
use understudy_tests::{Answer, Client, oracle, wait};

use super::content::Content;
use super::stage::{LIMIT, STORES, Stage};

/// The nodes by the store that they write to.
const IN_DATABASE: usize = 0;
const IN_FOLDER: usize = 1;
const IN_BUCKET: usize = 2;

const SMALL: Content = Content { seed: 20, mebibytes: 1 };
/// So that there is no room for its last piece: by then all of the request has been read.
const LARGER: Content = Content { seed: 21, mebibytes: 2 };
const ROOM: u64 = 3 << 19;

fn url(stage: &Stage, node: usize) -> &str {
    stage.cluster.url(node)
}

/// Whether a node is ready, and what it says of that.
async fn readiness(stage: &Stage, node: usize) -> (bool, String) {
    let admin = stage.cluster.nodes[node].admin_url();
    let told = Client::new().get(admin, "/health/ready").await.unwrap();
    (told.status == 200, told.text)
}

/// A body so short that it has been sent whatever becomes of the request.
async fn put_short(stage: &Stage, node: usize, name: &str) -> (u16, Value) {
    let client = Client::new();
    let put = client.build(reqwest::Method::PUT, url(stage, node), &format!("/shared?name={name}"));
    let told = client.send(put.body("short")).await.unwrap();
    let problem = serde_json::from_str(&told.text).unwrap_or_default();
    (told.status, problem)
}

/// Asks a node for a file whose content it cannot have now.
async fn is_told_to_who_reads(stage: &Stage, node: usize) {
    let path = format!("/shared?name={}", STORES[node]);
    let told = Client::new().get(url(stage, node), &path).await.unwrap().expect(503);
    let problem: Value = told.json();
    assert_eq!(problem["code"], "file_store_unavailable", "{problem}");
}

/// Writes [`LARGER`] at the node with the folder, in a body of a length that is told: the request ends with its last piece.
async fn put_whole(stage: &Stage, name: &str) -> Answer {
    let body: Vec<u8> = (0..LARGER.mebibytes).flat_map(|number| LARGER.block(number)).collect();
    let (client, path) = (Client::new(), format!("/shared?name={name}"));
    let put = client.build(reqwest::Method::PUT, url(stage, IN_FOLDER), &path);
    client.send(put.body(body)).await.unwrap()
}

/// What was refused is seen by nobody, and what was there before is there.
async fn nothing_half_is_seen(stage: &Stage, name: &str) {
    for node in 0..STORES.len() {
        assert!(!stage.names(node).await.contains(&name.to_owned()), "{name} at node {node}");
        let kept = stage.digest(node, "kept").await;
        assert_eq!(kept, Some(SMALL.digest()), "node {node}");
    }
    assert_eq!(stage.digest(IN_DATABASE, name).await, None);
}

pub(super) async fn a_full_disk_is_told_and_passes(stage: &Stage) {
    stage.put(IN_DATABASE, "kept", SMALL).await.expect(200);
    let Some(share) = &stage.share else { return };
    share.fill_but(ROOM);
    let mut answered = 0;
    for _ in 0..3 {
        let told = put_whole(stage, "too-much").await.expect(507);
        answered += usize::from(told.json::<Value>()["code"] == "file_store_full");
        // What was written of it is removed, or the next one would not even get as far.
        wait::until("what was written of it is removed", LIMIT, async || {
            room_in(&stage.place) >= ROOM
        })
        .await;
    }
    oracle!("answers that there is no room, of 3", answered, 3);
    nothing_half_is_seen(stage, "too-much").await;
    assert!(readiness(stage, IN_FOLDER).await.0, "a full disk can still be read from");
    share.empty();
    stage.put(IN_FOLDER, "too-much", LARGER).await.expect(200);
    assert_eq!(stage.digest(IN_BUCKET, "too-much").await, Some(LARGER.digest()));
}

/// How many bytes there is room for.
fn room_in(place: &Path) -> u64 {
    let now = rustix::fs::statvfs(place).unwrap();
    now.f_bavail * now.f_frsize
}

pub(super) async fn a_folder_that_is_away_is_told_and_passes(stage: &Stage) {
    for is_unmounted in [true, false] {
        take_away(stage, is_unmounted);
        wait::until("the node that needs the folder is not ready", LIMIT, async || {
            let (is_ready, told) = readiness(stage, IN_FOLDER).await;
            !is_ready && told.contains("files")
        })
        .await;
        let (status, problem) = put_short(stage, IN_FOLDER, "lost").await;
        assert_eq!((status, problem["code"].as_str()), (503, Some("file_store_unavailable")));
        if is_unmounted {
            is_told_to_who_reads(stage, IN_FOLDER).await;
        }
        nothing_half_is_seen(stage, "lost").await;
        for node in [IN_DATABASE, IN_BUCKET] {
            assert!(readiness(stage, node).await.0, "its files go elsewhere: {}", STORES[node]);
        }
        if is_unmounted {
            let there = std::fs::read_dir(&stage.place).unwrap().count();
            oracle!("what was written where the folder is not mounted", there, 0);
        }
        bring_back(stage, is_unmounted);
        wait::until("it is ready again", LIMIT, async || readiness(stage, IN_FOLDER).await.0).await;
        assert_eq!(put_short(stage, IN_FOLDER, "found").await.0, 200);
        let whole = stage.digest(IN_DATABASE, STORES[IN_FOLDER]).await;
        assert!(whole.is_some(), "what was there before can be read");
        Client::new()
            .delete(url(stage, IN_DATABASE), "/shared?name=found")
            .await
            .unwrap()
            .expect(200);
    }
}

/// Unmounts the folder, or takes it its marker.
fn take_away(stage: &Stage, is_unmounted: bool) {
    let marker = stage.place.join(".understudy-store");
    match (&stage.share, is_unmounted) {
        (_, false) => std::fs::rename(&marker, marker.with_extension("away")).unwrap(),
        (Some(share), true) => share.take_away(),
        (None, true) => {
            std::fs::rename(&stage.place, stage.place.with_extension("away")).unwrap();
            std::fs::create_dir(&stage.place).unwrap();
        }
    }
}

fn bring_back(stage: &Stage, is_unmounted: bool) {
    let marker = stage.place.join(".understudy-store");
    match (&stage.share, is_unmounted) {
        (_, false) => std::fs::rename(marker.with_extension("away"), &marker).unwrap(),
        (Some(share), true) => share.bring_back(),
        (None, true) => {
            std::fs::remove_dir(&stage.place).unwrap();
            std::fs::rename(stage.place.with_extension("away"), &stage.place).unwrap();
        }
    }
}

pub(super) async fn a_bucket_that_is_away_is_told_and_passes(stage: &mut Stage) {
    const UP: &str = "understudy_files_store_up";
    stage.s3.kill();
    let (status, problem) = put_short(stage, IN_BUCKET, "lost").await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("file_store_unavailable")));
    is_told_to_who_reads(stage, IN_BUCKET).await;
    let node = &stage.cluster.nodes[IN_BUCKET];
    wait::until("the node has noticed", LIMIT, async || node.metric(UP).await < 0.5).await;
    assert!(readiness(stage, IN_BUCKET).await.0, "no node has the bucket, and all have the rest");
    nothing_half_is_seen(stage, "lost").await;
    assert_eq!(put_short(stage, IN_DATABASE, "elsewhere").await.0, 200);
    stage.s3.restart().await;
    let node = &stage.cluster.nodes[IN_BUCKET];
    wait::until("the node has noticed", LIMIT, async || node.metric(UP).await > 0.5).await;
    assert_eq!(put_short(stage, IN_BUCKET, "found").await.0, 200);
    assert!(stage.digest(IN_FOLDER, "found").await.is_some());
    let whole = stage.digest(IN_FOLDER, STORES[IN_BUCKET]).await;
    assert!(whole.is_some(), "what was there before can be read");
}
