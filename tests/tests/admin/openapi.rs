//! The description of the API is a file of the project: whoever changes the API sees it change.

use serde_json::Value;

use super::stage::Stage;

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

/// `UNDERSTUDY_TESTS_BLESS=1` writes the file anew (`make openapi`).
#[tokio::test(flavor = "multi_thread")]
async fn the_description_of_the_api_is_the_one_that_is_kept() {
    let stage = Stage::start().await;
    let told: Value = stage.get("/v1/openapi.json").await.expect(200).json();
    let told = serde_json::to_string_pretty(&told).unwrap() + "\n";
    if std::env::var_os("UNDERSTUDY_TESTS_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(KEPT, &told).unwrap();
    }
    let kept = std::fs::read_to_string(KEPT).unwrap_or_default();
    let differs = told.lines().zip(kept.lines()).position(|(told, kept)| told != kept);
    assert!(
        told == kept,
        "docs/openapi.json is not what nodes tell, from line {:?} on: look at the change, then `make openapi`",
        differs.map(|line| line + 1)
    );
}
