//! The regions of the cache, on all nodes from any: `/v1/caches`. What they are is told by [`crate::cache`].
//!
//! | resource | what it does |
//! |---|---|
//! | `GET /v1/caches` | what each region holds and did, node by node |
//! | `DELETE /v1/caches` | forgets all values of all regions |
//! | `DELETE /v1/caches/{region}` | forgets all values of a region |
//! | `DELETE /v1/caches/{region}/{key}` | forgets one value |
//!
//! What is forgotten stands in the log of its region when that is answered, so a node that does not answer gives nothing of it any
//! more either, from [`BOUND`] on.

use std::collections::BTreeSet;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::asked::Query;
use super::note;
use super::resources::{AdminState, Started, json};
use crate::broadcast::{Broadcast, BroadcastResult};
use crate::bus::BusRequest;
use crate::cache::{BOUND, Caught, ForgetError, RegionReport};
use crate::http::problem::Problem;
use crate::ids::NodeId;
use crate::service::NodeContext;

/// How long other nodes may take to tell.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a node may take to hear of what was forgotten, and to answer that it has.
const HEARS: Duration = Duration::from_millis(2_500);
const ANSWERS: Duration = Duration::from_secs(3);

type Answer = Result<HttpResponse, Problem>;

/// Asks a node how its regions are.
#[derive(Debug, Serialize, Deserialize)]
struct LookAtCaches {}

impl BusRequest for LookAtCaches {
    const NAME: &'static str = "cache.look";
    type Reply = Vec<RegionReport>;
}

/// Asks a node whether it has heard of all that was forgotten.
#[derive(Debug, Serialize, Deserialize)]
struct CatchUp {
    region: String,
}

impl BusRequest for CatchUp {
    const NAME: &'static str = "cache.catch_up";
    type Reply = Caught;
}

/// Answers other nodes.
pub(crate) fn listen(context: &NodeContext) {
    // Handles that keep nothing alive: caches have the bus, so the bus must not have them.
    let looked = context.caches.weak();
    context.bus.handle(move |_from, LookAtCaches {}: LookAtCaches| {
        std::future::ready(looked.upgrade().map_or_else(Vec::new, |caches| caches.reports()))
    });
    let caught = context.caches.weak();
    context.bus.handle(move |_from, CatchUp { region }: CatchUp| {
        let caches = caught.upgrade();
        async move {
            match caches {
                Some(caches) => caches.caught_up(&region, HEARS).await,
                None => Caught::Unopened,
            }
        }
    });
}

/// Adds the resources.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    app.app_data(Started::of(state))
        .service(
            web::resource("/v1/caches")
                .route(web::get().to(list))
                .route(web::delete().to(clear_all)),
        )
        .route("/v1/caches/{region}", web::delete().to(clear))
        // A key may have slashes.
        .route("/v1/caches/{region}/{key:.*}", web::delete().to(forget));
}

/// A region on a node.
#[derive(Serialize)]
struct OfNode {
    node: String,
    #[serde(flatten)]
    report: RegionReport,
}

#[derive(Serialize)]
struct CachesBody {
    /// By region, and then by node.
    caches: Vec<OfNode>,
    /// Nodes that did not answer in time, or could not be asked.
    unreachable: BTreeSet<String>,
}

async fn list(started: Data<Started>, request: HttpRequest) -> Answer {
    let context = started.context()?;
    Query::of(&request, &[])?;
    Ok(json(&look_everywhere(context).await))
}

async fn look_everywhere(context: &NodeContext) -> CachesBody {
    let broadcast = Broadcast::of(context).within(LIMIT);
    let told = broadcast.ask(&LookAtCaches {}).await;
    let unreachable = silent(&broadcast, &told);
    let mut caches = Vec::new();
    for (node, reports) in told.ok() {
        caches.extend(reports.iter().map(|report| of_node(node, report)));
    }
    caches.sort_by(|one, other| one.report.region.cmp(&other.report.region)); // and by node, as they are
    CachesBody { caches, unreachable }
}

fn of_node(node: &NodeId, report: &RegionReport) -> OfNode {
    OfNode { node: node.name().as_str().to_owned(), report: report.clone() }
}

fn silent<R>(broadcast: &Broadcast, told: &BroadcastResult<R>) -> BTreeSet<String> {
    let failed = told.failed().map(|failed| failed.node.name().as_str().to_owned());
    failed.chain(broadcast.unasked(told)).collect()
}

