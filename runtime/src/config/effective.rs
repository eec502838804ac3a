//! The options in effect, as text: for people, without secrets, and as a fingerprint by which nodes compare.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::registry;

const STARS: &str = "******";

/// What is in effect, by variable.
#[derive(Debug, Clone, Default)]
pub(super) struct Effective(BTreeMap<&'static str, Shown>);

/// One option as it may be shown, and as it counts when nodes compare.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    text: String,
    /// In place of the text when that does not tell all.
    digest: Option<String>,
}

impl Shown {
    pub(super) fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), digest: None }
    }

    pub(super) fn secret(value: Option<&str>) -> Self {
        Self::masked(if value.is_some() { STARS } else { "" }, value)
    }

    pub(super) fn masked(text: &str, secret: Option<&str>) -> Self {
        Self { text: text.to_owned(), digest: secret.map(sha256_hex) }
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

    /// 16 hexadecimal digits over all options that should be the same on every node.
    pub(super) fn fingerprint(&self) -> String {
        let mut lines = String::new();
        for (name, shown) in &self.0 {
            if registry::find(name).is_some_and(|variable| !variable.node_local) {
                let value = shown.digest.as_ref().unwrap_or(&shown.text);
                lines.push_str(&format!("{name}={value}\n"));
            }
        }
        let mut fingerprint = sha256_hex(&lines);
        fingerprint.truncate(16);
        fingerprint
    }
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
