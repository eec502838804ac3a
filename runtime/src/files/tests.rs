//! Files in each store: whole or not there, within their limits, and never mistaken for one another.

mod answers;
mod bucket;
mod encryption;
mod folders;
mod holding;
mod near;
mod once;
mod owners;
mod sweeping;
mod verify;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::test::TestRequest;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use sea_orm::ConnectionTrait as _;

use super::contents::Contents;
use super::database::DatabaseContents;
use super::encryption::Encryption;
use super::folder::FolderContents;
use super::sweep::{SweepReport, run_once};
use super::verify::{Finding, Line, Walk, Wanted};
use super::*;
use crate::config::{DatabaseUrl, FileStoreKind, FolderMark, MigrateMode};
use crate::database::Database;
use crate::database::test_postgres::{TestPostgres, test_config};
use crate::duty::DutyRun;

const LIMITS: Limits = Limits { file_bytes: 3_000_000, space_bytes: 4_000_000 };
const DAY: Duration = Duration::from_secs(86_400);
/// As many bytes as two pieces of a folder, and some.
const LARGE: usize = 2_500_000;

struct Bench {
    files: Files,
    store: Arc<Store>,
    database: Database,
    /// The shared folder, where that is the store.
    root: Option<PathBuf>,
    _server: Option<TestPostgres>,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn open(url: DatabaseUrl, kind: FileStoreKind, folder: tempfile::TempDir) -> Self {
        let database = Database::connect(&test_config(url)).await.unwrap();
        database.migrate(MigrateMode::Auto, &schema::migrations(), &|_| {}).await.unwrap();
        let root = (kind == FileStoreKind::Folder).then(|| folder.path().join("shared"));
        let shared: Option<Arc<dyn Contents>> = match &root {
            Some(root) => {
                std::fs::create_dir(root).unwrap();
                Some(Arc::new(
                    FolderContents::open(root, FolderMark::ByTheFirstNode, &database)
                        .await
                        .unwrap(),
                ))
            }
            None => None,
        };
        let contents: Arc<dyn Contents> = Arc::new(DatabaseContents::new(database.clone()));
        let stores = Stores { kind, database: contents, folder: shared, s3: None };
        let rows = Rows::new(database.clone());
        let serving = Serving { signer: Signer::for_test(), judge: None };
        let store =
            Arc::new(Store { rows, stores, keys: FileKeys::default(), limits: LIMITS, serving });
        let files = Files::default();
        files.0.set(Arc::clone(&store)).unwrap();
        Self { files, store, database, root, _server: None, _folder: folder }
    }

    async fn embedded(kind: FileStoreKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("files.sqlite3"));
        Self::open(url, kind, folder).await
    }

    /// The database of an embedded node, that of a cluster, and a shared folder.
    async fn all() -> [Self; 3] {
        let server = TestPostgres::start();
        let url = server.config().url;
        let mut postgres =
            Self::open(url, FileStoreKind::Database, tempfile::tempdir().unwrap()).await;
        postgres._server = Some(server);
        let sqlite = Self::embedded(FileStoreKind::Database).await;
        [sqlite, postgres, Self::embedded(FileStoreKind::Folder).await]
    }

    fn space(&self) -> Space {
        self.files.space("space")
    }

    async fn count(&self, sql: &'static str) -> i64 {
        let query = self.database.backend().statement(sql, []);
        let row = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move { executor.query_one_raw(query).await })
        });
        row.await.unwrap().unwrap().try_get_by(0).unwrap()
    }

    /// How the database of an embedded node carries a query out.
    async fn plan(&self, sql: &str) -> String {
        let numbered = (1..9).map(|number| format!("${number}"));
        let sql = numbered.fold(sql.to_owned(), |sql, mark| sql.replace(&mark, "1"));
        let query = self.database.backend().statement(&format!("EXPLAIN QUERY PLAN {sql}"), []);
        let rows = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move { executor.query_all_raw(query).await })
        });
        let detail = |row: &sea_orm::QueryResult| row.try_get::<String>("", "detail").unwrap();
        rows.await.unwrap().iter().map(detail).collect::<Vec<String>>().join("; ")
    }

    async fn change(&self, sql: &str) {
        let statement = self.database.backend().statement(sql, []);
        let changed = self.database.step(move |executor| {
            let statement = statement.clone();
            Box::pin(async move { executor.execute_raw(statement).await.map(|_| ()) })
        });
        changed.await.unwrap();
    }

    /// How many contents lie in the store, whole or in part.
    async fn contents(&self) -> usize {
        let Some(root) = &self.root else {
            let sql = "SELECT count(DISTINCT file) FROM us_file_piece";
            return usize::try_from(self.count(sql).await).unwrap();
        };
        let files =
            |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
        let kept = files(root.join("data")).map(|shelf| files(shelf).count()).sum::<usize>();
        kept + files(root.join("staging")).count()
    }

    async fn sweep(&self, silence: Duration, grace: Duration) -> SweepReport {
        run_once(&self.store, (silence, grace), &DutyRun::default()).await.unwrap()
    }
}

