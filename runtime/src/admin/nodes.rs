//! Single nodes, of which any may be asked through any other: how one is, taking it out of service and back, restarting
//! it, and whether it may be stopped.
//!
//! | resource | what it does |
//! |---|---|
//! | `GET /v1/nodes/{name}` | how the node is; `detail` is `null` when it does not answer within a second |
//! | `POST /v1/nodes/{name}/drain?force=` `{why}` | takes it out of service, for as long as its process lives |
//! | `POST /v1/nodes/{name}/undrain` | takes it back |
//! | `POST /v1/nodes/{name}/restart?force=` `{why}` | has it drain and end with status 0, for a supervisor |
//! | `GET /v1/nodes/{name}/safe-to-stop` | whether anything would be lost |
//!
//! Draining and restarting are refused (409 `last_node`) when no other node is ready, unless forced. None of it is what
//! keeps data safe: that is done by leases, epochs and versions, whatever operators do.

mod detail;
mod fleet;
mod listening;
mod messages;
mod process;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;

use super::asked::{Nothing, Query, Reason, body};
use super::resources::{AdminState, json as answer, starting};
use super::{Role, note, require};
use crate::http::problem::{ApiError as _, Problem};
use crate::ids::{NodeId, NodeName};
use crate::membership::{Member, MemberRecord};
use crate::service::StopNote;

pub(crate) use detail::Here;
pub use detail::{DatabaseDetail, NodeDetail, RedisDetail, ServiceDetail};
pub use fleet::{Fleet, FleetError, Wish};
pub(crate) use listening::listen;

type Answer = Result<HttpResponse, Problem>;

/// What the resources stand on; nothing before the node has started.
struct Nodes(Option<Fleet>);

/// Adds the resources.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    let fleet = state.context.as_ref().map(Fleet::of);
    app.app_data(Data::new(Nodes(fleet)))
        .route("/v1/nodes/{name}", web::get().to(show))
        .route("/v1/nodes/{name}/drain", web::post().to(drain))
        .route("/v1/nodes/{name}/undrain", web::post().to(undrain))
        .route("/v1/nodes/{name}/restart", web::post().to(restart))
        .route("/v1/nodes/{name}/safe-to-stop", web::get().to(safe_to_stop));
}

#[derive(Serialize)]
struct ShowBody {
    node: NodeName,
    live: bool,
    age_ms: u64,
    record: MemberRecord,
    /// `null` when the node does not answer.
    detail: Option<NodeDetail>,
}

async fn show(nodes: Data<Nodes>, request: HttpRequest, name: Path<String>) -> Answer {
    Query::of(&request, &[])?;
    let Nodes(Some(fleet)) = nodes.as_ref() else { return Ok(starting()) };
    let Member { record, age_ms, live } = find(fleet, &name)?;
    let detail = fleet.detail(&record.id).await;
    Ok(answer(&ShowBody { node: record.id.name().clone(), live, age_ms, record, detail }))
}

async fn drain(
    nodes: Data<Nodes>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    let wish = wish(&request, &bytes)?;
    let Nodes(Some(fleet)) = nodes.as_ref() else { return Ok(starting()) };
    let node = find(fleet, &name)?.record.id;
    note(&request, wish.why.clone());
    let drained = fleet.drain(&node, &wish).await.map_err(|error| error.problem())?;
    Ok(answer(&json!({ "node": node.name(), "drained": drained })))
}

async fn undrain(
    nodes: Data<Nodes>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let Nothing {} = body(&request, &bytes)?;
    let by = require(&request, Role::Operator)?.name;
    let Nodes(Some(fleet)) = nodes.as_ref() else { return Ok(starting()) };
    let node = find(fleet, &name)?.record.id;
    fleet.undrain(&node, &by).await.map_err(|error| error.problem())?;
    Ok(answer(&json!({ "node": node.name(), "drained": null })))
}

async fn restart(
    nodes: Data<Nodes>,
    request: HttpRequest,
    name: Path<String>,
    bytes: Bytes,
) -> Answer {
    let wish = wish(&request, &bytes)?;
    let Nodes(Some(fleet)) = nodes.as_ref() else { return Ok(starting()) };
    let node = find(fleet, &name)?.record.id;
    note(&request, wish.why.clone());
    fleet.restart(&node, &wish).await.map_err(|error| error.problem())?;
    let mut accepted = HttpResponse::Accepted();
    accepted.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    let incarnation = node.incarnation().to_string();
    Ok(accepted.json(json!({ "node": node.name(), "incarnation": incarnation })))
}

