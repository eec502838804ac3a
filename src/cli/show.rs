//! How single values are written for people: times, durations, sizes, states.

use jiff::Timestamp;
use serde_json::Value;

use super::paper::{Cell, Style};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// A text, a number, or a list of them.
    Text,
    /// A name that stands out.
    Name,
    /// A moment in ms since 1970, told from now: `3 s ago`.
    Ago,
    /// A moment in ms since 1970, told in full.
    When,
    /// A duration in ms.
    Span,
    /// A short duration in ms, with a fraction.
    Millis,
    /// A duration in seconds.
    Seconds,
    /// A number of bytes.
    Bytes,
    /// A word that says how something is, in its colour.
    State,
    /// The id of a node, without which life of it.
    Node,
    /// This text when it is true, nothing when it is false.
    If(&'static str),
    /// This text when it is false, nothing when it is true.
    Unless(&'static str),
    /// Names with their values.
    Labels,
    /// Who did something, why, and when.
    Deed,
}

impl Show {
    pub(super) fn cell(self, value: &Value, now_ms: i64) -> Cell {
        let number = || value.as_i64();
        match self {
            Self::Text => Cell::plain(plain(value)),
            Self::Name => Cell::new(plain(value), Style::Bold),
            Self::Ago => number().map_or_else(Cell::default, |at| Cell::plain(ago(at, now_ms))),
            Self::When => number().map_or_else(Cell::default, |at| Cell::plain(when(at, now_ms))),
            Self::Span => number().map_or_else(Cell::default, |span| Cell::plain(duration(span))),
            Self::Millis => {
                value.as_f64().map_or_else(Cell::default, |span| Cell::plain(millis(span)))
            }
            Self::Seconds => {
                let span = number().map(|seconds| seconds.saturating_mul(1_000));
                span.map_or_else(Cell::default, |span| Cell::plain(duration(span)))
            }
            Self::Bytes => number().map_or_else(Cell::default, |size| Cell::plain(bytes(size))),
            Self::State => state(&plain(value)),
            Self::Node => {
                let id = plain(value);
                Cell::plain(id.split('#').next().unwrap_or_default())
            }
            Self::If(text) => Cell::plain(if value == true { text } else { "" }),
            Self::Unless(text) => Cell::plain(if value == false { text } else { "" }),
            Self::Labels => Cell::plain(labels(value)),
            Self::Deed => Cell::plain(deed(value, now_ms)),
        }
    }
}

/// Who did something, why, and when.
fn deed(value: &Value, now_ms: i64) -> String {
    let text = |name: &str| value[name].as_str().filter(|text| !text.is_empty());
    let at = value["at_ms"].as_i64().or_else(|| value["since_ms"].as_i64());
    let by = text("by").map(|by| format!("by {by}"));
    let at = at.filter(|at| *at > 0).map(|at| ago(at, now_ms));
    let who: Vec<String> = [by, at].into_iter().flatten().collect();
    match (who.join(", "), text("why")) {
        (who, None) => who,
        (who, Some(why)) if who.is_empty() => why.to_owned(),
        (who, Some(why)) => format!("{who}: {why}"),
    }
}

fn labels(value: &Value) -> String {
    let members = value.as_object().into_iter().flatten();
    let pairs: Vec<String> =
        members.map(|(name, value)| format!("{name}={}", plain(value))).collect();
    pairs.join(",")
}

/// Writes a value as it is: texts without quotes, lists with commas, objects as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// Writes a value whose meaning only its name tells.
pub(super) fn guessed(name: &str, value: &Value, now_ms: i64) -> Cell {
    /// A duration of more than 30 years is a moment.
    const MOMENT: i64 = 1_000_000_000_000;
    match (value, value.as_i64()) {
        (_, Some(at)) if name.ends_with("_ms") && at >= MOMENT => Cell::plain(when(at, now_ms)),
        (_, Some(span)) if name.ends_with("_ms") => Cell::plain(duration(span)),
        (_, Some(span)) if name.ends_with("_s") || name.ends_with("_seconds") => {
            Cell::plain(duration(span.saturating_mul(1_000)))
        }
        (_, Some(size)) if name.ends_with("bytes") => Cell::plain(bytes(size)),
        (Value::Object(members), _) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            let pairs = members.map(|(name, value)| {
                let inner = match value.as_i64() {
                    Some(at) if name.ends_with("_ms") && at >= MOMENT => ago(at, now_ms),
                    Some(span) if name.ends_with("_ms") => duration(span),
                    Some(_) | None => plain(value),
                };
                format!("{}: {inner}", name.strip_suffix("_ms").unwrap_or(name).replace('_', " "))
            });
            Cell::plain(pairs.collect::<Vec<_>>().join(", "))
        }
        (Value::String(text), _) if matches!(name, "state" | "phase" | "outcome") => state(text),
        _ => Cell::plain(plain(value)),
    }
}

/// Gives a word its colour.
pub(super) fn state(word: &str) -> Cell {
    let style = match word {
        "ready" | "running" | "completed" | "ok" | "live" | "leading" | "done" | "back"
        | "started" | "runs" | "applied" | "clean" => Style::Good,
        "starting" | "draining" | "drained" | "retrying" | "queued" | "degraded" | "warning"
        | "paused" | "skipped" | "cancelled" | "read_only" | "waiting" | "refused" | "waits"
        | "pending" => Style::Warn,
        "failed" | "lost" | "dead" | "incompatible" | "critical" | "gone" | "full" | "silent"
        | "infected" => Style::Bad,
        _ => Style::Plain,
    };
    Cell::new(word, style)
}

