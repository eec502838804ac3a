//! A node that is not one, for tests: the console with an API behind it that answers with made-up JSON, in the form of the
//! real one. Both are served from one port, as on a node.
//!
//! The tests in a browser (`tests/tests/console`) include this file too: `super` must have `Backstage` and `Console`.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use understudy_runtime::admin::{Principal, Role};
use understudy_runtime::clock::{Clock as _, SystemClock};

use super::{Backstage, Console};

#[path = "stub/actors.rs"]
mod actors;
#[path = "stub/cluster.rs"]
mod cluster;
#[path = "stub/work.rs"]
mod work;

/// The token of each role.
pub(super) const TOKENS: [(Role, &str); 4] = [
    (Role::Viewer, "viewer-token"),
    (Role::Support, "support-token"),
    (Role::Operator, "operator-token"),
    (Role::Admin, "admin-token"),
];

/// What the node is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// There is much to see, of every kind.
    Busy,
    /// Nothing is there yet.
    Empty,
    /// It has none of what is new in the API.
    Old,
    /// Redis and the database are away.
    Down,
    /// All names and texts are an attack on the page.
    Hostile,
    /// Everybody may look, and nobody has a token.
    Open,
}

/// A text that would run if it were not escaped.
pub(super) const HOSTILE: &str =
    "<script>window.hit=1</script><img src=x onerror=\"window.hit=1\">'\"&";

/// A request that the API was asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AskedFor {
    /// Method and target.
    pub line: String,
    /// Its body.
    pub body: Value,
    /// Who asked.
    pub token: String,
    /// The header `Idempotency-Key`.
    pub key: String,
}

/// The running stub.
#[derive(Debug)]
pub(super) struct Stub {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<RwLock<Vec<AskedFor>>>,
    handle: actix_web::dev::ServerHandle,
}

impl Stub {
    /// Starts it; it ends with the process, or when it is stopped.
    pub(super) fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::start_on(mood, listener)
    }

    /// Starts it on a port that is there.
    pub(super) fn start_on(mood: Mood, listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("it has an address");
        let asked: Arc<RwLock<Vec<AskedFor>>> = Arc::default();
        let console = Data::new(Console::new(Arc::new(FakeNode::new(address, mood))));
        let answering = Answering { mood, asked: Arc::clone(&asked) };
        let server = HttpServer::new(move || {
            App::new()
                .configure(|app| Console::routes(&console, app))
                .app_data(Data::new(answering.clone()))
                .default_service(web::to(answer))
        });
        let server =
            server.workers(1).disable_signals().listen(listener).expect("it is bound").run();
        let handle = server.handle();
        drop(actix_web::rt::spawn(server));
        Self { address, asked, handle }
    }

    /// Ends it at once.
    pub(super) async fn stop(&self) {
        self.handle.stop(false).await;
    }

    /// What was asked for and would change something.
    pub(super) fn changes(&self) -> Vec<AskedFor> {
        let asked = self.asked.read().expect("nobody panicked");
        asked.iter().filter(|one| !one.line.starts_with("GET ")).cloned().collect()
    }

    /// The targets that were looked at.
    pub(super) fn looks(&self) -> Vec<String> {
        let asked = self.asked.read().expect("nobody panicked");
        asked.iter().filter_map(|one| one.line.strip_prefix("GET ")).map(str::to_owned).collect()
    }

    /// The address of a page.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// The node that the console is told it is on.
#[derive(Debug)]
pub(super) struct FakeNode {
    address: SocketAddr,
    mood: Mood,
    /// What browsers were given that have signed out.
    ended: Arc<RwLock<Vec<String>>>,
}

impl FakeNode {
    /// One whose API is there.
    pub(super) fn new(address: SocketAddr, mood: Mood) -> Self {
        Self { address, mood, ended: Arc::default() }
    }
}

