//! Since when a problem is there: what was found now, beside what was found before.

use super::{Problem, Sighting};

/// What a node found last; pure.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    known: Vec<Problem>,
}

/// What became different.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) appeared: Vec<Problem>,
    pub(super) gone: Vec<Problem>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.appeared.is_empty() && self.gone.is_empty()
    }
}

impl History {
    /// Takes what was found now; the same thing in the same words counts once.
    pub(super) fn note(&mut self, seen: &[Sighting], now_ms: u64) -> Changes {
        let mut now: Vec<Problem> = Vec::with_capacity(seen.len());
        for sighting in seen {
            let finding = &sighting.finding;
            if now.iter().any(|known| is_same(known, sighting)) {
                continue;
            }
            let since_ms = sighting.since_ms.or_else(|| self.since(sighting, seen));
            now.push(Problem { finding: finding.clone(), since_ms: since_ms.unwrap_or(now_ms) });
        }
        let is_in = |list: &[Problem], problem: &Problem| {
            list.iter().any(|other| {
                other.finding.code == problem.finding.code
                    && other.finding.text == problem.finding.text
            })
        };
        let appeared = now.iter().filter(|problem| !is_in(&self.known, problem)).cloned().collect();
        let gone = self.known.iter().filter(|problem| !is_in(&now, problem)).cloned().collect();
        self.known = now;
        Changes { appeared, gone }
    }

    pub(super) fn known(&self) -> &[Problem] {
        &self.known
    }

    /// Finds it among what was known: in the same words, or as the only one of its code, whose words have changed a little.
    fn since(&self, sighting: &Sighting, seen: &[Sighting]) -> Option<u64> {
        if let Some(same) = self.known.iter().find(|known| is_same(known, sighting)) {
            return Some(same.since_ms);
        }
        let code = &sighting.finding.code;
        let mut before = self.known.iter().filter(|known| known.finding.code == *code);
        let (first, second) = (before.next(), before.next());
        let alone = seen.iter().filter(|other| other.finding.code == *code).count() == 1;
        first.filter(|_| second.is_none() && alone).map(|only| only.since_ms)
    }
}

fn is_same(problem: &Problem, sighting: &Sighting) -> bool {
    problem.finding.code == sighting.finding.code && problem.finding.text == sighting.finding.text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Finding, Severity};

    fn seen(code: &'static str, text: &str) -> Sighting {
        Finding::new(Severity::Warning, code, text.to_owned(), "fix").into()
    }

    fn since(history: &History) -> Vec<(&str, u64)> {
        history.known().iter().map(|it| (it.finding.text.as_ref(), it.since_ms)).collect()
    }

    #[test]
    fn h7_a_problem_keeps_its_beginning_as_long_as_it_stays() {
        let mut history = History::default();
        assert_eq!(history.note(&[seen("a", "x")], 10).appeared.len(), 1);
        assert!(history.note(&[seen("a", "x"), seen("a", "x")], 20).is_empty());
        assert_eq!(since(&history), [("x", 10)]);
        let changes = history.note(&[], 30);
        assert_eq!((changes.appeared.len(), changes.gone.len()), (0, 1));
        history.note(&[seen("a", "x")], 40);
        assert_eq!(since(&history), [("x", 40)], "it came back");
    }

    #[test]
    fn h7_other_words_for_the_only_one_of_a_code_are_no_new_problem() {
        let mut history = History::default();
        history.note(&[seen("clock", "1 s ahead"), seen("b", "1")], 10);
        history.note(&[seen("clock", "2 s ahead"), seen("b", "1"), seen("b", "2")], 20);
        assert_eq!(since(&history), [("2 s ahead", 10), ("1", 10), ("2", 20)]);
    }

    #[test]
    fn h7_what_tells_its_beginning_itself_is_believed() {
        let mut history = History::default();
        let known = Sighting { since_ms: Some(3), ..seen("a", "x") };
        history.note(&[known], 10);
        assert_eq!(since(&history), [("x", 3)]);
    }
}
