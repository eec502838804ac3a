//! Which files are encrypted by the node before they reach their store, and under which key.
//!
//! Each encrypted file has a key of its own, drawn at random, which stands in its row, sealed under one of the keys of
//! `UNDERSTUDY_FILES_ENCRYPTION_KEYS`. So files come under another key by a change of their rows ([`rewrapping`]), and no
//! content is written again. How a content is encrypted is in [`segments`](super::segments). What is known of a file (name, type,
//! length, SHA-256) is not encrypted, and not authenticated: who can write to the database can do what they like, such as to put a
//! plain file in place of one that is encrypted.
//!
//! [`rewrapping`]: super::rewrapping

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dashmap::DashMap;
use tokio::time::Instant;

use super::error::FileError;
use super::segments::{FileCipher, PREFIX};
use crate::config::EncryptionConfig;
use crate::sealing::{KEY, Key, NONCE, Ring};

/// What is authenticated with the key of a file, before the id of its content.
const BOUND: &[u8] = b"understudy file key 1\0";
/// What the text of a sealed key begins with.
const FORMAT: &str = "1.";
/// After which time a node warns of a content again that it cannot open, and of how many it warns in that time.
const WARN_EVERY: Duration = Duration::from_secs(3_600);
const WARN_MOST: usize = 1_000;

/// Whether files that are written through a handle are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encryption {
    /// When the option has a key that writes.
    #[default]
    ByOption,
    /// In any case; without a key nothing is written.
    Always,
    /// In no case.
    Never,
}

/// The key of a file as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrappedKey {
    /// The name of the key under which it is sealed.
    pub(super) under: String,
    pub(super) text: String,
}

/// The keys of a node that seal those of files; a cheap clone.
#[derive(Debug, Clone, Default)]
pub(super) struct FileKeys {
    ring: Ring,
    warned: Warned,
}

impl FileKeys {
    pub(super) fn new(config: &EncryptionConfig) -> Self {
        Self { ring: Ring::new(config), warned: Warned::default() }
    }

    /// Draws the key of a new content; nothing where it is not to be encrypted.
    pub(super) fn draw(
        &self,
        id: &str,
        encryption: Encryption,
    ) -> Result<Option<(FileCipher, WrappedKey)>, FileError> {
        let under = match encryption {
            Encryption::Never => None,
            Encryption::ByOption => self.ring.writing(),
            Encryption::Always => Some(self.first().ok_or(FileError::NoKey)?),
        };
        let Some(under) = under else { return Ok(None) };
        let (key, prefix): ([u8; KEY], [u8; PREFIX]) = (rand::random(), rand::random());
        let wrapped = wrap(under, id, &[key.as_slice(), prefix.as_slice()].concat());
        Ok(Some((FileCipher::new(&key, prefix, id), wrapped)))
    }

    /// Opens the key of a content.
    pub(super) fn open(&self, id: &str, wrapped: &WrappedKey) -> Result<FileCipher, FileError> {
        let opened = self.unwrap_key(id, wrapped);
        if let Err(error) = &opened {
            metrics::counter!("understudy_files_unopened_total").increment(1);
            if self.warned.is_due(id) {
                tracing::warn!(
                    file.version = %id,
                    error = %error,
                    "an encrypted file cannot be opened with the keys of UNDERSTUDY_FILES_ENCRYPTION_KEYS"
                );
            }
        }
        let opened = opened?;
        let taken_apart = opened.split_first_chunk::<KEY>();
        let cipher = taken_apart.and_then(|(key, prefix)| {
            let prefix: [u8; PREFIX] = prefix.try_into().ok()?;
            Some(FileCipher::new(key, prefix, id))
        });
        cipher.ok_or_else(|| FileError::OtherKey { key: wrapped.under.clone() })
    }

    /// Says whether the key of a content opens, for those who only want to know that.
    pub(super) fn opens(&self, id: &str, wrapped: &WrappedKey) -> bool {
        self.unwrap_key(id, wrapped).is_ok()
    }

    /// Seals the key of a content under the first key; nothing when it is, there is none, or it does not open.
    pub(super) fn rewrap(&self, id: &str, wrapped: &WrappedKey) -> Option<WrappedKey> {
        let under = self.first().filter(|under| under.id() != wrapped.under)?;
        let opened = self.unwrap_key(id, wrapped).ok()?;
        Some(wrap(under, id, &opened))
    }

    /// The names of all keys but the first.
    pub(super) fn former(&self) -> Vec<&str> {
        self.ring.keys().iter().skip(1).map(Key::id).collect()
    }

