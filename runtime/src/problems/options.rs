//! The options of other nodes: all of one node, and in which those that should be the same differ.
//!
//! Secrets travel as marks under a key that the asking process has drawn, see [`Comparable`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::broadcast::Broadcast;
use crate::bus::{Bus, BusError, BusRequest};
use crate::config::{Comparable, Config, Source};
use crate::ids::NodeId;
use crate::service::NodeContext;

/// The options of one node as they are compared.
pub(crate) type Compared = BTreeMap<String, Comparable>;

/// How long a node may take to tell its options.
pub(crate) const LIMIT: Duration = Duration::from_secs(1);

/// Asks nodes for their options, and answers for this one; a cheap clone.
#[derive(Clone)]
pub(crate) struct Options {
    node: NodeId,
    broadcast: Broadcast,
    comparing: Comparing,
}

/// Compares the options of this node with those of others, which need not know it; a cheap clone.
#[derive(Clone)]
pub(crate) struct Comparing {
    config: Arc<Config>,
    bus: Bus,
    /// Of the marks of secrets.
    key: Arc<str>,
}

impl Comparing {
    pub(crate) fn new(config: &Arc<Config>, bus: &Bus) -> Self {
        let key: u128 = rand::random();
        Self { config: Arc::clone(config), bus: bus.clone(), key: format!("{key:032x}").into() }
    }

    /// Returns the options of this node as they are compared.
    pub(crate) fn here(&self) -> Compared {
        self.config.comparable(self.key.as_bytes())
    }

    /// Asks a node for those that should be the same everywhere.
    pub(crate) async fn of(&self, node: &NodeId) -> Result<Compared, BusError> {
        self.bus.request(node, &self.question(), LIMIT).await
    }

    fn question(&self) -> CompareOptions {
        CompareOptions { key: self.key.to_string() }
    }
}

/// Asks a node for the options that should be the same everywhere.
#[derive(Debug, Serialize, Deserialize)]
struct CompareOptions {
    /// Of the marks.
    key: String,
}

impl BusRequest for CompareOptions {
    const NAME: &'static str = "config.compare";
    type Reply = Compared;
}

/// Asks a node for all its options.
#[derive(Debug, Serialize, Deserialize)]
struct ShowOptions {}

impl BusRequest for ShowOptions {
    const NAME: &'static str = "config.show";
    type Reply = ShownOptions;
}

/// The options of a node, secrets as stars.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShownOptions {
    /// The name of the node.
    pub(crate) node: String,
    /// The same on nodes whose options are, those of the node itself apart.
    pub(crate) fingerprint: String,
    pub(crate) options: BTreeMap<String, String>,
    /// Where the value of each comes from.
    pub(crate) sources: BTreeMap<String, Source>,
    /// Those that may differ from node to node.
    pub(crate) node_local: BTreeSet<String>,
}

/// What a look at all nodes found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// By the name of the node.
    pub(crate) by_node: BTreeMap<String, Compared>,
    pub(crate) unreachable: Vec<String>,
}

/// An option that is not the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) option: String,
    /// By the name of the node.
    pub(crate) values: BTreeMap<String, Comparable>,
}

impl Options {
    /// Answers others from now on.
    pub(crate) fn start(node: &NodeContext) -> Self {
        let options = Self {
            node: node.node_id.clone(),
            broadcast: Broadcast::of(node).within(LIMIT),
            comparing: Comparing::new(&node.config, &node.bus),
        };
        let config = Arc::clone(&node.config);
        node.bus.handle(move |_from, CompareOptions { key }| {
            std::future::ready(config.comparable(key.as_bytes()))
        });
        let shown = options.here();
        node.bus.handle(move |_from, ShowOptions {}| std::future::ready(shown.clone()));
        options
    }

    /// Returns the options of this node.
    pub(crate) fn here(&self) -> ShownOptions {
        shown(&self.comparing.config, &self.node)
    }

