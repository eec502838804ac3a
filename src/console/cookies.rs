//! What the console keeps in a browser: who has signed in, how it likes its pages, and a message for the next page.
//!
//! Where the browser speaks TLS the names have a prefix that binds them to this host: no other one, not even one below the
//! same domain, and nobody on a connection without TLS can set such a cookie. Browsers demand the path `/` then. On plain
//! http, as on loopback, they refuse the prefix: there the names have none, and the path is that of the console.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::cookie::time::Duration as CookieDuration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header::ORIGIN;
use serde::{Deserialize, Serialize};
use understudy_runtime::http::client_addr::Scheme;
use understudy_runtime::http::origin;

/// The prefix of names behind TLS.
const HOST: &str = "__Host-";
/// Who has signed in.
pub(super) const SIGNED_IN: &str = "us_console";
/// The message for the next page.
pub(super) const FLASH: &str = "us_flash";
/// Light or dark.
pub(super) const THEME: &str = "us_theme";
/// How often a page looks again.
pub(super) const PACE: &str = "us_pace";
/// A message that is not fetched is forgotten soon.
const FLASH_LIFE: Duration = Duration::from_secs(60);
/// How long a browser remembers how it likes its pages.
const TASTE_LIFE: Duration = Duration::from_secs(366 * 86_400);
/// Longer texts are cut, so that they fit into a cookie of 4 kB whatever they consist of.
const LONGEST_TITLE: usize = 120;
const LONGEST_DETAIL: usize = 280;

/// The value of a cookie, unless it is empty. Where the browser is known to speak TLS one without the prefix is nobody's:
/// another host could have set it.
pub(super) fn value(request: &HttpRequest, name: &str) -> Option<String> {
    let bound = request.cookie(&Place::Host.name(name));
    let cookie = bound.or_else(|| request.cookie(name).filter(|_| !came_by_tls(request)));
    cookie.map(|cookie| cookie.value().to_owned()).filter(|value| !value.is_empty())
}

/// Where a cookie counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On this host, over TLS.
    Host,
    /// On the pages of the console.
    Console,
}

impl Place {
    /// That of a cookie that is set now.
    fn of(request: &HttpRequest) -> Self {
        if came_by_tls(request) { Self::Host } else { Self::Console }
    }

    /// The name that a cookie has there.
    fn name(self, name: &str) -> String {
        match self {
            Self::Host => format!("{HOST}{name}"),
            Self::Console => name.to_owned(),
        }
    }
}

/// Writes down who has signed in.
pub(super) fn signed_in(request: &HttpRequest, sealed: String, life: Duration) -> Cookie<'static> {
    kept(Place::of(request), SIGNED_IN, sealed, life)
}

/// Forgets what was kept under a name: in the place from which it came, which not every request tells otherwise.
pub(super) fn forgotten(request: &HttpRequest, name: &'static str) -> Cookie<'static> {
    let bound = request.cookie(&Place::Host.name(name)).is_some();
    let place = if bound { Place::Host } else { Place::of(request) };
    kept(place, name, String::new(), Duration::ZERO)
}

/// All values that a browser has under a name, each with what makes it forget that one: before TLS was in front there may
/// have been one without the prefix.
pub(super) fn all(request: &HttpRequest, name: &str) -> Vec<(String, Cookie<'static>)> {
    let of = |place: Place| {
        let cookie = request.cookie(&place.name(name))?;
        let forgotten = kept(place, name, String::new(), Duration::ZERO);
        Some((cookie.value().to_owned(), forgotten))
    };
    [Place::Host, Place::Console].into_iter().filter_map(of).collect()
}

/// Remembers a taste.
pub(super) fn taste(request: &HttpRequest, name: &'static str, value: &str) -> Cookie<'static> {
    let mut cookie = kept(Place::of(request), name, value.to_owned(), TASTE_LIFE);
    // The script sets the pace itself.
    cookie.set_http_only(name != PACE);
    cookie
}

fn kept(place: Place, name: &str, value: String, life: Duration) -> Cookie<'static> {
    let seconds = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
    let cookie = Cookie::build(place.name(name), value)
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(CookieDuration::seconds(seconds));
    match place {
        Place::Host => cookie.path("/").secure(true),
        Place::Console => cookie.path("/console"),
    }
    .finish()
}

/// Whether the browser speaks TLS to whatever is in front of this port, as the browser itself says with each form that it
/// sends. One that lied would only lose its own cookies.
fn came_by_tls(request: &HttpRequest) -> bool {
    let said = request
        .headers()
        .get(ORIGIN)
        .is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    said || origin(request).scheme == Some(Scheme::Https)
}

/// A message for the page that comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flash {
    /// Whether it went well.
    pub(super) good: bool,
    /// What happened, in a line.
    pub(super) title: String,
    /// More about it.
    #[serde(default)]
    pub(super) detail: String,
}

