//! What a cron expression matches on the dial of a clock: civil time only, without zones.
//!
//! croner says which months, days, hours, minutes and seconds match. The walk from one to the next is done here, because
//! croner's own does not stop at a limit and keeps a list of 5,000 years, six times as large as all the rest.

use croner::time::Weekday;
use croner::{Cron, Direction, TimeComponent};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use crate::schedule::expression::Expression;

const DAY: i64 = 86_400;

/// The civil times of an expression.
pub(super) struct Dial(Cron);

impl Dial {
    pub(super) fn of(expression: &Expression) -> Result<Self, String> {
        let mut cron: Cron = expression
            .to_string()
            .parse()
            .map_err(|error| format!("must be a cron expression of 5 or 6 fields: {error}"))?;
        cron.pattern.years = Default::default();
        Ok(Self(cron))
    }

    /// Finds the first civil time that matches, `from` included, `until` not. Seconds since 1970 of the same clock.
    pub(super) fn next(&self, from: i64, until: i64) -> Option<i64> {
        let (mut day, mut time) = (from.div_euclid(DAY), from.rem_euclid(DAY));
        let mut date = Offset::UTC.to_datetime(Timestamp::from_second(from).ok()?).date();
        while day * DAY < until {
            let in_month = self.0.pattern.month_match(u32::try_from(date.month()).ok()?).ok()?;
            if in_month
                && self.matches_day(date)?
                && let Some(found) = self.time_from(u32::try_from(time).ok()?)
            {
                let civil = day * DAY + i64::from(found);
                return (civil < until).then_some(civil);
            }
            let next = if in_month { date } else { date.last_of_month() };
            day += i64::from(next.day() - date.day()) + 1;
            date = next.tomorrow().ok()?;
            time = 0;
        }
        None
    }

    fn matches_day(&self, date: Date) -> Option<bool> {
        let weekday = u32::try_from(date.weekday().to_sunday_zero_offset()).ok()?;
        let weekday = Weekday::from_days_from_sunday(weekday);
        let (month, day) = (u32::try_from(date.month()).ok()?, u32::try_from(date.day()).ok()?);
        self.0.pattern.day_match(i32::from(date.year()), month, day, weekday).ok()
    }

    /// Finds the first matching time of a day at or after a second of it.
    fn time_from(&self, second_of_day: u32) -> Option<u32> {
        let (hour, minute, second) =
            (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
        let first = |component, value| self.first_value(component, value);
        let of = |hour: u32, minute: u32, second: u32| hour * 3_600 + minute * 60 + second;
        if first(TimeComponent::Hour, hour)? == hour {
            if first(TimeComponent::Minute, minute) == Some(minute)
                && let Some(second) = first(TimeComponent::Second, second)
            {
                return Some(of(hour, minute, second));
            }
            if let Some(minute) = first(TimeComponent::Minute, minute + 1) {
                return Some(of(hour, minute, first(TimeComponent::Second, 0)?));
            }
        }
        let hour = match first(TimeComponent::Hour, hour)? {
            this if this == hour => first(TimeComponent::Hour, hour + 1)?,
            later => later,
        };
        Some(of(hour, first(TimeComponent::Minute, 0)?, first(TimeComponent::Second, 0)?))
    }

    /// Finds the first matching value of a field at or after one; none beyond its greatest.
    fn first_value(&self, component: TimeComponent, value: u32) -> Option<u32> {
        self.0.pattern.find_match_in_component(value, component, Direction::Forward).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::DateTime;

    use super::*;

    #[test]
    fn the_walk_finds_what_croners_own_walk_finds() {
        let start: DateTime = "2026-11-26T13:14:15".parse().unwrap();
        for text in [
            "* * * * * *",
            "*/7 */13 */5 * * *",
            "30 2 * * *",
            "59 23 31 12 *",
            "0 0 29 2 *",
            "15,45 9-17 * * MON-FRI",
            "0 0 LW * *",
            "0 0 L 2,4 *",
            "0 0 1W,15W * *",
            "0 0 31W * *",
            "0 0 * * 5L",
            "0 0 * * 1#5",
            "0 12 13 * FRI",
            "0 12 13 * +FRI",
            "0 0 */2 JAN,JUL SUN",
        ] {
            let expression = Expression::parse(text).unwrap();
            let dial = Dial::of(&expression).unwrap();
            let cron: Cron = expression.to_string().parse().unwrap();
            let mut expected = start;
            let mut told = Offset::UTC.to_timestamp(start).unwrap().as_second();
            for _ in 0..40 {
                expected = cron.find_next_occurrence(&expected, false).unwrap();
                told = dial.next(told + 1, i64::MAX).unwrap();
                let told = Offset::UTC.to_datetime(Timestamp::from_second(told).unwrap());
                assert_eq!(told, expected, "{text}");
            }
        }
    }

    #[test]
    fn the_walk_stops_at_its_limit() {
        let dial = Dial::of(&Expression::parse("30 2 * * *").unwrap()).unwrap();
        let due = 2 * 3_600 + 30 * 60;
        assert_eq!(dial.next(0, due), None);
        assert_eq!(dial.next(0, due + 1), Some(due));
        assert_eq!(dial.next(due, due + 1), Some(due));
        assert_eq!(dial.next(due + 1, DAY + due), None);
        assert_eq!(dial.next(-1, DAY), Some(due));
        assert_eq!(dial.next(5, 5), None);
        assert_eq!(dial.next(due + 1, due), None);
    }
}
