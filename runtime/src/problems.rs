//! What is wrong in the cluster, in words that say what to do about it.
//!
//! Each node gathers once a second what it knows: what its services and its servers tell, and what it sees of the other
//! nodes. Any node tells those of all living nodes as one list ([`Problems::everywhere`]); what several nodes tell in the
//! same words stands there once. `docs/problems.md` has all codes with their meaning and their cure, and a test compares it
//! with [`catalogue`].

mod admission;
mod around;
pub mod catalogue;
mod clocks;
mod drift;
mod gathering;
mod history;
mod merging;
pub(crate) mod options;
mod servers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::{Deserialize, Serialize};

use crate::broadcast::Broadcast;
use crate::bus::BusRequest;
use crate::finding::Finding;
use crate::node::checks::Checks;
use crate::service::{NodeContext, Service};
use crate::supervise::{Stopped, Supervised, spawn};
use gathering::Gathering;

pub(crate) use admission::{check as check_admission, judge as judge_admission};
pub(crate) use clocks::TOLERATED_MS;
pub(crate) use merging::{Merged, merge};
pub(crate) use servers::offset as database_offset;

/// How long another node may take to tell its problems.
const LIMIT: Duration = Duration::from_secs(1);

/// Something that is wrong, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What it is.
    #[serde(flatten)]
    pub finding: Finding,
    /// Since when it is known, ms since 1970.
    pub since_ms: u64,
}

/// Something that was seen; how long ago it began is told if it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) finding: Finding,
    pub(crate) since_ms: Option<u64>,
}

impl From<Finding> for Sighting {
    fn from(finding: Finding) -> Self {
        Self { finding, since_ms: None }
    }
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// The problems that this node knows, and the way to those of the others; a cheap clone.
#[derive(Clone)]
pub struct Problems {
    inner: Arc<Inner>,
}

struct Inner {
    known: ArcSwap<Vec<Problem>>,
    hook: ArcSwapOption<Hook>,
    broadcast: Broadcast,
}

/// Asks a node for its problems.
#[derive(Debug, Serialize, Deserialize)]
struct ListProblems {}

impl BusRequest for ListProblems {
    const NAME: &'static str = "problems.list";
    type Reply = Vec<Problem>;
}

/// The problems of all nodes that answered.
#[derive(Debug)]
pub(crate) struct Everywhere {
    pub(crate) problems: Vec<Merged>,
    pub(crate) unreachable: Vec<String>,
}

impl Problems {
    /// Begins to gather, and to answer others.
    pub(crate) fn start(
        node: &NodeContext,
        services: Vec<Arc<dyn Service>>,
        checks: Checks,
        options: options::Options,
    ) -> (Self, Supervised) {
        let inner = Inner {
            known: ArcSwap::default(),
            hook: ArcSwapOption::empty(),
            broadcast: Broadcast::of(node).within(LIMIT),
        };
        let problems = Self { inner: Arc::new(inner) };
        // A handle that keeps nothing alive: what it belongs to has the bus.
        let told = Arc::downgrade(&problems.inner);
        node.bus.handle(move |_from, ListProblems {}| {
            let known = told.upgrade().map(|inner| inner.known.load_full());
            std::future::ready(known.map_or_else(Vec::new, |known| known.to_vec()))
        });
        let gathering = Gathering::new(node, services, checks, (options, problems.clone()));
        let task = spawn("problems", move || {
            let gathering = gathering.clone();
            async move {
                Box::pin(gathering.run()).await;
                Stopped::Asked
            }
        });
        (problems, task)
    }

    /// Returns those that this node knows, as of the last second.
    #[must_use]
    pub fn here(&self) -> Arc<Vec<Problem>> {
        self.inner.known.load_full()
    }

    /// Has `hook` called whenever a problem came or went on this node; the last one said counts. It must not block.
    pub fn on_change(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.inner.hook.store(Some(Arc::new(Box::new(hook))));
    }

    /// Asks all living nodes.
    pub(crate) async fn everywhere(&self) -> Everywhere {
        let answers = self.inner.broadcast.ask(&ListProblems {}).await;
        let mut unreachable = self.inner.broadcast.unasked(&answers);
        let mut all = Vec::new();
        for answer in answers.answers {
            let name = answer.node.name().as_str().to_owned();
            match answer.result {
                Ok(problems) => all.push((name, problems)),
                Err(_) => unreachable.push(name),
            }
        }
        Everywhere { problems: merge(all), unreachable }
    }

    fn publish(&self, known: &[Problem], changed: bool) {
        self.inner.known.store(Arc::new(known.to_vec()));
        if changed && let Some(hook) = &*self.inner.hook.load() {
            hook();
        }
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problems")
            .field("known", &self.inner.known.load().len())
            .finish_non_exhaustive()
    }
}
