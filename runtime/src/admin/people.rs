//! Who may do what, and who did what: the asker, the tokens, the audit log.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::web::{self, Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::access::{ROLES, Role};
use super::asked::{Query, body};
use super::audit::{self, EntryBody, Search};
use super::resources::{AdminState, json, starting};
use super::tokens::{TokenRow, Tokens, role_of};
use super::{note, principal};
use crate::database::{Database, DatabaseError};
use crate::error::chain;
use crate::http::problem::Problem;

/// The longest a token may count when it has an end: ten years, s.
const LONGEST_S: u64 = 10 * 366 * 86_400;
/// The longest name of a token, bytes.
const LONGEST_NAME: usize = 64;

type Answer = Result<HttpResponse, Problem>;

/// What the resources stand on; nothing before the node has started.
struct People {
    tokens: Option<Tokens>,
    database: Option<Database>,
    open: bool,
}

/// Adds the resources.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    let people = People {
        tokens: state.tokens.clone(),
        database: state.context.as_ref().map(|context| context.database.clone()),
        open: state.port.is_open(),
    };
    app.app_data(Data::from(Arc::new(people)))
        .route("/v1/whoami", web::get().to(whoami))
        .route("/v1/audit", web::get().to(list_audit))
        .service(
            web::resource("/v1/tokens")
                .route(web::get().to(list_tokens))
                .route(web::post().to(create_token)),
        )
        .route("/v1/tokens/{id}", web::delete().to(revoke_token));
}

#[derive(Serialize)]
struct WhoAmI {
    name: String,
    role: Role,
    /// Whether whoever reaches the port may look without a token.
    open: bool,
}

async fn whoami(people: Data<People>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let who = principal(&request).ok_or_else(|| Problem::from_status(StatusCode::UNAUTHORIZED))?;
    Ok(json(&WhoAmI { name: who.name.to_string(), role: who.role, open: people.open }))
}

#[derive(Serialize)]
struct TokensBody {
    tokens: Vec<TokenRow>,
}

async fn list_tokens(people: Data<People>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let Some(tokens) = &people.tokens else { return Ok(starting()) };
    let tokens = tokens.list().await.map_err(refusal)?;
    Ok(json(&TokensBody { tokens }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    role: String,
    expires_in_s: Option<u64>,
}

#[derive(Serialize)]
struct CreatedBody {
    #[serde(flatten)]
    row: TokenRow,
    /// The token; shown once, and kept nowhere.
    token: String,
}

async fn create_token(people: Data<People>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let Some(tokens) = &people.tokens else { return Ok(starting()) };
    let new: NewToken = body(&request, &bytes)?;
    let role = new.check()?;
    let who = principal(&request).map_or_else(String::new, |who| who.name.to_string());
    let expires_in = new.expires_in_s.map(Duration::from_secs);
    let made = tokens.create(&new.name, role, (expires_in, &who)).await;
    let (token, row) = made.map_err(refusal)?;
    note(&request, format!("{} {} ({})", row.id, row.name, row.role));
    let mut answer = HttpResponse::Created();
    answer.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    Ok(answer.json(CreatedBody { row, token }))
}

impl NewToken {
    fn check(&self) -> Result<Role, Problem> {
        let name = &self.name;
        if name.trim().is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control)
        {
            let right = "`name` must be 1 to 64 bytes without control characters";
            return Err(invalid(right.to_owned()));
        }
        if let Some(expires_in_s) = self.expires_in_s
            && !(1..=LONGEST_S).contains(&expires_in_s)
        {
            return Err(invalid(format!("`expires_in_s` must be 1 to {LONGEST_S} seconds")));
        }
        let names = ROLES.map(|role| role.to_string()).join(", ");
        role_of(&self.role).ok_or_else(|| invalid(format!("`role` must be one of {names}")))
    }
}

async fn revoke_token(people: Data<People>, request: HttpRequest, id: web::Path<String>) -> Answer {
    Query::of(&request, &[])?;
    let Some(tokens) = &people.tokens else { return Ok(starting()) };
    if tokens.revoke(&id).await.map_err(refusal)? {
        return Ok(HttpResponse::NoContent().finish());
    }
    let code = "unknown_token";
    Err(Problem::new(StatusCode::NOT_FOUND, code, "There is no token of this id that counts"))
}

#[derive(Serialize)]
struct AuditBody {
    entries: Vec<AuditEntry>,
    /// What `before` must be for the next page.
    next: Option<i64>,
}

#[derive(Serialize)]
struct AuditEntry {
    #[serde(flatten)]
    entry: EntryBody,
    at: String,
}

async fn list_audit(people: Data<People>, request: HttpRequest) -> Answer {
    let known = ["before", "limit", "by", "action", "outcome", "from", "to"];
    let query = Query::of(&request, &known)?;
    let outcome =
        |text: &str| matches!(text, "done" | "refused" | "failed").then(|| text.to_owned());
    let limit = query.limit()?;
    let search = Search {
        before: query.number("before", 1..=i64::MAX)?,
        by: query.text("by").map(str::to_owned),
        action: query.text("action").map(str::to_owned),
        outcome: query.parsed("outcome", "done, refused or failed", outcome)?,
        from_ms: query.when("from")?,
        to_ms: query.when("to")?,
        limit: u64::from(limit),
    };
    let Some(database) = &people.database else { return Ok(starting()) };
    let entries = audit::find(database, search).await.map_err(refusal)?;
    let full = entries.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let next = entries.last().filter(|_| full).map(|entry| entry.id);
    let entries = entries.into_iter().map(|entry| AuditEntry { at: rfc3339(entry.at_ms), entry });
    Ok(json(&AuditBody { entries: entries.collect(), next }))
}

/// Writes a time for people: RFC 3339, in UTC. Times that no calendar has stay numbers.
fn rfc3339(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| at.to_string())
}

pub(super) fn invalid(detail: String) -> Problem {
    let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value");
    Problem::new(status, code, "A value in the body cannot be used").with_detail(detail)
}

/// The database did not do what it was asked; the client is not told what it said.
#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
pub(super) fn refusal(error: DatabaseError) -> Problem {
    warn!(error = chain(&error), "a request of an operator failed at the database");
    if error.is_retryable() {
        let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable");
        return Problem::new(status, code, "The database is not available")
            .with_retry_after(Duration::from_secs(1));
    }
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Problem::new(status, "database_refuses", "The database refuses; the log says why")
}
