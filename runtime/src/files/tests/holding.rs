//! How much of files that are being written is in memory.

use futures_util::FutureExt as _;
use futures_util::future::join;

use super::super::held::{Held, PLAIN};
use super::*;
use crate::redis::testing::eventually;

#[tokio::test]
async fn f1_an_upload_waits_while_others_hold_all_that_may_be_in_memory() {
    let bench = Bench::embedded(FileStoreKind::Database).await;
    // For one upload into the database: two pieces.
    let held = Held::new(2 * 262_144);
    let mut stores = bench.store.stores.clone();
    stores.database = Arc::new(DatabaseContents::new(bench.database.clone()).holding(&held));
    let serving = Serving { signer: Signer::for_test(), judge: None };
    let rows = bench.store.rows.clone();
    let store =
        Arc::new(Store { rows, stores, keys: FileKeys::default(), limits: LIMITS, serving });
    let files = Files::default();
    files.0.set(Arc::clone(&store)).unwrap();
    let (space, taken) = (files.space("space"), Arc::new(AtomicUsize::new(0)));
    let names = ("space".to_owned(), "large".to_owned());
    let begun =
        Upload::begin(&store, names.0, names.1, "a/b".to_owned(), Encryption::ByOption).await;
    let mut begun = begun.unwrap();
    begun.fill(bits(&bytes(100_000, 1))).await.unwrap();
    assert!(held.take(1, PLAIN).now_or_never().is_none(), "it holds all");
    space.put("small", "a/b", bits(b"small files wait for nobody")).await.unwrap();
    let waiting = space.put("next", "a/b", counted(20, &taken));
    let ends = async {
        eventually("it is more than a small file", || taken.load(Ordering::SeqCst) >= 7).await;
        begun.publish(PutOptions::default()).await.unwrap();
        assert_eq!(taken.load(Ordering::SeqCst), 7, "it was read on before its turn");
    };
    let (written, ()) = join(waiting, ends).await;
    assert_eq!(written.unwrap().bytes, 200_000);
    assert!(held.take(1, PLAIN).now_or_never().is_some(), "nothing is held any more");
}
