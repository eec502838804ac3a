//! Nodes, their options, and their requests.

use serde_json::Value;

use super::super::paper::{Cell, Paper, Style};
use super::super::show::{self, Show};
use super::super::view::{Part, column, table, titled};
use super::{list, text};

pub(in super::super) const ABOUT: &[Part] = &[
    Part::Fields(&[
        column("node", "/node", Show::Name),
        column("cluster", "/cluster", Show::Text),
        column("version", "/version", Show::Text),
        column("phase", "/phase", Show::State),
        column("ready", "/ready", Show::Text),
        column("started", "/started_ms", Show::When),
        column("process", "/pid", Show::Text),
    ]),
    titled("not ready because", "/reasons", REASONS),
    titled("services", "/services", SERVICES),
    titled("warnings", "/warnings", &[column("", "", Show::Text)]),
];

const REASONS: &[super::super::view::Column] =
    &[column("CODE", "/code", Show::Text), column("DETAIL", "/detail", Show::Text)];
const SERVICES: &[super::super::view::Column] = &[
    column("SERVICE", "/name", Show::Text),
    column("HEALTH", "/health", Show::State),
    column("REASON", "/reason", Show::Text),
];

pub(in super::super) const NODES: &[Part] = &[table(
    "/nodes",
    &[
        column("NODE", "/record/id", Show::Node),
        column("STATE", "/record/state", Show::State),
        column("SEEN", "/age_ms", Show::Span),
        column("STARTED", "/record/started_ms", Show::Ago),
        column("VERSION", "/record/version", Show::Text),
        column("HOST", "/record/host", Show::Text),
        column("PID", "/record/pid", Show::Text),
        column("PUBLIC", "/record/public_addr", Show::Text),
        column("ADMIN", "/record/admin_addr", Show::Text),
        column("OPTIONS", "/record/config_hash", Show::Text),
        column("LABELS", "/record/labels", Show::Labels),
        column("", "/live", Show::Unless("silent")),
    ],
    "no node is known yet",
)];

pub(in super::super) const NODE: &[Part] = &[
    Part::Fields(&[
        column("node", "/node", Show::Name),
        column("life", "/record/id", Show::Text),
        column("live", "/live", Show::Text),
        column("seen", "/age_ms", Show::Span),
        column("state", "/record/state", Show::State),
        column("phase", "/detail/phase", Show::State),
        column("ready", "/detail/ready", Show::Text),
        column("drained", "/detail/drained", Show::Deed),
        column("version", "/record/version", Show::Text),
        column("host", "/record/host", Show::Text),
        column("process", "/record/pid", Show::Text),
        column("started", "/record/started_ms", Show::When),
        column("public port", "/record/public_addr", Show::Text),
        column("admin port", "/record/admin_addr", Show::Text),
        column("labels", "/record/labels", Show::Labels),
        column("options", "/record/config_hash", Show::Text),
        column("settings", "/detail/settings_revision", Show::Text),
        column("requests", "/detail/requests_under_way", Show::Text),
        column("memory", "/detail/rss_bytes", Show::Bytes),
        column("open files", "/detail/open_files", Show::Text),
        column("processor", "/detail/cpu_seconds", Show::Seconds),
        column("Redis", "/detail/redis/connected", Show::Text),
        column("Redis answers in", "/detail/redis/rtt_ms", Show::Span),
        column("database", "/detail/database/up", Show::Text),
        column("pauses", "/detail/pauses/count", Show::Text),
        column("longest pause", "/detail/pauses/longest_ms", Show::Span),
    ]),
    titled("not ready because", "/detail/reasons", REASONS),
    titled("services", "/detail/services", SERVICES),
];

pub(in super::super) const RESTART: &[Part] = &[
    Part::Fields(&[column("run", "/run", Show::Text), column("state", "/state", Show::State)]),
    table(
        "/nodes",
        &[
            column("NODE", "/node", Show::Node),
            column("STATE", "/state", Show::State),
            column("SINCE", "/since_ms", Show::Ago),
        ],
        "",
    ),
];

pub(in super::super) const REQUESTS: &[Part] =
    &[table("/requests", REQUEST, "no request is under way")];

const REQUEST: &[super::super::view::Column] = &[
    column("ID", "/id", Show::Text),
    column("AGE", "/age_ms", Show::Span),
    column("CLIENT", "/client", Show::Text),
    column("METHOD", "/method", Show::Text),
    column("PATH", "/path", Show::Text),
];

pub(in super::super) const TASKS: &[Part] = &[
    Part::Fields(&[
        column("node", "/node", Show::Name),
        column("at", "/at_ms", Show::When),
        column("threads", "/threads/count", Show::Text),
        column("busy", "/threads/busy", Show::Text),
        column("tasks", "/threads/alive_tasks", Show::Text),
        column("queued", "/threads/queued", Show::Text),
        column("blocked workers", "/blocked_workers", Show::Text),
        column("leases held", "/leases/held", Show::Text),
        column("of", "/leases/buckets", Show::Text),
        column("shortest lease", "/leases/shortest_ms", Show::Span),
        column("pauses", "/pauses/count", Show::Text),
        column("longest pause", "/pauses/longest_ms", Show::Span),
        column("did not answer", "/silent", Show::Text),
    ]),
    titled(
        "tasks",
        "/tasks",
        &[
            column("TASK", "/name", Show::Text),
            column("STATE", "/state", Show::State),
            column("SINCE", "/since_ms", Show::Ago),
            column("RESTARTS", "/restarts", Show::Text),
            column("STOPPED", "/last_stop/at_ms", Show::Ago),
            column("BECAUSE", "/last_stop/why", Show::Text),
        ],
    ),
    titled(
        "work under way",
        "/work",
        &[
            column("KIND", "/kind", Show::Text),
            column("ID", "/id", Show::Text),
            column("OF", "/of", Show::Text),
            column("SINCE", "/since_ms", Show::Ago),
        ],
    ),
    titled("requests under way", "/requests", REQUEST),
    titled(
        "locks held",
        "/locks",
        &[
            column("LOCK", "/name", Show::Text),
            column("TOKEN", "/token", Show::Text),
            column("TRUSTED FOR", "/trusted_ms", Show::Span),
        ],
    ),
];

