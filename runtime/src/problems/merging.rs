//! The problems of all nodes as one list.

use serde::Serialize;

use super::Problem;
use crate::finding::Severity;

/// A problem, and the nodes that tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Merged {
    pub(crate) code: String,
    pub(crate) severity: Severity,
    /// The node that tells it, if it is the only one.
    pub(crate) node: Option<String>,
    /// All nodes that tell it, by name.
    pub(crate) nodes: Vec<String>,
    pub(crate) text: String,
    pub(crate) fix: String,
    /// Since when the first of them has seen it, ms since 1970.
    pub(crate) since_ms: u64,
}

/// Makes one list of those of all nodes, the worst first and of these the oldest. What several nodes tell in the same
/// words stands once.
pub(crate) fn merge(all: Vec<(String, Vec<Problem>)>) -> Vec<Merged> {
    let mut merged: Vec<Merged> = Vec::new();
    let each = all.into_iter().flat_map(|(node, problems)| {
        problems.into_iter().map(move |problem| (node.clone(), problem))
    });
    for (node, Problem { finding, since_ms }) in each {
        let known = merged.iter_mut().find(|it| it.code == finding.code && it.text == finding.text);
        match known {
            Some(known) => {
                known.severity = known.severity.max(finding.severity);
                known.since_ms = known.since_ms.min(since_ms);
                known.nodes.push(node);
            }
            None => merged.push(Merged {
                code: finding.code.into_owned(),
                severity: finding.severity,
                node: None,
                nodes: vec![node],
                text: finding.text.into_owned(),
                fix: finding.fix.into_owned(),
                since_ms,
            }),
        }
    }
    for problem in &mut merged {
        problem.nodes.sort();
        problem.nodes.dedup();
        problem.node = (problem.nodes.len() == 1).then(|| problem.nodes[0].clone());
    }
    merged.sort_by(|a, b| {
        let order = (b.severity, a.since_ms).cmp(&(a.severity, b.since_ms));
        order.then_with(|| (&a.code, &a.text).cmp(&(&b.code, &b.text)))
    });
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Finding;

    fn problem(severity: Severity, code: &'static str, text: &str, since_ms: u64) -> Problem {
        let finding = Finding::new(severity, code, text.to_owned(), "fix".to_owned());
        Problem { finding, since_ms }
    }

    #[test]
    fn h7_the_same_words_of_several_nodes_are_one_problem() {
        use Severity::{Critical, Info, Warning};
        let merged = merge(vec![
            ("b".to_owned(), vec![problem(Info, "x", "all", 9), problem(Warning, "x", "b", 5)]),
            ("a".to_owned(), vec![problem(Warning, "x", "all", 7), problem(Critical, "y", "a", 8)]),
        ]);
        let told: Vec<_> = merged
            .iter()
            .map(|it| {
                (it.text.as_str(), it.severity, it.node.as_deref(), it.nodes.len(), it.since_ms)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("a", Critical, Some("a"), 1, 8),
                ("b", Warning, Some("b"), 1, 5),
                ("all", Warning, None, 2, 7),
            ]
        );
        assert_eq!(merged[2].nodes, ["a", "b"]);
    }
}
