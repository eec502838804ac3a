//! The actor of one session, of whatever node has it: how it is, and stopping it.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use serde::Serialize;
use serde_json::json;
use understudy_runtime::admin::asked::{Nothing, Query, body};
use understudy_runtime::admin::note;
use understudy_runtime::http::problem::Problem;
use understudy_runtime::ids::NodeId;

use super::answer::{Answer, ok};
use super::resources::{Admin, SessionBody, found};
use crate::actor::SESSION;
use crate::handle::{ActorState, LookAtActor, StopActor, Stopped};
use crate::record::Token;

/// How long a node may take to say how an actor is.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// How long it may take to stop one, the store included.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// Adds the resources. They come before those of the runtime for actors of any type.
pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/v1/actors/session/{id}").route(web::get().to(show)))
        .service(web::resource("/v1/actors/session/{id}/stop").route(web::post().to(stop)));
}

#[derive(Serialize)]
struct ActorBody {
    #[serde(rename = "type")]
    of: &'static str,
    id: String,
    /// The node that has it in memory.
    node: Option<String>,
    actor: Option<ActorState>,
    session: SessionBody,
    /// That node, when it does not answer.
    unreachable: Option<String>,
}

async fn show(admin: Data<Admin>, request: HttpRequest, id: Path<String>) -> Answer {
    Query::of(&request, &[])?;
    let glimpse = found(&admin.handle, &id).await?;
    let locator = glimpse.locator;
    let owner = glimpse.owner.as_ref().and_then(Token::node);
    let (actor, answers) = match &owner {
        Some(node) => {
            let look = LookAtActor { locator };
            match admin.handle.0.bus.request(node, &look, LOOK_LIMIT).await {
                Ok(actor) => (actor, true),
                Err(_) => (None, false),
            }
        }
        None => (None, true),
    };
    let name = owner.as_ref().map(name_of);
    Ok(ok(&ActorBody {
        of: SESSION.name,
        id: locator.public_id(),
        node: name.clone().filter(|_| actor.is_some()),
        actor,
        session: glimpse.into(),
        unreachable: name.filter(|_| !answers),
    }))
}

async fn stop(admin: Data<Admin>, request: HttpRequest, id: Path<String>, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let Nothing {} = body(&request, &bytes)?;
    let glimpse = found(&admin.handle, &id).await?;
    let locator = glimpse.locator;
    let session = locator.id_for_logs();
    let Some(node) = glimpse.owner.as_ref().and_then(Token::node) else {
        return Err(not_in_memory().into());
    };
    note(&request, format!("the actor of session {session} on {}", node.name()));
    let stopped = admin.handle.0.bus.request(&node, &StopActor { locator }, STOP_LIMIT).await;
    match stopped {
        Ok(Stopped::Gone) => {
            tracing::info!(session.id = session, node.id = %node, "an operator stopped an actor");
            Ok(ok(&json!({ "stopped": locator.public_id(), "node": name_of(&node) })))
        }
        Ok(Stopped::NotHere) => Err(not_in_memory().into()),
        Ok(Stopped::Busy) => Err(busy().into()),
        Err(error) => {
            tracing::debug!(%error, node.id = %node, "the owner of a session did not answer");
            Err(unreachable(&node).into())
        }
    }
}

fn name_of(node: &NodeId) -> String {
    node.name().as_str().to_owned()
}

fn not_in_memory() -> Problem {
    let title = "No node has this session in memory: there is no actor of it";
    Problem::new(StatusCode::NOT_FOUND, "unknown_actor", title)
}

fn busy() -> Problem {
    let title = "The actor has work to do without a pause";
    Problem::new(StatusCode::CONFLICT, "actor_busy", title)
        .with_detail("nothing was changed: try again, or drain its node")
        .with_retry_after(Duration::from_secs(1))
}

fn unreachable(node: &NodeId) -> Problem {
    let title = "The node that has the session does not answer";
    let detail = format!("{} did not answer; if it is dead, its lease ends by itself", node.name());
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "node_unreachable", title)
        .with_detail(detail)
        .with_retry_after(Duration::from_secs(1))
}