/// Content in bits of a size that no piece is a multiple of.
fn bits(content: &[u8]) -> impl Stream<Item = Result<Bytes, String>> + use<> {
    let bits: Vec<_> = content.chunks(70_001).map(|bit| Ok(Bytes::copy_from_slice(bit))).collect();
    stream::iter(bits)
}

/// Bytes of which no two pieces are the same.
fn bytes(length: usize, seed: u8) -> Vec<u8> {
    let byte = |number: usize| (number / 251 + number) as u8 ^ seed;
    (0..length).map(byte).collect()
}

async fn read(file: StoredFile) -> Result<Vec<u8>, FileError> {
    let mut all = Vec::new();
    let mut pieces = std::pin::pin!(file.stream());
    while let Some(piece) = pieces.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

async fn there(space: &Space, name: &str) -> Vec<u8> {
    read(space.get(name).await.unwrap().expect("it is there")).await.unwrap()
}

#[tokio::test]
async fn f1_a_file_is_the_old_one_or_the_new_one_and_who_reads_the_old_one_reads_on() {
    for bench in Bench::all().await {
        let space = bench.space();
        let (old, new) = (bytes(LARGE, 1), bytes(10, 2));
        let first = space.put("name", "image/png", bits(&old)).await.unwrap();
        assert_eq!((first.bytes, first.sha256.len()), (LARGE as u64, DIGITS));
        assert!(there(&space, "name").await == old);
        let part = space.get("name").await.unwrap().unwrap().part(1_000_000..1_100_000);
        let part: Vec<u8> = part.map(|piece| piece.unwrap()).collect::<Vec<_>>().await.concat();
        assert!(part == old[1_000_000..1_100_000]);
        let mut reading = Box::pin(space.get("name").await.unwrap().unwrap().stream());
        let mut seen = reading.next().await.unwrap().unwrap().to_vec();
        let second = space.put("name", "image/png", bits(&new)).await.unwrap();
        assert_ne!(first.version, second.version);
        assert!(there(&space, "name").await == new);
        assert_eq!(bench.sweep(DAY, DAY).await, SweepReport::default());
        while let Some(piece) = reading.next().await {
            seen.extend_from_slice(&piece.unwrap());
        }
        assert!(seen == old, "who reads the old one reads on");
        let late = space.get("name").await.unwrap().unwrap();
        space.put("empty", "text/plain", bits(&[])).await.unwrap();
        assert!(there(&space, "empty").await.is_empty());
        let names: Vec<String> =
            space.list("", 10).await.unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["empty", "name"]);
        assert!(space.delete("name").await.unwrap() && !space.delete("name").await.unwrap());
        let report = bench.sweep(DAY, Duration::ZERO).await;
        assert_eq!((report.removed, report.given_up, report.failed), (2, 0, 0));
        assert!(matches!(read(late).await, Err(FileError::Gone)));
        assert!(there(&space, "empty").await.is_empty(), "a sweep takes no living file");
        assert!(space.delete("empty").await.unwrap());
        bench.sweep(DAY, Duration::ZERO).await;
        assert_eq!((bench.contents().await, bench.files.spaces("", 9).await.unwrap()), (0, vec![]));
        assert_eq!(bench.count("SELECT count(*) FROM us_file_space").await, 0);
    }
}

