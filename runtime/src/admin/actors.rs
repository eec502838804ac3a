//! The actors of all nodes, from any node: `/v1/actors`. What they are is told by [`crate::actors`].
//!
//! | resource | what it does |
//! |---|---|
//! | `GET /v1/actors` | the types of actors with their counts and times, and the background tasks, node by node |
//! | `GET /v1/actors/slow` | the slowest messages of the last 15 minutes, of all nodes; of which actor is told from support on: a session is somebody's |
//! | `GET /v1/actors/{type}/{id}` | one actor |
//! | `POST /v1/actors/{type}/{id}/stop` | stops one |
//!
//! The last two are answered here for types of which a node has one: its id is the name of the node, and it is not stopped
//! by itself. A service whose actors are many answers for them, by resources of its own for its type.

use std::collections::BTreeSet;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};

use super::access::{Role, principal};
use super::asked::{Nothing, Query, body};
use super::config::{living, unreachable};
use super::note;
use super::resources::{AdminState, Started, json};
use crate::actors::{ActorReport, ActorType, SlowMessage};
use crate::broadcast::Broadcast;
use crate::bus::BusRequest;
use crate::http::problem::Problem;
use crate::ids::{NodeId, NodeName};
use crate::membership::Membership;
use crate::service::NodeContext;
use crate::supervise::{self, TaskCount};

/// How long other nodes may take to answer.
const LIMIT: Duration = Duration::from_secs(1);
/// How many slow messages are listed when nothing is said, and at most.
const SLOW: usize = 20;
const MOST_SLOW: i64 = 200;

type Answer = Result<HttpResponse, Problem>;

/// Asks a node how its actors are.
#[derive(Debug, Serialize, Deserialize)]
struct LookAtActors {
    /// Whether the slowest messages are wanted too.
    slow: bool,
}

impl BusRequest for LookAtActors {
    const NAME: &'static str = "actors.look";
    type Reply = Looked;
}

/// How the actors of one node are.
#[derive(Debug, Serialize, Deserialize)]
struct Looked {
    actors: Vec<ActorReport>,
    tasks: Vec<TaskCount>,
    slow: Vec<SlowMessage>,
}

/// Answers other nodes.
pub(crate) fn listen(context: &NodeContext) {
    let actors = context.actors.clone();
    context.bus.handle::<LookAtActors, _, _>(move |_from, LookAtActors { slow }| {
        std::future::ready(Looked {
            actors: actors.look(),
            tasks: supervise::counts(),
            slow: if slow { actors.slowest(None) } else { Vec::new() },
        })
    });
}

/// Adds the resources; those of services come before.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    app.app_data(Started::of(state))
        .route("/v1/actors", web::get().to(list))
        .route("/v1/actors/slow", web::get().to(slow))
        .route("/v1/actors/{type}/{id}", web::get().to(show))
        .route("/v1/actors/{type}/{id}/stop", web::post().to(stop));
}

/// Something of a node.
#[derive(Serialize)]
struct Of<T> {
    node: String,
    #[serde(flatten)]
    what: T,
}

impl<T> Of<T> {
    fn each(node: &NodeId, what: Vec<T>) -> Vec<Self> {
        let node = node.name().as_str();
        what.into_iter().map(|what| Self { node: node.to_owned(), what }).collect()
    }
}

#[derive(Serialize)]
struct ActorsBody {
    actors: Vec<Of<ActorReport>>,
    tasks: Vec<Of<TaskCount>>,
    /// Nodes that did not answer in time, or could not be asked.
    unreachable: BTreeSet<String>,
}

async fn list(started: Data<Started>, request: HttpRequest) -> Answer {
    let context = started.context()?;
    Query::of(&request, &[])?;
    let (looked, unreachable) = look_everywhere(context, false).await;
    let mut told = ActorsBody { actors: Vec::new(), tasks: Vec::new(), unreachable };
    for (node, looked) in looked {
        told.actors.extend(Of::each(&node, looked.actors));
        told.tasks.extend(Of::each(&node, looked.tasks));
    }
    told.actors.sort_by(|one, other| one.what.of.cmp(&other.what.of)); // and by node, as they are
    Ok(json(&told))
}

#[derive(Serialize)]
struct SlowBody {
    slow: Vec<Of<SlowMessage>>,
    unreachable: BTreeSet<String>,
}

