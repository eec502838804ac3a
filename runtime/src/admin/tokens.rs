//! Tokens of the admin port that are kept in the database: made and revoked while the cluster runs, with a name, a role
//! and an end. What browsers have signed out from is read along with them.
//!
//! Only digests are stored. Every node keeps the list in memory, reads it again every few seconds, and at once when another
//! node says that it changed; a revocation is answered when all living nodes have said that they know of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use sea_orm::{ConnectionTrait as _, DbErr, QueryResult, Statement, Value};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::access::{AdminPort, Principal, Role, digest};
use super::signed_out;
use crate::broadcast::Broadcast;
use crate::bus::BusRequest;
use crate::clock::SharedClock;
use crate::database::{Database, DatabaseError};
use crate::error::chain;
use crate::service::NodeContext;
use crate::supervise::{Stopped, Supervised, spawn};

/// How often the list is read again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How exactly it is known when a token was last used.
const USED_STEP_MS: u64 = 60_000;
/// What all tokens begin with, so that people and scanners of repositories know one when they see it.
const PREFIX: &str = "usadm_";

/// A token as a node knows it.
#[derive(Debug)]
pub(super) struct KnownToken {
    pub(super) id: Arc<str>,
    name: Arc<str>,
    role: Role,
    pub(super) digest: [u8; 32],
    expires_ms: Option<u64>,
    /// When it was used here, ms since 1970; 0 when it was not since that was last written down.
    used_ms: AtomicU64,
}

impl KnownToken {
    /// Whether it still counts; notes that it was used.
    pub(super) fn counts(&self, now_ms: u64) -> bool {
        let counts = self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms);
        if counts {
            self.used_ms.fetch_max(now_ms, Ordering::Relaxed);
        }
        counts
    }

    pub(super) fn principal(&self) -> Principal {
        Principal {
            role: self.role,
            name: Arc::clone(&self.name),
            token: Some(Arc::clone(&self.id)),
        }
    }
}

/// A token as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct TokenRow {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) created_ms: i64,
    pub(super) created_by: String,
    pub(super) expires_ms: Option<i64>,
    pub(super) used_ms: Option<i64>,
    pub(super) revoked_ms: Option<i64>,
    #[serde(skip)]
    digest: String,
}

/// The tokens in the database, and on the other nodes; a cheap clone.
#[derive(Clone)]
pub(crate) struct Tokens {
    database: Database,
    port: AdminPort,
    broadcast: Broadcast,
    clock: SharedClock,
}

/// Says that the list changed; answered when it was read again.
#[derive(Debug, Serialize, Deserialize)]
struct TokensChanged {}

impl BusRequest for TokensChanged {
    const NAME: &'static str = "admin.tokens_changed";
    type Reply = bool;
}

impl Tokens {
    /// Reads the list, keeps it fresh, and listens to the other nodes; the first reading may fail, and is made good later.
    pub(crate) async fn start(node: &NodeContext) -> (Self, Supervised) {
        let tokens = Self {
            database: node.database.clone(),
            port: node.admin.clone(),
            broadcast: Broadcast::of(node),
            clock: Arc::clone(&node.clock),
        };
        tokens.look().await;
        let asked = tokens.clone();
        tokens.broadcast.handle(move |_from, TokensChanged {}| {
            let tokens = asked.clone();
            async move { tokens.look().await }
        });
        signed_out::listen(&tokens.broadcast, &tokens.port);
        let looking = tokens.clone();
        let task = spawn("admin-tokens", move || {
            let tokens = looking.clone();
            async move {
                loop {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    tokens.note_uses().await;
                    tokens.look().await;
                }
                #[expect(unreachable_code, reason = "it never ends by itself")]
                Stopped::Asked
            }
        });
        (tokens, task)
    }

    /// Makes a token; gives it, the only time it can be seen, with its row.
    pub(super) async fn create(
        &self,
        name: &str,
        role: Role,
        (expires_in, by): (Option<Duration>, &str),
    ) -> Result<(String, TokenRow), DatabaseError> {
        let secret: [u8; 32] = rand::random();
        let token = format!("{PREFIX}{}", BASE64.encode(secret));
        let id = format!("{:016x}", rand::random::<u64>());
        let backend = self.database.backend();
        let expires_in: Option<i64> =
            expires_in.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let sql = format!(
            "INSERT INTO us_admin_token (id, name, role, digest, created_ms, created_by, expires_ms) \
             VALUES ($1, $2, $3, $4, {now}, $5, {now} + $6)",
            now = backend.now_ms()
        );
        let values: [Value; 6] = [
            id.as_str().into(),
            name.into(),
            role.to_string().into(),
            hex(&digest(&token)).into(),
            by.into(),
            expires_in.into(),
        ];
        self.change(backend.statement(&sql, values)).await?;
        self.tell().await;
        let row = self.list().await?.into_iter().find(|row| row.id == id);
        let gone =
            || DatabaseError::Away(DbErr::Custom("the token that was made is not there".into()));
        row.map(|row| (token, row)).ok_or_else(gone)
    }

