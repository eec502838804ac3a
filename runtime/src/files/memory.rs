//! Contents in the memory of the process, for tests: what a store must do, without anything that could go wrong.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;

use super::contents::{ContentError, Contents, Piece, Writing};

/// How many bytes are written and read at once: few, since tests write several pieces.
const PIECE: usize = 65_536;

/// The store; a cheap clone.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryContents {
    kept: Arc<DashMap<String, Vec<Bytes>>>,
}

impl MemoryContents {
    /// Counts what is there, whole or in part.
    pub(super) fn count(&self) -> usize {
        self.kept.len()
    }
}

#[async_trait]
impl Contents for MemoryContents {
    fn piece(&self) -> usize {
        PIECE
    }

    async fn begin(&self, id: &str) -> Result<Box<dyn Writing>, ContentError> {
        self.kept.insert(id.to_owned(), Vec::new());
        Ok(Box::new(MemoryWriting { store: self.clone(), id: id.to_owned() }))
    }

    async fn read(&self, id: &str, piece: Piece) -> Result<Bytes, ContentError> {
        let number = usize::try_from(piece.number).unwrap_or(usize::MAX);
        let pieces = self.kept.get(id).ok_or(ContentError::Gone)?;
        let found = pieces.get(number).filter(|found| found.len() == piece.bytes);
        found.cloned().ok_or(ContentError::Gone)
    }

    async fn remove(&self, id: &str) -> Result<(), ContentError> {
        drop(self.kept.remove(id));
        Ok(())
    }

    async fn probe(&self) -> Result<(), ContentError> {
        Ok(())
    }
}

/// A file that is being written.
struct MemoryWriting {
    store: MemoryContents,
    id: String,
}

#[async_trait]
impl Writing for MemoryWriting {
    /// What has been removed does not come back.
    async fn add(&mut self, bytes: Bytes) -> Result<(), ContentError> {
        let mut pieces = self.store.kept.get_mut(&self.id).ok_or(ContentError::Gone)?;
        pieces.push(bytes);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), ContentError> {
        if self.store.kept.contains_key(&self.id) { Ok(()) } else { Err(ContentError::Gone) }
    }
}
