//! Files that every node sees: how much is where.

use super::super::show::Show;
use super::super::view::{Part, column, table, titled};

pub(in super::super) const SPACES: &[Part] = &[table(
    "/spaces",
    &[
        column("SPACE", "/name", Show::Name),
        column("FILES", "/files", Show::Text),
        column("SIZE", "/bytes", Show::Bytes),
    ],
    "there are no files",
)];

pub(in super::super) const FILES: &[Part] = &[table(
    "/files",
    &[
        column("FILE", "/name", Show::Name),
        column("SIZE", "/bytes", Show::Bytes),
        column("WRITTEN", "/created_ms", Show::Ago),
        column("TYPE", "/content_type", Show::Text),
        column("VERDICT", "/verdict/state", Show::State),
        column("WHY", "/verdict/reason", Show::Text),
        column("EXAMINED", "/verdict/at_ms", Show::Ago),
    ],
    "there are no such files",
)];

pub(in super::super) const FILE: &[Part] = &[Part::Fields(&[
    column("space", "/space", Show::Name),
    column("file", "/name", Show::Name),
    column("size", "/bytes", Show::Bytes),
    column("type", "/content_type", Show::Text),
    column("written", "/created_ms", Show::When),
    column("version", "/version", Show::Text),
    column("sha256", "/sha256", Show::Text),
    column("verdict", "/verdict/state", Show::State),
    column("why", "/verdict/reason", Show::Text),
    column("examined", "/verdict/at_ms", Show::When),
    column("key", "/encryption/key", Show::Text),
    column("opens here", "/encryption/opens", Show::Text),
])];

pub(in super::super) const CHECKED: &[Part] = &[Part::Fields(&[
    column("intact", "/intact", Show::Text),
    column("file", "/file/name", Show::Name),
    column("size", "/file/bytes", Show::Bytes),
    column("sha256", "/file/sha256", Show::Text),
])];

pub(in super::super) const ORPHANS: &[Part] = &[
    table(
        "/orphans",
        &[
            column("SPACE", "/space", Show::Name),
            column("FILE", "/name", Show::Name),
            column("SIZE", "/bytes", Show::Bytes),
            column("UNUSED SINCE", "/unused_ms", Show::Ago),
        ],
        "there is no file that nobody uses",
    ),
    titled(
        "what holds for spaces",
        "/rules",
        &[
            column("SPACE", "/space", Show::Name),
            column("UNUSED FOR", "/unused_seconds", Show::Seconds),
            column("CONTENTS", "/sharing", Show::Text),
            column("MOST BYTES", "/max_bytes", Show::Bytes),
            column("MOST FILES", "/max_files", Show::Text),
        ],
    ),
];

pub(in super::super) const KEYS: &[Part] = &[table(
    "/keys",
    &[
        column("KEY", "/key", Show::Name),
        column("FILES", "/files", Show::Text),
        column("HERE", "/role", Show::Text),
    ],
    "no file is encrypted",
)];

pub(in super::super) const COLLECTED: &[Part] = &[Part::Fields(&[
    column("only counted", "/dry_run", Show::Text),
    column("looked at", "/looked", Show::Text),
    column("nobody used", "/orphans", Show::Text),
    column("their size", "/bytes", Show::Bytes),
    column("removed", "/removed", Show::Text),
    column("used after all", "/kept", Show::Text),
    column("failed", "/failed", Show::Text),
    column("there is more", "/more", Show::Text),
])];
