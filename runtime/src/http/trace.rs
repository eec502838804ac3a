//! The root span of a request.
//!
//! A span costs a fifth of what a small request costs, so it is not made for every request: it exists when the
//! filter lets `understudy_runtime::http=debug` through, when the request carries a `traceparent` (somebody
//! upstream follows just this one), or when traces are on and the request is drawn. At the default filter all other
//! requests pay two loads of cached flags; what fails or is slow is still logged, once, by [`super::access_log`], with
//! its request id.

use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderName;
use actix_web::{Error, HttpMessage, HttpRequest};
use tracing::{Span, debug_span, field};
use tracing_actix_web::RootSpanBuilder;

use super::client_addr::client_addr;
use super::request_id::request_id;
use super::settings::Shared;
pub use crate::trace::TraceContext;
use crate::trace::{self, Origin};
use crate::traced_span;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// So much of a path is exported; the rest tells nobody more.
const LONGEST_PATH: usize = 256;

impl TraceContext {
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

/// Builds the root span of a request: ids, client, method, route, and at its end status and duration.
#[derive(Debug, Clone, Copy)]
pub struct NodeRootSpan;

impl RootSpanBuilder for NodeRootSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let request = request.request();
        root_span(request, followed(request).unwrap_or(Wish::Looked))
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

/// Why a request has a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Somebody upstream follows it.
    Followed(TraceContext),
    /// It was drawn to be traced.
    Drawn,
    /// Whoever reads the log wants to see all.
    Looked,
}

/// Makes a span only when somebody would see it; see the module's text.
pub(crate) fn span_if_wanted(request: &HttpRequest) -> Span {
    match wish(request, trace::draws) {
        Some(wish) => root_span(request, wish),
        None => Span::none(),
    }
}

fn wish(request: &HttpRequest, draws: impl FnOnce() -> bool) -> Option<Wish> {
    followed(request).or_else(|| {
        // Whoever collects metrics comes all the time, and is no part of anything.
        if request.path() != super::METRICS_PATH && draws() {
            return Some(Wish::Drawn);
        }
        tracing::enabled!(tracing::Level::DEBUG).then_some(Wish::Looked)
    })
}

fn followed(request: &HttpRequest) -> Option<Wish> {
    brought_along(request).map(Wish::Followed)
}

/// Writes into a root span what is known only at the end.
pub(crate) fn finish(span: &Span, route: Option<&str>, status: u16) {
    if !span.is_disabled() {
        span.record("http.route", route.unwrap_or("unmatched"));
        span.record("http.status_code", i64::from(status));
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

fn root_span(request: &HttpRequest, wish: Wish) -> Span {
    let settings = request.app_data::<Shared>();
    let node = settings.map(|settings| settings.node_id.as_str());
    macro_rules! span {
        ($make:ident $(, $field:ident)*) => {
            $make!(
                "http.request",
                $($field = field::Empty,)*
                request_id = %request_id(request),
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
    let (span, origin) = match wish {
        Wish::Followed(caller) => (span!(traced_span), Origin::Continues(caller)),
        Wish::Drawn => (span!(traced_span), Origin::Begins),
        Wish::Looked => {
            let context = TraceContext::of(request);
            (span!(debug_span, trace_id, parent_id), Origin::Continues(context))
        }
    };
    if let Some(context) = trace::place(&span, origin) {
        request.extensions_mut().insert(context);
        if context.sampled && trace::exports() {
            describe(&span, request, settings.is_some_and(|settings| settings.is_https()));
        }
    }
    span
}

/// What only a collector is told. Never the query, which may hold what nobody should read.
fn describe(span: &Span, request: &HttpRequest, https: bool) {
    let path: String = request.path().chars().take(LONGEST_PATH).collect();
    trace::tell(span, "url.path", path);
    trace::tell(span, "url.scheme", if https { "https" } else { "http" }.to_owned());
}

fn brought_along(request: &HttpRequest) -> Option<TraceContext> {
    TraceContext::parse(request.headers().get(&TRACEPARENT)?.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use tracing::subscriber::with_default;
    use tracing_subscriber::EnvFilter;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

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

    #[test]
    fn requests_are_drawn_unless_their_caller_has_decided() {
        let ordinary = TestRequest::with_uri("/a").to_http_request();
        assert_eq!(wish(&ordinary, || true), Some(Wish::Drawn));
        assert_eq!(wish(&ordinary, || false), None);
        let unsampled = GOOD.replace("-01", "-00");
        for given in [GOOD, unsampled.as_str()] {
            let followed =
                TestRequest::default().insert_header(("traceparent", given)).to_http_request();
            let caller = TraceContext::parse(given).unwrap();
            let draws = || panic!("its caller has decided");
            assert_eq!(wish(&followed, draws), Some(Wish::Followed(caller)));
        }
        let collected = TestRequest::with_uri("/metrics").to_http_request();
        assert_eq!(wish(&collected, || panic!("never drawn")), None);
    }
}
