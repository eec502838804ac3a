//! Reads a file: in pieces, one of which is in memory at a time.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::Store;
use super::contents::{ContentError, Contents, Form, Piece, store_of};
use super::error::FileError;
use super::info::FileInfo;
use super::rows::FileRow;
use super::segments::{Ending, FileCipher, Slot, encrypted};
use super::upload::{digest, hex};

/// A file, found and not read yet.
///
/// It is the one that had the name when it was asked for. When another is written meanwhile, this one can be read on for at
/// least ten minutes; then, reading it ends with [`FileError::Gone`].
pub struct StoredFile {
    info: FileInfo,
    piece: u64,
    /// Under which id its content lies.
    content: String,
    /// What opens it, if it is encrypted.
    cipher: Option<FileCipher>,
    contents: Arc<dyn Contents>,
    store: Arc<Store>,
}

impl StoredFile {
    pub(super) fn of(store: &Arc<Store>, row: FileRow) -> Result<Self, FileError> {
        let FileRow { info, piece, place, content, key } = row;
        let (of, form) = store_of(&place);
        let Some(contents) = store.stores.find(of) else {
            return Err(FileError::OtherStore { place: of.to_owned() });
        };
        let cipher = match (form, key) {
            (Form::Plain, _) => None,
            (Form::Encrypted, Some(key)) => Some(store.keys.open(&content, &key)?),
            (Form::Encrypted, None) => return Err(damaged(&info)),
        };
        let (contents, store) = (Arc::clone(contents), Arc::clone(store));
        Ok(Self { info, piece, content, cipher, contents, store })
    }

    /// Tells what is known of it.
    #[must_use]
    pub fn info(&self) -> &FileInfo {
        &self.info
    }

    /// Reads all of it, piece by piece. The last piece comes only when all of them together are what was written; else the
    /// stream ends with [`FileError::Damaged`], so that nobody takes what came for the whole.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, FileError>> + 'static {
        let all = 0..self.info.bytes;
        let hash = Some(Sha256::new());
        pieces(Reading { file: self, left: all, hash })
    }

    /// Reads a part of it, piece by piece; what is behind its end is left out. A part is not compared with the digest.
    pub fn part(self, range: Range<u64>) -> impl Stream<Item = Result<Bytes, FileError>> + 'static {
        let end = range.end.min(self.info.bytes);
        let left = range.start.min(end)..end;
        pieces(Reading { file: self, left, hash: None })
    }

    /// Has it read where it lies, past what a node keeps near.
    pub(super) fn past_what_is_near(mut self) -> Self {
        let direct = self.contents.direct().map(Arc::clone);
        if let Some(direct) = direct {
            self.contents = direct;
        }
        self
    }

    /// Where a piece lies in the store.
    fn lies(&self, piece: Piece) -> Piece {
        match self.cipher {
            Some(_) => encrypted(piece, self.piece),
            None => piece,
        }
    }

    /// Opens what was read of a piece; `None` when it is not what was written.
    async fn opened(&self, piece: Piece, read: Bytes) -> Option<Bytes> {
        let Some(cipher) = &self.cipher else { return Some(read) };
        let is_last = piece.offset + piece.bytes as u64 == self.info.bytes;
        let ending = if is_last { Ending::Last } else { Ending::More };
        let slot = Slot { number: piece.number, size: self.piece, ending };
        cipher.open(slot, &read).await.map(Bytes::from)
    }

    /// Says whether its content is not there at all: not even where it begins.
    pub(super) async fn is_missing(&self) -> Result<bool, FileError> {
        let bytes = usize::try_from(self.info.bytes.min(self.piece)).unwrap_or(usize::MAX);
        if bytes == 0 {
            return Ok(false);
        }
        let first = Piece { number: 0, offset: 0, bytes };
        match self.contents.read(&self.content, self.lies(first)).await {
            Ok(_) => Ok(false),
            Err(ContentError::Gone) => Ok(true),
            Err(
                error @ (ContentError::NoRoom | ContentError::Away(_) | ContentError::Database(_)),
            ) => Err(error.into()),
        }
    }

    /// Says whether the store that its content lies in does its work.
    pub(super) async fn is_within_reach(&self) -> bool {
        self.contents.probe().await.is_ok()
    }

    /// Reads several parts of it one after the other, each behind the bytes that are given with it, and gives `end` at last.
    pub(super) fn parts(
        self,
        parts: Vec<(Bytes, Range<u64>)>,
        end: Bytes,
    ) -> impl Stream<Item = Result<Bytes, FileError>> + 'static {
        let reading = Reading { file: self, left: 0..0, hash: None };
        let parts = Parts { reading, next: parts.into_iter(), end: Some(end) };
        stream::try_unfold(parts, |mut parts: Parts| async move {
            let bytes = parts.read().await;
            if matches!(bytes, Err(FileError::Damaged)) {
                parts.reading.distrust().await;
            }
            Ok::<_, FileError>(bytes?.map(|bytes| (bytes, parts)))
        })
    }

    /// Reads all of it, where it lies, and compares it with its digest.
    ///
    /// # Errors
    /// [`FileError::Damaged`] when it is not what was written; else when it cannot be read now.
    pub async fn verify(self) -> Result<(), FileError> {
        let mut pieces = std::pin::pin!(self.past_what_is_near().stream());
        while let Some(piece) = pieces.next().await {
            piece?;
        }
        Ok(())
    }
}

