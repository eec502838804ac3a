//! Browsers that have signed out of the console: what they were given is good no more, whoever has a copy of it.
//!
//! Until it would have ended by itself, a digest of it stands in the database. Every node has those digests in memory: it is
//! told at once when somebody signs out, and reads them with the tokens, every few seconds. While the database is away, nodes
//! that were told know it until their process ends.

use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::warn;

use super::access::AdminPort;
use super::tokens::{hex, unhex};
use crate::broadcast::Broadcast;
use crate::bus::BusRequest;
use crate::database::{Database, DatabaseError};
use crate::error::chain;
use crate::service::NodeContext;

/// How long it may take to write it down, and to tell the other nodes: somebody waits at a browser.
const LIMIT: Duration = Duration::from_secs(2);
/// How much longer than needed rows are kept: clocks of nodes differ.
const SPARE_MS: i64 = 3_600_000;

/// Says that somebody has signed out; answered when it counts.
#[derive(Debug, Serialize, Deserialize)]
struct SignedOut {
    /// Of what the browser was given, in hexadecimal digits.
    digest: String,
    until_ms: u64,
}

impl BusRequest for SignedOut {
    const NAME: &'static str = "admin.signed_out";
    type Reply = bool;
}

/// Signs browsers out, on all nodes; a cheap clone.
#[derive(Clone)]
pub struct SignOuts {
    database: Database,
    port: AdminPort,
    broadcast: Broadcast,
}

impl SignOuts {
    /// Makes it out of a node.
    #[must_use]
    pub fn of(node: &NodeContext) -> Self {
        let broadcast = Broadcast::of(node).within(LIMIT);
        Self { database: node.database.clone(), port: node.admin.clone(), broadcast }
    }

    /// Ends what [`AdminPort::sign_in`] gave to a browser; anything else is left alone. It counts nowhere when this returns,
    /// but on nodes that could not be told: there it ends when they read it, or by itself. Takes a few seconds at most.
    pub async fn sign_out(&self, sealed: &str) {
        let Some((digest, until_ms)) = self.port.good_until(sealed) else { return };
        self.port.end_browser(digest, until_ms);
        let message = SignedOut { digest: hex(&digest), until_ms };
        let keeping = timeout(LIMIT, keep(&self.database, &message));
        let (kept, told) = tokio::join!(keeping, self.broadcast.ask(&message));
        let failure = match kept {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some("the database did not answer in time".to_owned()),
        };
        if let Some(error) = failure {
            warn!(error, "that somebody signed out is not kept: nodes that restart do not know it");
        }
        for failed in told.failed() {
            warn!(node.id = %failed.node, "a node has not said that it knows that somebody signed out");
        }
    }
}

impl std::fmt::Debug for SignOuts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignOuts").finish_non_exhaustive()
    }
}

/// Hears of those who sign out on other nodes.
pub(super) fn listen(broadcast: &Broadcast, port: &AdminPort) {
    let port = port.clone();
    broadcast.handle(move |_from, SignedOut { digest, until_ms }| {
        let digest = unhex(&digest);
        if let Some(digest) = digest {
            port.end_browser(digest, until_ms);
        }
        std::future::ready(digest.is_some())
    });
}

async fn keep(database: &Database, message: &SignedOut) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO us_admin_signed_out (digest, until_ms) VALUES ($1, $2) \
               ON CONFLICT (digest) DO NOTHING";
    let until_ms = i64::try_from(message.until_ms).unwrap_or(i64::MAX);
    let statement =
        database.backend().statement(sql, [message.digest.clone().into(), until_ms.into()]);
    let work = database.step(move |executor| {
        let statement = statement.clone();
        Box::pin(async move { executor.execute_raw(statement).await.map(|_| ()) })
    });
    work.await
}

/// Reads all that would still be good: digests, and until when.
pub(super) async fn read(
    database: &Database,
    now_ms: u64,
) -> Result<Vec<([u8; 32], u64)>, DatabaseError> {
    let sql = "SELECT digest, until_ms FROM us_admin_signed_out WHERE until_ms > $1";
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let statement = database.backend().statement(sql, [now_ms.into()]);
    let work = database.read(move |executor| {
        let statement = statement.clone();
        Box::pin(async move {
            let rows = executor.query_all_raw(statement).await?;
            let mut ended = Vec::with_capacity(rows.len());
            for row in rows {
                let digest: String = row.try_get("", "digest")?;
                let until_ms: i64 = row.try_get("", "until_ms")?;
                ended.extend(unhex(&digest).map(|digest| (digest, until_ms.unsigned_abs())));
            }
            Ok(ended)
        })
    });
    work.await
}

/// Takes away what has ended by itself; returns how much.
pub(super) async fn purge(database: &Database) -> Result<u64, DatabaseError> {
    let backend = database.backend();
    let sql = format!("DELETE FROM us_admin_signed_out WHERE until_ms < {} - $1", backend.now_ms());
    let statement = backend.statement(&sql, [SPARE_MS.into()]);
    let work = database.step(move |executor| {
        let statement = statement.clone();
        Box::pin(async move { Ok(executor.execute_raw(statement).await?.rows_affected()) })
    });
    work.await
}
