//! How the contents of sessions are sealed. What is sealed, and when, is in [`crate::store::sealed`]; cipher and keys are
//! those of [`understudy_runtime::sealing`].
//!
//! A text is bound to its place: cluster, session, and attribute (or the list of recent operations, or its events) are
//! authenticated with it, so that who can write to the store cannot have one session's value read in another. What they can do is told in
//! `docs/sessions.md`.
//!
//! A sealed text is `1.<name of the key>.<base64url of nonce, ciphertext and tag>`. It keeps the length of what it seals to
//! the byte; names of attributes are not sealed.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use understudy_runtime::config::EncryptionConfig;
use understudy_runtime::sealing::{Key, NONCE, Ring};

use crate::packing::UnpackError;
use crate::record::{KeyId, KnownKeys, Locator, Seal};
use crate::store::StoreError;

#[cfg(test)]
pub(crate) mod tests;

/// What sealed texts begin with.
const FORMAT: &str = "1.";
/// What bytes begin with that are not sealed.
const PLAIN_BYTES: u8 = 0;
/// What bytes begin with that are.
const SEALED_BYTES: u8 = 1;

/// The keys of a node. Clones share them.
#[derive(Clone)]
pub struct SealRing {
    keys: Ring,
    cluster: Arc<str>,
}

/// Where a text stands; it can be opened nowhere else.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    locator: Locator,
    kind: u8,
    name: &'a str,
}

/// Seals, under the first key.
pub(crate) struct Sealer<'a> {
    cluster: &'a str,
    key: &'a Key,
}

/// Why a stored text cannot be opened. None shows anything of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// This node has no such key.
    #[error(
        "it is sealed under the key `{0}`, which UNDERSTUDY_SESSION_ENCRYPTION_KEYS of this node does not have"
    )]
    UnknownKey(KeyId),
    /// It is no sealed text, was changed, was sealed for another place, or under another key of that name.
    #[error(
        "it is sealed, and what stands there was not sealed for this place: it was changed or moved, or \
         UNDERSTUDY_SESSION_ENCRYPTION_KEYS has another key of that name"
    )]
    Broken,
    /// It is packed, and cannot be unpacked.
    #[error(transparent)]
    Packed(#[from] UnpackError),
}

impl SealRing {
    /// Takes the keys of a node of `cluster`.
    #[must_use]
    pub fn new(config: &EncryptionConfig, cluster: &str) -> Self {
        Self { keys: Ring::new(config), cluster: cluster.into() }
    }

    /// Gives the names of all keys, and of what may be packed, by which stores know what this node can open.
    #[must_use]
    pub fn known(&self) -> KnownKeys {
        let keys: Vec<KeyId> =
            self.keys.keys().iter().filter_map(|key| KeyId::new(key.id())).collect();
        let packed: Vec<KeyId> = keys.iter().map(|id| KeyId::packed(Some(id))).collect();
        KnownKeys::new(keys.into_iter().chain(packed).chain([KeyId::packed(None)]).collect())
    }

    /// Gives the form in which this node writes what it does not pack.
    #[must_use]
    pub fn form(&self) -> Seal {
        self.sealer().and_then(|sealer| sealer.id()).map_or(Seal::Open, Seal::Under)
    }

    /// Gives the form in which this node writes values that may be packed.
    #[must_use]
    pub fn packed_form(&self) -> Seal {
        Seal::Under(KeyId::packed(self.sealer().and_then(|sealer| sealer.id()).as_ref()))
    }