#[tokio::test]
async fn f1_what_broke_off_or_fell_silent_is_seen_by_nobody_and_leaves_nothing() {
    for bench in Bench::all().await {
        let space = bench.space();
        let content = bytes(LARGE, 3);
        let broken = bits(&content).chain(stream::iter([Err("cut".to_owned())]));
        let refused = space.put("name", "a/b", broken).await;
        assert!(matches!(refused, Err(FileError::BrokeOff)), "{refused:?}");
        // A writer that stood still for too long.
        let begin = async |space: &str, name: &str| {
            let begun = Upload::begin(
                &bench.store,
                space.to_owned(),
                name.to_owned(),
                "a/b".to_owned(),
                Encryption::ByOption,
            )
            .await;
            let mut upload = begun.unwrap();
            upload.fill(bits(&content)).await.unwrap();
            upload
        };
        let (silent, living) = (begin("space", "silent").await, begin("space", "living").await);
        assert!(space.list("", 9).await.unwrap().is_empty());
        assert_eq!(bench.sweep(DAY, Duration::ZERO).await.given_up, 0, "it may still be written");
        living.publish(PutOptions::default()).await.unwrap();
        assert!(bench.sweep(Duration::ZERO, DAY).await.given_up >= 1);
        let late = silent.publish(PutOptions::default()).await;
        assert!(matches!(late, Err(FileError::Gone)), "{late:?}");
        assert!(there(&space, "living").await == content);
        // One that slept for so long that nobody remembers it.
        let ghost = begin("elsewhere", "ghost").await;
        bench.sweep(Duration::ZERO, Duration::ZERO).await;
        let late = ghost.publish(PutOptions::default()).await;
        assert!(matches!(late, Err(FileError::Gone)), "{late:?}");
        // By now the one that broke off has been given up too, by its writer or by the sweep.
        bench.sweep(Duration::ZERO, Duration::ZERO).await;
        assert_eq!(bench.count("SELECT count(*) FROM us_file").await, 1);
        assert_eq!(bench.contents().await, 1);
    }
}

#[tokio::test]
async fn f7_no_file_and_no_space_is_larger_than_it_may_be() {
    for bench in Bench::all().await {
        let space = bench.space();
        let put = async |name: &str, length: usize| {
            space.put(name, "a/b", bits(&bytes(length, 4))).await.map(|file| file.bytes)
        };
        assert!(matches!(put("a", 3_000_001).await, Err(FileError::TooLarge { most: 3_000_000 })));
        assert_eq!(put("a", 3_000_000).await.unwrap(), 3_000_000);
        let full = put("b", 1_000_001).await;
        assert!(matches!(full, Err(FileError::SpaceFull { most: 4_000_000 })), "{full:?}");
        assert_eq!(put("b", 1_000_000).await.unwrap(), 1_000_000);
        assert_eq!(
            put("a", 3_000_000).await.unwrap(),
            3_000_000,
            "one takes the place of the other"
        );
        // Of many at once, none gets in beyond the limit.
        assert_eq!(put("a", 2_500_000).await.unwrap(), 2_500_000);
        let puts = (0..6).map(|number| {
            let (space, name) = (space.clone(), format!("c{number}"));
            async move { space.put(&name, "a/b", bits(&bytes(200_000, 4))).await }
        });
        let written = join_all(puts).await.into_iter().filter(Result::is_ok).count();
        let spaces = bench.files.spaces("", 9).await.unwrap();
        let told: Vec<_> = spaces.iter().map(|space| (space.bytes, space.files)).collect();
        assert_eq!((written, told), (2, vec![(3_900_000, 4)]));
        let other = bench.files.space("other");
        other.put("a", "a/b", bits(&bytes(10, 4))).await.unwrap();
        for bad in ["", "..", "a/b"] {
            let refused = bench.files.space(bad).put("a", "a/b", bits(&[])).await;
            assert!(matches!(refused, Err(FileError::BadName { field: "space" })));
            let refused = space.put(bad, "a/b", bits(&[])).await;
            assert!(matches!(refused, Err(FileError::BadName { field: "name" })));
        }
        Box::pin(of_what_does_not_fit_no_more_is_taken_than_there_is_room_for(&bench)).await;
    }
}

/// Content of so many bits of 10,000 bytes; counts those that were taken.
fn counted(
    bits: usize,
    taken: &Arc<AtomicUsize>,
) -> impl Stream<Item = Result<Bytes, String>> + use<> {
    let taken = Arc::clone(taken);
    stream::iter(0..bits).map(move |_| {
        taken.fetch_add(1, Ordering::SeqCst);
        Ok::<Bytes, String>(Bytes::from(vec![7_u8; 10_000]))
    })
}

