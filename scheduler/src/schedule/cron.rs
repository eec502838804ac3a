//! When a cron expression is due in a time zone.
//!
//! The expression is matched against civil time, the time on the wall, and never against instants: what becomes of times
//! that a change of clocks skips or repeats is decided here, by the job's policies. The time line is cut where the offset
//! of the zone changes; within a piece civil time and instants run in step. [`CronTimes::next`] depends on nothing but the
//! instant from which it looks, so a leader that takes over in the middle of a repeated hour goes on where the other
//! stopped.

use jiff::tz::TimeZone;

use super::ScheduleError;
use super::expression::Expression;
use super::grid::{FIRST_MS, LAST_MS};
use crate::spec::{Fold, Gap};

mod dial;
mod piece;

use dial::Dial;
use piece::{Before, Piece};

const FIELD: &str = "schedule.expression";
/// Outside the years 1 to 9998 there are no due times.
const FIRST_SECOND: i64 = FIRST_MS / 1_000;
const LAST_SECOND: i64 = LAST_MS / 1_000;
const YEAR: i64 = 366 * 86_400;
/// Within how many years of 2026 an expression must be due at least once, else it is refused: 30 February never is.
const DUE_WITHIN: i64 = 5 * YEAR;
const YEAR_2026: i64 = 1_767_225_600;
/// How far ahead is looked: 29 February 2096 is followed by that of 2104.
const HORIZON: i64 = 9 * YEAR;

/// A cron expression with a zone and its policies for changes of clocks.
pub(super) struct CronTimes {
    dial: Dial,
    text: Box<str>,
    time_zone: TimeZone,
    gap: GapRule,
    fold: FoldRule,
}

/// [`Gap`] without `Auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GapRule {
    FirstValid,
    Shift,
    Skip,
    /// Nothing was due: the job follows the clock on the wall.
    NotDue,
}

/// [`Fold`] without `Auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FoldRule {
    First,
    Last,
    Both,
}

/// A due time, or one that the policies strike out. Instants and civil times are seconds since 1970 of their own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) at: i64,
    /// What the expression matched.
    pub(super) civil: i64,
    pub(super) kind: HitKind,
}

/// How a change of clocks bears on a due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HitKind {
    Plain,
    /// Moved out of a gap between these civil times, to its end or by its length.
    Moved {
        gap: (i64, i64),
    },
    Shifted {
        gap: (i64, i64),
    },
    /// Struck out, since it is in the gap between these civil times.
    Skipped {
        gap: (i64, i64),
    },
    /// One of the two times at which the clock shows this; `only` when the other is not due.
    First {
        only: bool,
    },
    Second {
        only: bool,
    },
    /// Struck out, since the other of the two is the due one.
    Folded,
}

impl CronTimes {
    pub(super) fn parse(
        text: &str,
        time_zone: &TimeZone,
        gap: Gap,
        fold: Fold,
    ) -> Result<Self, ScheduleError> {
        let refuse = |problem: String| ScheduleError::new(FIELD, problem);
        let expression = Expression::parse(text).map_err(refuse)?;
        let dial = Dial::of(&expression).map_err(refuse)?;
        let interval = expression.is_interval();
        let times = Self {
            dial,
            text: text.trim().into(),
            time_zone: time_zone.clone(),
            gap: match gap {
                Gap::Auto if interval => GapRule::NotDue,
                Gap::Auto | Gap::FirstValid => GapRule::FirstValid,
                Gap::Shift => GapRule::Shift,
                Gap::Skip => GapRule::Skip,
            },
            fold: match fold {
                Fold::Auto if interval => FoldRule::Both,
                Fold::Auto | Fold::First => FoldRule::First,
                Fold::Last => FoldRule::Last,
                Fold::Both => FoldRule::Both,
            },
        };
        match times.dial.next(YEAR_2026, YEAR_2026 + DUE_WITHIN) {
            Some(_) => Ok(times),
            None => Err(refuse(
                "must be due at least once in 5 years: no month that it names has such a day"
                    .to_owned(),
            )),
        }
    }

