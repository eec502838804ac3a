//! What a node keeps of files on a disk of its own, so that it need not ask the store again: pieces of contents, bounded in
//! bytes, those that were used least recently going first. Off unless a folder is named.
//!
//! It cannot be wrong about which file it is: who reads a file looks up its row first, as ever, and pieces are kept under the
//! id of the content that stands there, which is another one for each content that is written; files that share a content
//! share what is near of it. Nor about what is in it: a piece has its digest with it, of its id and number too, and one that
//! is not what was kept is thrown away and read from the store. So nothing depends on what this forgets, when, and whether it
//! hears of it: the messages of other nodes ([`ForgetContent`]) only make room.
//!
//! Nothing is kept from one life of a node to the next: it is removed with the last handle on it, and what one that was killed
//! left when the next one starts. No actor owns the
//! folder: what lies in it is counted before it is written and after it is removed, so it never has more than it may. Calls
//! of the system are made on threads for that, of which it has a few; when none is free, or one takes too long, the store is
//! asked.

mod disk;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::disk::{Disk, make, remove_others};
use super::contents::{ContentError, Contents, Piece, Writing};
use super::held::Held;
use crate::bus::{Bus, BusRequest};
use crate::config::NearConfig;
use crate::membership::Membership;
use crate::service::NodeContext;

/// How many threads calls of the system may keep.
const AT_ONCE: usize = 8;
/// How long one may take, while somebody waits.
const LIMIT: Duration = Duration::from_secs(2);

/// Content that is not needed any more, or that is not what was written: whoever keeps some of it near can forget it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ForgetContent {
    id: String,
}

impl BusRequest for ForgetContent {
    const NAME: &'static str = "files.forget-content";
    type Reply = ();
}

/// What this node keeps near; a cheap clone.
#[derive(Debug, Clone)]
pub(super) struct Near {
    disk: Arc<Disk>,
    threads: Arc<Semaphore>,
    others: Option<Others>,
}

/// The way to the other nodes.
#[derive(Clone)]
pub(super) struct Others {
    bus: Bus,
    membership: Membership,
}

impl std::fmt::Debug for Others {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Others").finish_non_exhaustive()
    }
}

impl Others {
    /// Tells them, and waits for none: whoever does not hear of it makes room by itself, later.
    fn tell(&self, id: &str) {
        let forget = ForgetContent { id: id.to_owned() };
        for node in self.membership.live() {
            if node != *self.bus.node_id() {
                self.bus.send(&node, &forget);
            }
        }
    }
}

impl Near {
    /// Opens the folder, if one is named, and listens for what can be forgotten. A node whose folder cannot be used does
    /// without.
    pub(super) async fn open(node: &NodeContext) -> Option<Self> {
        let config = node.config.files.near.as_ref()?;
        let others = Others { bus: node.bus.clone(), membership: node.membership.clone() };
        let near = Self::at(config, node.node_id.name().as_str(), Some(others)).await?;
        near.listen(&node.bus);
        Some(near)
    }

    /// Has forgotten what other nodes say. The bus must not keep this alive, which has the bus itself.
    fn listen(&self, bus: &Bus) {
        let (disk, threads) = (Arc::downgrade(&self.disk), Arc::downgrade(&self.threads));
        bus.handle::<ForgetContent, _, _>(move |_from, forget: ForgetContent| {
            let there = disk.upgrade().zip(threads.upgrade());
            async move {
                if let Some((disk, threads)) = there {
                    Self { disk, threads, others: None }.forget(&forget.id).await;
                }
            }
        });
    }

    /// Opens a folder for the node of this name.
    pub(super) async fn at(
        config: &NearConfig,
        name: &str,
        others: Option<Others>,
    ) -> Option<Self> {
        let (dir, own) = (config.dir.join(name), format!("{:016x}", rand::random::<u64>()));
        let root = dir.join(&own);
        let made = {
            let root = root.clone();
            timeout(LIMIT, tokio::task::spawn_blocking(move || make(&root))).await
        };
        let why = match made {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error.to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it did not answer within {} s", LIMIT.as_secs())),
        };
        if let Some(error) = why {
            tracing::warn!(
                error,
                "nothing of files is kept near: the folder of UNDERSTUDY_FILES_CACHE_DIR cannot be used"
            );
            return None;
        }
        // It may be much, and nobody waits for it.
        drop(tokio::task::spawn_blocking(move || remove_others(&dir, &own)));
        let disk = Arc::new(Disk::new(root, config.bytes));
        Some(Self { disk, threads: Arc::new(Semaphore::new(AT_ONCE)), others })
    }

