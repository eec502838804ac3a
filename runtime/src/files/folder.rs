//! Contents in a folder that all nodes share, such as one of NFS.
//!
//! What is dangerous about such a folder is that it may not be mounted: then each node would write to its own disk, and see
//! nothing of the others. So the folder has a [marker], a file with a number that stands in the database too, and `staging` and
//! `data` are made together with the marker and never afterwards. In a folder that is not mounted there is neither: nothing
//! can be written there even in the moment before a probe has seen it.
//!
//! Content is written in `staging`, brought to the disk, and moved to `data` when all of it is there.

mod marker;
mod rights;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::rights::Rights;
use super::contents::{ContentError, Contents, Piece, Writing};
use super::held::Held;
use crate::config::FolderMark;
use crate::database::Database;

/// How many bytes are written and read at once.
const PIECE: usize = 1 << 20;
/// After how many bytes they are brought to the disk: what waits for that at the end must take no longer than [`LIMIT`].
const SYNC_EVERY: u64 = 32 << 20;
/// How long one call of the system may take. A server of NFS that does not answer keeps it for ever, and its thread.
const LIMIT: Duration = Duration::from_secs(10);
/// How many threads calls of the system may keep.
const AT_ONCE: usize = 32;
/// The file that says that this is the folder.
const MARKER: &str = ".understudy-store";
const STAGING: &str = "staging";
const DATA: &str = "data";

/// The store.
#[derive(Debug, Clone)]
pub(super) struct FolderContents {
    home: Arc<Home>,
    threads: Arc<Semaphore>,
    held: Option<Held>,
}

#[derive(Debug)]
struct Home {
    root: PathBuf,
    /// What the marker says.
    identity: String,
    /// Who may read what is made here; as it was when the node started.
    rights: Rights,
}

impl FolderContents {
    /// Opens the folder; the first node of a cluster that does makes it the folder of the cluster, if it may.
    pub(super) async fn open(
        root: &Path,
        mark_it: FolderMark,
        database: &Database,
    ) -> Result<Self, ContentError> {
        let threads = Arc::new(Semaphore::new(AT_ONCE));
        let identity = marker::identity(root, mark_it, database, &threads).await?;
        let root = root.to_owned();
        let home = blocking(&threads, move || Home::open(root, identity)).await?;
        Ok(Self { home: Arc::new(home), threads, held: None })
    }

    /// Bounds what uploads hold in memory.
    pub(super) fn holding(self, held: &Held) -> Self {
        Self { held: Some(held.clone()), ..self }
    }
}