async fn slow(started: Data<Started>, request: HttpRequest) -> Answer {
    let context = started.context()?;
    let query = Query::of(&request, &["type", "limit"])?;
    let limit = query.number("limit", 1..=MOST_SLOW)?.and_then(|limit| usize::try_from(limit).ok());
    let of = match query.text("type") {
        Some(name) => Some(known(context, name)?),
        None => None,
    };
    let (looked, unreachable) = look_everywhere(context, true).await;
    let all = looked.into_iter().flat_map(|(node, looked)| Of::each(&node, looked.slow));
    let mut slow: Vec<Of<SlowMessage>> =
        all.filter(|one| of.is_none_or(|of: &ActorType| one.what.of == of.name)).collect();
    slow.sort_by(|one, other| other.what.took_ms.total_cmp(&one.what.took_ms));
    slow.truncate(limit.unwrap_or(SLOW));
    if principal(&request).is_none_or(|who| who.role < Role::Support) {
        for one in &mut slow {
            one.what.actor = None;
        }
    }
    Ok(json(&SlowBody { slow, unreachable }))
}

#[derive(Serialize)]
struct ActorBody {
    id: String,
    node: String,
    #[serde(flatten)]
    report: ActorReport,
    slow: Vec<SlowMessage>,
}

async fn show(
    started: Data<Started>,
    request: HttpRequest,
    path: Path<(String, String)>,
) -> Answer {
    let context = started.context()?;
    Query::of(&request, &[])?;
    let (name, id) = path.into_inner();
    let of = known(context, &name)?;
    let node = living(&context.membership, &id)?;
    let looked = context.bus.request(&node, &LookAtActors { slow: true }, LIMIT).await;
    let mut looked = looked.map_err(|_| unreachable(&id))?;
    let report = looked.actors.into_iter().find(|report| report.of == of.name);
    let Some(report) = report else { return Err(unknown_actor()) };
    looked.slow.retain(|slow| slow.of == of.name);
    Ok(json(&ActorBody { node: id.clone(), id, report, slow: looked.slow }))
}

async fn stop(
    started: Data<Started>,
    request: HttpRequest,
    path: Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let context = started.context()?;
    Query::of(&request, &[])?;
    let Nothing {} = body(&request, &bytes)?;
    let (name, id) = path.into_inner();
    let of = known(context, &name)?;
    note(&request, format!("{} of {id}", of.name));
    let Some(instead) = of.instead else { return Err(unknown_actor()) };
    let (status, code) = (StatusCode::CONFLICT, "not_stoppable");
    let title = "Actors of this type are not stopped by themselves";
    Err(Problem::new(status, code, title).with_detail(instead))
}

/// Finds a type of which this node has, or had, an actor.
fn known(context: &NodeContext, name: &str) -> Result<&'static ActorType, Problem> {
    context.actors.find(name).ok_or_else(|| {
        let (status, code) = (StatusCode::NOT_FOUND, "unknown_actor_type");
        Problem::new(status, code, "There are no actors of this type here")
            .with_detail("`GET /v1/actors` lists the types")
    })
}

fn unknown_actor() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_actor", "There is no such actor")
}

/// Names the nodes that are listed and were silent for so long that nobody asks them; not those of which another life is
/// there.
fn silent_members(membership: &Membership) -> Vec<String> {
    let members = membership.members();
    let lives = |name: &NodeName| {
        members.iter().any(|member| member.live && member.record.id.name() == name)
    };
    let silent = members.iter().filter(|member| !member.live && !lives(member.record.id.name()));
    silent.map(|member| member.record.id.name().as_str().to_owned()).collect()
}

/// Asks all nodes at the same time; names those that did not answer, or could not be asked.
async fn look_everywhere(
    context: &NodeContext,
    slow: bool,
) -> (Vec<(NodeId, Looked)>, BTreeSet<String>) {
    let broadcast = Broadcast::of(context).within(LIMIT);
    let told = broadcast.ask(&LookAtActors { slow }).await;
    let mut silent: BTreeSet<String> = broadcast.unasked(&told).into_iter().collect();
    silent.extend(silent_members(&context.membership));
    let mut looked = Vec::new();
    for answer in told.answers {
        match answer.result {
            Ok(here) => looked.push((answer.node, here)),
            Err(_) => {
                silent.insert(answer.node.name().as_str().to_owned());
            }
        }
    }
    (looked, silent)
}
