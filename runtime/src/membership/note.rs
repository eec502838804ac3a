//! Notes of processes that did not get in: who it was, from where, and why not.
//!
//! They lie in the list of nodes, so that every node reads them with each report, at no further price. A process that is
//! started again and again leaves one note; they count for ten minutes.

use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MemberRecord;
use super::list::millis;
use crate::redis::{Arg, Redis, RedisError, Script};

/// For how long a note counts.
const COUNTS: Duration = Duration::from_secs(600);
/// More are not kept.
const MOST: u32 = 64;
/// How what is written of a note begins; no record of a node does.
const MARK: &str = r#"{"note":"#;

static NOTE: LazyLock<Script> =
    LazyLock::new(|| Script::even_when_full("membership.note", include_str!("note.lua")));

/// A process that did not get in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What kept it out.
    pub kind: NoteKind,
    /// The name of the node that it would have been.
    pub node: String,
    /// The host it ran on.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// What was wrong, in words that read after "it was refused: ".
    pub why: String,
    /// When, ms since 1970 by the clock of Redis.
    #[serde(skip)]
    pub at_ms: u64,
}

/// What kept a process out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// Another living process has its name.
    DuplicateNode,
    /// Its session secret has no key in common with the others'.
    WrongSecret,
    /// Its options differ from the others'.
    ConfigDrift,
}

#[derive(Serialize, Deserialize)]
struct Written<N> {
    note: N,
}

impl Note {
    /// Writes a note about the process with this record.
    #[must_use]
    pub fn about(record: &MemberRecord, kind: NoteKind, why: impl Into<String>) -> Self {
        let node = record.id.name().as_str().to_owned();
        Self { kind, node, host: record.host.clone(), pid: record.pid, why: why.into(), at_ms: 0 }
    }

    /// Reads `<at>|0|<json>`; nothing when it is an entry of a node.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (at, rest) = text.split_once('|')?;
        let (_, json) = rest.split_once('|')?;
        if !json.starts_with(MARK) {
            return None;
        }
        let Written { note } = serde_json::from_str::<Written<Self>>(json).ok()?;
        Some(Self { at_ms: at.parse().ok()?, ..note })
    }

    /// Whether it still counts at this time of the server, ms.
    pub(super) fn counts(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.at_ms) < millis(COUNTS)
    }

    /// Leaves it in the list.
    pub(crate) async fn leave(&self, redis: &Redis, key: &str) -> Result<(), RedisError> {
        let json = serde_json::to_string(&Written { note: self })
            .map_err(|error| RedisError::Protocol(error.to_string()))?;
        let args = vec![
            Arg::from(format!("!{}:{}", self.kind.word(), self.node)),
            Arg::from(json),
            Arg::from(millis(COUNTS).to_string()),
            Arg::from(MOST.to_string()),
        ];
        redis.call(&NOTE, vec![key.to_owned()], args).await.map(drop)
    }
}

impl NoteKind {
    fn word(self) -> &'static str {
        match self {
            Self::DuplicateNode => "duplicate_node",
            Self::WrongSecret => "wrong_secret",
            Self::ConfigDrift => "config_drift",
        }
    }
}
