//! Runs that somebody asks for: started by a person, put into the queue by the application, or asked for afterwards.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::DbErr;
use serde_json::json;
use understudy_runtime::database::DatabaseError;
use understudy_runtime::http::problem::{ApiError, Problem};
use understudy_runtime::trace::TraceContext;

use super::claim::insert_runs_sql;
use super::finish::spec_of;
use super::{Store, Tx, required, text_of};
use crate::run::{Cause, Chain, RunId, RunState};
use crate::spec::{JobName, JobSpec, Overlap, Placement, SpecError};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// The job.
    pub job: JobName,
    /// What makes it unique: the same key gives the same run. A new one is drawn when there is none.
    pub key: Option<String>,
    /// Parameters in place of those of the job.
    pub params: Option<serde_json::Value>,
    /// Not before this time, ms since 1970; 0 is at once.
    pub not_before_ms: i64,
    /// Why.
    pub cause: Cause,
    /// Who asks, for the record.
    pub by: String,
    /// The trace that the run belongs to; that of whoever makes the order, if there is one.
    pub trace: Option<TraceContext>,
}

impl Order {
    /// Asks for a run of a job at once, with a key of its own.
    #[must_use]
    pub fn new(job: JobName, cause: Cause) -> Self {
        Self {
            job,
            key: None,
            params: None,
            not_before_ms: 0,
            cause,
            by: String::new(),
            trace: TraceContext::current(),
        }
    }
}

/// What an order came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The run.
    pub run: RunId,
    /// Whether the order made it; else an earlier one with the same key had.
    pub new: bool,
    /// The state it is in.
    pub state: RunState,
}

