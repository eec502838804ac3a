//! Maintenance: the public port serves readers only, or nobody, and says until when to wait.
//!
//! Which mode it is, a [setting](crate::settings::MAINTENANCE) says: that of the cluster or that of the node, whichever is
//! stricter. Nodes stay ready, since a balancer that took all of them out would answer in their place with an error of its
//! own. Requests that are under way are finished; jobs go on. Health is asked before any of this.
//!
//! While it is off, a request pays for one look at a number.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, VARY,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, web};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::METRICS_PATH;
use super::cross_site::is_unsafe;
use super::problem::Problem;
use crate::clock::SharedClock;
use crate::config::Config;

mod bypass;
mod page;

use bypass::Bypass;
pub(crate) use bypass::PATH as BYPASS_PATH;

/// The header that carries the word of those who may come in all the same.
pub(crate) const BYPASS_HEADER: &str = "Understudy-Bypass";
static BYPASS: HeaderName = HeaderName::from_static("understudy-bypass");

/// What is said when nothing else is.
pub(crate) const USUAL_MESSAGE: &str = "The service is being worked on and will be back soon.";
/// The longest message, bytes.
pub(crate) const LONGEST_MESSAGE: usize = 1_000;
/// The longest that a client is told to wait, s.
pub(crate) const LONGEST_RETRY_S: u64 = 86_400;

/// Whom the public port serves; the strictest last.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Mode {
    /// Everybody.
    #[default]
    Off,
    /// Whoever changes nothing: GET, HEAD and OPTIONS.
    ReadOnly,
    /// Nobody.
    Full,
}

impl Mode {
    /// Returns its name: `off`, `read_only` or `full`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::ReadOnly => "read_only",
            Self::Full => "full",
        }
    }

    /// Finds a mode by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Off, Self::ReadOnly, Self::Full].into_iter().find(|mode| mode.as_str() == name)
    }

    /// Whether a request with this method is served.
    fn serves(self, method: &Method) -> bool {
        match self {
            Self::Off => true,
            Self::ReadOnly => !is_unsafe(method),
            Self::Full => false,
        }
    }
}

/// What is in force, and what clients are told; the value of the setting, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notice {
    pub(crate) mode: Mode,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) retry_after_s: u64,
}

impl Notice {
    /// What is in force without anybody's doing.
    pub(crate) fn off(config: &Config) -> Self {
        let retry_after_s = config.ops.retry_after.as_secs();
        Self { mode: Mode::Off, message: USUAL_MESSAGE.to_owned(), retry_after_s }
    }

    /// Reads the value of the setting.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Writes the value of the setting.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialise")
    }
}

/// Whom the public port of this node serves; a cheap clone.
#[derive(Clone)]
pub struct Maintenance {
    inner: Arc<Inner>,
}

struct Inner {
    mode: AtomicU8,
    notice: ArcSwap<Notice>,
    bypass: Bypass,
    clock: SharedClock,
}

impl Maintenance {
    pub(crate) fn new(config: &Config, clock: SharedClock) -> Self {
        let inner = Inner {
            mode: AtomicU8::new(Mode::Off as u8),
            notice: ArcSwap::from_pointee(Notice::off(config)),
            bypass: Bypass::new(config),
            clock,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns whom this node serves at this moment.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.inner.notice.load().mode
    }

    /// Puts a value of the setting in force. One that cannot be read was kept from coming here.
    pub(crate) fn apply(&self, text: &str) {
        let Ok(notice) = Notice::parse(text) else { return };
        let mode = notice.mode as u8;
        self.inner.notice.store(Arc::new(notice));
        self.inner.mode.store(mode, Ordering::Release);
    }

    /// Whether anybody is turned away; asked for every request.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.inner.mode.load(Ordering::Relaxed) != Mode::Off as u8
    }

    /// Answers a request that is not served.
    #[cold]
    pub(crate) fn turn_away(&self, request: &ServiceRequest) -> Option<HttpResponse> {
        let notice = self.inner.notice.load();
        if notice.mode.serves(request.method())
            || request.path() == bypass::PATH
            // Who watches the node must not take it for dead, nor its balancer for another's.
            || request.path() == METRICS_PATH
            || request.path().starts_with("/health/")
            || self.may_pass(request)
        {
            return None;
        }
        Some(notice.answer(request.headers()))
    }

    /// Makes a word that lets its bearer in for so long; returns it with the time of its end, ms since 1970.
    pub(crate) fn make_bypass(&self, good_for: Duration) -> (String, u64) {
        let good_for = u64::try_from(good_for.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.inner.clock.wall_ms().saturating_add(good_for);
        (self.inner.bypass.seal(until_ms), until_ms)
    }

    /// Whether a word that was made here counts on all nodes, and after a restart.
    pub(crate) fn is_bypass_shared(&self) -> bool {
        self.inner.bypass.is_shared()
    }

    /// Adds the resource with which a browser gets its cookie.
    pub(crate) fn configure(&self, app: &mut web::ServiceConfig) {
        bypass::configure(app, self);
    }

    /// How long a word is still good for; `None` when it is not.
    fn open_bypass(&self, word: &str) -> Option<Duration> {
        let now_ms = self.inner.clock.wall_ms();
        let until_ms = self.inner.bypass.open(word, now_ms)?;
        Some(Duration::from_millis(until_ms.saturating_sub(now_ms)))
    }

    fn may_pass(&self, request: &ServiceRequest) -> bool {
        let header = request.headers().get(&BYPASS).and_then(|word| word.to_str().ok());
        if header.is_some_and(|word| self.open_bypass(word).is_some()) {
            return true;
        }
        let cookie = request.cookie(bypass::COOKIE);
        cookie.is_some_and(|cookie| self.open_bypass(cookie.value()).is_some())
    }
}

impl Notice {
    fn answer(&self, headers: &HeaderMap) -> HttpResponse {
        let mut answer = if wants_page(headers) {
            page::of(self)
        } else {
            let title = "The service is under maintenance";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "maintenance", title)
                .with_detail(self.message.clone())
                .with_retry_after(Duration::from_secs(self.retry_after_s))
                .with_member("mode", self.mode.as_str())
                .response()
        };
        let headers = answer.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from(self.retry_after_s));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        answer
    }
}

/// Makes a page that needs nothing but itself, and may do nothing but send its own form.
fn html(status: StatusCode, body: String) -> HttpResponse {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
                          base-uri 'none'; frame-ancestors 'none'";
    HttpResponse::build(status)
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type("text/html; charset=utf-8")
        .body(body)
}

/// Whether somebody reads the answer who would rather have a page than JSON: a browser names HTML, a program does not.
fn wants_page(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let refused = parts
            .filter_map(|part| part.strip_prefix("q="))
            .any(|quality| quality.parse::<f32>().is_ok_and(|quality| quality <= 0.0));
        is_html && !refused
    })
}

impl fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maintenance").field("mode", &self.mode()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
