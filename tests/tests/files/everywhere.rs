//! A file that was written at one node is the same at all others, wherever its content lies.

use serde_json::Value;
use understudy_tests::oracle;

use super::content::Content;
use super::stage::{ENCRYPTS, STORES, Stage};

/// More than a piece of any store.
const MEBIBYTES: u64 = 10;

pub(super) async fn a_file_is_the_same_on_every_node(stage: &Stage) {
    let mut other = 0;
    for (writer, store) in STORES.iter().enumerate() {
        let content = Content { seed: 1 + writer as u64, mebibytes: MEBIBYTES };
        let digest = content.digest();
        let told: Value = stage.put(writer, store, content).await.expect(200).json();
        assert_eq!(told["bytes"], content.bytes());
        other += usize::from(told["sha256"] != digest.as_str());
        for reader in 0..STORES.len() {
            other += usize::from(stage.digest(reader, store).await != Some(digest.clone()));
        }
        let place = format!("SELECT place FROM us_file WHERE name = '{store}' AND state = 'ready'");
        let form = if *store == ENCRYPTS { "-encrypted" } else { "" };
        let place = stage.cluster.postgres.query(&place);
        assert_eq!(place.trim(), format!("{store}{form}"));
    }
    oracle!("digests that are not that of what was written, of 12", other, 0);
    stage.nothing_is_left_and_nothing_lost();
}
