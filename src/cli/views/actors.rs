//! Actors: what they do, and what took them long.

use super::super::show::Show;
use super::super::view::{Part, column, table, titled};

pub(in super::super) const ACTORS: &[Part] = &[
    table(
        "/actors",
        &[
            column("TYPE", "/type", Show::Name),
            column("NODE", "/node", Show::Text),
            column("LIVE", "/live", Show::Text),
            column("WAITING", "/waiting", Show::Text),
            column("FOR ONE", "/waiting_max", Show::Text),
            column("HANDLED", "/handled", Show::Text),
            column("P50", "/p50_ms", Show::Millis),
            column("P99", "/p99_ms", Show::Millis),
            column("SLOWEST", "/max_ms", Show::Millis),
            column("RESTARTS", "/restarts", Show::Text),
        ],
        "no node told of an actor",
    ),
    titled(
        "background tasks",
        "/tasks",
        &[
            column("TASK", "/name", Show::Name),
            column("NODE", "/node", Show::Text),
            column("RUNNING", "/running", Show::Text),
            column("RESTARTS", "/restarts", Show::Text),
        ],
    ),
    titled("did not answer", "/unreachable", SILENT),
];

pub(in super::super) const SLOW: &[Part] = &[
    table(
        "/slow",
        &[
            column("TOOK", "/took_ms", Show::Millis),
            column("TYPE", "/type", Show::Name),
            column("MESSAGE", "/message", Show::Text),
            column("ACTOR", "/actor", Show::Text),
            column("NODE", "/node", Show::Text),
            column("WHEN", "/at_ms", Show::Ago),
        ],
        "no message was handled in the last 15 minutes",
    ),
    titled("did not answer", "/unreachable", SILENT),
];

const SILENT: &[super::super::view::Column] = &[column("NODE", "", Show::Text)];
