//! What a node tells the others about itself, and how it is written into the list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::JoinError;
use crate::ids::NodeId;

/// What [`MemberRecord::secret_keys`] are fingerprints for; see
/// [`Secret::fingerprint`](crate::secret::Secret::fingerprint).
pub const SESSION_KEYS: &str = "session";

/// What a node tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Which life of which node. First, because the scripts look for it there.
    pub id: NodeId,
    /// The host's own name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// When the process started, ms since 1970.
    pub started_ms: u64,
    /// The version of the program.
    pub version: String,
    /// Where its public port listens.
    #[serde(default)]
    pub public_addr: String,
    /// Where its admin port listens, if it has one.
    #[serde(default)]
    pub admin_addr: Option<String>,
    /// In which phase it is.
    pub state: MemberState,
    /// Since when, by whom and why it is out of service, if an operator has taken it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<Drained>,
    /// Labels given by the operator.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// A fingerprint of the options that must be the same on all nodes.
    #[serde(default)]
    pub config_hash: String,
    /// Fingerprints of the secrets that it accepts.
    #[serde(default)]
    pub secret_keys: Vec<String>,
}

/// In which phase a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It does not take requests yet.
    Starting,
    /// It takes requests.
    Ready,
    /// It wants no new requests: it will stop, or an operator has taken it out of service ([`MemberRecord::drained`]). One
    /// word for both, since the versions before this one know no other.
    Draining,
}

/// That an operator has taken a node out of service, for as long as its process lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Who did.
    pub by: String,
    /// Why, in their words.
    pub why: String,
    /// When, ms since 1970 by the node's clock.
    pub at_ms: u64,
}

/// One node of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// What it tells about itself.
    pub record: MemberRecord,
    /// How long ago it last reported, ms.
    pub age_ms: u64,
    /// Whether it counts as alive.
    pub live: bool,
}

/// One field of the list.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// When it last reported, in the server's time.
    pub(super) seen_ms: u64,
    /// Of which moment the list is that it knew then, in the server's time.
    pub(super) view_ms: u64,
    pub(super) record: MemberRecord,
}

impl Entry {
    /// Reads `<seen>|<view>|<json>`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (seen, rest) = text.split_once('|')?;
        let (view, json) = rest.split_once('|')?;
        Some(Self {
            seen_ms: seen.parse().ok()?,
            view_ms: view.parse().ok()?,
            record: serde_json::from_str(json).ok()?,
        })
    }

    pub(super) fn duplicate(self) -> JoinError {
        JoinError::Duplicate {
            host: self.record.host,
            pid: self.record.pid,
            since_ms: self.record.started_ms,
        }
    }
}

/// A record with something in every field.
#[cfg(test)]
pub(crate) fn record_for_test(id: NodeId) -> MemberRecord {
    MemberRecord {
        id,
        host: "host-1".to_owned(),
        pid: 42,
        started_ms: 1_700_000_000_000,
        version: "0.1.0".to_owned(),
        public_addr: "127.0.0.1:8080".to_owned(),
        admin_addr: None,
        state: MemberState::Starting,
        drained: None,
        labels: BTreeMap::from([("zone".to_owned(), "a|b\"id\":\"x\"".to_owned())]),
        config_hash: "abc".to_owned(),
        secret_keys: vec!["k1".to_owned()],
    }
}
