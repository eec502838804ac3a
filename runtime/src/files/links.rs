//! Links that let whoever has one read or write one file for a while, without a session: made by the application for somebody
//! it knows, and checked by any node.
//!
//! A link is a path with what it lets do as its query, and an HMAC-SHA256 over the method, the path and the query *to the
//! letter*: `key`, `method`, `expires`, and what it lets do. A link for one upload has a number, by which the transaction that
//! gives the file its name finds that it was used ([`once`](super::once)). So there is nothing that could be read in two ways.
//! The key is named by what is derived from it, so that there may be several: the first signs, all verify.
//!
//! Of a link that is not good it is never said why, and the work is the same whatever is wrong.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::bounds::Bounds;
use super::encryption::Encryption;
use super::error::FileError;
use super::kinds::Kinds;
use super::linked::ROOT;
use super::serve::Disposition;
use super::upload::hex;
use super::{Space, naming};
use crate::clock::SharedClock;
use crate::secret::Secret;

/// How long a link is good when nothing else is said.
pub const LINK_LIFE: Duration = Duration::from_secs(300);
/// How long a link may be good at most.
pub const LINK_LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// Keeps a secret, used for this, apart from itself used for anything else.
const PURPOSE: &[u8] = b"understudy file link 1\0";
/// The method of a link for one upload. Nodes that do not know of such links yet take it for no link to write.
const ONCE: &str = "PUT-ONCE";
/// The method of a link by which files are encrypted. Nodes that do not know how take it for no link to write: they would write
/// plain files.
const ENCRYPTED: &str = "PUT-ENCRYPTED";
/// What stands before the signature.
const SIGNATURE: &str = "&signature=";

/// A link to one file.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// Path and query; [`absolute_url`](crate::http::absolute_url) makes an address of it.
    pub path: String,
    /// Until when it is good, ms since 1970.
    pub expires_ms: u64,
}

impl fmt::Debug for Link {
    /// Without the signature: who has it may use the link.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

/// What a link to read lets do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLink {
    /// How long it is good, up to [`LINK_LONGEST`].
    pub life: Duration,
    /// What becomes of a picture.
    pub disposition: Disposition,
}

impl Default for ReadLink {
    fn default() -> Self {
        Self { life: LINK_LIFE, disposition: Disposition::ByType }
    }
}

/// What a link lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// GET and HEAD.
    Read(Disposition),
    /// PUT, by these bounds, and so often.
    Write(Bounds, Uses),
}

/// How often a link lets a file be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uses {
    /// While it is good.
    Any,
    /// Until one upload by the link of this number has succeeded.
    Once(u128),
}

/// The key under which the one upload by a link is written.
pub(super) fn once_key(id: u128) -> String {
    format!("link.{id:032x}")
}

impl Grant {
    fn method(self) -> &'static str {
        match self {
            Self::Read(_) => "GET",
            Self::Write(_, Uses::Once(_)) => ONCE,
            Self::Write(bounds, Uses::Any) => match bounds.encryption {
                Encryption::Always => ENCRYPTED,
                Encryption::ByOption | Encryption::Never => "PUT",
            },
        }
    }

    /// Writes it as the last fields of a query.
    fn fields(self) -> String {
        let (bounds, uses) = match self {
            Self::Read(Disposition::ByType) => return "&as=type".to_owned(),
            Self::Read(Disposition::Save) => return "&as=file".to_owned(),
            Self::Write(bounds, uses) => (bounds, uses),
        };
        let number = |name: &str, bytes: Option<u64>| -> String {
            bytes.map(|bytes| format!("&{name}={bytes}")).unwrap_or_default()
        };
        let (most, all) = (number("most", bounds.file_bytes), number("all", bounds.space_bytes));
        let kinds = match bounds.kinds {
            Kinds::Any => "",
            Kinds::Pictures => "&kinds=pictures",
        };
        let encryption = match bounds.encryption {
            Encryption::ByOption => "",
            Encryption::Always => "&encrypted=always",
            Encryption::Never => "&encrypted=never",
        };
        let once = match uses {
            Uses::Any => String::new(),
            Uses::Once(id) => format!("&once={id:032x}"),
        };
        format!("{most}{all}{kinds}{encryption}{once}")
    }
}