    /// The key under which comes what is encrypted: also where only that is of which the application wants it, or it could never
    /// be changed there.
    fn first(&self) -> Option<&Key> {
        self.ring.keys().first()
    }

    /// What a key is to this node.
    pub(super) fn role(&self, id: &str) -> KeyRole {
        let is_writing = self.ring.writing().is_some_and(|key| key.id() == id);
        match (is_writing, self.ring.find(id)) {
            (true, _) => KeyRole::Writes,
            (false, Some(_)) => KeyRole::Opens,
            (false, None) => KeyRole::Missing,
        }
    }

    fn unwrap_key(&self, id: &str, wrapped: &WrappedKey) -> Result<Vec<u8>, FileError> {
        let under = self.ring.find(&wrapped.under);
        let under = under.ok_or_else(|| FileError::UnknownKey { key: wrapped.under.clone() })?;
        let bytes = wrapped.text.strip_prefix(FORMAT);
        let bytes = bytes.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let opened = bytes.as_deref().and_then(|bytes| {
            let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
            under.open(nonce, &bound_to(id), sealed)
        });
        opened.ok_or_else(|| FileError::OtherKey { key: wrapped.under.clone() })
    }
}

/// Of which contents a node has warned lately: clients ask for one again and again.
#[derive(Debug, Clone, Default)]
struct Warned(Arc<DashMap<String, Instant>>);

impl Warned {
    /// Says whether to warn of a content now, and remembers that.
    fn is_due(&self, id: &str) -> bool {
        let is_recent = |at: &Instant| at.elapsed() < WARN_EVERY;
        if self.0.get(id).is_some_and(|at| is_recent(at.value())) {
            return false;
        }
        if self.0.len() >= WARN_MOST {
            self.0.retain(|_, at| is_recent(at));
        }
        if self.0.len() >= WARN_MOST {
            return false;
        }
        self.0.insert(id.to_owned(), Instant::now());
        true
    }
}

/// What a key is to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyRole {
    /// New files are encrypted under it.
    Writes,
    /// Files that are encrypted under it can be read.
    Opens,
    /// The node does not have it.
    Missing,
}

fn wrap(under: &Key, id: &str, secret: &[u8]) -> WrappedKey {
    let (nonce, sealed) = under.seal(&bound_to(id), secret);
    let bytes = [nonce.as_slice(), sealed.as_slice()].concat();
    let text = format!("{FORMAT}{}", URL_SAFE_NO_PAD.encode(bytes));
    WrappedKey { under: under.id().to_owned(), text }
}