/// Tells a moment from now: `3 s ago`, `in 2 h`.
pub(super) fn ago(at_ms: i64, now_ms: i64) -> String {
    let apart = now_ms.saturating_sub(at_ms);
    match apart {
        // Clocks of different machines are never quite the same.
        -999..=999 => "now".to_owned(),
        1_000.. => format!("{} ago", rough(apart)),
        _ => format!("in {}", rough(apart.saturating_neg())),
    }
}

/// Tells a moment in full, in UTC, and from now.
pub(super) fn when(at_ms: i64, now_ms: i64) -> String {
    if at_ms == 0 {
        return String::new();
    }
    format!("{} ({})", utc(at_ms), ago(at_ms, now_ms))
}

/// Writes a moment in UTC, to the second.
pub(super) fn utc(at_ms: i64) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => at_ms.to_string(),
    }
}

/// The time of the day, in UTC.
pub(super) fn clock_time(at_ms: i64) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(at) => at.strftime("%H:%M:%S").to_string(),
        Err(_) => at_ms.to_string(),
    }
}

/// A duration by its greatest unit.
fn rough(span_ms: i64) -> String {
    let seconds = span_ms / 1_000;
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Writes a short duration.
fn millis(span_ms: f64) -> String {
    if span_ms < 9.95 {
        return format!("{span_ms:.1} ms");
    }
    format!("{span_ms:.0}").parse::<i64>().map_or_else(|_| format!("{span_ms} ms"), duration)
}

/// A duration in its two greatest units.
pub(super) fn duration(span_ms: i64) -> String {
    if span_ms < 0 {
        return format!("-{}", duration(span_ms.saturating_neg()));
    }
    let (seconds, rest) = (span_ms / 1_000, span_ms % 1_000);
    let pair = |big: i64, big_name: &str, small: i64, small_name: &str| match small {
        0 => format!("{big} {big_name}"),
        small => format!("{big} {big_name} {small} {small_name}"),
    };
    match seconds {
        0 => format!("{rest} ms"),
        1..10 if rest > 0 => format!("{seconds}.{} s", rest / 100),
        1..60 => format!("{seconds} s"),
        60..3_600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// A size in the unit that suits it.
pub(super) fn bytes(size: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if size < 1_024 {
        return format!("{size} B");
    }
    let mut tenths = size.saturating_mul(10) / 1_024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn moments_are_told_from_now() {
        for (at, told) in [
            (NOW - 400, "now"),
            (NOW - 3_000, "3 s ago"),
            (NOW - 61_000, "1 min ago"),
            (NOW - 7_300_000, "2 h ago"),
            (NOW - 172_800_000, "2 d ago"),
            (NOW + 90_000, "in 1 min"),
            (i64::MIN, "106751991167 d ago"),
        ] {
            assert_eq!(ago(at, NOW), told);
        }
        assert_eq!(when(NOW - 1_000, NOW), "2023-11-14 22:13:19Z (1 s ago)");
        assert_eq!((when(0, NOW), utc(i64::MAX)), (String::new(), i64::MAX.to_string()));
        assert_eq!(clock_time(NOW), "22:13:20");
    }

    #[test]
    fn short_durations_have_one_digit_behind_the_point() {
        for (span, told) in [
            (0.0, "0.0 ms"),
            (0.412, "0.4 ms"),
            (9.96, "10 ms"),
            (18.2, "18 ms"),
            (1_512.0, "1.5 s"),
        ] {
            assert_eq!(millis(span), told);
        }
    }

    #[test]
    fn durations_and_sizes_have_units() {
        for (span, told) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_500, "1.5 s"),
            (2_000, "2 s"),
            (59_999, "59 s"),
            (61_000, "1 min 1 s"),
            (3_600_000, "1 h"),
            (90_061_000, "1 d 1 h"),
            (-1_500, "-1.5 s"),
        ] {
            assert_eq!(duration(span), told);
        }
        for (size, told) in
            [(5, "5 B"), (1_536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")]
        {
            assert_eq!(bytes(size), told);
        }
        assert!(bytes(i64::MAX).ends_with("TiB"));
    }

    #[test]
    fn values_are_written_by_what_they_are() {
        let cell = |show: Show, value| show.cell(&value, NOW).text;
        assert_eq!(cell(Show::Node, json!("a#0000000000000001")), "a");
        assert_eq!(cell(Show::If("yes"), json!(true)), "yes");
        assert_eq!(cell(Show::Unless("paused"), json!(false)), "paused");
        assert_eq!(cell(Show::Labels, json!({ "zone": "a", "n": 1 })), "n=1,zone=a");
        let deed = json!({ "by": "operator", "why": "upgrade", "at_ms": NOW - 5_000 });
        assert_eq!(cell(Show::Deed, deed), "by operator, 5 s ago: upgrade");
        assert_eq!(cell(Show::Deed, json!({ "by": "", "why": "", "at_ms": 0 })), "");
        assert_eq!(cell(Show::Ago, json!("soon")), "");
        assert_eq!(Show::State.cell(&json!("lost"), NOW).style, Style::Bad);
    }
}
