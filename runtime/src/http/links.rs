//! Links to this application as its clients reach it.
//!
//! With `UNDERSTUDY_HTTP_EXTERNAL_URL` they are the same on every node, whatever a request says. Without it they
//! follow the scheme and the host that the request used, as far as a trusted proxy or the connection tells.

use actix_web::HttpRequest;
use actix_web::http::header;

use super::client_addr;
use super::cross_site::normal_origin;
use super::settings::Shared;
use crate::config::{ExternalUrl, Scheme};

/// Returns the absolute URL of a path of this application; the path itself when nothing tells the host.
///
/// `path` begins with a slash and is taken as it is.
#[must_use]
pub fn absolute_url(request: &HttpRequest, path: &str) -> String {
    match external_url(request) {
        Some(external) => format!("{external}{path}"),
        None => format!("{}{path}", origin_asked(request).unwrap_or_default()),
    }
}

/// Returns the origin under which browsers know this application: `scheme://host[:port]`.
pub(crate) fn own_origin(request: &HttpRequest) -> Option<String> {
    external_url(request).map(ExternalUrl::origin).or_else(|| origin_asked(request))
}

fn external_url(request: &HttpRequest) -> Option<&ExternalUrl> {
    request.app_data::<Shared>()?.external_url.as_ref()
}

/// The scheme and host that this request used.
fn origin_asked(request: &HttpRequest) -> Option<String> {
    let origin = client_addr::origin(request);
    let scheme = origin.scheme.unwrap_or(Scheme::Http);
    let host = origin.host.or_else(|| {
        let host = request.headers().get(header::HOST)?.to_str().ok()?;
        Some(host.to_owned())
    });
    normal_origin(&format!("{scheme}://{}", host?))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::http::settings::HttpSettings;

    fn link(external: Option<ExternalUrl>, peer: &str) -> String {
        let settings = HttpSettings { external_url: external, ..HttpSettings::for_test() };
        let request = TestRequest::default()
            .app_data(Shared::new(settings))
            .peer_addr(format!("{peer}:1").parse().unwrap())
            .insert_header((header::HOST, "Node-1:8080"))
            .insert_header(("x-forwarded-host", "evil.test"))
            .insert_header(("x-forwarded-proto", "https"));
        absolute_url(&request.to_http_request(), "/a?b=c")
    }

    #[test]
    fn t6_links_are_those_of_the_external_url_whatever_a_request_says() {
        let external = ExternalUrl {
            scheme: Scheme::Https,
            authority: "shop.example".to_owned(),
            path: "/app".to_owned(),
        };
        for peer in ["127.0.0.1", "198.51.100.7"] {
            assert_eq!(link(Some(external.clone()), peer), "https://shop.example/app/a?b=c");
        }
    }

    #[test]
    fn t6_without_one_only_a_trusted_proxy_may_say_more_than_the_connection() {
        assert_eq!(link(None, "198.51.100.7"), "http://node-1:8080/a?b=c");
        assert_eq!(link(None, "127.0.0.1"), "https://evil.test/a?b=c");
    }
}
