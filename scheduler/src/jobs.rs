//! The handle by which applications and operators deal with jobs, on any node.

mod bus;

use std::sync::{Arc, Weak};
use std::time::Duration;

use sea_orm::DatabaseExecutor;
use serde::Serialize;
use understudy_runtime::bus::Bus;
use understudy_runtime::database::{Backend, DatabaseError};
use understudy_runtime::ids::NodeId;
use understudy_runtime::membership::Membership;

use crate::leader::{LeaderHandle, LeaderStatus};
use crate::run::{Cause, RunId};
use crate::schedule::Occurrence;
use crate::spec::JobName;
use crate::store::{
    Cancelled, DefinitionError, EnqueueError, Enqueued, Order, Origin, Store, Switch, Tx,
    enqueue_in as store_in,
};

pub(crate) use bus::{
    CancelHere, CouldLead, LookAgain, LookAround as LookAroundHere, Standing, StepDownHere,
};

/// How long another node may take to hear that a run is to end.
const TELL_LIMIT: Duration = Duration::from_secs(1);
/// So many due times of the past are asked for at once.
const MOST_BACKFILL: usize = 10_000;

/// Jobs, runs and the leader, as every node sees them; a cheap clone.
#[derive(Debug, Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    leader: LeaderHandle,
    bus: Bus,
    membership: Membership,
}

/// A handle that keeps nothing alive, for those who live as long as the bus.
#[derive(Debug, Clone)]
pub(crate) struct WeakJobs(Weak<Inner>);

impl WeakJobs {
    pub(crate) fn upgrade(&self) -> Option<Jobs> {
        self.0.upgrade().map(|inner| Jobs { inner })
    }
}

/// A run could not be told to end.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// There is no such run.
    #[error("there is no such run")]
    Unknown,
    /// It has ended already.
    #[error("the run has ended: {0}")]
    Ended(String),
    /// The database does not do it.
    #[error("the run cannot be cancelled")]
    Database(#[from] DatabaseError),
}

/// Due times of the past were not started.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// There is no such job.
    #[error("there is no job of this name")]
    Unknown,
    /// The range is not one.
    #[error("`from` must be before `to`, and `to` must not lie in the future")]
    Range,
    /// There are too many due times in the range.
    #[error("there are more than {MOST_BACKFILL} due times in the range; ask for a shorter one")]
    TooMany,
    /// A job that runs on every node has no due times of the cluster.
    #[error("a job that runs on every node cannot be started for the past")]
    RunsEverywhere,
    /// The database does not do it.
    #[error("the runs cannot be stored")]
    Database(#[from] DatabaseError),
}

impl Jobs {
    pub(crate) fn new(
        store: Store,
        leader: LeaderHandle,
        bus: Bus,
        membership: Membership,
    ) -> Self {
        Self { inner: Arc::new(Inner { store, leader, bus, membership }) }
    }

    pub(crate) fn downgrade(&self) -> WeakJobs {
        WeakJobs(Arc::downgrade(&self.inner))
    }

    /// Returns the tables, for reading and for changing definitions.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Returns this node's part in leading.
    #[must_use]
    pub fn leader(&self) -> &LeaderHandle {
        &self.inner.leader
    }

    /// Returns who leads, as far as this node knows.
    #[must_use]
    pub fn leader_status(&self) -> LeaderStatus {
        self.inner.leader.status()
    }

    /// Puts a run of a job into the queue, to be started at once by a node that has the handler. It survives any crash once
    /// this has returned.
    ///
    /// # Errors
    /// [`EnqueueError`]; after a retryable database error the run may be in or not: use [`Jobs::order`] with a key of
    /// your own to be able to ask again.
    pub async fn enqueue<P: Serialize>(
        &self,
        job: &str,
        params: &P,
    ) -> Result<RunId, EnqueueError> {
        Ok(self.order(order_of(job, params)?).await?.run)
    }

    /// Puts a run into the queue within a transaction of the application: it is there if and only if that commits.
    ///
    /// # Errors
    /// [`EnqueueError`]; then roll back.
    pub async fn enqueue_in<P: Serialize>(
        &self,
        executor: &DatabaseExecutor<'_>,
        job: &str,
        params: &P,
    ) -> Result<RunId, EnqueueError> {
        enqueue_in(self.inner.store.backend(), executor, job, params).await
    }

    /// Puts a run into the queue; the same key gives the same run.
    ///
    /// # Errors
    /// [`EnqueueError`].
    pub async fn order(&self, order: Order) -> Result<Enqueued, EnqueueError> {
        let enqueued = self.inner.store.enqueue(order).await?;
        if enqueued.new {
            self.look_again();
        }
        Ok(enqueued)
    }

    /// Tells a run to end, on whichever node it is.
    ///
    /// # Errors
    /// [`CancelError`].
    pub async fn cancel(&self, run: RunId, by: &str) -> Result<(), CancelError> {
        match self.inner.store.cancel(run, by).await? {
            Cancelled::Waiting => Ok(()),
            Cancelled::Unknown => Err(CancelError::Unknown),
            Cancelled::Ended(state) => Err(CancelError::Ended(state)),
            Cancelled::Running(node) => {
                let node = node.and_then(|node| node.parse::<NodeId>().ok());
                if let Some(node) = node {
                    // Should it not hear, it learns of it with its next sign of life.
                    let message = CancelHere { run: run.0, by: by.to_owned() };
                    self.inner.bus.request(&node, &message, TELL_LIMIT).await.ok();
                }
                Ok(())
            }
        }
    }

