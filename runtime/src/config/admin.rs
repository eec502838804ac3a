//! The administration listener: `ADMIN_*`.

use std::net::SocketAddr;

use crate::secret::Secret;

/// The administration listener. At least one token is there unless it listens on loopback only.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// `ADMIN_BIND`: where it listens; none when it is `off`.
    pub bind: Option<SocketAddr>,
    /// `ADMIN_TOKEN`: may do everything.
    pub token: Option<Secret<String>>,
    /// `ADMIN_OPERATOR_TOKEN`: may run the node.
    pub operator_token: Option<Secret<String>>,
    /// `ADMIN_VIEWER_TOKEN`: may look.
    pub viewer_token: Option<Secret<String>>,
}
