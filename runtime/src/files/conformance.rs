//! What files must be in every store: run it against each that a node may use.
//!
//! The suite writes, reads, replaces and removes files through [`Files`], as an application does, lets the sweep run when it
//! wants to, and counts what lies in the store then. It needs no node. A [`Fixture`] says which files, and how to count.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{Stream, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::contents::{ContentError, Contents, Piece};
use super::encryption::Encryption;
use super::memory::MemoryContents;
use super::rows::Behind;
use super::sweep::{SweepReport, run_once};
use super::upload::{Upload, hex};
use super::{FileError, FileInfo, Files, PutOptions, PutWhen, Space, Store, StoredFile};
use super::{schema, service};
use crate::config::{FileStoreConfig, FileStoreKind, MigrateMode};
use crate::database::Database;
use crate::duty::DutyRun;
use crate::service::ServiceError;

/// Longer than a run of the suite.
const DAY: Duration = Duration::from_secs(86_400);
/// What a file may have beyond two pieces.
const MORE: u64 = 7;
/// How many bytes come at once: no piece is a multiple of it.
const BIT: usize = 70_001;
/// How many write at once under one condition.
const RIVALS: usize = 8;

/// Files to be examined. Nobody else may use them meanwhile.
pub trait Fixture: Send + Sync + fmt::Debug {
    /// Gives the files.
    fn examined(&self) -> &Examined;

    /// Counts the contents that lie in the store, whole or in part.
    fn contents(&self) -> BoxFuture<'_, usize>;
}

/// Files without a node, in which a file has two pieces of its store and a little more at most.
#[derive(Debug)]
pub struct Examined {
    files: Files,
    store: Arc<Store>,
    memory: Option<MemoryContents>,
}

impl Examined {
    /// Opens files as a node with these options does, and makes their tables.
    ///
    /// # Errors
    /// When the database or the store is away, or an option is wrong.
    pub async fn open(config: &FileStoreConfig, database: &Database) -> Result<Self, ServiceError> {
        prepare(database).await?;
        Ok(Self::of(service::open_on(config, database).await?, None))
    }

    /// Opens files whose contents are in memory.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn in_memory(
        config: &FileStoreConfig,
        database: &Database,
    ) -> Result<Self, ServiceError> {
        prepare(database).await?;
        let (mut store, memory) =
            (service::open_on(config, database).await?, MemoryContents::default());
        store.stores.kind = FileStoreKind::Database;
        store.stores.database = Arc::new(memory.clone());
        Ok(Self::of(store, Some(memory)))
    }

    fn of(mut store: Store, memory: Option<MemoryContents>) -> Self {
        let piece = store.stores.chosen().map_or(1, |contents| contents.piece() as u64);
        store.limits.file_bytes = 2 * piece + MORE;
        store.limits.space_bytes = 3 * store.limits.file_bytes;
        let store = Arc::new(store);
        let files = Files(Arc::new(OnceLock::from(Arc::clone(&store))));
        Self { files, store, memory }
    }

    /// Gives the files.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Counts the contents in memory, if that is the store.
    #[must_use]
    pub fn in_memory_now(&self) -> Option<usize> {
        self.memory.as_ref().map(MemoryContents::count)
    }

    fn contents(&self) -> &Arc<dyn Contents> {
        self.store.stores.chosen().expect("a node without its store does not start")
    }

    fn piece(&self) -> usize {
        self.contents().piece()
    }

    fn most(&self) -> usize {
        usize::try_from(self.store.limits.file_bytes).expect("a few pieces are not many bytes")
    }

    async fn sweep(&self, silence: Duration, grace: Duration) -> SweepReport {
        let swept = run_once(&self.store, (silence, grace), &DutyRun::default()).await;
        swept.expect("the database is there")
    }

    /// Begins to write a file, as somebody does who then stands still.
    async fn begun(&self, name: &str, content: &[u8]) -> Upload {
        let (space, kind) = ("broken".to_owned(), "a/b".to_owned());
        let begun =
            Upload::begin(&self.store, space, name.to_owned(), kind, Encryption::ByOption).await;
        let mut upload = begun.expect("the store is there");
        upload.fill(bits(content)).await.expect("the store is there");
        upload
    }
}

