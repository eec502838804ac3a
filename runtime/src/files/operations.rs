//! What can be asked of files on the admin port, and who may.

use crate::admin::{Operation, Parameter, Role};

const TEXT: &str = r#"{"type":"string"}"#;
const LIMIT: &str = r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#;
const NOTHING: &str = r#"{"type":"object","additionalProperties":false,"properties":{}}"#;
const PAGE: &[Parameter] = &[
    Parameter::new("after", TEXT, "The `next` of the page before"),
    Parameter::new("limit", LIMIT, "How many at most"),
];

/// The operations of the service of files. What is in a file is shown to nobody.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation::get("files.spaces", "/v1/files", "Lists the spaces in which there are files")
        .role(Role::Support)
        .query(PAGE)
        .cli("files")
        .console("files"),
    Operation::get("files.list", "/v1/files/{space}", "Lists the files of a space by name")
        .role(Role::Support)
        .query(PAGE)
        .answers(&[(422, "file_bad_name")])
        .cli("files list")
        .console("files"),
    Operation::get("files.show", "/v1/files/{space}/{name}", "Shows what is known of a file")
        .role(Role::Support)
        .answers(&[(404, "unknown_file: there is none of this name"), (422, "file_bad_name")])
        .cli("files show"),
    Operation::delete("files.delete", "/v1/files/{space}/{name}", "Removes a file")
        .answers(&[(404, "unknown_file: there is none of this name"), (422, "file_bad_name")])
        .cli("files delete")
        .console("files"),
    Operation::post(
        "files.check",
        "/v1/files/{space}/{name}/check",
        "Reads a file and compares it with its digest",
    )
    .optional_body(NOTHING)
    .answers(&[
        (200, "Whether it is what was written"),
        (404, "unknown_file: there is none of this name"),
        (422, "file_bad_name"),
        (503, "file_check_too_long: it cannot be read within 20 s; file_store_unavailable"),
    ])
    .cli("files check"),
    Operation::get(
        "files.orphans",
        "/v1/files-orphans",
        "Lists files that nobody uses, in spaces that want those removed, and what holds for spaces",
    )
    .role(Role::Support)
    .query(PAGE)
    .cli("files orphans")
    .console("files"),
    Operation::post(
        "files.gc",
        "/v1/files-orphans/collect",
        "Removes files that nobody uses, in spaces that want that, up to 1,000",
    )
    .query(&[Parameter::new("dry_run", r#"{"type":"boolean"}"#, "Only tell how many there are")])
    .optional_body(NOTHING)
    .answers(&[(200, "How many there were, and how many were removed; `more` when not all were looked at")])
    .cli("files gc")
    .console("files"),
];
