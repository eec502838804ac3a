//! Who may do what on the admin port: bearer tokens with roles, compared in constant time, deny by default.
//!
//! A request is let in when an [`Operation`] describes it and its sender has the role that this one names; whatever is
//! written down nowhere is refused. A token counts only in the `Authorization` header: one in a URL would end up in logs.
//! Pages of the console, which browsers ask for, are let in without: they find out from a cookie who it is, see
//! [`AdminPort::browser`], and ask the API on that person's behalf.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpMessage, HttpRequest};
use arc_swap::ArcSwap;
use dashmap::DashMap;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tracing::info;

use super::audit::{Audit, Entry};
use super::operation::{Asked, BodyForm, Operation, Operations};
use super::seal::{Purpose, Seals};
use super::tokens::KnownToken;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::http::body::Streamed;
use crate::http::problem::Problem;
use crate::http::{cross_site, health, links, request_id};

/// Where the console's pages are; the API is everything else.
const PAGES: &str = "/console";
/// How long a browser stays signed in.
const SIGNED_IN: Duration = Duration::from_secs(12 * 3_600);
/// How long a request of a node to itself may take to arrive.
const INSIDE: Duration = Duration::from_secs(30);

/// The header in which the console of a node says where the browser is that asks: what [`AdminPort::on_behalf_of`] gives,
/// a blank, and the address. Without a seal of this cluster it is not believed.
pub const BROWSER: &str = "x-understudy-browser";

/// Where the browser is that asks through the console.
#[derive(Debug, Clone, Copy)]
pub(super) struct Browser(pub(super) IpAddr);

/// What somebody may do; each role may do all that the ones before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look, but not at people.
    Viewer,
    /// Look after people: find their sessions and end them.
    Support,
    /// Run the cluster: drain nodes, run and pause jobs, hand over the lead.
    Operator,
    /// Everything: tokens, the log's level, other people's requests.
    Admin,
}

/// All roles, the least first.
pub const ROLES: [Role; 4] = [Role::Viewer, Role::Support, Role::Operator, Role::Admin];

/// Who sent a request to the admin port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// What they may do.
    pub role: Role,
    /// Who they are: the name of their token; that of the role when the token is in the options of the node.
    pub name: Arc<str>,
    /// Which token of the database it was, if it was one.
    pub(super) token: Option<Arc<str>>,
}

impl Principal {
    /// Somebody whose token is in the options of the node.
    #[must_use]
    pub fn new(role: Role, name: &str) -> Self {
        Self { role, name: name.into(), token: None }
    }
}

/// The admin port as the parts of a node see it: who its visitors are, and how it is asked; a cheap clone.
#[derive(Clone)]
pub struct AdminPort {
    inner: Arc<Inner>,
}

struct Inner {
    /// Where it listens, if it does.
    address: OnceLock<SocketAddr>,
    /// Digests, so that all have one length and none stays in memory as it is.
    configured: Vec<(Role, [u8; 32])>,
    /// Those of the database.
    known: ArcSwap<Vec<KnownToken>>,
    operations: ArcSwap<Operations>,
    /// What browsers were given that have signed out since: digests, and until when it would be good, ms since 1970.
    ended: DashMap<[u8; 32], u64>,
    audit: Audit,
    seals: Seals,
    clock: SharedClock,
}

impl AdminPort {
    pub(crate) fn new(config: &Config, audit: Audit, clock: SharedClock) -> Self {
        let (config, secrets) = (&config.admin, &config.session.secret);
        let tokens = [
            (Role::Admin, &config.token),
            (Role::Operator, &config.operator_token),
            (Role::Viewer, &config.viewer_token),
        ];
        let configured: Vec<(Role, [u8; 32])> = tokens
            .into_iter()
            .filter_map(|(role, token)| Some((role, digest(token.as_ref()?.expose()))))
            .collect();
        let seals = Seals::new(secrets, &configured);
        let (known, operations) = (ArcSwap::default(), ArcSwap::default());
        let (address, ended) = (OnceLock::new(), DashMap::new());
        let inner = Inner { address, configured, known, operations, ended, audit, seals, clock };
        Self { inner: Arc::new(inner) }
    }

