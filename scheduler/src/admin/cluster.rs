//! The scheduler as a whole: how it stands, pausing everything, which jobs are on, and what is due soon.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use serde::{Deserialize, Serialize};
use serde_json::json;
use understudy_runtime::http::problem::Problem;

use super::AdminJobs;
use super::answer::{Answer, ok, rfc3339};
use super::asked::{PossibleReason, Query, Reason, body, by};
use super::leader::name_of;
use crate::schedule::tzdb_version;
use crate::spec::JobName;
use crate::store::{DueRow, SchedulerNode, Switches};

/// What is due soon when nothing is said, ms, and at most.
const SOON_MS: i64 = 60_000;
const LONGEST_SOON_MS: i64 = 31 * 86_400_000;
/// The longest list of jobs, bytes.
const LONGEST_LIST: usize = 65_536;

/// Adds the resources.
pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/v1/scheduler").route(web::get().to(show)))
        .service(web::resource("/v1/scheduler/pause").route(web::post().to(pause)))
        .service(web::resource("/v1/scheduler/resume").route(web::post().to(resume)))
        .service(web::resource("/v1/scheduler/jobs-enabled").route(web::put().to(enable_jobs)))
        .service(web::resource("/v1/jobs-due").route(web::get().to(due)));
}

#[derive(Serialize)]
struct SchedulerBody {
    now_ms: i64,
    now_at: String,
    /// Whether nobody leads as far as this node knows.
    leaderless: bool,
    #[serde(rename = "leaderNodeId")]
    leader_node_id: Option<String>,
    paused: bool,
    switches: Switches,
    maintenance: Vec<MaintenanceBody>,
    /// Those that showed a sign of life lately.
    nodes: Vec<NodeBody>,
    /// Of which version the time zone database of this node is.
    tzdb: &'static str,
    /// How many are under way, by state; those of Understudy itself not counted.
    runs: BTreeMap<&'static str, i64>,
}

#[derive(Serialize)]
struct MaintenanceBody {
    node: String,
    by: String,
    why: String,
    at_ms: i64,
}

#[derive(Serialize)]
struct NodeBody {
    name: String,
    /// Which life of it.
    node: String,
    /// Whether it is the node that answers.
    this: bool,
    leader: bool,
    maintenance: bool,
    takes_jobs: bool,
    seen_ms: i64,
    handlers: BTreeSet<String>,
    labels: BTreeMap<String, String>,
    tzdb: String,
    offset_ms: i64,
    /// For how many jobs it has a definition in its program or file.
    definitions: usize,
}

async fn show(admin: Data<AdminJobs>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let store = admin.jobs.store();
    let now_ms = store.now_ms().await?;
    let switches = store.switches().await?;
    let in_maintenance = store.in_maintenance().await?;
    let nodes = store.nodes(crate::plan::millis(admin.node.config.jobs.alive) * 3).await?;
    let active = store.active_runs().await?;
    let leader = admin.jobs.leader_status().leader;
    let maintenance: Vec<_> = in_maintenance
        .into_iter()
        .map(|(node, switch)| MaintenanceBody {
            node,
            by: switch.by,
            why: switch.why,
            at_ms: switch.at_ms,
        })
        .collect();
    let leads = leader.as_ref().map(ToString::to_string);
    let own = admin.node.node_id.to_string();
    let body = |node: SchedulerNode| NodeBody {
        this: node.node == own,
        leader: leads.as_ref() == Some(&node.node),
        maintenance: maintenance.iter().any(|one| one.node == name_of(&node.node)),
        ..NodeBody::of(node)
    };
    let nodes = nodes.into_iter().map(body).collect();
    Ok(ok(&SchedulerBody {
        now_ms,
        now_at: rfc3339(now_ms),
        leaderless: leader.is_none(),
        leader_node_id: leader.map(|node| node.name().as_str().to_owned()),
        paused: switches.is_paused(),
        switches,
        maintenance,
        nodes,
        tzdb: tzdb_version(),
        runs: active.into_iter().map(|(state, runs)| (state.as_str(), runs)).collect(),
    }))
}

impl NodeBody {
    fn of(node: SchedulerNode) -> Self {
        Self {
            name: name_of(&node.node).to_owned(),
            node: node.node,
            this: false,
            leader: false,
            maintenance: false,
            takes_jobs: node.takes_jobs,
            seen_ms: node.seen_ms,
            handlers: node.handlers,
            labels: node.labels,
            tzdb: node.tzdb,
            offset_ms: node.offset_ms,
            definitions: node.definitions.len(),
        }
    }
}

async fn pause(admin: Data<AdminJobs>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let Reason { why } = body(&request, &bytes)?;
    admin.jobs.pause_all(&by(&request)?, Some(&why)).await?;
    Ok(ok(&admin.jobs.store().switches().await?.pause))
}

async fn resume(admin: Data<AdminJobs>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let PossibleReason { .. } = body(&request, &bytes)?;
    admin.jobs.pause_all(&by(&request)?, None).await?;
    Ok(ok(&admin.jobs.store().switches().await?.pause))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnabledJobs {
    value: String,
}

async fn enable_jobs(admin: Data<AdminJobs>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let EnabledJobs { value } = body(&request, &bytes)?;
    let list = enabled_list(&value).ok_or_else(bad_list)?;
    admin.jobs.enable_jobs(&list, &by(&request)?).await?;
    Ok(ok(&admin.jobs.store().switches().await?.jobs_enabled))
}

/// Writes the list in one way; `None` when it is none.
fn enabled_list(value: &str) -> Option<String> {
    if matches!(value, "all" | "none") {
        return Some(value.to_owned());
    }
    let names: Option<BTreeSet<JobName>> =
        value.split(',').map(|name| name.trim().parse().ok()).collect();
    let names: Vec<String> = names?.iter().map(ToString::to_string).collect();
    Some(names.join(",")).filter(|list| list.len() <= LONGEST_LIST)
}

fn bad_list() -> Problem {
    let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value");
    Problem::new(status, code, "A value in the body cannot be used")
        .with_detail("`value` must be all, none, or names of jobs separated by commas")
}

#[derive(Serialize)]
struct DueBody {
    #[serde(flatten)]
    row: DueRow,
    fire_at: String,
    /// Negative when it is overdue.
    in_ms: i64,
}

async fn due(admin: Data<AdminJobs>, request: HttpRequest) -> Answer {
    let query = Query::of(&request, &["within_ms", "system", "limit"])?;
    let within_ms = query.number("within_ms", 0..=LONGEST_SOON_MS)?.unwrap_or(SOON_MS);
    let store = admin.jobs.store();
    let now_ms = store.now_ms().await?;
    let rows = store.due(now_ms + within_ms, query.limit()?, query.flag("system")?).await?;
    let body =
        |row: DueRow| DueBody { fire_at: rfc3339(row.fire_ms), in_ms: row.fire_ms - now_ms, row };
    let due: Vec<_> = rows.into_iter().map(body).collect();
    Ok(ok(&json!({ "now_ms": now_ms, "due": due })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_jobs_is_written_in_one_way() {
        for (value, expected) in [
            ("all", Some("all")),
            ("none", Some("none")),
            ("b, a,b", Some("a,b")),
            ("system.nodes", Some("system.nodes")),
            ("", None),
            ("a,,b", None),
            ("a b", None),
        ] {
            assert_eq!(enabled_list(value).as_deref(), expected, "{value}");
        }
        assert!(serde_json::from_str::<EnabledJobs>(r#"{"values":"all"}"#).is_err());
    }
}
