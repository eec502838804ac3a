//! Jobs and the scheduler.

use serde_json::Value;

use super::super::paper::{Cell, Paper, Style};
use super::super::show::{self, Show};
use super::super::view::{Column, Part, column, table, titled};
use super::{list, text};

pub(in super::super) const JOBS: &[Part] = &[table(
    "/jobs",
    &[
        column("JOB", "/name", Show::Name),
        column("LAST", "/last_fire_ms", Show::Ago),
        column("STATE", "/last_state", Show::State),
        column("NEXT", "/next_fire_ms", Show::Ago),
        column("FROM", "/origin", Show::Text),
        column("", "/enabled", Show::Unless("off")),
        column("PAUSED", "/paused", Show::Deed),
        column("SCHEDULE", "/words", Show::Text),
    ],
    "there are no jobs",
)];

pub(in super::super) const DUE: &[Part] = &[table(
    "/due",
    &[
        column("DUE", "/fire_ms", Show::When),
        column("JOB", "/job", Show::Name),
        column("NODE", "/scope", Show::Text),
        column("", "/enabled", Show::Unless("off")),
        column("", "/paused", Show::If("paused")),
    ],
    "nothing is due soon",
)];

pub(super) const RUNS: &[Column] = &[
    column("RUN", "/id", Show::Text),
    column("JOB", "/job", Show::Name),
    column("STATE", "/state", Show::State),
    column("DUE", "/fire_ms", Show::Ago),
    column("STARTED", "/started_ms", Show::Ago),
    column("ENDED", "/finished_ms", Show::Ago),
    column("TRY", "/attempt", Show::Text),
    column("CAUSE", "/cause", Show::Text),
    column("NODE", "/node", Show::Node),
    column("ERROR", "/error", Show::Text),
];

pub(in super::super) const JOB: &[Part] = &[
    Part::Fields(&[
        column("job", "/name", Show::Name),
        column("description", "/spec/description", Show::Text),
        column("schedule", "/words", Show::Text),
        column("handler", "/spec/handler", Show::Text),
        column("placement", "/spec/placement", Show::Text),
        column("enabled", "/enabled", Show::Text),
        column("paused", "/paused", Show::Deed),
        column("from", "/origin", Show::Text),
        column("edited", "/edited", Show::If("yes: `job revert` undoes it")),
        column("revision", "/revision", Show::Text),
        column("changed", "/changed_ms", Show::When),
        column("changed by", "/changed_by", Show::Text),
        column("last", "/last_fire_ms", Show::When),
        column("last state", "/last_state", Show::State),
        column("next", "/next_fire_ms", Show::When),
        column("parameters", "/spec/params", Show::Text),
        column("labels", "/spec/labels", Show::Labels),
        column("missed times", "/spec/misfire/policy", Show::Text),
        column("overlap", "/spec/overlap/policy", Show::Text),
        column("longest run", "/spec/timeout_ms", Show::Span),
        column("retries", "/spec/retry/retries", Show::Text),
        column("then", "/spec/then", Show::Text),
    ]),
    titled("latest runs", "/runs", RUNS),
];

pub(in super::super) const PREVIEW: &[Part] = &[
    Part::Fields(&[column("schedule", "/words", Show::Text), column("zone", "/zone", Show::Text)]),
    table(
        "/fires",
        &[
            column("DUE", "/at_ms", Show::When),
            column("LOCAL", "/local", Show::Text),
            column("", "/skipped", Show::If("skipped")),
            column("NOTE", "/note", Show::Text),
        ],
        "it is never due by itself",
    ),
];

pub(in super::super) const SCHEDULER: &[Part] = &[
    Part::Fields(&[
        column("leader", "/leaderNodeId", Show::Name),
        column("nobody leads", "/leaderless", Show::If("yes: nothing starts")),
        column("paused", "/paused", Show::Text),
        column("pause", "/switches/pause", Show::Deed),
        column("jobs enabled", "/switches/jobs_enabled/value", Show::Text),
        column("frozen", "/switches/frozen", Show::Deed),
        column("database time", "/now_ms", Show::When),
        column("time zones", "/tzdb", Show::Text),
        column("under way", "/runs", Show::Labels),
    ]),
    titled(
        "nodes",
        "/nodes",
        &[
            column("NODE", "/name", Show::Name),
            column("", "/leader", Show::If("leads")),
            column("", "/maintenance", Show::If("maintenance")),
            column("", "/takes_jobs", Show::Unless("takes no jobs")),
            column("SEEN", "/seen_ms", Show::Ago),
            column("CLOCK", "/offset_ms", Show::Span),
            column("ZONES", "/tzdb", Show::Text),
            column("LABELS", "/labels", Show::Labels),
            column("HANDLERS", "/handlers", Show::Text),
        ],
    ),
    titled(
        "maintenance",
        "/maintenance",
        &[column("NODE", "/node", Show::Name), column("SET", "", Show::Deed)],
    ),
];

