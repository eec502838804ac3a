//! Keys that seal what lies in a store, as options give them: `SESSION_ENCRYPTION_KEYS` and
//! `FILES_ENCRYPTION_KEYS`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};

use super::reader::Reader;
use crate::secret::Secret;

/// In place of the first key: what is written is not sealed, and what is sealed is read.
const PLAIN: &str = "plain";
const EXPECTED: &str = "must hold parts `name:key` (the first may be the word plain): a name of 1 to 32 of A-Z a-z 0-9 . _ -, \
     and 32 bytes in base64, of which `openssl rand -base64 32` makes some";

/// The keys that seal what lies in a store.
#[derive(Debug, Clone, Default)]
pub struct EncryptionConfig {
    /// All keys, in the order in which they were given.
    pub keys: Vec<EncryptionKey>,
    /// What is done with what is written.
    pub writes: EncryptionWrites,
}

/// What is done with what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncryptionWrites {
    /// It is written as it is.
    #[default]
    Plain,
    /// It is sealed under the first key.
    Sealed,
}

/// One key.
#[derive(Debug, Clone)]
pub struct EncryptionKey {
    /// What it is called where something is sealed under it.
    pub id: String,
    /// The key itself.
    pub key: Secret<[u8; 32]>,
}

/// Reads the option of this name.
pub(super) fn read(
    read: &mut Reader,
    name: &'static str,
    given: Option<String>,
) -> EncryptionConfig {
    let given = read.secret(name, given);
    // A file may hold one per line.
    let parts = given.iter().flat_map(|text| text.expose().split([',', '\n']));
    let mut parts: Vec<&str> = parts.map(str::trim).filter(|part| !part.is_empty()).collect();
    if given.is_some() && parts.is_empty() {
        read.problem(name, "holds no key");
    }
    let writes = match parts.first() {
        Some(first) if *first != PLAIN => EncryptionWrites::Sealed,
        Some(_) | None => EncryptionWrites::Plain,
    };
    if parts.first() == Some(&PLAIN) {
        parts.remove(0);
    }
    let keys: Vec<Option<EncryptionKey>> = parts.into_iter().map(key).collect();
    if keys.iter().any(Option::is_none) {
        read.problem(name, EXPECTED);
    }
    let keys: Vec<EncryptionKey> = keys.into_iter().flatten().collect();
    if keys.iter().any(|key| is_monotonous(key.key.expose())) {
        read.problem(name, "holds a key that anybody guesses; `openssl rand -base64 32` makes one");
    }
    if (1..keys.len()).any(|at| keys[..at].iter().any(|before| before.id == keys[at].id)) {
        read.problem(name, "holds two keys of the same name");
    }
    EncryptionConfig { keys, writes }
}

/// Zeros, for example.
fn is_monotonous(key: &[u8; 32]) -> bool {
    key.iter().all(|byte| *byte == key[0])
}

fn key(part: &str) -> Option<EncryptionKey> {
    let (id, text) = part.split_once(':')?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=32).contains(&id.len()) || !id.bytes().all(fits) {
        return None;
    }
    let decoded = STANDARD_PAD_INDIFFERENT
        .decode(text)
        .or_else(|_| URL_SAFE_PAD_INDIFFERENT.decode(text))
        .ok()?;
    let key: [u8; 32] = decoded.try_into().ok()?;
    Some(EncryptionKey { id: id.to_owned(), key: Secret::new(key) })
}
