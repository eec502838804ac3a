//! How the contents of a session lie in a store: as they are, packed, sealed under a key, or both. [`crate::sealing`] has the
//! cipher, [`crate::packing`] what packs, [`crate::store::sealed`] says who does what and when.

use std::fmt;
use std::sync::Arc;

/// What follows the name of the key where values may be packed. No name of a key has it.
const PACKED: &str = "+z";

/// Names a key that seals contents: 1 to 32 of `A-Z a-z 0-9 . _ -`. It is no secret and stands in the store beside what it
/// sealed.
///
/// Where values may be packed, `+z` follows the name, or stands alone when nothing is sealed. So contents that a program cannot
/// unpack look to it as if they were sealed under a key that it does not have, and it leaves them alone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// Takes a name, with what says that values may be packed; `None` when it is none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let name = text.strip_suffix(PACKED).unwrap_or(text);
        let shortest = usize::from(name.len() == text.len());
        ((shortest..=32).contains(&name.len()) && name.bytes().all(fits)).then(|| Self(text.into()))
    }

    /// Gives the name of the form in which values may be packed and are sealed under this key, if any.
    #[must_use]
    pub fn packed(key: Option<&Self>) -> Self {
        Self(format!("{}{PACKED}", key.map_or("", Self::key)).into())
    }

    /// Says whether values may be packed.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.0.ends_with(PACKED)
    }

    /// Gives the name of the key alone; empty when there is none.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.strip_suffix(PACKED).unwrap_or(&self.0)
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
    /// At a store: as they are. In a copy that was opened: in the form in which this node writes, nothing packed.
    #[default]
    Open,
    /// At a store only: all of them sealed under this key, perhaps packed.
    Under(KeyId),
    /// In a copy that was opened only: in the form in which this node writes, with values that may be packed.
    Packed,
    /// In a copy that was opened only: in another form than this node writes, and to be written anew with the next change.
    Outdated,
}

impl Seal {
    /// Gives the key that sealed them, if one did.
    #[must_use]
    pub fn key(&self) -> Option<&KeyId> {
        match self {
            Self::Under(key) => Some(key),
            Self::Open | Self::Packed | Self::Outdated => None,
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

    #[test]
    fn what_may_be_packed_has_a_name_that_no_key_has() {
        let key = KeyId::new("2026-11");
        for (key, text) in [(key.as_ref(), "2026-11+z"), (None, "+z")] {
            let form = KeyId::packed(key);
            assert_eq!(form.as_str(), text);
            assert_eq!(KeyId::new(text), Some(form.clone()));
            assert!(form.is_packed());
            assert_eq!(form.key(), key.map_or("", KeyId::as_str));
            assert_eq!(KeyId::packed(Some(&form)), form);
        }
        let longest = "x".repeat(32);
        assert!(KeyId::new(&format!("{longest}+z")).is_some());
        assert!(!KeyId::new(&longest).expect("a name").is_packed());
        for bad in ["z+", "a+", "+", "a+z+z", "a+zz", &format!("{longest}x+z")] {
            assert_eq!(KeyId::new(bad), None, "{bad}");
        }
    }
}
