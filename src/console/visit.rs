//! One visit of a page: who it is, where they are, and how they like it.

use std::collections::BTreeMap;
use std::fmt;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::future::{Ready, ready};
use understudy_runtime::admin::{Principal, Role};
use understudy_runtime::http::client_addr;

use super::Console;
use super::api::{Asker, Told, encoded};
use super::cookies::{self, Flash};
use super::layout;

/// The header by which the script asks for the changing part of a page only.
pub(super) const FRAGMENT: &str = "x-fragment";

/// Light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    /// As the system has it.
    Auto,
    /// Always light.
    Light,
    /// Always dark.
    Dark,
}

impl Theme {
    /// Reads its name; any other is [`Theme::Auto`].
    pub(super) fn named(name: &str) -> Self {
        match name {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::Auto,
        }
    }

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// The one that comes after it.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Auto => Self::Light,
            Self::Light => Self::Dark,
            Self::Dark => Self::Auto,
        }
    }
}

/// How often a page may look again, s; 0 is never.
pub(super) const PACES: [u32; 6] = [1, 2, 5, 15, 60, 0];
/// How often it does when nothing else was chosen.
const USUAL_PACE: u32 = 5;

/// One visit of a page by somebody who may look.
pub(super) struct Visit {
    /// The console.
    pub(super) console: Data<Console>,
    /// Who it is.
    pub(super) who: Principal,
    /// As what the API is asked.
    pub(super) asker: Asker,
    /// Where they are, with its query: where to come back to.
    pub(super) here: String,
    /// The path alone.
    pub(super) path: String,
    /// What stands in the query, in its order.
    pub(super) query: Vec<(String, String)>,
    /// What stands in the path.
    names: BTreeMap<String, String>,
    /// Whether only the changing part is asked for.
    pub(super) fragment: bool,
    /// Light or dark.
    pub(super) theme: Theme,
    /// How often to look again, s.
    pub(super) pace: u32,
    /// A message from the page before.
    pub(super) flash: Option<Flash>,
    /// The time, ms since 1970.
    pub(super) now_ms: i64,
}

impl Visit {
    /// Finds out whose visit it is.
    pub(super) fn of(request: &HttpRequest) -> Result<Self, Outside> {
        let outside = || Outside::of(request);
        let console = request.app_data::<Data<Console>>().cloned().ok_or_else(outside)?;
        let sealed = cookies::value(request, cookies::SIGNED_IN);
        let who = console.backstage.browser(sealed.as_deref()).ok_or_else(outside)?;
        let asker = Asker::signed_in(console.backstage.as_ref(), &who, client_addr(request));
        let names = request.match_info().iter();
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let pace = cookies::value(request, cookies::PACE).and_then(|pace| pace.parse().ok());
        Ok(Self {
            now_ms: i64::try_from(console.backstage.now_ms()).unwrap_or(i64::MAX),
            console,
            who,
            asker,
            here: here(request),
            path: request.path().to_owned(),
            query: pairs.map(web::Query::into_inner).unwrap_or_default(),
            names: names
                .map(|(name, value)| (name.to_owned(), cookies::read_text(value)))
                .collect(),
            fragment: request.headers().contains_key(FRAGMENT),
            theme: theme(request),
            pace: pace.filter(|pace| PACES.contains(pace)).unwrap_or(USUAL_PACE),
            flash: Flash::read(request),
        })
    }

    /// Asks the API for something.
    pub(super) async fn get(&self, target: &str) -> Told {
        self.console.api.get(&self.asker, target).await
    }

    /// Whether they may what this role may.
    pub(super) fn may(&self, role: Role) -> bool {
        self.who.role >= role
    }

    /// What stands in the path under a name.
    pub(super) fn name(&self, name: &str) -> &str {
        self.names.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The first value of this name in the query.
    pub(super) fn asked(&self, name: &str) -> &str {
        let found = self.query.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim()).unwrap_or_default()
    }

    /// All values of this name in the query that are not empty, separated by commas.
    pub(super) fn all_asked(&self, name: &str) -> String {
        let values = self.query.iter().filter(|(known, value)| known == name && !value.is_empty());
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").field("who", &self.who).field("here", &self.here).finish()
    }
}

/// How the browser of a request likes its pages.
pub(super) fn theme(request: &HttpRequest) -> Theme {
    Theme::named(&cookies::value(request, cookies::THEME).unwrap_or_default())
}

fn here(request: &HttpRequest) -> String {
    match request.query_string() {
        "" => request.path().to_owned(),
        query => format!("{}?{query}", request.path()),
    }
}

/// An address of this console that may be gone to; anything else is its first page.
pub(super) fn within(address: &str) -> &str {
    let inside = address
        .strip_prefix("/console")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest.starts_with('?'));
    let plain = address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if inside && plain { address } else { "/console" }
}

impl FromRequest for Visit {
    type Error = Outside;
    type Future = Ready<Result<Self, Outside>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

/// Whoever has not signed in is sent to where they can.
#[derive(Debug)]
pub(super) struct Outside {
    next: String,
    fragment: bool,
    /// Whether the browser came from another site, and so kept what it knows to itself.
    from_elsewhere: bool,
}

impl Outside {
    fn of(request: &HttpRequest) -> Self {
        let said = |name: &str, value: &str| {
            request.headers().get(name).is_some_and(|given| given.as_bytes() == value.as_bytes())
        };
        Self {
            next: here(request),
            fragment: request.headers().contains_key(FRAGMENT),
            from_elsewhere: said("sec-fetch-site", "cross-site")
                && said("sec-fetch-mode", "navigate"),
        }
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody has signed in")
    }
}

impl ResponseError for Outside {
    fn status_code(&self) -> StatusCode {
        if self.fragment { StatusCode::UNAUTHORIZED } else { StatusCode::SEE_OTHER }
    }

    fn error_response(&self) -> HttpResponse {
        if self.fragment {
            // The script loads the whole page then, which leads to the door.
            return layout::answer(StatusCode::UNAUTHORIZED).body("signed out");
        }
        if self.from_elsewhere {
            // A link from a chat or a mail: asked again from here, the browser shows its cookie.
            return layout::again(within(&self.next));
        }
        let next = match within(&self.next) {
            "/console" => "/console/login".to_owned(),
            next => format!("/console/login?next={}", encoded(next)),
        };
        layout::answer(StatusCode::SEE_OTHER).insert_header((header::LOCATION, next)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_console_are_gone_to() {
        for inside in ["/console", "/console/jobs/a%20b?x=1", "/console?x"] {
            assert_eq!(within(inside), inside);
        }
        for outside in [
            "",
            "/",
            "/consoles",
            "//evil.test/console",
            "https://evil.test/console",
            "/console/\r\nSet-Cookie: a=b",
            "/console/\\evil.test",
            "/v1/nodes",
        ] {
            assert_eq!(within(outside), "/console", "{outside}");
        }
    }

    #[test]
    fn the_theme_goes_round() {
        let mut theme = Theme::named("nonsense");
        let names = [(); 4].map(|()| {
            theme = theme.next();
            theme.name()
        });
        assert_eq!(names, ["light", "dark", "auto", "light"]);
    }
}
