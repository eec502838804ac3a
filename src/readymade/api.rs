//! Sessions over HTTP, for front ends: values by key, as JSON.
//!
//! | call | answer |
//! |---|---|
//! | `GET /api/session` | user, created, expiries, version, owner node, answering node |
//! | `GET /api/session/values` | `{"values":{..},"version":n}` |
//! | `GET /api/session/values/{key}` | `{"value":..}` or 404 |
//! | `PUT /api/session/values/{key}`, any JSON | 204 |
//! | `DELETE /api/session/values/{key}` | 204 |
//! | `POST /api/session/values/{key}/increment`, `{"by":1}` | `{"value":n}` |
//! | `POST /api/session/values/{key}/append`, `{"item":..}` | `{"length":n}` |
//! | `DELETE /api/session` | 204; logged out on every node |
//! | `DELETE /api/session/others` | `{"ended":n}`; all other sessions of the user are over, on every node |
//! | `GET /api/session/events` | server-sent events of the session and its user |
//!
//! A session begins with the first write; reading never sets a cookie.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::StatusCode;
use actix_web::http::header::{self, CacheControl, CacheDirective};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::strict_json;
use crate::prelude::*;

/// The node that answers.
#[derive(Debug, Clone)]
pub(super) struct Answering(pub(super) String);

pub(super) fn routes(app: &mut web::ServiceConfig) {
    app.service(
        web::scope("/api/session")
            .service(web::resource("").get(show).head(show).delete(log_out))
            .service(web::resource("/others").delete(end_others))
            .service(web::resource("/events").get(events))
            .service(web::resource("/values").get(all).head(all))
            .service(web::resource("/values/{key}").get(get).head(get).put(put).delete(remove))
            .service(web::resource("/values/{key}/increment").post(increment))
            .service(web::resource("/values/{key}/append").post(append)),
    );
}

#[derive(Serialize)]
struct Shown {
    user: Option<String>,
    /// RFC 3339, UTC.
    created: Option<String>,
    /// When it ends if nothing more is asked of it; RFC 3339, UTC.
    expires: Option<String>,
    /// When it ends whatever happens; RFC 3339, UTC.
    absolute_expires: Option<String>,
    idle_seconds: Option<f64>,
    version: u64,
    owner: Option<String>,
    node: String,
}

#[derive(Serialize)]
struct Values {
    values: BTreeMap<String, Box<RawValue>>,
    version: u64,
}

#[derive(Serialize)]
struct OneValue {
    value: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Increment {
    #[serde(default = "one")]
    by: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Append {
    item: Box<RawValue>,
}

fn one() -> i64 {
    1
}

async fn show(session: Session, node: web::Data<Answering>) -> Result<HttpResponse, SessionError> {
    let info = session.info().await?;
    let info = info.as_ref();
    Ok(fresh().json(Shown {
        user: info.and_then(|info| info.user.clone()),
        created: info.map(|info| rfc3339(info.created_ms)),
        expires: info.map(|info| rfc3339(info.expires_ms)),
        absolute_expires: info.map(|info| rfc3339(info.absolute_ms)),
        idle_seconds: info.map(|info| Duration::from_millis(info.idle_ms).as_secs_f64()),
        version: info.map_or(0, |info| info.version),
        owner: info.and_then(|info| info.owner.clone()),
        node: node.0.clone(),
    }))
}

async fn all(session: Session) -> Result<HttpResponse, SessionError> {
    let (values, version) = session.entries_as().await?;
    Ok(fresh().json(Values { values, version }))
}

async fn get(session: Session, key: web::Path<String>) -> Result<HttpResponse, actix_web::Error> {
    match session.get::<Box<RawValue>>(&key).await? {
        Some(value) => Ok(fresh().json(OneValue { value })),
        None => {
            let title = "the session has no value of this name";
            Err(Problem::new(StatusCode::NOT_FOUND, "no_such_value", title).into())
        }
    }
}

async fn put(
    session: Session,
    key: web::Path<String>,
    body: web::Bytes,
) -> Result<HttpResponse, actix_web::Error> {
    let value = strict_json::parse::<Box<RawValue>>(&body)?;
    session.insert(&key, &value).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn remove(session: Session, key: web::Path<String>) -> Result<HttpResponse, SessionError> {
    session.remove(&key).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn increment(
    session: Session,
    key: web::Path<String>,
    body: web::Bytes,
) -> Result<HttpResponse, actix_web::Error> {
    let by =
        if body.is_empty() { one() } else { strict_json::parse_object::<Increment>(&body)?.by };
    let value = session.increment(&key, by).await?;
    Ok(fresh().json(serde_json::json!({ "value": value })))
}

async fn append(
    session: Session,
    key: web::Path<String>,
    body: web::Bytes,
) -> Result<HttpResponse, actix_web::Error> {
    let item = strict_json::parse_object::<Append>(&body)?.item;
    let length = session.append(&key, &item).await?;
    Ok(fresh().json(serde_json::json!({ "length": length })))
}

async fn log_out(session: Session) -> Result<HttpResponse, SessionError> {
    session.logout().await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn end_others(session: Session) -> Result<HttpResponse, SessionError> {
    Ok(fresh().json(serde_json::json!({ "ended": session.end_others().await? })))
}

async fn events(session: Session, request: HttpRequest) -> Result<HttpResponse, SessionError> {
    session.events(&request).await
}

/// What a session holds must not be kept by caches on the way.
fn fresh() -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header(CacheControl(vec![CacheDirective::NoStore]));
    response.insert_header((header::VARY, "Cookie"));
    response
}

fn rfc3339(ms: u64) -> String {
    // A year that RFC 3339 cannot write is shown as the last one it can.
    const LAST_MS: u64 = 253_402_300_799_999;
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms.min(LAST_MS)))
        .to_string()
}
