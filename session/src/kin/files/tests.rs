//! Files on SQLite and on PostgreSQL: whole or not there, within their limits, and sealed when there are keys.

use futures_util::future::join_all;
use tokio::time::Instant;
use understudy_runtime::config::{DatabaseUrl, EncryptionWrites, FilesConfig, MigrateMode};
use understudy_runtime::database::Database;
use understudy_runtime::database::test_postgres::{TestPostgres, test_config};

use super::*;
use crate::kin::{Ending, MAX_CHILDREN, Noted};
use crate::sealing::SealRing;
use crate::sealing::tests::{ring, sealing};
use crate::store::database::migrations;

const LIMITS: FilesConfig = FilesConfig { file_bytes: 400_000, session_bytes: 600_000 };

struct Bench {
    database: Database,
    _server: Option<TestPostgres>,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn open(
        url: DatabaseUrl,
        server: Option<TestPostgres>,
        folder: tempfile::TempDir,
    ) -> Self {
        let database = Database::connect(&test_config(url)).await.unwrap();
        database.migrate(MigrateMode::Auto, &migrations(), &|_| {}).await.unwrap();
        Self { database, _server: server, _folder: folder }
    }

    async fn both() -> [Self; 2] {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("kin.sqlite3"));
        let sqlite = Self::open(url, None, folder).await;
        let server = TestPostgres::start();
        let url = server.config().url;
        let postgres = Self::open(url, Some(server), tempfile::tempdir().unwrap()).await;
        [sqlite, postgres]
    }

    fn kin(&self, ring: SealRing) -> Kin {
        Kin::new(self.database.clone(), ring, LIMITS)
    }
}

fn plain() -> SealRing {
    ring(EncryptionWrites::Plain, &[], "shop")
}

fn folder(number: u8, scope: &str) -> Folder {
    Folder { session: Locator::from_bytes([number; 16]), scope: scope.to_owned() }
}

/// Writes a file in two pieces under the id, and gives it its name.
async fn written(kin: &Kin, folder: &Folder, id: &str, name: &str, pieces: [&[u8]; 2]) {
    assert_eq!(kin.begin_file(folder, id, name, "text/plain").await.unwrap(), Begun::In);
    for (number, piece) in (0..).zip(pieces) {
        let added = kin.add_chunk(folder.session, id, number, piece).await.unwrap();
        assert_eq!(added, Added::In);
    }
    assert!(kin.publish_file(folder, id, name).await.unwrap());
}

/// Bytes and files as the row of the session counts them.
async fn counted(kin: &Kin, folder: &Folder) -> Option<(u64, u64)> {
    let rows = kin.rows(kin.lock(folder.session)).await.unwrap();
    let row = rows.first()?;
    Some((number(row, "bytes").unwrap(), number(row, "files").unwrap()))
}

#[tokio::test]
async fn s16_a_file_is_there_when_all_of_it_is_and_takes_the_place_of_the_one_before() {
    for bench in Bench::both().await {
        let (kin, home) = (bench.kin(plain()), folder(1, ""));
        assert_eq!(kin.begin_file(&home, "one", "n", "a/b").await.unwrap(), Begun::In);
        kin.add_chunk(home.session, "one", 0, b"first").await.unwrap();
        assert_eq!(kin.find_file(&home, "n").await.unwrap(), None, "not all of it is there");
        let gap = kin.add_chunk(home.session, "one", 2, b"x").await.unwrap();
        assert_eq!(gap, Added::Gone, "pieces come one after the other");
        assert!(kin.publish_file(&home, "one", "n").await.unwrap());
        let file = kin.find_file(&home, "n").await.unwrap().unwrap();
        assert_eq!((file.bytes, file.chunks, file.kind.as_str()), (5, 1, "a/b"));
        written(&kin, &home, "two", "n", [b"second ", b"file"]).await;
        assert_eq!(kin.list_files(&home).await.unwrap().len(), 1);
        assert_eq!(kin.read_chunk(home.session, "one", 0).await.unwrap(), None);
        let piece = kin.read_chunk(home.session, "two", 1).await.unwrap();
        assert_eq!(piece.as_deref(), Some(b"file".as_slice()));
        assert_eq!(counted(&kin, &home).await, Some((11, 1)));
        // Of the same session under another user.
        let other = folder(1, "other");
        assert_eq!(kin.find_file(&other, "n").await.unwrap(), None);
        written(&kin, &other, "three", "n", [b"a", b"b"]).await;
        assert_eq!(kin.find_file(&home, "n").await.unwrap().unwrap().id, "two");
        assert!(!kin.drop_upload(home.session, "two").await.unwrap(), "it has its name");
        assert!(kin.drop_file(home.session, "two").await.unwrap());
        assert!(!kin.drop_file(home.session, "two").await.unwrap());
        assert_eq!(counted(&kin, &home).await, Some((2, 1)));
    }
}