async fn prepare(database: &Database) -> Result<(), ServiceError> {
    let migrated = database.migrate(MigrateMode::Auto, &schema::migrations(), &|_| {}).await;
    migrated.map(|_| ()).map_err(|error| ServiceError::Failed {
        message: "the tables of files cannot be made".to_owned(),
        source: Some(Box::new(error)),
    })
}

/// Runs the suite; panics with what is wrong.
pub async fn run(fixture: &dyn Fixture) {
    let examined = fixture.examined();
    Box::pin(of_any_length(examined)).await;
    Box::pin(in_parts(examined)).await;
    Box::pin(old_or_new(fixture)).await;
    Box::pin(broken_off(fixture)).await;
    Box::pin(under_conditions(examined)).await;
    Box::pin(as_announced(examined)).await;
    Box::pin(no_larger_than_allowed(examined)).await;
    Box::pin(nobody_knows(examined)).await;
    Box::pin(nothing_is_left(fixture)).await;
}

/// Content in bits of a size that no piece is a multiple of.
fn bits(content: &[u8]) -> impl Stream<Item = Result<Bytes, String>> + use<> {
    let bits: Vec<Result<Bytes, String>> =
        content.chunks(BIT).map(|bit| Ok(Bytes::copy_from_slice(bit))).collect();
    stream::iter(bits)
}

/// Bytes of which no two pieces are the same.
fn bytes(length: usize, seed: u8) -> Vec<u8> {
    let byte = |number: usize| (number / 251 + number) as u8 ^ seed;
    (0..length).map(byte).collect()
}

async fn put(space: &Space, name: &str, content: &[u8]) -> Result<FileInfo, FileError> {
    space.put(name, "a/b", bits(content)).await
}

async fn read(file: StoredFile) -> Result<Vec<u8>, FileError> {
    collect(file.stream()).await
}

