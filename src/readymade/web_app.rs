//! A static web app from a folder (`UNDERSTUDY_WEB_ROOT`), in place of the page.
//!
//! Files are found and sent by actix-files, but it is not trusted with `Range`: it panics at the end of an empty file,
//! refuses numbers that are larger than 64 bits and units that it does not know, heeds the field for HEAD, and gives the
//! parts of one version of a file to a client that has parts of another (`If-Range`). So it is asked for whole files, and
//! then for the exact bytes; [`ranges`] says which.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use actix_files::{Files, FilesService, NamedFile};
use actix_web::body::{BodySize, MessageBody as _};
use actix_web::dev::{
    AppService, HttpServiceFactory, ResourceDef, Service, ServiceFactory, ServiceRequest,
    ServiceResponse, always_ready, fn_service,
};
use actix_web::http::{Method, StatusCode, header};
use actix_web::{Error, HttpRequest, ResponseError as _, web};

use super::ranges::{self, Part, Wanted};
use crate::prelude::Problem;

/// Serves the folder; a path without a file answers `index.html` to a browser that asks for a page, as web apps with
/// routes of their own need it, and 404 to anything else. Hidden files are not served.
pub(super) fn routes(app: &mut web::ServiceConfig, root: &Path) {
    let index = root.join("index.html");
    let fallback = fn_service(move |request: ServiceRequest| {
        let index = index.clone();
        async move {
            let (request, _) = request.into_parts();
            let accept = request.headers().get(header::ACCEPT);
            let wants_page = accept
                .and_then(|accept| accept.to_str().ok())
                .is_some_and(|accept| accept.contains("text/html"));
            let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
            let page =
                if wants_page && is_read { NamedFile::open_async(&index).await.ok() } else { None };
            if let Some(page) = page {
                let response = page.into_response(&request);
                return Ok(ServiceResponse::new(request, response));
            }
            let missing = Problem::from_status(StatusCode::NOT_FOUND).error_response();
            Ok(ServiceResponse::new(request, missing))
        }
    });
    let files = Files::new("/", root).index_file("index.html").prefer_utf8(true);
    app.service(WebApp(files.default_handler(fallback)));
}

type Later<T, E> = Pin<Box<dyn Future<Output = Result<T, E>>>>;

/// The files of the folder, whole or in part.
struct WebApp(Files);

impl HttpServiceFactory for WebApp {
    fn register(self, config: &mut AppService) {
        // Whatever no route before it has.
        config.register_service(ResourceDef::root_prefix(""), None, self, None);
    }
}

impl ServiceFactory<ServiceRequest> for WebApp {
    type Response = ServiceResponse;
    type Error = Error;
    type Config = ();
    type Service = WebAppService;
    type InitError = ();
    type Future = Later<WebAppService, ()>;

    fn new_service(&self, (): ()) -> Self::Future {
        let files = self.0.new_service(());
        Box::pin(async move { Ok(WebAppService(files.await?)) })
    }
}

/// [`WebApp`] on one worker.
struct WebAppService(FilesService);

impl Service<ServiceRequest> for WebAppService {
    type Response = ServiceResponse;
    type Error = Error;
    type Future = Later<ServiceResponse, Error>;

    always_ready!();

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let wanted = ranges::wanted(request.headers());
        if request.headers().contains_key(header::RANGE) {
            request.headers_mut().remove(header::RANGE);
        }
        match wanted {
            // For no other method it means anything.
            Some(wanted) if request.method() == Method::GET => {
                Box::pin(in_part(self.0.clone(), request, wanted))
            }
            _ => self.0.call(request),
        }
    }
}

/// Answers with the wanted part of the file; with the whole when that has to be, and with no file as if nothing were wanted.
async fn in_part(
    files: FilesService,
    request: ServiceRequest,
    wanted: Wanted,
) -> Result<ServiceResponse, Error> {
    let condition = request.headers().get(header::IF_RANGE).cloned();
    // Nothing is read before the body is sent; and what the other conditions say comes before any range.
    let mut whole = files.call(request).await?;
    let BodySize::Sized(length) = whole.response().body().size() else {
        return Ok(whole);
    };
    if whole.status() != StatusCode::OK
        || !ranges::still_the_same(condition.as_ref(), whole.headers())
    {
        return Ok(whole);
    }
    match wanted.of(length) {
        Part::Whole => Ok(whole),
        Part::Nothing => {
            let (request, _) = whole.into_parts();
            let problem = Problem::from_status(StatusCode::RANGE_NOT_SATISFIABLE);
            let mut refused = problem.error_response();
            let range = format!("bytes */{length}");
            refused.headers_mut().insert(header::CONTENT_RANGE, range.parse()?);
            Ok(ServiceResponse::new(request, refused))
        }
        Part::Bytes(first, last) if last - first + 1 == length => {
            whole.response_mut().head_mut().status = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {first}-{last}/{length}");
            whole.headers_mut().insert(header::CONTENT_RANGE, range.parse()?);
            Ok(whole)
        }
        Part::Bytes(first, last) => bytes(&files, whole, (first, last)).await,
    }
}

/// Answers with bytes that lie within the file; with all of it when it became another one meanwhile.
async fn bytes(
    files: &FilesService,
    whole: ServiceResponse,
    (first, last): (u64, u64),
) -> Result<ServiceResponse, Error> {
    let (request, whole) = whole.into_parts();
    let mut again = once_more(request);
    again.headers_mut().insert(header::RANGE, format!("bytes={first}-{last}").parse()?);
    let mut part = files.call(again).await?;
    if part.headers().get(header::ETAG) != whole.headers().get(header::ETAG) {
        let (request, _) = part.into_parts();
        return files.call(once_more(request)).await;
    }
    // actix-files says "identity", which is no encoding but the lack of one.
    part.headers_mut().remove(header::CONTENT_ENCODING);
    Ok(part)
}

/// The same request once more, without a range.
fn once_more(request: HttpRequest) -> ServiceRequest {
    let mut request = ServiceRequest::from_request(request);
    request.headers_mut().remove(header::RANGE);
    request
}
