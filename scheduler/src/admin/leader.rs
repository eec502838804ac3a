//! Who leads, who led, and moving the lead.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::json;
use understudy_runtime::http::problem::Problem;
use understudy_runtime::ids::{NodeId, NodeName};

use super::AdminJobs;
use super::answer::{Answer, Refusal, accepted, conflict, ok, rfc3339};
use super::asked::{Nothing, PossibleReason, Query, Reason, body, by};
use super::hand_over::HandOver;
use crate::leader::LeaderPhase;
use crate::store::TermRow;

/// How long the database may take to tell the term.
const TERM_LIMIT: Duration = Duration::from_secs(1);
/// The longest time that a node can be told not to lead: a day. Whoever wants more wants maintenance.
const LONGEST_HOLD_MS: u64 = 86_400_000;

/// Adds the resources.
pub(super) fn configure(app: &mut ServiceConfig) {
    let maintenance = web::resource("/v1/nodes/{name}/maintenance")
        .route(web::post().to(begin_maintenance))
        .route(web::delete().to(end_maintenance));
    app.service(web::resource("/v1/leader").route(web::get().to(show)))
        .service(web::resource("/v1/leader/history").route(web::get().to(history)))
        .service(web::resource("/v1/leader/step-down").route(web::post().to(step_down)))
        .service(web::resource("/v1/leader/drill").route(web::post().to(drill)))
        .service(web::resource("/v1/leader/freeze").route(web::post().to(freeze)))
        .service(web::resource("/v1/leader/unfreeze").route(web::post().to(unfreeze)))
        .service(maintenance)
        .service(web::resource("/v1/nodes/{name}/resume").route(web::post().to(end_maintenance)));
}

/// Who leads. The first five have the names that the cluster API of DHIS2 gives them.
#[derive(Serialize)]
struct LeaderBody {
    #[serde(rename = "leaderNodeId")]
    leader_node_id: Option<String>,
    #[serde(rename = "leaderNodeUuid")]
    leader_node_uuid: Option<String>,
    #[serde(rename = "currentNodeId")]
    current_node_id: String,
    #[serde(rename = "currentNodeUuid")]
    current_node_uuid: String,
    /// Whether this node leads.
    leader: bool,
    epoch: Option<i64>,
    /// The same: what systems that are written to compare.
    token: Option<i64>,
    /// Since when the leader leads.
    since_ms: Option<i64>,
    since_at: Option<String>,
    expires_in_ms: Option<i64>,
    state: LeaderPhase,
    state_since_ms: i64,
    eligible: bool,
    priority: i32,
    maintenance: bool,
    frozen: bool,
    hold_until_ms: Option<i64>,
    trouble: Option<String>,
}

async fn show(admin: Data<AdminJobs>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let status = admin.jobs.leader_status();
    // Without the database there is still the lease to tell of.
    let terms = tokio::time::timeout(TERM_LIMIT, admin.jobs.store().terms(1)).await;
    let terms = terms.ok().and_then(Result::ok).unwrap_or_default();
    let leader = status.leader.as_ref().map(ToString::to_string);
    let term = terms
        .into_iter()
        .find(|term| term.ended_ms.is_none() && Some(&term.node) == leader.as_ref());
    let leads = admin.jobs.leader().board().leading(admin.node.clock.now());
    let own = leads.as_ref().and_then(|term| i64::try_from(term.epoch).ok());
    let epoch = own.or_else(|| term.as_ref().map(|term| term.epoch));
    let since_ms = match &term {
        Some(term) => Some(term.started_ms),
        None => leads.as_ref().map(|_| status.since_ms),
    };
    Ok(ok(&LeaderBody {
        leader_node_id: status.leader.as_ref().map(|node| node.name().as_str().to_owned()),
        leader_node_uuid: leader,
        current_node_id: status.this.name().as_str().to_owned(),
        current_node_uuid: status.this.to_string(),
        leader: leads.is_some(),
        epoch,
        token: epoch,
        since_ms,
        since_at: since_ms.map(rfc3339),
        expires_in_ms: status.expires_in_ms,
        state: status.state,
        state_since_ms: status.since_ms,
        eligible: status.eligible,
        priority: status.priority,
        maintenance: status.maintenance,
        frozen: status.frozen,
        hold_until_ms: status.hold_until_ms,
        trouble: status.trouble,
    }))
}

