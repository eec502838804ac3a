//! One part of a file, as `Range` asks for it (RFC 9110, section 14): what is asked for, and which bytes that is.
//!
//! Only a single range is served. Several are ignored, as the RFC allows: the whole file is the most that anybody gets for
//! one request, however often he names its bytes.

use actix_web::http::header::{self, HeaderMap, HeaderValue};

/// A range before the length of the file is known. Numbers too large for any file count as the largest there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// From this byte to that one, or to the end.
    From(u64, Option<u64>),
    /// So many bytes at the end.
    Last(u64),
}

/// What of a file answers a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it: the range cannot be told in a `Content-Range`.
    Whole,
    /// From this byte to that one, both included.
    Bytes(u64, u64),
    /// No byte of it.
    Nothing,
}

/// Reads what a request asks for; `None` when its `Range` is to be ignored: there is none, it is in another unit than bytes,
/// it names several ranges, or it is none.
pub(super) fn wanted(headers: &HeaderMap) -> Option<Wanted> {
    let mut lines = headers.get_all(header::RANGE);
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (unit, range) = line.to_str().ok()?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some(Wanted::From(first, Some(last))),
        (Some(first), None) if last.is_empty() => Some(Wanted::From(first, None)),
        (None, Some(count)) if first.is_empty() => Some(Wanted::Last(count)),
        _ => None,
    }
}

/// Says whether the condition of a range holds: without one always, else when the file is still the one that the client
/// has a part of. A weak tag never holds, and a date only when it is the very date of the file.
pub(super) fn still_the_same(condition: Option<&HeaderValue>, file: &HeaderMap) -> bool {
    let Some(condition) = condition else {
        return true;
    };
    let name =
        if condition.as_bytes().starts_with(b"\"") { header::ETAG } else { header::LAST_MODIFIED };
    file.get(name) == Some(condition)
}

impl Wanted {
    /// Gives what that is of a file of so many bytes.
    pub(super) fn of(self, length: u64) -> Part {
        match self {
            Self::Last(0) => Part::Nothing,
            Self::Last(_) if length == 0 => Part::Whole,
            Self::Last(count) => Part::Bytes(length.saturating_sub(count), length - 1),
            Self::From(first, _) if first >= length => Part::Nothing,
            Self::From(first, last) => Part::Bytes(first, last.unwrap_or(u64::MAX).min(length - 1)),
        }
    }
}

/// Reads a number of digits and nothing else.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::RANGE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn row_17_a_single_range_becomes_bytes_of_the_file() {
        for (range, length, part) in [
            ("bytes=0-0", 10, Part::Bytes(0, 0)),
            ("bytes=0-", 10, Part::Bytes(0, 9)),
            ("bytes=9-", 10, Part::Bytes(9, 9)),
            ("bytes=3-5", 10, Part::Bytes(3, 5)),
            ("Bytes = 3-5", 10, Part::Bytes(3, 5)),
            ("bytes=0-99999999999999999999", 10, Part::Bytes(0, 9)),
            ("bytes=-3", 10, Part::Bytes(7, 9)),
            ("bytes=-10", 10, Part::Bytes(0, 9)),
            ("bytes=-99999999999999999999", 10, Part::Bytes(0, 9)),
            ("bytes=-0", 10, Part::Nothing),
            ("bytes=10-", 10, Part::Nothing),
            ("bytes=10-11", 10, Part::Nothing),
            ("bytes=99999999999999999999-", 10, Part::Nothing),
            ("bytes=0-", 0, Part::Nothing),
            ("bytes=-0", 0, Part::Nothing),
            // All of nothing: there is no byte that a Content-Range could begin with.
            ("bytes=-5", 0, Part::Whole),
            ("bytes=0-0", 1, Part::Bytes(0, 0)),
            ("bytes=18446744073709551614-", u64::MAX, Part::Bytes(u64::MAX - 1, u64::MAX - 1)),
        ] {
            let wanted = wanted(&headers(&[range])).unwrap_or_else(|| panic!("{range}"));
            assert_eq!(wanted.of(length), part, "{range} of {length}");
        }
    }

    #[test]
    fn row_17_what_is_no_single_range_of_bytes_is_ignored() {
        let many = format!("bytes={}", vec!["0-0"; 1_000].join(","));
        for lines in [
            &[][..],
            &["bytes=5-1"],
            &["bytes=0-1,0-1"],
            &["bytes=0-1, 5-6"],
            &[many.as_str()],
            &["bytes=0-1", "bytes=0-1"],
            &["lines=0-1"],
            &["bytes"],
            &["bytes="],
            &["bytes=-"],
            &["bytes=--1"],
            &["bytes=1"],
            &["bytes=a-b"],
            &["bytes=+1-2"],
            &["bytes=1-2x"],
            &["bytes=0x1-0x2"],
            &["bytes=\u{e9}-"],
        ] {
            assert_eq!(wanted(&headers(lines)), None, "{lines:?}");
        }
    }

    #[test]
    fn a_part_is_joined_to_no_other_version_of_the_file() {
        let mut file = HeaderMap::new();
        let date = "Wed, 25 Nov 2026 22:52:36 GMT";
        file.insert(header::ETAG, HeaderValue::from_static("\"a:1\""));
        file.insert(header::LAST_MODIFIED, HeaderValue::from_static(date));
        let holds = |text: &str| {
            still_the_same(Some(&HeaderValue::from_bytes(text.as_bytes()).unwrap()), &file)
        };
        assert!(still_the_same(None, &file) && holds("\"a:1\"") && holds(date));
        for other in ["\"a:2\"", "W/\"a:1\"", "a:1", "", "Wed, 25 Nov 2026 22:52:37 GMT"] {
            assert!(!holds(other), "{other}");
        }
    }
}
