//! Words that only a node of this cluster can have written: what a signed-in browser shows again, and what the console
//! shows when it asks this node's own API on somebody's behalf.
//!
//! `base64url(JSON) "." base64url(HMAC-SHA256)`. What a browser shows is signed with a key made of the session secret, which
//! no owner of a token knows, and the admin tokens: it is the same on all nodes, and changing a token ends all that was signed
//! before. Without a session secret, and for requests of a node to itself, the key is of this process alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Principal, Role};
use crate::secret::Secret;

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
    /// Drawn anew, so that no two are the same, and one can end without the other.
    #[serde(default)]
    once: u64,
}

/// The keys of a node's seals.
#[derive(Clone)]
pub(super) struct Seals {
    /// The first signs; all are believed, so that a rotation of the secret signs nobody out.
    browser: Vec<Hmac<Sha256>>,
    inside: Hmac<Sha256>,
}

impl Seals {
    /// Makes those of a node from the secrets that all nodes share and the digests of the tokens.
    pub(super) fn new(secrets: &[Secret<String>], tokens: &[(Role, [u8; 32])]) -> Self {
        let of = |secret: &[u8]| {
            let mut mac = hmac(secret);
            mac.update(b"understudy admin seals 2\0");
            for (role, digest) in tokens {
                mac.update(&[*role as u8]);
                mac.update(digest);
            }
            hmac(&mac.finalize().into_bytes())
        };
        let alone = || of(&rand::random::<[u8; 32]>());
        let browser = match secrets {
            [] => vec![alone()],
            _ => secrets.iter().map(|secret| of(secret.expose().as_bytes())).collect(),
        };
        Self { browser, inside: alone() }
    }

    fn keys(&self, purpose: Purpose) -> &[Hmac<Sha256>] {
        match purpose {
            Purpose::Browser => &self.browser,
            Purpose::Inside => std::slice::from_ref(&self.inside),
        }
    }

    /// Writes down who somebody is, until the time given.
    pub(super) fn seal(&self, purpose: Purpose, who: &Principal, until_ms: u64) -> String {
        let content = Content {
            role: who.role,
            name: who.name.to_string(),
            token: who.token.as_deref().map(str::to_owned),
            until_ms,
            once: rand::random(),
        };
        let json = serde_json::to_vec(&content).expect("strings and numbers always serialise");
        let content = BASE64.encode(json);
        let signed = mac_of(&self.keys(purpose)[0], purpose, &content);
        let mac = BASE64.encode(signed.finalize().into_bytes());
        format!("{content}.{mac}")
    }

    /// Reads what was sealed, unless it is another's, for another purpose, or its time is over.
    pub(super) fn open(&self, purpose: Purpose, sealed: &str, now_ms: u64) -> Option<Principal> {
        let content = self.read(purpose, sealed, now_ms)?;
        Some(Principal {
            role: content.role,
            name: content.name.into(),
            token: content.token.map(Into::into),
        })
    }

    /// Returns until when what was sealed is good, on the same conditions.
    pub(super) fn good_until(&self, purpose: Purpose, sealed: &str, now_ms: u64) -> Option<u64> {
        self.read(purpose, sealed, now_ms).map(|content| content.until_ms)
    }

    fn read(&self, purpose: Purpose, sealed: &str, now_ms: u64) -> Option<Content> {
        let (content, mac) = sealed.split_once('.')?;
        let mac = BASE64.decode(mac).ok()?;
        let is_by = |key| mac_of(key, purpose, content).verify_slice(&mac).is_ok();
        self.keys(purpose).iter().any(is_by).then_some(())?;
        let content: Content = serde_json::from_slice(&BASE64.decode(content).ok()?).ok()?;
        Some(content).filter(|content| now_ms < content.until_ms)
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key may have any length")
}

fn mac_of(key: &Hmac<Sha256>, purpose: Purpose, content: &str) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(purpose.label());
    mac.update(content.as_bytes());
    mac
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

    const TOKENS: &[(Role, [u8; 32])] = &[(Role::Viewer, [7; 32])];

    fn of(secrets: &[&str], tokens: &[(Role, [u8; 32])]) -> Seals {
        let secrets: Vec<_> = secrets.iter().map(|it| Secret::new((*it).to_owned())).collect();
        Seals::new(&secrets, tokens)
    }

    #[test]
    fn x1_who_knows_the_tokens_only_can_seal_nothing() {
        let seals = of(&["secret"], TOKENS);
        let forged = of(&["guess"], TOKENS).seal(Purpose::Browser, &who(), 1_000);
        assert_eq!(seals.open(Purpose::Browser, &forged, 0), None);
        // Without a secret every process has a key of its own.
        let forged = of(&[], TOKENS).seal(Purpose::Browser, &who(), 1_000);
        assert_eq!(of(&[], TOKENS).open(Purpose::Browser, &forged, 0), None);
        // A node believes what it says to itself, and no other node that.
        let inside = of(&["secret"], TOKENS).seal(Purpose::Inside, &who(), 1_000);
        assert_eq!(seals.open(Purpose::Inside, &inside, 0), None);
    }

    #[test]
    fn x1_nodes_believe_each_other_also_while_the_secret_is_rotated() {
        let sealed = of(&["old"], TOKENS).seal(Purpose::Browser, &who(), 1_000);
        for secrets in [&["old"][..], &["new", "old"]] {
            assert_eq!(of(secrets, TOKENS).open(Purpose::Browser, &sealed, 0), Some(who()));
        }
        assert_eq!(of(&["new"], TOKENS).open(Purpose::Browser, &sealed, 0), None);
        assert_eq!(of(&["old"], &[]).open(Purpose::Browser, &sealed, 0), None, "other tokens");
    }

    #[test]
    fn x1_a_seal_is_read_by_its_own_key_for_its_own_purpose_in_its_time() {
        let seals = of(&["key"], TOKENS);
        let sealed = seals.seal(Purpose::Browser, &who(), 1_000);
        assert_eq!(seals.open(Purpose::Browser, &sealed, 999), Some(who()));
        assert_eq!(seals.open(Purpose::Browser, &sealed, 1_000), None);
        assert_eq!(seals.open(Purpose::Inside, &sealed, 0), None);
        assert_eq!(of(&["other"], TOKENS).open(Purpose::Browser, &sealed, 0), None);
    }

    #[test]
    fn x1_whatever_was_changed_is_refused() {
        let seals = of(&["key"], TOKENS);
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
