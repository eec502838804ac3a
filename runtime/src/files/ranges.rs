//! Which bytes of a file a `Range` asks for, by RFC 9110, section 14.
//!
//! Nobody gets more for one request than the file once, and a few lines for each part: ranges that overlap or touch are
//! joined, and more than [`MOST`] are ignored, as the RFC allows.

use std::ops::Range;

/// Most ranges of one request.
pub(super) const MOST: usize = 8;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing that counts: it is no range of bytes, there are too many, or it is all of an empty file.
    Ignored,
    /// Nothing that is in the file.
    Outside,
    /// These parts, none of which is empty, or overlaps or touches another: in the order in which they were asked for.
    Parts(Vec<Range<u64>>),
}

/// One range before the length of the file is known.
enum One {
    From(u64, u64),
    Last(u64),
}

/// Reads the value of the field, for a file of so many bytes.
pub(super) fn asked(field: &str, bytes: u64) -> Asked {
    let Some((unit, list)) = field.split_once('=') else { return Asked::Ignored };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Ignored;
    }
    let (mut parts, mut count) = (Vec::new(), 0);
    // A list may have empty elements (section 5.6.1).
    for one in list.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        count += 1;
        let Some(one) = read(one).filter(|_| count <= MOST) else { return Asked::Ignored };
        let part = match one {
            One::From(first, last) => first..last.saturating_add(1).min(bytes),
            // There is no byte that a Content-Range could begin with.
            One::Last(most) if most > 0 && bytes == 0 => return Asked::Ignored,
            One::Last(most) => bytes.saturating_sub(most)..bytes,
        };
        if !part.is_empty() {
            join(&mut parts, part);
        }
    }
    match (count, parts.is_empty()) {
        (0, _) => Asked::Ignored,
        (_, true) => Asked::Outside,
        (_, false) => Asked::Parts(parts),
    }
}

fn read(one: &str) -> Option<One> {
    let (first, last) = one.split_once('-')?;
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some(One::From(first, last)),
        (Some(first), None) if last.is_empty() => Some(One::From(first, u64::MAX)),
        (None, Some(most)) if first.is_empty() => Some(One::Last(most)),
        (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) | (None, None) => None,
    }
}

/// Reads digits and nothing else; more than can be counted is behind the end of every file.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Adds a part, joined with those that it overlaps or touches, at the place of the first of these.
fn join(parts: &mut Vec<Range<u64>>, part: Range<u64>) {
    let (mut all, mut place) = (part, None);
    let mut others = Vec::with_capacity(parts.len() + 1);
    for other in parts.drain(..) {
        if other.start <= all.end && all.start <= other.end {
            all = other.start.min(all.start)..other.end.max(all.end);
            place.get_or_insert(others.len());
        } else {
            others.push(other);
        }
    }
    others.insert(place.unwrap_or(others.len()), all);
    *parts = others;
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one part of a file is a range too")]
mod tests {
    use super::*;

    #[test]
    fn row_17_ranges_are_what_rfc_9110_says_and_never_more_than_the_file() {
        let many = format!("bytes={}", ["0-0"; 1_000].join(","));
        let nine = format!("bytes={}", ["0-0"; 9].join(","));
        let eight = format!("bytes={}", ["0-0"; 8].join(","));
        for (field, expected) in [
            ("bytes=0-3", Some(vec![0..4])),
            ("Bytes=3-", Some(vec![3..10])),
            ("bytes=-3", Some(vec![7..10])),
            ("bytes=-99", Some(vec![0..10])),
            ("bytes=9-99999999999999999999", Some(vec![9..10])),
            ("bytes=10-", None),
            ("bytes=99999999999999999999-", None),
            ("bytes=-0", None),
            ("bytes=10-,-0", None),
            ("bytes=0-1,3-4", Some(vec![0..2, 3..5])),
            ("bytes=, 0-1 ,, 3-4,", Some(vec![0..2, 3..5])),
            ("bytes=8-9,0-1", Some(vec![8..10, 0..2])),
            ("bytes=0-1,20-30", Some(vec![0..2])),
            ("bytes=0-1,2-3", Some(vec![0..4])),
            ("bytes=6-7,0-1,1-6", Some(vec![0..8])),
            ("bytes=0-,0-,0-", Some(vec![0..10])),
            ("bytes=0-0,-1,5-5", Some(vec![0..1, 9..10, 5..6])),
            (&eight, Some(vec![0..1])),
        ] {
            let expected = expected.map_or(Asked::Outside, Asked::Parts);
            assert_eq!(asked(field, 10), expected, "{field}");
        }
        for ignored in [
            "bytes=3-2",
            "bytes=0-1,3-2",
            "bytes=+1-2",
            "bytes=-",
            "bytes=",
            "bytes=,",
            "bytes",
            "lines=1-2",
            "bytes=0 - 1",
            "bytes=1",
            "bytes=--1",
            &nine,
            &many,
        ] {
            assert_eq!(asked(ignored, 10), Asked::Ignored, "{ignored}");
        }
        assert_eq!((asked("bytes=0-", 0), asked("bytes=-0", 0)), (Asked::Outside, Asked::Outside));
        assert_eq!(asked("bytes=-5", 0), Asked::Ignored);
    }
}
