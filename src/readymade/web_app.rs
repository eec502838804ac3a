//! A static web app from a folder (`UNDERSTUDY_WEB_ROOT`), in place of the page.

use std::path::Path;

use actix_files::{Files, NamedFile};
use actix_web::dev::{ServiceRequest, ServiceResponse, fn_service};
use actix_web::http::{Method, StatusCode, header};
use actix_web::{ResponseError as _, web};

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
    app.service(files.default_handler(fallback));
}