    /// Ends a token; false when there is none of this id that counts. Returns when all living nodes know it, or had the
    /// time of a broadcast.
    pub(super) async fn revoke(&self, id: &str) -> Result<bool, DatabaseError> {
        let backend = self.database.backend();
        let sql = format!(
            "UPDATE us_admin_token SET revoked_ms = {} WHERE id = $1 AND revoked_ms IS NULL",
            backend.now_ms()
        );
        let changed = self.change(backend.statement(&sql, [id.into()])).await?;
        self.tell().await;
        Ok(changed > 0)
    }

    /// Lists all tokens, also those that count no more.
    pub(super) async fn list(&self) -> Result<Vec<TokenRow>, DatabaseError> {
        let sql = "SELECT id, name, role, digest, created_ms, created_by, expires_ms, used_ms, revoked_ms \
                   FROM us_admin_token ORDER BY revoked_ms IS NOT NULL, created_ms DESC, id LIMIT 1000";
        let statement = self.database.backend().statement(sql, []);
        let work = self.database.read(move |executor| {
            let statement = statement.clone();
            Box::pin(async move {
                let rows = executor.query_all_raw(statement).await?;
                rows.iter().map(TokenRow::read).collect()
            })
        });
        work.await
    }

    async fn tell(&self) {
        let told = self.broadcast.ask(&TokensChanged {}).await;
        for failed in told.failed() {
            warn!(node.id = %failed.node, "a node has not said that it knows of a change of the admin tokens");
        }
    }

    /// Reads the list again, and who has signed out; false when that failed.
    async fn look(&self) -> bool {
        let now_ms = self.clock.wall_ms();
        let read = async {
            let rows = self.list().await?;
            Ok::<_, DatabaseError>((rows, signed_out::read(&self.database, now_ms).await?))
        };
        match read.await {
            Ok((rows, ended)) => {
                self.port.set_known(rows.iter().filter_map(TokenRow::known).collect());
                for (digest, until_ms) in ended {
                    self.port.end_browser(digest, until_ms);
                }
                self.port.forget_ended(now_ms);
                true
            }
            Err(error) => {
                warn!(
                    error = chain(&error),
                    "the admin tokens cannot be read; those known before count"
                );
                false
            }
        }
    }

    async fn note_uses(&self) {
        let now_ms = self.clock.wall_ms();
        let sql = "UPDATE us_admin_token SET used_ms = $2 WHERE id = $1 AND coalesce(used_ms, 0) < $2 - $3";
        for known in self.port.known().iter() {
            let used_ms = known.used_ms.swap(0, Ordering::Relaxed).min(now_ms);
            if used_ms == 0 {
                continue;
            }
            let (used, step) = (signed(used_ms), signed(USED_STEP_MS));
            let values: [Value; 3] = [known.id.to_string().into(), used.into(), step.into()];
            if let Err(error) = self.change(self.database.backend().statement(sql, values)).await {
                tracing::debug!(error = chain(&error), "the use of a token was not noted");
            }
        }
    }

    async fn change(&self, statement: Statement) -> Result<u64, DatabaseError> {
        let work = self.database.step(move |executor| {
            let statement = statement.clone();
            Box::pin(async move { Ok(executor.execute_raw(statement).await?.rows_affected()) })
        });
        work.await
    }
}

impl TokenRow {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        let role: String = row.try_get("", "role")?;
        Ok(Self {
            id: row.try_get("", "id")?,
            name: row.try_get("", "name")?,
            // A role of a newer program may look, and no more.
            role: role_of(&role).unwrap_or(Role::Viewer),
            created_ms: row.try_get("", "created_ms")?,
            created_by: row.try_get("", "created_by")?,
            expires_ms: row.try_get("", "expires_ms")?,
            used_ms: row.try_get("", "used_ms")?,
            revoked_ms: row.try_get("", "revoked_ms")?,
            digest: row.try_get("", "digest")?,
        })
    }

    /// What nodes keep of it, unless it was revoked.
    fn known(&self) -> Option<KnownToken> {
        if self.revoked_ms.is_some() {
            return None;
        }
        Some(KnownToken {
            id: self.id.as_str().into(),
            name: self.name.as_str().into(),
            role: self.role,
            digest: unhex(&self.digest)?,
            expires_ms: self.expires_ms.map(i64::unsigned_abs),
            used_ms: AtomicU64::new(0),
        })
    }
}

/// Reads the name of a role.
pub(super) fn role_of(name: &str) -> Option<Role> {
    super::access::ROLES.into_iter().find(|role| role.to_string() == name)
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}