    /// Starts runs for due times of the past, `from_ms` to `to_ms` included, that have none; with `again`, a word that
    /// names this request, also those that have. Gives how many there are.
    ///
    /// # Errors
    /// [`BackfillError`].
    pub async fn backfill(
        &self,
        job: &JobName,
        (from_ms, to_ms): (i64, i64),
        again: Option<&str>,
    ) -> Result<u64, BackfillError> {
        let store = &self.inner.store;
        let definition = store.definition(job).await?.ok_or(BackfillError::Unknown)?;
        if definition.spec.placement == crate::spec::Placement::Every {
            return Err(BackfillError::RunsEverywhere);
        }
        if from_ms > to_ms || to_ms > store.now_ms().await? {
            return Err(BackfillError::Range);
        }
        let due = definition.timetable.after(from_ms - 1);
        let fires = due.take_while(|one| one.at_ms() <= to_ms).filter_map(|one| match one {
            Occurrence::Fire { at_ms, key, .. } => Some((at_ms, key)),
            Occurrence::Skipped { .. } => None,
        });
        let fires: Vec<_> = fires.take(MOST_BACKFILL + 1).collect();
        if fires.len() > MOST_BACKFILL {
            return Err(BackfillError::TooMany);
        }
        let made = store.backfill(&definition.spec, fires, again).await?;
        self.look_again();
        Ok(made)
    }

    /// Makes or replaces a job; see [`Store::define`].
    ///
    /// # Errors
    /// [`DefinitionError`].
    pub async fn define(
        &self,
        spec: crate::spec::JobSpec,
        by: &str,
        if_revision: Option<i64>,
    ) -> Result<i64, DefinitionError> {
        let everywhere = spec.placement == crate::spec::Placement::Every;
        let revision = self.inner.store.define(spec, Origin::Api, by, if_revision).await?;
        if everywhere {
            self.look_around();
        } else {
            self.look_again();
        }
        Ok(revision)
    }

    /// Pauses or resumes a job.
    ///
    /// # Errors
    /// [`DefinitionError`].
    pub async fn pause(
        &self,
        job: &JobName,
        by: &str,
        why: Option<&str>,
    ) -> Result<i64, DefinitionError> {
        let store = &self.inner.store;
        let revision = match why {
            Some(why) => store.pause(job, by, why).await?,
            None => store.resume(job, by).await?,
        };
        self.look_again();
        Ok(revision)
    }

    /// Pauses the whole cluster, or lets it go on: while it is paused nothing starts but what keeps the cluster clean.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn pause_all(&self, by: &str, why: Option<&str>) -> Result<(), DatabaseError> {
        let value = if why.is_some() { "paused" } else { "" };
        self.switch("pause", value, by, why.unwrap_or_default()).await
    }

    /// Says which jobs are on in the whole cluster: `all`, `none`, or a comma list of names.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn enable_jobs(&self, list: &str, by: &str) -> Result<(), DatabaseError> {
        self.switch("jobs_enabled", list, by, "").await
    }

    /// Lets the leader stay where it is, whatever the priorities say, or not.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn freeze_leader(
        &self,
        frozen: bool,
        by: &str,
        why: &str,
    ) -> Result<(), DatabaseError> {
        self.switch("frozen", if frozen { "frozen" } else { "" }, by, why).await
    }

    /// Puts a node into maintenance, or takes it out: it neither leads nor starts runs. Survives restarts.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn maintain(
        &self,
        node: &str,
        on: bool,
        by: &str,
        why: &str,
    ) -> Result<(), DatabaseError> {
        let switch = Switch { by: by.to_owned(), why: why.to_owned(), ..Switch::default() };
        self.inner.store.set_maintenance(node, on, switch).await?;
        self.look_around();
        Ok(())
    }

    async fn switch(
        &self,
        name: &'static str,
        value: &str,
        by: &str,
        why: &str,
    ) -> Result<(), DatabaseError> {
        let switch =
            Switch { value: value.to_owned(), by: by.to_owned(), why: why.to_owned(), at_ms: 0 };
        self.inner.store.set_switch(name, switch).await?;
        self.look_around();
        Ok(())
    }

    /// Tells all nodes that an operator has set something for the cluster or a node.
    pub(crate) fn look_around(&self) {
        for node in self.inner.membership.live() {
            self.inner.bus.send(&node, &bus::LookAround {});
        }
    }

    /// Tells all nodes that something has changed, so that nobody waits for the next tick. Nothing depends on it.
    pub fn look_again(&self) {
        look_again(&self.inner.bus, &self.inner.membership);
    }
}

/// Tells all nodes that something has changed.
pub(crate) fn look_again(bus: &Bus, membership: &Membership) {
    for node in membership.live() {
        bus.send(&node, &LookAgain {});
    }
}

fn order_of<P: Serialize>(job: &str, params: &P) -> Result<Order, EnqueueError> {
    let job = job.parse().map_err(|_| EnqueueError::UnknownJob)?;
    let params = serde_json::to_value(params).map_err(|error| {
        EnqueueError::Params(crate::spec::SpecError::new("params", format!("are no JSON: {error}")))
    })?;
    Ok(Order { params: Some(params), ..Order::new(job, Cause::Task) })
}

/// Puts a run into the queue within a transaction.
pub(crate) async fn enqueue_in<P: Serialize>(
    backend: Backend,
    executor: &DatabaseExecutor<'_>,
    job: &str,
    params: &P,
) -> Result<RunId, EnqueueError> {
    let tx = Tx::new(executor, backend);
    Ok(store_in(&tx, order_of(job, params)?).await?.run)
}

impl actix_web::FromRequest for Jobs {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, actix_web::Error>>;

    fn from_request(
        request: &actix_web::HttpRequest,
        _: &mut actix_web::dev::Payload,
    ) -> Self::Future {
        let found = request.app_data::<Self>().cloned();
        std::future::ready(found.ok_or_else(|| {
            actix_web::error::ErrorInternalServerError("the scheduler is not part of this node")
        }))
    }
}