#[derive(Serialize)]
struct TermBody {
    #[serde(flatten)]
    term: TermRow,
    started_at: String,
    ended_at: Option<String>,
    /// How long nobody led before it; `null` for the first that is known.
    gap_ms: Option<i64>,
}

async fn history(admin: Data<AdminJobs>, request: HttpRequest) -> Answer {
    let limit = Query::of(&request, &["limit"])?.limit()?;
    // One more, for the gap before the last.
    let mut terms = term_bodies(admin.jobs.store().terms(limit + 1).await?);
    terms.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(ok(&json!({ "terms": terms })))
}

fn term_bodies(terms: Vec<TermRow>) -> Vec<TermBody> {
    let gaps: Vec<i64> = terms
        .windows(2)
        .filter_map(|pair| {
            let [next, before] = pair else { return None };
            // The end of a term that was cut off is only known to be after its last sign of life.
            let cut_off = before.reason.as_deref() == Some("superseded");
            let ended = before.ended_ms.filter(|_| !cut_off).unwrap_or(before.seen_ms);
            Some((next.started_ms - ended).max(0))
        })
        .collect();
    let gaps = gaps.into_iter().map(Some).chain(std::iter::repeat(None));
    let body = |(term, gap_ms): (TermRow, Option<i64>)| TermBody {
        started_at: rfc3339(term.started_ms),
        ended_at: term.ended_ms.map(rfc3339),
        gap_ms,
        term,
    };
    terms.into_iter().zip(gaps).map(body).collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepDownBody {
    hold_ms: Option<u64>,
}

async fn step_down(admin: Data<AdminJobs>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let asked: StepDownBody = body(&request, &bytes)?;
    if asked.hold_ms.is_some_and(|hold| hold > LONGEST_HOLD_MS) {
        return Err(hold_too_long().into());
    }
    let by = by(&request)?;
    tracing::info!(by, hold_ms = asked.hold_ms, "an operator asks for another leader");
    Ok(handed_over(&admin.hand_over(asked.hold_ms).await?))
}

fn hold_too_long() -> Problem {
    let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value");
    Problem::new(status, code, "A value in the body cannot be used").with_detail(format!(
        "`hold_ms` must be 0 to {LONGEST_HOLD_MS}: use maintenance for longer"
    ))
}

async fn drill(admin: Data<AdminJobs>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let Nothing {} = body(&request, &bytes)?;
    let by = by(&request)?;
    let done = admin.hand_over(None).await?;
    tracing::info!(by, from = %done.from, gap_ms = done.gap_ms(), "a hand-over was exercised");
    Ok(handed_over(&done))
}

/// Says who leads now; 202 when nobody does yet.
fn handed_over(done: &HandOver) -> HttpResponse {
    let node = done.after.as_ref().map(|term| term.node.as_str());
    let name = node.map(name_of);
    let body = json!({
        "from": done.from.name(),
        "to": name,
        "leaderNodeId": name,
        "leaderNodeUuid": node,
        "epoch": done.after.as_ref().map(|term| term.epoch),
        "gap_ms": done.gap_ms(),
    });
    if node.is_some() { ok(&body) } else { accepted(&body) }
}

/// The name out of a node's id.
pub(super) fn name_of(node: &str) -> &str {
    node.split_once('#').map_or(node, |(name, _)| name)
}

async fn freeze(admin: Data<AdminJobs>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let Reason { why } = body(&request, &bytes)?;
    set_frozen(&admin, true, &by(&request)?, &why).await
}

async fn unfreeze(admin: Data<AdminJobs>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let PossibleReason { why } = body(&request, &bytes)?;
    set_frozen(&admin, false, &by(&request)?, &why).await
}

async fn set_frozen(admin: &AdminJobs, frozen: bool, by: &str, why: &str) -> Answer {
    admin.jobs.freeze_leader(frozen, by, why).await?;
    Ok(ok(&admin.jobs.store().switches().await?.frozen))
}

async fn begin_maintenance(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    let force = Query::of(&request, &["force"])?.flag("force")?;
    let name = node_name(&name)?;
    let Reason { why } = body(&request, &bytes)?;
    let by = by(&request)?;
    let in_maintenance = admin.jobs.store().in_maintenance().await?;
    let already = in_maintenance.iter().any(|(node, _)| node == name.as_str());
    if !force && !already {
        let others = admin.standing_besides(&name).await?;
        if !others.iter().any(|standing| standing.eligible) {
            return Err(last_node().into());
        }
    }
    admin.jobs.maintain(name.as_str(), true, &by, &why).await?;
    maintenance_of(&admin, &name).await
}

fn last_node() -> Problem {
    conflict("last_node", "No other living node could lead")
        .with_detail("with `?force=true` the cluster is left without a leader")
}

async fn end_maintenance(
    admin: Data<AdminJobs>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let name = node_name(&name)?;
    let Nothing {} = body(&request, &bytes)?;
    admin.jobs.maintain(name.as_str(), false, &by(&request)?, "").await?;
    maintenance_of(&admin, &name).await
}

async fn maintenance_of(admin: &AdminJobs, name: &NodeName) -> Answer {
    let in_maintenance = admin.jobs.store().in_maintenance().await?;
    let switch = in_maintenance.into_iter().find(|(node, _)| node == name.as_str());
    let maintenance = switch
        .map(|(_, switch)| json!({ "by": switch.by, "why": switch.why, "at_ms": switch.at_ms }));
    Ok(ok(&json!({ "node": name, "maintenance": maintenance })))
}

/// Reads the name of a node; one life of it stands for the name.
fn node_name(text: &str) -> Result<NodeName, Refusal> {
    let name = text.parse::<NodeId>().map(|node| node.name().clone());
    name.or_else(|_| text.parse::<NodeName>()).map_err(|error| {
        let (status, code) = (StatusCode::NOT_FOUND, "unknown_node");
        Refusal(Problem::new(status, code, "There is no such node").with_detail(error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_be_named_with_or_without_its_life() {
        assert_eq!(node_name("a.b-1").unwrap().as_str(), "a.b-1");
        assert_eq!(node_name("a#0000000000000001").unwrap().as_str(), "a");
        for wrong in ["", "a b", "a#1"] {
            assert_eq!(node_name(wrong).unwrap_err().0.code, "unknown_node", "{wrong}");
        }
        assert_eq!(name_of("a#0000000000000001"), "a");
    }

    #[test]
    fn the_gap_before_a_term_is_counted_from_the_end_of_the_one_before() {
        let term = |epoch, started_ms, seen_ms, end: Option<(i64, &str)>| TermRow {
            epoch,
            node: "a#0000000000000001".to_owned(),
            started_ms,
            seen_ms,
            ended_ms: end.map(|(at, _)| at),
            reason: end.map(|(_, why)| why.to_owned()),
        };
        let bodies = term_bodies(vec![
            term(3, 5_000, 5_500, None),
            term(2, 2_000, 3_000, Some((5_000, "superseded"))),
            term(1, 0, 1_000, Some((1_900, "stepped_down"))),
        ]);
        let gaps: Vec<_> = bodies.iter().map(|body| body.gap_ms).collect();
        assert_eq!(gaps, [Some(2_000), Some(100), None]);
    }
}
