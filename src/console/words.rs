//! Numbers and times as people read them. Times of the day are in UTC, as in logs and in the API.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Units of time, ms, the greatest first.
const UNITS: [(i64, &str); 4] =
    [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];

/// How long: `420 ms`, `4.2 s`, `42 s`, `3 min 20 s`, `5 d 4 h`.
pub(super) fn span(ms: i64) -> String {
    let ms = ms.unsigned_abs();
    if ms < 1_000 {
        return format!("{ms} ms");
    }
    if ms < 10_000 {
        return match ms / 100 % 10 {
            0 => format!("{} s", ms / 1_000),
            tenths => format!("{}.{tenths} s", ms / 1_000),
        };
    }
    let mut parts = Vec::new();
    let mut left = i64::try_from(ms).unwrap_or(i64::MAX);
    for (unit, name) in UNITS {
        let count = left / unit;
        left %= unit;
        match (count, parts.len()) {
            (0, 0) => {}
            // Two neighbouring units tell enough.
            (0, _) => break,
            _ => parts.push(format!("{count} {name}")),
        }
        if parts.len() == 2 {
            break;
        }
    }
    parts.join(" ")
}

/// How long, where less than a millisecond counts: `0.4 ms`.
pub(super) fn short_span(ms: f64) -> String {
    if ms < 9.95 {
        return format!("{ms:.1} ms");
    }
    format!("{ms:.0}").parse::<i64>().map_or_else(|_| format!("{ms} ms"), span)
}

/// How long ago, or how soon.
pub(super) fn distance(at_ms: i64, now_ms: i64) -> String {
    let ms = at_ms.saturating_sub(now_ms);
    match ms {
        -999..=999 => "now".to_owned(),
        1_000.. => format!("in {}", span(rounded(ms))),
        _ => format!("{} ago", span(rounded(ms))),
    }
}

/// How long something has gone on, as little as it flickers.
pub(super) fn length(ms: i64) -> String {
    span(rounded(ms.max(1_000)))
}

/// To whole seconds, so that a time does not flicker between refreshes.
fn rounded(ms: i64) -> i64 {
    if ms.abs() < 60_000 { ms / 1_000 * 1_000 } else { ms / 60_000 * 60_000 }
}

/// The time in UTC: `2026-11-26 04:53:01`. What no calendar has stays a number.
pub(super) fn clock(at_ms: i64) -> String {
    zoned(at_ms, "%Y-%m-%d %H:%M:%S")
}

/// The same to the minute, for an input of a form: `2026-11-26T04:53`.
pub(super) fn input(at_ms: i64) -> String {
    zoned(at_ms, "%Y-%m-%dT%H:%M")
}

/// The time of the day: `04:53`.
pub(super) fn of_day(at_ms: i64) -> String {
    zoned(at_ms, "%H:%M")
}

/// For programs: RFC 3339.
pub(super) fn rfc3339(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| at.to_string())
}

fn zoned(at_ms: i64, form: &str) -> String {
    let at = Timestamp::from_millisecond(at_ms);
    at.map_or_else(
        |_| at_ms.to_string(),
        |at| at.to_zoned(TimeZone::UTC).strftime(form).to_string(),
    )
}

/// Reads what an input for a time of a form sends, in UTC.
pub(super) fn from_input(text: &str) -> Option<i64> {
    let text = text.trim();
    let seconds = if text.len() == "2026-11-26T04:53".len() { ":00" } else { "" };
    let zone = if text.ends_with('Z') || text.contains('+') { "" } else { "Z" };
    let at: Timestamp = format!("{text}{seconds}{zone}").parse().ok()?;
    Some(at.as_millisecond())
}

/// A count with its thousands apart: `1,204`.
pub(super) fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut told = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    if number < 0 { format!("-{told}") } else { told }
}

/// `1 run`, `2 runs`.
pub(super) fn counted(number: i64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `812 B`, `1.2 MB`.
pub(super) fn bytes(number: i64) -> String {
    let mut tenths = number.max(0).saturating_mul(10);
    if tenths < 10_000 {
        return format!("{number} B");
    }
    for unit in ["kB", "MB", "GB", "TB"] {
        tenths /= 1_000;
        if tenths < 10_000 || unit == "TB" {
            return match tenths {
                0..100 => format!("{}.{} {unit}", tenths / 10, tenths % 10),
                _ => format!("{} {unit}", tenths / 10),
            };
        }
    }
    String::new()
}

/// The name out of a node's id, without which life of it.
pub(super) fn node_name(id: &str) -> &str {
    id.split_once('#').map_or(id, |(name, _)| name)
}

/// A word of the API as people write it: `self_fenced` is `self fenced`.
pub(super) fn plain(word: &str) -> String {
    word.replace('_', " ")
}

/// No more than so many characters of a text, with a sign that there is more.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_true() {
        for (ms, told) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (4_250, "4.2 s"),
            (42_999, "42 s"),
            (60_000, "1 min"),
            (200_000, "3 min 20 s"),
            (3_600_000, "1 h"),
            (3_605_000, "1 h"),
            (446_400_000, "5 d 4 h"),
            (-4_250, "4.2 s"),
        ] {
            assert_eq!(span(ms), told, "{ms}");
        }
    }

    #[test]
    fn short_spans_have_one_digit_behind_the_point() {
        for (ms, told) in [(0.0, "0.0 ms"), (0.412, "0.4 ms"), (9.96, "10 ms"), (4_250.0, "4.2 s")]
        {
            assert_eq!(short_span(ms), told);
        }
    }

    #[test]
    fn distances_say_the_direction() {
        for (at, told) in [
            (10_000_500, "now"),
            (10_003_900, "in 3 s"),
            (9_996_000, "4 s ago"),
            (9_000_000, "16 min ago"),
            (17_300_000, "in 2 h 1 min"),
        ] {
            assert_eq!(distance(at, 10_000_000), told);
        }
    }

    #[test]
    fn times_are_in_utc_and_read_back() {
        assert_eq!(clock(1_700_000_000_250), "2023-11-14 22:13:20");
        assert_eq!(of_day(1_700_000_000_250), "22:13");
        assert_eq!(input(1_700_000_000_250), "2023-11-14T22:13");
        assert_eq!(from_input("2023-11-14T22:13"), Some(1_699_999_980_000));
        assert_eq!(from_input("2023-11-14T22:13:20.5"), Some(1_700_000_000_500));
        assert_eq!(from_input("2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        assert_eq!(from_input("2023-11-14T23:13:20+01:00"), Some(1_700_000_000_000));
        assert_eq!(from_input("yesterday"), None);
        assert_eq!(clock(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn counts_and_bytes() {
        assert_eq!(
            [count(0), count(999), count(1_204), count(-12_345_678)],
            ["0", "999", "1,204", "-12,345,678"]
        );
        assert_eq!(counted(1, "run", "runs"), "1 run");
        assert_eq!(counted(1_000, "run", "runs"), "1,000 runs");
        for (number, told) in [(0, "0 B"), (999, "999 B"), (1_234, "1.2 kB"), (45_000_000, "45 MB")]
        {
            assert_eq!(bytes(number), told);
        }
        assert!(bytes(i64::MAX).ends_with(" TB"));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüx", 3), "äöü…");
        assert_eq!((node_name("a#1"), node_name("a")), ("a", "a"));
    }
}
