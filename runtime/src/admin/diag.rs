//! The doctor: `GET /v1/diag` examines this node or another, now.

use std::time::Duration;

use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};

use super::asked::Query;
use super::config::{living, unreachable};
use super::resources::{AdminState, json, starting};
use super::{Role, require};
use crate::doctor::{Doctor, Examine, Url};
use crate::http::problem::Problem;
use crate::service::NodeContext;

/// How long another node may take to be examined.
const LIMIT: Duration = Duration::from_secs(30);

/// Who examines; nobody before the node has started.
struct Practice {
    doctor: Option<Doctor>,
    node: Option<NodeContext>,
}

/// Adds the resource.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    let practice = Practice { doctor: state.doctor.clone(), node: state.context.clone() };
    app.app_data(Data::new(practice)).route("/v1/diag", web::get().to(run));
}

async fn run(practice: Data<Practice>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["node", "through"])?;
    let right = "the address of the application as browsers type it, http://... or https://... \
                 without user, query and fragment";
    let through = query.parsed("through", right, Url::parse)?;
    if through.is_some() {
        // It makes the node send requests to wherever the address leads.
        require(&request, Role::Operator)?;
    }
    let (Some(doctor), Some(node)) = (&practice.doctor, &practice.node) else {
        return Ok(starting());
    };
    let own = node.node_id.name().as_str();
    let Some(name) = query.text("node").filter(|name| *name != own) else {
        return Ok(json(&Box::pin(doctor.examine(through)).await));
    };
    let patient = living(&node.membership, name)?;
    let message = Examine { through };
    let examination = node.bus.request(&patient, &message, LIMIT).await;
    Ok(json(&examination.map_err(|_| unreachable(name))?))
}
