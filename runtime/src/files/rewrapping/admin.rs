//! How many encrypted files are under which key, for operators: a key under which there is none can be taken away.

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::super::Files;
use super::super::admin::{ok, told};
use super::UnderKey;
use crate::admin::asked::Query;
use crate::http::problem::Problem;

type Answer = Result<HttpResponse, Problem>;

/// Adds the resource.
pub(in super::super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/v1/files-keys").route(web::get().to(keys)));
}

#[derive(Serialize)]
struct KeysBody {
    keys: Vec<UnderKey>,
}

async fn keys(files: Data<Files>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let keys = files.under_keys().await.map_err(told)?;
    Ok(ok(&KeysBody { keys }))
}
