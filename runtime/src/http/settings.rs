//! What the HTTP layer needs of the options on every request, worked out once at start.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderValue;

use super::client_addr::TrustedProxies;
use crate::config::{Config, DrainMode, ExternalUrl};
use crate::ids::NodeId;

/// The settings as each worker and each request sees them.
pub(crate) type Shared = Arc<HttpSettings>;

/// The digest of the options.
#[derive(Debug, Clone)]
pub(crate) struct HttpSettings {
    /// The value of `X-Understudy-Node`, if the node is to be told.
    pub(crate) exposed_node: Option<HeaderValue>,
    /// The node's id, for spans.
    pub(crate) node_id: String,
    /// Whose forwarding headers are believed.
    pub(crate) trusted_proxies: TrustedProxies,
    /// How clients reach the cluster, when configured.
    pub(crate) external_url: Option<ExternalUrl>,
    /// The hosts that are served, in lower case; empty means all.
    pub(crate) hosts: Vec<String>,
    /// Largest body of a request, in bytes.
    pub(crate) body_limit: u64,
    /// How slowly a body may arrive.
    pub(crate) body_pace: BodyPace,
    /// How long a handler may take until the head of its answer.
    pub(crate) request_timeout: Duration,
    /// Whether requests that another site makes a browser send are refused.
    pub(crate) csrf: bool,
    /// A request that takes longer is logged.
    pub(crate) slow: Duration,
    /// Whether a draining node sends safe requests away itself.
    pub(crate) drain_mode: DrainMode,
    /// What a client is told when the node cannot serve it now.
    pub(crate) retry_after: Duration,
    /// Whether requests are counted.
    pub(crate) metrics: bool,
    /// Whether log lines name sessions.
    pub(crate) session_in_logs: bool,
}

/// How slowly a body may arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyPace {
    /// So long nothing is demanded.
    pub(crate) grace: Duration,
    /// Then so much is, on average.
    pub(crate) bytes_per_second: u64,
}

/// Slower than any network in use, faster than an attack likes.
const BODY_PACE: BodyPace = BodyPace { grace: Duration::from_secs(10), bytes_per_second: 1_000 };

/// A request that takes longer than this is logged at `info`.
const SLOW: Duration = Duration::from_secs(2);

impl HttpSettings {
    pub(crate) fn new(config: &Config, node_id: &NodeId) -> Self {
        let http = &config.http;
        // A node name is made of characters that any header may carry.
        let name = HeaderValue::from_str(node_id.name().as_str()).ok();
        Self {
            exposed_node: name.filter(|_| http.expose_node),
            node_id: node_id.to_string(),
            trusted_proxies: TrustedProxies::new(http.trusted_proxies.clone()),
            external_url: http.external_url.clone(),
            hosts: http.hosts.clone(),
            body_limit: http.body_limit_bytes as u64,
            body_pace: BODY_PACE,
            request_timeout: http.request_timeout,
            csrf: http.csrf,
            slow: SLOW,
            drain_mode: config.ops.drain_mode,
            retry_after: config.ops.retry_after,
            metrics: config.metrics.enabled,
            session_in_logs: config.log.session_hash,
        }
    }

    /// The settings of the admin port: it is asked under any name, with tokens that no browser sends by itself, and
    /// what it does is counted elsewhere.
    pub(crate) fn for_admin(public: &Self) -> Self {
        Self {
            hosts: Vec::new(),
            external_url: None,
            csrf: false,
            metrics: false,
            trusted_proxies: TrustedProxies::default(),
            ..public.clone()
        }
    }

    /// Returns whether browsers reach the cluster over TLS only.
    pub(crate) fn is_https(&self) -> bool {
        self.external_url.as_ref().is_some_and(ExternalUrl::is_https)
    }

    /// Settings that let everything pass, with loopback as the trusted proxy.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let loopback = "127.0.0.0/8".parse().expect("a literal");
        Self {
            exposed_node: None,
            node_id: "test#0000000000000001".to_owned(),
            trusted_proxies: TrustedProxies::new(vec![loopback]),
            external_url: None,
            hosts: Vec::new(),
            body_limit: 1_000,
            body_pace: BodyPace { grace: Duration::from_millis(200), bytes_per_second: 1_000 },
            request_timeout: Duration::from_secs(5),
            csrf: true,
            slow: SLOW,
            drain_mode: DrainMode::PassiveLb,
            retry_after: Duration::from_secs(60),
            metrics: false,
            session_in_logs: true,
        }
    }
}
