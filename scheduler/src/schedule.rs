//! When jobs are due: cron expressions in a time zone, fixed grids, single times.
//!
//! A [`Timetable`] is a [`Schedule`] that has been understood. It knows no clock and keeps no state: what is due after a
//! time follows from that time alone, so that every node, and every leader after the other, comes to the same due times.
//! The time zone database is the one compiled into the binary ([`tzdb_version`]).
//!
//! Times are milliseconds since 1970, UTC.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::Serialize;

use crate::spec::Schedule;

mod cron;
mod error;
mod expression;
mod grid;
mod preview;
mod words;
mod zone;

pub use error::ScheduleError;
pub use preview::PreviewedFire;
pub use zone::{InvalidZoneName, ZoneName, tzdb_version};

use cron::{CronTimes, Hit, HitKind};
use grid::Grid;

/// The longest pause of a schedule of kind `after`.
const LONGEST_PAUSE: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A schedule that has been checked and can be asked for its due times. Cheap to clone.
#[derive(Clone)]
pub struct Timetable {
    kind: Kind,
    zone: ZoneName,
}

#[derive(Clone)]
enum Kind {
    Cron(Arc<CronTimes>),
    Every(Grid),
    After(Duration),
    Once(i64),
    Manual,
}

/// A due time, or one that was due on the wall but is struck out by a change of clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occurrence {
    /// A run is due.
    Fire {
        /// When, ms since 1970.
        at_ms: i64,
        /// What it is called, the same on all nodes: `cron:<at_ms>`, `every:<number of the point>`, `once:<at_ms>`.
        key: String,
        /// What a change of clocks has to do with it.
        note: Option<DstNote>,
    },
    /// No run is due, and this is why.
    Skipped {
        /// The moment of the change of clocks, or the moment that is not due, ms since 1970.
        at_ms: i64,
        /// `cron-skip:<civil time>`.
        key: String,
        /// Why.
        why: DstSkip,
    },
}

/// What a change of clocks has to do with a due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DstNote {
    /// The clocks skip its time: due at the first moment after.
    Moved,
    /// The clocks skip its time: due as much later as they skip.
    Shifted,
    /// The clocks show its time twice; this is the first, and the second is due too.
    First,
    /// The clocks show its time twice; this is the second, and the first is due too.
    Second,
    /// The clocks show its time twice; only the first is due.
    OnlyFirst,
    /// The clocks show its time twice; only the second is due.
    OnlySecond,
}

/// Why a time on the wall is not due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DstSkip {
    /// The clocks skip it, and the job's policy is not to run then.
    Gap,
    /// The clocks show it twice, and the other one is the due one.
    Fold,
}

impl Occurrence {
    /// Gives its time, ms since 1970.
    #[must_use]
    pub fn at_ms(&self) -> i64 {
        match self {
            Self::Fire { at_ms, .. } | Self::Skipped { at_ms, .. } => *at_ms,
        }
    }

    /// Gives its key, the same on all nodes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Fire { key, .. } | Self::Skipped { key, .. } => key,
        }
    }
}

impl Timetable {
    /// Reads a schedule. Cron expressions that name no zone are read in `default_zone`.
    ///
    /// # Errors
    /// [`ScheduleError`] with the field and what would be right: an expression that is wrong or is never due in five
    /// years, an unknown zone, a step, pause or time out of range.
    pub fn parse(schedule: &Schedule, default_zone: &ZoneName) -> Result<Self, ScheduleError> {
        let mut zone = default_zone.clone();
        let kind = match schedule {
            Schedule::Cron { expression, time_zone, gap, fold } => {
                if let Some(name) = time_zone {
                    zone = name.parse().map_err(|error: InvalidZoneName| {
                        ScheduleError::new("schedule.time_zone", error.to_string())
                    })?;
                }
                let times = CronTimes::parse(expression, zone.time_zone(), *gap, *fold)?;
                Kind::Cron(Arc::new(times))
            }
            Schedule::Every { every, anchor_ms } => Kind::Every(Grid::parse(*every, *anchor_ms)?),
            Schedule::After { delay } if *delay <= LONGEST_PAUSE => Kind::After(*delay),
            Schedule::After { .. } => {
                return Err(ScheduleError::new("schedule.delay_ms", "must be at most 100 years"));
            }
            Schedule::Once { at_ms } if (0..=grid::LAST_MS).contains(at_ms) => Kind::Once(*at_ms),
            Schedule::Once { .. } => {
                let problem =
                    "must be a time in milliseconds since 1970, in the years 1970 to 9998";
                return Err(ScheduleError::new("schedule.at_ms", problem));
            }
            Schedule::Manual => Kind::Manual,
        };
        Ok(Self { kind, zone })
    }

