//! How the contents of a session lie in a store: as they are, or sealed under a key. [`crate::sealing`] has the cipher,
//! [`crate::store::sealed`] says who seals what and when.

use std::fmt;
use std::sync::Arc;

/// Names a key that seals contents: 1 to 32 of `A-Z a-z 0-9 . _ -`. It is no secret and stands in the store beside what it
/// sealed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// Takes a name; `None` when it is none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        ((1..=32).contains(&text.len()) && text.bytes().all(fits)).then(|| Self(text.into()))
    }

    /// Gives the text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.0)
    }
}

/// The form in which a store has the contents of a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Seal {
    /// At a store: as they are. In a copy that was opened: in the form in which this node writes.
    #[default]
    Open,
    /// At a store only: all of them sealed under this key.
    Under(KeyId),
    /// In a copy that was opened only: in another form than this node writes, and to be written anew with the next change.
    Outdated,
}

impl Seal {
    /// Gives the key that sealed them, if one did.
    #[must_use]
    pub fn key(&self) -> Option<&KeyId> {
        match self {
            Self::Under(key) => Some(key),
            Self::Open | Self::Outdated => None,
        }
    }
}

/// The names of the keys that a node has: a store leaves alone what is sealed under another one.
#[derive(Clone, Debug, Default)]
pub struct KnownKeys(Arc<[KeyId]>);

impl KnownKeys {
    /// Takes the names.
    #[must_use]
    pub fn new(ids: Vec<KeyId>) -> Self {
        Self(ids.into())
    }

    /// Gives the names.
    #[must_use]
    pub fn ids(&self) -> &[KeyId] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_key_is_short_and_plain() {
        for good in ["a", "2026-11", "Key_1.b", &"x".repeat(32)] {
            assert_eq!(KeyId::new(good).expect(good).as_str(), good);
        }
        for bad in ["", "a b", "a'b", "ü", "a:b", &"x".repeat(33)] {
            assert_eq!(KeyId::new(bad), None, "{bad}");
        }
    }
}
