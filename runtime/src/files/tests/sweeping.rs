//! What a sweep does when a store is away, and how duties find what they look for.

use super::super::rows::due;
use super::super::sweep::{Patience, Start, run_within};
use super::super::verdicts::{Verdicts, missing};
use super::*;

/// A node that has a bucket too, at a server that takes connections and says nothing.
fn with_a_bucket_that_is_silent(bench: &Bench, silent: &std::net::TcpListener) -> Store {
    let mut stores = bench.store.stores.clone();
    stores.s3 = Some(bucket::open(&bucket::config(silent.local_addr().unwrap())));
    let serving = Serving { signer: Signer::for_test(), judge: None };
    let keys = FileKeys::default();
    Store { rows: bench.store.rows.clone(), stores, keys, limits: LIMITS, serving }
}

#[tokio::test]
async fn f8_a_store_that_does_not_answer_costs_a_sweep_one_try_and_the_rest_is_removed() {
    const AWAY: u64 = 30;
    let bench = Bench::embedded(FileStoreKind::Database).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (space, store) = (bench.space(), with_a_bucket_that_is_silent(&bench, &silent));
    let gone = async |name: String| {
        space.put(&name, "a/b", bits(b"gone")).await.unwrap();
        assert!(space.delete(&name).await.unwrap());
    };
    for number in 0..AWAY {
        gone(format!("far{number}")).await;
    }
    bench.change("UPDATE us_file SET place = 's3', touched_ms = touched_ms - 1000").await;
    // It is one store, however contents lie there.
    bench.change("UPDATE us_file SET place = 's3-encrypted' WHERE name LIKE '%5'").await;
    for number in 0..2 {
        gone(format!("near{number}")).await;
    }
    let sweep = async |patience: Patience| {
        let (ages, how) = ((DAY, Duration::ZERO), (patience, Start(0)));
        run_within(&store, ages, how, &DutyRun::default()).await.unwrap()
    };
    let one = Duration::from_millis(200);
    let late = sweep(Patience { one, all: Duration::ZERO }).await;
    assert_eq!((late.removed, late.failed, late.left), (0, 0, AWAY + 2), "there was no time");
    let report = sweep(Patience { one, all: DAY }).await;
    assert_eq!((report.removed, report.failed, report.left), (2, 1, AWAY), "{report:?}");
}

#[tokio::test]
async fn f8_a_content_that_cannot_be_removed_keeps_none_of_the_others() {
    let bench = Bench::embedded(FileStoreKind::Folder).await;
    let (space, root) = (bench.space(), bench.root.clone().unwrap());
    let mut versions = Vec::new();
    for name in ["a", "b", "c"] {
        versions.push(space.put(name, "a/b", bits(b"gone")).await.unwrap().version);
        assert!(space.delete(name).await.unwrap());
    }
    // What cannot be removed, as of a disk with a bad place.
    let path = root.join("data").join(&versions[0][..2]).join(&versions[0]);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let report = bench.sweep(DAY, Duration::ZERO).await;
    assert_eq!((report.removed, report.failed, report.left), (2, 1, 1), "{report:?}");
}

#[tokio::test]
async fn f8_contents_that_can_never_be_removed_keep_none_behind_them_for_good() {
    let bench = Bench::embedded(FileStoreKind::Folder).await;
    let (space, root) = (bench.space(), bench.root.clone().unwrap());
    let version = space.put("behind", "a/b", bits(b"gone")).await.unwrap().version;
    assert!(space.delete("behind").await.unwrap());
    // As many as make a sweep leave a store alone, all of them older, and none can be removed: their shelf is none.
    let shelf = if version.starts_with("00") { "01" } else { "00" };
    std::fs::write(root.join("data").join(shelf), "").unwrap();
    let older = format!(
        "WITH RECURSIVE numbers(number) AS \
         (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 100) \
         INSERT INTO us_file (id, space, name, kind, bytes, piece, sha256, place, state, \
         created_ms, touched_ms) \
         SELECT '{shelf}' || printf('%030d', number), space, name, kind, bytes, piece, sha256, \
         place, 'gone', created_ms, number FROM us_file, numbers WHERE id = '{version}'"
    );
    bench.change(&older).await;
    let sweep = async |start: u64| {
        let patience = Patience { one: Duration::from_secs(15), all: DAY };
        let (ages, how) = ((DAY, Duration::ZERO), (patience, Start(start)));
        let report = run_within(&bench.store, ages, how, &DutyRun::default()).await.unwrap();
        (report.removed, report.failed, report.left)
    };
    assert_eq!(sweep(0).await, (0, 100, 101), "it gives up before it comes to the one behind");
    assert_eq!(sweep(u64::MAX / 2).await, (1, 100, 100), "it goes round from where it began");
}

#[tokio::test]
async fn f8_a_sweep_that_had_no_time_counts_files_that_shared_a_content_too() {
    let bench = Bench::embedded(FileStoreKind::Database).await;
    let shared = SpaceRule { sharing: Sharing::Shared, ..SpaceRule::default() };
    bench.files.set_rule("space", shared).await.unwrap();
    bench.space().put("name", "a/b", bits(b"gone")).await.unwrap();
    assert!(bench.space().delete("name").await.unwrap());
    let sweep = async |all: Duration| {
        let patience = Patience { one: Duration::from_secs(15), all };
        let (ages, how) = ((DAY, Duration::ZERO), (patience, Start(u64::MAX)));
        let report = run_within(&bench.store, ages, how, &DutyRun::default()).await.unwrap();
        (report.removed, report.left)
    };
    assert_eq!(sweep(Duration::ZERO).await, (0, 1));
    assert_eq!(sweep(DAY).await, (1, 0));
}

#[tokio::test]
async fn what_the_duties_look_for_is_found_by_an_index() {
    let bench = Bench::embedded(FileStoreKind::Database).await;
    let plan = bench.plan(&due(bench.database.backend(), 1)).await;
    assert!(plan.contains("USING INDEX us_file_unready"), "{plan}");
    let plan = bench.plan(&missing(bench.database.backend())).await;
    assert!(plan.contains("USING INDEX us_file_unjudged"), "{plan}");
    // What was judged is not in it any more.
    let version = bench.space().put("name", "a/b", bits(b"clean")).await.unwrap().version;
    let unjudged = "SELECT count(*) FROM us_file WHERE state = 'ready' AND judged = 0";
    assert_eq!(bench.count(unjudged).await, 1);
    Verdicts::new(bench.database.clone()).note(&version, &Verdict::Clean.into()).await.unwrap();
    assert_eq!(bench.count(unjudged).await, 0);
}
