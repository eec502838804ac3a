//! The options in effect, of this node or another, and where they differ: `GET /v1/config`, `GET /v1/config/drift`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::asked::Query;
use super::resources::{AdminState, json, starting};
use crate::config::Config;
use crate::http::problem::Problem;
use crate::ids::NodeId;
use crate::membership::Membership;
use crate::problems::options::{self, Options, Survey, differences};

type Answer = Result<HttpResponse, Problem>;

/// What the resources stand on; nothing but the own options before the node has started.
struct Known {
    config: Arc<Config>,
    node: NodeId,
    options: Option<Options>,
    membership: Option<Membership>,
}

/// Adds the resources.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    let known = Known {
        config: Arc::clone(&state.config),
        node: state.node_id.clone(),
        options: state.options.clone(),
        membership: state.membership.clone(),
    };
    app.app_data(Data::new(known))
        .route("/v1/config", web::get().to(show))
        .route("/v1/config/drift", web::get().to(drift));
}

async fn show(known: Data<Known>, request: HttpRequest) -> Answer {
    let query = Query::of(&request, &["node"])?;
    let Some(name) = query.text("node").filter(|name| *name != known.node.name().as_str()) else {
        return Ok(json(&options::shown(&known.config, &known.node)));
    };
    let (Some(options), Some(membership)) = (&known.options, &known.membership) else {
        return Ok(starting());
    };
    let node = living(membership, name)?;
    let shown = options.of(&node).await.map_err(|_| unreachable(name))?;
    Ok(json(&shown))
}

#[derive(Serialize)]
struct DriftBody {
    drift: bool,
    /// By the name of the node.
    fingerprints: BTreeMap<String, String>,
    differences: Vec<DifferenceBody>,
    /// Living nodes that did not answer in time.
    unreachable: Vec<String>,
}

#[derive(Serialize)]
struct DifferenceBody {
    option: String,
    /// By the name of the node.
    values: BTreeMap<String, String>,
}

async fn drift(known: Data<Known>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let (Some(options), Some(membership)) = (&known.options, &known.membership) else {
        return Ok(starting());
    };
    Ok(json(&compare(&options.survey().await, membership)))
}

fn compare(survey: &Survey, membership: &Membership) -> DriftBody {
    let differences = differences(&survey.by_node).into_iter().map(|difference| {
        let values = difference.values.iter().map(|(node, value)| (node.clone(), value.text()));
        DifferenceBody { option: difference.option, values: values.collect() }
    });
    let differences: Vec<DifferenceBody> = differences.collect();
    let members = membership.members();
    let living = members.iter().filter(|member| member.live);
    let fingerprints = living.map(|member| {
        let record = &member.record;
        (record.id.name().as_str().to_owned(), record.config_hash.clone())
    });
    DriftBody {
        drift: !differences.is_empty(),
        fingerprints: fingerprints.collect(),
        differences,
        unreachable: survey.unreachable.clone(),
    }
}

/// Finds the present life of a node by its name.
pub(super) fn living(membership: &Membership, name: &str) -> Result<NodeId, Problem> {
    let members = membership.members();
    let listed = members.iter().find(|member| member.record.id.name().as_str() == name);
    match listed {
        Some(member) if member.live => Ok(member.record.id.clone()),
        Some(_) => Err(unreachable(name)),
        None => {
            let (status, code) = (StatusCode::NOT_FOUND, "unknown_node");
            Err(Problem::new(status, code, "There is no node of this name in the cluster"))
        }
    }
}

/// The node is silent, or did not answer in time.
pub(super) fn unreachable(name: &str) -> Problem {
    let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "node_unreachable");
    Problem::new(status, code, "The node does not answer")
        .with_detail(format!("{name} did not answer; try again, or look at it where it runs"))
        .with_retry_after(Duration::from_secs(1))
}
