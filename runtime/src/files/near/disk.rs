//! The folder in which a node keeps pieces of contents, and what is known of it. It blocks: it is called on threads for that.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::{DashMap, Entry};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

/// Bytes of the digest before a piece.
const DIGEST: usize = 32;
/// Letters of the name of a folder that a life of a node has.
const LIFE: usize = 16;
/// Which part of all makes room at once.
const ROOM: u64 = 16;

/// Makes the folder; what is in files is nobody's business on this machine.
pub(super) fn make(root: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root)
}

/// Removes what earlier lives of this node left. What else lies there is somebody else's, such as a shared folder that has the
/// name of the node.
pub(super) fn remove_others(dir: &Path, own: &str) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if name == own || !is_life(name) {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(%error, path = %entry.path().display(), "what an earlier life of this node kept of files is still there");
        }
    }
}

fn is_life(name: &str) -> bool {
    name.len() == LIFE && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A folder with pieces, and what is known of them.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    most: u64,
    used: AtomicU64,
    /// Goes on with each use.
    now: AtomicU64,
    pieces: DashMap<String, Kept>,
    /// One makes room at a time.
    makes_room: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    bytes: u64,
    /// When it was used last.
    at: u64,
}

impl Drop for Disk {
    /// Whatever is here is of no use to another life. If this one is killed, the next removes it.
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let root = std::mem::take(&mut self.root);
        drop(runtime.spawn_blocking(move || fs::remove_dir_all(root)));
    }
}

impl Disk {
    pub(super) fn new(root: PathBuf, most: u64) -> Self {
        let (used, now) = (AtomicU64::new(0), AtomicU64::new(0));
        let (pieces, makes_room) = (DashMap::new(), AtomicBool::new(false));
        Self { root, most, used, now, pieces, makes_room }
    }

    /// Of all pieces in one folder, systems would become slow.
    fn shelf(&self, key: &str) -> PathBuf {
        self.root.join(key.get(..2).unwrap_or("00"))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.shelf(key).join(key)
    }

    fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that a piece is used; false if it is not here.
    pub(super) fn use_now(&self, key: &str) -> bool {
        let at = self.tick();
        let Some(mut kept) = self.pieces.get_mut(key) else { return false };
        kept.at = at;
        true
    }

    /// Reads a piece; one that is not what was kept is thrown away.
    pub(super) fn read(&self, key: &str, bytes: usize) -> Option<Vec<u8>> {
        let mut read = Vec::with_capacity(DIGEST + bytes + 1);
        let most = (DIGEST + bytes + 1) as u64;
        let opened = fs::File::open(self.path(key));
        let whole = opened.and_then(|file| file.take(most).read_to_end(&mut read));
        let is_whole = whole.is_ok_and(|length| length == DIGEST + bytes)
            && read[..DIGEST] == digest(key, &read[DIGEST..])[..];
        if !is_whole {
            if self.remove(key) {
                metrics::counter!("understudy_files_near_failures_total").increment(1);
            }
            return None;
        }
        read.drain(..DIGEST);
        Some(read)
    }

    /// Keeps a piece, if there is room for it.
    pub(super) fn write(&self, key: &str, piece: &[u8]) -> io::Result<()> {
        let bytes = (DIGEST + piece.len()) as u64;
        if self.pieces.contains_key(key) || !self.reserve(bytes) {
            return Ok(());
        }
        let shelf = self.shelf(key);
        let draft = self.root.join(format!("draft-{:016x}", rand::random::<u64>()));
        if let Err(error) = write_draft(&draft, &shelf, (key, piece)) {
            fs::remove_file(&draft).ok();
            self.free(bytes);
            return Err(error);
        }
        if !self.enter(key, bytes) {
            // Another request was faster.
            fs::remove_file(&draft).ok();
            self.free(bytes);
            return Ok(());
        }
        let moved = fs::rename(&draft, self.path(key));
        if moved.is_err() {
            fs::remove_file(&draft).ok();
            self.remove(key);
        } else if !self.pieces.contains_key(key) {
            // It was removed before it was there.
            fs::remove_file(self.path(key)).ok();
        }
        moved
    }

    /// Notes a piece; false when it is there already.
    fn enter(&self, key: &str, bytes: u64) -> bool {
        let at = self.tick();
        match self.pieces.entry(key.to_owned()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Kept { bytes, at });
                true
            }
        }
    }

    /// Counts bytes before they are written; false when there is no room for them.
    fn reserve(&self, bytes: u64) -> bool {
        if bytes > self.most {
            return false;
        }
        if self.count(bytes) {
            return true;
        }
        self.make_room(bytes.max(self.most / ROOM));
        self.count(bytes)
    }

    fn count(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.most);
        let counted = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        self.tell();
        counted.is_ok()
    }

    fn free(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        self.tell();
    }

    #[expect(clippy::cast_precision_loss, reason = "it is for a chart")]
    fn tell(&self) {
        metrics::gauge!("understudy_files_near_bytes")
            .set(self.used.load(Ordering::Relaxed) as f64);
    }

    /// Removes what was used least recently, as much as that.
    fn make_room(&self, bytes: u64) {
        if self.makes_room.swap(true, Ordering::AcqRel) {
            return;
        }
        let by_use = self.pieces.iter().map(|piece| (piece.at, piece.key().clone(), piece.bytes));
        let mut by_use: Vec<(u64, String, u64)> = by_use.collect();
        by_use.sort_unstable();
        let mut freed = 0;
        for (_, key, bytes_of_it) in by_use {
            if freed >= bytes {
                break;
            }
            if self.remove(&key) {
                freed += bytes_of_it;
            }
        }
        self.makes_room.store(false, Ordering::Release);
    }

    /// Removes a piece; false if it was not here.
    fn remove(&self, key: &str) -> bool {
        let Some((_, kept)) = self.pieces.remove(key) else { return false };
        match fs::remove_file(self.path(key)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(%error, "a piece of a file stays near uncounted"),
        }
        self.free(kept.bytes);
        true
    }

    /// Removes all pieces of a content.
    pub(super) fn forget(&self, id: &str) {
        let of_it = |key: &str| key.rsplit_once('-').is_some_and(|(of, _)| of == id);
        let keys = self.pieces.iter().filter(|piece| of_it(piece.key()));
        let keys: Vec<String> = keys.map(|piece| piece.key().clone()).collect();
        for key in keys {
            self.remove(&key);
        }
    }
}