impl Home {
    fn open(root: PathBuf, identity: String) -> io::Result<Self> {
        let mut home = Self { root, identity, rights: Rights::Owner };
        home.check()?;
        home.rights = Rights::of(&home.root, &[STAGING, DATA])?;
        for name in [STAGING, DATA] {
            let path = home.root.join(name);
            match home.rights.narrow(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "others on this machine may read files: their rights could not be taken away");
                }
            }
        }
        Ok(home)
    }

    fn staged(&self, id: &str) -> PathBuf {
        self.root.join(STAGING).join(id)
    }

    /// Of all contents in one folder, systems would become slow.
    fn shelf(&self, id: &str) -> PathBuf {
        self.root.join(DATA).join(id.get(..2).unwrap_or("00"))
    }

    fn kept(&self, id: &str) -> PathBuf {
        self.shelf(id).join(id)
    }

    fn check(&self) -> io::Result<()> {
        let found = fs::read_to_string(self.root.join(MARKER)).map_err(|error| {
            let text = format!(
                "the folder {} is not mounted, or not ours: {MARKER}: {error}",
                self.root.display()
            );
            io::Error::other(text)
        })?;
        if found.trim() == self.identity {
            return Ok(());
        }
        let text = format!("the folder {} belongs to another cluster", self.root.display());
        Err(io::Error::other(text))
    }

    fn stage(&self, id: &str) -> io::Result<File> {
        self.check()?;
        self.rights.make_file(&self.staged(id))
    }

    fn keep(&self, id: &str, file: &File) -> io::Result<()> {
        file.sync_all()?;
        let shelf = self.shelf(id);
        match self.rights.make_folder(&shelf, &self.root.join(STAGING)) {
            Ok(()) => File::open(self.root.join(DATA))?.sync_all()?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        fs::rename(self.staged(id), self.kept(id))?;
        File::open(&shelf)?.sync_all()
    }

    fn read(&self, id: &str, piece: Piece) -> io::Result<Vec<u8>> {
        let read = || -> io::Result<Vec<u8>> {
            let file = File::open(self.kept(id))?;
            let mut bytes = vec![0; piece.bytes];
            file.read_exact_at(&mut bytes, piece.offset)?;
            Ok(bytes)
        };
        let read = read();
        if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.check()?; // when all of the folder is missing, that says nothing about the file
        }
        read
    }

    /// First where it is written: one that is just being moved is then found where it goes, or cannot be moved any more.
    fn remove(&self, id: &str) -> io::Result<()> {
        self.check()?;
        for path in [self.staged(id), self.kept(id)] {
            match fs::remove_file(path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Does work that blocks, on a thread for that, and waits for it so long and no longer.
async fn blocking<T: Send + 'static>(
    threads: &Arc<Semaphore>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ContentError> {
    let late = || ContentError::Away(format!("it did not answer within {} s", LIMIT.as_secs()));
    let threads = Arc::clone(threads);
    let done = timeout(LIMIT, async move {
        let turn = threads.acquire_owned().await;
        let work = move || {
            let done = work();
            drop(turn); // not before: a call that hangs keeps its thread
            done
        };
        tokio::task::spawn_blocking(work).await
    });
    let done = done.await.map_err(|_| late())?;
    let done = done.map_err(|error| ContentError::Away(error.to_string()))?;
    done.map_err(|error| told(&error))
}

fn told(error: &io::Error) -> ContentError {
    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) {
        return ContentError::Gone;
    }
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        return ContentError::NoRoom;
    }
    ContentError::Away(error.to_string())
}

#[async_trait]
impl Contents for FolderContents {
    fn piece(&self) -> usize {
        PIECE
    }

    async fn begin(&self, id: &str) -> Result<Box<dyn Writing>, ContentError> {
        let (home, of) = (Arc::clone(&self.home), id.to_owned());
        let file = blocking(&self.threads, move || home.stage(&of)).await.map_err(missing)?;
        Ok(Box::new(FolderWriting {
            home: Arc::clone(&self.home),
            threads: Arc::clone(&self.threads),
            id: id.to_owned(),
            file: Arc::new(Open(Some(file))),
            offset: 0,
        }))
    }

    fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    async fn read(&self, id: &str, piece: Piece) -> Result<Bytes, ContentError> {
        let (home, id) = (Arc::clone(&self.home), id.to_owned());
        blocking(&self.threads, move || home.read(&id, piece)).await.map(Bytes::from)
    }

    async fn remove(&self, id: &str) -> Result<(), ContentError> {
        let (home, id) = (Arc::clone(&self.home), id.to_owned());
        blocking(&self.threads, move || home.remove(&id)).await
    }

    async fn probe(&self) -> Result<(), ContentError> {
        let home = Arc::clone(&self.home);
        blocking(&self.threads, move || home.check()).await
    }
}

/// Nothing can be missing where something new is written, but for the folder itself.
fn missing(error: ContentError) -> ContentError {
    match error {
        ContentError::Gone => ContentError::Away("the folder is not as it was made".to_owned()),
        other @ (ContentError::NoRoom | ContentError::Away(_) | ContentError::Database(_)) => other,
    }
}

/// A file that is closed on a thread for calls of the system: of NFS that brings to the server what is not there yet, and waits for
/// it, also where the file was broken off.
struct Open(Option<File>);

impl Open {
    /// It is there until this is dropped.
    fn file(&self) -> io::Result<&File> {
        self.0.as_ref().ok_or_else(|| io::Error::other("it is closed"))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(file) = self.0.take() else { return };
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn_blocking(move || drop(file)));
        }
    }
}

/// A file that is being written.
struct FolderWriting {
    home: Arc<Home>,
    threads: Arc<Semaphore>,
    id: String,
    file: Arc<Open>,
    offset: u64,
}

#[async_trait]
impl Writing for FolderWriting {
    async fn add(&mut self, bytes: Bytes) -> Result<(), ContentError> {
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        self.offset += bytes.len() as u64;
        let is_much = offset / SYNC_EVERY != self.offset / SYNC_EVERY;
        let write = move || -> io::Result<()> {
            let file = file.file()?;
            file.write_all_at(&bytes, offset)?;
            if is_much { file.sync_data() } else { Ok(()) }
        };
        blocking(&self.threads, write).await
    }

    async fn finish(&mut self) -> Result<(), ContentError> {
        let (home, id, file) = (Arc::clone(&self.home), self.id.clone(), Arc::clone(&self.file));
        let keep = move || -> io::Result<()> { home.keep(&id, file.file()?) };
        // Where it was given up, and removed, that is found out by who asked for it.
        blocking(&self.threads, keep).await.map_err(missing)
    }
}