    /// Returns where the port can be reached from this machine.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let mut address = *self.inner.address.get()?;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        Some(address)
    }

    /// Returns what can be asked of the port.
    #[must_use]
    pub fn operations(&self) -> Arc<Operations> {
        self.inner.operations.load_full()
    }

    /// Returns what writes down who did what.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    /// Finds out whose token it is; `None` when it is nobody's. All are compared, whichever matches.
    #[must_use]
    pub fn owner_of(&self, token: &str) -> Option<Principal> {
        let digest = digest(token);
        let now_ms = self.inner.clock.wall_ms();
        let mut found: Option<Principal> = None;
        for (role, known) in &self.inner.configured {
            let same: Choice = known.ct_eq(&digest);
            if bool::from(same) && found.as_ref().is_none_or(|found| found.role < *role) {
                found = Some(Principal::new(*role, &role.to_string()));
            }
        }
        for known in self.inner.known.load().iter() {
            let same: Choice = known.digest.ct_eq(&digest);
            if bool::from(same) && found.is_none() && known.counts(now_ms) {
                found = Some(known.principal());
            }
        }
        found
    }

    /// Returns whether whoever reaches the port may look: when it has no token and listens on loopback only.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner.configured.is_empty()
    }

    /// Writes down for a browser who has signed in with it; returns it with the time it is good for.
    #[must_use]
    pub fn sign_in(&self, who: &Principal) -> (String, Duration) {
        (self.seal(Purpose::Browser, who, SIGNED_IN), SIGNED_IN)
    }

    /// Finds out who has signed in with a browser, from what [`sign_in`](Self::sign_in) wrote, unless they have signed out
    /// since ([`SignOuts`](super::SignOuts)); on an open port everybody is a viewer without.
    #[must_use]
    pub fn browser(&self, sealed: Option<&str>) -> Option<Principal> {
        let in_time = sealed.filter(|sealed| !self.inner.ended.contains_key(&digest(sealed)));
        let signed_in = in_time.and_then(|sealed| self.open(Purpose::Browser, sealed));
        signed_in.or_else(|| self.is_open().then(|| Principal::new(Role::Viewer, "loopback")))
    }

    /// Returns the bearer token with which this node asks its own API on somebody's behalf.
    #[must_use]
    pub fn on_behalf_of(&self, who: &Principal) -> String {
        self.seal(Purpose::Inside, who, INSIDE)
    }

    /// Says where the port listens; the first word counts.
    pub(crate) fn set_address(&self, address: SocketAddr) {
        self.inner.address.get_or_init(|| address);
    }

    /// Returns the tokens of the database, as far as this node knows.
    pub(super) fn known(&self) -> Arc<Vec<KnownToken>> {
        self.inner.known.load_full()
    }

    /// Replaces the tokens of the database.
    pub(super) fn set_known(&self, known: Vec<KnownToken>) {
        self.inner.known.store(Arc::new(known));
    }

    /// Returns the digest of what a browser was given and until when it is good, ms since 1970, while it is.
    pub(super) fn good_until(&self, sealed: &str) -> Option<([u8; 32], u64)> {
        let now_ms = self.inner.clock.wall_ms();
        let until_ms = self.inner.seals.good_until(Purpose::Browser, sealed, now_ms)?;
        Some((digest(sealed), until_ms))
    }

    /// Believes no browser any more that shows what has this digest.
    pub(super) fn end_browser(&self, digest: [u8; 32], until_ms: u64) {
        self.inner.ended.insert(digest, until_ms);
    }

    /// Forgets what would not be good any more either way.
    pub(super) fn forget_ended(&self, now_ms: u64) {
        self.inner.ended.retain(|_, until_ms| *until_ms > now_ms);
    }

    /// Says what can be asked of the port.
    pub(crate) fn set_operations(&self, operations: Operations) {
        self.inner.operations.store(Arc::new(operations));
    }

    /// Decides whether a request may come in, and notes who sent it and for what.
    pub(crate) fn admit(&self, request: &ServiceRequest) -> Result<(), Problem> {
        if health::is_health(request.path()) {
            return Ok(());
        }
        self.check_host(request)?;
        if is_page(request.path()) {
            return check_page(request);
        }
        if let Some(browser) = self.through_console(request) {
            request.extensions_mut().insert(browser);
        }
        let asked = self.inner.operations.load().find(request.method(), request.path());
        let admitted = self.admit_to(request, &asked);
        if let Err(problem) = &admitted
            && matches!(problem.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        {
            self.inner.audit.write(Entry::refused(request, &asked, problem));
        }
        admitted
    }

    fn admit_to(&self, request: &ServiceRequest, asked: &Asked) -> Result<(), Problem> {
        let who = self.sender(request)?;
        request.extensions_mut().insert(who.clone());
        let changes = cross_site::is_unsafe(request.method());
        let operation = match asked {
            Asked::For(operation) => *operation,
            // Who may change nothing is not told what there would be to change.
            Asked::Otherwise(_) | Asked::Unknown if changes && who.role < Role::Operator => {
                return Err(self.not_for(Role::Operator, changes));
            }
            Asked::Otherwise(methods) => return Err(other_methods(methods)),
            Asked::Unknown => return Err(Problem::from_status(StatusCode::NOT_FOUND)),
        };
        if who.role < operation.role {
            return Err(self.not_for(operation.role, changes));
        }
        if operation.changes() {
            let id = request_id(request.request());
            let (method, path) = (request.method(), request.path());
            info!(role = %who.role, by = %who.name, operation = operation.id, request_id = %id, http.method = %method, http.path = path, "admin action");
        }
        request.extensions_mut().insert(operation);
        if operation.body_form == BodyForm::Stream {
            request.extensions_mut().insert(Streamed);
        }
        Ok(())
    }

    /// On an open port, who wants to change something is asked for a token.
    fn not_for(&self, needed: Role, changes: bool) -> Problem {
        if changes && self.is_open() { unauthorized() } else { forbidden(needed) }
    }

    fn sender(&self, request: &ServiceRequest) -> Result<Principal, Problem> {
        let given = request.headers().get(header::AUTHORIZATION);
        if given.is_none() && self.is_open() {
            return Ok(Principal::new(Role::Viewer, "loopback"));
        }
        let token =
            given.and_then(|value| value.to_str().ok()).and_then(bearer).unwrap_or_default();
        // Missing and wrong look the same, and take the same time.
        let owner = self.owner_of(token);
        owner.or_else(|| self.open(Purpose::Inside, token)).ok_or_else(unauthorized)
    }

    /// Finds out where the browser is, when the console says so.
    fn through_console(&self, request: &ServiceRequest) -> Option<Browser> {
        let (seal, address) = request.headers().get(BROWSER)?.to_str().ok()?.split_once(' ')?;
        self.open(Purpose::Inside, seal)?;
        address.parse().ok().map(Browser)
    }

    /// Without any token the port listens on loopback only. A page in a browser on this machine could reach it too, under
    /// a name of its own that it lets point here: so the request must be addressed to loopback by name.
    fn check_host(&self, request: &ServiceRequest) -> Result<(), Problem> {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        if self.is_open() && host.is_some_and(|host| !is_loopback_name(host)) {
            return Err(forbidden(Role::Viewer));
        }
        Ok(())
    }

    fn seal(&self, purpose: Purpose, who: &Principal, good_for: Duration) -> String {
        let good_for = u64::try_from(good_for.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.inner.clock.wall_ms().saturating_add(good_for);
        self.inner.seals.seal(purpose, who, until_ms)
    }

    /// Whether somebody who was let in would still be: not when their token has ended since, or was revoked.
    pub(super) fn still_counts(&self, who: &Principal) -> bool {
        let Some(token) = &who.token else { return true };
        let now_ms = self.inner.clock.wall_ms();
        let known = self.inner.known.load();
        known.iter().any(|known| known.id == *token && known.counts(now_ms))
    }

    /// What a token of the database sealed ends with it.
    fn open(&self, purpose: Purpose, sealed: &str) -> Option<Principal> {
        let now_ms = self.inner.clock.wall_ms();
        let who = self.inner.seals.open(purpose, sealed, now_ms)?;
        let Some(token) = &who.token else { return Some(who) };
        let known = self.inner.known.load();
        let still = known.iter().find(|known| known.id == *token && known.counts(now_ms))?;
        Some(still.principal())
    }
}

impl std::fmt::Debug for AdminPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminPort").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Support => "support",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

/// Returns who sent a request; `None` on the public port.
#[must_use]
pub fn principal(request: &HttpRequest) -> Option<Principal> {
    request.extensions().get::<Principal>().cloned()
}

/// Returns what a request on the admin port asks for.
pub(super) fn operation(request: &HttpRequest) -> Option<&'static Operation> {
    request.extensions().get::<&'static Operation>().copied()
}

/// Demands a role, for a resource that needs more than its operation says, depending on what is asked of it.
///
/// # Errors
/// A 403 problem when the sender has less, or is not known.
pub fn require(request: &HttpRequest, needed: Role) -> Result<Principal, Problem> {
    principal(request).filter(|principal| principal.role >= needed).ok_or_else(|| forbidden(needed))
}

/// The digest under which a token is remembered. Tokens are random and long, so it needs no salt and no slowness.
pub(super) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn is_page(path: &str) -> bool {
    path == "/"
        || path.strip_prefix(PAGES).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a browser sends without being asked: a form of another site could reach a page that changes something.
fn check_page(request: &ServiceRequest) -> Result<(), Problem> {
    if cross_site::is_unsafe(request.method()) {
        cross_site::check_strictly(request.headers(), || links::own_origin(request.request()))?;
    }
    Ok(())
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed")
}

fn forbidden(needed: Role) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "The token does not allow this")
        .with_member("needed_role", needed.to_string())
}

fn other_methods(methods: &str) -> Problem {
    Problem::from_status(StatusCode::METHOD_NOT_ALLOWED).with_member("allowed", methods)
}

#[cfg(test)]
mod tests;