async fn clear_all(started: Data<Started>, request: HttpRequest) -> Answer {
    let context = started.context()?;
    Query::of(&request, &[])?;
    note(&request, "all regions");
    let CachesBody { caches, unreachable } = look_everywhere(context).await;
    let regions = caches.into_iter().map(|known| known.report.region).collect();
    forget_everywhere(context, Wanted { regions, key: None, unreachable }).await
}

async fn clear(started: Data<Started>, request: HttpRequest, region: Path<String>) -> Answer {
    let context = started.context()?;
    Query::of(&request, &[])?;
    let region = region.into_inner();
    note(&request, format!("region {region}"));
    is_known(context, &region).await?;
    let (regions, unreachable) = (BTreeSet::from([region]), BTreeSet::new());
    forget_everywhere(context, Wanted { regions, key: None, unreachable }).await
}

async fn forget(
    started: Data<Started>,
    request: HttpRequest,
    path: Path<(String, String)>,
) -> Answer {
    let context = started.context()?;
    Query::of(&request, &[])?;
    let (region, key) = path.into_inner();
    note(&request, format!("{key} of region {region}"));
    is_known(context, &region).await?;
    let (regions, unreachable) = (BTreeSet::from([region]), BTreeSet::new());
    forget_everywhere(context, Wanted { regions, key: Some(key), unreachable }).await
}

/// Finds out whether some node has opened a region.
async fn is_known(context: &NodeContext, region: &str) -> Result<(), Problem> {
    let known = look_everywhere(context).await;
    if known.caches.iter().any(|known| known.report.region == region) {
        return Ok(());
    }
    let (status, code) = (StatusCode::NOT_FOUND, "unknown_region");
    Err(Problem::new(status, code, "No node has opened a region of this name")
        .with_detail("`GET /v1/caches` lists the regions"))
}

#[derive(Serialize)]
struct ForgottenBody {
    /// Of these regions all was forgotten, or the value of the key.
    regions: BTreeSet<String>,
    key: Option<String>,
    /// How they are on the nodes that have heard of it.
    caches: Vec<OfNode>,
    /// Nodes that have not heard of it yet: they give nothing from memory, or hear of it within `bound_ms`.
    behind: BTreeSet<String>,
    unreachable: BTreeSet<String>,
    bound_ms: u64,
}

/// What is to be forgotten.
struct Wanted {
    regions: BTreeSet<String>,
    key: Option<String>,
    /// Nodes that did not say which regions they have opened, where that mattered.
    unreachable: BTreeSet<String>,
}

async fn forget_everywhere(context: &NodeContext, wanted: Wanted) -> Answer {
    let Wanted { regions, key, mut unreachable } = wanted;
    let broadcast = Broadcast::of(context).within(ANSWERS);
    let (mut caches, mut behind, mut failed) = (Vec::new(), BTreeSet::new(), None);
    for region in &regions {
        // Others may be told though one cannot: regions lie on different servers of a Redis Cluster.
        if let Err(error) = Box::pin(context.caches.forget(region, key.as_deref())).await {
            failed = Some(error);
        }
    }
    if let Some(error) = failed {
        return Err(untold(&error));
    }
    // At the same time, or a node that is silent would be waited for once for each region.
    let asked = regions.iter().map(|region| {
        let (broadcast, caught_up) = (&broadcast, CatchUp { region: region.clone() });
        async move { broadcast.ask(&caught_up).await }
    });
    for told in join_all(asked).await {
        unreachable.extend(silent(&broadcast, &told));
        for (node, caught) in told.ok() {
            match caught {
                Caught::Up(report) => caches.push(of_node(node, report)),
                Caught::Not(_) => {
                    behind.insert(node.name().as_str().to_owned());
                }
                Caught::Unopened => {}
            }
        }
    }
    let bound_ms = u64::try_from(BOUND.as_millis()).unwrap_or(u64::MAX);
    Ok(json(&ForgottenBody { regions, key, caches, behind, unreachable, bound_ms }))
}

fn untold(error: &ForgetError) -> Problem {
    match error {
        ForgetError::BadKey(bad) => {
            let (status, code) = (StatusCode::BAD_REQUEST, "bad_key");
            Problem::new(status, code, "No value has such a key")
                .with_detail(bad.to_string())
                .with_member("parameter", "key")
        }
        ForgetError::Untold(_) => {
            let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "redis_unavailable");
            Problem::new(status, code, "Redis does not answer")
                .with_detail("only the node that was asked has forgotten; ask again")
                .with_retry_after(Duration::from_secs(1))
        }
    }
}
