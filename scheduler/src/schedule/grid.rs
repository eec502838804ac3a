//! A fixed grid of times: identical on all nodes, whatever nodes come and go.

use std::time::Duration;

use super::ScheduleError;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);
/// The end of the year 9998 in ms since 1970: no due time is later, so that sums of times never overflow.
pub(super) const LAST_MS: i64 = 253_370_764_800_000;
/// The beginning of the year 1 in ms since 1970.
pub(super) const FIRST_MS: i64 = -62_135_596_800_000;

/// The points `anchor + k * step`, for every whole `k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    anchor_ms: i64,
    step_ms: i64,
}

impl Grid {
    pub(super) fn parse(every: Duration, anchor_ms: i64) -> Result<Self, ScheduleError> {
        let step_ms = i64::try_from(every.as_millis()).ok();
        let step_ms =
            step_ms.filter(|_| (SHORTEST..=LONGEST).contains(&every)).ok_or_else(|| {
                let problem = "must be 100 ms to 100 years: 30000 is every 30 s";
                ScheduleError::new("schedule.every_ms", problem)
            })?;
        if !(FIRST_MS..=LAST_MS).contains(&anchor_ms) {
            let problem = "must be a time in milliseconds since 1970, in the years 1 to 9998";
            return Err(ScheduleError::new("schedule.anchor_ms", problem));
        }
        Ok(Self { anchor_ms, step_ms })
    }

    pub(super) fn step(&self) -> Duration {
        Duration::from_millis(self.step_ms.unsigned_abs())
    }

    /// Gives the first point strictly after a time: its number and its time.
    pub(super) fn next(&self, after_ms: i64) -> Option<(i64, i64)> {
        if after_ms >= LAST_MS {
            return None;
        }
        let number = (after_ms.max(FIRST_MS) - self.anchor_ms).div_euclid(self.step_ms) + 1;
        let at_ms = self.anchor_ms.checked_add(number.checked_mul(self.step_ms)?)?;
        (at_ms <= LAST_MS).then_some((number, at_ms))
    }
}
