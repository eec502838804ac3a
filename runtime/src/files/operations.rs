//! What can be asked of files on the admin port, and who may.

use crate::admin::{Operation, Parameter, Role};

const TEXT: &str = r#"{"type":"string"}"#;
const LIMIT: &str = r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#;
const NOTHING: &str = r#"{"type":"object","additionalProperties":false,"properties":{}}"#;
const PAGE: &[Parameter] = &[
    Parameter::new("after", TEXT, "The `next` of the page before"),
    Parameter::new("limit", LIMIT, "How many at most"),
];

const WALK: &str = r#"{"type":"object","additionalProperties":false,"properties":{
    "space":{"type":"string","description":"Only the files of this space"},
    "after":{"type":"string","description":"Only those behind this one; with `space`"}
}}"#;
const DIGEST: &[Parameter] = &[Parameter::new(
    "sha256",
    r#"{"type":"string","pattern":"^[0-9A-Fa-f]{64}$"}"#,
    "The SHA-256 that the content must have; if it has another, nothing is written",
)];
const CONDITIONS: &[Parameter] = &[
    Parameter::new(
        "If-None-Match",
        r#"{"type":"string","enum":["*"]}"#,
        "Only if there is none of this name",
    ),
    Parameter::new("If-Match", TEXT, "Only if it still is this version, in quotes"),
];
const PARTS: &[Parameter] = &[
    Parameter::new("Range", TEXT, "Ranges of bytes, up to eight"),
    Parameter::new("If-Match", TEXT, "Only if it still is this version, in quotes"),
];

/// The operations of the service of files. What is in a file is shown to administrators only, and that they asked is
/// written down.
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
        (503, "file_check_too_long: it cannot be read within 20 s; file_store_unavailable; file_unknown_key; file_other_key"),
    ])
    .cli("files check"),
    Operation::put(
        "files.put",
        "/v1/files/{space}/{name}",
        "Writes a file, or all of a new one in its place",
    )
    .streamed()
    .query(DIGEST)
    .headers(CONDITIONS)
    .answers(&[
        (200, "What is known of the file"),
        (412, "file_changed: there is one, or another one"),
        (413, "file_too_large"),
        (422, "file_bad_name; file_other_digest: the content has another SHA-256 than was said"),
        (503, "file_store_unavailable"),
        (507, "file_space_full; file_too_many; file_store_full"),
    ])
    .cli("files put"),
    Operation::get("files.get", "/v1/files/{space}/{name}/content", "Gives the content of a file")
        .role(Role::Admin)
        .always_audited()
        .headers(PARTS)
        .answers(&[
            (200, "The content, or (206) parts of it"),
            (403, "file_infected: it was found not to be clean, where files are examined; or the token does not allow this"),
            (404, "unknown_file: there is none of this name"),
            (412, "file_changed: it is another version"),
            (416, "range_not_satisfiable"),
            (422, "file_bad_name"),
            (423, "file_quarantined: nobody has found it to be clean yet, where files are examined"),
            (503, "file_store_unavailable; file_unknown_key, file_other_key: this node does not have the key that it is encrypted under"),
        ])
        .cli("files get"),
    Operation::post(
        "files.verify",
        "/v1/files-verify",
        "Reads all files, or those of a space, and tells which are damaged or missing",
    )
    .optional_body(WALK)
    .answers(&[
        (200, "Lines of JSON: how far it is, each file that is not what was written, and at the end a count"),
        (409, "files_verify_under_way: this node reads all files for somebody already"),
        (422, "file_bad_name"),
        (503, "file_store_unavailable"),
    ])
    .cli("files verify"),
    Operation::get(
        "files.orphans",
        "/v1/files-orphans",
        "Lists files that nobody uses, in spaces that want those removed, and what holds for spaces",
    )
    .role(Role::Support)
    .query(PAGE)
    .cli("files orphans")
    .console("files"),
    Operation::get(
        "files.keys",
        "/v1/files-keys",
        "Counts the encrypted files under each key, and tells what that key is to the node that was asked",
    )
    .role(Role::Support)
    .cli("files keys"),
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
