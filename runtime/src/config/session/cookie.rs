//! The cookie's attributes, and what browsers demand of them together.

use super::{Raw, SameSite, Surroundings};
use crate::config::reader::{Reader, one_of, word};

const NAME: &str = "UNDERSTUDY_SESSION_COOKIE_NAME";
const SECURE: &str = "UNDERSTUDY_SESSION_COOKIE_SECURE";
const SAMESITE: &str = "UNDERSTUDY_SESSION_COOKIE_SAMESITE";

pub(super) struct Cookie {
    pub(super) name: String,
    pub(super) secure: bool,
    pub(super) samesite: SameSite,
    pub(super) domain: Option<String>,
    pub(super) path: String,
}

pub(super) fn read(read: &mut Reader, raw: &Raw, around: &Surroundings<'_>) -> Cookie {
    let samesites =
        [("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];
    let mut cookie = Cookie {
        name: String::new(),
        secure: secure(read, raw.cookie_secure.as_deref(), around),
        samesite: read.parsed(
            SAMESITE,
            raw.cookie_samesite.as_deref(),
            &one_of(&samesites),
            |text| word(&text.to_ascii_lowercase(), &samesites),
        ),
        domain: read.optional(
            "UNDERSTUDY_SESSION_COOKIE_DOMAIN",
            raw.cookie_domain.as_deref(),
            "a domain name",
            domain,
        ),
        path: read.parsed(
            "UNDERSTUDY_SESSION_COOKIE_PATH",
            raw.cookie_path.as_deref(),
            "a path that begins with /",
            path,
        ),
    };
    cookie.name = name(read, raw.cookie_name.as_deref(), &cookie);
    report_what_browsers_refuse(read, &cookie);
    cookie
}

/// `auto` follows the external URL. Without one, which is embedded mode, the node itself serves plain http.
fn secure(read: &mut Reader, given: Option<&str>, around: &Surroundings<'_>) -> bool {
    let choices = [("auto", None), ("true", Some(true)), ("false", Some(false))];
    let is_https = around.external_url.is_some_and(|url| url.is_https());
    let choice = read.choice(SECURE, given, &choices);
    if choice == Some(true) && !is_https {
        read.warn(format!(
            "{SECURE} is true, but the external URL is not https: browsers will not send the cookie"
        ));
    }
    choice.unwrap_or(is_https)
}

fn name(read: &mut Reader, given: Option<&str>, cookie: &Cookie) -> String {
    let expected = "letters, digits and - _ . and other characters of a token";
    let given = read.optional(NAME, given, expected, |text| {
        text.bytes().all(is_token).then(|| text.to_owned())
    });
    // The prefix makes browsers refuse a cookie that a neighbouring host wants to plant.
    let strict = cookie.secure && cookie.domain.is_none() && cookie.path == "/";
    let usual = if strict { "__Host-usid" } else { "usid" };
    let name = given.unwrap_or_else(|| usual.to_owned());
    read.show(NAME, &name);
    name
}

fn report_what_browsers_refuse(read: &mut Reader, cookie: &Cookie) {
    if cookie.samesite == SameSite::None && !cookie.secure {
        read.problem(SAMESITE, format!("must not be none unless the cookie is Secure; set {SECURE}=true or an https external URL"));
    }
    let prefix = cookie.name.to_ascii_lowercase();
    if prefix.starts_with("__host-") {
        if !cookie.secure {
            read.problem(NAME, format!("has the prefix __Host-, which needs a Secure cookie; set {SECURE}=true or an https external URL"));
        }
        if cookie.domain.is_some() || cookie.path != "/" {
            read.problem(NAME, "has the prefix __Host-, which allows no UNDERSTUDY_SESSION_COOKIE_DOMAIN and only / as UNDERSTUDY_SESSION_COOKIE_PATH");
        }
    } else if prefix.starts_with("__secure-") && !cookie.secure {
        read.problem(NAME, format!("has the prefix __Secure-, which needs a Secure cookie; set {SECURE}=true or an https external URL"));
    }
}

fn domain(text: &str) -> Option<String> {
    let name = text.strip_prefix('.').unwrap_or(text); // older notation for the same thing
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    (!name.is_empty() && name.bytes().all(allowed)).then(|| name.to_ascii_lowercase())
}

fn path(text: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_graphic() && b != b';';
    (text.starts_with('/') && text.bytes().all(allowed)).then(|| text.to_owned())
}

/// A `token` of RFC 9110, of which names of cookies are made.
pub(super) fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}
