//! What is wrong in the cluster, told by any node: `GET /v1/problems`.

use std::sync::Arc;

use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::asked::Query;
use super::resources::{AdminState, json, starting};
use crate::clock::SharedClock;
use crate::http::problem::Problem;
use crate::problems::{Merged, Problems};

struct Told {
    problems: Option<Problems>,
    clock: SharedClock,
}

/// Adds the resource; before the node has started it answers that it starts.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    let told = Told { problems: state.problems.clone(), clock: Arc::clone(&state.clock) };
    app.app_data(Data::new(told)).route("/v1/problems", web::get().to(list));
}

#[derive(Serialize)]
struct ProblemsBody {
    problems: Vec<Merged>,
    /// Living nodes that did not answer in time.
    unreachable: Vec<String>,
    checked_ms: u64,
}

async fn list(told: Data<Told>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let Some(problems) = &told.problems else { return Ok(starting()) };
    let everywhere = problems.everywhere().await;
    Ok(json(&ProblemsBody {
        problems: everywhere.problems,
        unreachable: everywhere.unreachable,
        checked_ms: told.clock.wall_ms(),
    }))
}
