//! Writes a file: in pieces, of which [few](super::held) are in memory at a time, and under no name until all of it is there.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use super::contents::{ContentError, Contents, Form, Writing, place_of};
use super::encryption::Encryption;
use super::error::FileError;
use super::held::{ENCRYPTED, FREE, PLAIN};
use super::info::{FileInfo, PutOptions};
use super::points::{self, Point};
use super::rows::{Finished, NewFile, Published, Room, Rows};
use super::segments::{Ending, FileCipher, Slot};
use super::sweep::SILENCE;
use super::{Limits, Store};

/// A file that is being written. Dropped before it has its name, it is given up.
pub(super) struct Upload {
    rows: Rows,
    limits: Limits,
    file: NewFile,
    contents: Arc<dyn Contents>,
    writing: Box<dyn Writing>,
    /// What encrypts it, if it is to be.
    cipher: Option<FileCipher>,
    /// How many pieces were written.
    pieces: u64,
    hash: Sha256,
    bytes: u64,
    /// What room the space had when that was last looked at.
    room: Room,
    /// When the row last heard of it.
    heard: Instant,
    /// That it may hold pieces in memory; not asked for while it is small.
    turn: Option<OwnedSemaphorePermit>,
    /// Nothing is left to be given up.
    settled: bool,
}

/// A note that a file is being written, before it is there; given up when dropped.
struct Begun {
    rows: Rows,
    contents: Arc<dyn Contents>,
    id: String,
    settled: bool,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.settled {
            give_up_later(&self.rows, &self.contents, &self.id);
        }
    }
}

impl Upload {
    /// Begins to write; the names have been checked.
    pub(super) async fn begin(
        store: &Store,
        space: String,
        name: String,
        kind: String,
        encryption: Encryption,
    ) -> Result<Self, FileError> {
        let goes_to = store.stores.kind;
        let contents = store.stores.chosen();
        let other_store = || FileError::OtherStore { place: goes_to.as_str().to_owned() };
        let contents = contents.ok_or_else(other_store)?;
        let id = format!("{:032x}", rand::random::<u128>());
        let piece = contents.piece() as u64;
        let (cipher, key) = store.keys.draw(&id, encryption)?.unzip();
        let form = if key.is_some() { Form::Encrypted } else { Form::Plain };
        let place = place_of(goes_to, form);
        let file = NewFile { id: id.clone(), space, name, kind, piece, place, key };
        // Noted first, so that whatever comes of it is found.
        let mut begun = Begun {
            rows: store.rows.clone(),
            contents: Arc::clone(contents),
            id: id.clone(),
            settled: false,
        };
        let room = store.rows.begin(&file).await?;
        room.admit(0, store.limits.space_bytes)?;
        let writing = contents.begin(&id).await?;
        begun.settled = true;
        Ok(Self {
            rows: store.rows.clone(),
            limits: store.limits,
            file,
            contents: Arc::clone(contents),
            writing,
            cipher,
            pieces: 0,
            hash: Sha256::new(),
            bytes: 0,
            room,
            heard: Instant::now(),
            turn: None,
            settled: false,
        })
    }

    /// Narrows what it may be; before anything is written.
    pub(super) fn narrow(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Writes all of `content`; once.
    pub(super) async fn fill<S, E>(&mut self, content: S) -> Result<(), FileError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        let size = usize::try_from(self.file.piece).unwrap_or(usize::MAX);
        let mut content = std::pin::pin!(content);
        let mut piece = BytesMut::new();
        while let Some(mut bytes) = next(content.as_mut(), SILENCE).await? {
            self.grow(bytes.len() as u64).await?;
            self.wait_for_turn().await?;
            self.be_heard().await?;
            while !bytes.is_empty() {
                // Not before something comes behind it: the last piece is written as such.
                if piece.len() == size {
                    self.add(piece.split().freeze(), Ending::More).await?;
                }
                let room = size - piece.len();
                piece.extend_from_slice(&bytes.split_to(room.min(bytes.len())));
            }
        }
        if !piece.is_empty() {
            self.add(piece.freeze(), Ending::Last).await?;
        }
        Ok(())
    }

    /// Counts what came, and refuses too much before it is kept.
    async fn grow(&mut self, bytes: u64) -> Result<(), FileError> {
        self.bytes += bytes;
        if self.bytes > self.limits.file_bytes {
            return Err(FileError::TooLarge { most: self.limits.file_bytes });
        }
        if self.room.admit(self.bytes, self.limits.space_bytes).is_ok() {
            return Ok(());
        }
        // Others may have made room since it was looked at.
        self.room = self.rows.room(&self.file.space, &self.file.name).await?;
        Ok(self.room.admit(self.bytes, self.limits.space_bytes)?)
    }

    /// Waits until the node may hold pieces of it in memory.
    async fn wait_for_turn(&mut self) -> Result<(), FileError> {
        if self.turn.is_some() || self.bytes <= FREE {
            return Ok(());
        }
        if let Some(held) = self.contents.held() {
            let pieces = if self.cipher.is_some() { ENCRYPTED } else { PLAIN };
            let turn = held.take(self.file.piece, pieces).await?;
            self.turn = Some(turn);
        }
        Ok(())
    }