/// Why a job did or did not run: the sentence first, then what it is drawn from.
pub(in super::super) fn explanation(answer: &Value, paper: &mut Paper<'_>) {
    let verdict = text(answer, "verdict");
    let style = match verdict {
        "ran" => Style::Good,
        "decided" | "pending" => Style::Warn,
        _ => Style::Plain,
    };
    paper.cells(&[
        Cell::new(format!("{}:", verdict.replace('_', " ")), style),
        Cell::plain(text(answer, "text")),
    ]);
    let now_ms = paper.now_ms();
    let moment = |name: &str| {
        let at = answer[name].as_i64()?;
        Some(Cell::plain(show::when(at, now_ms)))
    };
    let term = &answer["term"];
    let led = (!term.is_null()).then(|| Show::Node.cell(&term["node"], now_ms));
    let fields = [
        ("job", Some(Cell::new(text(answer, "job"), Style::Bold))),
        ("asked for", moment("at_ms")),
        ("due before", moment("previous_ms")),
        ("due after", moment("next_ms")),
        ("led then", led),
    ];
    let fields = fields.into_iter().filter_map(|(label, cell)| Some((label.to_owned(), cell?)));
    paper.fields(&fields.collect::<Vec<_>>());
    const TABLES: &[Part] = &[
        titled("runs", "/runs", RUNS),
        titled(
            "decisions",
            "/decisions",
            &[
                column("DUE", "/from_ms", Show::When),
                column("TIMES", "/fires", Show::Text),
                column("NODE", "/scope", Show::Text),
                column("OUTCOME", "/outcome", Show::Text),
                column("DECIDED", "/at_ms", Show::Ago),
                column("REASON", "/reason", Show::Text),
            ],
        ),
    ];
    if !list(answer, "runs").is_empty() || !list(answer, "decisions").is_empty() {
        super::super::view::View::Parts(TABLES).render(answer, paper);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::view::View;
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn shown(view: View, answer: &Value) -> String {
        let mut text = String::new();
        view.render(answer, &mut Paper::plain(&mut text, NOW));
        text
    }

    #[test]
    fn jobs_are_listed_with_when_they_ran_and_will_run() {
        let answer = json!({ "jobs": [{
            "name": "nightly", "last_fire_ms": NOW - 3_600_000, "last_state": "completed",
            "next_fire_ms": NOW + 90_000, "origin": "file", "enabled": true, "paused": null,
            "words": "at 02:00 every day",
        }, { "name": "x", "enabled": false, "paused": { "by": "operator", "why": "audit", "since_ms": NOW - 5_000 } }] });
        let expected = "\
JOB      LAST     STATE      NEXT      FROM       PAUSED                      SCHEDULE
nightly  1 h ago  completed  in 1 min  file       -                           at 02:00 every day
x        -        -          -         -     off  by operator, 5 s ago: audit  -
";
        let told = shown(View::Parts(JOBS), &answer);
        for (line, wanted) in told.lines().zip(expected.lines()) {
            let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(line), words(wanted));
        }
        assert_eq!(shown(View::Parts(JOBS), &json!({ "jobs": [] })), "there are no jobs\n");
    }

    #[test]
    fn an_explanation_begins_with_its_sentence() {
        let answer = json!({
            "job": "nightly", "at_ms": NOW, "verdict": "not_due", "text": "it was not due then",
            "runs": [], "decisions": [{ "from_ms": NOW, "fires": 1, "outcome": "paused", "reason": "why not", "at_ms": NOW }],
            "previous_ms": NOW - 60_000, "next_ms": null, "term": { "node": "a#0000000000000001" },
        });
        let told = shown(View::Custom(explanation), &answer);
        assert!(told.starts_with("not due: it was not due then\n"), "{told}");
        for part in
            ["due before  2023-11-14 22:12:20Z", "led then    a\n", "decisions\n", "why not"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("due after"), "{told}");
    }
}
