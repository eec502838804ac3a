//! What an application does when nodes come and go, and when the lead changes.
//!
//! On each node: at its start, before it is ready, and at its end; when it begins and ceases to lead. In the cluster:
//! once per deployment, whichever node comes first. Hooks have a limit of time and cannot keep a node from going on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tracing::warn;
use understudy_runtime::service::NodeContext;

use crate::jobs::Jobs;

/// How long a hook may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

type Hook = Arc<dyn Fn(NodeContext, Jobs) -> BoxFuture<'static, ()> + Send + Sync>;

/// What is done when nodes come and go.
#[derive(Default, Clone)]
pub struct Hooks {
    start: Vec<Hook>,
    stop: Vec<Hook>,
    become_leader: Vec<Hook>,
    lose_leader: Vec<Hook>,
}

impl Hooks {
    pub(crate) fn stops(&self) -> u32 {
        u32::try_from(self.stop.len()).unwrap_or(u32::MAX)
    }

    /// Before this node is ready; it has joined the cluster and reaches its stores.
    pub fn on_node_start<F, Fut>(&mut self, hook: F)
    where
        F: Fn(NodeContext, Jobs) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.start.push(boxed(hook));
    }

    /// When this node stops, after its last request; not when it crashes.
    pub fn on_node_stop<F, Fut>(&mut self, hook: F)
    where
        F: Fn(NodeContext, Jobs) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.stop.push(boxed(hook));
    }

    /// When this node begins to lead.
    pub fn on_become_leader<F, Fut>(&mut self, hook: F)
    where
        F: Fn(NodeContext, Jobs) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.become_leader.push(boxed(hook));
    }

    /// When this node leads no more; another may do so already.
    pub fn on_lose_leader<F, Fut>(&mut self, hook: F)
    where
        F: Fn(NodeContext, Jobs) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.lose_leader.push(boxed(hook));
    }
}

fn boxed<F, Fut>(hook: F) -> Hook
where
    F: Fn(NodeContext, Jobs) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Arc::new(move |node, jobs| hook(node, jobs).boxed())
}

pub(crate) async fn on_start(hooks: &Hooks, node: &NodeContext, jobs: &Jobs) {
    run("on_node_start", &hooks.start, node, jobs).await;
}

pub(crate) async fn on_stop(hooks: &Hooks, node: &NodeContext, jobs: &Jobs) {
    run("on_node_stop", &hooks.stop, node, jobs).await;
}

pub(crate) async fn on_become_leader(hooks: &Hooks, node: &NodeContext, jobs: &Jobs, epoch: u64) {
    tracing::debug!(epoch, "hooks of a node that begins to lead");
    run("on_become_leader", &hooks.become_leader, node, jobs).await;
}

pub(crate) async fn on_lose_leader(hooks: &Hooks, node: &NodeContext, jobs: &Jobs, epoch: u64) {
    tracing::debug!(epoch, "hooks of a node that leads no more");
    run("on_lose_leader", &hooks.lose_leader, node, jobs).await;
}

async fn run(name: &'static str, hooks: &[Hook], node: &NodeContext, jobs: &Jobs) {
    for hook in hooks {
        // In a task of its own: a panic in it is its own.
        let task = tokio::spawn(hook(node.clone(), jobs.clone()));
        match tokio::time::timeout(LIMIT, task).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => warn!(hook = name, "a hook panicked"),
            Err(_) => warn!(
                hook = name,
                limit_s = LIMIT.as_secs(),
                "a hook took too long and was left behind"
            ),
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("start", &self.start.len())
            .field("stop", &self.stop.len())
            .finish_non_exhaustive()
    }
}