/// An order was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// There is no such job.
    #[error("there is no job of this name")]
    UnknownJob,
    /// The job runs on every node by its schedule only.
    #[error("a job that runs on every node cannot be started by itself")]
    RunsEverywhere,
    /// An earlier run has not ended, and the job's overlap policy allows no other.
    #[error("an earlier run has not ended: {0}")]
    Busy(RunId),
    /// The parameters are not what the job takes.
    #[error(transparent)]
    Params(#[from] SpecError),
    /// The key is too long.
    #[error("the idempotency key must be 1 to 200 printable ASCII characters")]
    Key,
    /// The database does not do it.
    #[error("the run cannot be stored")]
    Database(#[from] DatabaseError),
}

/// So that [`crate::Jobs::enqueue_in`] can be followed by `?` in a transaction, which it then rolls back.
impl From<EnqueueError> for DbErr {
    fn from(error: EnqueueError) -> Self {
        match error {
            // As it was: whether it is worth trying again is read from it.
            EnqueueError::Database(DatabaseError::Away(error) | DatabaseError::Refused(error)) => {
                error
            }
            EnqueueError::Database(_)
            | EnqueueError::UnknownJob
            | EnqueueError::RunsEverywhere
            | EnqueueError::Busy(_)
            | EnqueueError::Params(_)
            | EnqueueError::Key => Self::Custom(understudy_runtime::error::chain(&error)),
        }
    }
}

impl ApiError for EnqueueError {
    fn problem(&self) -> Problem {
        let (status, code) = match self {
            Self::UnknownJob => (StatusCode::NOT_FOUND, "unknown_job"),
            Self::RunsEverywhere => (StatusCode::CONFLICT, "runs_everywhere"),
            Self::Busy(_) => (StatusCode::CONFLICT, "already_running"),
            Self::Params(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_params"),
            Self::Key => (StatusCode::BAD_REQUEST, "bad_idempotency_key"),
            Self::Database(error) if error.is_retryable() => {
                (StatusCode::SERVICE_UNAVAILABLE, "job_store_unavailable")
            }
            Self::Database(_) => (StatusCode::INTERNAL_SERVER_ERROR, "job_store_refuses"),
        };
        let problem = Problem::new(status, code, self.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            problem.with_retry_after(Duration::from_secs(1))
        } else {
            problem
        }
    }
}

understudy_runtime::answer_with_problem!(EnqueueError);

/// What is to be stored.
struct Ordered {
    order: Order,
    key: String,
}

enum Stored {
    Done(Enqueued),
    UnknownJob,
    RunsEverywhere,
    Busy(RunId),
    Params(SpecError),
}

impl Store {
    /// Puts a run into the queue; it survives any crash once this has returned.
    ///
    /// # Errors
    /// [`EnqueueError`]; after a retryable database error the run may be in or not: ask again with the same key.
    pub async fn enqueue(&self, order: Order) -> Result<Enqueued, EnqueueError> {
        let ordered = Ordered { key: key_of(&order)?, order };
        decide(self.transaction(ordered, enqueue_boxed).await?)
    }

    /// Stores runs of past due times that have none yet; gives how many. Due times that were decided long ago are not
    /// started by anything but this.
    pub(crate) async fn backfill(
        &self,
        spec: &JobSpec,
        fires: Vec<(i64, String)>,
        again: Option<&str>,
    ) -> super::Result<u64> {
        let now_ms = self.now_ms().await?;
        let rows: Vec<_> = fires
            .into_iter()
            .map(|(fire_ms, key)| {
                let mut row = queued_row(spec, Cause::Backfill, now_ms);
                row["fire_ms"] = json!(fire_ms);
                row["fire_key"] = json!(match again {
                    Some(again) => format!("backfill:{again}:{key}"),
                    None => key,
                });
                row
            })
            .collect();
        let input = (text_of(&rows), now_ms);
        self.transaction(input, |tx, input| {
            async move {
                let (rows, now_ms) = &*input;
                let values = vec![rows.clone().into(), 0_i64.into(), (*now_ms).into()];
                let made = tx.all(&insert_runs_sql(tx), values).await?;
                Ok(u64::try_from(made.len()).unwrap_or(u64::MAX))
            }
            .boxed()
        })
        .await
    }
}

/// Puts a run into the queue within the caller's transaction: it is there if and only if that commits.
pub(crate) async fn enqueue_in(tx: &Tx<'_>, order: Order) -> Result<Enqueued, EnqueueError> {
    let ordered = Ordered { key: key_of(&order)?, order };
    decide(store(tx, &ordered).await.map_err(DatabaseError::from)?)
}

fn decide(stored: Stored) -> Result<Enqueued, EnqueueError> {
    match stored {
        Stored::Done(enqueued) => Ok(enqueued),
        Stored::UnknownJob => Err(EnqueueError::UnknownJob),
        Stored::RunsEverywhere => Err(EnqueueError::RunsEverywhere),
        Stored::Busy(run) => Err(EnqueueError::Busy(run)),
        Stored::Params(error) => Err(EnqueueError::Params(error)),
    }
}

fn key_of(order: &Order) -> Result<String, EnqueueError> {
    let kind = order.cause.as_str();
    match &order.key {
        None => Ok(format!("{kind}:{:032x}", rand::random::<u128>())),
        Some(key) if key.is_empty() || key.len() > 200 => Err(EnqueueError::Key),
        Some(key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) => Err(EnqueueError::Key),
        Some(key) => Ok(format!("{kind}:{key}")),
    }
}

fn enqueue_boxed<'c>(
    tx: &'c Tx<'c>,
    ordered: Arc<Ordered>,
) -> BoxFuture<'c, Result<Stored, DbErr>> {
    async move { store(tx, &ordered).await }.boxed()
}

