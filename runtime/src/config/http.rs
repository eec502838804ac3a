//! The public listener: `HTTP_*`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use serde::Deserialize;

use super::ExternalUrl;
use super::reader::{Reader, list};

/// The public listener.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `HTTP_BIND`: where it listens; port 0 takes any free one.
    pub bind: SocketAddr,
    /// `HTTP_WORKERS`: threads that serve requests.
    pub workers: usize,
    /// `HTTP_EXTERNAL_URL`: how browsers reach the application; always there in a cluster.
    pub external_url: Option<ExternalUrl>,
    /// `HTTP_HOSTS`: `Host` values answered, lower case, without port; empty answers any.
    pub hosts: Vec<String>,
    /// `HTTP_TRUSTED_PROXIES`: whose word on the client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// `HTTP_BODY_LIMIT_BYTES`: the largest request body.
    pub body_limit_bytes: usize,
    /// `HTTP_KEEP_ALIVE_S`: how long an idle connection stays open; longer than the balancer keeps it.
    pub keep_alive: Duration,
    /// `HTTP_REQUEST_TIMEOUT_S`: how long a handler may take.
    pub request_timeout: Duration,
    /// `HTTP_STALLED_READER_MS`: how long a client may take no byte of an answer that waits for it.
    pub stalled_reader: Duration,
    /// `HTTP_CSRF`: whether requests from other sites that could change something are refused.
    pub csrf: bool,
    /// `HTTP_EXPOSE_NODE`: whether answers name the node in `X-Understudy-Node`.
    pub expose_node: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    bind: Option<String>,
    workers: Option<String>,
    external_url: Option<String>,
    hosts: Option<String>,
    trusted_proxies: Option<String>,
    body_limit_bytes: Option<String>,
    keep_alive_s: Option<String>,
    request_timeout_s: Option<String>,
    stalled_reader_ms: Option<String>,
    csrf: Option<String>,
    expose_node: Option<String>,
}

impl HttpConfig {
    pub(super) fn read(read: &mut Reader) -> Self {
        let raw: Raw = read.section("HTTP_");
        Self {
            bind: read.parsed(
                "UNDERSTUDY_HTTP_BIND",
                raw.bind.as_deref(),
                "an address and a port, such as 0.0.0.0:8080 or [::]:8080",
                |text| text.parse().ok(),
            ),
            workers: workers(read, raw.workers.as_deref()),
            external_url: read.optional(
                "UNDERSTUDY_HTTP_EXTERNAL_URL",
                raw.external_url.as_deref(),
                "a URL such as https://shop.example, without user, query and fragment",
                ExternalUrl::parse,
            ),
            hosts: read.parsed(
                "UNDERSTUDY_HTTP_HOSTS",
                raw.hosts.as_deref(),
                "host names separated by commas, without ports",
                |text| list(text).map(host).collect(),
            ),
            trusted_proxies: read.parsed(
                "UNDERSTUDY_HTTP_TRUSTED_PROXIES",
                raw.trusted_proxies.as_deref(),
                "addresses or blocks separated by commas, such as 10.0.0.0/8,127.0.0.1",
                |text| list(text).map(block).collect(),
            ),
            body_limit_bytes: read.number(
                "UNDERSTUDY_HTTP_BODY_LIMIT_BYTES",
                raw.body_limit_bytes.as_deref(),
                1_024..=1_099_511_627_776,
            ),
            keep_alive: read.seconds(
                "UNDERSTUDY_HTTP_KEEP_ALIVE_S",
                raw.keep_alive_s.as_deref(),
                1..=3_600,
            ),
            request_timeout: read.seconds(
                "UNDERSTUDY_HTTP_REQUEST_TIMEOUT_S",
                raw.request_timeout_s.as_deref(),
                1..=86_400,
            ),
            stalled_reader: read.millis(
                "UNDERSTUDY_HTTP_STALLED_READER_MS",
                raw.stalled_reader_ms.as_deref(),
                1_000..=3_600_000,
            ),
            csrf: read.flag("UNDERSTUDY_HTTP_CSRF", raw.csrf.as_deref()),
            expose_node: read.flag("UNDERSTUDY_HTTP_EXPOSE_NODE", raw.expose_node.as_deref()),
        }
    }
}

fn workers(read: &mut Reader, given: Option<&str>) -> usize {
    const NAME: &str = "UNDERSTUDY_HTTP_WORKERS";
    let expected = "a whole number from 1 to 1024";
    let workers = read
        .optional(NAME, given, expected, |text| {
            text.parse().ok().filter(|workers| (1..=1_024).contains(workers))
        })
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    read.show(NAME, &workers.to_string());
    workers
}

/// A name or address as it stands in `Host`, without its port.
fn host(text: &str) -> Option<String> {
    let is_v6 = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    let is_name =
        text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    (is_v6 || is_name).then(|| text.to_ascii_lowercase())
}

fn block(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
