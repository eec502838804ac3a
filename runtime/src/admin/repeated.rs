//! `Idempotency-Key` on actions: who asks again, because the answer got lost, gets the answer of the first time and
//! causes nothing twice.
//!
//! The key is claimed with one row before the action begins, and the answer is kept with it for a day. If the node dies in
//! between, the claim stays without an answer: asking again gives 409 until [`ABANDONED`] is over, since nobody knows how far
//! it came, and the same key may then be tried again. Resources that have a key of their own meaning (starting a run) are
//! left alone, and so are making a token, whose answer must not be kept, and what answers with a stream. After
//! draft-ietf-httpapi-idempotency-key-header.

use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody, to_bytes};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use actix_web::{Error, HttpRequest, HttpResponse};
use sea_orm::{ConnectionTrait as _, Value};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::access::{operation, principal};
use super::asked::header;
use super::people::refusal;
use crate::database::{Database, DatabaseError};
use crate::error::chain;
use crate::http::problem::Problem;

/// The longest key, bytes.
const LONGEST_KEY: usize = 200;
/// The largest answer that is kept, bytes.
const LARGEST_ANSWER: usize = 65_536;
/// How long answers are kept.
const KEPT: Duration = Duration::from_secs(86_400);
/// After how long an action without an answer counts as abandoned: longer than any request may take.
const ABANDONED: Duration = Duration::from_secs(600);
/// Operations for which the header means something of its own, whose answer is nobody's business later, or a stream.
const LEFT_ALONE: [&str; 6] = [
    "cluster.restart",
    "files.verify",
    "jobs.run",
    "maintenance.bypass",
    "runs.retry",
    "tokens.create",
];

/// What is known of a key.
enum Claim {
    /// It is new, and ours.
    Ours,
    /// It belongs to another request.
    Another,
    /// Its request is under way, or its node has died.
    UnderWay,
    /// It was answered.
    Answered(u16, String, String),
}

/// Looks after keys: around all resources of the admin port.
pub(crate) async fn look_after(
    database: Option<Database>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let (Some(database), Some(key)) = (database, key_of(request.request())?) else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let body = request.extract::<Bytes>().await?;
    let asked = digest_of(request.request(), &body);
    request.set_payload(actix_web::dev::Payload::from(body));
    match claim(&database, &key, &asked).await.map_err(refusal)? {
        Claim::Ours => {}
        Claim::Another => return Ok(request.into_response(reused().response())),
        Claim::UnderWay => return Ok(request.into_response(under_way().response())),
        Claim::Answered(status, kind, text) => {
            return Ok(request.into_response(again(status, &kind, text)));
        }
    }
    let answer = match next.call(request).await {
        Ok(answer) => answer.map_into_boxed_body(),
        Err(error) => {
            forget(&database, &key).await;
            return Err(error);
        }
    };
    keep(&database, &key, answer).await
}

/// The key of a request that has one, with whose it is.
fn key_of(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let asked = operation(request).filter(|operation| !LEFT_ALONE.contains(&operation.id));
    if *request.method() != Method::POST || asked.is_none() {
        return Ok(None);
    }
    let Some(key) = header(request, "idempotency-key")? else { return Ok(None) };
    if key.is_empty() || key.len() > LONGEST_KEY {
        let right = format!("`Idempotency-Key` must be 1 to {LONGEST_KEY} characters");
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_idempotency_key",
            "A header of the request is not as expected",
        )
        .with_detail(right));
    }
    let who = principal(request).map_or_else(String::new, |who| who.name.to_string());
    Ok(Some(hex(&[who.as_bytes(), key.as_bytes()])))
}

fn digest_of(request: &HttpRequest, body: &[u8]) -> String {
    let (path, query) = (request.path().as_bytes(), request.query_string().as_bytes());
    hex(&[path, query, body])
}

