//! Options that are changed while the cluster runs: `/v1/settings`.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::access::Role;
use super::asked::Query;
use super::members::{Members, only_at, wrong_value};
use super::people::refusal;
use super::resources::{AdminState, Started, json};
use super::{note, principal, require};
use crate::http::problem::Problem;
use crate::settings::{Change, ChangeError, KNOWN, KnownSetting, Settings, StoredSetting};

/// The longest value, bytes.
const LONGEST_VALUE: usize = 4_000;

type Answer = Result<HttpResponse, Problem>;

/// Adds the resources.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    app.app_data(Started::of(state)).route("/v1/settings", web::get().to(list)).service(
        web::resource("/v1/settings/{name}")
            .route(web::put().to(set))
            .route(web::delete().to(reset)),
    );
}

#[derive(Serialize)]
struct SettingsBody {
    /// How often settings were changed.
    revision: i64,
    settings: Vec<SettingBody>,
}

#[derive(Serialize)]
struct SettingBody {
    name: String,
    /// What is in force on the node that answers.
    value: Arc<str>,
    /// What it is without anybody's doing.
    default: Option<Arc<str>>,
    meaning: &'static str,
    role: Option<Role>,
    /// Through which resource it is changed, when it has one of its own.
    resource: Option<&'static str>,
    #[serde(flatten)]
    made: Made,
}

/// Who made a setting what it is; all empty when nobody did.
#[derive(Debug, Default, Serialize)]
pub(super) struct Made {
    by: Option<String>,
    why: Option<String>,
    at_ms: Option<i64>,
    until_ms: Option<i64>,
    revision: i64,
}

impl Made {
    pub(super) const fn revision(&self) -> i64 {
        self.revision
    }
}

impl From<StoredSetting> for Made {
    fn from(stored: StoredSetting) -> Self {
        Self {
            by: Some(stored.by),
            why: Some(stored.why),
            at_ms: Some(stored.at_ms),
            until_ms: stored.until_ms,
            revision: stored.revision,
        }
    }
}

impl SettingBody {
    fn of(settings: &Settings, known: &'static KnownSetting) -> Self {
        Self {
            name: known.name.to_owned(),
            value: settings.value(known),
            default: Some(settings.default_of(known)),
            meaning: known.meaning,
            role: Some(known.role),
            resource: known.resource,
            made: settings.decided_by(known).map(Made::from).unwrap_or_default(),
        }
    }

    fn unknown(stored: StoredSetting) -> Self {
        Self {
            name: stored.name.clone(),
            value: Arc::clone(&stored.value),
            default: None,
            meaning: "This version of the program does not know it",
            role: None,
            resource: None,
            made: stored.into(),
        }
    }
}

async fn list(started: Data<Started>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let settings = &started.context()?.settings;
    let known = KNOWN.iter().map(|known| SettingBody::of(settings, known));
    let stored = settings.stored().into_iter();
    let unknown = stored
        .filter(|stored| stored.node.is_empty() && KnownSetting::named(&stored.name).is_none())
        .map(SettingBody::unknown);
    let settings_shown = known.chain(unknown).collect();
    Ok(json(&SettingsBody { revision: settings.revision(), settings: settings_shown }))
}

#[derive(Serialize)]
struct ChangedBody {
    #[serde(flatten)]
    setting: SettingBody,
    /// The nodes that have not said that they know.
    unreachable: Vec<String>,
}

async fn set(
    started: Data<Started>,
    request: HttpRequest,
    name: web::Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let settings = &started.context()?.settings;
    let known = settable(&request, &name)?;
    let members = Members::of(&request, &bytes, &["value", "why", "for_s"])?;
    let (value, why) = (members.needed("value", LONGEST_VALUE)?, members.why()?);
    known.check(value).map_err(|wrong| wrong_value("value", &wrong))?;
    let lasts = members.lasts()?;
    check_end(known, value, lasts)?;
    let before = settings.value(known);
    note(&request, format!("{}: {before} -> {value}{}; {why}", known.name, until(lasts)));
    let change = Change {
        name: known.name,
        node: String::new(),
        value: Some(value.to_owned()),
        by: asker(&request),
        why: why.to_owned(),
        lasts,
        only_at: only_at(&request)?,
    };
    answer(settings, known, change).await
}

/// Refuses a value without an end that must have one.
fn check_end(known: &KnownSetting, value: &str, lasts: Option<Duration>) -> Result<(), Problem> {
    let Some(most) = known.longest(value) else { return Ok(()) };
    if lasts.is_some_and(|lasts| lasts <= most) {
        return Ok(());
    }
    let most = most.as_secs();
    let right = format!("must be a whole number from 1 to {most}: `{value}` must have an end");
    Err(wrong_value("for_s", &right))
}

async fn reset(started: Data<Started>, request: HttpRequest, name: web::Path<String>) -> Answer {
    Query::of(&request, &[])?;
    let settings = &started.context()?.settings;
    let known = settable(&request, &name)?;
    let (before, usual) = (settings.value(known), settings.default_of(known));
    note(&request, format!("{}: {before} -> {usual}", known.name));
    let change = Change {
        name: known.name,
        node: String::new(),
        value: None,
        by: asker(&request),
        why: String::new(),
        lasts: None,
        only_at: only_at(&request)?,
    };
    answer(settings, known, change).await
}

async fn answer(settings: &Settings, known: &'static KnownSetting, change: Change) -> Answer {
    let changed = settings.change(change).await.map_err(not_changed)?;
    let setting = SettingBody::of(settings, known);
    let revision = setting.made.revision;
    Ok(tagged(json(&ChangedBody { setting, unreachable: changed.unreachable }), revision))
}

/// Says of which revision an answer is, for `If-Match`.
pub(super) fn tagged(mut answer: HttpResponse, revision: i64) -> HttpResponse {
    if let Ok(tag) = HeaderValue::try_from(format!("\"{revision}\"")) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer
}

/// Finds a setting that is changed here, by somebody who may.
fn settable(request: &HttpRequest, name: &str) -> Result<&'static KnownSetting, Problem> {
    let Some(known) = KnownSetting::named(name) else {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
        let (status, code) = (StatusCode::NOT_FOUND, "unknown_setting");
        return Err(Problem::new(status, code, "There is no setting of this name")
            .with_detail(format!("there are `{}`", names.join("`, `"))));
    };
    require(request, known.role)?;
    let Some(resource) = known.resource else { return Ok(known) };
    let (status, code) = (StatusCode::CONFLICT, "other_resource");
    Err(Problem::new(status, code, "This setting is changed through a resource of its own")
        .with_detail(format!("use PUT {resource}")))
}

/// Who asks, for people.
pub(super) fn asker(request: &HttpRequest) -> String {
    principal(request).map_or_else(String::new, |who| who.name.to_string())
}

/// How long it lasts, for people.
pub(super) fn until(lasts: Option<Duration>) -> String {
    lasts.map_or_else(String::new, |lasts| format!(" for {} s", lasts.as_secs()))
}

pub(super) fn not_changed(error: ChangeError) -> Problem {
    match error {
        ChangeError::Changed(revision) => {
            let (status, code) = (StatusCode::PRECONDITION_FAILED, "revision_changed");
            Problem::new(status, code, "The setting was changed since it was read")
                .with_detail(format!("it has revision {revision}"))
                .with_member("revision", revision)
        }
        ChangeError::Database(error) => refusal(error),
    }
}
