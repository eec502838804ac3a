//! What was answered stays, however the process ends; and how fast it is answered.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use understudy_runtime::config::DatabaseUrl;
use understudy_session::record::{Fence, Locator, OpId, Token};
use understudy_session::store::database::DatabaseStore;
use understudy_session::store::{SessionStore as _, Write};

use crate::bench::{HOUR_MS, found, node, open, record, set};

/// Tells a test process, started by a test, which file to write to.
const CHILD_FILE: &str = "UNDERSTUDY_TEST_FILE";

/// What the process does that is going to be killed.
async fn write_until_the_end(file: PathBuf) {
    let (_database, store, _leases) = open(DatabaseUrl::Sqlite(file)).await;
    let token = Token::from_text(&format!("{}|0000000000000001", node("a")));
    let tasks = (0..8_u8).map(|session| {
        let (store, token) = (store.clone(), token.clone());
        tokio::spawn(async move { write_for_ever(&store, session, &token).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

async fn write_for_ever(store: &DatabaseStore, session: u8, token: &Token) {
    let locator = Locator::from_bytes([session; 16]);
    let mut copy = record(token);
    store.create(locator, &copy, HOUR_MS).await.unwrap();
    let fence = Fence { token: token.clone(), epoch: 1 };
    for number in 1.. {
        let (change, after) = set(&copy, "n", &number.to_string());
        let op_id = OpId::random();
        let write = Write {
            locator,
            fence: &fence,
            base_version: number,
            op_id,
            change: &change,
            after: &after,
        };
        store.write(write).await.unwrap();
        copy = after;
        // The parent counts what it was told as answered.
        println!("answered {session} {number}");
    }
}

/// This test runs in two processes: it starts itself once more, and finds in its environment that it is the second.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_kill_9() {
    if let Some(file) = std::env::var_os(CHILD_FILE) {
        return write_until_the_end(file.into()).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.sqlite3");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "survival::what_was_answered_survives_kill_9"])
        .env(CHILD_FILE, &file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut answered = BTreeMap::new();
    let mut lines = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Ok(line) = line else { break };
        let Some(text) = line.split("answered ").nth(1) else {
            continue;
        };
        let Some((session, number)) = text.split_once(' ') else {
            continue;
        };
        let (Ok(session), Ok(number)) = (session.parse::<u8>(), number.parse::<u64>()) else {
            continue;
        };
        answered.insert(session, number);
        lines += 1;
        if lines == 2_000 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert_eq!(answered.len(), 8);
    let (_database, store, _leases) = open(DatabaseUrl::Sqlite(file)).await;
    for (session, number) in answered {
        let stored = found(&store, Locator::from_bytes([session; 16])).await;
        let value: u64 = stored.attributes["n"].parse().unwrap();
        assert!(
            value >= number && stored.version == value + 1,
            "session {session}: {value} < {number}"
        );
    }
}
