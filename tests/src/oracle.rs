//! The figures a test stands for: printed whether it passes or not, then asserted.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use crate::processors;

/// Prints one figure beside what it must be, then asserts it.
///
/// `oracle!("lost acknowledged increments", lost, 0)` demands equality;
/// `oracle!("keys left", keys, <= 50)` compares; `oracle!("ready again after, ms", took, within 2_000)` compares a time in ms and
/// allows for what was waited for a processor meanwhile, see `processors.rs`. The line goes to standard error past
/// the capture of the test runner, so that a run of the suite is also a report.
#[macro_export]
macro_rules! oracle {
    ($what:expr, $value:expr, <= $limit:expr $(,)?) => {{
        let (value, limit) = (&$value, &$limit);
        $crate::oracle::report($what, value, "at most", limit);
        assert!(value <= limit, "{}: {value}, must be at most {limit}", $what);
    }};
    ($what:expr, $value:expr, >= $limit:expr $(,)?) => {{
        let (value, limit) = (&$value, &$limit);
        $crate::oracle::report($what, value, "at least", limit);
        assert!(value >= limit, "{}: {value}, must be at least {limit}", $what);
    }};
    ($what:expr, $value:expr, within $limit:expr $(,)?) => {
        $crate::oracle::within($what, $crate::oracle::ms($value), $crate::oracle::ms($limit))
    };
    ($what:expr, $value:expr, $expected:expr $(,)?) => {{
        let (value, expected) = (&$value, &$expected);
        $crate::oracle::report($what, value, "expected", expected);
        assert_eq!(value, expected, "{}", $what);
    }};
}

/// Milliseconds, in whatever type somebody has them.
#[must_use]
pub fn ms<T: TryInto<u64>>(ms: T) -> u64 {
    ms.try_into().ok().expect("milliseconds that fit into 64 bits")
}

/// [`oracle!`](crate::oracle!) with `within`: both in ms.
pub fn within(what: &str, took: u64, limit: u64) {
    let waited = processors::waited_within(Duration::from_millis(took)).as_millis();
    let allowed = limit + ms(waited).min(limit);
    let relation = format!("at most {limit}, and what was waited for processors in such a time:");
    report(what, &took, &relation, &waited);
    assert!(
        took <= allowed,
        "{what}: {took}, must be at most {limit}, and {allowed} with what was waited for processors"
    );
}

/// Writes the line of [`oracle!`](crate::oracle!); a lost line of a report is no failure.
pub fn report(what: &str, value: &dyn Display, relation: &str, limit: &dyn Display) {
    let test = std::thread::current();
    let test = test.name().unwrap_or("?").to_owned();
    note(&format!("{test}: {what}: {value} ({relation} {limit})"));
}

/// Prints one line past the capture of the test runner.
pub fn note(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "  oracle  {line}"));
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_compares_in_four_ways() {
        oracle!("harness self-test", 0, 0);
        oracle!("harness self-test", 4, <= 5);
        oracle!("harness self-test", 6.5, >= 5.0);
        oracle!("harness self-test, ms", 5_u128, within 5);
    }

    #[test]
    #[should_panic(expected = "must be at most 100, and 1")]
    fn it_never_allows_more_than_twice_the_time() {
        oracle!("too late, ms", 201_u64, within 100_u64);
    }

    #[test]
    #[should_panic(expected = "lost increments")]
    fn it_fails_the_test_when_the_figure_is_wrong() {
        oracle!("lost increments", 3, 0);
    }
}
