//! Verbs about files that every node sees. What is in a file is never shown: it goes into files, or to other programs.

use super::super::verb::{Kind, Manner, Parameter, Verb};
use super::super::view::View;
use super::super::views;
use super::LIMIT;

const SPACE: Parameter = Parameter::path("space", "SPACE", "Name of the space, from `files`");
const FILE: Parameter = Parameter::path("name", "FILE", "Name of the file, from `files list`");

const NEW_SPACE: Parameter = Parameter::path("space", "SPACE", "Name of the space");
const NEW_FILE: Parameter = Parameter::path("name", "FILE", "Name of the file in it");

pub(super) const VERBS: &[Verb] = &[
    Verb::get("files.spaces", "files", "/v1/files", "Lists the spaces in which there are files")
        .with(&[Parameter::query("after", Kind::Text("SPACE"), "Those behind this one"), LIMIT])
        .pages("spaces")
        .view(View::Parts(views::files::SPACES)),
    Verb::get("files.list", "files list", "/v1/files/{space}", "Lists the files of a space")
        .with(&[
            SPACE,
            Parameter::query("after", Kind::Text("FILE"), "Those behind this one"),
            LIMIT,
        ])
        .pages("files")
        .view(View::Parts(views::files::FILES)),
    Verb::get(
        "files.show",
        "files show",
        "/v1/files/{space}/{name}",
        "Shows what is known of a file",
    )
    .with(&[SPACE, FILE])
    .view(View::Parts(views::files::FILE)),
    Verb::delete("files.delete", "files delete", "/v1/files/{space}/{name}", "Removes a file")
        .with(&[SPACE, FILE])
        .asks("The file is gone for everybody, and its content is removed ten minutes later."),
    Verb::post(
        "files.check",
        "files check",
        "/v1/files/{space}/{name}/check",
        "Reads a file and compares it with its digest",
    )
    .with(&[SPACE, FILE])
    .view(View::Parts(views::files::CHECKED)),
    Verb::put(
        "files.put",
        "files put",
        "/v1/files/{space}/{name}",
        "Writes a file, or all of a new one in its place",
    )
    .with(&[
        NEW_SPACE,
        NEW_FILE,
        Parameter::query("Content-Type", Kind::Text("TYPE"), "Its type, such as image/png")
            .called("type")
            .header(),
        Parameter::query("If-None-Match", Kind::Mark("*"), "Only if there is none of this name")
            .called("if-absent")
            .header(),
        Parameter::query("If-Match", Kind::Text("VERSION"), "Only if it still is this version")
            .called("if-version")
            .header(),
    ])
    .view(View::Parts(views::files::FILE))
    .manner(Manner::Upload),
    Verb::get(
        "files.get",
        "files get",
        "/v1/files/{space}/{name}/content",
        "Gives the content of a file",
    )
    .with(&[SPACE, FILE])
    .manner(Manner::Download),
    Verb::post(
        "files.verify",
        "files verify",
        "/v1/files-verify",
        "Reads all files where they lie, and tells which are damaged or missing; 1 if any is",
    )
    .with(&[
        Parameter::body("space", Kind::Text("SPACE"), "Only those of this space"),
        Parameter::body("after", Kind::Text("FILE"), "Only those behind this one of the space"),
    ])
    .manner(Manner::Verify),
    Verb::get(
        "files.orphans",
        "files orphans",
        "/v1/files-orphans",
        "Lists files that nobody uses, in spaces that want those removed",
    )
    .with(&[Parameter::query("after", Kind::Text("SPACE/FILE"), "Those behind this one"), LIMIT])
    .pages("orphans")
    .view(View::Parts(views::files::ORPHANS)),
    Verb::get(
        "files.keys",
        "files keys",
        "/v1/files-keys",
        "Counts the encrypted files under each key",
    )
    .view(View::Parts(views::files::KEYS)),
    Verb::post(
        "files.gc",
        "files gc",
        "/v1/files-orphans/collect",
        "Removes files that nobody uses, in spaces that want that, up to 1,000",
    )
    .with(&[
        Parameter::query("dry_run", Kind::Flag, "Only tell how many there are").called("dry-run")
    ])
    .view(View::Parts(views::files::COLLECTED)),
];
