//! Who uses a file, what holds for spaces, and contents that files share.

use sea_orm::{DatabaseExecutor, DbErr};
use tokio::sync::Notify;

use super::super::orphans::{Act, Bounds, Orphan, OrphanReport, run_once as collect};
use super::*;
use crate::database::{Backend, DatabaseError};

const ALL: Bounds = Bounds::new(1_000, DAY);
/// The shortest time after which unused files may be removed.
const SOON: Duration = Duration::from_secs(1);

impl Bench {
    /// The databases of a node on its own and of a cluster.
    async fn databases() -> [Self; 2] {
        let [sqlite, postgres, _folder] = Self::all().await;
        [sqlite, postgres]
    }

    /// Two seconds go by.
    async fn age(&self) {
        self.change("UPDATE us_file SET touched_ms = touched_ms - 2000").await;
        self.change("UPDATE us_file_rule SET since_ms = since_ms - 2000").await;
    }

    async fn collect(&self, act: Act) -> OrphanReport {
        self.age().await;
        collect(&self.store, act, ALL, &DutyRun::default()).await.unwrap()
    }

    /// The first look.
    async fn orphans(&self) -> Vec<Orphan> {
        self.age().await;
        let place = (String::new(), String::new());
        self.store.rows.orphans((&place, None), 100).await.unwrap().orphans
    }

    async fn orphan(&self, name: &str) -> Orphan {
        let found = self.orphans().await.into_iter().find(|orphan| orphan.name == name);
        found.expect("it is one at the first look")
    }

    async fn remove(&self, orphan: Orphan, run: &DutyRun) -> Result<bool, DatabaseError> {
        self.store.rows.remove_orphan(orphan, run).await
    }
}

fn order() -> Owner {
    Owner::new("order", "4812").unwrap()
}

fn unused(time: Duration) -> SpaceRule {
    SpaceRule { unused: Unused::RemovedAfter(time), ..SpaceRule::default() }
}

fn sharing() -> SpaceRule {
    SpaceRule { sharing: Sharing::Shared, ..SpaceRule::default() }
}

async fn put(space: &Space, name: &str) {
    space.put(name, "a/b", bits(&bytes(100, 7))).await.unwrap();
}

async fn names(space: &Space) -> Vec<String> {
    space.list("", 100).await.unwrap().into_iter().map(|file| file.name).collect()
}

#[tokio::test]
async fn f6_files_that_nobody_uses_are_removed_and_no_others() {
    for bench in Bench::databases().await {
        what_is_removed(&bench).await;
        a_file_that_is_used_between_the_looks_stays(&bench).await;
        what_is_not_committed_does_not_count(&bench).await;
        a_run_removes_so_many_and_a_fenced_one_none(&bench).await;
        runs_go_on_where_the_one_before_ended(&bench).await;
    }
}

async fn what_is_removed(bench: &Bench) {
    let (used, free) = (bench.files.space("used"), bench.files.space("free"));
    for name in ["kept", "orphan", "released"] {
        put(&used, name).await;
    }
    put(&free, "old").await;
    for name in ["kept", "kept", "released"] {
        assert!(used.keep(name, &order()).await.unwrap());
    }
    assert!(!used.keep("nosuch", &order()).await.unwrap());
    assert_eq!(used.owners("kept").await.unwrap(), [order()]);
    assert_eq!(bench.collect(Act::Remove).await, OrphanReport::default(), "no space wants it");
    bench.files.set_rule("used", unused(DAY)).await.unwrap();
    bench.files.set_rule("*", unused(DAY)).await.unwrap();
    bench.files.set_rule("us*", unused(SOON)).await.unwrap();
    bench.files.set_rule("free", SpaceRule::default()).await.unwrap();
    let report = bench.collect(Act::Remove).await;
    assert_eq!((report.looked, report.orphans, report.more), (4, 0, false), "all are younger");
    bench.files.set_rule("used", unused(SOON)).await.unwrap();
    let report = bench.collect(Act::Count).await;
    assert_eq!((report.orphans, report.bytes, report.removed), (1, 100, 0), "it only counts");
    assert_eq!(names(&used).await, ["kept", "orphan", "released"]);
    assert_eq!(bench.collect(Act::Remove).await.removed, 1);
    assert_eq!(names(&used).await, ["kept", "released"]);
    // A file that takes the place of another is used as that was.
    put(&used, "kept").await;
    assert!(used.release("released", &order()).await.unwrap());
    assert!(!used.release("released", &order()).await.unwrap());
    assert_eq!(bench.collect(Act::Remove).await.removed, 1);
    assert_eq!(names(&used).await, ["kept"]);
    assert_eq!(bench.files.release_all(&order()).await.unwrap(), 1);
    assert_eq!(bench.collect(Act::Remove).await.removed, 1);
    let left = bench.files.spaces("", 9).await.unwrap();
    let left: Vec<_> = left.iter().map(|space| (space.name.as_str(), space.files)).collect();
    assert_eq!(left, [("free", 1)], "orphans are left, or a file of another space was removed");
    // Who deletes a file need not say that nobody uses it any more.
    put(&used, "deleted").await;
    assert!(used.keep("deleted", &order()).await.unwrap());
    assert!(used.delete("deleted").await.unwrap());
    assert_eq!(bench.count("SELECT count(*) FROM us_file_reference").await, 0);
}

