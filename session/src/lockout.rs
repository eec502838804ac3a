//! Locks out whoever fails to log in too often, on all nodes together.
//!
//! An attempt is counted *before* the password is looked at, in one step for the whole cluster, and forgotten when it
//! succeeds. So however many guesses are sent at once, to whichever nodes, no more of them are judged than may be. Counted
//! are attempts for a user from one address (of IPv6 the network, 64 bits): somebody else's guesses do not lock a user out
//! at home. Whoever wants to bound guesses from many addresses asks with one address for all.
//!
//! In a cluster the counters are in Redis, on their own in the database. Neither name nor address is kept, only a hash of
//! both. When the counters cannot be reached [`LockoutError::Unavailable`] is given, and whoever checks passwords should
//! refuse.
//!
//! ```no_run
//! use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError, web};
//! use understudy_runtime::http::client_addr;
//! use understudy_session::{Lockout, Session};
//!
//! # #[derive(serde::Deserialize)] struct Form { user: String, password: String }
//! # async fn is_right(_: &Form) -> bool { true }
//! async fn login(
//!     request: HttpRequest,
//!     lockout: Lockout,
//!     session: Session,
//!     form: web::Form<Form>,
//! ) -> actix_web::Result<impl Responder> {
//!     let attempt = lockout.attempt(&form.user, client_addr(&request)).await?; // else 429
//!     if !is_right(&form).await {
//!         return Ok(HttpResponse::Unauthorized().finish());
//!     }
//!     attempt.succeeded().await?;
//!     session.login(&form.user).await?;
//!     Ok(HttpResponse::NoContent().finish())
//! }
//! # let _ = web::post().to(login);
//! ```

use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest};
use sea_orm::{ConnectionTrait as _, Value};
use sha2::{Digest as _, Sha256};
use understudy_runtime::config::UserConfig;
use understudy_runtime::database::{Database, DatabaseError};
use understudy_runtime::error::chain;
use understudy_runtime::http::problem::{ApiError, Problem};
use understudy_runtime::keys::KeySpace;
use understudy_runtime::redis::{Arg, Redis, RedisError, Reply, Script};
use understudy_runtime::service::NodeContext;

static ATTEMPT: LazyLock<Script> =
    LazyLock::new(|| Script::new("session.lockout", include_str!("lockout/attempt.lua")));
static CLEAR: LazyLock<Script> =
    LazyLock::new(|| Script::even_when_full("session.unlock", include_str!("lockout/clear.lua")));

/// Counts failures to log in; an extractor, and a cheap clone.
#[derive(Debug, Clone)]
pub struct Lockout {
    counters: Counters,
    /// `None`: nobody is ever locked out.
    attempts: Option<u32>,
    window: Duration,
}

#[derive(Debug, Clone)]
enum Counters {
    Redis { redis: Redis, keys: std::sync::Arc<KeySpace> },
    Database(Database),
}

/// An attempt that may be judged.
#[derive(Debug)]
#[must_use = "a success must be told, or it counts as a failure"]
pub struct Attempt<'a> {
    lockout: &'a Lockout,
    key: String,
    left: u32,
}

/// Why an attempt may not be judged.
#[derive(Debug, thiserror::Error)]
pub enum LockoutError {
    /// There were too many.
    #[error("too many failed attempts to log in")]
    Locked {
        /// How long there may be no further ones.
        retry_after: Duration,
    },
    /// The counters cannot be reached.
    #[error("attempts to log in cannot be counted: {0}")]
    Unavailable(String),
    /// The application runs without the session service.
    #[error("the session service is not installed in this application")]
    NotInstalled,
}

impl Lockout {
    /// Makes it for a node.
    #[must_use]
    pub fn of(node: &NodeContext) -> Self {
        let counters = match &node.redis {
            Some(redis) => Counters::Redis { redis: redis.clone(), keys: node.keys.clone() },
            None => Counters::Database(node.database.clone()),
        };
        Self::new(counters, &node.config.session.users)
    }

