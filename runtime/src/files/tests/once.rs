//! Uploads that succeed once for a key.

use super::*;

async fn put(space: Space, name: &str, key: &str) -> Result<FileInfo, FileError> {
    let options = PutOptions { when: PutWhen::Once(key.to_owned()), sha256: None };
    space.put_with(options, (name, "a/b"), bits(b"content")).await
}

#[tokio::test]
async fn x5_of_many_uploads_under_one_key_one_succeeds_whatever_becomes_of_its_file() {
    const USED: &str = "SELECT count(*) FROM us_file_once";
    for bench in Bench::all().await {
        let spaces = [bench.space(), bench.files.space("other")];
        let options = PutOptions { when: PutWhen::Once("key".to_owned()), sha256: None };
        let broken = stream::iter([Err::<Bytes, String>("cut".to_owned())]);
        let refused = spaces[0].put_with(options, ("a", "a/b"), broken).await;
        assert!(matches!(refused, Err(FileError::BrokeOff)), "{refused:?}");
        assert_eq!(bench.count(USED).await, 0, "what fails uses nothing up");
        let puts = (0..8_usize).map(|number| {
            let name = if number < 4 { "a" } else { "b" };
            put(spaces[number % 2].clone(), name, "key")
        });
        let (won, lost): (Vec<_>, Vec<_>) =
            join_all(puts).await.into_iter().partition(Result::is_ok);
        assert!(lost.iter().all(|lost| matches!(lost, Err(FileError::Changed))), "{lost:?}");
        assert_eq!(won.len(), 1);
        let mut deleted = 0;
        for space in &spaces {
            for name in ["a", "b"] {
                deleted += usize::from(space.delete(name).await.unwrap());
            }
        }
        assert_eq!(deleted, 1);
        let again = put(spaces[0].clone(), "a", "key").await;
        assert!(matches!(again, Err(FileError::Changed)), "not even after it was deleted");
        put(spaces[0].clone(), "a", "another key").await.unwrap();
        assert_eq!(bench.count(USED).await, 2);
        bench.change("UPDATE us_file_once SET used_ms = 0").await;
        put(spaces[0].clone(), "a", "a third key").await.unwrap();
        assert_eq!(bench.count(USED).await, 1, "old ones are forgotten");
        for bad in ["", "..", "a/b"] {
            let refused = put(spaces[0].clone(), "a", bad).await;
            assert!(matches!(refused, Err(FileError::BadName { field: "key" })), "{refused:?}");
        }
    }
}
