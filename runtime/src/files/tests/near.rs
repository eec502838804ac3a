//! What a node keeps near is never taken for another file, and never for what lies in the store.

use super::super::near::Near;
use super::*;
use crate::config::NearConfig;

/// Another node, which keeps near what it reads.
async fn keeping(bench: &Bench, folder: &tempfile::TempDir) -> Space {
    let config = NearConfig { dir: folder.path().to_owned(), bytes: 64 << 20 };
    let near = Near::at(&config, "node", None).await.unwrap();
    let mut stores = bench.store.stores.clone();
    stores.database = Near::around(Some(&near), stores.database);
    let serving = Serving { signer: Signer::for_test(), judge: None };
    let (rows, keys) = (bench.store.rows.clone(), bench.store.keys.clone());
    let store = Store { rows, stores, keys, limits: LIMITS, serving };
    let files = Files::default();
    files.0.set(Arc::new(store)).unwrap();
    files.space("space")
}

#[tokio::test]
async fn f3_a_file_that_is_replaced_elsewhere_is_the_new_one_here_and_a_check_reads_the_store() {
    let bench = Bench::embedded(FileStoreKind::Database).await;
    let folder = tempfile::tempdir().unwrap();
    let (elsewhere, here) = (bench.space(), keeping(&bench, &folder).await);
    let (old, new) = (bytes(LARGE, 6), bytes(LARGE, 7));
    elsewhere.put("name", "a/b", bits(&old)).await.unwrap();
    assert!(there(&here, "name").await == old);
    let reading = here.get("name").await.unwrap().unwrap();
    // The store loses everything; what is near is still what was written.
    bench.change("DELETE FROM us_file_piece").await;
    assert!(there(&here, "name").await == old, "it comes from near");
    let part = here.get("name").await.unwrap().unwrap().part(1_000_000..1_100_000);
    let part: Vec<u8> = part.map(|piece| piece.unwrap()).collect::<Vec<_>>().await.concat();
    assert!(part == old[1_000_000..1_100_000]);
    let checked = here.get("name").await.unwrap().unwrap().verify().await;
    assert!(matches!(checked, Err(FileError::Damaged)), "{checked:?}");
    let lost = read(elsewhere.get("name").await.unwrap().unwrap()).await;
    assert!(matches!(lost, Err(FileError::Damaged)), "{lost:?}");
    elsewhere.put("name", "a/b", bits(&new)).await.unwrap();
    assert!(there(&here, "name").await == new, "no message was needed");
    assert!(read(reading).await.unwrap() == old, "who reads the old one reads on");
    elsewhere.delete("name").await.unwrap();
    assert!(here.get("name").await.unwrap().is_none());
    // The next life of the node begins with nothing.
    let again = keeping(&bench, &folder).await;
    assert!(again.get("name").await.unwrap().is_none());
}

#[tokio::test]
async fn f3_files_that_share_a_content_share_what_is_near_and_only_what_is_lost_is_missing() {
    let bench = Bench::embedded(FileStoreKind::Database).await;
    let folder = tempfile::tempdir().unwrap();
    let (elsewhere, here) = (bench.space(), keeping(&bench, &folder).await);
    let shared = SpaceRule { sharing: Sharing::Shared, ..SpaceRule::default() };
    bench.files.set_rule("space", shared).await.unwrap();
    let content = bytes(1_000_000, 8);
    for name in ["one", "two"] {
        elsewhere.put(name, "a/b", bits(&content)).await.unwrap();
    }
    assert_eq!(bench.sweep(DAY, Duration::ZERO).await.removed, 1, "what was written twice");
    assert!(there(&here, "one").await == content);
    let two = here.get("two").await.unwrap().unwrap().past_what_is_near();
    assert!(!two.is_missing().await.unwrap(), "it lies where the other one brought it");
    bench.change("DELETE FROM us_file_piece").await;
    assert!(there(&here, "two").await == content, "it comes from near, as the other one did");
    assert!(two.is_missing().await.unwrap());
}
