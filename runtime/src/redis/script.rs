//! A Lua script as a named constant: its text, and the hash under which Redis knows it.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use fred::bytes_utils::Str;
use fred::util::static_str;
use metrics::Histogram;

/// What a script that must run on a full server begins with, since Redis 7.
const EVEN_WHEN_FULL: &str = "#!lua flags=allow-oom\n";

/// A script that lives as long as the program; made in a `LazyLock` static, next to the `.lua` file it includes.
///
/// The hash is worked out once, and calling the script copies neither the hash nor the text.
pub struct Script {
    name: &'static str,
    text: Text,
    /// The same for Redis 6, which does not understand the first line of the other.
    plain: Option<Text>,
    use_plain: AtomicBool,
    latency: OnceLock<Histogram>,
}

/// A text and its hash.
struct Text {
    hash: Str,
    source: Str,
}

impl Text {
    fn new(source: impl Into<Str>) -> Self {
        let source = source.into();
        Self { hash: Str::from(fred::util::sha1_hash(&source)), source }
    }
}

impl Script {
    /// Makes a script. The name appears in errors, traces and metrics.
    #[must_use]
    pub fn new(name: &'static str, source: &'static str) -> Self {
        Self::of(name, Text::new(static_str(source)), None)
    }

    /// Makes a script that runs although the server is full (`maxmemory`), from Redis 7 on: for what is small and
    /// must not fail then, such as keeping or giving up a lease.
    #[must_use]
    pub fn even_when_full(name: &'static str, source: &'static str) -> Self {
        let text = Text::new(format!("{EVEN_WHEN_FULL}{source}"));
        Self::of(name, text, Some(Text::new(static_str(source))))
    }

    fn of(name: &'static str, text: Text, plain: Option<Text>) -> Self {
        Self { name, text, plain, use_plain: AtomicBool::new(false), latency: OnceLock::new() }
    }

    /// Returns the name given at the beginning.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn hash(&self) -> Str {
        self.text().hash.clone()
    }

    pub(super) fn source(&self) -> Str {
        self.text().source.clone()
    }

    /// Returns where its round trips are measured; looked up once, since this is on the way of every write.
    pub(super) fn latency(&self) -> &Histogram {
        self.latency.get_or_init(
            || metrics::histogram!("understudy_redis_script_seconds", "script" => self.name),
        )
    }

    /// Judges a refusal; returns whether the script can be sent again in a form that an old server understands.
    pub(super) fn falls_back(&self, refusal: &str) -> bool {
        let first_line = refusal.contains("compiling script") && refusal.contains("near '#'");
        let changed = first_line && self.plain.is_some();
        changed && !self.use_plain.swap(true, Ordering::Relaxed)
    }

    fn text(&self) -> &Text {
        match &self.plain {
            Some(plain) if self.use_plain.load(Ordering::Relaxed) => plain,
            _ => &self.text,
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_the_hash_redis_computes() {
        let script = Script::new("one", "return 1");
        assert_eq!(&*script.hash(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(&*script.source(), "return 1");
        assert_eq!(script.name(), "one");
    }

    #[test]
    fn an_old_server_is_sent_what_it_understands() {
        let script = Script::even_when_full("one", "return 1");
        assert_eq!(&*script.source(), "#!lua flags=allow-oom\nreturn 1");
        assert!(!script.falls_back("OOM command not allowed"));
        let refusal =
            "ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'";
        assert!(script.falls_back(refusal));
        assert_eq!(&*script.source(), "return 1");
        assert_eq!(&*script.hash(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert!(!script.falls_back(refusal), "once is enough");
        assert!(!Script::new("one", "# 1").falls_back(refusal));
    }
}
