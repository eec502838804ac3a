//! Maintenance: whom the public port serves, `/v1/maintenance`.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::asked::Query;
use super::members::{Members, only_at, wrong_value};
use super::note;
use super::resources::{AdminState, Started, json};
use super::settings::{Made, asker, not_changed, tagged, until};
use crate::http::maintenance::{
    BYPASS_HEADER, BYPASS_PATH, LONGEST_MESSAGE, LONGEST_RETRY_S, Mode, Notice, USUAL_MESSAGE,
};
use crate::http::problem::Problem;
use crate::ids::NodeName;
use crate::service::NodeContext;
use crate::settings::{Change, MAINTENANCE};

/// The longest name of a node, bytes.
const LONGEST_NAME: usize = 64;
/// How long a bypass word is good, and the longest, s.
const BYPASS_S: u64 = 3_600;
const LONGEST_BYPASS_S: u64 = 7 * 86_400;

type Answer = Result<HttpResponse, Problem>;

/// Adds the resources.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    app.app_data(Started::of(state))
        .service(
            web::resource("/v1/maintenance").route(web::get().to(show)).route(web::put().to(set)),
        )
        .route("/v1/maintenance/bypass", web::post().to(bypass));
}

#[derive(Serialize)]
struct MaintenanceBody {
    /// Of the whole cluster.
    #[serde(flatten)]
    cluster: NoticeBody,
    /// Of single nodes that have one of their own; the stricter counts.
    nodes: BTreeMap<String, NoticeBody>,
    /// What is in force on the node that answers.
    here: Mode,
    /// Whether a bypass word of one node lets its bearer in on all, also after a restart.
    bypass: bool,
    /// The nodes that have not said that they know of a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreachable: Option<Vec<String>>,
}

#[derive(Serialize)]
struct NoticeBody {
    #[serde(flatten)]
    notice: Notice,
    #[serde(flatten)]
    made: Made,
}

impl MaintenanceBody {
    fn of(context: &NodeContext, unreachable: Option<Vec<String>>) -> Self {
        let off = || NoticeBody { notice: Notice::off(&context.config), made: Made::default() };
        let mut body = Self {
            cluster: off(),
            nodes: BTreeMap::new(),
            here: context.maintenance.mode(),
            bypass: context.maintenance.is_bypass_shared(),
            unreachable,
        };
        let stored = context.settings.stored().into_iter();
        for stored in stored.filter(|stored| stored.name == MAINTENANCE.name) {
            let Ok(notice) = Notice::parse(&stored.value) else { continue };
            let node = stored.node.clone();
            let shown = NoticeBody { notice, made: stored.into() };
            if node.is_empty() {
                body.cluster = shown;
            } else {
                body.nodes.insert(node, shown);
            }
        }
        body
    }
}

async fn show(started: Data<Started>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let body = MaintenanceBody::of(started.context()?, None);
    Ok(tagged(json(&body), body.cluster.made.revision()))
}

async fn set(started: Data<Started>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let context = started.context()?;
    let known = ["mode", "message", "retry_after_s", "why", "node", "for_s"];
    let members = Members::of(&request, &bytes, &known)?;
    let notice = notice(&members, context)?;
    let node = node(&members, notice.mode, context)?;
    let (why, lasts) = (members.why()?, members.lasts()?);
    let place = if node.is_empty() { "the cluster" } else { &node };
    note(&request, format!("{place}: {}{}; {why}", notice.mode.as_str(), until(lasts)));
    let change = Change {
        name: MAINTENANCE.name,
        node,
        // Off is how it is without anybody's doing.
        value: (notice.mode != Mode::Off).then(|| notice.to_text()),
        by: asker(&request),
        why: why.to_owned(),
        lasts,
        only_at: only_at(&request)?,
    };
    let changed = context.settings.change(change).await.map_err(not_changed)?;
    let body = MaintenanceBody::of(context, Some(changed.unreachable));
    Ok(tagged(json(&body), body.cluster.made.revision()))
}

fn notice(members: &Members, context: &NodeContext) -> Result<Notice, Problem> {
    let mode = Mode::named(members.needed("mode", LONGEST_NAME)?)
        .ok_or_else(|| wrong_value("mode", "must be one of off, read_only, full"))?;
    let message = members.text("message", LONGEST_MESSAGE)?.unwrap_or(USUAL_MESSAGE).to_owned();
    let usual = context.config.ops.retry_after.as_secs();
    let retry_after_s = members.number("retry_after_s", LONGEST_RETRY_S)?.unwrap_or(usual);
    let pointless = members.any_of(&["message", "retry_after_s", "for_s"]);
    if let (Mode::Off, Some(name)) = (mode, pointless) {
        return Err(wrong_value(name, "means nothing when `mode` is off: leave it out"));
    }
    Ok(Notice { mode, message, retry_after_s })
}

/// Reads which node is meant; empty for all. One that is in no list is a mistake, but what it has can be taken back.
fn node(members: &Members, mode: Mode, context: &NodeContext) -> Result<String, Problem> {
    let Some(text) = members.text("node", LONGEST_NAME)? else { return Ok(String::new()) };
    let name: NodeName = text
        .parse()
        .map_err(|error| wrong_value("node", &format!("must be the name of a node: {error}")))?;
    let nodes = context.membership.members();
    if mode == Mode::Off || nodes.iter().any(|member| *member.record.id.name() == name) {
        return Ok(text.to_owned());
    }
    let names: Vec<&str> = nodes.iter().map(|member| member.record.id.name().as_str()).collect();
    let (status, code) = (StatusCode::NOT_FOUND, "unknown_node");
    Err(Problem::new(status, code, "There is no node of this name")
        .with_detail(format!("`node` must be one of {}", names.join(", ")))
        .with_member("field", "node"))
}

#[derive(Serialize)]
struct BypassBody {
    /// The header in which a program sends the word.
    header: &'static str,
    /// The page of the public port on which a browser turns the word into a cookie.
    path: &'static str,
    /// The word; kept nowhere.
    token: String,
    until_ms: u64,
}

async fn bypass(started: Data<Started>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let context = started.context()?;
    let members = Members::of(&request, &bytes, &["for_s"])?;
    let good_for = members.number("for_s", LONGEST_BYPASS_S)?.unwrap_or(BYPASS_S);
    note(&request, format!("good for {good_for} s"));
    let (token, until_ms) = context.maintenance.make_bypass(Duration::from_secs(good_for));
    Ok(json(&BypassBody { header: BYPASS_HEADER, path: BYPASS_PATH, token, until_ms }))
}
