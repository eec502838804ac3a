//! What holds for files beside their contents: bounds of a handle, and that nobody is served what was not examined.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use sea_orm::ConnectionTrait as _;

use super::contents::Contents;
use super::database::DatabaseContents;
use super::judging::{Examiner, JudgeReport};
use super::*;
use crate::config::{DatabaseUrl, FileStoreKind, MigrateMode};
use crate::database::Database;
use crate::database::test_postgres::test_config;
use crate::duty::DutyRun;

const LIMITS: Limits = Limits { file_bytes: 1_000, space_bytes: 2_000 };
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

struct Bench {
    database: Database,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("files.sqlite3"));
        let database = Database::connect(&test_config(url)).await.unwrap();
        database.migrate(MigrateMode::Auto, &schema::migrations(), &|_| {}).await.unwrap();
        Self { database, _folder: folder }
    }

    /// How many files are in the index of those that nobody has judged.
    async fn unjudged(&self) -> i64 {
        let sql = "SELECT count(*) FROM us_file WHERE state = 'ready' AND judged = 0";
        let query = self.database.backend().statement(sql, []);
        let row = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move { executor.query_one_raw(query).await })
        });
        row.await.unwrap().unwrap().try_get_by(0).unwrap()
    }

    /// A node on this database.
    fn node(&self, judge: Option<Judge>) -> (Files, Arc<Store>) {
        let contents: Arc<dyn Contents> = Arc::new(DatabaseContents::new(self.database.clone()));
        let kind = FileStoreKind::Database;
        let stores = Stores { kind, database: contents, folder: None, s3: None };
        let serving = Serving { signer: Signer::for_test(), judge };
        let rows = Rows::new(self.database.clone());
        let store =
            Arc::new(Store { rows, stores, keys: FileKeys::default(), limits: LIMITS, serving });
        let files = Files::default();
        files.0.set(Arc::clone(&store)).unwrap();
        (files, store)
    }

    /// One that finds everything infected that begins with an x, can say nothing of what begins with a question mark, and
    /// panics at an exclamation mark.
    fn judge(&self) -> Judge {
        let examiner = Examiner::new(|file: StoredFile| async move {
            let mut pieces = std::pin::pin!(file.stream());
            let first = pieces.next().await.and_then(Result::ok).unwrap_or_default();
            match first.first() {
                Some(b'x') => Ok(Verdict::Infected.because("it begins with an x")),
                Some(b'?') => Err("the scanner is away".to_owned()),
                Some(b'!') => panic!("the scanner does not bear this"),
                Some(_) | None => Ok(Judgement::from(Verdict::Clean)),
            }
        });
        Judge::new(examiner, self.database.clone())
    }
}

fn content(text: &'static [u8]) -> impl Stream<Item = Result<Bytes, String>> {
    stream::iter([Ok(Bytes::from_static(text))])
}

async fn put(space: &Space, name: &str, text: &'static [u8]) -> Result<FileInfo, FileError> {
    space.put(name, "image/png", content(text)).await
}

