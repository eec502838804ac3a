//! Words that only a node of this cluster can have written: what a signed-in browser shows again, and what the console
//! shows when it asks this node's own API on somebody's behalf.
//!
//! `base64url(JSON) "." base64url(HMAC-SHA256)`. The key comes from the admin tokens, so it is the same on all nodes that
//! have the same tokens, and changing one of them ends all that was signed before.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Principal, Role};

/// What a word is good for; one for the one purpose is worth nothing for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A browser that has signed in.
    Browser,
    /// A request of a node to itself.
    Inside,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Browser => b"understudy console 1\0",
            Self::Inside => b"understudy inside 1\0",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Content {
    role: Role,
    name: String,
    /// The token of the database it came from, so that it ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    until_ms: u64,
}

/// The key of a node's seals.
#[derive(Clone)]
pub(super) struct Seals {
    mac: Hmac<Sha256>,
}

impl Seals {
    pub(super) fn new(key: &[u8]) -> Self {
        Self { mac: Hmac::new_from_slice(key).expect("a key may have any length") }
    }

    /// Writes down who somebody is, until the time given.
    pub(super) fn seal(&self, purpose: Purpose, who: &Principal, until_ms: u64) -> String {
        let content = Content {
            role: who.role,
            name: who.name.to_string(),
            token: who.token.as_deref().map(str::to_owned),
            until_ms,
        };
        let json = serde_json::to_vec(&content).expect("strings and numbers always serialise");
        let content = BASE64.encode(json);
        let mac = BASE64.encode(self.mac_of(purpose, &content).finalize().into_bytes());
        format!("{content}.{mac}")
    }

    /// Reads what was sealed, unless it is another's, for another purpose, or its time is over.
    pub(super) fn open(&self, purpose: Purpose, sealed: &str, now_ms: u64) -> Option<Principal> {
        let (content, mac) = sealed.split_once('.')?;
        let mac = BASE64.decode(mac).ok()?;
        self.mac_of(purpose, content).verify_slice(&mac).ok()?;
        let content: Content = serde_json::from_slice(&BASE64.decode(content).ok()?).ok()?;
        (now_ms < content.until_ms).then(|| Principal {
            role: content.role,
            name: content.name.into(),
            token: content.token.map(Into::into),
        })
    }

    fn mac_of(&self, purpose: Purpose, content: &str) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(purpose.label());
        mac.update(content.as_bytes());
        mac
    }
}

impl std::fmt::Debug for Seals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seals").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> Principal {
        Principal { role: Role::Support, name: "mary".into(), token: None }
    }

    #[test]
    fn x1_a_seal_is_read_by_its_own_key_for_its_own_purpose_in_its_time() {
        let seals = Seals::new(b"key");
        let sealed = seals.seal(Purpose::Browser, &who(), 1_000);
        assert_eq!(seals.open(Purpose::Browser, &sealed, 999), Some(who()));
        assert_eq!(seals.open(Purpose::Browser, &sealed, 1_000), None);
        assert_eq!(seals.open(Purpose::Inside, &sealed, 0), None);
        assert_eq!(Seals::new(b"other").open(Purpose::Browser, &sealed, 0), None);
    }

    #[test]
    fn x1_whatever_was_changed_is_refused() {
        let seals = Seals::new(b"key");
        let sealed = seals.seal(Purpose::Browser, &who(), 1_000);
        for position in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(seals.open(Purpose::Browser, &changed, 0), None, "{position}");
        }
        for nonsense in ["", ".", "a", "a.b", "....", "ä.ö"] {
            assert_eq!(seals.open(Purpose::Browser, nonsense, 0), None, "{nonsense}");
        }
    }
}
