//! Sets the session cookie on answers.
//!
//! Two ways in: a node of the runtime asks [`SessionWrap`] about every answer; an actix-web application without the
//! runtime's node wraps itself in [`SessionMiddleware`].

use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::HeaderMap;
use actix_web::{Error, HttpMessage as _, HttpRequest};
use futures_util::future::LocalBoxFuture;
use understudy_runtime::service::RequestWrap;

use crate::session::Session;

/// Adds the session's cookie to the answers of a node.
#[derive(Debug)]
pub(crate) struct SessionWrap;

impl RequestWrap for SessionWrap {
    fn on_response(&self, request: &HttpRequest, _status: u16, headers: &mut HeaderMap) {
        finish(request, headers);
    }

    fn session_id(&self, request: &HttpRequest) -> Option<String> {
        request.extensions().get::<Session>().and_then(Session::id_for_logs)
    }
}

fn finish(request: &HttpRequest, headers: &mut HeaderMap) {
    if let Some(session) = request.extensions().get::<Session>() {
        session.finish(headers);
    }
}

/// Lets an actix-web application use [`Session`]; also needs the handle as `app_data`.
///
/// ```no_run
/// use actix_web::App;
/// use understudy_session::{SessionHandle, SessionMiddleware};
///
/// fn app(handle: SessionHandle) -> App<impl actix_web::dev::ServiceFactory<
///     actix_web::dev::ServiceRequest, Config = (), InitError = (), Error = actix_web::Error,
///     Response = actix_web::dev::ServiceResponse,
/// >> {
///     App::new().app_data(handle).wrap(SessionMiddleware)
/// }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionMiddleware;

impl<S, B> Transform<S, ServiceRequest> for SessionMiddleware
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Transform = SessionMiddlewareService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(SessionMiddlewareService { service: Rc::new(service) }))
    }
}

/// One application with [`SessionMiddleware`] around it.
#[derive(Debug)]
pub struct SessionMiddlewareService<S> {
    service: Rc<S>,
}

impl<S, B> Service<ServiceRequest> for SessionMiddlewareService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let answered = self.service.call(request);
        Box::pin(async move {
            let mut response = answered.await?;
            let request = response.request().clone();
            finish(&request, response.headers_mut());
            Ok(response)
        })
    }
}
