//! The cache: what its regions hold and did, and what became of forgetting it.

use super::super::show::Show;
use super::super::view::{Column, Part, column, table, titled};

pub(in super::super) const CACHES: &[Part] = &[
    table(
        "/caches",
        &[
            column("REGION", "/region", Show::Name),
            column("NODE", "/node", Show::Text),
            column("VALUES", "/entries", Show::Text),
            column("SIZE", "/bytes", Show::Bytes),
            column("MOST", "/max_bytes", Show::Bytes),
            column("MEMORY", "/memory", Show::Text),
            column("REDIS", "/redis", Show::Text),
            column("LOADED", "/loaded", Show::Text),
            column("NOT KEPT", "/unkept", Show::Text),
            column("STALE", "/stale", Show::Text),
            column("EVICTED", "/evicted", Show::Text),
            column("FORGOTTEN", "/forgotten", Show::Text),
            column("CLEARED", "/cleared", Show::Text),
            column("", "/trusted", Show::Unless("hears of no changes")),
        ],
        "no node has opened a region of the cache",
    ),
    titled("did not answer", "/unreachable", NODES),
];

pub(in super::super) const FORGOTTEN: &[Part] = &[
    table(
        "/caches",
        &[
            column("REGION", "/region", Show::Name),
            column("NODE", "/node", Show::Text),
            column("VALUES LEFT", "/entries", Show::Text),
        ],
        "no node has said that it has forgotten it",
    ),
    titled("hear of it within two seconds", "/behind", NODES),
    titled("did not answer, and hear of it within two seconds", "/unreachable", NODES),
];

const NODES: &[Column] = &[column("NODE", "", Show::Text)];
