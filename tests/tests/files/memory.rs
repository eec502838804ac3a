//! A large file is in the memory of no node as a whole, while it is written and while it is read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream;
use reqwest::Method;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use understudy_tests::{Client, oracle, rounds};

use super::content::{Content, hex};
use super::stage::{STORES, Stage};

/// By how much the memory of a node may grow.
const GROWTH: u64 = 32 << 20;
const REQUEST: Duration = Duration::from_secs(1_800);

/// Memory of a process now.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1_024
}

pub(super) async fn a_large_file_is_in_memory_nowhere(stage: &Stage) {
    let content = Content { seed: 7, mebibytes: rounds(64, 2_048) as u64 };
    let digest = content.digest();
    for (node, store) in STORES.iter().enumerate() {
        // What a node needs for any file at all.
        stage.put(node, "small", Content { seed: 8, mebibytes: 1 }).await.expect(200);
        stage.digest(node, "small").await.unwrap();
        let (pid, most) = (stage.cluster.nodes[node].pid(), Arc::new(AtomicU64::new(0)));
        let before = resident(pid);
        write(stage.cluster.url(node), pid, content, &most).await;
        let came = read(stage.cluster.url(node), pid, &most).await;
        assert_eq!(came, digest, "{store}");
        let grown = most.load(Ordering::Relaxed).saturating_sub(before);
        let what =
            format!("bytes by which a node grew for a file of {} MiB ({store})", content.mebibytes);
        oracle!(what.as_str(), grown, <= GROWTH);
        let client = Client::new();
        client.delete(stage.cluster.url(node), "/shared?name=large").await.unwrap().expect(200);
    }
    the_large_ones_are_removed(stage).await;
}

async fn write(url: &str, pid: u32, content: Content, most: &Arc<AtomicU64>) {
    let watched = Arc::clone(most);
    let blocks = (0..content.mebibytes).map(move |number| {
        watched.fetch_max(resident(pid), Ordering::Relaxed);
        Ok::<_, io::Error>(content.block(number))
    });
    let client = Client::with_timeout(REQUEST);
    let put = client.build(Method::PUT, url, "/shared?name=large");
    let put = put.body(reqwest::Body::wrap_stream(stream::iter(blocks)));
    let told: Value = client.send(put).await.unwrap().expect(200).json();
    assert_eq!(told["bytes"], content.bytes());
}

async fn read(url: &str, pid: u32, most: &Arc<AtomicU64>) -> String {
    let get = Client::with_timeout(REQUEST).build(Method::GET, url, "/shared?name=large");
    let (mut got, mut hash) = (get.send().await.unwrap(), Sha256::new());
    while let Some(piece) = got.chunk().await.unwrap() {
        hash.update(&piece);
        most.fetch_max(resident(pid), Ordering::Relaxed);
    }
    hex(hash)
}

/// Three large files would fill the shared folder, and take the memory that it lies in.
async fn the_large_ones_are_removed(stage: &Stage) {
    stage.sweep().await;
    stage.nothing_is_left_and_nothing_lost();
}