async fn a_file_that_is_used_between_the_looks_stays(bench: &Bench) {
    let used = bench.files.space("used");
    put(&used, "late").await;
    let seen = bench.orphan("late").await;
    assert!(used.keep("late", &order()).await.unwrap());
    assert!(!bench.remove(seen, &DutyRun::default()).await.unwrap());
    put(&used, "replaced").await;
    let seen = bench.orphan("replaced").await;
    put(&used, "replaced").await;
    assert!(!bench.remove(seen, &DutyRun::default()).await.unwrap(), "it is another file by now");
    if bench.database.backend() == Backend::Postgres {
        put(&used, "open").await;
        a_reference_that_is_not_committed_is_waited_for(bench).await;
        assert_eq!(names(&used).await, ["late", "open", "replaced"]);
    } else {
        assert_eq!(names(&used).await, ["late", "replaced"]);
    }
    assert!(bench.files.release_all(&order()).await.unwrap() >= 1);
    bench.collect(Act::Remove).await;
    assert_eq!(names(&used).await, Vec::<String>::new());
}

/// The second look comes while the transaction that makes the reference is open, and waits for it.
async fn a_reference_that_is_not_committed_is_waited_for(bench: &Bench) {
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let seen = bench.orphan("open").await;
    let (made, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (database, used) = (bench.database.clone(), bench.files.space("used"));
    let (tell, wait) = (Arc::clone(&made), Arc::clone(&go));
    let keeping = tokio::spawn(async move {
        let kept = database.transaction(move |executor| {
            let (used, tell, wait) = (used.clone(), Arc::clone(&tell), Arc::clone(&wait));
            Box::pin(async move {
                let kept = used.keep_in(executor, "open", &order()).await?;
                tell.notify_one();
                wait.notified().await;
                Ok(kept)
            })
        });
        kept.await
    });
    made.notified().await;
    let store = Arc::clone(&bench.store);
    let removing =
        tokio::spawn(async move { store.rows.remove_orphan(seen, &DutyRun::default()).await });
    let waits = async {
        while bench.count(WAITING).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waits).await.expect("the second look waits");
    go.notify_one();
    assert!(keeping.await.unwrap().unwrap());
    assert!(!removing.await.unwrap().unwrap(), "a file with a reference was removed");
}

async fn what_is_not_committed_does_not_count(bench: &Bench) {
    let used = bench.files.space("used");
    put(&used, "name").await;
    let keeping = used.clone();
    let failed: Result<(), DatabaseError> = bench
        .database
        .transaction(move |executor| {
            let used = keeping.clone();
            Box::pin(async move {
                assert!(used.keep_in(executor, "name", &order()).await?);
                Err::<(), DbErr>(DbErr::Custom("the order could not be made".to_owned()))
            })
        })
        .await;
    assert!(failed.is_err());
    assert!(used.owners("name").await.unwrap().is_empty());
    let outside = DatabaseExecutor::Connection(bench.database.connection());
    assert!(used.keep_in(&outside, "name", &order()).await.is_err(), "it is no transaction");
    assert!(bench.files.release_all_in(&outside, &order()).await.is_err());
    // Made with its owner, and gone with it.
    let (keeping, files) = (used.clone(), bench.files.clone());
    let released = bench.database.transaction(move |executor| {
        let (used, files) = (keeping.clone(), files.clone());
        Box::pin(async move {
            used.keep_in(executor, "name", &order()).await?;
            used.release_in(executor, "name", &order()).await?;
            used.keep_in(executor, "name", &order()).await?;
            files.release_all_in(executor, &order()).await
        })
    });
    assert_eq!(released.await.unwrap(), 1);
    for (kind, key, field) in [("", "1", "owner.kind"), ("order", "a/b", "owner.key")] {
        let refused = Owner::new(kind, key);
        assert!(matches!(refused, Err(FileError::BadName { field: told }) if told == field));
    }
    bench.collect(Act::Remove).await;
}

async fn a_run_removes_so_many_and_a_fenced_one_none(bench: &Bench) {
    let used = bench.files.space("used");
    for name in ["a", "b", "c"] {
        put(&used, name).await;
    }
    let fenced = DutyRun::default().guarded(|_executor| {
        Box::pin(async { Err(DbErr::Custom("another node leads".to_owned())) })
    });
    bench.age().await;
    assert!(collect(&bench.store, Act::Remove, ALL, &fenced).await.is_err());
    assert_eq!(names(&used).await, ["a", "b", "c"]);
    let two = Bounds { most: 2, ..ALL };
    let report = collect(&bench.store, Act::Remove, two, &DutyRun::default()).await.unwrap();
    assert_eq!((report.removed, report.more), (2, true));
    let report = bench.collect(Act::Remove).await;
    assert_eq!((report.removed, report.more), (1, false));
}

/// However little time a run has, the files behind those that it could look at have their turn.
async fn runs_go_on_where_the_one_before_ended(bench: &Bench) {
    let used = bench.files.space("used");
    for name in ["a", "b", "c", "d", "e"] {
        put(&used, name).await;
        assert!(used.keep(name, &order()).await.unwrap());
    }
    assert!(used.release("e", &order()).await.unwrap());
    bench.age().await;
    let short = Bounds { within: Duration::ZERO, page: 2, ..ALL };
    let run = async |act: Act| {
        let report = collect(&bench.store, act, short, &DutyRun::default()).await.unwrap();
        (report.looked, report.removed, report.more)
    };
    // One is in another space, before these.
    assert_eq!(run(Act::Remove).await, (2, 0, true));
    assert_eq!(run(Act::Count).await, (2, 0, true), "who only counts goes on there too");
    assert_eq!(run(Act::Remove).await, (2, 0, true));
    assert_eq!(run(Act::Remove).await, (2, 1, true), "the last one is reached");
    assert_eq!(names(&used).await, ["a", "b", "c", "d"]);
    // Behind the last one, and round to the first ones.
    assert!(used.release("a", &order()).await.unwrap());
    bench.age().await;
    let report = collect(&bench.store, Act::Remove, ALL, &DutyRun::default()).await.unwrap();
    assert_eq!((report.removed, report.more), (1, false));
    assert_eq!(bench.files.release_all(&order()).await.unwrap(), 3);
    assert_eq!(bench.collect(Act::Remove).await.removed, 3);
}

#[tokio::test]
async fn f6_files_that_cannot_be_removed_keep_none_of_the_others() {
    let bench = Bench::embedded(FileStoreKind::Database).await;
    let used = bench.files.space("used");
    bench.files.set_rule("used", unused(SOON)).await.unwrap();
    for name in ["a", "bad1", "bad2", "bad3", "c"] {
        put(&used, name).await;
    }
    // A change may be made more than once.
    let refuse = |trigger: &str, which: &str| {
        format!(
            "CREATE TRIGGER IF NOT EXISTS {trigger} BEFORE UPDATE OF state ON us_file \
             WHEN OLD.name LIKE '{which}' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    };
    bench.change(&refuse("refuse_bad", "bad%")).await;
    bench.age().await;
    let run = async || collect(&bench.store, Act::Remove, ALL, &DutyRun::default()).await;
    assert!(run().await.is_err(), "three in a row are not for the files");
    assert_eq!(names(&used).await, ["bad1", "bad2", "bad3", "c"]);
    assert!(run().await.is_err());
    assert_eq!(names(&used).await, ["bad1", "bad2", "bad3"], "it began behind those that failed");
    bench.change("DROP TRIGGER IF EXISTS refuse_bad").await;
    bench.change(&refuse("refuse_one", "bad1")).await;
    let report = run().await.unwrap();
    assert_eq!((report.removed, report.failed, report.more), (2, 1, false), "{report:?}");
    assert_eq!(names(&used).await, ["bad1"]);
}

#[tokio::test]
async fn f7_rules_limit_spaces_and_let_them_share_contents() {
    for bench in Bench::all().await {
        rules_hold_for_many_at_once(&bench).await;
        equal_contents_are_kept_once(&bench).await;
        whoever_comes_and_goes_at_once_finds_what_was_written(&bench).await;
        what_is_damaged_is_shared_no_more(&bench).await;
    }
}

async fn rules_hold_for_many_at_once(bench: &Bench) {
    let limits = SpaceRule { max_bytes: Some(1_000), ..SpaceRule::default() };
    bench.files.set_rule("user-*", limits).await.unwrap();
    let few = SpaceRule { max_files: Some(2), ..SpaceRule::default() };
    bench.files.set_rule("user-few", few).await.unwrap();
    let told: Vec<_> =
        bench.files.rules().await.unwrap().into_iter().map(|named| named.space).collect();
    assert_eq!(told.len(), 2);
    for (space, fits) in [("user-ann", 3), ("user-few", 2)] {
        let space = bench.files.space(space);
        let puts = (0..6).map(|number| {
            let (space, name) = (space.clone(), format!("n{number}"));
            async move { space.put(&name, "a/b", bits(&bytes(300, 4))).await }
        });
        let (written, refused): (Vec<_>, Vec<_>) =
            join_all(puts).await.into_iter().partition(Result::is_ok);
        assert_eq!(written.len(), fits);
        for refused in refused {
            assert!(
                matches!(
                    refused,
                    Err(FileError::SpaceFull { most: 1_000 } | FileError::TooManyFiles { most: 2 })
                ),
                "{refused:?}"
            );
        }
        for name in names(&space).await {
            assert!(space.delete(&name).await.unwrap());
        }
    }
    assert!(bench.files.forget_rule("user-*").await.unwrap());
    assert!(bench.files.forget_rule("user-few").await.unwrap());
    assert!(!bench.files.forget_rule("user-few").await.unwrap());
    // Those that were refused may still be on their way out.
    bench.sweep(Duration::ZERO, Duration::ZERO).await;
    bench.sweep(Duration::ZERO, Duration::ZERO).await;
    assert_eq!(bench.contents().await, 0);
}

/// Content of two pieces in the database.
const TWO_PIECES: usize = 300_000;

async fn equal_contents_are_kept_once(bench: &Bench) {
    let spaces = ["a", "b", "private"].map(|name| bench.files.space(name));
    for name in ["a", "b"] {
        bench.files.set_rule(name, sharing()).await.unwrap();
    }
    let content = bytes(TWO_PIECES, 9);
    let mut versions = Vec::new();
    for space in &spaces {
        versions.push(space.put("name", "a/b", bits(&content)).await.unwrap().version);
    }
    versions.dedup();
    assert_eq!(versions.len(), 3, "each is a file of its own");
    assert_eq!(bench.sweep(DAY, Duration::ZERO).await.removed, 1, "what was written twice");
    assert_eq!(bench.contents().await, 2);
    assert_eq!(bench.count("SELECT uses FROM us_file_content").await, 2);
    for space in &spaces {
        assert!(there(space, "name").await == content);
    }
    assert!(spaces[0].delete("name").await.unwrap());
    assert_eq!(bench.sweep(DAY, DAY).await.removed, 0);
    assert_eq!(bench.count("SELECT uses FROM us_file_content").await, 2, "it may be read still");
    assert_eq!(bench.sweep(DAY, Duration::ZERO).await.removed, 0);
    assert!(there(&spaces[1], "name").await == content, "a content in use was removed");
    assert!(spaces[1].delete("name").await.unwrap());
    assert_eq!(bench.sweep(DAY, Duration::ZERO).await.removed, 1);
    assert_eq!(bench.count("SELECT count(*) FROM us_file_content").await, 0);
    assert_eq!((bench.contents().await, bench.count("SELECT count(*) FROM us_file").await), (1, 1));
    assert!(spaces[2].delete("name").await.unwrap());
    bench.sweep(DAY, Duration::ZERO).await;
}

/// Files with one content come and go while everything is swept that may be.
async fn whoever_comes_and_goes_at_once_finds_what_was_written(bench: &Bench) {
    const EACH: usize = 5;
    let (space, content) = (bench.files.space("a"), bytes(1_000, 10));
    let work = (0..6).map(|number| {
        let (space, content) = (space.clone(), content.clone());
        async move {
            let name = format!("n{number}");
            for _ in 0..EACH {
                space.put(&name, "a/b", bits(&content)).await.unwrap();
                bench.sweep(DAY, Duration::ZERO).await;
                if number % 2 == 0 {
                    assert!(space.delete(&name).await.unwrap());
                }
                bench.sweep(DAY, Duration::ZERO).await;
            }
        }
    });
    join_all(work).await;
    bench.sweep(DAY, Duration::ZERO).await;
    assert_eq!(names(&space).await, ["n1", "n3", "n5"]);
    for name in names(&space).await {
        assert!(there(&space, &name).await == content, "a content in use was removed");
    }
    assert_eq!(bench.count("SELECT uses FROM us_file_content").await, 3);
    assert_eq!(bench.contents().await, 1, "contents that nobody uses are left");
}

async fn what_is_damaged_is_shared_no_more(bench: &Bench) {
    if bench.root.is_some() {
        return;
    }
    let (space, content) = (bench.files.space("a"), bytes(1_000, 10));
    bench.change("DELETE FROM us_file_piece").await;
    let damaged = space.get("n1").await.unwrap().unwrap().verify().await;
    assert!(matches!(damaged, Err(FileError::Damaged)), "{damaged:?}");
    space.put("n1", "a/b", bits(&content)).await.unwrap();
    assert!(there(&space, "n1").await == content);
}
