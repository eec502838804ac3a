//! Who sent a request, by which scheme and to which host, when proxies stand between.
//!
//! A forwarding header is believed only from a peer inside `UNDERSTUDY_HTTP_TRUSTED_PROXIES`. It is read from the
//! right, because each proxy appends what it saw itself: the first address outside the trusted networks is the
//! client, and whatever stands further left was written by that client and is never looked at. `Forwarded`
//! (RFC 7239) counts when it is present, else `X-Forwarded-For` with `-Proto` and `-Host`; the two are never mixed.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::HttpRequest;
use actix_web::dev::RequestHead;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

pub use crate::config::Scheme;

mod forwarded;

use forwarded::{Node, parse_node, rightmost_elements};

static FORWARDED: HeaderName = HeaderName::from_static("forwarded");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The requests with headers that were not believed.
static IGNORED: AtomicU64 = AtomicU64::new(0);

/// More hops than this are not followed: the header is then taken for an attack.
const MAX_HOPS: usize = 32;

/// Where a request came from, as far as it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The client: the nearest address that is not a trusted proxy.
    pub client: IpAddr,
    /// The scheme the client used, when a trusted proxy told.
    pub scheme: Option<Scheme>,
    /// The host the client asked for, when a trusted proxy told; already checked to be a plain authority.
    pub host: Option<String>,
    /// Whether a forwarding header was present but not believed, in whole or in part.
    pub ignored: bool,
}

/// What is kept of a request to tell its client later.
#[derive(Debug)]
pub(crate) struct Traced {
    peer: IpAddr,
    /// Lines of the one header that counts.
    lines: Vec<(&'static HeaderName, HeaderValue)>,
}

/// The networks whose forwarding headers are believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Trusts these networks; none means that no forwarding header is ever believed.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Returns whether the address belongs to a trusted proxy; an IPv4 address inside IPv6 counts as IPv4.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Works out where a request came from.
    #[must_use]
    pub fn origin(&self, head: &RequestHead) -> Origin {
        let peer = peer_of(head);
        self.origin_of(peer, &head.headers)
    }

    /// Keeps what tells the client of a request; [`client_of`](Self::client_of) works it out, if anybody asks.
    pub(crate) fn trace(&self, head: &RequestHead) -> Traced {
        let peer = peer_of(head);
        if !self.trust(peer) {
            return Traced { peer, lines: Vec::new() };
        }
        let has_forwarded = head.headers.contains_key(&FORWARDED);
        let name = if has_forwarded { &FORWARDED } else { &X_FORWARDED_FOR };
        let lines = head.headers.get_all(name).map(|line| (name, line.clone()));
        Traced { peer, lines: lines.collect() }
    }

    /// Works out the client of a request that was kept with [`trace`](Self::trace).
    pub(crate) fn client_of(&self, traced: &Traced) -> IpAddr {
        let mut headers = HeaderMap::new();
        for (name, line) in &traced.lines {
            headers.append((*name).clone(), line.clone());
        }
        self.origin_of(traced.peer, &headers).client
    }

    fn origin_of(&self, peer: IpAddr, headers: &HeaderMap) -> Origin {
        let direct = Origin { client: peer, scheme: None, host: None, ignored: false };
        if !self.trust(peer) {
            return Origin { ignored: has_forwarding(headers), ..direct };
        }
        if headers.contains_key(&FORWARDED) {
            return self.walk_forwarded(direct, headers);
        }
        if headers.contains_key(&X_FORWARDED_FOR) {
            return self.walk_x_forwarded(direct, headers);
        }
        // A proxy that hides the client may still tell how it was asked.
        Origin {
            scheme: nth_from_right(headers, &X_FORWARDED_PROTO, 0).and_then(parse_scheme),
            host: nth_from_right(headers, &X_FORWARDED_HOST, 0).and_then(plain_authority),
            ..direct
        }
    }

    fn walk_forwarded(&self, mut origin: Origin, headers: &HeaderMap) -> Origin {
        let lines = headers.get_all(&FORWARDED).collect::<Vec<_>>();
        let elements = lines.iter().rev().flat_map(|line| rightmost_elements(line.as_bytes()));
        for (hop, element) in elements.enumerate() {
            let Some(element) = element.filter(|_| hop < MAX_HOPS) else {
                return Origin { ignored: true, ..origin };
            };
            // What the proxy nearest to the client says of scheme and host counts most.
            origin.scheme = element.proto.as_deref().and_then(parse_scheme).or(origin.scheme);
            origin.host = element.host.as_deref().and_then(plain_authority).or(origin.host);
            let Some(Node::Address(address)) = element.node else {
                return Origin { ignored: element.node.is_none(), ..origin };
            };
            origin.client = address;
            if !self.trust(address) {
                return origin;
            }
        }
        origin
    }

