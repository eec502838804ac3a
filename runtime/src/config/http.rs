//! The public listener: `HTTP_*`.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::ExternalUrl;

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
    /// `HTTP_CSRF`: whether requests from other sites that could change something are refused.
    pub csrf: bool,
    /// `HTTP_EXPOSE_NODE`: whether answers name the node in `X-Understudy-Node`.
    pub expose_node: bool,
}