async fn store(tx: &Tx<'_>, ordered: &Ordered) -> Result<Stored, DbErr> {
    let Ordered { order, key } = ordered;
    let job = order.job.as_str();
    // Overlaps are decided under the cursor, as claims do; tasks may overlap and need none of that.
    let Some(spec) = spec_of(tx, job).await? else { return Ok(Stored::UnknownJob) };
    let spec = spec.map_err(|error| DbErr::Json(error.to_string()))?;
    if spec.placement == Placement::Every {
        return Ok(Stored::RunsEverywhere);
    }
    if let Some(params) = &order.params
        && let Err(error) = spec.check_params(params)
    {
        return Ok(Stored::Params(error));
    }
    if !matches!(spec.overlap, Overlap::Allow { .. }) {
        let lock = format!(
            "SELECT job FROM us_job_cursor WHERE job = $1 AND scope = ''{}",
            tx.backend.for_update()
        );
        tx.one(&lock, vec![job.into()]).await?;
    }
    let against = match spec.overlap {
        Overlap::Skip => "'queued', 'retrying', 'running'",
        Overlap::QueueOne => "'queued', 'retrying'",
        Overlap::QueueAll | Overlap::CancelPrevious | Overlap::Allow { .. } => "",
    };
    if !against.is_empty() {
        if let Some(enqueued) = earlier(tx, job, key).await? {
            return Ok(Stored::Done(enqueued));
        }
        if let Some(busy) = busy(tx, job, against).await? {
            return Ok(Stored::Busy(busy));
        }
    }
    let now_ms = tx.now_ms().await?;
    let mut row = queued_row(&spec, order.cause, now_ms);
    row["fire_key"] = json!(key);
    row["not_before_ms"] = json!(order.not_before_ms.max(now_ms));
    row["params"] = json!(order.params.as_ref().map(text_of));
    row["trace"] = json!(order.trace.map(|trace| trace.to_string()));
    let values = vec![text_of(&[row]).into(), 0_i64.into(), now_ms.into()];
    match tx.all(&insert_runs_sql(tx), values).await?.first() {
        Some(row) => Ok(Stored::Done(Enqueued {
            run: RunId(row.try_get("", "id")?),
            new: true,
            state: RunState::Queued,
        })),
        // It was there, or somebody was faster with the same key.
        None => {
            let found = earlier(tx, job, key).await?;
            found.map(Stored::Done).ok_or_else(|| DbErr::RecordNotFound("a run".into()))
        }
    }
}

async fn earlier(tx: &Tx<'_>, job: &str, key: &str) -> Result<Option<Enqueued>, DbErr> {
    let sql = "SELECT id, state FROM us_job_run WHERE job = $1 AND fire_key = $2 AND scope = ''";
    let Some(row) = tx.one(sql, vec![job.into(), key.into()]).await? else { return Ok(None) };
    let state: String = row.try_get("", "state")?;
    let state = state.parse().map_err(|_| DbErr::Custom("a state that nobody knows".into()))?;
    Ok(Some(Enqueued { run: RunId(row.try_get("", "id")?), new: false, state }))
}

async fn busy(tx: &Tx<'_>, job: &str, states: &str) -> Result<Option<RunId>, DbErr> {
    let sql = format!(
        "SELECT min(id) AS id FROM us_job_run WHERE job = $1 AND scope = '' AND state IN ({states})"
    );
    let row = required(tx.one(&sql, vec![job.into()]).await?)?;
    Ok(row.try_get::<Option<i64>>("", "id")?.map(RunId))
}

/// A run that waits for a node; the caller says what makes it unique.
pub(super) fn queued_row(spec: &JobSpec, cause: Cause, now_ms: i64) -> serde_json::Value {
    let limit = spec.limit();
    let chain = (!spec.then.is_empty()).then(|| {
        text_of(&Chain { rest: spec.then.clone(), on_failure: spec.on_failure, root: None })
    });
    // Whoever leads may not have the handler, and nothing is due: any node will do that has it. What Understudy itself
    // does for the cluster is the leader's, which leaves to others what it lacks the handler for.
    let of_leader = spec.system && spec.placement == Placement::Leader;
    json!({
        "job": spec.name, "scope": "", "fire_ms": now_ms, "cause": cause.as_str(), "state": "queued",
        "placement": if of_leader { "leader" } else { "any" }, "handler": spec.handler,
        "labels": (!spec.labels.is_empty()).then(|| text_of(&spec.labels)),
        "priority": spec.priority, "system": spec.system,
        "exclusive": !matches!(spec.overlap, Overlap::Allow { .. }),
        "limit_key": limit.as_ref().map(|(key, _)| key), "limit_max": limit.as_ref().map(|(_, max)| max),
        "chain": chain, "not_before_ms": now_ms,
    })
}