/// A digest over parts that cannot run into each other.
fn hex(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn claim(database: &Database, key: &str, asked: &str) -> Result<Claim, DatabaseError> {
    let backend = database.backend();
    let now = backend.now_ms();
    let insert = format!(
        "INSERT INTO us_admin_action (key, request, claimed_ms) VALUES ($1, $2, {now}) ON CONFLICT (key) DO UPDATE \
         SET request = $2, claimed_ms = {now} \
         WHERE us_admin_action.status IS NULL AND us_admin_action.claimed_ms < {now} - $3"
    );
    let abandoned = i64::try_from(ABANDONED.as_millis()).unwrap_or(i64::MAX);
    let values: [Value; 3] = [key.into(), asked.into(), abandoned.into()];
    let insert = backend.statement(&insert, values);
    let look = "SELECT request, status, kind, answer FROM us_admin_action WHERE key = $1";
    let look = backend.statement(look, [key.into()]);
    let asked: Arc<str> = asked.into();
    let work = database.transaction(move |executor| {
        let (insert, look, asked) = (insert.clone(), look.clone(), Arc::clone(&asked));
        Box::pin(async move {
            if executor.execute_raw(insert).await?.rows_affected() > 0 {
                return Ok(Claim::Ours);
            }
            let Some(row) = executor.query_one_raw(look).await? else { return Ok(Claim::UnderWay) };
            if row.try_get::<String>("", "request")? != *asked {
                return Ok(Claim::Another);
            }
            let status = row.try_get::<Option<i32>>("", "status")?;
            let Some(status) = status.and_then(|status| u16::try_from(status).ok()) else {
                return Ok(Claim::UnderWay);
            };
            Ok(Claim::Answered(status, row.try_get("", "kind")?, row.try_get("", "answer")?))
        })
    });
    work.await
}

/// Keeps an answer, unless asking again could give another.
async fn keep(
    database: &Database,
    key: &str,
    answer: ServiceResponse<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let status = answer.status();
    if status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 425 | 429) {
        forget(database, key).await;
        return Ok(answer);
    }
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let (request, answer) = answer.into_parts();
    let (head, body) = answer.into_parts();
    let body = to_bytes(body)
        .await
        .map_err(|error| actix_web::error::ErrorInternalServerError(error.to_string()))?;
    let text = String::from_utf8(body.to_vec()).ok().filter(|text| text.len() <= LARGEST_ANSWER);
    match text {
        Some(text) => store(database, key, (status.as_u16(), &kind, &text)).await,
        None => forget(database, key).await,
    }
    Ok(ServiceResponse::new(request, head.set_body(BoxBody::new(body))))
}

async fn store(database: &Database, key: &str, (status, kind, text): (u16, &str, &str)) {
    let sql = "UPDATE us_admin_action SET status = $2, kind = $3, answer = $4 WHERE key = $1";
    let values: [Value; 4] = [key.into(), i32::from(status).into(), kind.into(), text.into()];
    change(database, sql, values.into()).await;
}

async fn forget(database: &Database, key: &str) {
    change(database, "DELETE FROM us_admin_action WHERE key = $1", vec![key.into()]).await;
}

/// The action is done, whatever becomes of this: without the row, asking again is told that it is under way.
async fn change(database: &Database, sql: &str, values: Vec<Value>) {
    let statement = database.backend().statement(sql, values);
    let work = database.step(move |executor| {
        let statement = statement.clone();
        Box::pin(async move { executor.execute_raw(statement).await.map(|_| ()) })
    });
    if let Err(error) = work.await {
        warn!(
            error = chain(&error),
            "what an action came to is not kept under its idempotency key"
        );
    }
}

/// Takes away what was kept long enough; returns how many.
pub(super) async fn purge(database: &Database) -> Result<u64, DatabaseError> {
    let backend = database.backend();
    let sql = format!("DELETE FROM us_admin_action WHERE claimed_ms < {} - $1", backend.now_ms());
    let kept = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
    let statement = backend.statement(&sql, [kept.into()]);
    let work = database.step(move |executor| {
        let statement = statement.clone();
        Box::pin(async move { Ok(executor.execute_raw(statement).await?.rows_affected()) })
    });
    work.await
}

fn again(status: u16, kind: &str, text: String) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut answer = HttpResponse::build(status);
    answer.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    answer.insert_header(("idempotency-replayed", "true"));
    if !kind.is_empty() {
        answer.insert_header((CONTENT_TYPE, kind));
    }
    answer.body(text)
}

fn reused() -> Problem {
    let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused");
    Problem::new(status, code, "The Idempotency-Key belongs to another request")
        .with_detail("draw a new key for each action; use the same one only to ask again")
}

fn under_way() -> Problem {
    let (status, code) = (StatusCode::CONFLICT, "under_way");
    Problem::new(status, code, "The request with this Idempotency-Key has not been answered yet")
        .with_retry_after(Duration::from_secs(1))
}
