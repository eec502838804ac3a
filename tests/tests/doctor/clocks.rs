//! A node whose clock is wrong.
// The library that lies to a node about the time is put before it by the loader of Linux.
#![cfg(target_os = "linux")]

use std::path::Path;

use understudy_tests::Cluster;
use understudy_tests::servers::Scratch;

use super::ground::{Stage, found, gone};

#[tokio::test(flavor = "multi_thread")]
async fn h7_a_wrong_clock_is_told_against_redis_and_the_database() {
    let folder = Scratch::new("clock");
    let file = folder.join("offset");
    let set = |seconds: i64| {
        let draft = folder.join("draft");
        std::fs::write(&draft, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(draft, &file).unwrap();
    };
    set(0);
    let builder = Cluster::builder()
        .nodes(2)
        .node_env(1, "LD_PRELOAD", &library().display().to_string())
        .node_env(1, "FAKETIME_TIMESTAMP_FILE", &file.display().to_string())
        .node_env(1, "FAKETIME_NO_CACHE", "1")
        .node_env(1, "FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .node_env(1, "NO_FAKE_STAT", "1");
    let stage = Stage::with(builder).await;
    for code in ["redis_clock", "database_clock"] {
        found(stage.node(1), code, "ok").await;
    }
    set(7);
    for code in ["redis_clock", "database_clock"] {
        let check = found(stage.node(1), code, "warning").await;
        assert!(check["text"].as_str().unwrap().contains("ahead"), "{check}");
        found(stage.node(0), code, "ok").await;
    }
    // Every look at the server must agree before all are told.
    let server = |name: &str| format!("the clock of node-b is about 7 s ahead of that of {name}");
    for name in ["Redis", "the database"] {
        let part = server(name);
        understudy_tests::wait::until("it is told", super::ground::LIMIT, async || {
            super::ground::problem(stage.node(0), "clock_skew", &part).await.is_some()
        })
        .await;
    }
    set(0);
    gone(stage.node(0), "clock_skew").await;
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
