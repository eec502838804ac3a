//! A piece of the time line of a zone: as long as its offset from UTC stays the same.

use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The time between two changes of the offset. Seconds, as everywhere in this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// What is added to an instant to get what the clock shows.
    pub(super) offset: i64,
    /// The change with which it begins, with the offset before; none when it has always been so.
    pub(super) start: Option<Before>,
    /// The change with which it ends, with the offset after; none when it stays so.
    pub(super) end: Option<After>,
}

/// A change of the offset, and what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) at: i64,
    pub(super) offset: i64,
}

/// A change of the offset, and what it is from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct After {
    pub(super) at: i64,
    pub(super) offset: i64,
}

impl Piece {
    /// Finds the piece in which an instant lies; `None` outside the years -9999 to 9999.
    pub(super) fn around(zone: &TimeZone, instant: i64) -> Option<Self> {
        let timestamp = Timestamp::from_second(instant).ok()?;
        let offset = i64::from(zone.to_offset(timestamp).seconds());
        // Zones also have changes of name alone, which do not end a piece.
        let end = zone
            .following(timestamp)
            .map(|change| After {
                at: change.timestamp().as_second(),
                offset: i64::from(change.offset().seconds()),
            })
            .find(|change| change.offset != offset);
        let just_after = Timestamp::from_second(instant.checked_add(1)?).ok()?;
        let start = zone
            .preceding(just_after)
            .filter_map(|change| {
                let at = change.timestamp().as_second();
                let before = Timestamp::from_second(at - 1).ok()?;
                Some(Before { at, offset: i64::from(zone.to_offset(before).seconds()) })
            })
            .find(|change| change.offset != offset);
        Some(Self { offset, start, end })
    }

    /// The civil times at its end that the clock will show once more.
    pub(super) fn first_pass(&self) -> Option<Range<i64>> {
        let end = self.end.filter(|end| end.offset < self.offset)?;
        Some(end.at + end.offset..end.at + self.offset)
    }

    /// The civil times at its beginning that the clock has shown before.
    pub(super) fn second_pass(&self) -> Option<Range<i64>> {
        let start = self.start.filter(|start| start.offset > self.offset)?;
        Some(start.at + self.offset..start.at + start.offset)
    }
}
