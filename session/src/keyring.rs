//! The keys that sign session cookies, and the cookie's value itself.
//!
//! A cookie is `locator.secret`, 66 characters: 16 random bytes name the session; of the secret's 32 bytes 16 are random
//! and 16 are a signature (HMAC-SHA256, cut to 128 bits) over locator and random part. The signature lets a node
//! throw forged cookies away without asking a store. What opens the session is the random part, of which only the
//! SHA-256 is kept anywhere; so whoever reads the store cannot make a cookie, and neither can whoever has a key.
//!
//! Keys rotate without a logout: the first key of the list *that all living nodes know* signs, all verify, and a cookie
//! signed by another key than that is signed anew when it is used.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use understudy_runtime::membership::SESSION_KEYS;
use understudy_runtime::secret::Secret;

use crate::record::{Locator, SecretHash};

/// Length of a cookie's value: 22 characters, a dot, 43 characters.
const LENGTH: usize = 66;

/// The keys of a node, in the order in which they are to sign.
#[derive(Clone)]
pub struct KeyRing {
    keys: Arc<[Key]>,
    signing: Arc<AtomicUsize>,
}

struct Key {
    mac: Hmac<Sha256>,
    fingerprint: String,
}

/// The random half of a cookie's secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretBytes([u8; 16]);

impl SecretBytes {
    /// Draws a new one.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Gives the hash that is kept in place of it.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.0).into())
    }
}

/// A cookie whose signature is right.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Which session.
    pub locator: Locator,
    /// What opens it, if the record agrees.
    pub secret: SecretBytes,
    /// Whether it is to be signed anew: another key signs now.
    pub outdated: bool,
}

impl KeyRing {
    /// Makes a ring; the first key signs until [`Self::agree`] says otherwise. Without any key it makes a random one,
    /// whose cookies end with the process.
    #[must_use]
    pub fn new(secrets: &[Secret<String>]) -> Self {
        let mut keys: Vec<Key> = secrets.iter().map(Key::new).collect();
        if keys.is_empty() {
            keys.push(Key::new(&Secret::new(
                rand::random::<[u64; 4]>().map(|part| format!("{part:016x}")).concat(),
            )));
        }
        Self { keys: keys.into(), signing: Arc::new(AtomicUsize::new(0)) }
    }

    /// Gives what may be shown of the keys, so that nodes can tell whether they have them in common.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.fingerprint.clone()).collect()
    }

    /// Signs from now on with the first key that every node of `others` knows, given their fingerprints; with the
    /// first of all if there is none. Gives false in that case: some node cannot read this node's cookies.
    pub fn agree<'a>(&self, others: &(impl Iterator<Item = &'a [String]> + Clone)) -> bool {
        let common = self
            .keys
            .iter()
            .position(|key| others.clone().all(|known| known.contains(&key.fingerprint)));
        self.signing.store(common.unwrap_or(0), Ordering::Relaxed);
        common.is_some()
    }

    /// Writes the cookie's value.
    #[must_use]
    pub fn seal(&self, locator: Locator, secret: SecretBytes) -> String {
        let key = &self.keys[self.signing.load(Ordering::Relaxed)];
        let mut bytes = [0_u8; 32];
        bytes[..16].copy_from_slice(&secret.0);
        bytes[16..].copy_from_slice(&key.sign(locator, secret));
        format!("{locator}.{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a cookie's value; `None` when it has another form or no key of the ring signed it.
    #[must_use]
    pub fn open(&self, value: &str) -> Option<Opened> {
        if value.len() != LENGTH {
            return None;
        }
        let (locator, rest) = value.split_once('.')?;
        let locator: Locator = locator.parse().ok()?;
        let mut bytes = [0_u8; 32];
        if !matches!(URL_SAFE_NO_PAD.decode_slice(rest, &mut bytes), Ok(32)) {
            return None;
        }
        let (random, signature) = bytes.split_at(16);
        let secret = SecretBytes(random.try_into().ok()?);
        let signing = self.signing.load(Ordering::Relaxed);
        let by =
            |number: usize| bool::from(self.keys[number].sign(locator, secret).ct_eq(signature));
        if by(signing) {
            return Some(Opened { locator, secret, outdated: false });
        }
        (0..self.keys.len()).any(|number| number != signing && by(number)).then_some(Opened {
            locator,
            secret,
            outdated: true,
        })
    }
}

impl Key {
    fn new(secret: &Secret<String>) -> Self {
        let mac = Hmac::new_from_slice(secret.expose().as_bytes())
            .expect("HMAC takes a key of any length");
        Self { mac, fingerprint: secret.fingerprint(SESSION_KEYS) }
    }

    fn sign(&self, locator: Locator, secret: SecretBytes) -> [u8; 16] {
        let mut mac = self.mac.clone();
        mac.update(locator.as_bytes());
        mac.update(&secret.0);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut half = [0; 16];
        half.copy_from_slice(&full[..16]);
        half
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({:?})", self.fingerprints())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[&str]) -> KeyRing {
        KeyRing::new(&keys.iter().map(|key| Secret::new((*key).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn a_cookie_comes_back_as_it_was_sealed() {
        let ring = ring(&["a"]);
        let (locator, secret) = (Locator::random(), SecretBytes::random());
        let value = ring.seal(locator, secret);
        assert_eq!(value.len(), LENGTH);
        let opened = ring.open(&value).unwrap();
        assert_eq!((opened.locator, opened.secret, opened.outdated), (locator, secret, false));
    }

    #[test]
    fn s4_every_single_changed_character_is_refused() {
        let ring = ring(&["a"]);
        let value = ring.seal(Locator::random(), SecretBytes::random());
        for at in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(ring.open(&changed).is_none(), "position {at}");
        }
        for other in ["", ".", "a.b", &value[1..], &format!("{value}A"), &"ä".repeat(33)] {
            assert!(ring.open(other).is_none());
        }
    }

    #[test]
    fn g5_a_new_key_in_front_logs_nobody_out_and_signs_once_all_know_it() {
        let (old, new) = (ring(&["old"]), ring(&["new", "old"]));
        let value = old.seal(Locator::random(), SecretBytes::random());
        assert!(new.open(&value).unwrap().outdated, "verifies, to be signed anew");
        assert!(new.agree(&[old.fingerprints().as_slice()].into_iter()), "both know the old key");
        let value = new.seal(Locator::random(), SecretBytes::random());
        assert!(old.open(&value).is_some(), "so the node that was not restarted yet can read it");
        assert!(new.agree(&[new.fingerprints().as_slice()].into_iter()));
        let value = new.seal(Locator::random(), SecretBytes::random());
        assert!(old.open(&value).is_none());
        assert!(
            !ring(&["other"]).agree(&[old.fingerprints().as_slice()].into_iter()),
            "nothing in common is told"
        );
    }
}
