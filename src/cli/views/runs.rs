//! Runs: lists, one in full, how far it is, its log.

use serde_json::Value;

use super::super::paper::{Cell, Paper, Style};
use super::super::show::{self, Show};
use super::super::view::{Column, Part, column, table, titled};
use super::{jobs, list, text};

pub(in super::super) const RUNS: &[Part] = &[table("/runs", jobs::RUNS, "there are no such runs")];

const STAGES: &[Column] = &[
    column("STAGE", "/name", Show::Text),
    column("DONE", "/done", Show::Text),
    column("OF", "/total", Show::Text),
    column("FAILED", "/failed", Show::Text),
    column("BEGAN", "/started_ms", Show::Ago),
    column("ENDED", "/ended_ms", Show::Ago),
    column("NOW", "/item", Show::Text),
];
const ATTEMPTS: &[Column] = &[
    column("TRY", "/attempt", Show::Text),
    column("NODE", "/node", Show::Node),
    column("STARTED", "/started_ms", Show::Ago),
    column("ENDED", "/ended_ms", Show::Ago),
    column("OUTCOME", "/outcome", Show::State),
    column("ERROR", "/error", Show::Text),
];

pub(in super::super) const RUN: &[Part] = &[
    Part::Fields(&[
        column("run", "/id", Show::Name),
        column("job", "/job", Show::Name),
        column("state", "/state", Show::State),
        column("cause", "/cause", Show::Text),
        column("due", "/fire_ms", Show::When),
        column("not before", "/not_before_ms", Show::When),
        column("started", "/started_ms", Show::When),
        column("ended", "/finished_ms", Show::When),
        column("attempt", "/attempt", Show::Text),
        column("node", "/node", Show::Node),
        column("sign of life", "/heartbeat_ms", Show::Ago),
        column("asked to end", "/cancel_ms", Show::When),
        column("asked by", "/cancel_by", Show::Text),
        column("handler", "/handler", Show::Text),
        column("placement", "/placement", Show::Text),
        column("priority", "/priority", Show::Text),
        column("parameters", "/params", Show::Text),
        column("result", "/result", Show::Text),
    ]),
    Part::Text { title: "error", at: "/error" },
    titled("progress", "/progress/stages", STAGES),
    titled("earlier attempts", "/attempts", ATTEMPTS),
];

pub(in super::super) const PROGRESS: &[Part] = &[
    Part::Fields(&[
        column("run", "/run", Show::Name),
        column("state", "/state", Show::State),
        column("attempt", "/attempt", Show::Text),
    ]),
    table("/progress/stages", STAGES, "it has not told how far it is"),
];

pub(in super::super) const ERRORS: &[Part] = &[
    Part::Fields(&[column("run", "/run", Show::Name), column("state", "/state", Show::State)]),
    Part::Text { title: "error", at: "/error" },
    table("/attempts", ATTEMPTS, "nothing went wrong"),
];

/// The lines of a log.
pub(in super::super) fn log(answer: &Value, paper: &mut Paper<'_>) {
    for line in list(answer, "lines") {
        let level = text(line, "level");
        let style = match level {
            "error" => Style::Bad,
            "warn" => Style::Warn,
            "debug" => Style::Dim,
            _ => Style::Plain,
        };
        let at = line["at_ms"].as_i64().map(show::clock_time).unwrap_or_default();
        let attempt = match line["attempt"].as_i64() {
            Some(attempt) if attempt > 1 => format!("({attempt})"),
            Some(_) | None => String::new(),
        };
        paper.cells(&[
            Cell::new(at, Style::Dim),
            Cell::plain(attempt),
            Cell::new(format!("{level:<5}"), style),
            Cell::plain(text(line, "line")),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_log_has_a_line_for_each_line() {
        let answer = json!({ "lines": [
            { "attempt": 1, "at_ms": 1_700_000_000_000_i64, "level": "info", "line": "begun" },
            { "attempt": 2, "at_ms": 1_700_000_001_000_i64, "level": "error", "line": "a\u{1b}b" },
        ] });
        let mut text = String::new();
        log(&answer, &mut Paper::plain(&mut text, 0));
        assert_eq!(text, "22:13:20 info  begun\n22:13:21 (2) error a\\u{1b}b\n");
    }
}
