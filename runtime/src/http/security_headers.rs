//! Headers that switch on what browsers do for safety, unless the application has set its own.

use actix_web::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// One year, without subdomains: a runtime cannot know what else lives below the host.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const REFERRER: HeaderValue = HeaderValue::from_static("strict-origin-when-cross-origin");
const FRAME: HeaderValue = HeaderValue::from_static("SAMEORIGIN");
const FRAME_ANCESTORS: HeaderValue = HeaderValue::from_static("frame-ancestors 'self'");

/// Adds what is missing; `https` tells whether clients reach the cluster through TLS only.
pub(crate) fn apply(headers: &mut HeaderMap, https: bool) {
    add(headers, X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    add(headers, REFERRER_POLICY, REFERRER);
    if https {
        add(headers, STRICT_TRANSPORT_SECURITY, HSTS);
    }
    if is_html(headers) {
        add(headers, X_FRAME_OPTIONS, FRAME);
        add(headers, CONTENT_SECURITY_POLICY, FRAME_ANCESTORS);
    }
}

fn add(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    if !headers.contains_key(&name) {
        headers.insert(name, value);
    }
}

fn is_html(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(content_type: &'static str, https: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        apply(&mut headers, https);
        headers
    }

    #[test]
    fn every_answer_forbids_sniffing_and_a_page_forbids_framing() {
        let json = applied("application/json", false);
        assert_eq!(json.get(X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
        assert!(json.contains_key(REFERRER_POLICY) && !json.contains_key(X_FRAME_OPTIONS));
        let page = applied("text/html; charset=utf-8", false);
        assert_eq!(page.get(X_FRAME_OPTIONS).unwrap(), "SAMEORIGIN");
        assert_eq!(page.get(CONTENT_SECURITY_POLICY).unwrap(), "frame-ancestors 'self'");
    }

    #[test]
    fn strict_transport_is_promised_only_where_it_holds() {
        assert!(!applied("text/html", false).contains_key(STRICT_TRANSPORT_SECURITY));
        assert!(applied("text/html", true).contains_key(STRICT_TRANSPORT_SECURITY));
    }

    #[test]
    fn what_the_application_says_counts() {
        let mut headers = applied("text/html", true);
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        apply(&mut headers, true);
        assert_eq!(headers.get_all(X_FRAME_OPTIONS).collect::<Vec<_>>(), ["DENY"]);
    }
}
