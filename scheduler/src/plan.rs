//! What is to be done about a job whose due time has come: which due times start, which do not, and why.
//!
//! Pure: it is given the definition, the cursor and the time, and changes nothing. What it plans is carried out by a
//! claim that checks again, under locks, that nothing has changed since.

use std::time::Duration;

use crate::schedule::{DstSkip, Occurrence};
use crate::spec::{Misfire, Schedule};
use crate::store::{Cursor, Decision, Definition, JobPlan, Outcome, Start};

/// So many due times of one job are decided at once; of a longer backlog the rest follows at once, in another claim.
const MOST_OCCURRENCES: usize = 5_000;
/// So many due times of one job have a decision row each; more of one kind share a row.
const MOST_ROWS: usize = 200;

/// What the planner must know besides the job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    /// The database's time, ms.
    pub(crate) now_ms: i64,
    /// How late a start is no misfire yet.
    pub(crate) misfire_after: Duration,
    /// How late a missed due time may still start, unless the job says it.
    pub(crate) misfire_grace: Duration,
    /// When nobody led, as far as known: from, to.
    pub(crate) leaderless: &'a [(i64, i64)],
}

/// Plans one job. `None` when nothing is due.
pub(crate) fn plan(definition: &Definition, cursor: &Cursor, at: Moment<'_>) -> Option<JobPlan> {
    let (due, more) = due(definition, cursor, at.now_ms);
    let mut planner = Planner::new(definition, cursor, at, more);
    let last_ms = due.last().map(Occurrence::at_ms).filter(|_| !definition.catches_up_later());
    let Some(last_ms) = last_ms else {
        // The cursor thinks otherwise: it was set by a program with another zone or zone database. It would be looked
        // at again and again.
        cursor.next_ms.filter(|next| *next <= at.now_ms)?;
        let next_ms = definition.next_ms(cursor.last_ms, at.now_ms);
        return Some(planner.finish(cursor.last_ms, next_ms));
    };
    planner.decide(due);
    let next_ms = match definition.spec.schedule {
        // Known when the run has ended; a time that did not start is followed by the next.
        Schedule::After { delay } if planner.starts.is_empty() => {
            Some((at.now_ms + millis(delay)).max(last_ms + 1))
        }
        Schedule::After { .. } | Schedule::Manual => None,
        Schedule::Cron { .. } | Schedule::Every { .. } | Schedule::Once { .. } => {
            definition.timetable.next_fire(last_ms)
        }
    };
    Some(planner.finish(last_ms, next_ms))
}

/// The due times up to now, and whether there are more of them than are decided at once.
fn due(definition: &Definition, cursor: &Cursor, now_ms: i64) -> (Vec<Occurrence>, bool) {
    if let Schedule::After { .. } = definition.spec.schedule {
        let due = cursor.next_ms.filter(|next| *next <= now_ms);
        let fire =
            due.map(|at_ms| Occurrence::Fire { at_ms, key: format!("after:{at_ms}"), note: None });
        return (fire.into_iter().collect(), false);
    }
    let upcoming = definition.timetable.after(cursor.last_ms);
    let mut due: Vec<Occurrence> = upcoming
        .take_while(|occurrence| occurrence.at_ms() <= now_ms)
        .take(MOST_OCCURRENCES + 1)
        .collect();
    let more = due.len() > MOST_OCCURRENCES;
    due.truncate(MOST_OCCURRENCES);
    (due, more)
}

struct Planner<'a> {
    definition: &'a Definition,
    cursor: &'a Cursor,
    at: Moment<'a>,
    /// Whether there are more due times than those decided now, and where those end.
    more: bool,
    last_ms: i64,
    starts: Vec<Start>,
    decisions: Vec<Decision>,
}

/// A due time that nothing could start at in time.
struct Missed {
    at_ms: i64,
    key: String,
}

impl<'a> Planner<'a> {
    fn new(definition: &'a Definition, cursor: &'a Cursor, at: Moment<'a>, more: bool) -> Self {
        let (starts, decisions) = (Vec::new(), Vec::new());
        Self { definition, cursor, at, more, last_ms: cursor.last_ms, starts, decisions }
    }