async fn of_what_does_not_fit_no_more_is_taken_than_there_is_room_for(bench: &Bench) {
    let (space, taken) = (bench.files.space("tight"), Arc::new(AtomicUsize::new(0)));
    let announced = |bytes: usize| {
        let length = ("content-length", bytes.to_string());
        TestRequest::default().insert_header(length).to_http_request()
    };
    space.put("a", "a/b", bits(&bytes(3_000_000, 4))).await.unwrap();
    let full = space.put("b", "a/b", counted(300, &taken)).await;
    assert!(matches!(full, Err(FileError::SpaceFull { most: 4_000_000 })), "{full:?}");
    assert_eq!(taken.swap(0, Ordering::SeqCst), 101, "there is room for 100");
    let full = space.save(&announced(1_010_000), "b", counted(101, &taken)).await;
    assert!(matches!(full, Err(FileError::SpaceFull { most: 4_000_000 })), "{full:?}");
    assert_eq!(taken.swap(0, Ordering::SeqCst), 0, "it was announced");
    // What it replaces makes room.
    space.save(&announced(3_000_000), "a", counted(300, &taken)).await.unwrap();
    taken.store(0, Ordering::SeqCst);
    // So does what others delete meanwhile.
    let names = ("tight".to_owned(), "b".to_owned());
    let begun =
        Upload::begin(&bench.store, names.0, names.1, "a/b".to_owned(), Encryption::ByOption).await;
    let mut begun = begun.unwrap();
    assert!(space.delete("a").await.unwrap());
    begun.fill(bits(&bytes(3_000_000, 4))).await.unwrap();
    begun.publish(PutOptions::default()).await.unwrap();
    let one = SpaceRule { max_files: Some(1), ..SpaceRule::default() };
    bench.files.set_rule("tight", one).await.unwrap();
    let many = space.put("c", "a/b", counted(100, &taken)).await;
    assert!(matches!(many, Err(FileError::TooManyFiles { most: 1 })), "{many:?}");
    assert_eq!(taken.load(Ordering::SeqCst), 1, "how it begins is looked at first");
}

#[tokio::test]
async fn f1_of_many_who_write_under_one_condition_one_succeeds() {
    for bench in Bench::all().await {
        let space = bench.space();
        let put = |when: PutWhen, seed: u8| {
            let (space, options) = (space.clone(), PutOptions { when, sha256: None });
            async move { space.put_with(options, ("name", "a/b"), bits(&bytes(1_000, seed))).await }
        };
        let first = join_all((0..8).map(|seed| put(PutWhen::Absent, seed))).await;
        let (won, lost): (Vec<_>, Vec<_>) = first.into_iter().partition(Result::is_ok);
        assert!(lost.iter().all(|lost| matches!(lost, Err(FileError::Changed))), "{lost:?}");
        assert_eq!(won.len(), 1);
        let known = won.into_iter().next().unwrap().unwrap().version;
        let next = join_all((0..8).map(|seed| put(PutWhen::Version(known.clone()), seed))).await;
        let won: Vec<_> = next.into_iter().filter_map(Result::ok).collect();
        assert_eq!(won.len(), 1);
        assert!(matches!(space.delete_if("name", &known).await, Err(FileError::Changed)));
        assert!(space.delete_if("name", &won[0].version).await.unwrap());
        assert!(matches!(put(PutWhen::Version(known), 0).await, Err(FileError::Changed)));
    }
}

#[tokio::test]
async fn f1_what_is_not_what_was_written_is_never_given_as_a_whole() {
    for bench in Bench::all().await {
        let (space, content) = (bench.space(), bytes(LARGE, 5));
        let digest = space.put("name", "a/b", bits(&content)).await.unwrap().sha256;
        let announced = async |sha256: &str| {
            let options = PutOptions { sha256: Some(sha256.to_owned()), ..PutOptions::default() };
            space.put_with(options, ("name", "a/b"), bits(&content)).await
        };
        assert!(announced(&digest.to_uppercase()).await.is_ok());
        assert!(matches!(announced(&"0".repeat(64)).await, Err(FileError::OtherDigest)));
        assert!(matches!(announced("abc").await, Err(FileError::BadDigest)));
        space.get("name").await.unwrap().unwrap().verify().await.unwrap();
        // A disk loses a byte, and then all of it.
        let version = space.get("name").await.unwrap().unwrap().info().version.clone();
        let kept =
            bench.root.as_ref().map(|root| root.join("data").join(&version[..2]).join(&version));
        match &kept {
            Some(path) => {
                let mut damaged = content.clone();
                damaged[100] ^= 1;
                std::fs::write(path, damaged).unwrap();
            }
            None => {
                let swap = "UPDATE us_file_piece SET data = (SELECT other.data FROM us_file_piece other \
                    WHERE other.file = us_file_piece.file AND other.number = 1) WHERE number = 0";
                bench.change(swap).await;
            }
        }
        let mut pieces = Box::pin(space.get("name").await.unwrap().unwrap().stream());
        let (mut came, mut last) = (0, None);
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => came += piece.len(),
                Err(error) => last = Some(error),
            }
        }
        assert!(matches!(last, Some(FileError::Damaged)), "{last:?}");
        assert!(came < content.len(), "the last piece is kept back");
        match &kept {
            Some(path) => std::fs::remove_file(path).unwrap(),
            None => bench.change("DELETE FROM us_file_piece").await,
        }
        let missing = space.get("name").await.unwrap().unwrap().verify().await;
        assert!(matches!(missing, Err(FileError::Damaged)), "{missing:?}");
    }
}