async fn safe_to_stop(nodes: Data<Nodes>, request: HttpRequest, name: Path<String>) -> Answer {
    Query::of(&request, &[])?;
    let Nodes(Some(fleet)) = nodes.as_ref() else { return Ok(starting()) };
    let member = find(fleet, &name)?;
    let node = member.record.id.name();
    let (told, others_ready) =
        tokio::join!(fleet.stop_notes(&member.record.id), fleet.others_ready(node));
    let Judgement { reasons, notes } = judge(told, others_ready);
    if reasons.is_empty() {
        return Ok(answer(&json!({ "node": node, "safe": true, "reasons": [], "notes": notes })));
    }
    let texts: Vec<String> = reasons.iter().map(|reason| reason.text.clone()).collect();
    let title = "Stopping the node would do harm";
    let refusal = Problem::new(StatusCode::CONFLICT, "not_safe", title)
        .with_detail(texts.join("; "))
        .with_member("node", node.as_str())
        .with_member("safe", false)
        .with_member("reasons", json!(reasons))
        .with_member("notes", notes);
    Err(refusal)
}

/// Why a node should not be stopped.
#[derive(Debug, Serialize)]
struct Against {
    code: String,
    text: String,
}

struct Judgement {
    reasons: Vec<Against>,
    notes: Vec<String>,
}

/// Judges what a node tells, if it does, and whether others are ready.
fn judge(told: Option<Vec<StopNote>>, others_ready: bool) -> Judgement {
    let mut reasons = Vec::new();
    let mut against = |code: &str, text: String| {
        reasons.push(Against { code: code.to_owned(), text });
    };
    if told.is_none() {
        against("not_alive", "it does not answer, so what it has to hand over is not known".into());
    }
    if !others_ready {
        against("last_ready_node", "no other node is ready".into());
    }
    let mut notes = Vec::new();
    for StopNote { against: code, text } in told.unwrap_or_default() {
        match code {
            Some(code) => against(&code, text),
            None => notes.push(text),
        }
    }
    Judgement { reasons, notes }
}

/// Reads what an operator wants, and who they are.
fn wish(request: &HttpRequest, bytes: &Bytes) -> Result<Wish, Problem> {
    let force = Query::of(request, &["force"])?.flag("force")?;
    let Reason { why } = body(request, bytes)?;
    let by = require(request, Role::Operator)?.name.to_string();
    Ok(Wish { by, why, force })
}

/// Finds a node by its name, or one life of it by its id: what was meant for an earlier life must not meet the next one.
fn find(fleet: &Fleet, text: &str) -> Result<Member, Problem> {
    let life = text.parse::<NodeId>().ok();
    let name = match &life {
        Some(life) => life.name().clone(),
        None => text.parse::<NodeName>().map_err(|error| {
            unknown_node().with_detail(error.to_string()) // never repeats what was given
        })?,
    };
    let member = fleet.member(&name).ok_or_else(unknown_node)?;
    if life.is_some_and(|life| life != member.record.id) {
        return Err(
            unknown_node().with_detail("this life of the node has ended; another one is listed")
        );
    }
    Ok(member)
}

fn unknown_node() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_node", "There is no such node")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h9_a_node_is_safe_to_stop_when_it_answers_others_are_ready_and_nothing_speaks_against_it() {
        let notes = || vec![StopNote::note("it leads now")];
        let Judgement { reasons, notes: told } = judge(Some(notes()), true);
        assert!(reasons.is_empty());
        assert_eq!(told, ["it leads now"]);
        let codes = |judgement: Judgement| {
            judgement.reasons.into_iter().map(|reason| reason.code).collect::<Vec<_>>()
        };
        assert_eq!(codes(judge(Some(notes()), false)), ["last_ready_node"]);
        assert_eq!(codes(judge(None, false)), ["not_alive", "last_ready_node"]);
        let only = vec![StopNote::against("only_eligible_leader", "no other node could lead")];
        assert_eq!(codes(judge(Some(only), true)), ["only_eligible_leader"]);
    }
}
