//! What an application says of a region of its cache, and by what its values are found.

use std::borrow::Cow;
use std::time::Duration;

/// The longest key, bytes.
pub const LONGEST_KEY: usize = 512;
/// The longest name of a region, bytes.
const LONGEST_NAME: usize = 40;

/// A part of the cache whose values are of one type, live equally long and are cleared together.
///
/// ```
/// use std::time::Duration;
/// use understudy_runtime::cache::Region;
///
/// const PRICES: Region = Region::new("prices").bytes(8 << 20).lives(Duration::from_secs(300));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    name: &'static str,
    bytes: u64,
    lives: Duration,
    load_limit: Duration,
    wait: Duration,
}

impl Region {
    /// Names a region: 16 MiB in the memory of each node, values live for 5 minutes, loading one takes 5 s at most, and while
    /// another node loads it a node waits for 1 s.
    ///
    /// A release whose values have another form takes another name: nodes of two releases share what is of one name.
    ///
    /// # Panics
    /// When the name is not made of 1 to 40 of `a-z 0-9 _ -`: in a constant that is an error of the compiler.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(is_name(name), "the name of a region is 1 to 40 of a-z 0-9 _ -");
        Self {
            name,
            bytes: 16 << 20,
            lives: Duration::from_secs(300),
            load_limit: Duration::from_secs(5),
            wait: Duration::from_secs(1),
        }
    }

    /// How much it may hold in the memory of a node: keys, and values as JSON, with about 128 bytes more for each.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// How long a value lives when nobody changes it; a tenth less for some, so that not all end at once.
    ///
    /// # Panics
    /// When it is less than a second: in a constant that is an error of the compiler.
    #[must_use]
    pub const fn lives(mut self, time: Duration) -> Self {
        assert!(time.as_secs() >= 1, "values live for a second at least");
        self.lives = time;
        self
    }

    /// How long loading a value may take; then whoever waits for it gets an error.
    ///
    /// # Panics
    /// When it is not 1 ms to 5 min: in a constant that is an error of the compiler.
    #[must_use]
    pub const fn load_limit(mut self, limit: Duration) -> Self {
        assert!(limit.as_millis() >= 1 && limit.as_secs() <= 300, "loading takes 1 ms to 5 min");
        self.load_limit = limit;
        self
    }

    /// How long a node waits while another one loads a value, before it loads it too and keeps it for nobody.
    #[must_use]
    pub const fn waits(mut self, time: Duration) -> Self {
        self.wait = time;
        self
    }

    /// Returns its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) const fn max_bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn life(&self) -> Duration {
        self.lives
    }

    pub(super) const fn limit(&self) -> Duration {
        self.load_limit
    }

    pub(super) const fn patience(&self) -> Duration {
        self.wait
    }
}

/// Whether a text can be the name of a region.
const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > LONGEST_NAME {
        return false;
    }
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-') {
            return false;
        }
        at += 1;
    }
    true
}

/// What a value is found by: a text, a number, or a type of the application that has a text.
///
/// The text is legible in Redis and for operators; of a key that is nobody's business give a hash.
pub trait CacheKey {
    /// Returns the text: of two keys that are not the same, never the same.
    fn text(&self) -> Cow<'_, str>;
}

impl CacheKey for str {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl CacheKey for String {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

macro_rules! numbers_are_keys {
    ($($number:ty)*) => {$(
        impl CacheKey for $number {
            fn text(&self) -> Cow<'_, str> {
                Cow::Owned(self.to_string())
            }
        }
    )*};
}

numbers_are_keys!(i32 i64 i128 u32 u64 u128 usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_regions_are_plain() {
        assert!(is_name("prices-2_b"));
        for name in ["", "Prices", "a b", "a:b", "a{b}", "ü", &"a".repeat(LONGEST_NAME + 1)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn c1_keys_of_any_type_have_a_text_of_their_own() {
        assert_eq!(CacheKey::text("a/b"), "a/b");
        assert_eq!(CacheKey::text(&"a".to_owned()), "a");
        assert_eq!(CacheKey::text(&-5_i64), "-5");
        assert_eq!(CacheKey::text(&u128::MAX), "340282366920938463463374607431768211455");
    }
}