impl Space {
    /// Makes a link by which whoever has it can read the file of this name, whichever it is then, without a session. There
    /// need be none yet.
    ///
    /// # Errors
    /// [`FileError::BadName`], [`FileError::BadLink`].
    pub fn link_to_read(&self, name: &str, link: ReadLink) -> Result<Link, FileError> {
        self.link(name, link.life, Grant::Read(link.disposition))
    }

    /// Makes a link by which whoever has it can write the file of this name (`PUT`), as often as they like while it is good: by
    /// the bounds of this handle ([`at_most`](Self::at_most), [`quota`](Self::quota), [`pictures_only`](Self::pictures_only),
    /// [`encrypted`](Self::encrypted)).
    ///
    /// # Errors
    /// [`FileError::BadName`], [`FileError::BadLink`].
    pub fn link_to_write(&self, name: &str, life: Duration) -> Result<Link, FileError> {
        self.link(name, life, Grant::Write(self.bounds, Uses::Any))
    }

    /// The same for one upload. Of many at once, at whichever nodes, one succeeds; the others are refused with
    /// [`LinkUsed`](FileError::LinkUsed), also when the file is deleted again. An upload that breaks off, or is refused, uses
    /// nothing up. It is not for requests with `If-Match` or `If-None-Match`.
    ///
    /// # Errors
    /// [`FileError::BadName`], [`FileError::BadLink`].
    pub fn link_to_write_once(&self, name: &str, life: Duration) -> Result<Link, FileError> {
        let uses = Uses::Once(rand::random::<u128>());
        self.link(name, life, Grant::Write(self.bounds, uses))
    }

    fn link(&self, name: &str, life: Duration, grant: Grant) -> Result<Link, FileError> {
        let (store, space) = self.entered()?;
        let name = naming::file_name(name)?;
        if life < Duration::from_secs(1) || life > LINK_LONGEST {
            return Err(FileError::BadLink { field: "life" });
        }
        let path = format!("{ROOT}/{}/{}", encoded(&space), encoded(&name));
        Ok(store.serving.signer.seal(&path, life, grant))
    }
}

/// Writes a name as one segment of a path.
fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// A request as it came, without anything decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
}

/// Makes and checks links.
pub(super) struct Signer {
    keys: Vec<Key>,
    clock: SharedClock,
}

struct Key {
    id: String,
    mac: Hmac<Sha256>,
}

impl Key {
    fn new(secret: &[u8]) -> Self {
        let derived: [u8; 32] =
            Sha256::new().chain_update(PURPOSE).chain_update(secret).finalize().into();
        let mac: Hmac<Sha256> = Hmac::new_from_slice(&derived).expect("a key may have any length");
        let named: [u8; 32] = mac.clone().chain_update(b"id").finalize().into_bytes().into();
        Self { id: hex(&named[..4]), mac }
    }

    fn sign(&self, method: &str, path: &str, query: &str) -> [u8; 32] {
        let mut mac = self.mac.clone();
        // None of them can hold a line break, so nothing of one can become a part of another.
        for part in ["link", method, path, query] {
            mac.update(part.as_bytes());
            mac.update(b"\n");
        }
        mac.finalize().into_bytes().into()
    }
}