    /// Gives the expression as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Finds the first due or struck-out time at or after an instant; `None` when there is none within nine years.
    pub(super) fn next(&self, from: i64) -> Option<Hit> {
        let mut from = from.max(FIRST_SECOND);
        let horizon = from.checked_add(HORIZON)?.min(LAST_SECOND);
        while from <= horizon {
            let piece = Piece::around(&self.time_zone, from)?;
            if let Some(hit) = self.first_in(&piece, from) {
                return (hit.at <= horizon).then_some(hit);
            }
            from = piece.end?.at;
        }
        None
    }

    /// What happens at an instant: a due time, a struck-out one, or nothing.
    pub(super) fn at(&self, at: i64) -> Option<Hit> {
        if let Some(hit) = self.next(at).filter(|hit| hit.at == at) {
            return Some(hit);
        }
        // What is left are the halves of repeated times that are not due: they are no due times, but asked for by people.
        let piece = Piece::around(&self.time_zone, at)?;
        let civil = at + piece.offset;
        let repeated = piece.first_pass().is_some_and(|pass| pass.contains(&civil))
            || piece.second_pass().is_some_and(|pass| pass.contains(&civil));
        let matches = repeated && self.dial.next(civil, civil + 1).is_some();
        matches.then_some(Hit { at, civil, kind: HitKind::Folded })
    }

    /// Finds the first hit of a piece at or after `from`, which lies in it.
    fn first_in(&self, piece: &Piece, from: i64) -> Option<Hit> {
        let plain = self.plain_in(piece, from);
        let moved = match piece.start {
            Some(start) if start.offset < piece.offset => self.out_of_gap(piece, start, from),
            Some(_) | None => None,
        };
        match (plain, moved) {
            // Two civil times on one instant are one due time, and it is the one without a remark.
            (Some(plain), Some(moved)) => Some(if moved.at < plain.at { moved } else { plain }),
            (plain, moved) => plain.or(moved),
        }
    }

    /// Finds the first civil time that exists in this piece, without the half of a repeated range that is not due.
    fn plain_in(&self, piece: &Piece, from: i64) -> Option<Hit> {
        let (first_pass, second_pass) = (piece.first_pass(), piece.second_pass());
        let mut civil_from = from + piece.offset;
        let mut civil_until = piece.end.map_or(from + HORIZON, |end| end.at) + piece.offset;
        match self.fold {
            FoldRule::First => {
                civil_from =
                    second_pass.as_ref().map_or(civil_from, |pass| civil_from.max(pass.end));
            }
            FoldRule::Last => {
                civil_until = first_pass.as_ref().map_or(civil_until, |pass| pass.start);
            }
            FoldRule::Both => {}
        }
        let civil = self.dial.next(civil_from, civil_until)?;
        let only = self.fold != FoldRule::Both;
        let kind = if first_pass.is_some_and(|pass| pass.contains(&civil)) {
            HitKind::First { only }
        } else if second_pass.is_some_and(|pass| pass.contains(&civil)) {
            HitKind::Second { only }
        } else {
            HitKind::Plain
        };
        Some(Hit { at: civil - piece.offset, civil, kind })
    }

    /// Finds the first civil time of the gap with which this piece begins, at the instant at which the policy puts it.
    fn out_of_gap(&self, piece: &Piece, start: Before, from: i64) -> Option<Hit> {
        let gap = (start.at + start.offset, start.at + piece.offset);
        let at_its_end = |kind| {
            let civil = self.dial.next(gap.0, gap.1).filter(|_| from <= start.at)?;
            Some(Hit { at: start.at, civil, kind })
        };
        match self.gap {
            GapRule::FirstValid => at_its_end(HitKind::Moved { gap }),
            GapRule::Skip => at_its_end(HitKind::Skipped { gap }),
            GapRule::Shift => {
                let civil = self.dial.next(from + start.offset, gap.1)?;
                let at = civil - start.offset;
                Some(Hit { at, civil, kind: HitKind::Shifted { gap } })
            }
            GapRule::NotDue => None,
        }
    }
}
