//! What was answered stays, however the process ends; and how fast it is answered.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use understudy_runtime::config::DatabaseUrl;
use understudy_session::record::{Fence, Locator, OpId, Token};
use understudy_session::store::database::DatabaseStore;
use understudy_session::store::{SessionStore as _, Write};

use crate::bench::{HOUR_MS, found, node, open, record, set};

/// Tells a test process, started by a test, which file to write to.
const CHILD_FILE: &str = "UNDERSTUDY_TEST_FILE";

#[test]
#[ignore = "started by the next test as a process of its own"]
fn a_child_writes_until_it_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "it is how the parent test tells the child")]
    let Ok(file) = std::env::var(CHILD_FILE) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (_database, store, _leases) = open(DatabaseUrl::Sqlite(file.into())).await;
        let token = Token::from_text(&format!("{}|0000000000000001", node("a")));
        let tasks = (0..8_u8).map(|session| {
            let (store, token) = (store.clone(), token.clone());
            tokio::spawn(async move { write_for_ever(&store, session, &token).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
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

#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.sqlite3");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "survival::a_child_writes_until_it_is_killed",
        ])
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
