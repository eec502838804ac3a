//! The one middleware around every application: all checks before a handler, all care for its answer after it.
//!
//! What each check decides is in the file of its concern; this file fixes their order and keeps the price low:
//! one boxed future per request, nothing allocated for what a request does not need.

use std::future::{Future, Ready, ready};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{Error, HttpMessage, HttpResponse};
use futures_util::FutureExt;
use tokio::time::timeout;
use tracing::Instrument;

use super::answer::{Failure, Finisher, Seen};
use super::body::{self, Watch};
use super::maintenance::Maintenance;
use super::metrics::WorkerMetrics;
use super::problem::Problem;
use super::requests::{Requests, Visit, WorkerRequests};
use super::settings::Shared;
use super::{cross_site, drain, health, host, links, trace, unread};
use crate::ids::Incarnation;
use crate::node::Lifecycle;
use crate::service::RequestWrap;

/// The longest target of a request, in bytes.
const MAX_URI: usize = 8_192;
/// The most bytes of cookies: they are parsed for every request that asks for one.
const MAX_COOKIES: usize = 16_384;

/// What the middleware needs to know of its node; shared by all workers.
#[derive(Clone)]
pub(crate) struct EdgeContext {
    pub(crate) settings: Shared,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) requests: Requests,
    /// Tells whether another node could take a request; `None` while the node starts, and on the admin port.
    pub(crate) others_ready: Option<OthersReady>,
    /// Decides who may come in at all; on the admin port.
    pub(crate) gate: Option<Gate>,
    /// Decides whether anybody is served; on the public port.
    pub(crate) maintenance: Option<Maintenance>,
    pub(crate) wraps: Vec<Arc<dyn RequestWrap>>,
}

/// Tells whether another node could take a request.
pub(crate) type OthersReady = Arc<dyn Fn() -> bool + Send + Sync>;

/// Decides who may come in at all.
pub(crate) type Gate = Arc<dyn Fn(&ServiceRequest) -> Result<(), Problem> + Send + Sync>;

impl EdgeContext {
    /// The context of a port that lets everybody in and sends nobody away.
    pub(crate) fn new(settings: Shared, lifecycle: Lifecycle) -> Self {
        let requests = Requests::new(Incarnation::random());
        Self {
            settings,
            lifecycle,
            requests,
            others_ready: None,
            gate: None,
            maintenance: None,
            wraps: Vec::new(),
        }
    }
}

/// The middleware.
pub(crate) struct Edge(Rc<EdgeContext>);

impl Edge {
    pub(crate) fn new(context: EdgeContext) -> Self {
        Self(Rc::new(context))
    }
}

impl<S, B> Transform<S, ServiceRequest> for Edge
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: actix_web::body::MessageBody + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Transform = EdgeService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let metrics = self.0.settings.metrics.then(WorkerMetrics::begin);
        let finisher = Rc::new(Finisher { context: Rc::clone(&self.0), metrics });
        let requests = self.0.requests.worker();
        actix_web::rt::spawn(requests.read_letters(Shared::clone(&self.0.settings)));
        ready(Ok(EdgeService { service, finisher, requests }))
    }
}

/// The middleware around a service.
pub(crate) struct EdgeService<S> {
    service: S,
    finisher: Rc<Finisher>,
    requests: WorkerRequests,
}

type Answering = Pin<Box<dyn Future<Output = Result<ServiceResponse<BoxBody>, Error>>>>;

