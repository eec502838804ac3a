//! What is wrong and what helps: problems of the cluster, and the checks of the doctor.

use serde_json::Value;

use super::super::paper::{Cell, Paper, Style};
use super::super::show::{self, Show};
use super::{list, text};

/// Problems, the gravest first as the node lists them, each with what to do.
pub(in super::super) fn problems(answer: &Value, paper: &mut Paper<'_>) {
    let found = list(answer, "problems");
    for problem in found {
        paper.space();
        let severity = text(problem, "severity");
        let since = problem["since_ms"]
            .as_i64()
            .map(|at| format!("since {}", show::ago(at, paper.now_ms())));
        paper.cells(&[
            Cell::new(severity.to_uppercase(), style_of(severity)),
            Cell::new(text(problem, "code"), Style::Bold),
            Cell::plain(text(problem, "node")),
            Cell::new(since.unwrap_or_default(), Style::Dim),
        ]);
        paper.paragraph(2, &Cell::plain(text(problem, "text")));
        what_helps(problem, paper);
    }
    if found.is_empty() {
        paper.cells(&[Cell::new("no problems", Style::Good)]);
    }
    for node in list(answer, "unreachable") {
        let node = Show::Node.cell(node, paper.now_ms());
        paper.cells(&[node, Cell::new("did not answer, so its problems are missing", Style::Warn)]);
    }
}

/// Checks, one line each, with what helps below those that did not go well.
pub(in super::super) fn checks(answer: &Value, paper: &mut Paper<'_>) {
    for check in list(answer, "checks") {
        let result = text(check, "result");
        paper.cells(&[
            Cell::new(format!("{:<8}", mark(result)), style_of(result)),
            Cell::new(text(check, "code"), Style::Bold),
            Cell::plain(text(check, "title")),
        ]);
        if result != "ok" {
            paper.paragraph(9, &Cell::plain(text(check, "text")));
            what_helps(check, paper);
        }
    }
    let worst = text(answer, "worst");
    let node = format!("{}:", text(answer, "node"));
    paper.space();
    paper.cells(&[Cell::plain(node), Cell::new(mark(worst), style_of(worst))]);
}

fn what_helps(finding: &Value, paper: &mut Paper<'_>) {
    let fix = text(finding, "fix");
    if !fix.is_empty() {
        paper.paragraph(9, &Cell::new(format!("what helps: {fix}"), Style::Dim));
    }
}

fn mark(result: &str) -> &str {
    if result == "ok" { "ok" } else { result }
}

pub(in super::super) fn style_of(word: &str) -> Style {
    match word {
        "ok" => Style::Good,
        "warning" => Style::Warn,
        "critical" => Style::Bad,
        "skipped" | "info" => Style::Dim,
        _ => Style::Plain,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(render: fn(&Value, &mut Paper<'_>), answer: &Value) -> String {
        let mut text = String::new();
        render(answer, &mut Paper::plain(&mut text, 10_000));
        text
    }

    #[test]
    fn a_problem_is_told_with_what_helps() {
        let answer = json!({
            "problems": [{
                "code": "clock_skew", "severity": "critical", "node": "b", "since_ms": 1_000,
                "text": "its clock is 812 ms ahead", "fix": "start chrony",
            }],
            "unreachable": ["c"],
        });
        let expected = "\
CRITICAL clock_skew b since 9 s ago
  its clock is 812 ms ahead
         what helps: start chrony
c did not answer, so its problems are missing
";
        assert_eq!(shown(problems, &answer), expected);
        assert_eq!(shown(problems, &json!({ "problems": [] })), "no problems\n");
    }

    #[test]
    fn only_checks_that_went_wrong_are_told_at_length() {
        let answer = json!({
            "node": "a", "worst": "warning",
            "checks": [
                { "code": "redis.policy", "title": "Redis keeps what it has", "result": "ok", "text": "noeviction" },
                { "code": "tls", "title": "TLS", "result": "warning", "text": "no TLS", "fix": "turn it on" },
            ],
        });
        let expected = "\
ok       redis.policy Redis keeps what it has
warning  tls TLS
         no TLS
         what helps: turn it on

a: warning
";
        assert_eq!(shown(checks, &answer), expected);
    }
}
