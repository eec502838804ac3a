//! The figures a test stands for: printed whether it passes or not, then asserted.

use std::fmt::Display;
use std::io::Write as _;

/// Prints one figure beside what it must be, then asserts it.
///
/// `oracle!("lost acknowledged increments", lost, 0)` demands equality;
/// `oracle!("first touch p99 in ms", p99, <= 50)` compares. The line goes to standard error past
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
    ($what:expr, $value:expr, $expected:expr $(,)?) => {{
        let (value, expected) = (&$value, &$expected);
        $crate::oracle::report($what, value, "expected", expected);
        assert_eq!(value, expected, "{}", $what);
    }};
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
    fn it_compares_in_three_ways() {
        oracle!("harness self-test", 0, 0);
        oracle!("harness self-test", 4, <= 5);
        oracle!("harness self-test", 6.5, >= 5.0);
    }

    #[test]
    #[should_panic(expected = "lost increments")]
    fn it_fails_the_test_when_the_figure_is_wrong() {
        oracle!("lost increments", 3, 0);
    }
}
