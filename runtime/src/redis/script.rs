//! A Lua script as a named constant: its text, and the hash under which Redis knows it.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use fred::bytes_utils::Str;
use metrics::Histogram;

/// A script that lives as long as the program; made in a `LazyLock` static, next to the `.lua` file it includes.
///
/// The hash is worked out once, and calling the script copies neither the hash nor the text.
pub struct Script {
    name: &'static str,
    hash: Str,
    source: Str,
    latency: OnceLock<Histogram>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script({})", self.name)
    }
}

impl Script {
    /// Makes a script. The name appears in errors, traces and metrics.
    #[must_use]
    pub fn new(name: &'static str, source: &'static str) -> Self {
        Self {
            name,
            hash: Str::from(fred::util::sha1_hash(source)),
            // Text that is a literal is UTF-8, so this cannot fall back to the empty script.
            source: Str::from_inner(Bytes::from_static(source.as_bytes())).unwrap_or_default(),
            latency: OnceLock::new(),
        }
    }

    /// Returns the name given at the beginning.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn hash(&self) -> Str {
        self.hash.clone()
    }

    /// Returns where its round trips are measured; looked up once, since this is on the way of every write.
    pub(super) fn latency(&self) -> &Histogram {
        self.latency.get_or_init(
            || metrics::histogram!("understudy_redis_script_seconds", "script" => self.name),
        )
    }

    pub(super) fn source(&self) -> Str {
        self.source.clone()
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
}
