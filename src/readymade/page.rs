//! The small page at `/`: what this node is, and a session to play with. Works without any other server.

use actix_web::HttpRequest;
use actix_web::http::header::{self, ContentType, EntityTag, Header as _, IfNoneMatch};

use crate::prelude::{HttpResponse, web};

const HTML: &str = include_str!("../page/index.html");
const SCRIPT: &str = include_str!("../page/page.js");
const STYLE: &str = include_str!("../page/page.css");
/// Nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes(app: &mut web::ServiceConfig) {
    let html = |request: HttpRequest| async move { file(&request, HTML, "text/html") };
    let script = |request: HttpRequest| async move { file(&request, SCRIPT, "text/javascript") };
    let style = |request: HttpRequest| async move { file(&request, STYLE, "text/css") };
    app.service(web::resource("/").get(html).head(html));
    app.service(web::resource("/page.js").get(script).head(script));
    app.service(web::resource("/page.css").get(style).head(style));
}

fn file(request: &HttpRequest, text: &'static str, kind: &str) -> HttpResponse {
    // The version of the program stands for the content: they change together.
    let tag = EntityTag::new_strong(format!("{}-{}", env!("CARGO_PKG_VERSION"), text.len()));
    let known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Ok(IfNoneMatch::Any) | Err(_) => false,
    };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    let media = format!("{kind}; charset=utf-8").parse().expect("the three kinds are well formed");
    response.insert_header(ContentType(media));
    response.insert_header(header::ETag(tag));
    response.insert_header((header::CACHE_CONTROL, "no-cache"));
    response.insert_header((header::CONTENT_SECURITY_POLICY, POLICY));
    if known { response.finish() } else { response.body(text) }
}
