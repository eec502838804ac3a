//! The session cookie on the wire.

use std::fmt::Write as _;
use std::time::Duration;

use understudy_runtime::config::SameSite;

use crate::options::CookieOptions;

/// Gives the values of the cookies called `name` in a `Cookie` header.
pub(crate) fn values<'a>(header: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    header.split(';').filter_map(move |pair| {
        let (found, value) = pair.trim_start().split_once('=')?;
        (found == name).then(|| value.trim_end().trim_matches('"'))
    })
}

/// Writes the `Set-Cookie` that gives the cookie to a client, until it closes.
pub(crate) fn set(options: &CookieOptions, value: &str) -> String {
    set_other(options, &options.name, value)
}

/// The same for a cookie of another name beside it.
pub(crate) fn set_other(options: &CookieOptions, name: &str, value: &str) -> String {
    let mut text = format!("{name}={value}; Path={}; HttpOnly", options.path);
    attributes(options, &mut text);
    text
}

/// The same, for so long.
pub(crate) fn set_for(options: &CookieOptions, value: &str, max_age: Duration) -> String {
    let mut text = set(options, value);
    write!(text, "; Max-Age={}", max_age.as_secs()).expect("a String takes any text");
    text
}

/// Writes the `Set-Cookie` that takes the cookie back.
pub(crate) fn remove(options: &CookieOptions) -> String {
    remove_other(options, &options.name)
}

/// The same for a cookie of another name beside it.
pub(crate) fn remove_other(options: &CookieOptions, name: &str) -> String {
    let mut text = set_other(options, name, "");
    text.push_str("; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
    text
}

fn attributes(options: &CookieOptions, text: &mut String) {
    let same_site = match options.same_site {
        SameSite::Lax => "Lax",
        SameSite::Strict => "Strict",
        SameSite::None => "None",
    };
    write!(text, "; SameSite={same_site}").expect("a String takes any text");
    if options.secure {
        text.push_str("; Secure");
    }
    if let Some(domain) = &options.domain {
        write!(text, "; Domain={domain}").expect("a String takes any text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> CookieOptions {
        CookieOptions {
            name: "__Host-usid".into(),
            secure: true,
            same_site: SameSite::Lax,
            domain: None,
            path: "/".into(),
            affinity: None,
        }
    }

    #[test]
    fn finds_every_cookie_of_the_name_and_no_other() {
        let header =
            "a=1; __Host-usid=x.y;__Host-usid2=no; __host-usid=no; __Host-usid=\"z\"; =; b";
        assert_eq!(values(header, "__Host-usid").collect::<Vec<_>>(), ["x.y", "z"]);
        assert_eq!(values("", "a").count(), 0);
    }

    #[test]
    fn s4_the_cookie_carries_its_attributes() {
        assert_eq!(set(&options(), "v"), "__Host-usid=v; Path=/; HttpOnly; SameSite=Lax; Secure");
        let open = CookieOptions {
            name: "usid".into(),
            secure: false,
            same_site: SameSite::Strict,
            domain: Some("example.org".into()),
            path: "/app".into(),
            affinity: None,
        };
        assert_eq!(
            set(&open, "v"),
            "usid=v; Path=/app; HttpOnly; SameSite=Strict; Domain=example.org"
        );
        assert!(remove(&options()).contains("Max-Age=0"));
        let lasting = set_for(&options(), "v", Duration::from_millis(2_500));
        assert_eq!(lasting, format!("{}; Max-Age=2", set(&options(), "v")));
    }
}