    /// Gives what seals; `None` when nothing is to be sealed.
    pub(crate) fn sealer(&self) -> Option<Sealer<'_>> {
        Some(Sealer { cluster: &self.cluster, key: self.keys.writing()? })
    }

    /// Gives bytes that stand at `place` in the form in which this node writes: [`PLAIN_BYTES`] and the bytes, or
    /// [`SEALED_BYTES`], how long the name of the key is, the name, the nonce, and ciphertext with tag.
    pub(crate) fn close_bytes(&self, place: Place<'_>, bytes: &[u8]) -> Vec<u8> {
        let Some(sealer) = self.sealer() else { return [[PLAIN_BYTES].as_slice(), bytes].concat() };
        let (nonce, sealed) = sealer.encrypt(place, bytes);
        let id = sealer.key.id().as_bytes();
        let length = u8::try_from(id.len()).expect("names of keys are short");
        [[SEALED_BYTES, length].as_slice(), id, nonce.as_slice(), sealed.as_slice()].concat()
    }

    /// Opens what [`Self::close_bytes`] gave for `place`.
    pub(crate) fn open_bytes(&self, place: Place<'_>, stored: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (form, rest) = stored.split_first().ok_or(OpenError::Broken)?;
        if *form == PLAIN_BYTES {
            return Ok(rest.to_vec());
        }
        let (length, rest) = rest.split_first().ok_or(OpenError::Broken)?;
        let named = rest.split_at_checked(usize::from(*length));
        let (id, rest) = named.filter(|_| *form == SEALED_BYTES).ok_or(OpenError::Broken)?;
        let id = std::str::from_utf8(id).map_err(|_| OpenError::Broken)?;
        let id = KeyId::new(id).ok_or(OpenError::Broken)?;
        let (nonce, msg) = rest.split_first_chunk::<NONCE>().ok_or(OpenError::Broken)?;
        self.decrypt(id, place, nonce, msg)
    }

    fn decrypt(
        &self,
        id: KeyId,
        place: Place<'_>,
        nonce: &[u8; NONCE],
        msg: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        let Some(key) = self.keys.find(id.as_str()) else { return Err(OpenError::UnknownKey(id)) };
        key.open(nonce, &place.bound_to(&self.cluster), msg).ok_or(OpenError::Broken)
    }

    /// Opens a text that was sealed for `place`.
    pub(crate) fn open(&self, place: Place<'_>, sealed: &str) -> Result<String, OpenError> {
        String::from_utf8(self.open_packed(place, sealed)?).map_err(|_| OpenError::Broken)
    }

    /// Opens a text that seals what may be packed.
    pub(crate) fn open_packed(&self, place: Place<'_>, sealed: &str) -> Result<Vec<u8>, OpenError> {
        let rest = sealed.strip_prefix(FORMAT).ok_or(OpenError::Broken)?;
        let (id, text) = rest.rsplit_once('.').ok_or(OpenError::Broken)?;
        let id = KeyId::new(id).ok_or(OpenError::Broken)?;
        if self.keys.find(id.as_str()).is_none() {
            return Err(OpenError::UnknownKey(id));
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| OpenError::Broken)?;
        let (nonce, msg) = bytes.split_first_chunk::<NONCE>().ok_or(OpenError::Broken)?;
        self.decrypt(id, place, nonce, msg)
    }
}

impl Sealer<'_> {
    /// The name of the key: options have none that is no such name.
    fn id(&self) -> Option<KeyId> {
        KeyId::new(self.key.id())
    }

    /// Seals a text, or what is packed, for `place`.
    pub(crate) fn seal(&self, place: Place<'_>, plain: impl AsRef<[u8]>) -> String {
        let (nonce, sealed) = self.encrypt(place, plain.as_ref());
        let bytes = [nonce.as_slice(), sealed.as_slice()].concat();
        format!("{FORMAT}{}.{}", self.key.id(), URL_SAFE_NO_PAD.encode(bytes))
    }

    fn encrypt(&self, place: Place<'_>, msg: &[u8]) -> ([u8; NONCE], Vec<u8>) {
        self.key.seal(&place.bound_to(self.cluster), msg)
    }
}

impl<'a> Place<'a> {
    /// The value of an attribute.
    pub(crate) fn attribute(locator: Locator, name: &'a str) -> Self {
        Self { locator, kind: b'a', name }
    }

    /// The list of recent operations.
    pub(crate) fn recent(locator: Locator) -> Self {
        Self { locator, kind: b'w', name: "" }
    }

    /// The value of an event of a session.
    pub(crate) fn event_of_session(locator: Locator) -> Self {
        Self { locator, kind: b'e', name: "" }
    }

    /// The value of an event of a user; `digest` stands for the name.
    pub(crate) fn event_of_user(digest: &'a str) -> Self {
        Self { locator: Locator::from_bytes([0; 16]), kind: b'u', name: digest }
    }

    /// A part of a temporary file; `name` tells which.
    pub(crate) fn chunk(locator: Locator, name: &'a str) -> Self {
        Self { locator, kind: b'f', name }
    }

    /// What is authenticated: no two places have the same, since a cluster's name holds no zero byte and what comes before the
    /// name has a fixed length.
    fn bound_to(self, cluster: &str) -> Vec<u8> {
        let mut bound = Vec::with_capacity(64 + self.name.len());
        bound.extend_from_slice(b"understudy session 1\0");
        bound.extend_from_slice(cluster.as_bytes());
        bound.push(0);
        bound.extend_from_slice(self.locator.as_bytes());
        bound.push(self.kind);
        bound.extend_from_slice(self.name.as_bytes());
        bound
    }
}

/// Says that a record is sealed under a key that this node does not have; for stores that look before they claim.
pub(crate) fn unknown_key(id: &KeyId) -> StoreError {
    // What may be packed has a key if this program does not know it: all of them unpack.
    match KeyId::new(id.key()) {
        Some(key) => OpenError::UnknownKey(key).into(),
        None => OpenError::Broken.into(),
    }
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl fmt::Debug for SealRing {
    /// Shows the names of the keys only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealRing").field("keys", &self.keys).finish_non_exhaustive()
    }
}