    fn walk_x_forwarded(&self, mut origin: Origin, headers: &HeaderMap) -> Origin {
        let mut hops = 0;
        for (hop, text) in list_from_right(headers, &X_FORWARDED_FOR).enumerate() {
            let Some(node) = parse_node(text).filter(|_| hop < MAX_HOPS) else {
                origin.ignored = true;
                break;
            };
            hops = hop;
            let Node::Address(address) = node else { break };
            origin.client = address;
            if !self.trust(address) {
                break;
            }
        }
        // Each proxy of the chain may have appended its own; a single value was handed through unchanged.
        origin.scheme = nth_from_right(headers, &X_FORWARDED_PROTO, hops).and_then(parse_scheme);
        origin.host = nth_from_right(headers, &X_FORWARDED_HOST, hops).and_then(plain_authority);
        origin
    }
}

/// Returns where a request came from; the address of the peer when the node's middleware is not installed.
#[must_use]
pub fn origin(request: &HttpRequest) -> Origin {
    let origin = match request.app_data::<super::settings::Shared>() {
        Some(settings) => settings.trusted_proxies.origin(request.head()),
        None => TrustedProxies::default().origin(request.head()),
    };
    if origin.ignored {
        IGNORED.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("understudy_http_forwarding_ignored_total").increment(1);
    }
    origin
}

/// Returns how many requests this process has seen whose forwarding headers were not believed, of those that were asked for
/// their origin.
pub(crate) fn ignored() -> u64 {
    IGNORED.load(Ordering::Relaxed)
}

/// Returns the address of the client of a request, behind trusted proxies only.
#[must_use]
pub fn client_addr(request: &HttpRequest) -> IpAddr {
    origin(request).client
}

/// Returns the address at the other end of the connection; unspecified for a test request without one.
pub(crate) fn peer_of(head: &RequestHead) -> IpAddr {
    let unspecified = IpAddr::from([0, 0, 0, 0]);
    head.peer_addr.map_or(unspecified, |address| address.ip().to_canonical())
}

fn parse_scheme(text: &str) -> Option<Scheme> {
    if text.eq_ignore_ascii_case("https") || text.eq_ignore_ascii_case("wss") {
        Some(Scheme::Https)
    } else if text.eq_ignore_ascii_case("http") || text.eq_ignore_ascii_case("ws") {
        Some(Scheme::Http)
    } else {
        None
    }
}

/// Returns whether the text is `host`, `host:port` or `[v6]:port`, and nothing that could break out of a URL.
pub(crate) fn is_plain_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) if port.starts_with(':') => (address, Some(&port[1..])),
            Some(_) | None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let good_host = if text.starts_with('[') {
        host.parse::<Ipv6Addr>().is_ok()
    } else {
        let is_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        !host.is_empty() && host.len() <= 255 && host.bytes().all(is_host)
    };
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    good_host && port.is_none_or(|port| digits(port) && port.parse::<u16>().is_ok())
}

/// Returns a plain authority in lower case.
fn plain_authority(text: &str) -> Option<String> {
    is_plain_authority(text).then(|| text.to_ascii_lowercase())
}

fn has_forwarding(headers: &HeaderMap) -> bool {
    headers.contains_key(&X_FORWARDED_FOR) || headers.contains_key(&FORWARDED)
}

/// Walks a comma separated list that may be spread over several lines, from the right.
fn list_from_right<'a>(
    headers: &'a HeaderMap,
    name: &'a HeaderName,
) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).collect::<Vec<_>>();
    // A line that is not visible ASCII becomes one element that does not parse, it is not skipped.
    lines.into_iter().rev().flat_map(|line| line.to_str().unwrap_or("?").rsplit(',')).map(str::trim)
}

/// Returns the nth element from the right, or the left-most if there are fewer.
fn nth_from_right<'a>(headers: &'a HeaderMap, name: &'a HeaderName, n: usize) -> Option<&'a str> {
    if !headers.contains_key(name) {
        return None;
    }
    list_from_right(headers, name).take(n + 1).last()
}

#[cfg(test)]
mod tests;
