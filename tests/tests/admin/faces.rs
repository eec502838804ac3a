//! The API, the command line and the console are three faces of one model: whatever the one can, the others can.

use std::collections::{BTreeMap, BTreeSet};

use understudy_tests::oracle;

use super::stage::Stage;

/// What people ask a machine for, not a page: the description of the API itself, metrics, files to keep, and what only a node
/// does that starts, and has no console yet.
const NOT_FOR_PAGES: [&str; 5] = [
    "openapi.show",
    "metrics.show",
    "definitions.export",
    "definitions.import",
    "migrations.apply",
];

/// The contents of files, which are shown on no page, and reading one or all of them, which takes as long as it takes. What is
/// known of one file is on the page of its space; how many are under which key is asked when a key is changed.
const OF_FILES: [&str; 6] =
    ["files.show", "files.check", "files.put", "files.get", "files.verify", "files.keys"];

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_has_a_verb_of_the_command_line_and_a_page_of_the_console() {
    let stage = Stage::start().await;
    let api: BTreeSet<String> =
        stage.operations().await.into_iter().map(|operation| operation.id).collect();
    let verbs: BTreeMap<String, String> = understudy::cli::verbs()
        .map(|verb| (verb.operation.to_owned(), verb.words.to_owned()))
        .collect();
    let pages: BTreeSet<String> =
        understudy::console::actions().iter().map(|action| action.operation.to_owned()).collect();
    let without_verb: Vec<_> = api.iter().filter(|id| !verbs.contains_key(*id)).collect();
    let without_page: Vec<_> = api
        .iter()
        .filter(|id| !pages.contains(*id) && !NOT_FOR_PAGES.contains(&id.as_str()))
        .filter(|id| !OF_FILES.contains(&id.as_str()))
        .collect();
    let of_nothing: Vec<_> = verbs.keys().chain(&pages).filter(|id| !api.contains(*id)).collect();
    oracle!("operations", api.len(), >= 60);
    oracle!("operations without a verb", format!("{without_verb:?}"), "[]".to_owned());
    oracle!("operations without a page", format!("{without_page:?}"), "[]".to_owned());
    oracle!("verbs and pages of no operation", format!("{of_nothing:?}"), "[]".to_owned());
}
