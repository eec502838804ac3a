//! Who did what on the admin port, and who was refused: a row in the database for each, and a line in the log.
//!
//! The line is written first and at once. The row follows from a queue, within a moment while the database answers; while
//! it is away up to [`LONGEST_QUEUE`] entries wait, and what does not fit is counted in
//! `understudy_audit_dropped_total` and stands in the log only. An operator who must act while the database is away is not
//! kept from it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpMessage, HttpRequest};
use arc_swap::ArcSwapOption;
use sea_orm::{ConnectionTrait as _, DbErr, QueryResult, Statement, Value};
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::access::{Browser, Principal, operation};
use super::operation::Asked;
use super::principal;
use crate::database::{Database, DatabaseError};
use crate::duty::{Duty, DutyWork};
use crate::error::chain;
use crate::events::{EventKind, Events};
use crate::http::problem::Problem;
use crate::http::{client_addr, request_id};
use crate::service::RequestWrap;
use crate::supervise::Backoff;

/// How many entries may wait for the database.
pub(super) const LONGEST_QUEUE: usize = 10_000;
/// How many are written at once.
const BATCH: usize = 100;
/// The longest path that is written, and the longest note, bytes.
const LONGEST_TEXT: usize = 1_024;

/// How often old entries are taken away.
const PURGE_EVERY: Duration = Duration::from_secs(3_600);

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// It was carried out, or will be.
    Done,
    /// Whoever asked may not.
    Refused,
    /// It was not carried out, because of what was asked or of the state of things.
    Failed,
}

