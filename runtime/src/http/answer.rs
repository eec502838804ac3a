//! What every answer goes through on its way out: headers, the form of errors, counting and the log line.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode, Uri};
use actix_web::{Error, HttpRequest, HttpResponse, ResponseError};
use tokio::time::Instant;
use tracing::Span;

use super::access_log::{self, Line, Weight};
use super::body::{Verdict, Watch};
use super::client_addr::client_addr;
use super::edge::EdgeContext;
use super::metrics::WorkerMetrics;
use super::problem::Problem;
use super::request_id::{X_REQUEST_ID, brought_along, known, request_id};
use super::{security_headers, trace, unread};
use crate::ids::RequestId;

static X_UNDERSTUDY_NODE: HeaderName = HeaderName::from_static("x-understudy-node");

/// All methods that an application may serve.
const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// What is kept of a request while its handler owns it.
pub(crate) struct Seen {
    method: Method,
    uri: Uri,
    began: Instant,
    /// The root span, if one was made.
    pub(crate) span: Span,
    /// What became of the body of the request, if it has one.
    pub(crate) body: Option<Rc<Watch>>,
}

impl Seen {
    fn verdict(&self) -> Verdict {
        self.body.as_ref().map_or(Verdict::Good, |body| body.verdict())
    }

    /// Lets an answer hold what was left unread of the body.
    fn hold_unread(&self, answer: HttpResponse<BoxBody>) -> HttpResponse<BoxBody> {
        match &self.body {
            Some(watch) => answer.map_body(|_, body| unread::hold(body, watch.take_unread())),
            None => answer,
        }
    }

    /// When the request came.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn new(request: &ServiceRequest) -> Self {
        // Both are cheap: a known method is a number, a URI shares the bytes that were received.
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self { method, uri, began: Instant::now(), span: Span::none(), body: None }
    }
}

/// A handler gave no answer.
pub(crate) enum Failure {
    /// It panicked.
    Panicked,
    /// It took too long, and was given up.
    TimedOut,
    /// An operator ended the request.
    Cancelled,
    /// A middleware of the application failed instead of answering.
    Middleware(Error),
}

/// Finishes the answers of one worker.
pub(crate) struct Finisher {
    pub(crate) context: Rc<EdgeContext>,
    pub(crate) metrics: Option<Rc<WorkerMetrics>>,
}

impl Finisher {
    /// Finishes an answer.
    pub(crate) fn finish(
        &self,
        seen: &Seen,
        answer: ServiceResponse<BoxBody>,
    ) -> ServiceResponse<BoxBody> {
        let (request, mut response) = answer.into_parts();
        let mut cause = None;
        if response.status().as_u16() >= 400 {
            cause = (response.status().is_server_error())
                .then(|| response.error().map(ToString::to_string))
                .flatten();
            response = self.shape_error(seen, &request, response);
        }
        let status = response.status();
        self.add_headers(&mut response);
        if let Some(id) = known(&request).or_else(|| brought_along(&request)) {
            add_request_id(&mut response, &id);
        }
        for wrap in &self.context.wraps {
            wrap.on_response(&request, status.as_u16(), response.headers_mut());
        }
        let outcome = Outcome { status, cause, request: Some(&request), on_purpose: false };
        self.record(seen, outcome, || request_id(&request));
        ServiceResponse::new(request, seen.hold_unread(response))
    }

    /// Makes the error for a request that got no answer; the request itself is gone.
    pub(crate) fn fail(&self, seen: &Seen, failure: Failure) -> Error {
        let id = RequestId::random();
        let on_purpose = matches!(failure, Failure::Cancelled);
        let (mut response, cause) = match failure {
            // What it said was logged where it happened.
            Failure::Panicked => {
                let internal = Problem::from_status(StatusCode::INTERNAL_SERVER_ERROR);
                (internal.response_for(Some(id.as_str())), Some("the handler panicked".to_owned()))
            }
            Failure::TimedOut => {
                let problem = Problem::from_status(StatusCode::GATEWAY_TIMEOUT)
                    .with_detail("the request took too long; whether it had an effect is unknown");
                (
                    problem.response_for(Some(id.as_str())),
                    Some("the handler took too long".to_owned()),
                )
            }
            Failure::Cancelled => {
                // Not 503: with that, balancers send a GET to the next node.
                let (status, code) = (StatusCode::GATEWAY_TIMEOUT, "cancelled_by_operator");
                let problem = Problem::new(status, code, "An operator ended this request")
                    .with_detail("whether it had an effect is unknown");
                let mut response = problem.response_for(Some(id.as_str()));
                close(&mut response);
                (response, None)
            }
            Failure::Middleware(error) => {
                let cause = error.to_string();
                let response = HttpResponse::from_error(error);
                let status = response.status();
                (reshape(response, Some(id.as_str())), status.is_server_error().then_some(cause))
            }
        };
        if seen.verdict() != Verdict::Good {
            close(&mut response);
        }
        self.add_headers(&mut response);
        add_request_id(&mut response, &id);
        let status = response.status();
        let outcome = Outcome { status, cause, request: None, on_purpose };
        self.record(seen, outcome, || id.clone());
        Finished(Cell::new(Some(seen.hold_unread(response))), StatusCode::INTERNAL_SERVER_ERROR)
            .into()
    }

