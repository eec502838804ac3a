//! Bounds how often something may be done, over all nodes together: [`RateLimits`].
//!
//! Counted is by the generic cell rate algorithm (ITU-T I.371, 1996): a [`Rate`] of 30 a minute lets 30 through at once, and then
//! one every two seconds, so there is no edge of a minute at which twice as many pass. One number is kept for each who asks,
//! in Redis and by its clock, and is gone when all may be done again.
//!
//! A limit protects a service from being used too much; it is no fence. While Redis does not answer each node counts on its own,
//! so `n` nodes let `n` times as many through, and a Redis that comes back empty begins anew. What must not happen too often
//! even then, such as guessing a password, is counted by what refuses instead: `Lockout` of the session service. A node
//! without a cluster counts in its own memory.
//!
//! ```no_run
//! use actix_web::{HttpRequest, HttpResponse, Responder};
//! use understudy_runtime::http::client_addr;
//! use understudy_runtime::rate_limit::{Rate, RateLimits};
//!
//! const SEARCHES: Rate = Rate::per_minute(30);
//!
//! async fn search(request: HttpRequest, limits: RateLimits) -> actix_web::Result<impl Responder> {
//!     limits.take("search", &client_addr(&request).to_string(), SEARCHES).await?; // else 429
//!     Ok(HttpResponse::Ok().body("found"))
//! }
//! ```

mod memory;
#[cfg(test)]
mod tests;

use std::future::{Ready, ready};
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest};
use sha2::{Digest as _, Sha256};

use crate::clock::SharedClock;
use crate::http::problem::{ApiError, Problem};
use crate::keys::KeySpace;
use crate::redis::{Arg, Redis, Reply, Script};
use crate::service::NodeContext;

use memory::Memory;

static TAKE: LazyLock<Script> =
    LazyLock::new(|| Script::new("rate_limit.take", include_str!("rate_limit/take.lua")));

/// How long a request waits for Redis to count it: who is limited is never in more of a hurry than who is not.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a node counts on its own after Redis did not answer, before it asks again.
const ON_ITS_OWN: Duration = Duration::from_secs(1);

/// How often something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    most: NonZeroU32,
    window: Duration,
}

impl Rate {
    /// `most` times at once, and as many in each `window` after that.
    ///
    /// # Panics
    /// When `most` is 0, or one of them comes back in less than a microsecond or more than a day: in a constant that is an error
    /// of the compiler.
    #[must_use]
    pub const fn new(most: u32, window: Duration) -> Self {
        let Some(most) = NonZeroU32::new(most) else { panic!("a rate lets at least one through") };
        let one = window.as_micros() / most.get() as u128;
        assert!(one >= 1 && one <= 86_400_000_000, "one comes back in 1 µs to 24 h");
        Self { most, window }
    }

    /// As often as this in a second.
    #[must_use]
    pub const fn per_second(most: u32) -> Self {
        Self::new(most, Duration::from_secs(1))
    }

    /// As often as this in a minute.
    #[must_use]
    pub const fn per_minute(most: u32) -> Self {
        Self::new(most, Duration::from_secs(60))
    }

    /// As often as this in an hour.
    #[must_use]
    pub const fn per_hour(most: u32) -> Self {
        Self::new(most, Duration::from_secs(3_600))
    }

    /// How long one takes to come back, in µs.
    fn one_us(self) -> u64 {
        u64::try_from(self.window.as_micros()).unwrap_or(u64::MAX) / u64::from(self.most.get())
    }

    /// How long all of them take to come back, in µs: what the number of those let through at once is reckoned with.
    fn all_us(self) -> u64 {
        self.one_us() * u64::from(self.most.get())
    }
}

/// It may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// How many more may be done at once.
    pub left: u32,
    /// When all of them may be done again, from now.
    pub reset: Duration,
}

/// Why it may not be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateLimitError {
    /// It was done too often.
    #[error("too many requests; one more is served in {} ms", retry_after.as_millis())]
    Exceeded {
        /// How long to wait until one more may be done.
        retry_after: Duration,
    },
    /// The handler runs without a node.
    #[error("limits need a node")]
    NotInstalled,
}