/// Writes a piece beside its place, and makes sure of the shelf that it goes to.
fn write_draft(draft: &Path, shelf: &Path, (key, piece): (&str, &[u8])) -> io::Result<()> {
    let mut file = fs::File::create_new(draft)?;
    file.write_all(&digest(key, piece))?;
    file.write_all(piece)?;
    match fs::create_dir(shelf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Tells a piece from all others, and from what it is not any more.
fn digest(key: &str, piece: &[u8]) -> [u8; DIGEST] {
    let mut hash = Sha256::new();
    hash.update(key.as_bytes());
    hash.update([0]);
    hash.update(piece);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(folder: &tempfile::TempDir, most: u64) -> Disk {
        Disk::new(folder.path().to_owned(), most)
    }

    fn files(folder: &tempfile::TempDir) -> Vec<u64> {
        let shelves = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let files = shelves.flat_map(|shelf| fs::read_dir(shelf).unwrap());
        files.map(|file| file.unwrap().metadata().unwrap().len()).collect()
    }

    fn put(disk: &Disk, key: &str, bytes: usize) {
        disk.write(key, &vec![7; bytes]).unwrap();
    }

    #[test]
    fn f3_what_is_kept_near_never_takes_more_than_it_may_and_the_least_used_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(&folder, 10 * 132);
        for number in 0..10 {
            put(&disk, &format!("aa-{number}"), 100);
        }
        assert!(disk.use_now("aa-0"));
        put(&disk, "bb-0", 100);
        let there = |key: &str| disk.read(key, 100).is_some();
        assert!(there("aa-0") && there("bb-0") && !there("aa-1") && there("aa-2"));
        for number in 0..50 {
            put(&disk, &format!("cc-{number}"), 100 + number);
            let sizes = files(&folder);
            let used = disk.used.load(Ordering::Relaxed);
            assert_eq!(sizes.iter().sum::<u64>(), used, "what is counted is what is there");
            assert!(used <= 10 * 132 && sizes.len() == disk.pieces.len());
        }
        put(&disk, "dd-0", 2_000);
        assert!(!there("dd-0"), "what is larger than all is not kept");
        disk.forget("cc");
        assert_eq!((disk.used.load(Ordering::Relaxed), files(&folder).len()), (0, 0));
    }

    #[test]
    fn f3_what_earlier_lives_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let own = format!("{:016x}", rand::random::<u64>());
        let earlier = "0123456789abcdef";
        for name in [own.as_str(), earlier, "data", "staging", "0123456789ABCDEF"] {
            make(&folder.path().join(name).join("aa")).unwrap();
        }
        fs::write(folder.path().join(".understudy-store"), "1").unwrap();
        remove_others(folder.path(), &own);
        let there = |name: &str| folder.path().join(name).exists();
        assert!(there(&own) && !there(earlier));
        for name in ["data/aa", "staging", "0123456789ABCDEF", ".understudy-store"] {
            assert!(there(name), "{name}");
        }
    }

    #[test]
    fn f3_a_piece_that_is_not_what_was_kept_is_not_given() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(&folder, 1 << 20);
        put(&disk, "aa-0", 100);
        put(&disk, "aa-1", 100);
        assert_eq!(disk.read("aa-0", 100), Some(vec![7; 100]));
        // The disk gives another piece, of the same length and whole.
        fs::copy(disk.path("aa-1"), disk.path("aa-0")).unwrap();
        assert_eq!(disk.read("aa-0", 100), None);
        assert!(!disk.use_now("aa-0"), "it is read from the store from now on, and kept anew");
        let mut damaged = fs::read(disk.path("aa-1")).unwrap();
        damaged[50] ^= 1;
        fs::write(disk.path("aa-1"), damaged).unwrap();
        assert_eq!(disk.read("aa-1", 100), None);
        put(&disk, "aa-2", 100);
        assert_eq!(disk.read("aa-2", 99), None, "of another length than is asked for");
        assert_eq!(disk.used.load(Ordering::Relaxed), 0);
        // Somebody empties the folder.
        put(&disk, "aa-3", 100);
        fs::remove_file(disk.path("aa-3")).unwrap();
        assert_eq!(disk.read("aa-3", 100), None);
        assert_eq!(disk.used.load(Ordering::Relaxed), 0);
    }
}