    /// Makes one that counts in Redis.
    #[must_use]
    pub fn on_redis(redis: Redis, keys: std::sync::Arc<KeySpace>, users: &UserConfig) -> Self {
        Self::new(Counters::Redis { redis, keys }, users)
    }

    /// Makes one that counts in the database.
    #[must_use]
    pub fn in_database(database: Database, users: &UserConfig) -> Self {
        Self::new(Counters::Database(database), users)
    }

    fn new(counters: Counters, users: &UserConfig) -> Self {
        Self { counters, attempts: users.lockout_attempts, window: users.lockout }
    }

    /// Counts an attempt of `user` to log in from `address`, which is not judged yet. Names that mean the same user must be
    /// written the same.
    ///
    /// # Errors
    /// [`LockoutError`]; then it must not be judged.
    pub async fn attempt(&self, user: &str, address: IpAddr) -> Result<Attempt<'_>, LockoutError> {
        let key = key(user, address);
        let Some(most) = self.attempts else {
            return Ok(Attempt { lockout: self, key, left: u32::MAX });
        };
        let counted = match &self.counters {
            Counters::Redis { redis, keys } => {
                let args =
                    vec![Arg::from(most.to_string()), Arg::from(self.window_ms().to_string())];
                count_in_redis(redis, keys.lockout(&key), args).await?
            }
            Counters::Database(database) => {
                count_in_database(database, &key, most, self.window_ms()).await?
            }
        };
        match u32::try_from(counted.left) {
            Ok(left) => Ok(Attempt { lockout: self, key, left }),
            Err(_negative) => {
                metrics::counter!("session_lockouts_total").increment(1);
                let retry_after = Duration::from_millis(counted.for_ms);
                Err(LockoutError::Locked { retry_after })
            }
        }
    }

    fn window_ms(&self) -> u64 {
        u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX)
    }

    async fn forget(&self, key: &str) -> Result<(), LockoutError> {
        match &self.counters {
            Counters::Redis { redis, keys } => {
                redis.call(&CLEAR, vec![keys.lockout(key)], Vec::new()).await?;
            }
            Counters::Database(database) => {
                let sql = "DELETE FROM us_lockout WHERE key = $1";
                execute(database, sql, vec![key.into()]).await?;
            }
        }
        Ok(())
    }
}

impl Attempt<'_> {
    /// How many more may fail after this one.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// Notes that it succeeded: all failures so far are forgotten.
    ///
    /// # Errors
    /// [`LockoutError::Unavailable`]; they are counted on then.
    pub async fn succeeded(self) -> Result<(), LockoutError> {
        if self.lockout.attempts.is_none() {
            return Ok(());
        }
        self.lockout.forget(&self.key).await
    }
}

/// How things stand after an attempt.
struct Counted {
    /// How many are left; negative: locked.
    left: i64,
    for_ms: u64,
}

async fn count_in_redis(
    redis: &Redis,
    key: String,
    args: Vec<Arg>,
) -> Result<Counted, LockoutError> {
    let reply = redis.call(&ATTEMPT, vec![key], args).await?;
    let Reply::Array(items) = &reply else {
        return Err(LockoutError::Unavailable("unexpected reply of a script".to_owned()));
    };
    let numbers = items.iter().map(Reply::as_i64).collect::<Option<Vec<i64>>>();
    match numbers.as_deref() {
        Some([left, for_ms]) => {
            Ok(Counted { left: *left, for_ms: u64::try_from(*for_ms).unwrap_or(0) })
        }
        Some(_) | None => Err(LockoutError::Unavailable("unexpected reply of a script".to_owned())),
    }
}