    /// Gives the occurrences strictly after a time, one an instant, ascending. Ends after the last, or when nothing is due
    /// within nine years; schedules of the kinds `after` and `manual` have none.
    pub fn after(&self, after_ms: i64) -> impl Iterator<Item = Occurrence> + '_ {
        let mut last_ms = after_ms;
        std::iter::from_fn(move || {
            let occurrence = self.next(last_ms)?;
            last_ms = occurrence.at_ms();
            Some(occurrence)
        })
    }

    /// Gives the time of the first occurrence strictly after a time, whether a run is due then or struck out by a change
    /// of clocks: both must leave a trace.
    #[must_use]
    pub fn next_fire(&self, after_ms: i64) -> Option<i64> {
        match &self.kind {
            Kind::Cron(times) => times.next(second_after(after_ms)).map(|hit| hit.at * 1_000),
            Kind::Every(grid) => grid.next(after_ms).map(|(_, at_ms)| at_ms),
            Kind::Once(at_ms) => Some(*at_ms).filter(|at_ms| *at_ms > after_ms),
            Kind::After(_) | Kind::Manual => None,
        }
    }

    /// Says what the schedule has at exactly this time: a due run, one struck out by a change of clocks, or nothing.
    /// Unlike [`Timetable::after`] it also knows the half of a repeated time that is not due.
    #[must_use]
    pub fn is_due_at(&self, at_ms: i64) -> Option<Occurrence> {
        if let Kind::Cron(times) = &self.kind {
            let whole = at_ms.rem_euclid(1_000) == 0;
            return times.at(at_ms.div_euclid(1_000)).filter(|_| whole).map(occurrence);
        }
        self.next(at_ms.checked_sub(1)?).filter(|occurrence| occurrence.at_ms() == at_ms)
    }

    /// Says in plain English when it is due: "at 02:00 every day, Europe/Oslo".
    #[must_use]
    pub fn words(&self) -> String {
        match &self.kind {
            Kind::Cron(times) => format!("{}, {}", words::of_expression(times.text()), self.zone),
            Kind::Every(grid) => format!("every {}", words::of_duration(grid.step())),
            Kind::After(pause) if pause.is_zero() => "when the run before has ended".to_owned(),
            Kind::After(pause) => {
                format!("{} after the end of the run before", words::of_duration(*pause))
            }
            Kind::Once(at_ms) => {
                format!("once at {}, {}", preview::plain(*at_ms, &self.zone), self.zone)
            }
            Kind::Manual => "only when started".to_owned(),
        }
    }

    /// Gives the next occurrences after a time with what a change of clocks does to them, for people.
    #[must_use]
    pub fn preview(&self, after_ms: i64, count: usize) -> Vec<PreviewedFire> {
        match &self.kind {
            Kind::Cron(times) => preview::of_cron(times, &self.zone, second_after(after_ms), count),
            Kind::Every(_) | Kind::Once(_) | Kind::After(_) | Kind::Manual => self
                .after(after_ms)
                .take(count)
                .map(|occurrence| PreviewedFire::plain(occurrence.at_ms(), &self.zone))
                .collect(),
        }
    }

    /// Gives the pause of a schedule of kind `after`.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        match self.kind {
            Kind::After(pause) => Some(pause),
            Kind::Cron(_) | Kind::Every(_) | Kind::Once(_) | Kind::Manual => None,
        }
    }

    /// Gives the zone in which it is read.
    #[must_use]
    pub fn zone(&self) -> &ZoneName {
        &self.zone
    }

    fn next(&self, after_ms: i64) -> Option<Occurrence> {
        match &self.kind {
            Kind::Cron(times) => times.next(second_after(after_ms)).map(occurrence),
            Kind::Every(grid) => {
                let (number, at_ms) = grid.next(after_ms)?;
                Some(Occurrence::Fire { at_ms, key: format!("every:{number}"), note: None })
            }
            Kind::Once(at_ms) => (*at_ms > after_ms).then(|| Occurrence::Fire {
                at_ms: *at_ms,
                key: format!("once:{at_ms}"),
                note: None,
            }),
            Kind::After(_) | Kind::Manual => None,
        }
    }
}

impl fmt::Debug for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timetable({})", self.words())
    }
}

/// Gives the first whole second strictly after a time.
fn second_after(after_ms: i64) -> i64 {
    after_ms.div_euclid(1_000) + 1
}

fn occurrence(hit: Hit) -> Occurrence {
    let at_ms = hit.at * 1_000;
    let due = |note| Occurrence::Fire { at_ms, key: format!("cron:{at_ms}"), note };
    let skipped = |why| {
        // A hit lies within the years that jiff knows.
        let civil = Timestamp::from_second(hit.civil).map(|civil| Offset::UTC.to_datetime(civil));
        let civil = civil.map_or_else(|_| hit.civil.to_string(), |civil| civil.to_string());
        Occurrence::Skipped { at_ms, key: format!("cron-skip:{civil}"), why }
    };
    match hit.kind {
        HitKind::Plain => due(None),
        HitKind::Moved { .. } => due(Some(DstNote::Moved)),
        HitKind::Shifted { .. } => due(Some(DstNote::Shifted)),
        HitKind::First { only: false } => due(Some(DstNote::First)),
        HitKind::Second { only: false } => due(Some(DstNote::Second)),
        HitKind::First { only: true } => due(Some(DstNote::OnlyFirst)),
        HitKind::Second { only: true } => due(Some(DstNote::OnlySecond)),
        HitKind::Skipped { .. } => skipped(DstSkip::Gap),
        HitKind::Folded => skipped(DstSkip::Fold),
    }
}

#[cfg(test)]
mod tests;