impl Flash {
    /// Something was done.
    pub(super) fn done(title: impl Into<String>) -> Self {
        Self { good: true, title: title.into(), detail: String::new() }
    }

    /// Something was not done.
    pub(super) fn refused(title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { good: false, title: title.into(), detail: detail.into() }
    }

    /// Keeps it for the next page.
    pub(super) fn cookie(&self, request: &HttpRequest) -> Cookie<'static> {
        let short = Self {
            good: self.good,
            title: super::words::shortened(&self.title, LONGEST_TITLE),
            detail: super::words::shortened(&self.detail, LONGEST_DETAIL),
        };
        let json = serde_json::to_string(&short).expect("texts always serialise");
        kept(Place::of(request), FLASH, super::api::encoded(&json), FLASH_LIFE)
    }

    /// Reads what another page kept; anything else is nothing.
    pub(super) fn read(request: &HttpRequest) -> Option<Self> {
        let value = value(request, FLASH)?;
        serde_json::from_slice(&decoded(&value)?).ok()
    }
}

/// Reads `%xx` in a text; what cannot be read stays as it is.
pub(super) fn read_text(text: &str) -> String {
    decoded(text).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| text.to_owned())
}

/// Reads `%xx`.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut told = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            told.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        told.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_message_reaches_the_next_page_whatever_it_says() {
        let request = TestRequest::default().to_http_request();
        for title in ["Node a is drained.", "<script>alert(1)</script>; \"x\"=%41\r\nä"] {
            let flash = Flash::refused(title, "because");
            let cookie = flash.cookie(&request);
            assert!(cookie.value().bytes().all(|byte| byte.is_ascii_graphic() && byte != b';'));
            let next = TestRequest::default().cookie(cookie).to_http_request();
            assert_eq!(Flash::read(&next), Some(flash));
        }
        for wrong in ["x", "%7", "%zz", "{}"] {
            let next = TestRequest::default().cookie(Cookie::new(FLASH, wrong)).to_http_request();
            assert_eq!(Flash::read(&next), None, "{wrong}");
        }
    }

    #[test]
    fn a_long_message_still_fits_into_a_cookie() {
        let request = TestRequest::default().to_http_request();
        let flash = Flash::refused("字".repeat(5_000), "字".repeat(5_000));
        assert!(flash.cookie(&request).to_string().len() < 4_096);
    }

    #[test]
    fn what_signs_in_is_out_of_reach_of_scripts_and_other_sites() {
        let request = TestRequest::default().to_http_request();
        let told = signed_in(&request, "abc".to_owned(), Duration::from_secs(60)).to_string();
        for part in ["us_console=abc", "HttpOnly", "SameSite=Strict", "Path=/console", "Max-Age=60"]
        {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("Secure"), "{told}");
        assert!(forgotten(&request, SIGNED_IN).to_string().contains("Max-Age=0"));
    }

    #[test]
    fn behind_tls_what_the_console_keeps_is_bound_to_the_host() {
        let over_tls = || TestRequest::default().insert_header((ORIGIN, "https://ops.example"));
        let request = over_tls().to_http_request();
        let flash = Flash::done("x");
        let set = [
            (SIGNED_IN, signed_in(&request, "abc".to_owned(), Duration::from_secs(60))),
            (FLASH, flash.cookie(&request)),
            (THEME, taste(&request, THEME, "dark")),
            (PACE, taste(&request, PACE, "5")),
        ];
        for (name, cookie) in set {
            assert_eq!(cookie.name(), format!("__Host-{name}"));
            let (secure, path) = (cookie.secure(), cookie.path());
            assert_eq!((secure, path, cookie.domain()), (Some(true), Some("/"), None), "{name}");
            // No request but those with a form says by itself that it came over TLS.
            let next = TestRequest::default().cookie(cookie.clone()).to_http_request();
            assert_eq!(value(&next, name).as_deref(), Some(cookie.value()));
            let gone = forgotten(&next, name);
            assert_eq!((gone.name(), gone.path()), (cookie.name(), Some("/")));
            assert_eq!((gone.secure(), gone.max_age()), (Some(true), Some(CookieDuration::ZERO)));
        }
        let tossed = Cookie::new(SIGNED_IN, "of another host");
        let both = TestRequest::default()
            .cookie(tossed.clone())
            .cookie(Cookie::new("__Host-us_console", "ours"))
            .to_http_request();
        assert_eq!(value(&both, SIGNED_IN).as_deref(), Some("ours"));
        let all = all(&both, SIGNED_IN);
        let names: Vec<(&str, &str)> =
            all.iter().map(|(value, gone)| (value.as_str(), gone.name())).collect();
        let expected = [("ours", "__Host-us_console"), ("of another host", "us_console")];
        assert_eq!(names, expected, "both are ended and forgotten");
        let alone = over_tls().cookie(tossed).to_http_request();
        assert_eq!(value(&alone, SIGNED_IN), None);
    }
}
