//! The cluster as a whole: settings, maintenance, who leads, locks, tokens, what was done.

use serde_json::Value;

use super::super::paper::{Cell, Paper, Style};
use super::super::show::{self, Show};
use super::super::view::{Part, View, column, table};
use super::list;

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

pub(in super::super) const MIGRATIONS: &[Part] = &[
    Part::Fields(&[
        column("program", "/program", Show::Text),
        column("pending", "/pending", Show::Text),
        column("waits for them", "/waits", Show::Text),
    ]),
    table(
        "/migrations",
        &[
            column("MIGRATION", "/name", Show::Name),
            column("STATE", "/state", Show::State),
            column("APPLIED", "/applied_ms", Show::When),
            column("BY VERSION", "/program", Show::Text),
        ],
        "there are no migrations",
    ),
];

/// What was applied, and what is missing still.
pub(in super::super) fn migrated(answer: &Value, paper: &mut Paper<'_>) {
    let (applied, pending) = (list(answer, "applied"), list(answer, "pending"));
    let rows = [(applied, "applied"), (pending, "pending")];
    let rows = rows.into_iter().flat_map(|(names, state)| {
        names.iter().map(move |name| vec![Cell::plain(show::plain(name)), show::state(state)])
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    match rows.is_empty() {
        true => paper.line("nothing is missing"),
        false => paper.table(&["MIGRATION", "STATE"], &rows),
    }
}

const MAINTENANCE: &[Part] = &[Part::Fields(&[
    column("mode", "/mode", Show::State),
    column("message", "/message", Show::Text),
    column("try again after", "/retry_after_s", Show::Seconds),
    column("set", "", Show::Deed),
    column("until", "/until_ms", Show::When),
    column("bypass", "/bypass", Show::Text),
])];

/// Whether users are kept out, of all nodes and of single ones.
pub(in super::super) fn maintenance(answer: &Value, paper: &mut Paper<'_>) {
    View::Parts(MAINTENANCE).render(answer, paper);
    let now_ms = paper.now_ms();
    let rows: Vec<Vec<Cell>> = answer["nodes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(node, mode)| {
            let until = mode["until_ms"].as_i64().map(|at| show::ago(at, now_ms));
            vec![
                Cell::new(node, Style::Bold),
                Show::State.cell(&mode["mode"], now_ms),
                Cell::plain(until.unwrap_or_default()),
                Show::Deed.cell(mode, now_ms),
            ]
        })
        .collect();
    if !rows.is_empty() {
        paper.heading("single nodes");
        paper.table(&["NODE", "MODE", "UNTIL", "SET"], &rows);
    }
}

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maintenance_is_told_of_all_nodes_and_of_single_ones() {
        let answer = json!({
            "mode": "read_only", "message": "back soon", "by": "operator", "why": "upgrade", "at_ms": 4_000,
            "until_ms": null, "retry_after_s": 90, "bypass": false,
            "nodes": { "b": { "mode": "full", "by": "admin", "why": "disk", "at_ms": 4_000, "until_ms": 70_000 } },
        });
        let mut text = String::new();
        maintenance(&answer, &mut Paper::plain(&mut text, 5_000));
        let expected = "\
mode             read_only
message          back soon
try again after  1 min 30 s
set              by operator, 1 s ago: upgrade
bypass           no

single nodes
NODE  MODE  UNTIL     SET
b     full  in 1 min  by admin, 1 s ago: disk
";
        assert_eq!(text, expected);
    }
}
