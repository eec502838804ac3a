//! What a session is, as data: the names, numbers and fields that every store keeps and every node exchanges.
//!
//! Nothing here does I/O or knows who owns a session; [`crate::store`] says what may be done with a record, and
//! [`crate::ownership`] who may do it.

mod seal;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use understudy_runtime::ids::NodeId;

use crate::state::Outcome;

pub use seal::{KeyId, KnownKeys, Seal};

/// Names a session: 128 random bits, public to every node, worthless without the secret that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locator([u8; 16]);

impl Locator {
    /// Makes a new random locator.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Takes the 16 bytes of a locator.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Gives 12 hexadecimal digits that name the session in logs and cannot be turned back into a cookie.
    #[must_use]
    pub fn id_for_logs(&self) -> String {
        self.digest(6)
    }

    /// Gives the 32 hexadecimal digits by which operators name the session; they begin with those of
    /// [`Self::id_for_logs`], and cannot be turned back into a cookie.
    #[must_use]
    pub fn public_id(&self) -> String {
        self.digest(16)
    }

    /// Gives `bytes` bytes of the hash of the locator, in hexadecimal digits.
    pub(crate) fn digest(&self, bytes: usize) -> String {
        let digest = Sha256::digest(self.0);
        digest.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Gives the 16 bytes of the locator.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Locator {
    /// A locator alone opens nothing, but logs carry only its hash; so `Debug` shows no part of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locator(..)")
    }
}

/// Says that a text is no locator: not 22 characters of unpadded URL-safe base64.
#[derive(Debug, thiserror::Error)]
#[error("not a session locator")]
pub struct ParseLocatorError;

impl FromStr for Locator {
    type Err = ParseLocatorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0_u8; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err(ParseLocatorError),
        }
    }
}

impl Serialize for Locator {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Locator {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The SHA-256 of a session's secret; the only form in which a secret is kept anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// Gives the text form that stores keep (43 characters).
    #[must_use]
    pub fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Reads the text form; `None` when it is not one.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut bytes = [0_u8; 32];
        matches!(URL_SAFE_NO_PAD.decode_slice(text, &mut bytes), Ok(32)).then_some(Self(bytes))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// Says who owns a session: the node, and a nonce drawn anew for every claim (rule R2).
///
/// The nonce matters after a failover, when the same epoch *number* can be handed out twice.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(Arc<str>);

impl Token {
    /// Draws a new token for a claim by `node`.
    #[must_use]
    pub fn new(node: &NodeId) -> Self {
        let nonce: u64 = rand::random();
        Self(format!("{node}|{nonce:016x}").into())
    }

    /// Takes the text of a token as a store keeps it.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// Gives the text as stores keep it: `name#incarnation|nonce`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Gives the text of the node id in this token: all before the last `|`.
    #[must_use]
    pub fn node_text(&self) -> &str {
        self.0.rsplit_once('|').map_or(&*self.0, |(node, _nonce)| node)
    }

    /// Gives the node in this token; `None` when the text is not one of ours.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        self.node_text().parse().ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.0)
    }
}

/// The fencing token of an owner: a write enters only when the record carries this token *and* this epoch (rule R1).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Fence {
    /// Who claimed.
    pub token: Token,
    /// Grows by one with every claim.
    pub epoch: u64,
}

/// Names one write, so that a repeated one is recognised instead of applied twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpId(pub u64);

