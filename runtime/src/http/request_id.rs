//! The name of a request, under which logs, answers and messages to other nodes speak of it.
//!
//! It is made only when somebody asks for it: most requests are answered without. A name that comes with the
//! request counts only when a trusted proxy sent it, since a stranger could make two requests look like one.

use actix_web::http::header::HeaderName;
use actix_web::{HttpMessage, HttpRequest};

use super::client_addr::peer_of;
use super::settings::Shared;
use crate::ids::RequestId;

/// The header that carries the name in both directions.
pub(crate) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Returns the name of a request: always the same for the same request.
#[must_use]
pub fn request_id(request: &HttpRequest) -> RequestId {
    if let Some(known) = known(request) {
        return known;
    }
    let id = brought_along(request).unwrap_or_else(RequestId::random);
    request.extensions_mut().insert(id.clone());
    id
}

/// Returns the name if somebody has asked for it before.
pub(crate) fn known(request: &HttpRequest) -> Option<RequestId> {
    request.extensions().get::<RequestId>().cloned()
}

/// Returns the name that a trusted proxy gave to the request.
pub(crate) fn brought_along(request: &HttpRequest) -> Option<RequestId> {
    let given = request.headers().get(&X_REQUEST_ID)?;
    let settings = request.app_data::<Shared>()?;
    settings.trusted_proxies.trust(peer_of(request.head())).then_some(())?;
    given.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::http::settings::HttpSettings;

    fn request(peer: &str, given: &str) -> HttpRequest {
        let settings = HttpSettings::for_test();
        TestRequest::default()
            .app_data(Shared::new(settings))
            .peer_addr(format!("{peer}:1").parse().unwrap())
            .insert_header((X_REQUEST_ID.clone(), given))
            .to_http_request()
    }

    #[test]
    fn t5_only_a_trusted_proxy_may_name_a_request() {
        assert_eq!(request_id(&request("127.0.0.1", "abc-1")).as_str(), "abc-1");
        assert_ne!(request_id(&request("198.51.100.7", "abc-1")).as_str(), "abc-1");
    }

    #[test]
    fn a_name_that_is_not_sane_is_replaced() {
        let long = "x".repeat(65);
        for bad in ["", "a b", "{\"a\":1}", long.as_str()] {
            assert_ne!(request_id(&request("127.0.0.1", bad)).as_str(), bad);
        }
    }

    #[test]
    fn a_request_has_one_name() {
        let request = request("198.51.100.7", "x");
        assert!(known(&request).is_none());
        assert_eq!(request_id(&request), request_id(&request));
    }
}
