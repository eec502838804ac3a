//! The options in effect, as text: for people, without secrets, and as a fingerprint by which nodes compare.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::registry;

const STARS: &str = "******";
/// So many digits of a mark are shown to people; all of them count when nodes compare.
const SHOWN_DIGITS: usize = 8;

/// Where a value in effect comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Nobody has set it, and what it then is stands in the documentation.
    #[default]
    Default,
    /// A variable of the process.
    Environment,
    /// A file: that of a secret, or the file of variables.
    File,
    /// Nobody has set it; it was worked out from other options or from the machine.
    Derived,
}

/// One option as nodes compare it. Of a secret it holds a mark that only whoever has the key of the comparison could have
/// made, so that nobody who sees it can try out passwords.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Comparable {
    /// The value, without what is secret in it.
    pub shown: String,
    /// Of what is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
}

impl Comparable {
    /// Writes it for people: a secret as stars, with digits that are the same where the secret is.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.mark {
            Some(mark) => {
                let digits: String = mark.chars().take(SHOWN_DIGITS).collect();
                format!("{} {digits}", self.shown).trim_start().to_owned()
            }
            None => self.shown.clone(),
        }
    }
}

/// What is in effect, by variable.
#[derive(Debug, Clone, Default)]
pub(super) struct Effective(BTreeMap<&'static str, Shown>);

/// One option as it may be shown, and as it counts when nodes compare.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    text: String,
    /// In place of the text when that does not tell all.
    digest: Option<String>,
    source: Source,
}

impl Shown {
    pub(super) fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), digest: None, source: Source::Default }
    }

    pub(super) fn secret(value: Option<&str>) -> Self {
        Self::masked(if value.is_some() { STARS } else { "" }, value)
    }

    pub(super) fn masked(text: &str, secret: Option<&str>) -> Self {
        let digest = secret.map(sha256_hex);
        Self { text: text.to_owned(), digest, source: Source::Default }
    }

    fn comparable(&self, key: &[u8], name: &str) -> Comparable {
        // A URL in which nothing had to be hidden tells all by itself.
        let hidden = self.digest.as_ref().filter(|digest| **digest != sha256_hex(&self.text));
        let mark = hidden.map(|digest| mark(key, name, digest));
        Comparable { shown: self.text.clone(), mark }
    }
}

impl Effective {
    pub(super) fn insert(&mut self, name: &'static str, shown: Shown) {
        self.0.insert(name, shown);
    }

    /// Each variable with its value; secrets as stars.
    pub(super) fn redacted(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(name, shown)| ((*name).to_owned(), shown.text.clone())).collect()
    }

    /// Says of each where it comes from; `given` tells it of those that the operator has set.
    pub(super) fn trace(&mut self, given: impl Fn(&str) -> Option<Source>) {
        for (name, shown) in &mut self.0 {
            let default = registry::find(name).map_or("", |variable| variable.default);
            let otherwise = if shown.text == default { Source::Default } else { Source::Derived };
            shown.source = given(name).unwrap_or(otherwise);
        }
    }

    /// Where each comes from.
    pub(super) fn sources(&self) -> BTreeMap<String, Source> {
        self.0.iter().map(|(name, shown)| ((*name).to_owned(), shown.source)).collect()
    }

    /// Those that should be the same on every node, as nodes compare them under a key of whoever asks.
    pub(super) fn comparable(&self, key: &[u8]) -> BTreeMap<String, Comparable> {
        let shared = self.0.iter().filter(|(name, _)| is_shared(name));
        shared.map(|(name, shown)| ((*name).to_owned(), shown.comparable(key, name))).collect()
    }

    /// 16 hexadecimal digits over all options that should be the same on every node.
    pub(super) fn fingerprint(&self) -> String {
        let mut lines = String::new();
        for (name, shown) in &self.0 {
            if is_shared(name) {
                let value = shown.digest.as_ref().unwrap_or(&shown.text);
                lines.push_str(&format!("{name}={value}\n"));
            }
        }
        let mut fingerprint = sha256_hex(&lines);
        fingerprint.truncate(16);
        fingerprint
    }
}

fn is_shared(name: &str) -> bool {
    registry::find(name).is_some_and(|variable| !variable.node_local)
}

fn mark(key: &[u8], name: &str, digest: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    for part in [name, "\0", digest] {
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hides who logs in, and everything behind a `?`, where drivers take passwords too.
pub(super) fn masked_url(url: &str) -> String {
    let (scheme, rest) =
        url.split_once("://").map_or(("", url), |(_, rest)| url.split_at(url.len() - rest.len()));
    let shown = rest.split(['?', '#']).next().unwrap_or_default();
    if shown.len() < rest.len() && rest[shown.len()..].contains('@') {
        return format!("{scheme}{STARS}"); // cannot tell a query from a password that should have been escaped
    }
    match shown.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}{STARS}@{host}"),
        None => format!("{scheme}{shown}"),
    }
}

fn sha256_hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g1_secrets_are_compared_by_marks_that_only_the_asker_understands() {
        let of = |secret: &str, key: &[u8]| {
            let mut effective = Effective::default();
            effective.insert("UNDERSTUDY_SESSION_SECRET", Shown::secret(Some(secret)));
            effective.insert("UNDERSTUDY_SESSION_IDLE_S", Shown::plain("60"));
            let url = format!("redis://{secret}@h");
            effective.insert("UNDERSTUDY_REDIS_URL", Shown::masked(&masked_url(&url), Some(&url)));
            effective.insert("UNDERSTUDY_NODE_ID", Shown::plain("a"));
            effective.comparable(key)
        };
        let (one, other) = (of("hunter2", b"k"), of("hunter3", b"k"));
        assert_eq!(one, of("hunter2", b"k"));
        assert_eq!(one.len(), 3, "what belongs to the node is left out");
        for name in ["UNDERSTUDY_SESSION_SECRET", "UNDERSTUDY_REDIS_URL"] {
            assert_ne!(one[name], other[name]);
            assert_ne!(one[name], of("hunter2", b"another key")[name]);
            let text = one[name].text();
            assert!(text.contains(STARS) && !text.contains("hunter"), "{text}");
        }
        assert_ne!(
            one["UNDERSTUDY_SESSION_SECRET"].mark, one["UNDERSTUDY_REDIS_URL"].mark,
            "the same secret for two things does not look the same"
        );
        let idle = &one["UNDERSTUDY_SESSION_IDLE_S"];
        assert_eq!((idle.text().as_str(), &idle.mark), ("60", &None));
        let open = Shown::masked("redis://h:1", Some("redis://h:1"));
        assert_eq!(open.comparable(b"k", "UNDERSTUDY_REDIS_URL").text(), "redis://h:1");
    }

    #[test]
    fn x4_a_url_is_shown_without_credentials() {
        for (url, shown) in [
            ("postgres://u:p@h/db?password=x", "postgres://******@h/db"),
            ("postgres://u:p@ss@h/db", "postgres://******@h/db"),
            ("postgres://u:p?q@h/db", "postgres://******"),
            ("postgres://h/db?password=a@b", "postgres://******"),
            ("redis://h:6379/1", "redis://h:6379/1"),
            ("u:p@h", "******@h"),
        ] {
            assert_eq!(masked_url(url), shown);
        }
    }
}
