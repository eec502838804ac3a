//! Options that should be the same on all nodes and are not.
//!
//! Nodes tell a fingerprint of their options. Only where those differ is one node of each kind asked for the options
//! themselves, once.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::around::{NAMED, few};
use super::options::{Compared, Difference, Options, differences};
use crate::config::{Comparable, DriftPolicy};
use crate::finding::{Finding, Severity};
use crate::ids::NodeId;
use crate::membership::MemberRecord;

/// So many nodes with the same options are asked for them at a time.
const ASKED: usize = 2;
/// Of more kinds of options no more is learnt: something else is wrong then.
const MOST_KINDS: usize = 16;

/// What is known of the options of others.
#[derive(Clone)]
pub(super) struct Drift {
    options: Options,
    policy: DriftPolicy,
    /// By fingerprint.
    known: BTreeMap<String, Compared>,
}

/// The living nodes by the fingerprint of their options.
type Kinds = BTreeMap<String, Vec<NodeId>>;

impl Drift {
    pub(super) fn new(options: Options, policy: DriftPolicy) -> Self {
        Self { options, policy, known: BTreeMap::new() }
    }

    /// Compares the living nodes; asks those of whom nothing is known yet.
    pub(super) async fn look(
        &mut self,
        living: &[&MemberRecord],
        own: &MemberRecord,
    ) -> Option<Finding> {
        let mut kinds = Kinds::new();
        for record in living.iter().filter(|record| !record.config_hash.is_empty()) {
            kinds.entry(record.config_hash.clone()).or_default().push(record.id.clone());
        }
        self.known.retain(|hash, _| kinds.contains_key(hash));
        if kinds.len() < 2 {
            return None;
        }
        self.known.insert(own.config_hash.clone(), self.options.compared_here());
        self.learn(&kinds).await;
        let severity = match self.policy {
            DriftPolicy::Warn => Severity::Warning,
            DriftPolicy::Refuse => Severity::Critical,
        };
        finding(&kinds, &self.known, severity)
    }

    async fn learn(&mut self, kinds: &Kinds) {
        let unknown = kinds.iter().filter(|(hash, _)| !self.known.contains_key(*hash));
        let asking = unknown.take(MOST_KINDS).map(async |(hash, nodes)| {
            let answers = nodes.iter().take(ASKED).map(|node| self.options.compared_of(node));
            let answer = join_all(answers).await.into_iter().find_map(Result::ok);
            answer.map(|options| (hash.clone(), options))
        });
        let learnt = join_all(asking).await;
        self.known.extend(learnt.into_iter().flatten());
    }
}

/// Tells what differs, in the same words on every node.
fn finding(
    kinds: &Kinds,
    known: &BTreeMap<String, Compared>,
    severity: Severity,
) -> Option<Finding> {
    let differences = differences(known);
    if differences.is_empty() {
        return None;
    }
    let told: Vec<String> = differences.iter().map(|it| told(it, kinds)).collect();
    let more = match told.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more options"),
    };
    let shown = told.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    let text = format!("options differ between nodes: {shown}{more}");
    let fix = "give all nodes the same options and restart those that differ; GET /v1/config/drift shows the values";
    Some(Finding::new(severity, "config_drift", text, fix))
}

/// `UNDERSTUDY_SESSION_IDLE_S (a, b | c)`: nodes with the same value stand together.
fn told(difference: &Difference, kinds: &Kinds) -> String {
    let mut by_value: BTreeMap<&Comparable, Vec<&str>> = BTreeMap::new();
    for (hash, value) in &difference.values {
        let nodes = kinds.get(hash).into_iter().flatten();
        by_value.entry(value).or_default().extend(nodes.map(|node| node.name().as_str()));
    }
    let mut groups: Vec<Vec<&str>> = by_value.into_values().collect();
    groups.iter_mut().for_each(|nodes| nodes.sort_unstable());
    // Not by value: the marks of secrets sort differently on every node.
    groups.sort();
    let groups: Vec<String> = groups.iter().map(|nodes| few(nodes)).collect();
    format!("{} ({})", difference.option, groups.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Incarnation;

    fn kinds(pairs: &[(&str, &[&str])]) -> Kinds {
        let id = |name: &&str| NodeId::new(name.parse().unwrap(), Incarnation::from_u64(1));
        pairs
            .iter()
            .map(|(hash, nodes)| ((*hash).to_owned(), nodes.iter().map(id).collect()))
            .collect()
    }

    fn compared(pairs: &[(&str, &str)]) -> Compared {
        let value = |text: &str| Comparable { shown: text.to_owned(), mark: None };
        pairs.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect()
    }

    #[test]
    fn g1_drift_is_told_in_the_same_words_by_every_node() {
        let kinds = kinds(&[("h2", &["c", "a"]), ("h1", &["b"])]);
        let known = BTreeMap::from([
            ("h1".to_owned(), compared(&[("IDLE", "60"), ("NAME", "x"), ("SECRET", "s1")])),
            ("h2".to_owned(), compared(&[("IDLE", "90"), ("NAME", "x"), ("SECRET", "s2")])),
        ]);
        let found = finding(&kinds, &known, Severity::Warning).unwrap();
        assert_eq!(found.text, "options differ between nodes: IDLE (a, c | b); SECRET (a, c | b)");
        assert!(!found.text.contains("s1"), "values are not told");
        let same = BTreeMap::from([("h1".to_owned(), compared(&[("IDLE", "60")]))]);
        assert_eq!(finding(&kinds, &same, Severity::Warning), None, "nobody else has answered");
    }

    #[test]
    fn g1_of_many_options_a_few_are_named() {
        let options = |value: &'static str| {
            let names: Vec<String> = (0..8).map(|n| format!("O{n}")).collect();
            compared(&names.iter().map(|name| (name.as_str(), value)).collect::<Vec<_>>())
        };
        let known =
            BTreeMap::from([("h1".to_owned(), options("1")), ("h2".to_owned(), options("2"))]);
        let kinds = kinds(&[("h1", &["a"]), ("h2", &["b"])]);
        let text = finding(&kinds, &known, Severity::Warning).unwrap().text;
        assert!(text.ends_with("O4 (a | b); and 3 more options"), "{text}");
    }
}
