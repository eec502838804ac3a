//! What a node encrypts is in the clear nowhere but in its answers, and opens with its key, in its place, as it was written.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::super::admin::known;
use super::super::encryption::{FileKeys, KeyRole};
use super::super::near::Near;
use super::super::rewrapping::{Reach, Rewrapped, UnderKey, run_within};
use super::super::segments::SEGMENT;
use super::super::sweep::Start;
use super::super::upload::hex;
use super::*;
use crate::config::{EncryptionConfig, EncryptionKey, EncryptionWrites, NearConfig};
use crate::secret::Secret;

/// As many bytes as a piece of a folder, and some.
const LENGTH: usize = 1_200_000;
/// What is looked for where it must not be.
const CANARY: &[u8] = b"canary of an encrypted file";

/// Another node on the same stores, with these keys; its own name is the byte of each.
fn with_keys(bench: &Bench, names: &[&str], near: Option<&Near>) -> (Files, Arc<Store>) {
    let key = |name: &&str| EncryptionKey {
        id: (*name).to_owned(),
        key: Secret::new([name.as_bytes()[0]; 32]),
    };
    let keys = names.iter().map(key).collect();
    let keys = FileKeys::new(&EncryptionConfig { keys, writes: EncryptionWrites::Sealed });
    let mut stores = bench.store.stores.clone();
    stores.database = Near::around(near, stores.database);
    stores.folder = stores.folder.map(|folder| Near::around(near, folder));
    let serving = Serving { signer: Signer::for_test(), judge: None };
    let rows = bench.store.rows.clone();
    let store = Arc::new(Store { rows, stores, keys, limits: LIMITS, serving });
    let files = Files::default();
    files.0.set(Arc::clone(&store)).unwrap();
    (files, store)
}