async fn count_in_database(
    database: &Database,
    key: &str,
    most: u32,
    window_ms: u64,
) -> Result<Counted, LockoutError> {
    let backend = database.backend();
    let now = backend.now_ms();
    let sql = format!(
        "INSERT INTO us_lockout (key, attempts, until_ms) VALUES ($1, 1, {now} + $3) \
         ON CONFLICT (key) DO UPDATE SET \
         attempts = CASE WHEN us_lockout.until_ms <= {now} THEN 1 ELSE us_lockout.attempts + 1 END, \
         until_ms = CASE WHEN us_lockout.until_ms <= {now} OR us_lockout.attempts + 1 = $2 \
         THEN {now} + $3 ELSE us_lockout.until_ms END \
         RETURNING attempts, until_ms - {now} AS for_ms"
    );
    let window_ms = i64::try_from(window_ms).unwrap_or(i64::MAX / 2);
    let values: Vec<Value> = vec![key.into(), i64::from(most).into(), window_ms.into()];
    let count = backend.statement(&sql, values);
    let row = database.step(move |executor| {
        let count = count.clone();
        Box::pin(async move { executor.query_one_raw(count).await })
    });
    let row = row.await?.ok_or_else(|| LockoutError::Unavailable("no row".to_owned()))?;
    let number = |column: &str| row.try_get::<i64>("", column).map_err(DatabaseError::from);
    let (attempts, for_ms) = (number("attempts")?, number("for_ms")?);
    if attempts == 1 {
        // Now and then, and never much: what is over is of no use to anybody.
        let sql = format!("DELETE FROM us_lockout WHERE until_ms <= {now}");
        execute(database, &sql, Vec::new()).await?;
    }
    Ok(Counted {
        left: (i64::from(most) - attempts).max(-1),
        for_ms: u64::try_from(for_ms).unwrap_or(0),
    })
}

async fn execute(database: &Database, sql: &str, values: Vec<Value>) -> Result<(), LockoutError> {
    let statement = database.backend().statement(sql, values);
    let done = database.step(move |executor| {
        let statement = statement.clone();
        Box::pin(async move { executor.execute_raw(statement).await.map(|_| ()) })
    });
    Ok(done.await?)
}

/// Names the counter of a user and an address, so that neither can be read from it.
fn key(user: &str, address: IpAddr) -> String {
    let mut digest = Sha256::new();
    digest.update(b"understudy lockout\0");
    digest.update((user.len() as u64).to_be_bytes());
    digest.update(user);
    match address.to_canonical() {
        IpAddr::V4(address) => digest.update(address.octets()),
        IpAddr::V6(address) => digest.update(&address.octets()[..8]), // one customer has that many
    }
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl From<RedisError> for LockoutError {
    fn from(error: RedisError) -> Self {
        Self::Unavailable(chain(&error))
    }
}

impl From<DatabaseError> for LockoutError {
    fn from(error: DatabaseError) -> Self {
        Self::Unavailable(chain(&error))
    }
}

impl ApiError for LockoutError {
    fn problem(&self) -> Problem {
        match self {
            Self::Locked { retry_after } => {
                let (code, title) = ("login_locked", "Too many failed attempts to log in");
                Problem::new(StatusCode::TOO_MANY_REQUESTS, code, title)
                    .with_retry_after(*retry_after)
            }
            Self::Unavailable(_) => {
                let (code, title) = ("lockout_unavailable", "Attempts to log in cannot be counted");
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title)
                    .with_retry_after(Duration::from_secs(1))
            }
            Self::NotInstalled => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "session_not_installed",
                self.to_string(),
            ),
        }
    }
}

understudy_runtime::answer_with_problem!(LockoutError);

impl FromRequest for Lockout {
    type Error = LockoutError;
    type Future = Ready<Result<Self, LockoutError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(request.app_data::<Self>().cloned().ok_or(LockoutError::NotInstalled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_belongs_to_one_user_and_one_network() {
        let at = |user: &str, address: &str| key(user, address.parse().unwrap());
        assert_eq!(at("ann", "10.0.0.1"), at("ann", "::ffff:10.0.0.1"));
        assert_eq!(at("ann", "2001:db8::1"), at("ann", "2001:db8::ffff:1"), "one network");
        assert_ne!(at("ann", "2001:db8::1"), at("ann", "2001:db8:0:1::1"));
        assert_ne!(at("ann", "10.0.0.1"), at("ann", "10.0.0.2"));
        assert_ne!(at("ann", "10.0.0.1"), at("bob", "10.0.0.1"));
        assert!(!at("ann", "10.0.0.1").contains("ann"));
    }
}
