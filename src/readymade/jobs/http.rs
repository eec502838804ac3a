//! The handler `http`: one request per attempt, and what the answer means.
//!
//! A request is sent once: neither the client nor a redirect repeats it. Whether it arrived is not known when the answer
//! does not come, so the called side should look at `Idempotency-Key`. Variables for proxies are not heeded.

mod client;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use understudy_runtime::error::chain;
use understudy_scheduler::{JobContext, JobError};

use super::attempt::{Attempt, Log};
use super::environment::Environment;

pub(super) use client::Clients;

/// The name of the handler.
pub(super) const HANDLER: &str = "http";
/// How long a request may take, with its answer, unless the job says otherwise.
pub(super) const TIMEOUT_MS: u64 = 30_000;
/// So much of an answer is read, bytes.
const MOST_READ: usize = 64 * 1024;
/// So much of it is put into the log, bytes.
const MOST_LOGGED: usize = 4 * 1024;

/// What is called; the parameters of a job with this handler. Its texts still have their variables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpCall {
    #[serde(default = "get")]
    pub(super) method: String,
    pub(super) url: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) json: Option<Value>,
    /// Which statuses mean success; none named means 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) expect: Vec<u16>,
    #[serde(default = "timeout_ms")]
    pub(super) timeout_ms: u64,
    #[serde(default)]
    pub(super) follow_redirects: bool,
}

fn get() -> String {
    "GET".to_owned()
}

const fn timeout_ms() -> u64 {
    TIMEOUT_MS
}

/// Reads an address that can be called.
pub(super) fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// Makes the call of a run; ends at once when the run is told to.
pub(super) async fn handle(
    context: JobContext,
    clients: Clients,
    environment: Environment,
) -> Result<Value, JobError> {
    let call: HttpCall = context.params()?;
    let attempt = Attempt::of(&context);
    tokio::select! {
        answered = send(&call, &attempt, (&clients, &environment), &context) => answered,
        () = context.cancelled() => Err(JobError::cancelled()),
    }
}

async fn send(
    call: &HttpCall,
    attempt: &Attempt,
    (clients, environment): (&Clients, &Environment),
    log: &dyn Log,
) -> Result<Value, JobError> {
    let request = request(call, attempt, clients, environment)?;
    let begun = Instant::now();
    let response = request.send().await.map_err(|error| failed(call, error))?;
    let status = response.status().as_u16();
    let (length, head) = read(response).await.map_err(|error| failed(call, error))?;
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    log.info(&format!("{} answered {status} after {duration_ms} ms", call.method));
    if !head.is_empty() {
        log.info(&String::from_utf8_lossy(&head));
    }
    if is_expected(call, status) {
        return Ok(json!({ "status": status, "bytes": length, "duration_ms": duration_ms }));
    }
    Err(JobError::failed(format!("answered {status}, expected {}", expected(call))))
}

fn request(
    call: &HttpCall,
    attempt: &Attempt,
    clients: &Clients,
    environment: &Environment,
) -> Result<RequestBuilder, JobError> {
    let method = Method::from_bytes(call.method.as_bytes())
        .map_err(|_| JobError::fatal("method is none of HTTP"))?;
    let url = environment.expand("url", &call.url)?;
    let url = address(&url)
        .ok_or_else(|| JobError::fatal("url is no address of http or https, once filled in"))?;
    let headers = headers(call, attempt, environment)?;
    let client = clients.of(call)?;
    let mut request = client
        .request(method, url)
        .timeout(Duration::from_millis(call.timeout_ms))
        .headers(headers);
    if let Some(body) = &call.body {
        request = request.body(environment.expand("body", body)?);
    } else if let Some(json) = &call.json {
        let filled = filled(json, environment)?;
        if !call.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request = request.body(filled.to_string());
    }
    Ok(request)
}

fn headers(
    call: &HttpCall,
    attempt: &Attempt,
    environment: &Environment,
) -> Result<HeaderMap, JobError> {
    let mut headers = HeaderMap::new();
    for (name, text) in &call.headers {
        let wrong = || {
            JobError::fatal(format!("the header {} is none, once filled in", name.escape_debug()))
        };
        let text = environment.expand("headers", text)?;
        let mut value = HeaderValue::from_str(&text).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?, value);
    }
    // Last, so that no parameter of a single run takes their place.
    for (name, text) in [
        ("understudy-job", attempt.job.clone()),
        ("understudy-run", attempt.run.clone()),
        ("understudy-fire-time", attempt.fire_time()),
        ("understudy-epoch", attempt.epoch.to_string()),
        ("understudy-attempt", attempt.number.to_string()),
        ("idempotency-key", attempt.idempotency_key.clone()),
    ] {
        let value = HeaderValue::from_str(&text)
            .map_err(|_| JobError::fatal(format!("the run cannot be told in the header {name}")))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    if let Some(trace) = attempt.trace.as_deref().and_then(|it| HeaderValue::from_str(it).ok()) {
        headers.insert(HeaderName::from_static("traceparent"), trace);
    }
    Ok(headers)
}

/// JSON with its variables filled in; only texts have any.
fn filled(json: &Value, environment: &Environment) -> Result<Value, JobError> {
    Ok(match json {
        Value::String(text) => Value::String(environment.expand("json", text)?),
        Value::Array(items) => {
            let items = items.iter().map(|item| filled(item, environment));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(members) => {
            let members =
                members.iter().map(|(name, item)| Ok((name.clone(), filled(item, environment)?)));
            Value::Object(members.collect::<Result<_, JobError>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => json.clone(),
    })
}

/// Reads the answer as far as it matters: how many bytes, and the first of them.
async fn read(mut response: Response) -> Result<(usize, Vec<u8>), reqwest::Error> {
    let (mut length, mut head) = (0, Vec::new());
    while length < MOST_READ {
        let Some(chunk) = response.chunk().await? else { break };
        let room = MOST_LOGGED.saturating_sub(head.len()).min(chunk.len());
        head.extend_from_slice(&chunk[..room]);
        length += chunk.len();
    }
    Ok((length, head))
}

/// The address is left out of errors: with variables filled in it may hold secrets.
fn failed(call: &HttpCall, error: reqwest::Error) -> JobError {
    let error = error.without_url();
    if error.is_timeout() && !error.is_connect() {
        let limit = humantime::format_duration(Duration::from_millis(call.timeout_ms));
        return JobError::failed(format!("no answer within {limit}"));
    }
    JobError::failed(chain(&error))
}

fn is_expected(call: &HttpCall, status: u16) -> bool {
    match call.expect[..] {
        [] => (200..=299).contains(&status),
        _ => call.expect.contains(&status),
    }
}

fn expected(call: &HttpCall) -> String {
    match call.expect[..] {
        [] => "200-299".to_owned(),
        _ => call.expect.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests;
