//! The root span of a request and the trace it belongs to (W3C Trace Context).
//!
//! A span costs a fifth of what a small request costs, so it is not made for every request: it exists when the
//! filter lets `understudy_runtime::http=debug` through, or when the request carries a `traceparent` (somebody
//! upstream follows just this one). At the default filter all other requests pay one load of a cached flag; what
//! fails or is slow is still logged, once, by [`super::access_log`], with its request id.

use std::fmt;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderName;
use actix_web::{Error, HttpMessage, HttpRequest};
use tracing::{Span, debug_span, field, info_span};
use tracing_actix_web::RootSpanBuilder;

use super::client_addr::client_addr;
use super::request_id::request_id;
use super::settings::Shared;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Which trace a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never zero.
    pub trace_id: u128,
    /// The caller's span, or one drawn here when the trace begins here; never zero.
    pub parent_id: u64,
    /// Whether the caller records this trace.
    pub sampled: bool,
}

impl TraceContext {
    /// Begins a trace.
    #[must_use]
    pub fn random() -> Self {
        let trace_id = rand::random::<u128>().max(1);
        Self { trace_id, parent_id: rand::random::<u64>().max(1), sampled: false }
    }

    /// Reads the value of a `traceparent` header; `None` when it is not valid, as the standard demands.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let parent_id = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        // Version 0 ends here; a later version may append, 255 is forbidden.
        let length_is_good = if version == 0 { parts.next().is_none() } else { version != 0xff };
        let valid = length_is_good && trace_id != 0 && parent_id != 0;
        let parent_id = u64::try_from(parent_id).ok()?;
        valid.then_some(Self { trace_id, parent_id, sampled: flags & 1 == 1 })
    }

    /// Returns the trace of a request: the one it brought along, else a new one, the same for the same request.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Self {
        if let Some(known) = request.extensions().get::<Self>() {
            return *known;
        }
        let context = brought_along(request).unwrap_or_else(Self::random);
        request.extensions_mut().insert(context);
        context
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.parent_id)
    }
}

/// Builds the root span of a request: ids, client, method, route, and at its end status and duration.
#[derive(Debug, Clone, Copy)]
pub struct NodeRootSpan;

impl RootSpanBuilder for NodeRootSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        root_span(request.request())
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        match outcome {
            Ok(response) => {
                let route = response.request().match_pattern();
                finish(&span, route.as_deref(), response.status().as_u16());
            }
            Err(error) => finish(&span, None, error.as_response_error().status_code().as_u16()),
        }
    }
}

/// Makes a span only when somebody would see it; see the module's text.
pub(crate) fn span_if_wanted(request: &HttpRequest) -> Span {
    let wanted =
        tracing::enabled!(tracing::Level::DEBUG) || request.headers().contains_key(&TRACEPARENT);
    if wanted { root_span(request) } else { Span::none() }
}

/// Writes into a root span what is known only at the end.
pub(crate) fn finish(span: &Span, route: Option<&str>, status: u16) {
    if !span.is_disabled() {
        span.record("http.route", route.unwrap_or("unmatched"));
        span.record("http.status_code", status);
    }
}

/// Writes into a root span which session the request belongs to.
pub(crate) fn record_session(span: &Span, id: Option<&str>) {
    if let Some(id) = id.filter(|_| !span.is_disabled()) {
        span.record("session.id", id);
    }
}

/// Writes into a root span how long the answer took.
pub(crate) fn record_duration(span: &Span, took: Duration) {
    if !span.is_disabled() {
        span.record("duration_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }
}

fn root_span(request: &HttpRequest) -> Span {
    let followed = brought_along(request).is_some();
    let trace = TraceContext::of(request);
    let settings = request.app_data::<Shared>();
    let node = settings.map(|settings| settings.node_id.as_str());
    macro_rules! span {
        ($level:ident) => {
            $level!(
                "http.request",
                request_id = %request_id(request),
                trace_id = %format_args!("{:032x}", trace.trace_id),
                parent_id = %format_args!("{:016x}", trace.parent_id),
                http.method = %request.method(),
                http.route = field::Empty,
                http.status_code = field::Empty,
                client.addr = %client_addr(request),
                node.id = node,
                duration_ms = field::Empty,
                session.id = field::Empty,
            )
        };
    }
    if followed { span!(info_span) } else { span!(debug_span) }
}

fn brought_along(request: &HttpRequest) -> Option<TraceContext> {
    TraceContext::parse(request.headers().get(&TRACEPARENT)?.to_str().ok()?)
}

/// Reads exactly so many digits; capitals and signs are not valid.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && lower).then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use tracing::subscriber::with_default;
    use tracing_subscriber::EnvFilter;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_survives_reading_and_writing() {
        assert_eq!(TraceContext::parse(GOOD).unwrap().to_string(), GOOD);
        assert!(TraceContext::parse(GOOD).unwrap().sampled);
        let own = TraceContext::random();
        assert_eq!(TraceContext::parse(&own.to_string()), Some(own));
    }

    #[test]
    fn a_traceparent_that_is_not_valid_is_ignored() {
        let bad = [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for bad in bad {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
        assert!(TraceContext::parse(&GOOD.replacen("00", "cc", 1)).is_some(), "a later version");
        assert!(TraceContext::parse(&format!("cc{}-more", &GOOD[2..])).is_some());
    }

    #[test]
    fn a_span_is_made_only_for_somebody_who_looks() {
        let ordinary = TestRequest::default().to_http_request();
        let followed =
            TestRequest::default().insert_header(("traceparent", GOOD)).to_http_request();
        let broken =
            TestRequest::default().insert_header(("traceparent", "00-0-0-0")).to_http_request();
        for (filter, expected) in
            [("info", [false, true, false]), ("debug", [true, true, true]), ("off", [false; 3])]
        {
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(EnvFilter::new(filter))
                .with_writer(std::io::sink)
                .finish();
            with_default(subscriber, || {
                let made = [&ordinary, &followed, &broken]
                    .map(|request| !span_if_wanted(request).is_disabled());
                assert_eq!(made, expected, "{filter}");
            });
        }
    }

    #[test]
    fn a_request_belongs_to_one_trace() {
        let request = TestRequest::default().to_http_request();
        assert_eq!(TraceContext::of(&request), TraceContext::of(&request));
        let request = TestRequest::default().insert_header(("traceparent", GOOD)).to_http_request();
        assert_eq!(TraceContext::of(&request).to_string(), GOOD);
    }
}