impl Outcome {
    fn of(status: u16) -> Self {
        match status {
            401 | 403 => Self::Refused,
            0..400 => Self::Done,
            400.. => Self::Failed,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// One thing that somebody did, or was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    who: Option<Principal>,
    action: &'static str,
    method: String,
    path: String,
    status: u16,
    address: String,
    request_id: String,
    note: Option<String>,
}

impl Entry {
    /// What the gate did not let in.
    pub(super) fn refused(request: &ServiceRequest, asked: &Asked, problem: &Problem) -> Self {
        let action = match asked {
            Asked::For(operation) => operation.id,
            Asked::Otherwise(_) | Asked::Unknown => "",
        };
        Self::of(request.request(), action, problem.status.as_u16())
    }

    fn of(request: &HttpRequest, action: &'static str, status: u16) -> Self {
        Self {
            who: principal(request),
            action,
            method: request.method().to_string(),
            path: shortened(request.path()),
            status,
            address: address_of(request),
            request_id: request_id(request).to_string(),
            note: request.extensions().get::<Note>().map(|note| shortened(&note.0)),
        }
    }
}

/// Where it came from: the browser, when it came through the console.
fn address_of(request: &HttpRequest) -> String {
    let browser = request.extensions().get::<Browser>().copied();
    browser.map_or_else(|| client_addr(request), |Browser(address)| address).to_string()
}

/// What a resource adds to the entry of its request: what was before and is now, or how many it hit. For people; never
/// with a secret.
#[derive(Debug, Clone)]
struct Note(String);

/// Adds a note to the audit entry of a request; the last one counts.
pub fn note(request: &HttpRequest, text: impl Into<String>) {
    request.extensions_mut().insert(Note(text.into()));
}

/// Writes entries down; a cheap clone.
#[derive(Debug, Clone)]
pub struct Audit {
    queue: mpsc::Sender<Entry>,
    /// The other end, until there is a database.
    waiting: Arc<ArcSwapOption<tokio::sync::Mutex<mpsc::Receiver<Entry>>>>,
}

impl Audit {
    /// Collects entries until [`write_to`](Self::write_to) has them written.
    pub(crate) fn unwritten() -> Self {
        let (queue, waiting) = mpsc::channel(LONGEST_QUEUE);
        let waiting = ArcSwapOption::from_pointee(tokio::sync::Mutex::new(waiting));
        Self { queue, waiting: Arc::new(waiting) }
    }

    /// Has what was collected, and what comes, written into the database under the node's name; tells those who watch
    /// when it is there.
    pub(crate) fn write_to(&self, database: Database, events: Events, node: String) {
        let Some(waiting) = self.waiting.swap(None) else { return };
        tokio::spawn(async move {
            let mut waiting = waiting.lock().await;
            let mut batch = Vec::with_capacity(BATCH);
            while waiting.recv_many(&mut batch, BATCH).await > 0 {
                write_all(&database, &node, &batch).await;
                events.send(EventKind::Audit);
                batch.clear();
            }
        });
    }

    /// Puts an entry into the log and into the queue.
    pub(super) fn write(&self, entry: Entry) {
        let outcome = Outcome::of(entry.status).as_str();
        info!(
            action = entry.action,
            by = entry.who.as_ref().map(|who| &*who.name),
            http.method = %entry.method,
            http.path = %entry.path,
            http.status = entry.status,
            client = %entry.address,
            request_id = %entry.request_id,
            outcome,
            "audit"
        );
        if self.queue.try_send(entry).is_err() {
            metrics::counter!("understudy_audit_dropped_total").increment(1);
            warn!(
                "the audit entry before this stands in the log only: too many wait for the database"
            );
        }
    }

    /// What looks at the answers of the admin port.
    pub(crate) fn watch(&self) -> Arc<dyn RequestWrap> {
        Arc::new(Watch(self.clone()))
    }
}

struct Watch(Audit);

impl RequestWrap for Watch {
    fn on_response(&self, request: &HttpRequest, status: u16, _: &mut HeaderMap) {
        let Some(operation) = operation(request) else { return };
        if operation.is_written_down() || matches!(status, 401 | 403) {
            self.0.write(Entry::of(request, operation.id, status));
        }
    }
}

/// Writes until it is written, or will never be.
async fn write_all(database: &Database, node: &str, entries: &[Entry]) {
    let mut backoff = Backoff::default();
    loop {
        match insert(database, node, entries).await {
            Ok(()) => return,
            Err(error) if error.is_retryable() => tokio::time::sleep(backoff.pause()).await,
            Err(error) => {
                metrics::counter!("understudy_audit_dropped_total").increment(entries.len() as u64);
                warn!(
                    error = chain(&error),
                    entries = entries.len(),
                    "audit entries stand in the log only"
                );
                return;
            }
        }
    }
}

async fn insert(database: &Database, node: &str, entries: &[Entry]) -> Result<(), DatabaseError> {
    let backend = database.backend();
    let sql = format!(
        "INSERT INTO us_audit (at_ms, by_name, role, action, method, path, outcome, status, address, request_id, \
         node, note) VALUES ({}, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        backend.now_ms()
    );
    let statements: Vec<Statement> =
        entries.iter().map(|entry| backend.statement(&sql, values(entry, node))).collect();
    let work = database.transaction(move |executor| {
        let statements = statements.clone();
        Box::pin(async move {
            for statement in statements {
                executor.execute_raw(statement).await?;
            }
            Ok(())
        })
    });
    work.await
}

fn values(entry: &Entry, node: &str) -> [Value; 11] {
    let who = entry.who.as_ref();
    [
        who.map(|who| who.name.to_string()).into(),
        who.map(|who| who.role.to_string()).into(),
        entry.action.into(),
        entry.method.as_str().into(),
        entry.path.as_str().into(),
        Outcome::of(entry.status).as_str().into(),
        i32::from(entry.status).into(),
        entry.address.as_str().into(),
        entry.request_id.as_str().into(),
        node.into(),
        entry.note.clone().into(),
    ]
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// What to look for among the entries.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    pub(super) before: Option<i64>,
    pub(super) by: Option<String>,
    pub(super) action: Option<String>,
    pub(super) outcome: Option<String>,
    pub(super) from_ms: Option<i64>,
    pub(super) to_ms: Option<i64>,
    pub(super) limit: u64,
}

/// An entry as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct EntryBody {
    pub(super) id: i64,
    pub(super) at_ms: i64,
    by: Option<String>,
    role: Option<String>,
    action: String,
    method: String,
    path: String,
    outcome: String,
    status: i32,
    address: String,
    request_id: String,
    node: String,
    note: Option<String>,
}

impl EntryBody {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get("", "id")?,
            at_ms: row.try_get("", "at_ms")?,
            by: row.try_get("", "by_name")?,
            role: row.try_get("", "role")?,
            action: row.try_get("", "action")?,
            method: row.try_get("", "method")?,
            path: row.try_get("", "path")?,
            outcome: row.try_get("", "outcome")?,
            status: row.try_get("", "status")?,
            address: row.try_get("", "address")?,
            request_id: row.try_get("", "request_id")?,
            node: row.try_get("", "node")?,
            note: row.try_get("", "note")?,
        })
    }
}

