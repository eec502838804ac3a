//! Checks that a request names one host, a plain one, and one that is served here.
//!
//! A node builds links from its external URL, never from what a request says; this check keeps applications that
//! do otherwise, and caches in front, from being led to another host.

use actix_web::dev::RequestHead;
use actix_web::http::{StatusCode, header};

use super::client_addr::is_plain_authority;
use super::problem::Problem;

/// Judges the target of a request; `hosts` empty means that any host is served.
///
/// `told` is the host a trusted proxy was asked for, and counts instead of its own `Host`.
pub(crate) fn check(
    head: &RequestHead,
    hosts: &[String],
    told: impl FnOnce() -> Option<String>,
) -> Result<(), Problem> {
    let host = header_of(head)?;
    let authority = head.uri.authority().map(actix_web::http::uri::Authority::as_str);
    // An absolute-form target and Host must agree (RFC 9112 section 3.2.2 lets the target win; a cache may not).
    if let (Some(host), Some(authority)) = (host, authority)
        && !host.eq_ignore_ascii_case(authority)
    {
        return Err(malformed("the target of the request and Host name different hosts"));
    }
    if hosts.is_empty() {
        return Ok(());
    }
    let told = told();
    let asked = told.as_deref().or(authority).or(host).unwrap_or_default();
    if hosts.iter().any(|served| serves(served, asked)) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "misdirected_request",
        "This host is not served here",
    ))
}

fn header_of(head: &RequestHead) -> Result<Option<&str>, Problem> {
    let mut values = head.headers.get_all(header::HOST);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed("there is more than one Host"));
    }
    match value.to_str() {
        Ok(host) if host.is_empty() || is_plain_authority(host) => Ok(Some(host)),
        Ok(_) | Err(_) => Err(malformed("Host is not a host with an optional port")),
    }
}

/// The port does not matter: a balancer may listen on any.
fn serves(served: &str, asked: &str) -> bool {
    let without_port = match asked.rfind(':') {
        Some(at) if !asked.ends_with(']') => &asked[..at],
        Some(_) | None => asked,
    };
    served.eq_ignore_ascii_case(without_port)
}

fn malformed(detail: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_host", "The request does not name one host")
        .with_detail(detail)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn judge(uri: &str, hosts: &[&str], served: &[&str]) -> u16 {
        let mut request = TestRequest::with_uri(uri);
        for host in hosts {
            request = request.append_header((header::HOST, *host));
        }
        let served: Vec<String> = served.iter().map(|&host| host.to_owned()).collect();
        let request = request.to_http_request();
        match check(request.head(), &served, || None) {
            Ok(()) => 200,
            Err(problem) => problem.status.as_u16(),
        }
    }

    #[test]
    fn a_request_names_one_plain_host() {
        assert_eq!(judge("/", &["app.test"], &[]), 200);
        assert_eq!(judge("/", &["[::1]:8080"], &[]), 200);
        assert_eq!(judge("/", &[""], &[]), 200);
        assert_eq!(judge("/", &["app.test", "app.test"], &[]), 400);
        for bad in ["a/b", "user@app.test", "a b", "app.test:port", "app.test:99999", "a,b", "[::1"]
        {
            assert_eq!(judge("/", &[bad], &[]), 400, "{bad}");
        }
    }

    #[test]
    fn an_absolute_target_must_agree_with_host() {
        assert_eq!(judge("http://app.test/x", &["APP.test"], &[]), 200);
        assert_eq!(judge("http://evil.test/x", &["app.test"], &[]), 400);
        assert_eq!(judge("http://app.test:81/x", &["app.test"], &[]), 400);
    }

    #[test]
    fn only_listed_hosts_are_served() {
        let served = ["app.test", "[::1]"];
        for good in ["app.test", "App.Test:8080", "[::1]:80", "[::1]"] {
            assert_eq!(judge("/", &[good], &served), 200, "{good}");
        }
        for bad in ["evil.test", "other.test", "app.test.evil.test", "xapp.test", "[::2]", ""] {
            assert_eq!(judge("/", &[bad], &served), 421, "{bad}");
        }
    }

    #[test]
    fn the_host_that_a_trusted_proxy_was_asked_for_counts() {
        let request =
            TestRequest::default().insert_header((header::HOST, "nodes")).to_http_request();
        let served = ["app.test".to_owned()];
        assert!(check(request.head(), &served, || Some("app.test".to_owned())).is_ok());
        assert!(check(request.head(), &served, || None).is_err());
    }
}