impl OpId {
    /// Draws a new id.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Gives the text that stores keep (16 hexadecimal digits).
    #[must_use]
    pub fn to_text(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Attributes by name; each value is the JSON text as it was written, never re-encoded.
pub type Attributes = BTreeMap<Arc<str>, Arc<str>>;

/// Operations that came from other nodes and are already in the record, with what they answered.
///
/// When an owner dies between its write and its answer, the node that asked claims the session and finds its
/// operation here instead of guessing. Kept small: oldest first out, and `since_version` says from which version on
/// the list is complete.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RecentOps {
    /// Every operation from another node that made a version above this one is listed.
    pub since_version: u64,
    /// Id, version it made, answer.
    pub entries: Vec<(OpId, u64, Outcome)>,
    /// The entries as a store has them whose contents are sealed, for an answer may tell a value; then there are no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Arc<str>>,
}

/// A session as a store keeps it.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Who owns it; `None` after a release.
    pub owner: Option<Token>,
    /// Epoch of the latest claim.
    pub epoch: u64,
    /// Grows by one with every write.
    pub version: u64,
    /// Id of the latest write.
    pub last_op: Option<OpId>,
    /// When it began, ms since 1970 on the store's clock.
    pub created_ms: u64,
    /// When it ends whatever happens, ms since 1970 on the store's clock.
    pub absolute_ms: u64,
    /// Latest access that was noted, ms since 1970 on the store's clock; up to one touch interval late.
    pub last_access_ms: u64,
    /// How long it lives without an access, ms.
    pub idle_ms: u64,
    /// Who is logged in.
    pub user: Option<Arc<str>>,
    /// Hash of the secret in the cookie.
    pub secret: SecretHash,
    /// Hash of the secret before the latest rotation, and until when (ms) it still opens the session.
    pub previous_secret: Option<(SecretHash, u64)>,
    /// What the application keeps.
    pub attributes: Arc<Attributes>,
    /// Operations of other nodes that are already in.
    pub recent: RecentOps,
    /// Fields without a place of their own: [marks](Mark), and what a newer version of the program wrote. Every version keeps
    /// those that it does not know as they are.
    pub unknown: BTreeMap<String, String>,
    /// In which form the store has attributes and recent operations.
    pub seal: Seal,
}

/// A field that came to be after the format of records: versions before it keep it without knowing what it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// When the user last showed who they are, ms since 1970 on the store's clock.
    Authenticated,
    /// Whether the cookie outlives the browser: `1`, or `0`.
    Lasting,
    /// Whose child it is: the locator of that session.
    Parent,
    /// Changes when another user's login removes what was in the session; see [`Record::scope`].
    Scope,
}

impl Mark {
    /// Gives the name that stores keep.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Authenticated => "au",
            Self::Lasting => "cl",
            Self::Parent => "pa",
            Self::Scope => "sc",
        }
    }
}

impl Record {
    /// Says when the user last showed who they are, ms since 1970 on the store's clock; `None` when that is not known, because
    /// a node of a version before this logged them in.
    #[must_use]
    pub fn authenticated_ms(&self) -> Option<u64> {
        self.unknown.get(Mark::Authenticated.field())?.parse().ok()
    }

    /// Says whether the cookie outlives the browser.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        self.unknown.get(Mark::Lasting.field()).is_some_and(|text| text == "1")
    }

    /// Says whether it is the child of another session.
    #[must_use]
    pub fn is_child(&self) -> bool {
        self.unknown.contains_key(Mark::Parent.field())
    }

    /// Tells apart what hangs on the session under one user and under the next: children and files of another scope are not
    /// shown. A visitor who logs in keeps the scope, as the attributes stay then.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.unknown.get(Mark::Scope.field()).map_or("", String::as_str)
    }
}

/// What one write changes; everything not named stays as it is in the store.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Change {
    /// Attributes to set: name and JSON text.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Attributes to remove.
    pub remove: Vec<Arc<str>>,
    /// `Some(None)` logs the user out of the record, `Some(Some(..))` names the new one.
    pub user: Option<Option<Arc<str>>>,
    /// New secret.
    pub secret: Option<SecretHash>,
    /// `Some(None)` takes the old secret away at once.
    pub previous_secret: Option<Option<(SecretHash, u64)>>,
    /// New absolute deadline, ms since 1970.
    pub absolute_ms: Option<u64>,
    /// New idle limit, ms.
    pub idle_ms: Option<u64>,
    /// New list of recent operations, when it changed.
    pub recent: Option<RecentOps>,
    /// Marks to set.
    pub marks: Vec<(Mark, String)>,
    /// Set when the form of the contents changes. At a store this is the new form, and `set` and `recent` hold all of the
    /// contents in it; before [`crate::store::sealed`] it asks for that, whatever form it names.
    pub seal: Option<Seal>,
}
