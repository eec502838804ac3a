//! The cipher that seals what lies in stores, and its keys: of sessions and of files alike. What is sealed, where it may stand
//! and what a store says of it is up to who uses this.
//!
//! XChaCha20-Poly1305 with a random nonce for each text: 192 bits, so that no number of texts under one key is too many. A
//! text is bound to what is authenticated with it, and opens nowhere else. Keys have names, which stand beside what they have
//! sealed; the first of a ring seals, all open.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};

use crate::config::{EncryptionConfig, EncryptionWrites};

/// Bytes of a nonce.
pub const NONCE: usize = 24;
/// Bytes of a key.
pub const KEY: usize = 32;
/// By how many bytes a sealed text is longer than what it seals, beside its nonce.
pub const TAG: usize = 16;

/// The keys of a node; clones share them. The default has none.
#[derive(Clone, Default)]
pub struct Ring(Arc<Keys>);

#[derive(Default)]
struct Keys {
    all: Vec<Key>,
    writes: EncryptionWrites,
}

/// One key of a ring.
pub struct Key {
    id: String,
    cipher: Cipher,
}

/// A key that seals and opens.
#[derive(Clone)]
pub struct Cipher(XChaCha20Poly1305);

impl Ring {
    /// Takes keys as an option gives them.
    #[must_use]
    pub fn new(config: &EncryptionConfig) -> Self {
        let all = config.keys.iter();
        let all = all.map(|key| Key { id: key.id.clone(), cipher: Cipher::new(key.key.expose()) });
        Self(Arc::new(Keys { all: all.collect(), writes: config.writes }))
    }

    /// Gives all keys, in the order in which they were given.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.0.all
    }

    /// Gives the key of a name.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.0.all.iter().find(|key| key.id == id)
    }

    /// Gives the key under which is sealed what is written; `None` when it is written as it is.
    #[must_use]
    pub fn writing(&self) -> Option<&Key> {
        match self.0.writes {
            EncryptionWrites::Plain => None,
            EncryptionWrites::Sealed => self.0.all.first(),
        }
    }
}

impl Key {
    /// Gives its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals a text; gives the nonce, which was drawn for it, and what is sealed. It opens with the same `bound` only.
    #[must_use]
    pub fn seal(&self, bound: &[u8], text: &[u8]) -> ([u8; NONCE], Vec<u8>) {
        let nonce: [u8; NONCE] = rand::random();
        let sealed = self.cipher.seal(&nonce, bound, text);
        (nonce, sealed)
    }

    /// Opens what was sealed; `None` when it was changed, bound to something else, or sealed under another key.
    #[must_use]
    pub fn open(&self, nonce: &[u8; NONCE], bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.cipher.open(nonce, bound, sealed)
    }
}

impl Cipher {
    /// Takes a key.
    #[must_use]
    pub fn new(key: &[u8; KEY]) -> Self {
        Self(XChaCha20Poly1305::new(&chacha20poly1305::Key::from(*key)))
    }

    /// Seals a text. A nonce must never come again under the same key.
    ///
    /// # Panics
    /// If the text has more than 256 GB.
    #[must_use]
    pub fn seal(&self, nonce: &[u8; NONCE], bound: &[u8], text: &[u8]) -> Vec<u8> {
        self.0
            .encrypt(&XNonce::from(*nonce), Payload { msg: text, aad: bound })
            .expect("the cipher takes 256 gigabytes")
    }

    /// Opens what was sealed; `None` when it was changed, has another nonce, or is bound to something else.
    #[must_use]
    pub fn open(&self, nonce: &[u8; NONCE], bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: bound }).ok()
    }
}

impl fmt::Debug for Ring {
    /// Shows the names of the keys only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("keys", &self.0.all).field("writes", &self.0.writes).finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}
