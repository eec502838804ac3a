//! Whose turn it is to have all files read.

use super::super::verify::{Taken, Turn, UNREAD, followed};
use super::*;

/// More than may wait to be read.
const FILES: usize = UNREAD + 10;

async fn free(turn: &Turn) -> Taken {
    let taken = async {
        loop {
            if let Some(taken) = turn.take() {
                return taken;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken).await.expect("the turn is given back")
}

#[tokio::test]
async fn f2_whoever_stops_reading_a_verification_keeps_the_turn_from_nobody() {
    let bench = Bench::embedded(FileStoreKind::Database).await;
    let space = bench.space();
    for number in 0..FILES {
        space.put(&format!("{number:02}"), "a/b", bits(b"lost")).await.unwrap();
    }
    // So there is a line for each of them.
    bench.change("DELETE FROM us_file_piece").await;
    let (turn, patience) = (Turn::default(), Duration::from_millis(100));
    let walk = || Walk::begin(&bench.files, Wanted::default()).unwrap();
    let standing = followed(walk(), turn.take().unwrap(), patience);
    assert!(turn.take().is_none(), "it is under way");
    let second = free(&turn).await;
    let mut last = None;
    let mut standing = Box::pin(standing);
    while let Some(line) = standing.next().await {
        assert!(last.is_none(), "nothing comes behind the last line");
        match line {
            Line::Progress { .. } | Line::Found { .. } => {}
            Line::Stopped { code, .. } => last = Some(code),
            Line::Done { .. } => panic!("it was not done"),
        }
    }
    assert_eq!(last, Some("files_verify_unread"), "who comes back is told");
    let mut reading = Box::pin(followed(walk(), second, DAY));
    let mut done = None;
    while let Some(line) = reading.next().await {
        if let Line::Done { files, missing, .. } = line {
            done = Some((files, missing));
        }
    }
    assert_eq!(done, Some((FILES as u64, FILES as u64)));
    let third = free(&turn).await;
    // Who goes away gives it back too.
    drop(followed(walk(), third, DAY));
    drop(free(&turn).await);
}
