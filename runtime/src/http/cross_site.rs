//! Refuses requests that another site makes a browser send (cross-site request forgery).
//!
//! Browsers say where a request comes from in `Sec-Fetch-Site`, older ones in `Origin`; a page cannot forge
//! either. A request with neither does not come from a browser and carries no cookies by accident. Safe methods
//! pass, since a handler of GET must not change anything.

use actix_web::http::header::{HeaderMap, HeaderName, ORIGIN};
use actix_web::http::{Method, StatusCode};

use super::problem::Problem;

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Returns whether a method may change something.
pub(crate) fn is_unsafe(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Judges a request with an unsafe method; `own` works out the origin of this application.
pub(crate) fn check(
    headers: &HeaderMap,
    own: impl FnOnce() -> Option<String>,
) -> Result<(), Problem> {
    if headers.contains_key(&SEC_FETCH_SITE) {
        let mut sites = headers.get_all(&SEC_FETCH_SITE);
        // `same-site` is another application of the same registrable domain: not this one.
        return if sites.all(|site| site == "same-origin" || site == "none") {
            Ok(())
        } else {
            Err(refused("Sec-Fetch-Site says that another site made the browser send this"))
        };
    }
    let mut origins = headers.get_all(ORIGIN);
    let Some(origin) = origins.next() else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(normal_origin);
    match (origin, origins.next(), own()) {
        (Some(origin), None, Some(own)) if origin == own => Ok(()),
        _ => Err(refused("Origin is not that of this application")),
    }
}

/// Judges a request that only a page of this application may send: one that says neither where it comes from nor from
/// which origin is refused as well.
pub(crate) fn check_strictly(
    headers: &HeaderMap,
    own: impl FnOnce() -> Option<String>,
) -> Result<(), Problem> {
    if headers.get(&SEC_FETCH_SITE).is_some_and(|site| site == "none") {
        return Err(refused("Sec-Fetch-Site says that no page of this application sent this"));
    }
    if !headers.contains_key(&SEC_FETCH_SITE) && !headers.contains_key(ORIGIN) {
        return Err(refused("neither Sec-Fetch-Site nor Origin says which page sent this"));
    }
    check(headers, own)
}

/// Writes an origin in one way: lower case, without the port that its scheme has anyway.
pub(crate) fn normal_origin(text: &str) -> Option<String> {
    let text = text.trim_end_matches('/').to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    let authority = authority.strip_suffix(own_port).unwrap_or(authority);
    (!authority.is_empty()).then(|| format!("{scheme}://{authority}"))
}

fn refused(detail: &'static str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "cross_site", "Requests from other sites are refused")
        .with_detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(lines: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        check(&headers, || normal_origin("https://app.test")).is_ok()
    }

    #[test]
    fn x2_what_a_browser_says_of_the_site_decides() {
        for (site, expected) in [
            ("same-origin", true),
            ("none", true),
            ("same-site", false),
            ("cross-site", false),
            ("", false),
            ("SAME-ORIGIN", false),
            ("same-origin, cross-site", false),
        ] {
            assert_eq!(passes(&[("sec-fetch-site", site)]), expected, "{site}");
        }
        // Origin cannot repair it, nor may a second line.
        let own = ("origin", "https://app.test");
        assert!(!passes(&[("sec-fetch-site", "cross-site"), own]));
        assert!(!passes(&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn x2_without_it_the_origin_must_be_our_own() {
        for (origin, expected) in [
            ("https://app.test", true),
            ("https://APP.test:443", true),
            ("http://app.test", false),
            ("https://app.test:8443", false),
            ("https://evil.test", false),
            ("https://app.test.evil.test", false),
            ("https://evil.test/https://app.test", false),
            ("null", false),
            ("", false),
            ("file://", false),
        ] {
            assert_eq!(passes(&[("origin", origin)]), expected, "{origin}");
        }
        assert!(!passes(&[("origin", "https://app.test"), ("origin", "https://evil.test")]));
    }

    #[test]
    fn x2_a_request_with_neither_does_not_come_from_a_browser() {
        assert!(passes(&[]));
    }

    #[test]
    fn x2_an_application_that_does_not_know_its_origin_refuses() {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, "https://app.test".parse().unwrap());
        assert!(check(&headers, || None).is_err());
    }

    #[test]
    fn x2_only_methods_that_may_change_something_are_judged() {
        for safe in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(!is_unsafe(&safe));
        }
        let purge = Method::from_bytes(b"PURGE").unwrap();
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, purge] {
            assert!(is_unsafe(&method));
        }
    }
}
