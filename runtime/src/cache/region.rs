//! What an application says of a region of its cache, and by what its values are found.

use std::borrow::Cow;
use std::time::Duration;

/// The longest key, bytes.
pub const LONGEST_KEY: usize = 512;
/// How long Redis may take, beside loading a value, before whoever waits for it gives up.
const BESIDE_LOADING: Duration = Duration::from_secs(3);
/// The longest time that a value may live, seconds: a year. Redis counts it in ms, and refuses numbers that are too large.
const LONGEST_LIFE: u64 = 366 * 86_400;
/// The longest time that a node may wait for another one, seconds.
const LONGEST_WAIT: u64 = 300;
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
    absent: Option<Duration>,
    stale: Duration,
    soft: Option<Duration>,
    hard: Option<Duration>,
    /// From how many hundredths of its life on a value is loaded anew; 100: not before its end.
    refresh: u8,
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
            absent: None,
            stale: Duration::ZERO,
            soft: None,
            hard: None,
            refresh: 100,
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
    /// When it is not 1 s to 366 days: in a constant that is an error of the compiler.
    #[must_use]
    pub const fn lives(mut self, time: Duration) -> Self {
        assert!(is_life(time), "values live for 1 s to 366 days");
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
    ///
    /// # Panics
    /// When it is more than 5 min: in a constant that is an error of the compiler.
    #[must_use]
    pub const fn waits(mut self, time: Duration) -> Self {
        assert!(time.as_secs() <= LONGEST_WAIT, "a node waits for 5 min at most");
        self.wait = time;
        self
    }

    /// How long it is remembered that something is not there: a value whose JSON is `null`, as that of `None` is. As long as
    /// all values live when this is not said.
    ///
    /// # Panics
    /// When it is not 1 s to 366 days: in a constant that is an error of the compiler.
    #[must_use]
    pub const fn absent_lives(mut self, time: Duration) -> Self {
        assert!(is_life(time), "values live for 1 s to 366 days");
        self.absent = Some(time);
        self
    }

    /// For how long after its life [`get_or_stale`](super::Cache::get_or_stale) may still give a value, where it cannot be loaded
    /// or that takes longer than the [soft limit](Self::soft_limit). Not at all when this is not said.
    #[must_use]
    pub const fn stale_for(mut self, time: Duration) -> Self {
        self.stale = time;
        self
    }

    /// After how long [`get_or_stale`](super::Cache::get_or_stale) gives a stale value, if there is one, while a new one is loaded.
    #[must_use]
    pub const fn soft_limit(mut self, limit: Duration) -> Self {
        self.soft = Some(limit);
        self
    }

    /// After how long [`get_or_stale`](super::Cache::get_or_stale) gives an error while the value is loaded, which goes on for
    /// as long as [`load_limit`](Self::load_limit) allows.
    #[must_use]
    pub const fn hard_limit(mut self, limit: Duration) -> Self {
        self.hard = Some(limit);
        self
    }

    /// From how many hundredths of its life on a value is loaded anew by the first who asks for it with
    /// [`get_or_stale`](super::Cache::get_or_stale), who need not wait for that: `refreshes_from(80)`, say.
    ///
    /// # Panics
    /// When it is not 1 to 99: in a constant that is an error of the compiler.
    #[must_use]
    pub const fn refreshes_from(mut self, percent: u8) -> Self {
        assert!(matches!(percent, 1..=99), "loaded anew from 1 to 99 hundredths of a life on");
        self.refresh = percent;
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

    pub(super) const fn limit(&self) -> Duration {
        self.load_limit
    }

    pub(super) const fn patience(&self) -> Duration {
        self.wait
    }

    /// How long a value lives at most that has this JSON.
    pub(super) fn life_of(&self, text: &str) -> Duration {
        if text == "null" { self.absent.unwrap_or(self.lives) } else { self.lives }
    }

    /// How long any value lives at most.
    pub(super) fn longest_life(&self) -> Duration {
        self.lives.max(self.absent.unwrap_or_default())
    }

    pub(super) const fn stale(&self) -> Duration {
        self.stale
    }

    pub(super) const fn soft(&self) -> Option<Duration> {
        self.soft
    }

    /// How long somebody waits at most for a value that is loaded by somebody else.
    pub(super) fn hard(&self) -> Duration {
        let longest = self.load_limit.saturating_add(self.wait).saturating_add(BESIDE_LOADING);
        self.hard.unwrap_or(longest)
    }

    /// How much of a life is left when a value is to be loaded anew; nothing where none is before its end.
    pub(super) fn rest_when_due(&self, life: Duration) -> Option<Duration> {
        let rest = 100_u32.saturating_sub(u32::from(self.refresh));
        (rest > 0).then(|| life / 100 * rest)
    }

    /// Whether values are loaded while nobody need wait for them.
    pub(super) fn loads_in_background(&self) -> bool {
        let limited = self.soft.is_some() || self.hard.is_some();
        limited || self.refresh < 100 || !self.stale.is_zero()
    }
}

/// Whether values may live for so long.
const fn is_life(time: Duration) -> bool {
    matches!(time.as_secs(), 1..=LONGEST_LIFE)
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
    fn values_live_for_a_second_to_a_year() {
        for seconds in [1, 60, LONGEST_LIFE] {
            assert!(is_life(Duration::from_secs(seconds)), "{seconds}");
        }
        for time in [Duration::ZERO, Duration::from_secs(LONGEST_LIFE + 1), Duration::MAX] {
            assert!(!is_life(time), "{time:?}");
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