/// Whether these bytes are in any file of a folder.
fn lies_in(folder: &Path, wanted: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return lies_in(&path, wanted);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

async fn part(
    space: &Space,
    name: &str,
    range: std::ops::Range<u64>,
) -> Result<Vec<u8>, FileError> {
    let file = space.get(name).await.unwrap().expect("it is there");
    let mut pieces = std::pin::pin!(file.part(range));
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

#[tokio::test]
async fn f4_nothing_of_an_encrypted_file_is_in_the_clear_in_a_store_or_near() {
    let content: Vec<u8> = CANARY.iter().copied().cycle().take(LENGTH).collect();
    for kind in [FileStoreKind::Database, FileStoreKind::Folder] {
        let (bench, disk) = (Bench::embedded(kind).await, tempfile::tempdir().unwrap());
        let config = NearConfig { dir: disk.path().to_owned(), bytes: 64 << 20 };
        let near = Near::at(&config, "node", None).await.unwrap();
        let (files, _) = with_keys(&bench, &["a"], Some(&near));
        let space = files.space("space");
        let info = space.put("name", "a/b", bits(&content)).await.unwrap();
        let digest = hex(Sha256::digest(&content).as_slice());
        assert_eq!((info.bytes, info.sha256), (LENGTH as u64, digest), "those of what was written");
        for _ in 0..2 {
            assert!(there(&space, "name").await == content);
        }
        let segment = SEGMENT as u64;
        let ranges = [
            0..1,
            segment - 3..segment + 3,
            segment..2 * segment,
            1_048_575..1_048_577,
            262_143..1_100_000,
            LENGTH as u64 - 1..LENGTH as u64,
            LENGTH as u64..u64::MAX,
        ];
        for range in ranges {
            let to = range.end.min(LENGTH as u64);
            let wanted = &content[range.start as usize..to as usize];
            assert!(part(&space, "name", range.clone()).await.unwrap() == wanted, "{range:?}");
        }
        for folder in [bench._folder.path(), disk.path()] {
            assert!(!lies_in(folder, CANARY), "{kind:?}: {}", folder.display());
        }
        // Who looks like this finds it where it is.
        let plain = files.space("plain").not_encrypted();
        plain.put("name", "a/b", bits(&content)).await.unwrap();
        assert!(there(&plain, "name").await == content);
        for folder in [bench._folder.path(), disk.path()] {
            assert!(lies_in(folder, CANARY), "{kind:?}: {}", folder.display());
        }
        for space in [bench.space().encrypted(), files.space("space").encrypted()] {
            let written = space.put("other", "a/b", bits(b"x")).await;
            let has_keys = space.files.store().unwrap().keys.role("a") == KeyRole::Writes;
            assert_eq!(written.is_ok(), has_keys, "{written:?}");
            assert!(has_keys || matches!(written, Err(FileError::NoKey)), "{written:?}");
        }
    }
}

#[tokio::test]
async fn f4_what_was_changed_or_moved_in_the_store_is_damaged_in_each_part_of_it() {
    let bench = Bench::embedded(FileStoreKind::Folder).await;
    let (files, _) = with_keys(&bench, &["a"], None);
    let (space, root) = (files.space("space"), bench.root.clone().unwrap());
    let path = |version: &str| root.join("data").join(&version[..2]).join(version);
    let one = space.put("one", "a/b", bits(&bytes(LENGTH, 1))).await.unwrap().version;
    let two = space.put("two", "a/b", bits(&bytes(LENGTH, 2))).await.unwrap().version;
    let kept = std::fs::read(path(&one)).unwrap();
    let is_damaged = async || {
        let part = part(&space, "one", 10..20).await;
        let whole = read(space.get("one").await.unwrap().unwrap()).await;
        let is = |it: &Result<Vec<u8>, FileError>| matches!(it, Err(FileError::Damaged));
        (is(&part), is(&whole))
    };
    let mut flipped = kept.clone();
    flipped[15] ^= 1;
    let mut behind = kept.clone();
    *behind.last_mut().unwrap() ^= 1;
    let changes = [
        (flipped, (true, true)),
        (behind, (false, true)),
        (kept[..kept.len() - 1].to_vec(), (false, true)),
        (kept[..1_000].to_vec(), (true, true)),
        (std::fs::read(path(&two)).unwrap(), (true, true)),
        (kept.clone(), (false, false)),
    ];
    for (number, (changed, wanted)) in changes.into_iter().enumerate() {
        std::fs::write(path(&one), changed).unwrap();
        assert_eq!(is_damaged().await, wanted, "change {number}: of a part, and of the whole");
    }
}

#[tokio::test]
async fn f4_a_file_without_its_key_is_told_and_the_others_are_read() {
    let bench = Bench::embedded(FileStoreKind::Database).await;
    let (before, _) = with_keys(&bench, &["old"], None);
    let (node, _) = with_keys(&bench, &["new"], None);
    before.space("space").put("old", "a/b", bits(b"old")).await.unwrap();
    node.space("space").put("new", "a/b", bits(b"new")).await.unwrap();
    bench.space().put("plain", "a/b", bits(b"plain")).await.unwrap();
    let refused = node.space("space").get("old").await.unwrap_err();
    assert!(matches!(&refused, FileError::UnknownKey { key } if key == "old"), "{refused:?}");
    assert!(there(&node.space("space"), "new").await == b"new");
    assert!(there(&node.space("space"), "plain").await == b"plain");
    let key = async |name: &str| {
        let shown = known(&node, ("space", name)).await.unwrap();
        let shown = serde_json::to_value(shown).unwrap();
        assert_eq!(shown["name"], name, "it is shown, whether it opens or not");
        shown["encryption"].clone()
    };
    assert_eq!(key("old").await, serde_json::json!({ "key": "old", "opens": false }));
    assert_eq!(key("new").await, serde_json::json!({ "key": "new", "opens": true }));
    assert_eq!(key("plain").await, serde_json::Value::Null);
    // An earlier version knows no such place, and gives and removes nothing there.
    let strange = "SELECT count(*) FROM us_file WHERE place = 'database-encrypted'";
    assert_eq!(bench.count(strange).await, 2);
    let mut walk = Walk::begin(&node, Wanted::default()).unwrap();
    let (mut found, mut last) = (Vec::new(), None);
    while let Some(line) = walk.next().await {
        match line {
            Line::Found { name, finding, code, key, .. } => found.push((name, finding, code, key)),
            line @ (Line::Progress { .. } | Line::Stopped { .. } | Line::Done { .. }) => {
                last = Some(line);
            }
        }
    }
    let old = "old".to_owned();
    let wanted = (old.clone(), Finding::Unreadable, "file_unknown_key", Some(old));
    assert_eq!(found, [wanted]);
    assert!(matches!(last, Some(Line::Done { files: 3, unreadable: 1, .. })), "{last:?}");
    assert!(node.space("space").delete("old").await.unwrap(), "it needs no key");
    bench.sweep(DAY, Duration::ZERO).await;
    assert_eq!(bench.contents().await, 2);
}

#[tokio::test]
async fn f4_files_that_do_not_open_keep_no_others_from_the_new_key() {
    let bench = Bench::embedded(FileStoreKind::Database).await;
    let (before, _) = with_keys(&bench, &["old"], None);
    let (_, store) = with_keys(&bench, &["new", "old"], None);
    let mut versions = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let written = before.space("space").put(name, "a/b", bits(b"content")).await;
        versions.push(written.unwrap().version);
    }
    versions.sort();
    let last = &versions[3];
    bench.change(&format!("UPDATE us_file SET key_sealed = '1.AAAA' WHERE id <> '{last}'")).await;
    let run = async |start: u64| {
        let reach = Reach { start: Start(start), page: 1, pages: 3 };
        run_within(&store, reach, &DutyRun::default()).await.unwrap()
    };
    assert_eq!(run(0).await, Rewrapped { files: 0, unopened: 3 }, "it gets no further");
    // It begins before the last one: as far as its first digits say.
    let start = u64::from_str_radix(&last[..16], 16).unwrap();
    assert_eq!(run(start).await, Rewrapped { files: 1, unopened: 1 }, "and goes round");
    let swept = run_once(&store, (DAY, DAY), &DutyRun::default()).await.unwrap();
    assert_eq!((swept.rewrapped, swept.unopened), (0, 3));
}

#[tokio::test]
async fn f4_files_come_under_a_new_key_and_the_old_one_can_go() {
    for bench in Bench::all().await {
        let content = bytes(1_000_000, 4);
        let (before, _) = with_keys(&bench, &["old"], None);
        // Equal contents, which are not shared: each has a key of its own.
        let shared = SpaceRule { sharing: Sharing::Shared, ..SpaceRule::default() };
        before.set_rule("space", shared).await.unwrap();
        for name in ["one", "two"] {
            before.space("space").put(name, "a/b", bits(&content)).await.unwrap();
        }
        let (between, store) = with_keys(&bench, &["new", "old"], None);
        between.space("space").put("three", "a/b", bits(&content)).await.unwrap();
        let reading = between.space("space").get("one").await.unwrap().unwrap();
        let under =
            |key: &str, role: KeyRole, files: u64| UnderKey { key: key.to_owned(), role, files };
        let wanted = [under("new", KeyRole::Writes, 1), under("old", KeyRole::Opens, 2)];
        assert_eq!(between.under_keys().await.unwrap(), wanted);
        let swept = run_once(&store, (DAY, DAY), &DutyRun::default()).await.unwrap();
        assert_eq!(swept.rewrapped, 2);
        let again = run_once(&store, (DAY, DAY), &DutyRun::default()).await.unwrap();
        assert_eq!(again.rewrapped, 0);
        assert!(read(reading).await.unwrap() == content, "who reads it reads on");
        let (after, _) = with_keys(&bench, &["new"], None);
        assert_eq!(after.under_keys().await.unwrap(), [under("new", KeyRole::Writes, 3)]);
        for name in ["one", "two", "three"] {
            assert!(there(&after.space("space"), name).await == content);
        }
        assert_eq!(bench.contents().await, 3);
        let missing = before.under_keys().await.unwrap();
        assert_eq!(missing, [under("new", KeyRole::Missing, 3)]);
    }
}
