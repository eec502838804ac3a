//! Words that let their bearer in while nobody else is served: `until_ms "." nonce "." HMAC-SHA256`.
//!
//! The key comes from the session secret, which all nodes of a cluster share; a word signed with any of the secrets that
//! count is good, so that they can be changed. A node that is alone and has no secret draws a key of its own, which ends
//! with the process.
//!
//! A program sends the word in a header. A browser gets it as a cookie: [`PATH`] asks for the word and keeps it.

use std::time::Duration;

use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Maintenance, page};
use crate::config::Config;
use crate::http::absolute_url;
use crate::http::problem::Problem;
use crate::http::settings::Shared;

/// Where a browser gets its cookie; served in every mode.
pub(crate) const PATH: &str = "/.well-known/understudy/bypass";
/// The cookie.
pub(super) const COOKIE: &str = "us_bypass";
/// Keeps the session secret, used for this, apart from itself used for anything else.
const PURPOSE: &[u8] = b"understudy maintenance bypass 1\0";

/// The keys of the words: the first signs, all are tried.
pub(super) struct Bypass {
    keys: Vec<Hmac<Sha256>>,
    shared: bool,
}

impl Bypass {
    pub(super) fn new(config: &Config) -> Self {
        let secrets = &config.session.secret;
        let mut keys: Vec<Hmac<Sha256>> =
            secrets.iter().map(|secret| key(secret.expose().as_bytes())).collect();
        let shared = !keys.is_empty();
        if !shared {
            let own: [u8; 32] = rand::random();
            keys.push(key(&own));
        }
        Self { keys, shared }
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    pub(super) fn seal(&self, until_ms: u64) -> String {
        let content = format!("{until_ms}.{:016x}", rand::random::<u64>());
        let mac = self.keys.first().map(|key| mac(key, &content).finalize().into_bytes());
        format!("{content}.{}", BASE64.encode(mac.unwrap_or_default()))
    }

    /// Returns the end of a word, unless it is nobody's or over. The signatures are compared in constant time.
    pub(super) fn open(&self, word: &str, now_ms: u64) -> Option<u64> {
        let (content, signature) = word.rsplit_once('.')?;
        let signature = BASE64.decode(signature).ok()?;
        let signed = self.keys.iter().any(|key| mac(key, content).verify_slice(&signature).is_ok());
        if !signed {
            return None;
        }
        let (until_ms, _nonce) = content.split_once('.')?;
        until_ms.parse().ok().filter(|until_ms| now_ms < *until_ms)
    }
}

fn key(secret: &[u8]) -> Hmac<Sha256> {
    let derived: [u8; 32] =
        Sha256::new().chain_update(PURPOSE).chain_update(secret).finalize().into();
    Hmac::new_from_slice(&derived).expect("a key may have any length")
}

fn mac(key: &Hmac<Sha256>, content: &str) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(content.as_bytes());
    mac
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    word: String,
}

/// Adds the resource.
pub(super) fn configure(app: &mut web::ServiceConfig, maintenance: &Maintenance) {
    let maintenance = maintenance.clone();
    let take = move |request: HttpRequest, given: web::Form<Given>| {
        std::future::ready(take(&maintenance, &request, &given.word))
    };
    app.service(
        web::resource(PATH)
            .route(web::get().to(|| std::future::ready(page::form())))
            .route(web::post().to(take)),
    );
}

/// Turns a word into a cookie, and sends the browser to the first page.
fn take(
    maintenance: &Maintenance,
    request: &HttpRequest,
    word: &str,
) -> Result<HttpResponse, Problem> {
    let Some(good_for) = maintenance.open_bypass(word.trim()) else {
        let (status, code) = (StatusCode::FORBIDDEN, "bad_bypass");
        return Err(Problem::new(status, code, "This bypass word is not good")
            .with_detail("`word` must be what POST /v1/maintenance/bypass gave out, in its time"));
    };
    let settings = request.app_data::<Shared>();
    let cookie = Cookie::build(COOKIE, word.trim().to_owned())
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(settings.is_some_and(|settings| settings.is_https()))
        .max_age(max_age(good_for))
        .finish();
    Ok(HttpResponse::SeeOther()
        .insert_header((LOCATION, absolute_url(request, "/")))
        .insert_header((CACHE_CONTROL, "no-store"))
        .cookie(cookie)
        .finish())
}

fn max_age(good_for: Duration) -> actix_web::cookie::time::Duration {
    let seconds = i64::try_from(good_for.as_secs()).unwrap_or(i64::MAX);
    actix_web::cookie::time::Duration::seconds(seconds)
}