impl Signer {
    /// Makes one: of its own secrets, else of those of the sessions, else of one that ends with the process.
    pub(super) fn new(
        own: &[Secret<String>],
        sessions: &[Secret<String>],
        clock: SharedClock,
    ) -> Self {
        let secrets = if own.is_empty() { sessions } else { own };
        let mut keys: Vec<Key> =
            secrets.iter().map(|secret| Key::new(secret.expose().as_bytes())).collect();
        if keys.is_empty() {
            let drawn: [u8; 32] = rand::random();
            keys.push(Key::new(&drawn));
        }
        Self { keys, clock }
    }

    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        Self::new(&[], &[], crate::clock::SystemClock::shared())
    }

    fn seal(&self, path: &str, life: Duration, grant: Grant) -> Link {
        // Whole seconds, up: a link is good for as long as was said.
        let expires = (self.clock.wall_ms() / 1_000).saturating_add(life.as_secs() + 1);
        let (method, fields) = (grant.method(), grant.fields());
        let key = &self.keys[0];
        let query = format!("key={}&method={method}&expires={expires}{fields}", key.id);
        let signature = URL_SAFE_NO_PAD.encode(key.sign(method, path, &query));
        let path = format!("{path}?{query}{SIGNATURE}{signature}");
        Link { path, expires_ms: expires.saturating_mul(1_000) }
    }

    /// Says what a request may do by the link that it brings.
    pub(super) fn open(&self, asked: Asked<'_>) -> Option<Grant> {
        let (query, signature) = asked.query.rsplit_once(SIGNATURE).unwrap_or((asked.query, ""));
        let fields = Fields::read(query);
        let known = self.keys.iter().find(|key| key.id == fields.key);
        // One that is not known costs what one that is costs.
        let signed = known.unwrap_or(&self.keys[0]).sign(fields.method, asked.path, query);
        let mut given = [0_u8; 32];
        let is_whole = matches!(URL_SAFE_NO_PAD.decode_slice(signature, &mut given), Ok(32));
        let is_ours = bool::from(signed.ct_eq(&given));
        let method = if asked.method == "HEAD" { "GET" } else { asked.method };
        let is_to_write = matches!(fields.method, ONCE | ENCRYPTED);
        let lets = if is_to_write { "PUT" } else { fields.method };
        let is_for_it = lets == method;
        let is_in_time = self.clock.wall_ms() < fields.expires.saturating_mul(1_000);
        let is_good = known.is_some() & is_whole & is_ours & is_for_it & is_in_time;
        fields.grant().filter(|_| is_good)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.keys.iter().map(|key| key.id.as_str()).collect();
        f.debug_struct("Signer").field("keys", &keys).finish_non_exhaustive()
    }
}

/// What a query says; nothing is believed of it before its signature was.
#[derive(Debug, Default)]
struct Fields<'a> {
    key: &'a str,
    method: &'a str,
    expires: u64,
    disposition: Option<Disposition>,
    bounds: Bounds,
    once: Option<u128>,
}

impl<'a> Fields<'a> {
    fn read(query: &'a str) -> Self {
        let mut fields = Self::default();
        for (name, value) in query.split('&').filter_map(|field| field.split_once('=')) {
            match (name, value) {
                ("key", key) => fields.key = key,
                ("method", method) => fields.method = method,
                ("expires", expires) => fields.expires = expires.parse().unwrap_or(0),
                ("as", "type") => fields.disposition = Some(Disposition::ByType),
                ("as", "file") => fields.disposition = Some(Disposition::Save),
                // What is no number lets nothing be written.
                ("most", most) => fields.bounds.file_bytes = Some(most.parse().unwrap_or(0)),
                ("all", all) => fields.bounds.space_bytes = Some(all.parse().unwrap_or(0)),
                ("kinds", _) => fields.bounds.kinds = Kinds::Pictures,
                ("encrypted", "never") => fields.bounds.encryption = Encryption::Never,
                ("encrypted", _) => fields.bounds.encryption = Encryption::Always,
                ("once", id) => fields.once = u128::from_str_radix(id, 16).ok(),
                _ => {}
            }
        }
        fields
    }