#[tokio::test]
async fn s16_what_hangs_on_a_session_goes_with_it_and_nothing_is_written_afterwards() {
    for bench in Bench::both().await {
        let (kin, home) = (bench.kin(plain()), folder(2, ""));
        written(&kin, &home, "done", "n", [b"a", b"b"]).await;
        kin.begin_file(&home, "under way", "m", "a/b").await.unwrap();
        kin.add_chunk(home.session, "under way", 0, b"c").await.unwrap();
        let children: Vec<Locator> = (0..3).map(|n| Locator::from_bytes([100 + n; 16])).collect();
        for child in &children {
            assert_eq!(kin.note_child(home.session, *child).await.unwrap(), Noted::In);
        }
        // One child was noted after the others were ended: its note stays, and so does the row by which it is found.
        assert_eq!(kin.remove(home.session, &children[..2]).await.unwrap(), 2);
        assert_eq!(counted(&kin, &home).await, Some((0, 0)));
        assert_eq!(kin.read_chunk(home.session, "done", 0).await.unwrap(), None);
        let late = kin.add_chunk(home.session, "under way", 1, b"d").await.unwrap();
        assert_eq!(late, Added::Gone);
        assert!(!kin.publish_file(&home, "under way", "m").await.unwrap());
        assert_eq!(kin.remove(home.session, &children[2..]).await.unwrap(), 0);
        assert_eq!(counted(&kin, &home).await, None);
    }
}

#[tokio::test]
async fn s16_an_end_that_is_handled_late_leaves_the_note_of_the_child_that_began_after_it() {
    for bench in Bench::both().await {
        let (kin, parent) = (bench.kin(plain()), folder(6, "").session);
        let child = Locator::from_bytes([60; 16]);
        let forget = async |at: Instant| {
            kin.forget_ended(&[Ending { session: child, at }], &[child]).await.unwrap();
            let notes = "SELECT child AS locator FROM us_session_child";
            kin.locators(kin.statement(notes, Vec::new())).await.unwrap()
        };
        let ended = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        assert_eq!(kin.note_child(parent, child).await.unwrap(), Noted::In);
        assert_eq!(forget(ended).await, [child], "it was noted after that end");
        assert!(forget(Instant::now()).await.is_empty());
    }
}

#[tokio::test]
async fn s16_no_number_of_uploads_and_children_at_once_goes_beyond_the_limits() {
    for bench in Bench::both().await {
        let (kin, home) = (bench.kin(plain()), folder(3, ""));
        let piece = vec![7_u8; 50_000];
        let uploads = (0..20).map(|number: u32| {
            let (id, kin, home, piece) = (format!("file {number}"), &kin, &home, &piece);
            async move {
                assert_eq!(kin.begin_file(home, &id, &id, "a/b").await.unwrap(), Begun::In);
                match kin.add_chunk(home.session, &id, 0, piece).await.unwrap() {
                    Added::In => true,
                    Added::Full => false,
                    Added::Gone => panic!("nobody removes it"),
                }
            }
        });
        let written = join_all(uploads).await.into_iter().filter(|written| *written).count();
        assert_eq!((written, counted(&kin, &home).await), (12, Some((600_000, 20))));
        let parent = folder(4, "").session;
        let notes = (0..40).map(|n| kin.note_child(parent, Locator::from_bytes([n; 16])));
        let noted = join_all(notes.collect::<Vec<_>>()).await;
        let noted = noted.into_iter().filter(|noted| matches!(noted, Ok(Noted::In))).count();
        assert_eq!(noted, MAX_CHILDREN as usize);
        assert_eq!(kin.drop_stale_uploads(Duration::from_secs(60)).await.unwrap(), 0);
        assert_eq!(kin.drop_stale_uploads(Duration::ZERO).await.unwrap(), 20);
        assert_eq!(counted(&kin, &home).await, Some((0, 0)));
    }
}

#[tokio::test]
async fn x6_files_are_sealed_piece_by_piece_when_there_are_keys() {
    for bench in Bench::both().await {
        let (kin, home) = (bench.kin(sealing(&["a"])), folder(5, ""));
        written(&kin, &home, "id", "n", [b"canary", b"canary"]).await;
        let stored = "SELECT data FROM us_session_file_chunk ORDER BY number";
        let rows = kin.rows(kin.statement(stored, Vec::new())).await.unwrap();
        let stored: Vec<Vec<u8>> = rows.iter().map(|row| get(row, "data").unwrap()).collect();
        assert_eq!(stored.len(), 2);
        for data in &stored {
            assert!(!data.windows(6).any(|window| window == b"canary"), "it is legible");
        }
        let piece = kin.read_chunk(home.session, "id", 1).await.unwrap();
        assert_eq!(piece.as_deref(), Some(b"canary".as_slice()));
        let stranger = bench.kin(plain()).read_chunk(home.session, "id", 1).await;
        assert!(matches!(stranger, Err(StoreError::Unreadable(_))), "{stranger:?}");
        let swap = "UPDATE us_session_file_chunk SET number = 1 - number + 10";
        kin.change(kin.statement(swap, Vec::new())).await.unwrap();
        let moved = kin.read_chunk(home.session, "id", 10).await;
        assert!(matches!(moved, Err(StoreError::Unreadable(_))), "{moved:?}");
        // What was written without keys is read with them.
        written(&bench.kin(plain()), &home, "plain", "p", [b"x", b"y"]).await;
        assert_eq!(kin.read_chunk(home.session, "plain", 0).await.unwrap().unwrap(), b"x");
    }
}
