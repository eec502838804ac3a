//! What the process of a node is doing now, of any node from any node: `GET /v1/diag/tasks`.
//!
//! For somebody who asks why a node is slow or silent: the tasks that the runtime keeps running, its threads, the requests
//! and the long work under way, the locks and leases it holds, and whether it stood still. It asks no server; looking
//! takes about half a second, most of it to see how busy the threads are.

use std::sync::{Arc, Weak};
use std::time::Duration;

use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::requests::{asked_node, unreachable};
use super::resources::{AdminState, Started, json};
use crate::bus::{Bus, BusRequest};
use crate::clock::SharedClock;
use crate::http::problem::Problem;
use crate::http::requests::{Listing, Requests};
use crate::ids::NodeName;
use crate::lease::LeaseBoard;
use crate::lock::{HeldHere, HeldLock};
use crate::service::{NodeContext, Service, Work};
use crate::supervise::{TaskReport, tasks};
use crate::watchdog::{PauseReport, Pauses};

/// How long another node may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a service may take to say what it is working on.
const WORK_LIMIT: Duration = Duration::from_secs(1);
/// For how long the threads are watched.
const LOOK: Duration = Duration::from_millis(250);
/// A lease that nobody can take, as a node without a cluster has it, is longer than this.
const ENDLESS: Duration = Duration::from_secs(366 * 24 * 3_600);
/// So much long work is listed.
const MOST: usize = 1_000;

/// Asks a node what it is doing.
#[derive(Debug, Serialize, Deserialize)]
struct TasksOf {}

impl BusRequest for TasksOf {
    const NAME: &'static str = "diag.tasks";
    type Reply = Doing;
}

/// What a process is doing.
#[derive(Debug, Serialize, Deserialize)]
struct Doing {
    /// When this was, ms since 1970.
    at_ms: u64,
    /// What the runtime keeps running, in the order in which it began.
    tasks: Vec<TaskReport>,
    threads: Threads,
    /// Requests whose answer has not begun, and the workers that do not answer because a handler blocks them.
    #[serde(flatten)]
    listing: Listing,
    /// Long work under way, the oldest first.
    work: Vec<Work>,
    /// Services that did not say in time what they are working on.
    silent: Vec<String>,
    locks: Vec<HeldLock>,
    leases: Leases,
    /// Whether the process stood still at times.
    pauses: PauseReport,
}

/// The threads that all tasks share.
#[derive(Debug, Serialize, Deserialize)]
struct Threads {
    count: usize,
    /// Tasks that have not ended.
    alive_tasks: usize,
    /// Tasks that wait for a thread.
    queued: usize,
    /// How busy each thread was during the look, from 0 to 1.
    busy: Vec<f64>,
}

/// The leases of the node.
#[derive(Debug, Serialize, Deserialize)]
struct Leases {
    buckets: usize,
    held: usize,
    /// For how long the shortest is trusted unless it is renewed, ms; none where they never end.
    shortest_ms: Option<u64>,
}

/// What the report is made of; keeps alive neither the node's bus nor its services.
pub(crate) struct Sources {
    clock: SharedClock,
    threads: Handle,
    requests: Requests,
    services: Vec<Weak<dyn Service>>,
    locks: HeldHere,
    board: LeaseBoard,
    pauses: Pauses,
}

impl Sources {
    /// Looks at the runtime on which this is called.
    pub(crate) fn new(
        node: &NodeContext,
        services: &[Arc<dyn Service>],
        requests: &Requests,
        pauses: Pauses,
    ) -> Self {
        Self {
            clock: Arc::clone(&node.clock),
            threads: Handle::current(),
            requests: requests.clone(),
            services: services.iter().map(Arc::downgrade).collect(),
            locks: node.locks.held_here(),
            board: node.lease.board().clone(),
            pauses,
        }
    }

    async fn look(&self) -> Doing {
        let (threads, listing, (work, silent)) =
            tokio::join!(self.threads(), self.requests.list(), self.work());
        Doing {
            at_ms: self.clock.wall_ms(),
            tasks: tasks(),
            threads,
            listing,
            work,
            silent,
            locks: self.locks.list(),
            leases: self.leases(),
            pauses: self.pauses.report(),
        }
    }

    async fn threads(&self) -> Threads {
        let metrics = self.threads.metrics();
        let count = metrics.num_workers();
        let spent = || -> Vec<Duration> {
            (0..count).map(|thread| metrics.worker_total_busy_duration(thread)).collect()
        };
        let (began, before) = (Instant::now(), spent());
        sleep(LOOK).await;
        let (took, after) = (began.elapsed().as_secs_f64(), spent());
        let busy = before.iter().zip(&after).map(|(before, after)| {
            let share = after.saturating_sub(*before).as_secs_f64() / took;
            (share.min(1.0) * 100.0).round() / 100.0
        });
        Threads {
            count,
            alive_tasks: metrics.num_alive_tasks(),
            queued: metrics.global_queue_depth(),
            busy: busy.collect(),
        }
    }

    /// Asks the services what they are working on; also gives those that do not say.
    async fn work(&self) -> (Vec<Work>, Vec<String>) {
        let services: Vec<Arc<dyn Service>> =
            self.services.iter().filter_map(Weak::upgrade).collect();
        let asked = services.iter().map(|service| timeout(WORK_LIMIT, service.work()));
        let (mut work, mut silent) = (Vec::new(), Vec::new());
        for (service, told) in services.iter().zip(join_all(asked).await) {
            match told {
                Ok(told) => work.extend(told),
                Err(_elapsed) => silent.push(service.name().to_owned()),
            }
        }
        work.sort_by_key(|one: &Work| one.since_ms);
        work.truncate(MOST);
        (work, silent)
    }

    fn leases(&self) -> Leases {
        let now = self.clock.now();
        let left: Vec<Duration> = self
            .board
            .buckets()
            .map(|bucket| {
                let until = self.board.valid_until(bucket);
                until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
            })
            .collect();
        let shortest = left.iter().min().filter(|shortest| **shortest < ENDLESS);
        Leases {
            buckets: left.len(),
            held: left.iter().filter(|left| !left.is_zero()).count(),
            shortest_ms: shortest
                .map(|shortest| u64::try_from(shortest.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// Answers other nodes.
pub(crate) fn listen(bus: &Bus, sources: Sources) {
    let sources = Arc::new(sources);
    bus.handle(move |_from, TasksOf {}| {
        let sources = Arc::clone(&sources);
        async move { sources.look().await }
    });
}

/// Adds the resource.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    app.app_data(Started::of(state)).route("/v1/diag/tasks", web::get().to(show));
}

#[derive(Serialize)]
struct TasksBody {
    node: NodeName,
    #[serde(flatten)]
    doing: Doing,
}

async fn show(started: Data<Started>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let context = started.context()?;
    let node = asked_node(context, &request)?;
    let doing = context.bus.request(&node, &TasksOf {}, LIMIT).await;
    let doing = doing.map_err(|error| unreachable(&error))?;
    Ok(json(&TasksBody { node: node.name().clone(), doing }))
}