impl Backstage for FakeNode {
    fn address(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    fn node(&self) -> String {
        "hamlet".to_owned()
    }

    fn owner_of(&self, token: &str) -> Option<Principal> {
        let found = TOKENS.iter().find(|(_, known)| *known == token);
        found.filter(|_| self.mood != Mood::Open).map(|(role, _)| Principal::new(*role, "mary"))
    }

    fn sign_in(&self, who: &Principal) -> (String, Duration) {
        (format!("sealed-{}", who.role), Duration::from_secs(3_600))
    }

    fn browser(&self, sealed: Option<&str>) -> Option<Principal> {
        let ended = self.ended.read().expect("nobody panicked");
        let sealed = sealed.filter(|sealed| ended.iter().all(|ended| ended != sealed));
        let role = sealed.and_then(|sealed| role_named(sealed.strip_prefix("sealed-")?));
        let visitor = || Principal::new(Role::Viewer, "loopback");
        role.map(|role| Principal::new(role, "mary"))
            .or_else(|| (self.mood == Mood::Open).then(visitor))
    }

    fn sign_out(&self, sealed: &str) -> LocalBoxFuture<'static, ()> {
        self.ended.write().expect("nobody panicked").push(sealed.to_owned());
        Box::pin(std::future::ready(()))
    }

    fn on_behalf_of(&self, who: &Principal) -> String {
        format!("inside-{}", who.role)
    }

    fn is_open(&self) -> bool {
        self.mood == Mood::Open
    }

    fn now_ms(&self) -> u64 {
        SystemClock.wall_ms()
    }
}

fn role_named(name: &str) -> Option<Role> {
    TOKENS.iter().map(|(role, _)| *role).find(|role| role.to_string() == name)
}

fn now_ms() -> i64 {
    i64::try_from(SystemClock.wall_ms()).unwrap_or(i64::MAX)
}

#[derive(Debug, Clone)]
struct Answering {
    mood: Mood,
    asked: Arc<RwLock<Vec<AskedFor>>>,
}

async fn answer(stub: Data<Answering>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let header = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let token = header("authorization").trim_start_matches("Bearer ").to_owned();
    let (method, path) = (request.method().as_str(), request.path());
    stub.asked.write().expect("nobody panicked").push(AskedFor {
        line: format!("{method} {}", request.uri()),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        token: token.clone(),
        key: header("idempotency-key"),
    });
    let Some(role) = token.strip_prefix("inside-").and_then(role_named) else {
        return problem(401, "unauthorized", "A valid token is needed", "");
    };
    if path == "/metrics" {
        return HttpResponse::Ok().body(metrics());
    }
    if method != "GET" && path != "/v1/jobs/preview" && role < Role::Support {
        return problem(403, "forbidden", "The token does not allow this", "");
    }
    if path == "/v1/events" && stub.mood != Mood::Old {
        return HttpResponse::Ok().content_type("text/event-stream").streaming(
            futures_util::stream::iter([Ok::<_, actix_web::Error>(Bytes::from_static(
                b"event: nodes\ndata: {\"at_ms\":1}\n\n",
            ))]),
        );
    }
    if path == "/v1/logs/tail" && !matches!(stub.mood, Mood::Old | Mood::Down) {
        return HttpResponse::Ok().content_type("text/event-stream").body(cluster::log(stub.mood));
    }
    let asked = Asked { method, path, query: request.query_string(), role, mood: stub.mood };
    asked.answer()
}

/// A request as the made-up API sees it.
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    role: Role,
    mood: Mood,
}

/// What is new in the API: an old node has none of it.
const NEW: [&str; 16] = [
    "/v1/events",
    "/v1/whoami",
    "/v1/config/drift",
    "/v1/settings",
    "/v1/maintenance",
    "/v1/problems",
    "/v1/diag",
    "/v1/requests",
    "/v1/caches",
    "/v1/actors",
    "/v1/sessions",
    "/v1/users",
    "/v1/cluster/",
    "/v1/audit",
    "/v1/logs",
    "/v1/migrations",
];

