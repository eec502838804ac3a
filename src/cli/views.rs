//! How each answer is shown; [`super::view`] says what a view is.

pub(super) mod actors;
pub(super) mod caches;
pub(super) mod cluster;
pub(super) mod files;
pub(super) mod findings;
pub(super) mod jobs;
pub(super) mod nodes;
pub(super) mod runs;
pub(super) mod sessions;

use serde_json::Value;

/// The members of a list; none when it is not there.
fn list<'v>(answer: &'v Value, name: &str) -> &'v [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}

fn text<'v>(answer: &'v Value, name: &str) -> &'v str {
    answer[name].as_str().unwrap_or_default()
}