async fn collect(
    pieces: impl Stream<Item = Result<Bytes, FileError>>,
) -> Result<Vec<u8>, FileError> {
    let mut pieces = std::pin::pin!(pieces);
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

async fn found(space: &Space, name: &str) -> StoredFile {
    let found = space.get(name).await.expect("the database is there");
    found.unwrap_or_else(|| panic!("{name} is there"))
}

async fn there(space: &Space, name: &str) -> Vec<u8> {
    read(found(space, name).await).await.unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn digest(content: &[u8]) -> String {
    hex(Sha256::digest(content).as_slice())
}

/// What was written is read, whatever its length is to the pieces of the store.
async fn of_any_length(examined: &Examined) {
    let (space, piece) = (examined.files().space("lengths"), examined.piece());
    for length in [0, 1, piece - 1, piece, piece + 1, examined.most()] {
        let content = bytes(length, 1);
        let info = put(&space, "name", &content).await.expect("it is stored");
        assert_eq!((info.bytes, info.sha256), (length as u64, digest(&content)), "of {length}");
        assert!(there(&space, "name").await == content, "of {length} bytes others came back");
    }
}

/// A part is what is there in the whole, within a piece and over several; what is behind the end is left out.
async fn in_parts(examined: &Examined) {
    let (space, piece) = (examined.files().space("lengths"), examined.piece());
    let (whole, most) = (bytes(examined.most(), 1), examined.most());
    let parts = [
        (0, 1),
        (1, piece - 1),
        (piece - 1, piece + 1),
        (piece, 2 * piece),
        (piece / 2, most),
        (most - 1, most),
        (most, most),
    ];
    for (from, to) in parts {
        let part = found(&space, "name").await.part(from as u64..to as u64);
        let part = collect(part).await.expect("it is there");
        assert!(part == whole[from..to], "the part from {from} to {to}");
    }
    let behind = found(&space, "name").await.part(most as u64 - 3..u64::MAX);
    assert!(collect(behind).await.expect("it is there") == whole[most - 3..]);
}

/// Who asks finds the old one or the new one; who reads the old one reads on, until it is removed.
async fn old_or_new(fixture: &dyn Fixture) {
    let examined = fixture.examined();
    let space = examined.files().space("replaced");
    examined.sweep(DAY, Duration::ZERO).await;
    let (old, new) = (bytes(examined.most(), 2), bytes(10, 3));
    let first = put(&space, "name", &old).await.expect("it is stored");
    let mut reading = Box::pin(found(&space, "name").await.stream());
    let begun = reading.next().await.expect("there are pieces").expect("it is there");
    let late = found(&space, "name").await;
    let second = put(&space, "name", &new).await.expect("it is stored");
    assert_ne!(first.version, second.version);
    assert!(there(&space, "name").await == new);
    assert_eq!(examined.sweep(DAY, DAY).await, SweepReport::default());
    let mut seen = begun.to_vec();
    while let Some(piece) = reading.next().await {
        seen.extend_from_slice(&piece.expect("it stays for who reads it"));
    }
    assert!(seen == old, "who reads the old one reads on");
    let before = fixture.contents().await;
    let report = examined.sweep(DAY, Duration::ZERO).await;
    assert_eq!((report.removed, report.given_up, report.failed), (1, 0, 0));
    assert_eq!(before - fixture.contents().await, 1, "contents that were removed");
    let late = read(late).await;
    assert!(matches!(late, Err(FileError::Gone)), "{late:?}");
    assert!(there(&space, "name").await == new, "a sweep takes no living file");
}

/// What broke off, or was given up, is seen by nobody, gets no name later, and leaves nothing.
async fn broken_off(fixture: &dyn Fixture) {
    let examined = fixture.examined();
    let (space, content) = (examined.files().space("broken"), bytes(examined.most(), 4));
    examined.sweep(DAY, Duration::ZERO).await;
    let before = fixture.contents().await;
    put(&space, "name", b"kept").await.expect("it is stored");
    let cut = bits(&content).chain(stream::iter([Err("cut".to_owned())]));
    let cut = space.put("name", "a/b", cut).await;
    assert!(matches!(cut, Err(FileError::BrokeOff)), "{cut:?}");
    let (silent, living) =
        (examined.begun("silent", &content).await, examined.begun("living", &content).await);
    assert_eq!(examined.sweep(DAY, Duration::ZERO).await.given_up, 0, "it may still be written");
    living.publish(PutOptions::default()).await.expect("it is written");
    examined.sweep(Duration::ZERO, DAY).await;
    let late = silent.publish(PutOptions::default()).await;
    assert!(matches!(late, Err(FileError::Gone)), "{late:?}");
    let ghost = examined.begun("ghost", &content).await;
    examined.sweep(Duration::ZERO, Duration::ZERO).await;
    let late = ghost.publish(PutOptions::default()).await;
    assert!(matches!(late, Err(FileError::Gone)), "{late:?}");
    // The one of which nobody knew any more removes what it wrote by itself, a moment later.
    let mut left = 0;
    for _ in 0..500 {
        examined.sweep(Duration::ZERO, Duration::ZERO).await;
        left = fixture.contents().await;
        if left == before + 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(left, before + 2, "contents beside the two that are there");
    assert!(there(&space, "name").await == b"kept");
    assert!(there(&space, "living").await == content);
    let names = space.list("", 9).await.expect("the database is there");
    let names: Vec<String> = names.into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["living", "name"]);
}

/// Of many who write under one condition one succeeds.
async fn under_conditions(examined: &Examined) {
    let space = examined.files().space("conditions");
    let rivals = async |when: PutWhen| {
        let puts = (0..RIVALS).map(|number| {
            let (space, content) = (space.clone(), bytes(1_000, number as u8));
            let options = PutOptions { when: when.clone(), sha256: None };
            async move { space.put_with(options, ("name", "a/b"), bits(&content)).await }
        });
        let (won, lost): (Vec<_>, Vec<_>) =
            join_all(puts).await.into_iter().partition(Result::is_ok);
        assert!(lost.iter().all(|lost| matches!(lost, Err(FileError::Changed))), "{lost:?}");
        assert_eq!(won.len(), 1, "of {RIVALS}");
        won.into_iter().flatten().next().map(|info: FileInfo| info.version).unwrap_or_default()
    };
    let first = rivals(PutWhen::Absent).await;
    let second = rivals(PutWhen::Version(first.clone())).await;
    let other = space.delete_if("name", &first).await;
    assert!(matches!(other, Err(FileError::Changed)), "{other:?}");
    assert!(space.delete_if("name", &second).await.expect("the database is there"));
    assert!(!space.delete("name").await.expect("the database is there"));
    assert!(space.get("name").await.expect("the database is there").is_none());
}

/// What is not what was announced gets no name.
async fn as_announced(examined: &Examined) {
    let (space, content) = (examined.files().space("announced"), bytes(1_000, 5));
    let announced = async |sha256: String| {
        let options = PutOptions { when: PutWhen::Always, sha256: Some(sha256) };
        space.put_with(options, ("name", "a/b"), bits(&content)).await
    };
    let other = announced(digest(b"other")).await;
    assert!(matches!(other, Err(FileError::OtherDigest)), "{other:?}");
    let none = announced("abc".to_owned()).await;
    assert!(matches!(none, Err(FileError::BadDigest)), "{none:?}");
    assert!(space.get("name").await.expect("the database is there").is_none());
    announced(digest(&content).to_uppercase()).await.expect("it is what was announced");
    found(&space, "name").await.verify().await.expect("it is what was written");
}

/// Too much is refused, in one file and in all of a space, and leaves what was there.
async fn no_larger_than_allowed(examined: &Examined) {
    let (space, most) = (examined.files().space("full"), examined.most());
    let content = bytes(most + 1, 6);
    put(&space, "0", &content[..most]).await.expect("it may be so large");
    let larger = put(&space, "0", &content).await;
    assert!(matches!(larger, Err(FileError::TooLarge { .. })), "{larger:?}");
    assert!(there(&space, "0").await == content[..most]);
    for name in ["1", "2"] {
        put(&space, name, &content[..most]).await.expect("there is room for three");
    }
    let full = put(&space, "3", b"one more").await;
    assert!(matches!(full, Err(FileError::SpaceFull { .. })), "{full:?}");
    put(&space, "2", b"less").await.expect("it takes the place of a larger one");
    put(&space, "3", b"one more").await.expect("there is room again");
}

/// Of what is not there nothing is read, and it can be removed, twice too.
async fn nobody_knows(examined: &Examined) {
    let (contents, id) = (examined.contents(), "0".repeat(32));
    let read = contents.read(&id, Piece { number: 0, offset: 0, bytes: 1 }).await;
    assert!(matches!(read, Err(ContentError::Gone)), "{read:?}");
    let space = examined.files().space("known");
    let known = put(&space, "name", &bytes(10, 7)).await.expect("it is stored").version;
    let longer = contents.read(&known, Piece { number: 0, offset: 0, bytes: 100 }).await;
    assert!(matches!(longer, Err(ContentError::Gone)), "{longer:?}");
    for _ in 0..2 {
        contents.remove(&id).await.expect("nothing may be there");
        contents.remove(&known).await.expect("the store is there");
    }
    let lost = found(&space, "name").await.verify().await;
    assert!(matches!(lost, Err(FileError::Damaged)), "{lost:?}");
    contents.probe().await.expect("the store is there");
}

/// When all files were removed nothing is left.
async fn nothing_is_left(fixture: &dyn Fixture) {
    let examined = fixture.examined();
    for space in examined.files().spaces("", 100).await.expect("the database is there") {
        let space = examined.files().space(&space.name);
        for file in space.list("", 100).await.expect("the database is there") {
            assert!(space.delete(&file.name).await.expect("the database is there"));
        }
    }
    examined.sweep(Duration::ZERO, Duration::ZERO).await;
    assert_eq!(fixture.contents().await, 0, "contents of files that were removed");
    let spaces = examined.files().spaces("", 100).await.expect("the database is there");
    assert!(spaces.is_empty(), "{spaces:?}");
    let places = examined.store.stores.places();
    let all = (&Behind::default(), &Behind::all());
    let left = examined.store.rows.leftovers(Duration::ZERO, &places, all, 9);
    assert!(left.await.expect("the database is there").is_empty());
}