impl Asked<'_> {
    fn answer(&self) -> HttpResponse {
        if self.mood == Mood::Old && NEW.iter().any(|new| self.path.starts_with(new)) {
            return problem(404, "not_found", "Not Found", "");
        }
        let from_memory = ["/v1/about", "/v1/whoami", "/v1/leader", "/v1/nodes"];
        if self.mood == Mood::Down && !from_memory.contains(&self.path) {
            return problem(503, "database_unavailable", "The database is not available", "");
        }
        if self.method != "GET" {
            return self.done();
        }
        let now_ms = now_ms();
        let told = cluster::told(self, now_ms)
            .or_else(|| work::told(self, now_ms))
            .or_else(|| actors::told(self, now_ms));
        match told {
            Some(told) if self.mood == Mood::Hostile => HttpResponse::Ok().json(hostile(told)),
            Some(told) if self.mood == Mood::Empty => HttpResponse::Ok().json(emptied(told)),
            Some(told) => HttpResponse::Ok().json(told),
            None if self.path.ends_with("/safe-to-stop") => not_safe(),
            None => problem(404, self.unknown(), "There is no such thing", ""),
        }
    }

    fn unknown(&self) -> &'static str {
        match self.path.split('/').nth(2) {
            Some("jobs") => "unknown_job",
            Some("runs") => "unknown_run",
            Some("nodes") => "unknown_node",
            Some("sessions" | "actors") => "unknown_session",
            _ => "not_found",
        }
    }

    /// Changes succeed, but for those to things called `refused`.
    fn done(&self) -> HttpResponse {
        if self.path.contains("refused") {
            let detail = format!("with `?force=true` all the same {HOSTILE}");
            return problem(409, "last_node", "No other living node could lead", &detail);
        }
        let status = StatusCode::from_u16(if self.path == "/v1/tokens" { 201 } else { 200 });
        let body = match self.path {
            "/v1/tokens" => {
                json!({ "id": "t9", "name": "deploy", "role": "operator", "expires_ms": null,
                "token": "us_4f7d1b0e6a9c4d0d8f0a2f6b7c3e5d11" })
            }
            "/v1/maintenance/bypass" => {
                json!({ "header": "Understudy-Bypass", "token": "b1.9f86d081", "until_ms": now_ms() + 3_600_000 })
            }
            "/v1/jobs/preview" => work::preview(now_ms()),
            path if path.ends_with("/run") => {
                json!({ "run": 4_812, "new": true, "state": "queued" })
            }
            path if path.ends_with("/sessions") => json!({ "ended": 3 }),
            "/v1/requests/00abcd-0-1" => json!({ "will_be_cancelled": "00abcd-0-1" }),
            _ => json!({}),
        };
        HttpResponse::build(status.unwrap_or(StatusCode::OK)).json(body)
    }
}

fn not_safe() -> HttpResponse {
    let reasons = json!([
        { "code": "leader", "text": "It leads: a hand-over takes about a second." },
        { "code": "sessions", "text": "412 sessions are resident on it and are read again elsewhere." },
    ]);
    HttpResponse::Conflict().content_type("application/problem+json").json(json!({
        "title": "The node should not be stopped now", "status": 409, "code": "not_safe", "reasons": reasons,
    }))
}

fn problem(status: u16, code: &str, title: &str, detail: &str) -> HttpResponse {
    let status = StatusCode::from_u16(status).expect("a status");
    HttpResponse::build(status).content_type("application/problem+json").json(json!({
        "title": title, "status": status.as_u16(), "code": code, "detail": detail,
    }))
}

/// All texts become an attack, but for words that decide how something is shown.
fn hostile(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() < 3 || text.starts_with("20") => Value::String(text),
        Value::String(text) => match text.split_once('#') {
            Some((_, life)) => Value::String(format!("{HOSTILE}#{life}")),
            None => Value::String(HOSTILE.to_owned()),
        },
        Value::Array(values) => Value::Array(values.into_iter().map(hostile).collect()),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, hostile(value))).collect()
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}

/// All lists are empty, but for the node itself.
fn emptied(value: Value) -> Value {
    match value {
        Value::Array(values) => {
            let this = values
                .into_iter()
                .filter(|value| value.get("this").is_some_and(|this| *this == true));
            Value::Array(this.collect())
        }
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                let keep = matches!(name.as_str(), "options" | "sources");
                let value = if keep { value } else { emptied(value) };
                let gone = matches!(name.as_str(), "next" | "paused" | "drained");
                (name, if gone { Value::Null } else { value })
            })
            .collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

/// Counters that grow as if there were traffic.
fn metrics() -> String {
    let now = now_ms();
    let wave = 40 + (now / 900) % 23 + (now / 3_000) % 11;
    format!(
        "understudy_http_requests_total{{route=\"/\"}} {}\nfire_lateness_seconds_sum {}\nfire_lateness_seconds_count {}\n",
        now / 25 % 1_000_000_000 + wave,
        (now / 100 % 1_000_000) as f64 * 0.0021,
        now / 1_000 % 1_000_000,
    )
}
