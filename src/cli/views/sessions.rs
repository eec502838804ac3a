//! Sessions: what is around them.

use super::super::show::Show;
use super::super::view::{Part, column, table};

pub(in super::super) const SESSIONS: &[Part] = &[
    Part::Fields(&[column("total", "/total", Show::Text)]),
    table(
        "/sessions",
        &[
            column("SESSION", "/id", Show::Text),
            column("USER", "/user", Show::Name),
            column("NODE", "/lease/node", Show::Node),
            column("MADE", "/created_ms", Show::Ago),
            column("CHANGED", "/changed_ms", Show::Ago),
            column("ENDS", "/expires_ms", Show::Ago),
            column("SIZE", "/bytes", Show::Bytes),
            column("", "/lease/live", Show::Unless("the node is gone")),
        ],
        "there are no such sessions",
    ),
];

pub(in super::super) const ONLINE: &[Part] = &[
    Part::Fields(&[
        column("users", "/total", Show::Text),
        column("guests", "/guests", Show::Text),
        column("within", "/within_s", Show::Seconds),
    ]),
    table(
        "/users",
        &[column("USER", "/user", Show::Name), column("SEEN", "/seen_ms", Show::Ago)],
        "nobody was here",
    ),
];

pub(in super::super) const SESSION: &[Part] = &[Part::Fields(&[
    column("session", "/id", Show::Name),
    column("user", "/user", Show::Text),
    column("owner", "/owner", Show::Text),
    column("epoch", "/epoch", Show::Text),
    column("version", "/version", Show::Text),
    column("node", "/lease/node", Show::Node),
    column("node lives", "/lease/live", Show::Text),
    column("made", "/created_ms", Show::When),
    column("changed", "/changed_ms", Show::When),
    column("ends", "/expires_ms", Show::When),
    column("size", "/bytes", Show::Bytes),
])];
