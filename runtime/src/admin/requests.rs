//! The requests that a node's public port is working on, of any node from any node: `/v1/requests`.
//!
//! A request is in the list until its answer begins; what is sent after that (a large file, a stream) is not.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};

use super::asked::Query;
use super::note;
use super::resources::{AdminState, Started, json};
use crate::bus::{Bus, BusError, BusRequest};
use crate::http::problem::Problem;
use crate::http::requests::{Cancelling, Listing, Requests};
use crate::ids::{NodeId, NodeName};
use crate::service::NodeContext;

/// How long another node may take to answer.
const LIMIT: Duration = Duration::from_secs(2);
/// What somebody is told whose request is not ended yet.
const LATER: &str = "a handler blocks the worker that has it: the request is cancelled when its worker answers, \
                     unless it has ended by then";

type Answer = Result<HttpResponse, Problem>;

/// Asks a node what its public port is working on.
#[derive(Debug, Serialize, Deserialize)]
struct ListRequests {}

impl BusRequest for ListRequests {
    const NAME: &'static str = "requests.list";
    type Reply = Listing;
}

/// Asks a node to end a request.
#[derive(Debug, Serialize, Deserialize)]
struct CancelRequest {
    id: String,
}

impl BusRequest for CancelRequest {
    const NAME: &'static str = "requests.cancel";
    type Reply = Cancelling;
}

/// Answers other nodes.
pub(crate) fn listen(bus: &Bus, requests: &Requests) {
    let listed = requests.clone();
    bus.handle(move |_from, ListRequests {}| {
        let requests = listed.clone();
        async move { requests.list().await }
    });
    let ended = requests.clone();
    bus.handle(move |_from, CancelRequest { id }| {
        let requests = ended.clone();
        async move { requests.cancel(&id).await }
    });
}

/// Adds the resources.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    app.app_data(Started::of(state))
        .route("/v1/requests", web::get().to(list))
        .route("/v1/requests/{id}", web::delete().to(cancel));
}

#[derive(Serialize)]
struct RequestsBody {
    node: NodeName,
    #[serde(flatten)]
    listing: Listing,
}

async fn list(started: Data<Started>, request: HttpRequest) -> Answer {
    let context = started.context()?;
    let node = asked_node(context, &request)?;
    let listing = context.bus.request(&node, &ListRequests {}, LIMIT).await;
    let listing = listing.map_err(|error| unreachable(&error))?;
    Ok(json(&RequestsBody { node: node.name().clone(), listing }))
}

#[derive(Serialize)]
struct CancelledBody {
    node: NodeName,
    cancelled: String,
}

#[derive(Serialize)]
struct LaterBody {
    node: NodeName,
    will_be_cancelled: String,
    detail: &'static str,
}

async fn cancel(started: Data<Started>, request: HttpRequest, id: web::Path<String>) -> Answer {
    let context = started.context()?;
    let node = asked_node(context, &request)?;
    let id = id.into_inner();
    note(&request, format!("request {id} of {}", node.name()));
    let cancel = CancelRequest { id };
    let cancelling = context.bus.request(&node, &cancel, LIMIT).await;
    let (node, id) = (node.name().clone(), cancel.id);
    match cancelling.map_err(|error| unreachable(&error))? {
        Cancelling::Done => Ok(json(&CancelledBody { node, cancelled: id })),
        Cancelling::Later => Ok(HttpResponse::Accepted()
            .insert_header((CACHE_CONTROL, "no-store"))
            .json(LaterBody { node, will_be_cancelled: id, detail: LATER })),
        Cancelling::NotNow => Err(blocked()),
        Cancelling::Unknown => Err(unknown()),
    }
}

fn unknown() -> Problem {
    let (status, code) = (StatusCode::NOT_FOUND, "unknown_request");
    Problem::new(status, code, "No such request is under way on this node")
        .with_detail("it has ended, or was one of an earlier process of the node")
}

/// The letters that wait may be about other requests, so nothing is known of this one.
fn blocked() -> Problem {
    let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "worker_blocked");
    Problem::new(status, code, "The worker that has the request does not answer")
        .with_detail("a handler blocks its thread, and it has too much to read to be told more")
        .with_retry_after(Duration::from_secs(1))
}

/// Finds the node that `?node=` names; the one that is asked when it names none.
pub(super) fn asked_node(context: &NodeContext, request: &HttpRequest) -> Result<NodeId, Problem> {
    let query = Query::of(request, &["node"])?;
    let right = "the name of a node: 1 to 64 of A-Z a-z 0-9 . _ -";
    let name: Option<NodeName> = query.parsed("node", right, |text| text.parse().ok())?;
    let Some(name) = name else { return Ok(context.node_id.clone()) };
    let nodes = context.membership.members();
    let mut found = nodes.iter().filter(|member| *member.record.id.name() == name);
    match found.next() {
        Some(member) if member.live => Ok(member.record.id.clone()),
        Some(_) => Err(unreachable(&BusError::NoReceiver)),
        None => {
            let (status, code) = (StatusCode::NOT_FOUND, "unknown_node");
            let problem = Problem::new(status, code, "There is no node of this name");
            Err(problem.with_member("parameter", "node"))
        }
    }
}

/// The node is silent, or did not answer in time.
pub(super) fn unreachable(error: &BusError) -> Problem {
    let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "node_unreachable");
    Problem::new(status, code, "The node does not answer")
        .with_detail(error.to_string())
        .with_retry_after(Duration::from_secs(1))
}