    fn decide(&mut self, due: Vec<Occurrence>) {
        self.last_ms = due.last().map_or(self.last_ms, Occurrence::at_ms);
        if let Some((outcome, reason)) = self.definition.held_back() {
            for occurrence in due {
                self.note(occurrence.at_ms(), outcome, &reason);
            }
            return;
        }
        let (mut missed, mut on_time) = (Vec::new(), Vec::new());
        for occurrence in due {
            match occurrence {
                Occurrence::Skipped { at_ms, why, .. } => {
                    let (outcome, reason) = match why {
                        DstSkip::Gap => (Outcome::DstGap, "the clocks skip this time"),
                        DstSkip::Fold => (Outcome::DstFold, "the clocks repeat this time"),
                    };
                    self.note(at_ms, outcome, reason);
                }
                Occurrence::Fire { at_ms, key, .. } if self.is_missed(at_ms) => {
                    missed.push(Missed { at_ms, key });
                }
                Occurrence::Fire { at_ms, key, .. } => {
                    on_time.push(Start { fire_ms: at_ms, key, caught_up: false });
                }
            }
        }
        self.decide_missed(missed);
        self.starts.extend(on_time);
    }

    fn is_missed(&self, at_ms: i64) -> bool {
        self.at.now_ms - at_ms > millis(self.at.misfire_after)
    }

    fn decide_missed(&mut self, mut missed: Vec<Missed>) {
        let grace = self.definition.spec.misfire_grace.unwrap_or(self.at.misfire_grace);
        let oldest = self.at.now_ms - millis(grace);
        let too_old = missed.partition_point(|one| one.at_ms < oldest);
        for one in missed.drain(..too_old) {
            self.note_missed(
                one.at_ms,
                &format!("it is later than its grace of {} s", grace.as_secs()),
            );
        }
        match self.definition.spec.misfire {
            Misfire::Skip => {
                for one in missed {
                    self.note_missed(one.at_ms, "the misfire policy is skip");
                }
            }
            Misfire::FireOnce => {
                // Of a backlog that is not read to its end, the latest is not among these.
                let latest = if self.missed_beyond(1) > 0 { None } else { missed.pop() };
                for one in missed {
                    self.note(one.at_ms, Outcome::Coalesced, "a later one stands for it");
                }
                self.starts.extend(latest.map(Missed::start));
            }
            Misfire::FireAll { max } => {
                let max = usize::try_from(max).unwrap_or(usize::MAX);
                let all = missed.len() + self.missed_beyond(max);
                let surplus = all.saturating_sub(max).min(missed.len());
                for one in missed.drain(..surplus) {
                    self.note_missed(one.at_ms, &format!("at most {max} are caught up"));
                }
                self.starts.extend(missed.into_iter().map(Missed::start));
            }
        }
    }

    /// How many missed due times follow those that are decided now, counted up to `most`.
    fn missed_beyond(&self, most: usize) -> usize {
        if !self.more {
            return 0;
        }
        let upcoming = self.definition.timetable.after(self.last_ms);
        let missed = upcoming.take_while(|occurrence| self.is_missed(occurrence.at_ms()));
        missed.filter(|one| matches!(one, Occurrence::Fire { .. })).take(most).count()
    }

    fn note_missed(&mut self, at_ms: i64, reason: &str) {
        let nobody_led = self.at.leaderless.iter().any(|(from, to)| (*from..*to).contains(&at_ms));
        if nobody_led {
            self.note(
                at_ms,
                Outcome::Leaderless,
                &format!("no node led at that time, and {reason}"),
            );
        } else {
            self.note(at_ms, Outcome::SkippedMisfire, reason);
        }
    }

    /// Writes a row per due time; of very many of one kind in a row, one for all.
    fn note(&mut self, at_ms: i64, outcome: Outcome, reason: &str) {
        let most = if self.more { 1 } else { MOST_ROWS };
        if self.decisions.len() >= most
            && let Some(last) = self.decisions.last_mut()
            && last.outcome == outcome
            && last.reason == reason
        {
            last.to_ms = at_ms;
            last.fires += 1;
            return;
        }
        self.decisions.push(Decision {
            from_ms: at_ms,
            to_ms: at_ms,
            fires: 1,
            outcome,
            reason: reason.to_owned(),
        });
    }

    fn finish(self, last_ms: i64, next_ms: Option<i64>) -> JobPlan {
        JobPlan {
            job: self.definition.spec.name.clone(),
            scope: self.cursor.scope.clone(),
            revision: self.cursor.revision,
            expected_last_ms: self.cursor.last_ms,
            last_ms,
            next_ms,
            starts: self.starts,
            decisions: self.decisions,
        }
    }
}

impl Missed {
    fn start(self) -> Start {
        Start { fire_ms: self.at_ms, key: self.key, caught_up: true }
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests;