/// Finds entries, the newest first.
pub(super) async fn find(
    database: &Database,
    search: Search,
) -> Result<Vec<EntryBody>, DatabaseError> {
    let mut sql = "SELECT id, at_ms, by_name, role, action, method, path, outcome, status, address, request_id, node, \
                   note FROM us_audit"
        .to_owned();
    let mut values: Vec<Value> = Vec::new();
    let conditions: [(&str, Option<Value>); 6] = [
        ("id <", search.before.map(Into::into)),
        ("by_name =", search.by.map(Into::into)),
        ("action =", search.action.map(Into::into)),
        ("outcome =", search.outcome.map(Into::into)),
        ("at_ms >=", search.from_ms.map(Into::into)),
        ("at_ms <", search.to_ms.map(Into::into)),
    ];
    for (condition, value) in conditions {
        let Some(value) = value else { continue };
        values.push(value);
        let joint = if values.len() == 1 { "WHERE" } else { "AND" };
        sql.push_str(&format!(" {joint} {condition} ${}", values.len()));
    }
    sql.push_str(&format!(" ORDER BY id DESC LIMIT {}", search.limit));
    let statement = database.backend().statement(&sql, values);
    let work = database.read(move |executor| {
        let statement = statement.clone();
        Box::pin(async move {
            let rows = executor.query_all_raw(statement).await?;
            rows.iter().map(EntryBody::read).collect()
        })
    });
    work.await
}

/// Describes the work of taking away old entries.
pub(crate) fn purging(database: &Database, keep: Duration) -> Duty {
    let database = database.clone();
    let run: DutyWork = Arc::new(move |run| {
        let database = database.clone();
        Box::pin(async move {
            let mut purged = 0;
            while !run.is_cancelled() {
                match purge(&database, keep).await.map_err(|error| chain(&error))? {
                    0 => break,
                    some => purged += some,
                }
            }
            let actions = super::repeated::purge(&database).await.map_err(|error| chain(&error))?;
            super::signed_out::purge(&database).await.map_err(|error| chain(&error))?;
            Ok(serde_json::json!({ "purged": purged, "actions": actions }))
        })
    });
    Duty {
        name: "audit-purge",
        description: "Takes away entries of the audit log that are older than UNDERSTUDY_ADMIN_AUDIT_DAYS, and answers kept for a day",
        every: PURGE_EVERY,
        run,
    }
}

/// Takes away entries older than so long, some at a time; returns how many.
async fn purge(database: &Database, older_than: Duration) -> Result<u64, DatabaseError> {
    let backend = database.backend();
    let sql = format!(
        "DELETE FROM us_audit WHERE id IN (SELECT id FROM us_audit WHERE at_ms < {} - $1 ORDER BY id LIMIT 10000)",
        backend.now_ms()
    );
    let older_ms = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
    let statement = backend.statement(&sql, [older_ms.into()]);
    let work = database.step(move |executor| {
        let statement = statement.clone();
        Box::pin(async move { Ok(executor.execute_raw(statement).await?.rows_affected()) })
    });
    work.await
}
