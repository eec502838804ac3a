//! Which folder is that of the cluster, and who may read what lies in it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::super::contents::{ContentError, Writing};
use super::*;

const MARKER: &str = ".understudy-store";

fn names_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

async fn open(
    root: &Path,
    mark_it: FolderMark,
    bench: &Bench,
) -> Result<FolderContents, ContentError> {
    FolderContents::open(root, mark_it, &bench.database).await
}

#[tokio::test]
async fn f8_a_folder_becomes_that_of_the_cluster_only_when_it_is_new_and_may() {
    let bench = Bench::embedded(FileStoreKind::Database).await;
    let root = bench._folder.path().join("shared");
    let refused = open(&root, FolderMark::ByTheFirstNode, &bench).await;
    assert!(matches!(refused, Err(ContentError::Gone)), "{refused:?}");
    assert!(!root.exists(), "the folder itself is made by whoever sets the cluster up");
    std::fs::create_dir(&root).unwrap();
    let refused = open(&root, FolderMark::ByHand, &bench).await;
    let why = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(why.contains(MARKER), "{why}");
    assert_eq!(names_in(&root), 0, "it is not mounted");
    std::fs::write(root.join(MARKER), "files of the shop\n").unwrap();
    let shared = open(&root, FolderMark::ByHand, &bench).await.unwrap();
    write(&shared, "aa").await;
    assert!(root.join("data/aa/aa").exists());
    // All that the database remembers of it is lost, but for a file.
    bench.space().put("name", "a/b", bits(b"kept")).await.unwrap();
    bench.change("UPDATE us_file SET place = 'folder'").await;
    bench.change("DELETE FROM us_meta WHERE name = 'files_folder'").await;
    let away = root.with_extension("away");
    std::fs::rename(&root, &away).unwrap();
    std::fs::create_dir(&root).unwrap();
    assert!(open(&root, FolderMark::ByTheFirstNode, &bench).await.is_err());
    assert_eq!(names_in(&root), 0, "where there are files, an empty folder is not theirs");
    std::fs::remove_dir(&root).unwrap();
    std::fs::rename(&away, &root).unwrap();
    open(&root, FolderMark::ByTheFirstNode, &bench).await.unwrap();
}

async fn write(shared: &FolderContents, id: &str) {
    let mut writing: Box<dyn Writing> = shared.begin(id).await.unwrap();
    writing.add(Bytes::from_static(b"content")).await.unwrap();
    writing.finish().await.unwrap();
}

fn rights(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn allow(path: &Path, rights: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(rights)).unwrap();
}

#[tokio::test]
async fn f8_what_lies_in_the_folder_is_for_the_user_alone_or_for_the_group_that_may_write_there() {
    for (of_root, of_folders, of_files) in [(0o755, 0o700, 0o600), (0o770, 0o770, 0o660)] {
        let bench = Bench::embedded(FileStoreKind::Database).await;
        let root = bench._folder.path().join("shared");
        std::fs::create_dir(&root).unwrap();
        allow(&root, of_root);
        let shared = open(&root, FolderMark::ByTheFirstNode, &bench).await.unwrap();
        write(&shared, "aa").await;
        for folder in ["staging", "data", "data/aa"] {
            assert_eq!(rights(&root.join(folder)), of_folders, "{folder} in {of_root:o}");
        }
        for file in [MARKER, "data/aa/aa"] {
            assert_eq!(rights(&root.join(file)), of_files, "{file} in {of_root:o}");
        }
        // What an earlier release made.
        allow(&root.join("data"), 0o755);
        open(&root, FolderMark::ByTheFirstNode, &bench).await.unwrap();
        assert_eq!(rights(&root.join("data")) & !of_folders, 0, "others may read");
        // Nodes of several users, where an earlier release made these, and the group may write in them alone.
        for folder in ["staging", "data"] {
            allow(&root.join(folder), 0o770);
        }
        let shared = open(&root, FolderMark::ByTheFirstNode, &bench).await.unwrap();
        for id in ["bb", "bb1"] {
            write(&shared, id).await;
        }
        let of_both = (rights(&root.join("data/bb")), rights(&root.join("data/bb/bb1")));
        assert_eq!(of_both, (0o770, 0o660), "nodes of the others are locked out");
        assert_eq!(names_in(&root.join("staging")), 0, "what it is made from is left");
    }
}