impl fmt::Debug for StoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredFile").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Several parts of a file, and how far they have been read.
struct Parts {
    reading: Reading,
    next: std::vec::IntoIter<(Bytes, Range<u64>)>,
    end: Option<Bytes>,
}

impl Parts {
    /// Reads what is next; `None` when the end was given.
    async fn read(&mut self) -> Result<Option<Bytes>, FileError> {
        if let Some(piece) = self.reading.next().await? {
            return Ok(Some(piece));
        }
        match self.next.next() {
            Some((before, part)) => {
                self.reading.left = part;
                Ok(Some(before))
            }
            None => Ok(self.end.take()),
        }
    }
}

/// How far a file has been read.
struct Reading {
    file: StoredFile,
    left: Range<u64>,
    hash: Option<Sha256>,
}

fn pieces(reading: Reading) -> impl Stream<Item = Result<Bytes, FileError>> + 'static {
    stream::try_unfold(reading, |mut reading: Reading| async move {
        let piece = reading.next().await;
        if matches!(piece, Err(FileError::Damaged)) {
            reading.distrust().await;
        }
        let piece = piece?;
        Ok::<_, FileError>(piece.map(|piece| (piece, reading)))
    })
}

impl Reading {
    /// Reads what is next; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, FileError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let StoredFile { info, piece, content, contents, .. } = &self.file;
        let number = self.left.start / piece;
        let offset = number * piece;
        let bytes = usize::try_from((info.bytes - offset).min(*piece)).unwrap_or(usize::MAX);
        let piece = Piece { number, offset, bytes };
        let read = match contents.read(content, self.file.lies(piece)).await {
            Ok(read) => read,
            Err(ContentError::Gone) => return Err(self.missing().await),
            Err(
                error @ (ContentError::NoRoom | ContentError::Away(_) | ContentError::Database(_)),
            ) => return Err(error.into()),
        };
        let Some(read) = self.file.opened(piece, read).await else { return Err(damaged(info)) };
        let whole_to = offset + read.len() as u64;
        if let Some(hash) = &mut self.hash {
            digest(hash, &read).await;
            let is_last = whole_to == info.bytes;
            if is_last && hex(hash.clone().finalize().as_slice()) != info.sha256 {
                return Err(damaged(info));
            }
        }
        let from = usize::try_from(self.left.start - offset).unwrap_or(usize::MAX);
        let end = whole_to.min(self.left.end);
        let to = usize::try_from(end - offset).unwrap_or(usize::MAX);
        self.left.start = end;
        metrics::counter!("understudy_files_read_bytes_total").increment((to - from) as u64);
        Ok(Some(read.slice(from..to)))
    }

    /// Sees to it that files which are written from now on do not share what is damaged, and that none of it stays near.
    async fn distrust(&self) {
        self.file.contents.distrust(&self.file.content).await;
        if let Err(error) = self.file.store.rows.distrust(&self.file.content).await {
            tracing::debug!(%error, "a damaged content may still be shared");
        }
    }

    /// Why content is missing: because the file is not there any more, or although it is.
    async fn missing(&self) -> FileError {
        let info = &self.file.info;
        match self.file.store.rows.find(&info.space, &info.name).await {
            Ok(Some(row)) if row.info.version == info.version => damaged(info),
            Ok(_) => FileError::Gone,
            Err(error) => error.into(),
        }
    }
}

fn damaged(info: &FileInfo) -> FileError {
    metrics::counter!("understudy_files_damaged_total").increment(1);
    tracing::error!(
        file.version = %info.version,
        file.bytes = info.bytes,
        "the content of a file is not what was written: restore it, or remove it"
    );
    FileError::Damaged
}
