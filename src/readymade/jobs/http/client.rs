//! The clients of a node: made at the first call, shared by all, kept for the life of the node.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::{Attempt, Policy};
use rustls::{ClientConfig, RootCertStore};
use understudy_runtime::error::chain;
use understudy_scheduler::JobError;

use super::HttpCall;

/// How long it may take to reach the other side.
const CONNECT: Duration = Duration::from_secs(5);
/// So many redirects of one call are followed.
const MOST_REDIRECTS: usize = 10;

/// The clients of a node; a cheap clone.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Clients(Arc<Inner>);

/// Whether redirects are followed is a property of a client, so there are two.
#[derive(Debug, Default)]
struct Inner {
    staying: OnceLock<Client>,
    following: OnceLock<Client>,
}

impl Clients {
    pub(super) fn of(&self, call: &HttpCall) -> Result<&Client, JobError> {
        let (place, policy) = if call.follow_redirects {
            (&self.0.following, Policy::custom(follow))
        } else {
            (&self.0.staying, Policy::none())
        };
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let client = make(policy)?;
        // Another run may have been faster.
        Ok(place.get_or_init(|| client))
    }
}

/// Within one host, and never from TLS to none: the headers of a call may hold secrets.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > MOST_REDIRECTS {
        return attempt.error("there were too many redirects");
    }
    let goes_on = attempt.previous().first().is_some_and(|first| {
        let (from, to) = (first, attempt.url());
        let is_no_weaker = from.scheme() == "http" || to.scheme() == "https";
        from.host() == to.host() && is_no_weaker
    });
    if goes_on { attempt.follow() } else { attempt.stop() }
}

fn make(redirects: Policy) -> Result<Client, JobError> {
    let client = Client::builder()
        .user_agent(concat!("understudy/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .redirect(redirects)
        .retry(reqwest::retry::never())
        .no_proxy()
        .tls_backend_preconfigured(tls()?)
        .build();
    client.map_err(|error| JobError::failed(format!("no client can be made: {}", chain(&error))))
}

/// TLS with the authorities of the system. Without any, calls over plain HTTP still work.
fn tls() -> Result<ClientConfig, JobError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "system certificate authorities read");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| JobError::failed(format!("TLS does not work: {}", chain(&error))))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