    /// Gives a store of which pieces are kept near, if any are.
    pub(super) fn around(near: Option<&Self>, contents: Arc<dyn Contents>) -> Arc<dyn Contents> {
        match near {
            Some(near) => Arc::new(NearContents { near: near.clone(), contents }),
            None => contents,
        }
    }

    /// Does work that blocks; `None` when it was not done, or not in time.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.threads).try_acquire_owned().ok()?;
        let disk = Arc::clone(&self.disk);
        let work = tokio::task::spawn_blocking(move || {
            let done = work(&disk);
            drop(turn); // not before: a call that hangs keeps its thread
            done
        });
        timeout(LIMIT, work).await.ok()?.ok()
    }

    async fn find(&self, key: &str, bytes: usize) -> Option<Bytes> {
        if !self.disk.use_now(key) {
            return None;
        }
        let key = key.to_owned();
        let found = self.blocking(move |disk: &Disk| disk.read(&key, bytes)).await??;
        Some(Bytes::from(found))
    }

    async fn keep(&self, key: String, piece: Bytes) {
        let kept = self.blocking(move |disk: &Disk| disk.write(&key, &piece)).await;
        if !matches!(kept, Some(Ok(()))) {
            metrics::counter!("understudy_files_near_failures_total").increment(1);
        }
        if let Some(Err(error)) = kept {
            tracing::debug!(%error, "a piece of a file is not kept near");
        }
    }

    /// Makes room; what cannot be removed now goes when its turn comes.
    async fn forget(&self, id: &str) {
        let id = id.to_owned();
        let forgotten = self.blocking(move |disk: &Disk| disk.forget(&id)).await;
        if forgotten.is_none() {
            tracing::debug!("what is not needed of files stays near for a while");
        }
    }
}

/// A store of which pieces are kept near.
#[derive(Debug)]
struct NearContents {
    near: Near,
    contents: Arc<dyn Contents>,
}

impl NearContents {
    /// Forgets a content here, and tells the other nodes.
    async fn forget(&self, id: &str) {
        self.near.forget(id).await;
        if let Some(others) = &self.near.others {
            others.tell(id);
        }
    }
}

#[async_trait]
impl Contents for NearContents {
    fn piece(&self) -> usize {
        self.contents.piece()
    }

    async fn begin(&self, id: &str) -> Result<Box<dyn Writing>, ContentError> {
        self.contents.begin(id).await
    }

    fn held(&self) -> Option<&Held> {
        self.contents.held()
    }

    async fn read(&self, id: &str, piece: Piece) -> Result<Bytes, ContentError> {
        let key = format!("{id}-{}", piece.number);
        if let Some(found) = self.near.find(&key, piece.bytes).await {
            metrics::counter!("understudy_files_near_hits_total").increment(1);
            return Ok(found);
        }
        metrics::counter!("understudy_files_near_misses_total").increment(1);
        let read = self.contents.read(id, piece).await?;
        self.near.keep(key, read.clone()).await;
        Ok(read)
    }

    async fn remove(&self, id: &str) -> Result<(), ContentError> {
        self.contents.remove(id).await?;
        self.forget(id).await;
        Ok(())
    }

    fn direct(&self) -> Option<&Arc<dyn Contents>> {
        Some(&self.contents)
    }

    /// Others may have read the same of the store, and serve parts of it, which nobody compares.
    async fn distrust(&self, id: &str) {
        self.forget(id).await;
    }

    async fn probe(&self) -> Result<(), ContentError> {
        self.contents.probe().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::LocalHub;
    use crate::redis::testing::{eventually, node};

    #[tokio::test]
    async fn f3_what_a_node_kept_near_goes_with_it_though_the_bus_is_there_still() {
        let folder = tempfile::tempdir().unwrap();
        let bus = Bus::local(&LocalHub::new(), node("near"));
        let config = NearConfig { dir: folder.path().to_owned(), bytes: 1 << 20 };
        let near = Near::at(&config, "near", None).await.unwrap();
        near.listen(&bus);
        near.keep("aa-0".to_owned(), Bytes::from_static(b"piece")).await;
        assert!(near.find("aa-0", 5).await.is_some());
        let forget = ForgetContent { id: "aa".to_owned() };
        bus.request(bus.node_id(), &forget, LIMIT).await.unwrap();
        assert!(near.find("aa-0", 5).await.is_none(), "it heard that it is not needed");
        near.keep("bb-0".to_owned(), Bytes::from_static(b"piece")).await;
        let disk = Arc::downgrade(&near.disk);
        drop(near);
        assert!(disk.upgrade().is_none(), "somebody has it still");
        bus.request(bus.node_id(), &forget, LIMIT).await.unwrap();
        let own = folder.path().join("near");
        let is_empty = || std::fs::read_dir(&own).unwrap().next().is_none();
        eventually("what was near is removed", is_empty).await;
    }
}