#[tokio::test]
async fn f2_a_file_that_cannot_be_read_does_not_hide_those_behind_it() {
    let bench = Bench::embedded(FileStoreKind::Folder).await;
    let (space, root) = (bench.space(), bench.root.clone().unwrap());
    let version = space.put("a", "a/b", bits(b"lost")).await.unwrap().version;
    space.put("b", "a/b", bits(b"kept")).await.unwrap();
    // What cannot be read, as of a disk with a bad place.
    let path = root.join("data").join(&version[..2]).join(&version);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let mut walk = Walk::begin(&bench.files, Wanted::default()).unwrap();
    let (mut found, mut last) = (Vec::new(), None);
    while let Some(line) = walk.next().await {
        match line {
            Line::Found { name, finding, .. } => found.push((name, finding)),
            line @ (Line::Progress { .. } | Line::Stopped { .. } | Line::Done { .. }) => {
                last = Some(line);
            }
        }
    }
    assert_eq!(found, [("a".to_owned(), Finding::Unreadable)]);
    assert!(matches!(last, Some(Line::Done { files: 2, unreadable: 1, .. })), "{last:?}");
}

#[tokio::test]
async fn f8_a_folder_that_is_not_mounted_takes_nothing_and_is_not_taken_for_an_empty_one() {
    let bench = Bench::embedded(FileStoreKind::Folder).await;
    let (space, root) = (bench.space(), bench.root.clone().unwrap());
    let away = root.with_extension("away");
    space.put("name", "a/b", bits(b"kept")).await.unwrap();
    let names = ("space".to_owned(), "begun".to_owned());
    let begun =
        Upload::begin(&bench.store, names.0, names.1, "a/b".to_owned(), Encryption::ByOption).await;
    let mut begun = begun.unwrap();
    begun.fill(bits(b"begun")).await.unwrap();
    std::fs::rename(&root, &away).unwrap();
    std::fs::create_dir(&root).unwrap(); // where it was mounted there is an empty folder
    let shared = bench.store.stores.chosen().unwrap();
    assert!(shared.probe().await.is_err());
    let refused = space.put("new", "a/b", bits(b"lost")).await;
    assert!(matches!(refused, Err(FileError::Unavailable)), "{refused:?}");
    let refused = begun.publish(PutOptions::default()).await;
    assert!(matches!(refused, Err(FileError::Unavailable)), "{refused:?}");
    let unseen = read(space.get("name").await.unwrap().unwrap()).await;
    assert!(matches!(unseen, Err(FileError::Unavailable)), "{unseen:?}");
    assert!(space.delete("name").await.unwrap());
    let report = bench.sweep(DAY, Duration::ZERO).await;
    assert!(report.failed >= 1 && report.removed == 0, "{report:?}");
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0, "nothing was written there");
    let another = FolderContents::open(&root, FolderMark::ByTheFirstNode, &bench.database).await;
    assert!(another.is_err(), "a node that starts now waits, and makes no folder of its own");
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    std::fs::remove_dir(&root).unwrap();
    std::fs::rename(&away, &root).unwrap();
    assert!(shared.probe().await.is_ok());
    space.put("new", "a/b", bits(b"found")).await.unwrap();
    assert!(there(&space, "new").await == b"found");
    FolderContents::open(&root, FolderMark::ByTheFirstNode, &bench.database).await.unwrap();
    std::fs::write(root.join(".understudy-store"), "another").unwrap();
    assert!(shared.probe().await.is_err(), "it belongs to another cluster");
}