    /// Asks a node for all its options.
    pub(crate) async fn of(&self, node: &NodeId) -> Result<ShownOptions, BusError> {
        self.comparing.bus.request(node, &ShowOptions {}, LIMIT).await
    }

    /// Returns those of this node as they are compared.
    pub(crate) fn compared_here(&self) -> Compared {
        self.comparing.here()
    }

    /// Asks a node for those that should be the same everywhere.
    pub(crate) async fn compared_of(&self, node: &NodeId) -> Result<Compared, BusError> {
        self.comparing.of(node).await
    }

    /// Gives what compares with single nodes.
    pub(crate) fn comparing(&self) -> &Comparing {
        &self.comparing
    }

    /// Asks all living nodes.
    pub(crate) async fn survey(&self) -> Survey {
        let answers = self.broadcast.ask(&self.comparing.question()).await;
        let mut survey = Survey::default();
        for answer in answers.answers {
            let name = answer.node.name().as_str().to_owned();
            match answer.result {
                Ok(options) => {
                    survey.by_node.insert(name, options);
                }
                Err(_) => survey.unreachable.push(name),
            }
        }
        survey
    }
}

/// Describes the options of a node.
pub(crate) fn shown(config: &Config, node: &NodeId) -> ShownOptions {
    let local = crate::config::registry().iter().filter(|variable| variable.node_local);
    ShownOptions {
        node: node.name().as_str().to_owned(),
        fingerprint: config.fingerprint(),
        options: config.redacted(),
        sources: config.sources(),
        node_local: local.map(|variable| variable.name.to_owned()).collect(),
    }
}

/// Finds the options that differ. One that a node does not know, because its program is of another version, makes no
/// difference there.
pub(crate) fn differences(by_node: &BTreeMap<String, Compared>) -> Vec<Difference> {
    let options: BTreeSet<&String> = by_node.values().flat_map(BTreeMap::keys).collect();
    let difference = |option: &String| {
        let values: BTreeMap<String, Comparable> = by_node
            .iter()
            .filter_map(|(node, options)| Some((node.clone(), options.get(option)?.clone())))
            .collect();
        let distinct: BTreeSet<&Comparable> = values.values().collect();
        (distinct.len() > 1).then(|| Difference { option: option.clone(), values })
    };
    options.into_iter().filter_map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Compared {
        let comparable = |value: &str| Comparable { shown: value.to_owned(), mark: None };
        pairs.iter().map(|(name, value)| ((*name).to_owned(), comparable(value))).collect()
    }

    #[test]
    fn g1_what_differs_is_named_with_the_value_on_each_node() {
        let by_node = BTreeMap::from([
            ("a".to_owned(), options(&[("IDLE", "60"), ("NAME", "x")])),
            ("b".to_owned(), options(&[("IDLE", "60"), ("NAME", "x"), ("NEW", "1")])),
            ("c".to_owned(), options(&[("IDLE", "90"), ("NAME", "x")])),
        ]);
        let found = differences(&by_node);
        assert_eq!(found.len(), 1, "what only one version knows is no difference: {found:?}");
        assert_eq!(found[0].option, "IDLE");
        let values: Vec<_> = found[0].values.iter().map(|(n, v)| (n.as_str(), v.text())).collect();
        let expected = [("a", "60"), ("b", "60"), ("c", "90")];
        assert_eq!(values, expected.map(|(node, value)| (node, value.to_owned())));
    }

    #[test]
    fn g1_secrets_differ_by_their_marks_alone() {
        let secret = |mark: &str| {
            let comparable = Comparable { shown: "******".to_owned(), mark: Some(mark.to_owned()) };
            BTreeMap::from([("SECRET".to_owned(), comparable)])
        };
        let of = |marks: [&str; 2]| {
            let nodes = ["a", "b"].map(str::to_owned).into_iter();
            differences(&nodes.zip(marks.map(secret)).collect()).len()
        };
        assert_eq!((of(["m1", "m1"]), of(["m1", "m2"])), (0, 1));
    }
}
