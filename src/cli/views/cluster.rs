//! The cluster as a whole: settings, maintenance, who leads, locks, tokens, what was done.

use super::super::show::Show;
use super::super::view::{Part, column, table};

pub(in super::super) const SETTINGS: &[Part] = &[
    Part::Fields(&[column("revision", "/revision", Show::Text)]),
    table(
        "/settings",
        &[
            column("SETTING", "/name", Show::Name),
            column("VALUE", "/value", Show::Text),
            column("DEFAULT", "/default", Show::Text),
            column("SET", "/at_ms", Show::Ago),
            column("BY", "/by", Show::Text),
            column("WHY", "/why", Show::Text),
            column("UNTIL", "/until_ms", Show::Ago),
            column("MEANING", "/meaning", Show::Text),
        ],
        "nothing can be set",
    ),
];

pub(in super::super) const MAINTENANCE: &[Part] = &[Part::Fields(&[
    column("mode", "/mode", Show::State),
    column("message", "/message", Show::Text),
    column("try again after", "/retry_after_s", Show::Seconds),
    column("set", "", Show::Deed),
    column("until", "/until_ms", Show::When),
    column("single nodes", "/nodes", Show::Labels),
    column("bypass", "/bypass", Show::Text),
])];

pub(in super::super) const LEADER: &[Part] = &[Part::Fields(&[
    column("leader", "/leaderNodeId", Show::Name),
    column("since", "/since_ms", Show::When),
    column("term", "/epoch", Show::Text),
    column("lease ends in", "/expires_in_ms", Show::Span),
    column("asked", "/currentNodeId", Show::Text),
    column("its state", "/state", Show::State),
    column("may lead", "/eligible", Show::Text),
    column("priority", "/priority", Show::Text),
    column("maintenance", "/maintenance", Show::Text),
    column("frozen", "/frozen", Show::Text),
    column("holds until", "/hold_until_ms", Show::When),
    column("trouble", "/trouble", Show::Text),
])];

pub(in super::super) const TERMS: &[Part] = &[table(
    "/terms",
    &[
        column("TERM", "/epoch", Show::Text),
        column("NODE", "/node", Show::Node),
        column("BEGAN", "/started_ms", Show::When),
        column("ENDED", "/ended_ms", Show::When),
        column("NOBODY BEFORE", "/gap_ms", Show::Span),
        column("REASON", "/reason", Show::Text),
    ],
    "nobody has led yet",
)];

/// One of the switches of the cluster.
pub(in super::super) const SWITCH: &[Part] =
    &[Part::Fields(&[column("value", "/value", Show::Text), column("set", "", Show::Deed)])];

pub(in super::super) const LOCKS: &[Part] = &[table(
    "/locks",
    &[
        column("LOCK", "/name", Show::Name),
        column("NODE", "/node", Show::Node),
        column("TOKEN", "/token", Show::Text),
        column("HELD", "/acquired_ms", Show::Ago),
        column("LEFT", "/remaining_ms", Show::Span),
    ],
    "no lock is held",
)];

pub(in super::super) const AUDIT: &[Part] = &[table(
    "/entries",
    &[
        column("ID", "/id", Show::Text),
        column("WHEN", "/at_ms", Show::When),
        column("BY", "/by", Show::Text),
        column("ROLE", "/role", Show::Text),
        column("OUTCOME", "/outcome", Show::State),
        column("STATUS", "/status", Show::Text),
        column("ADDRESS", "/address", Show::Text),
        column("NODE", "/node", Show::Node),
        column("ACTION", "/action", Show::Text),
        column("TARGET", "/target", Show::Text),
        column("NOTE", "/note", Show::Text),
    ],
    "nothing of this kind was done",
)];

pub(in super::super) const TOKENS: &[Part] = &[table(
    "/tokens",
    &[
        column("ID", "/id", Show::Text),
        column("NAME", "/name", Show::Name),
        column("ROLE", "/role", Show::Text),
        column("MADE", "/created_ms", Show::Ago),
        column("BY", "/created_by", Show::Text),
        column("USED", "/used_ms", Show::Ago),
        column("ENDS", "/expires_ms", Show::Ago),
        column("REVOKED", "/revoked_ms", Show::Ago),
    ],
    "there are no tokens",
)];

pub(in super::super) const NEW_TOKEN: &[Part] = &[Part::Fields(&[
    column("id", "/id", Show::Text),
    column("name", "/name", Show::Name),
    column("role", "/role", Show::Text),
    column("ends", "/expires_ms", Show::When),
    column("token", "/token", Show::Text),
])];
