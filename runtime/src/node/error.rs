//! Why a node does not start, and with which status its process then ends.

use std::net::SocketAddr;
use std::time::Duration;

use crate::database::DatabaseError;
use crate::error::chain;
use crate::ids::NodeId;
use crate::membership::JoinError;
use crate::redis::ConnectError;

/// Why a node did not start, or ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An address is not free, or not of this machine; another one is never tried.
    #[error("cannot listen on {address} ({option})")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The variable that names it.
        option: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An option, or something that only an operator can put right.
    #[error("{0}")]
    Configuration(String),
    /// Something that must not fail did.
    #[error("{0}")]
    Failed(String),
}

impl NodeError {
    /// Returns the status with which the process should end: 78 when an operator must put something right, else 1.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Configuration(_) => crate::config::EXIT_CONFIG,
            Self::Bind { .. } | Self::Failed(_) => 1,
        }
    }
}

/// What cannot be put right by waiting.
pub(super) fn database_error(error: &DatabaseError) -> NodeError {
    let is_ours =
        matches!(error, DatabaseError::Migration { .. } | DatabaseError::MigrationName(_));
    if is_ours { NodeError::Failed(chain(error)) } else { NodeError::Configuration(chain(error)) }
}

/// Wrong options of a connection.
pub(super) fn connect_error(error: &ConnectError) -> NodeError {
    NodeError::Configuration(chain(error))
}

/// A name that is taken, told with who has it.
pub(super) fn join_error(node: &NodeId, error: &JoinError) -> NodeError {
    match error {
        JoinError::Duplicate { host, pid, since_ms } => NodeError::Configuration(format!(
            "UNDERSTUDY_NODE_ID: the name {} is taken by process {pid} on {host}, which is alive since {}; \
             give every node a name of its own",
            node.name(),
            utc(*since_ms),
        )),
        JoinError::Redis(_) => NodeError::Configuration(chain(error)),
    }
}

/// Writes ms since 1970 as people read it: RFC 3339, in UTC.
fn utc(ms: u64) -> String {
    let wait = Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + wait).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t9_a_duplicate_name_is_told_with_its_holder() {
        let node = NodeId::begin("web-1".parse().unwrap());
        let error =
            JoinError::Duplicate { host: "h1".to_owned(), pid: 42, since_ms: 1_767_225_600_000 };
        let error = join_error(&node, &error);
        assert_eq!(error.exit_code(), 78);
        let text = error.to_string();
        for part in ["web-1", "process 42", "h1", "2026-01-01T00:00:00Z", "UNDERSTUDY_NODE_ID"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