/// Counts what is done by whom, on all nodes together; an extractor, and a cheap clone.
#[derive(Debug, Clone)]
pub struct RateLimits {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    redis: Option<(Redis, Arc<KeySpace>)>,
    memory: Memory,
}

impl RateLimits {
    /// Makes those of a node: in Redis, if it has one.
    #[must_use]
    pub fn new(redis: Option<(Redis, Arc<KeySpace>)>, clock: &SharedClock) -> Self {
        Self { inner: Arc::new(Inner { redis, memory: Memory::new(clock) }) }
    }

    /// Notes that `who` does `what` once more, unless that was done too often. Any texts will do for both; only a hash of
    /// them is kept. Ask with the same rate everywhere: a smaller one counts from then on.
    ///
    /// # Errors
    /// [`RateLimitError::Exceeded`]; it was not counted then, so that asking again does not make the wait longer.
    pub async fn take(&self, what: &str, who: &str, rate: Rate) -> Result<Taken, RateLimitError> {
        let digest = digest(what, who);
        let counted = match &self.inner.redis {
            Some((redis, keys)) if !self.inner.memory.is_on_its_own() => {
                self.take_in_redis(redis, keys.rate_limit(&digest), rate).await
            }
            _ => None,
        };
        let verdict = counted.unwrap_or_else(|| self.inner.memory.take(digest, rate));
        if verdict.is_err() {
            metrics::counter!("understudy_rate_limited_total").increment(1);
        }
        verdict
    }

    /// Counts in Redis; nothing when that does not answer in time.
    async fn take_in_redis(
        &self,
        redis: &Redis,
        key: String,
        rate: Rate,
    ) -> Option<Result<Taken, RateLimitError>> {
        let args = vec![Arg::from(rate.one_us().to_string()), Arg::from(rate.all_us().to_string())];
        let reply = tokio::time::timeout(PATIENCE, redis.call(&TAKE, vec![key], args)).await;
        let numbers = reply.ok().and_then(Result::ok).and_then(|reply| numbers(&reply));
        if numbers.is_none() {
            self.inner.memory.stay_on_its_own(ON_ITS_OWN);
        }
        numbers.map(|[wait_us, left, reset_us]| verdict(wait_us, left, reset_us))
    }
}

fn numbers(reply: &Reply) -> Option<[u64; 3]> {
    let Reply::Array(items) = reply else { return None };
    let all: Option<Vec<u64>> =
        items.iter().map(|item| item.as_i64().and_then(|number| number.try_into().ok())).collect();
    all?.try_into().ok()
}

fn verdict(wait_us: u64, left: u64, reset_us: u64) -> Result<Taken, RateLimitError> {
    match wait_us {
        0 => Ok(Taken {
            left: u32::try_from(left).unwrap_or(u32::MAX),
            reset: Duration::from_micros(reset_us),
        }),
        _ => Err(RateLimitError::Exceeded { retry_after: Duration::from_micros(wait_us) }),
    }
}

/// Names the number of a who and a what, so that neither can be read from it.
fn digest(what: &str, who: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(b"understudy rate limit\0");
    digest.update((what.len() as u64).to_be_bytes());
    digest.update(what);
    digest.update(who);
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl ApiError for RateLimitError {
    fn problem(&self) -> Problem {
        match self {
            Self::Exceeded { retry_after } => {
                let (code, title) = ("rate_limited", "Too many requests");
                Problem::new(StatusCode::TOO_MANY_REQUESTS, code, title)
                    .with_retry_after(*retry_after)
            }
            Self::NotInstalled => {
                let code = "rate_limits_not_installed";
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, "Limits need a node")
            }
        }
    }
}

crate::answer_with_problem!(RateLimitError);

impl FromRequest for RateLimits {
    type Error = RateLimitError;
    type Future = Ready<Result<Self, RateLimitError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let node = request.app_data::<NodeContext>();
        ready(node.map(|node| node.rate_limits.clone()).ok_or(RateLimitError::NotInstalled))
    }
}
