//! Restarting all nodes, one after the other: ordering it, and how far it is.

use actix_web::HttpRequest;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use serde::{Deserialize, Serialize};
use understudy_runtime::admin::asked::reason;
use understudy_runtime::admin::nodes::Fleet;
use understudy_runtime::admin::note;
use understudy_runtime::http::problem::Problem;
use understudy_runtime::ids::{NodeId, NodeName};

use super::AdminJobs;
use super::answer::{Answer, conflict, ok};
use super::asked::{Query, body, by, header};
use super::starts::ordered;
use crate::progress::Progress;
use crate::run::{Cause, RunId, RunState};
use crate::spec::JobName;
use crate::store::{Order, RunFilter, RunRow};
use crate::system::{ROLLING_RESTART, RollingOrder, Standing};

/// For how long a node must have been ready before the next one goes, when nothing is said, and at most, ms.
const SETTLE_MS: u64 = 5_000;
const LONGEST_SETTLE_MS: u64 = 3_600_000;
/// How long one node may take when nothing is said, at least, and at most, ms.
const LIMIT_MS: u64 = 300_000;
const SHORTEST_LIMIT_MS: u64 = 1_000;
const LONGEST_LIMIT_MS: u64 = 86_400_000;

/// Adds the resources.
pub(super) fn configure(app: &mut ServiceConfig) {
    let resource = web::resource("/v1/cluster/rolling-restart");
    app.service(resource.route(web::get().to(show)).route(web::post().to(begin)));
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollingBody {
    #[serde(deserialize_with = "reason")]
    why: String,
    settle_ms: Option<u64>,
    limit_ms: Option<u64>,
}

async fn begin(admin: Data<AdminJobs>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let asked: RollingBody = body(&request, &bytes)?;
    let by = by(&request)?;
    let live = admin.node.membership.live();
    let order = RollingOrder {
        by: by.clone(),
        settle_ms: within(asked.settle_ms, "settle_ms", (0, SETTLE_MS, LONGEST_SETTLE_MS))?,
        limit_ms: within(
            asked.limit_ms,
            "limit_ms",
            (SHORTEST_LIMIT_MS, LIMIT_MS, LONGEST_LIMIT_MS),
        )?,
        nodes: live.iter().map(ToString::to_string).collect(),
        why: asked.why,
    };
    note(&request, order.why.clone());
    if order.nodes.len() < 2 {
        return Err(alone().into());
    }
    let order = Order {
        key: header(&request, "idempotency-key")?.map(str::to_owned),
        params: serde_json::to_value(&order).ok(),
        by,
        ..Order::new(job_name(), Cause::Manual)
    };
    Ok(ordered(admin.jobs.order(order).await?))
}

/// Reads a number that may be left out.
fn within(
    given: Option<u64>,
    name: &str,
    (least, usual, most): (u64, u64, u64),
) -> Result<u64, Problem> {
    let number = given.unwrap_or(usual);
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(super::answer::invalid_value(format!("`{name}` must be {least} to {most}")))
}

fn alone() -> Problem {
    conflict("last_node", "No other node is there to serve meanwhile")
        .with_detail("a rolling restart needs at least two living nodes")
}

fn job_name() -> JobName {
    ROLLING_RESTART.parse().expect("the name of the job is one")
}

#[derive(Serialize)]
struct RestartBody {
    /// The latest run; `null` when there was none, or it was forgotten.
    run: Option<RunId>,
    state: Option<RunState>,
    nodes: Vec<NodeBody>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct NodeBody {
    node: NodeName,
    state: &'static str,
    since_ms: i64,
}

async fn show(admin: Data<AdminJobs>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let filter = RunFilter { job: Some(job_name()), limit: 1, ..RunFilter::default() };
    let Some(run) = admin.jobs.store().runs(&filter).await?.into_iter().next() else {
        return Ok(ok(&RestartBody { run: None, state: None, nodes: Vec::new() }));
    };
    let fleet = Fleet::of(&admin.node);
    let order: Option<RollingOrder> =
        run.params.as_ref().and_then(|params| serde_json::from_value(params.clone()).ok());
    let nodes = order.map(|order| order.nodes).unwrap_or_default();
    let nodes = nodes.iter().filter_map(|node| node.parse().ok());
    let nodes = nodes.map(|node| body_of(&node, &fleet, &run)).collect();
    Ok(ok(&RestartBody { run: Some(run.id), state: Some(run.state), nodes }))
}

/// Says how far a node is, and since when it is there, as far as that is known.
fn body_of(node: &NodeId, fleet: &Fleet, run: &RunRow) -> NodeBody {
    let listed = fleet.member(node.name());
    let turn_ms = || began_ms(run, node.name()).unwrap_or(run.queued_ms);
    let (state, since_ms) = match Standing::of(node, listed.as_ref()) {
        Standing::Untouched => ("waiting", run.queued_ms),
        Standing::Draining => ("draining", turn_ms()),
        Standing::Gone => ("gone", turn_ms()),
        Standing::Back(_) => {
            let started_ms = listed.map_or(0, |member| member.record.started_ms);
            ("back", i64::try_from(started_ms).unwrap_or(i64::MAX))
        }
    };
    NodeBody { node: node.name().clone(), state, since_ms }
}

/// When its turn came.
fn began_ms(run: &RunRow, node: &NodeName) -> Option<i64> {
    let progress: Progress = serde_json::from_value(run.progress.clone()?).ok()?;
    let stage = progress.stages.into_iter().find(|stage| stage.name == node.as_str())?;
    Some(stage.started_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h9_an_order_needs_a_reason_and_may_say_how_patient_it_is() {
        let wrong = serde_json::from_str::<RollingBody>(r#"{"settle_ms":1}"#).unwrap_err();
        assert!(wrong.to_string().contains("`why`"), "{wrong}");
        let wrong = serde_json::from_str::<RollingBody>(r#"{"why":"x","settle":1}"#).unwrap_err();
        assert!(wrong.to_string().contains("`settle`"), "{wrong}");
        assert_eq!(within(None, "settle_ms", (0, 5, 9)).unwrap(), 5);
        assert_eq!(within(Some(0), "settle_ms", (0, 5, 9)).unwrap(), 0);
        let problem = within(Some(10), "settle_ms", (0, 5, 9)).unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.code), (422, "invalid_value"));
        assert!(problem.detail.unwrap().contains("`settle_ms` must be 0 to 9"));
        assert!(job_name().is_system());
    }
}
