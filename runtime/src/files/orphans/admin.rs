//! Files that nobody uses, for operators: which ones there are, and removing them before the duty does.

use std::time::Duration;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::super::Files;
use super::super::admin::{ok, told};
use super::super::rules::NamedRule;
use super::{Act, Bounds, MOST, Orphan, OrphanReport, list, round, run_once};
use crate::admin::asked::{Nothing, Query, body};
use crate::admin::note;
use crate::duty::DutyRun;
use crate::http::problem::Problem;

/// For how long orphans are looked for, or removed, while somebody waits.
const WITHIN: Duration = Duration::from_secs(8);

type Answer = Result<HttpResponse, Problem>;

/// Adds the resources.
pub(in super::super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/v1/files-orphans").route(web::get().to(orphans)))
        .service(web::resource("/v1/files-orphans/collect").route(web::post().to(collect)));
}

#[derive(Serialize)]
struct OrphansBody {
    /// What the application said of spaces.
    rules: Vec<NamedRule>,
    orphans: Vec<Orphan>,
    /// Behind which the next page begins; a page may be empty and have one.
    next: Option<String>,
}

#[derive(Serialize)]
struct CollectedBody {
    dry_run: bool,
    #[serde(flatten)]
    report: OrphanReport,
}

async fn orphans(files: Data<Files>, request: HttpRequest) -> Answer {
    let query = Query::of(&request, &["after", "limit"])?;
    let after = query.parsed("after", "the `next` of the page before", round::read)?;
    let limit = query.limit()? as usize;
    let store = files.store().map_err(told)?;
    let rules = files.rules().await.map_err(told)?;
    let found = list(store, after.unwrap_or_default(), limit, WITHIN).await.map_err(told)?;
    let (orphans, next) = found;
    let next = next.map(|(space, name)| format!("{space}/{name}"));
    Ok(ok(&OrphansBody { rules, orphans, next }))
}

/// Done here and now, by whichever node was asked: it does no harm beside the duty of the leader.
async fn collect(files: Data<Files>, request: HttpRequest, bytes: web::Bytes) -> Answer {
    let dry_run = Query::of(&request, &["dry_run"])?.flag("dry_run")?;
    let Nothing {} = body(&request, &bytes)?;
    let (act, most) = if dry_run { (Act::Count, u64::MAX) } else { (Act::Remove, MOST) };
    let bounds = Bounds::new(most, WITHIN);
    let store = files.store().map_err(told)?;
    let report = run_once(store, act, bounds, &DutyRun::default()).await.map_err(told)?;
    note(
        &request,
        match act {
            Act::Count => format!("{} files that nobody uses", report.orphans),
            Act::Remove => format!("{} files that nobody used", report.removed),
        },
    );
    Ok(ok(&CollectedBody { dry_run, report }))
}