    fn shape_error(
        &self,
        seen: &Seen,
        request: &HttpRequest,
        response: HttpResponse<BoxBody>,
    ) -> HttpResponse<BoxBody> {
        let id = request_id(request);
        if let Some(problem) = seen.verdict().problem(self.context.settings.body_limit) {
            let mut response = problem.response_for(Some(id.as_str()));
            close(&mut response);
            return response;
        }
        let mut response = reshape(response, Some(id.as_str()));
        let status = response.status();
        if status == StatusCode::METHOD_NOT_ALLOWED
            && !response.headers().contains_key(header::ALLOW)
        {
            response.headers_mut().insert(header::ALLOW, METHODS);
        }
        if status == StatusCode::UNAUTHORIZED && self.context.gate.is_some() {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE && !headers.contains_key(header::RETRY_AFTER) {
            let seconds = self.context.settings.retry_after.as_secs();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            close(&mut response);
        }
        response
    }

    fn add_headers(&self, response: &mut HttpResponse<BoxBody>) {
        let settings = &self.context.settings;
        if self.context.lifecycle.is_leaving() {
            close(response);
        }
        security_headers::apply(response.headers_mut(), settings.is_https());
        if let Some(node) = &settings.exposed_node {
            response.headers_mut().insert(X_UNDERSTUDY_NODE.clone(), node.clone());
        }
    }

    fn record(&self, seen: &Seen, outcome: Outcome<'_>, id: impl FnOnce() -> RequestId) {
        let (status, took) = (outcome.status.as_u16(), seen.began.elapsed());
        let weight = match outcome.on_purpose {
            true => Weight::Notable,
            false => access_log::weigh(status, took, self.context.settings.slow),
        };
        let wanted = access_log::is_wanted(weight);
        if self.metrics.is_none() && !wanted && seen.span.is_disabled() {
            return;
        }
        let route = outcome.request.and_then(HttpRequest::match_pattern);
        if let Some(metrics) = &self.metrics {
            metrics.count(route.as_deref(), &seen.method, status, took);
        }
        trace::finish(&seen.span, route.as_deref(), status);
        trace::record_duration(&seen.span, took);
        if !wanted && seen.span.is_disabled() {
            return;
        }
        let session = outcome.request.and_then(|request| self.session_id(request));
        trace::record_session(&seen.span, session.as_deref());
        if wanted {
            let client = outcome.request.map(client_addr);
            let line = Line {
                method: &seen.method,
                uri: &seen.uri,
                route: route.as_deref(),
                status,
                took,
                session,
                cause: outcome.cause,
            };
            access_log::write(weight, &line, id().as_str(), client);
        }
    }
}

impl Finisher {
    fn session_id(&self, request: &HttpRequest) -> Option<String> {
        let named = self.context.settings.session_in_logs;
        self.context.wraps.iter().filter(|_| named).find_map(|wrap| wrap.session_id(request))
    }
}

struct Outcome<'a> {
    status: StatusCode,
    cause: Option<String>,
    request: Option<&'a HttpRequest>,
    /// Somebody wanted it so: no failure, whatever the status says.
    on_purpose: bool,
}

/// Gives an error the form of a problem, unless the application chose another form on purpose.
fn reshape(mut response: HttpResponse<BoxBody>, id: Option<&str>) -> HttpResponse<BoxBody> {
    let own = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = own {
        return response.set_body(BoxBody::new(problem.body(id)));
    }
    let is_text = |value: &HeaderValue| value.as_bytes().starts_with(b"text/plain");
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let is_empty = matches!(response.body().size(), BodySize::None | BodySize::Sized(0));
    let problem = match response.error() {
        // The text that actix-web makes of any error; a cause on our side is not for the client.
        Some(error) if content_type.is_none_or(is_text) => {
            let problem = Problem::from_status(response.status());
            if response.status().is_client_error() {
                problem.with_detail(error.to_string())
            } else {
                problem
            }
        }
        None if is_empty && content_type.is_none() => Problem::from_status(response.status()),
        Some(_) | None => return response,
    };
    let shaped = problem.response_for(id);
    for (name, value) in shaped.headers() {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response.set_body(shaped.into_body())
}

fn add_request_id(response: &mut HttpResponse<BoxBody>, id: &RequestId) {
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID.clone(), value);
    }
}

fn close(response: &mut HttpResponse<BoxBody>) {
    response.head_mut().set_connection_type(ConnectionType::Close);
}

/// Carries a finished answer where only an error can be returned.
struct Finished(Cell<Option<HttpResponse<BoxBody>>>, StatusCode);

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Finished")
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not answered")
    }
}

impl ResponseError for Finished {
    fn status_code(&self) -> StatusCode {
        self.1
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.0.take().unwrap_or_else(|| Problem::from_status(self.1).response())
    }
}