impl<S, B> Service<ServiceRequest> for EdgeService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: actix_web::body::MessageBody + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Future = Answering;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        if health::is_health(request.path()) {
            let rest = request.take_payload();
            let answer = self.service.call(request);
            return Box::pin(async move {
                let answer = answer.await?.map_into_boxed_body();
                Ok(answer.map_body(|_, body| unread::hold(body, rest)))
            });
        }
        let finisher = Rc::clone(&self.finisher);
        let under_way = self.requests.begin();
        let mut seen = Seen::new(&request);
        if let Some(refused) = refused(&request, &finisher.context) {
            seen.body = Some(Watch::unread(request.take_payload()));
            let refused = request.into_response(refused);
            return Box::pin(ready(Ok(finisher.finish(&seen, refused))));
        }
        seen.body = guard_body(&mut request, &finisher.context.settings);
        for wrap in &finisher.context.wraps {
            wrap.on_request(&request);
        }
        let span = trace::span_if_wanted(request.request());
        seen.span = span.clone();
        let proxies = &finisher.context.settings.trusted_proxies;
        let place = self.requests.enter(Visit::of(&request, proxies, seen.began()));
        let usual = finisher.context.settings.request_timeout;
        let limit = body::time_for(request.request(), usual);
        // A guard or a middleware of the application may panic before there is a future to catch it.
        let called = {
            let _entered = seen.span.enter();
            std::panic::catch_unwind(AssertUnwindSafe(|| self.service.call(request)))
        };
        Box::pin(
            async move {
                let _under_way = under_way;
                let outcome = match called {
                    Ok(answer) => {
                        let answered = place.or_cancelled(bounded(answer, limit)).await;
                        answered.unwrap_or(Err(Failure::Cancelled))
                    }
                    Err(_panic) => Err(Failure::Panicked),
                };
                match outcome {
                    Ok(Ok(answer)) => Ok(finisher.finish(&seen, answer.map_into_boxed_body())),
                    Ok(Err(error)) => Err(finisher.fail(&seen, Failure::Middleware(error))),
                    Err(failure) => Err(finisher.fail(&seen, failure)),
                }
            }
            .instrument(span),
        )
    }
}

/// Waits for an answer, but not for ever, and survives a panic.
async fn bounded<F: Future>(answer: F, limit: std::time::Duration) -> Result<F::Output, Failure> {
    match timeout(limit, AssertUnwindSafe(answer).catch_unwind()).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_panic)) => Err(Failure::Panicked),
        Err(_elapsed) => Err(Failure::TimedOut),
    }
}

/// Answers a request that does not reach the application.
fn refused(request: &ServiceRequest, context: &EdgeContext) -> Option<HttpResponse> {
    if let Err(problem) = admit(request, context) {
        return Some(problem.response());
    }
    let maintenance = context.maintenance.as_ref().filter(|maintenance| maintenance.is_on())?;
    maintenance.turn_away(request)
}

/// Decides whether a request may reach the application; the cheap checks and the common refusals first.
fn admit(request: &ServiceRequest, context: &EdgeContext) -> Result<(), Problem> {
    let settings = &context.settings;
    let head = request.head();
    check_form(request)?;
    if let Some(gate) = &context.gate {
        gate(request)?;
    }
    let told = || settings.trusted_proxies.origin(head).host;
    host::check(head, &settings.hosts, told)?;
    if context.lifecycle.is_leaving() {
        context.requests.came();
        let others_ready = context.others_ready.as_ref().is_some_and(|others| others());
        if drain::sends_away(&head.method, settings.drain_mode, others_ready) {
            context.requests.sent_away();
            return Err(drain::elsewhere(context.lifecycle.is_draining()));
        }
    }
    if settings.csrf && cross_site::is_unsafe(&head.method) {
        cross_site::check(&head.headers, || links::own_origin(request.request()))?;
    }
    let limit = body::limit_for(request.request(), settings.body_limit);
    body::check_announced(&head.headers, limit)
}

fn check_form(request: &ServiceRequest) -> Result<(), Problem> {
    let head = request.head();
    // Neither tunnels nor echoes are offered; TRACE would show a page its own HttpOnly cookies.
    if matches!(head.method, Method::TRACE | Method::CONNECT) {
        return Err(Problem::from_status(StatusCode::METHOD_NOT_ALLOWED));
    }
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_URI {
        return Err(Problem::from_status(StatusCode::URI_TOO_LONG));
    }
    let cookies: usize = head.headers.get_all(header::COOKIE).map(HeaderValue::len).sum();
    if cookies > MAX_COOKIES {
        return Err(Problem::from_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    Ok(())
}

/// Puts the guard around a body, if there is one.
fn guard_body(request: &mut ServiceRequest, settings: &Shared) -> Option<Rc<Watch>> {
    let payload = request.take_payload();
    if matches!(payload, Payload::None) {
        return None;
    }
    let headers = request.headers();
    let has_body = headers.contains_key(header::CONTENT_LENGTH)
        || headers.contains_key(header::TRANSFER_ENCODING);
    if !has_body && request.head().upgrade() {
        // What follows an upgrade is not a body: it may be silent for as long as it likes.
        request.set_payload(payload);
        return None;
    }
    let limit = body::limit_for(request.request(), settings.body_limit);
    let (guarded, watch) = body::guard(payload, limit, settings.body_pace);
    request.set_payload(guarded);
    Some(watch)
}

#[cfg(test)]
mod tests;
