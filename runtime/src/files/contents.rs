//! Where the contents of files lie: what each store can do. What is known of a file (its name, its length, its digest) is in
//! the database, whatever the store; see [`rows`](super::rows).
//!
//! A store keeps contents under ids that are drawn at random and used once. It never decides anything: whether there is a
//! file is said by its row alone. So a store need not be able to do more than to write something new, to read a part of it
//! and to remove it, and to remove may be done twice.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::held::Held;
use crate::config::FileStoreKind;
use crate::database::DatabaseError;

/// A store of contents. Every call is bounded in time.
#[async_trait]
pub(super) trait Contents: fmt::Debug + Send + Sync {
    /// How many bytes are written and read at once; the last piece of a file may be shorter.
    fn piece(&self) -> usize;

    /// Begins to write something new.
    async fn begin(&self, id: &str) -> Result<Box<dyn Writing>, ContentError>;

    /// Reads one piece: exactly its length, or it is [`ContentError::Gone`].
    async fn read(&self, id: &str, piece: Piece) -> Result<Bytes, ContentError>;

    /// Removes what was written under an id, all of it or in part; nothing may be there.
    async fn remove(&self, id: &str) -> Result<(), ContentError>;

    /// What uploads may hold in memory together, if that is bounded.
    fn held(&self) -> Option<&Held> {
        None
    }

    /// The store itself, when this one keeps pieces of it near.
    fn direct(&self) -> Option<&Arc<dyn Contents>> {
        None
    }

    /// Forgets what is kept near of a content that is not what was written: the store may be restored.
    async fn distrust(&self, _id: &str) {}

    /// Says whether the store can do its work.
    async fn probe(&self) -> Result<(), ContentError>;
}

/// Something that is being written. Dropped before it is finished, it leaves something for [`Contents::remove`].
#[async_trait]
pub(super) trait Writing: Send {
    /// Writes the next piece.
    async fn add(&mut self, bytes: Bytes) -> Result<(), ContentError>;

    /// Makes sure that all of it is kept, through a loss of power too. Nothing is written afterwards.
    async fn finish(&mut self) -> Result<(), ContentError>;
}

/// One piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which one, from 0.
    pub(super) number: u64,
    /// Where it begins.
    pub(super) offset: u64,
    /// How long it is.
    pub(super) bytes: usize,
}

/// Why a store did not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    /// It is not there; or less of it than there should be.
    #[error("it is not there")]
    Gone,
    /// There is no room left.
    #[error("there is no room left")]
    NoRoom,
    /// The store is away, refuses, or took too long. The text is for operators.
    #[error("{0}")]
    Away(String),
    /// The same, of the database.
    #[error("the database does not do its work")]
    Database(#[source] DatabaseError),
}

impl From<DatabaseError> for ContentError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

/// What the word of a place ends in where contents are encrypted. An earlier version knows no place of such a word: it gives
/// nothing of what lies there and removes nothing, whatever it is.
const ENCRYPTED: &str = "-encrypted";

/// How contents lie in their store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Encrypted,
}

/// The word that rows have for a place.
pub(super) const fn place_of(kind: FileStoreKind, form: Form) -> &'static str {
    match (form, kind) {
        (Form::Plain, kind) => kind.as_str(),
        (Form::Encrypted, FileStoreKind::Database) => "database-encrypted",
        (Form::Encrypted, FileStoreKind::Folder) => "folder-encrypted",
        (Form::Encrypted, FileStoreKind::S3) => "s3-encrypted",
    }
}

/// The word of the store of a place, and how contents lie there.
pub(super) fn store_of(place: &str) -> (&str, Form) {
    match place.strip_suffix(ENCRYPTED) {
        Some(store) => (store, Form::Encrypted),
        None => (place, Form::Plain),
    }
}

/// The stores that a node knows, and the one that new files go to.
#[derive(Debug, Clone)]
pub(super) struct Stores {
    pub(super) kind: FileStoreKind,
    pub(super) database: Arc<dyn Contents>,
    pub(super) folder: Option<Arc<dyn Contents>>,
    pub(super) s3: Option<Arc<dyn Contents>>,
}

impl Stores {
    /// The store of a place, by the word that rows have for it.
    pub(super) fn find(&self, place: &str) -> Option<&Arc<dyn Contents>> {
        match store_of(place).0 {
            "database" => Some(&self.database),
            "folder" => self.folder.as_ref(),
            "s3" => self.s3.as_ref(),
            _ => None,
        }
    }

    /// The store that new files go to; there is one, or the service would not have started.
    pub(super) fn chosen(&self) -> Option<&Arc<dyn Contents>> {
        self.find(self.kind.as_str())
    }

    /// The words of all places that this node knows.
    pub(super) fn places(&self) -> Vec<&'static str> {
        let all = [FileStoreKind::Database, FileStoreKind::Folder, FileStoreKind::S3];
        let there = all.into_iter().filter(|kind| self.find(kind.as_str()).is_some());
        let forms = [Form::Plain, Form::Encrypted];
        there.flat_map(|kind| forms.map(|form| place_of(kind, form))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f4_a_place_of_encrypted_contents_has_a_word_that_no_other_place_has() {
        for kind in [FileStoreKind::Database, FileStoreKind::Folder, FileStoreKind::S3] {
            let word = kind.as_str();
            assert_eq!(store_of(place_of(kind, Form::Plain)), (word, Form::Plain));
            let encrypted = place_of(kind, Form::Encrypted);
            assert_eq!(store_of(encrypted), (word, Form::Encrypted));
            assert_ne!(encrypted, word, "an earlier version would serve it as it lies there");
        }
    }
}