/// Whether a node can be stopped, with the reasons against it.
pub(in super::super) fn safe_to_stop(answer: &Value, paper: &mut Paper<'_>) {
    let node = text(answer, "node").to_owned();
    match answer["safe"] == true {
        true => paper.cells(&[Cell::plain(node), Cell::new("can be stopped", Style::Good)]),
        false => paper.cells(&[Cell::plain(node), Cell::new("must not be stopped", Style::Bad)]),
    }
    for reason in list(answer, "reasons") {
        paper.paragraph(2, &Cell::plain(show::plain(&reason["text"])));
    }
    for note in list(answer, "notes") {
        paper.paragraph(2, &Cell::new(show::plain(note), Style::Dim));
    }
}

/// What became of a request that was to be cancelled.
pub(in super::super) fn cancelled(answer: &Value, paper: &mut Paper<'_>) {
    match text(answer, "will_be_cancelled") {
        "" => paper.line("the request is cancelled"),
        _ => paper.line("the request will be cancelled when its worker answers"),
    }
}

/// Options with their values, by name; what was not set is dimmed.
pub(in super::super) fn options(answer: &Value, paper: &mut Paper<'_>) {
    let head = [("node", &answer["node"]), ("fingerprint", &answer["fingerprint"])];
    let head = head.into_iter().filter(|(_, value)| !value.is_null());
    let head: Vec<_> =
        head.map(|(name, value)| (name.to_owned(), Cell::plain(show::plain(value)))).collect();
    paper.fields(&head);
    let rows: Vec<Vec<Cell>> = answer["options"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| {
            let source = text(&answer["sources"], name);
            let style =
                if matches!(source, "default" | "derived") { Style::Dim } else { Style::Plain };
            let value = match show::plain(value) {
                empty if empty.is_empty() => "-".to_owned(),
                value => value,
            };
            vec![Cell::new(name, style), Cell::new(source, style), Cell::new(value, style)]
        })
        .collect();
    paper.table(&["OPTION", "FROM", "VALUE"], &rows);
}

/// What differs between nodes.
pub(in super::super) fn drift(answer: &Value, paper: &mut Paper<'_>) {
    if answer["drift"] != true {
        paper.cells(&[Cell::new("all nodes have the same options", Style::Good)]);
    }
    let mut rows = Vec::new();
    for difference in list(answer, "differences") {
        let mut option = show::plain(&difference["option"]);
        for (node, value) in difference["values"].as_object().into_iter().flatten() {
            let name = Cell::new(std::mem::take(&mut option), Style::Bold);
            rows.push(vec![name, Cell::plain(node.as_str()), Cell::plain(show::plain(value))]);
        }
    }
    if !rows.is_empty() {
        paper.table(&["OPTION", "NODE", "VALUE"], &rows);
    }
    for node in list(answer, "unreachable") {
        paper.cells(&[Cell::plain(show::plain(node)), Cell::new("did not answer", Style::Warn)]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(render: fn(&Value, &mut Paper<'_>), answer: &Value) -> String {
        let mut text = String::new();
        render(answer, &mut Paper::plain(&mut text, 0));
        text
    }

    #[test]
    fn reasons_against_a_stop_are_listed() {
        let answer = json!({
            "node": "a", "safe": false,
            "reasons": [{ "code": "last_node", "text": "no other node is ready" }],
            "notes": ["it leads"],
        });
        let told = shown(safe_to_stop, &answer);
        assert_eq!(told, "a must not be stopped\n  no other node is ready\n  it leads\n");
        let told = shown(safe_to_stop, &json!({ "node": "a", "safe": true }));
        assert_eq!(told, "a can be stopped\n");
    }

    #[test]
    fn a_request_that_is_cancelled_later_is_not_called_cancelled() {
        let now = json!({ "node": "a", "cancelled": "00abcd-0-1" });
        assert_eq!(shown(cancelled, &now), "the request is cancelled\n");
        let later = json!({ "node": "a", "will_be_cancelled": "00abcd-0-1", "detail": "x" });
        assert!(shown(cancelled, &later).contains("will be cancelled when its worker answers"));
    }

    #[test]
    fn options_are_told_with_where_they_come_from() {
        let answer = json!({
            "node": "a", "fingerprint": "0123",
            "options": { "A": "1", "LONGER": "" }, "sources": { "A": "environment", "LONGER": "default" },
        });
        let expected = "\
node         a
fingerprint  0123

OPTION  FROM         VALUE
A       environment  1
LONGER  default      -
";
        assert_eq!(shown(options, &answer), expected);
    }

    #[test]
    fn what_differs_is_told_by_option_and_node() {
        let answer = json!({
            "drift": true, "unreachable": ["c"],
            "differences": [{ "option": "X", "values": { "a": "1", "b": "2" } }],
        });
        let expected = "OPTION  NODE  VALUE\nX       a     1\n        b     2\nc did not answer\n";
        assert_eq!(shown(drift, &answer), expected);
        assert_eq!(shown(drift, &json!({ "drift": false })), "all nodes have the same options\n");
    }
}