    async fn add(&mut self, piece: Bytes, ending: Ending) -> Result<(), FileError> {
        digest(&mut self.hash, &piece).await;
        let slot = Slot { number: self.pieces, size: self.file.piece, ending };
        self.pieces += 1;
        let piece = match &self.cipher {
            Some(cipher) => {
                let sealed = cipher.seal(slot, &piece).await;
                drop(piece); // not both in memory while the store takes its time
                Bytes::from(sealed)
            }
            None => piece,
        };
        if let Err(error) = self.writing.add(piece).await {
            return Err(self.why(error).await);
        }
        points::pass(Point::Piece).await;
        Ok(())
    }

    /// Why it cannot be written: what the store says, but for what has been given up and removed meanwhile, whatever the
    /// store says of that.
    async fn why(&self, error: ContentError) -> FileError {
        match self.rows.touch(&self.file.id).await {
            Ok(false) => FileError::Gone,
            Ok(true) | Err(_) => error.into(),
        }
    }

    /// Lets the row hear of it now and then, however slowly the content comes.
    async fn be_heard(&mut self) -> Result<(), FileError> {
        if self.heard.elapsed() < SILENCE / 8 {
            return Ok(());
        }
        if !self.rows.touch(&self.file.id).await? {
            return Err(FileError::Gone);
        }
        self.heard = Instant::now();
        Ok(())
    }

    /// Gives the file its name.
    pub(super) async fn publish(mut self, options: PutOptions) -> Result<FileInfo, FileError> {
        let sha256 = hex(self.hash.clone().finalize().as_slice());
        if options.sha256.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&sha256)) {
            return Err(FileError::OtherDigest);
        }
        points::pass(Point::Written).await;
        if let Err(error) = self.writing.finish().await {
            return Err(self.why(error).await);
        }
        points::pass(Point::Kept).await;
        let finished = Finished {
            file: self.file.clone(),
            bytes: self.bytes,
            sha256,
            when: options.when,
            space_bytes: self.limits.space_bytes,
        };
        let created_ms = match self.rows.publish(&finished).await? {
            Published::In { created_ms } => created_ms,
            Published::NoRoom(refused) => return Err(refused.into()),
            Published::Changed => return Err(FileError::Changed),
            Published::Gone => return Err(FileError::Gone),
        };
        points::pass(Point::Published).await;
        self.settled = true;
        let Finished { file, bytes, sha256, .. } = finished;
        Ok(FileInfo {
            space: file.space,
            name: file.name,
            content_type: file.kind,
            bytes,
            sha256,
            version: file.id,
            created_ms,
        })
    }
}

/// What comes next of a content. When nothing comes for so long its row is given up, and what is held for it is held in vain,
/// while others wait for their turn.
async fn next<S, E>(
    mut content: Pin<&mut S>,
    patience: Duration,
) -> Result<Option<Bytes>, FileError>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Display,
{
    match timeout(patience, content.next()).await {
        Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
        Ok(Some(Err(error))) => Err(broke_off(&error)),
        Ok(None) => Ok(None),
        Err(elapsed) => Err(broke_off(&elapsed)),
    }
}

fn broke_off(why: &dyn Display) -> FileError {
    tracing::debug!(error = %why, "the content of a file broke off");
    FileError::BrokeOff
}

impl Drop for Upload {
    /// Also when the client went away in the middle. What this cannot do is done by the sweep.
    fn drop(&mut self) {
        if !self.settled {
            give_up_later(&self.rows, &self.contents, &self.file.id);
        }
    }
}

fn give_up_later(rows: &Rows, contents: &Arc<dyn Contents>, id: &str) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let (rows, contents, id) = (rows.clone(), Arc::clone(contents), id.to_owned());
    let work = async move {
        if let Err(error) = give_up(&rows, &contents, &id).await {
            tracing::debug!(%error, "what was written of a file is left to the sweep");
        }
    };
    runtime.spawn(work.in_current_span());
}

/// Gives up what was written, unless it has got its name all the same, and removes it: on a disk that is full the next one would
/// find no room else. The row stays, so that the sweep removes what was still on its way to the store.
async fn give_up(rows: &Rows, contents: &Arc<dyn Contents>, id: &str) -> Result<(), FileError> {
    if !rows.give_up(id).await? && rows.knows(id).await? {
        return Ok(());
    }
    Ok(contents.remove(id).await?)
}

/// Adds bytes to a digest, and lets others have the thread now and then: a whole piece takes milliseconds.
pub(super) async fn digest(hash: &mut Sha256, bytes: &[u8]) {
    const STEP: usize = 262_144;
    let mut steps = bytes.chunks(STEP).peekable();
    while let Some(step) = steps.next() {
        hash.update(step);
        if steps.peek().is_some() {
            tokio::task::yield_now().await;
        }
    }
}

/// Writes a digest as people and programs compare them.
pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn f1_a_content_that_stands_still_is_one_that_breaks_off() {
        let patience = Duration::from_millis(10);
        let mut still = stream::pending::<Result<Bytes, String>>();
        let stood = next(Pin::new(&mut still), patience).await;
        assert!(matches!(stood, Err(FileError::BrokeOff)), "{stood:?}");
        let mut cut = stream::iter([Ok(Bytes::new()), Err("cut".to_owned())]);
        let first = next(Pin::new(&mut cut), patience).await;
        assert!(matches!(&first, Ok(Some(bytes)) if bytes.is_empty()), "{first:?}");
        let broke = next(Pin::new(&mut cut), patience).await;
        assert!(matches!(broke, Err(FileError::BrokeOff)), "{broke:?}");
        assert!(matches!(next(Pin::new(&mut cut), patience).await, Ok(None)));
    }
}