#[tokio::test]
async fn x5_a_file_is_served_to_nobody_before_it_was_found_clean() {
    let bench = Bench::open().await;
    let judge = bench.judge().in_no_hurry();
    let before = bench.node(None).0.space("space");
    put(&before, "before", b"old").await.unwrap();
    let (files, store) = bench.node(Some(judge.clone()));
    let space = files.space("space");
    let written: [(&str, &'static [u8]); 4] =
        [("good", b"a"), ("bad", b"x"), ("odd", b"?"), ("hard", b"!")];
    for (name, text) in written {
        put(&space, name, text).await.unwrap();
    }
    let found = async |name: &str| space.get(name).await.map(|file| file.is_some());
    for name in ["before", "good", "bad", "odd", "hard"] {
        let refused = found(name).await;
        assert!(matches!(refused, Err(FileError::Quarantined)), "{name}: {refused:?}");
    }
    let run = async || judge.run_once(&store, Duration::ZERO, &DutyRun::default()).await.unwrap();
    assert_eq!(run().await, JudgeReport { clean: 2, infected: 1, failed: 2 });
    assert!(found("good").await.unwrap() && found("before").await.unwrap());
    assert!(matches!(found("bad").await, Err(FileError::Infected)));
    for name in ["odd", "hard"] {
        let refused = found(name).await;
        assert!(matches!(refused, Err(FileError::Quarantined)), "{name}: nothing was said of it");
    }
    assert_eq!(
        run().await,
        JudgeReport { clean: 0, infected: 0, failed: 2 },
        "none is asked twice"
    );
    // Another of the same name is another file.
    put(&space, "good", b"x").await.unwrap();
    assert!(matches!(found("good").await, Err(FileError::Quarantined)));
    assert_eq!(run().await, JudgeReport { clean: 0, infected: 1, failed: 2 });
    assert!(matches!(found("good").await, Err(FileError::Infected)));
    assert!(space.delete("good").await.unwrap(), "what is infected can be removed");
    assert!(!found("good").await.unwrap());
}

#[tokio::test]
async fn x5_what_an_earlier_release_has_judged_is_not_looked_for_for_ever() {
    let bench = Bench::open().await;
    let judge = bench.judge().in_no_hurry();
    let (files, store) = bench.node(Some(judge.clone()));
    let space = files.space("space");
    let written: [(&str, &'static [u8]); 3] = [("good", b"a"), ("bad", b"x"), ("odd", b"?")];
    for (name, text) in written {
        put(&space, name, text).await.unwrap();
    }
    let run = async || judge.run_once(&store, Duration::ZERO, &DutyRun::default()).await.unwrap();
    assert_eq!(run().await, JudgeReport { clean: 1, infected: 1, failed: 1 });
    assert_eq!(bench.unjudged().await, 1);
    // It notes the verdict alone.
    let forget = bench.database.step(|executor| {
        Box::pin(async move { executor.execute_unprepared("UPDATE us_file SET judged = 0").await })
    });
    forget.await.unwrap();
    assert_eq!(bench.unjudged().await, 3);
    assert_eq!(run().await, JudgeReport { clean: 0, infected: 0, failed: 1 });
    assert_eq!(bench.unjudged().await, 1, "of which nothing was said");
}

#[tokio::test]
async fn x5_of_two_verdicts_the_worse_counts_and_what_is_gone_is_forgotten() {
    let bench = Bench::open().await;
    let verdicts = verdicts::Verdicts::new(bench.database.clone());
    for said in [[Verdict::Clean, Verdict::Infected], [Verdict::Infected, Verdict::Clean]] {
        let id = format!("{said:?}");
        assert_eq!(verdicts.of(&id).await.unwrap(), None);
        for verdict in said {
            verdicts.note(&id, &Judgement::from(verdict)).await.unwrap();
        }
        assert_eq!(verdicts.of(&id).await.unwrap(), Some(Verdict::Infected));
        verdicts.forget().await.unwrap();
        assert_eq!(verdicts.of(&id).await.unwrap(), None, "there is no such file");
    }
}

/// What operators are shown of the files of a space: name, state and reason, and whether it has a time.
async fn shown(space: &Space, judge: &Judge) -> Vec<(String, String, String, bool)> {
    let files = space.list("", 9).await.unwrap();
    let shown = judge.shown(&files).await.unwrap();
    let lines = files.iter().zip(&shown).map(|(file, shown)| {
        let told = serde_json::to_value(shown).unwrap();
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        (file.name.clone(), text("state"), text("reason"), told["at_ms"].is_u64())
    });
    lines.collect()
}

fn line(name: &str, state: &str, reason: &str) -> (String, String, String, bool) {
    (name.to_owned(), state.to_owned(), reason.to_owned(), true)
}

#[tokio::test]
async fn x5_operators_are_shown_what_was_said_of_a_file_and_why_nothing_could_be_said() {
    let bench = Bench::open().await;
    let judge = bench.judge().in_no_hurry();
    let (files, store) = bench.node(Some(judge.clone()));
    let space = files.space("space");
    let written: [(&str, &'static [u8]); 4] =
        [("bad", b"x"), ("good", b"a"), ("hard", b"!"), ("odd", b"?")];
    for (name, text) in written {
        put(&space, name, text).await.unwrap();
    }
    let new = |name: &str| (name.to_owned(), "waiting".to_owned(), String::new(), false);
    assert_eq!(shown(&space, &judge).await, ["bad", "good", "hard", "odd"].map(new));
    judge.run_once(&store, Duration::ZERO, &DutyRun::default()).await.unwrap();
    let expected = [
        line("bad", "infected", "it begins with an x"),
        line("good", "clean", ""),
        line("hard", "waiting", "the examiner panicked"),
        line("odd", "waiting", "the scanner is away"),
    ];
    assert_eq!(shown(&space, &judge).await, expected);
    // What can be said at last counts more than why it could not be said before.
    let version = space.find("odd").await.unwrap().unwrap().info().version.clone();
    let verdicts = verdicts::Verdicts::new(bench.database.clone());
    verdicts.note(&version, &Verdict::Infected.because("a virus")).await.unwrap();
    assert_eq!(shown(&space, &judge).await[3], line("odd", "infected", "a virus"));
    verdicts.note(&version, &Judgement::from(Verdict::Clean)).await.unwrap();
    verdicts.forget().await.unwrap();
    assert_eq!(shown(&space, &judge).await[3], line("odd", "infected", "a virus"));
}

#[tokio::test]
async fn x5_a_verification_reads_what_nobody_is_served() {
    let bench = Bench::open().await;
    let judge = bench.judge().in_no_hurry();
    let (files, store) = bench.node(Some(judge.clone()));
    let space = files.space("space");
    let written: [(&str, &'static [u8]); 3] = [("bad", b"x"), ("good", b"a"), ("odd", b"?")];
    for (name, text) in written {
        put(&space, name, text).await.unwrap();
    }
    judge.run_once(&store, Duration::ZERO, &DutyRun::default()).await.unwrap();
    let last = async || {
        let mut walk = verify::Walk::begin(&files, verify::Wanted::default()).unwrap();
        let (mut found, mut last) = (Vec::new(), None);
        while let Some(line) = walk.next().await {
            match line {
                verify::Line::Found { name, finding, .. } => found.push((name, finding)),
                line @ (verify::Line::Progress { .. }
                | verify::Line::Stopped { .. }
                | verify::Line::Done { .. }) => last = Some(line),
            }
        }
        (found, last)
    };
    let (found, done) = last().await;
    assert!(found.is_empty(), "that it is infected is no damage: {found:?}");
    assert!(matches!(done, Some(verify::Line::Done { files: 3, bytes: 3, .. })), "{done:?}");
    let lose = bench.database.step(|executor| {
        Box::pin(async move { executor.execute_unprepared("DELETE FROM us_file_piece").await })
    });
    lose.await.unwrap();
    let (found, done) = last().await;
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["bad", "good", "odd"]);
    assert!(matches!(done, Some(verify::Line::Done { missing: 3, .. })), "{done:?}");
}

#[tokio::test]
async fn x5_whoever_wrote_a_file_has_it_examined_soon() {
    let bench = Bench::open().await;
    let space = bench.node(Some(bench.judge())).0.space("space");
    put(&space, "good", b"a").await.unwrap();
    let served = async {
        while let Err(error) = space.get("good").await {
            assert!(matches!(error, FileError::Quarantined), "{error:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), served).await.expect("it is examined");
}

#[tokio::test]
async fn f7_the_bounds_of_a_handle_hold_beside_those_of_the_node() {
    let bench = Bench::open().await;
    let files = bench.node(None).0;
    let space = files.space("space");
    let small = put(&space.clone().at_most(3), "a", b"1234").await;
    assert!(matches!(small, Err(FileError::TooLarge { most: 3 })), "{small:?}");
    let wide = put(&space.clone().at_most(u64::MAX), "a", &[b'1'; 1_001]).await;
    assert!(matches!(wide, Err(FileError::TooLarge { most: 1_000 })), "{wide:?}");
    let bounded = space.clone().quota(5);
    put(&bounded, "a", b"1234").await.unwrap();
    let full = put(&bounded, "b", b"12").await;
    assert!(matches!(full, Err(FileError::SpaceFull { most: 5 })), "{full:?}");
    put(&bounded, "a", b"12345").await.unwrap();
    put(&space, "b", b"12").await.unwrap();
    let pictures = files.space("pictures").pictures_only();
    let kept = put(&pictures, "a.png", PNG).await.unwrap();
    assert_eq!(kept.content_type, "image/png");
    let wrong: [(&str, &'static [u8]); 3] =
        [("text/html", PNG), ("image/png", b"<html>"), ("image/svg+xml", b"<svg/>")];
    for (kind, text) in wrong {
        let refused = pictures.put("a", kind, content(text)).await;
        assert!(matches!(refused, Err(FileError::WrongKind)), "{kind}: {refused:?}");
    }
    assert_eq!(pictures.list("", 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn x5_a_link_is_not_made_for_longer_than_it_may_be() {
    let space = Bench::open().await.node(None).0.space("space");
    let link = |life: u64| {
        let life = Duration::from_secs(life);
        space.link_to_read("name", ReadLink { life, ..ReadLink::default() })
    };
    assert!(link(1).is_ok() && link(7 * 86_400).is_ok());
    for life in [0, 7 * 86_400 + 1, u64::MAX] {
        let refused = link(life);
        assert!(matches!(refused, Err(FileError::BadLink { field: "life" })), "{refused:?}");
    }
    assert!(matches!(space.link_to_write("..", LINK_LIFE), Err(FileError::BadName { .. })));
}