    fn grant(&self) -> Option<Grant> {
        match self.method {
            "GET" => self.disposition.map(Grant::Read),
            "PUT" | ENCRYPTED => Some(Grant::Write(self.bounds, Uses::Any)),
            ONCE => self.once.map(|id| Grant::Write(self.bounds, Uses::Once(id))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;

    const OLD: &str = "the-old-secret-of-these-tests-of-links";
    const NEW: &str = "the-new-secret-of-these-tests-of-links";
    const PATH: &str = "/files/space/na%20me";
    const BOUNDS: Bounds = Bounds {
        file_bytes: Some(7),
        space_bytes: Some(70),
        kinds: Kinds::Pictures,
        encryption: Encryption::Always,
    };

    fn signer(secrets: &[&str], clock: &Arc<ManualClock>) -> Signer {
        let secrets: Vec<Secret<String>> =
            secrets.iter().map(|secret| Secret::new((*secret).to_owned())).collect();
        let clock: SharedClock = Arc::clone(clock) as SharedClock;
        Signer::new(&secrets, &[], clock)
    }

    fn opened(signer: &Signer, method: &str, link: &str) -> Option<Grant> {
        let (path, query) = link.split_once('?').unwrap_or((link, ""));
        signer.open(Asked { method, path, query })
    }

    #[test]
    fn x5_a_link_is_good_for_what_it_says_and_until_then() {
        let clock = Arc::new(ManualClock::new());
        let signer = signer(&[NEW], &clock);
        let read = Grant::Read(Disposition::Save);
        let link = signer.seal(PATH, LINK_LIFE, read);
        assert_eq!(opened(&signer, "GET", &link.path), Some(read));
        assert_eq!(opened(&signer, "HEAD", &link.path), Some(read));
        assert_eq!(opened(&signer, "PUT", &link.path), None);
        let not = Bounds { encryption: Encryption::Never, ..BOUNDS };
        for bounds in [BOUNDS, not, Bounds::default()] {
            for uses in [Uses::Any, Uses::Once(7), Uses::Once(u128::MAX)] {
                let grant = Grant::Write(bounds, uses);
                let write = signer.seal(PATH, LINK_LIFE, grant);
                assert_eq!(opened(&signer, "PUT", &write.path), Some(grant));
                let is_known_before = write.path.contains("&method=PUT&");
                let is_as_before = bounds != BOUNDS && uses == Uses::Any;
                assert_eq!(is_known_before, is_as_before, "an earlier version writes plain files");
                for method in ["GET", "HEAD", "DELETE", ONCE, ENCRYPTED] {
                    assert_eq!(opened(&signer, method, &write.path), None, "{method}");
                }
            }
        }
        assert!(!format!("{link:?} {signer:?}").contains("signature"));
        clock.advance(LINK_LIFE);
        assert_eq!(opened(&signer, "GET", &link.path), Some(read), "for as long as was said");
        clock.advance(Duration::from_secs(2));
        assert_eq!(opened(&signer, "GET", &link.path), None);
    }

    #[test]
    fn row_18_a_link_that_was_changed_in_any_letter_is_not_good() {
        let clock = Arc::new(ManualClock::new());
        let signer = signer(&[NEW], &clock);
        let grant = Grant::Write(BOUNDS, Uses::Once(7));
        let link = signer.seal(PATH, LINK_LIFE, grant).path;
        for at in 0..link.len() {
            let mut other = link.clone().into_bytes();
            other[at] ^= 1;
            let other = String::from_utf8(other).unwrap();
            assert_eq!(opened(&signer, "PUT", &other), None, "{other}");
        }
        for (part, other) in [
            ("/files", "/Files"),
            ("%20", "%2520"),
            ("na", "n%61"),
            ("most=7&", "most=70&"),
            ("most=7&", "most=7&most=70&"),
            ("&kinds=pictures", ""),
            ("&encrypted=always", "&encrypted=never"),
            ("&encrypted=always", ""),
            ("method=PUT-ONCE", "method=PUT"),
            ("&once=", "&twice="),
            ("&signature=", "&x=y&signature="),
            ("&signature=", "&signature=&signature="),
            ("?key=", "?key=x&key="),
        ] {
            let other = link.replacen(part, other, 1);
            assert_ne!(other, link);
            assert_eq!(opened(&signer, "PUT", &other), None, "{other}");
        }
        for cut in 1..link.len() {
            assert_eq!(opened(&signer, "PUT", &link[..cut]), None);
        }
        assert_eq!(opened(&signer, "PUT", &format!("{link}A")), None);
        assert_eq!(opened(&signer, "PUT", &format!("{link}&most=70")), None);
    }

    #[test]
    fn x6_keys_of_links_are_changed_while_links_are_good() {
        let clock = Arc::new(ManualClock::new());
        let (before, between) = (signer(&[OLD], &clock), signer(&[NEW, OLD], &clock));
        let after = signer(&[NEW], &clock);
        let grant = Grant::Read(Disposition::ByType);
        let old = before.seal(PATH, LINK_LIFE, grant).path;
        let new = between.seal(PATH, LINK_LIFE, grant).path;
        assert_eq!(opened(&between, "GET", &old), Some(grant));
        assert_eq!(opened(&after, "GET", &new), Some(grant));
        assert_eq!(opened(&after, "GET", &old), None, "its key is out of the list");
        assert_eq!(opened(&before, "GET", &new), None);
        assert!(Signer::for_test().keys.len() == 1);
    }
}
