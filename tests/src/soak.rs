//! Tests that are the same on any day but for their size.

/// How often a fault is repeated, or how much of something there is: the long form is for soak runs (`UNDERSTUDY_SOAK=1`,
/// `make soak`), the short form runs always.
pub fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("UNDERSTUDY_SOAK").is_some_and(|value| value == "1") { long } else { short }
}