fn bound_to(id: &str) -> Vec<u8> {
    [BOUND, id.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::super::segments::{Ending, Slot};
    use super::*;
    use crate::config::{EncryptionKey, EncryptionWrites};
    use crate::secret::Secret;

    const ID: &str = "0123456789abcdef0123456789abcdef";
    const SLOT: Slot = Slot { number: 0, size: 10, ending: Ending::Last };

    /// Keys with these names, each of so many bytes of the same kind.
    fn keys(names: &[(&str, u8)], writes: EncryptionWrites) -> FileKeys {
        let key = |(id, byte): &(&str, u8)| EncryptionKey {
            id: (*id).to_owned(),
            key: Secret::new([*byte; KEY]),
        };
        FileKeys::new(&EncryptionConfig { keys: names.iter().map(key).collect(), writes })
    }

    fn sealing(names: &[(&str, u8)]) -> FileKeys {
        keys(names, EncryptionWrites::Sealed)
    }

    #[test]
    fn f4_each_file_has_a_key_of_its_own_which_opens_with_the_id_of_its_content() {
        let ring = sealing(&[("new", 1), ("old", 2)]);
        let (cipher, wrapped) = ring.draw(ID, Encryption::ByOption).unwrap().unwrap();
        assert_eq!(wrapped.under, "new");
        let sealed = cipher.seal_small(SLOT, b"content");
        let opened = ring.open(ID, &wrapped).unwrap();
        assert_eq!(opened.open_small(SLOT, &sealed).as_deref(), Some(&b"content"[..]));
        let (other, again) = ring.draw(ID, Encryption::ByOption).unwrap().unwrap();
        assert_ne!(again.text, wrapped.text);
        assert_eq!(other.open_small(SLOT, &sealed), None);
        let elsewhere = ring.open("ffffffffffffffffffffffffffffffff", &wrapped);
        assert!(matches!(elsewhere, Err(FileError::OtherKey { .. })), "{elsewhere:?}");
    }

    #[test]
    fn f4_a_key_that_is_missing_or_another_one_is_named_and_nothing_is_shown_of_it() {
        let (_, wrapped) = sealing(&[("old", 2)]).draw(ID, Encryption::Always).unwrap().unwrap();
        let missing = sealing(&[("new", 1)]).open(ID, &wrapped).unwrap_err();
        assert!(matches!(&missing, FileError::UnknownKey { key } if key == "old"), "{missing:?}");
        assert!(missing.to_string().contains("`old`"), "{missing}");
        let other = sealing(&[("old", 201)]).open(ID, &wrapped).unwrap_err();
        assert!(matches!(&other, FileError::OtherKey { key } if key == "old"), "{other:?}");
        assert!(other.to_string().contains("`old`") && !other.to_string().contains("201"));
        assert!(!format!("{:?}", sealing(&[("old", 201)])).contains("201"));
        let text = &wrapped.text;
        for bad in ["", "1.", "1.AAAA", "2.AAAA", &text[2..], &text[..text.len() - 1]] {
            let bad = WrappedKey { under: "old".to_owned(), text: bad.to_owned() };
            let opened = sealing(&[("old", 2)]).open(ID, &bad);
            assert!(matches!(opened, Err(FileError::OtherKey { .. })), "{bad:?}: {opened:?}");
        }
    }

    #[test]
    fn f4_of_a_file_that_cannot_be_opened_a_node_warns_once_and_not_of_all_of_them() {
        let warned = Warned::default();
        assert!(warned.is_due(ID) && !warned.is_due(ID));
        let many = (0..2 * WARN_MOST).filter(|number| warned.is_due(&number.to_string())).count();
        assert_eq!(many, WARN_MOST - 1);
    }

    #[test]
    fn f4_the_option_decides_where_the_application_does_not() {
        let is_encrypted = |ring: &FileKeys, encryption: Encryption| {
            ring.draw(ID, encryption).map(|drawn| drawn.map(|(_, wrapped)| wrapped.under))
        };
        let (none, on) = (FileKeys::default(), sealing(&[("a", 1)]));
        let off = keys(&[("a", 1)], EncryptionWrites::Plain);
        let a = Some("a".to_owned());
        for (ring, by_option) in [(&none, None), (&on, a.clone()), (&off, None)] {
            assert_eq!(is_encrypted(ring, Encryption::ByOption).unwrap(), by_option);
            assert_eq!(is_encrypted(ring, Encryption::Never).unwrap(), None);
        }
        for ring in [&on, &off] {
            assert_eq!(is_encrypted(ring, Encryption::Always).unwrap(), a);
        }
        assert!(matches!(is_encrypted(&none, Encryption::Always), Err(FileError::NoKey)));
    }

    #[test]
    fn f4_a_file_comes_under_the_key_that_writes_and_stays_the_same() {
        let before = sealing(&[("old", 2)]);
        let (cipher, wrapped) = before.draw(ID, Encryption::ByOption).unwrap().unwrap();
        let sealed = cipher.seal_small(SLOT, b"content");
        let both = sealing(&[("new", 1), ("old", 2)]);
        assert_eq!(both.former(), ["old"]);
        let rewrapped = both.rewrap(ID, &wrapped).unwrap();
        assert_eq!(rewrapped.under, "new");
        let opened = sealing(&[("new", 1)]).open(ID, &rewrapped).unwrap();
        assert_eq!(opened.open_small(SLOT, &sealed).as_deref(), Some(&b"content"[..]));
        assert_eq!(both.rewrap(ID, &rewrapped), None, "it is under that key");
        assert_eq!(sealing(&[("new", 1)]).rewrap(ID, &wrapped), None, "it does not open");
        let off = keys(&[("new", 1), ("old", 2)], EncryptionWrites::Plain);
        let rewrapped = off.rewrap(ID, &wrapped).map(|rewrapped| rewrapped.under);
        assert_eq!(rewrapped.as_deref(), Some("new"), "the application may want files encrypted");
        assert_eq!(off.former(), ["old"]);
        assert!(FileKeys::default().former().is_empty());
        let roles = ["new", "old", "lost"].map(|id| both.role(id));
        assert_eq!(roles, [KeyRole::Writes, KeyRole::Opens, KeyRole::Missing]);
        assert_eq!(off.role("new"), KeyRole::Opens);
    }
}
