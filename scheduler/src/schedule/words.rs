//! Cron expressions in plain English: a phrase for the usual ones, else field by field, which is always right.

use std::time::Duration;

use super::expression::{Expression, Field, Item};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ORDINALS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];
/// How many times of the day are told one by one.
const MOST_TIMES: usize = 6;

/// Says when an expression is due; one that cannot be read is repeated.
pub(super) fn of_expression(text: &str) -> String {
    let Ok(expression) = Expression::parse(text) else { return text.to_owned() };
    let (times, days) = (times(&expression), days(&expression));
    match days {
        Some(days) => format!("{} {days}", times.text),
        None if times.all_day => times.text,
        None => format!("{} every day", times.text),
    }
}

/// Says how long: "30 s", "1 h 30 min".
pub(super) fn of_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_millis()), "ms"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

struct Times {
    text: String,
    /// Whether it says by itself that it goes on all day, so that "every day" would be odd.
    all_day: bool,
}

fn times(expression: &Expression) -> Times {
    if let Some(text) = rhythm(expression) {
        return Times { text, all_day: true };
    }
    let text = times_of_day(expression)
        .or_else(|| rhythm_within_hours(expression))
        .unwrap_or_else(|| field_by_field(expression));
    Times { text, all_day: false }
}

/// "every 5 minutes", "every hour", "17 minutes past every hour", "every 2 hours from 00:00".
fn rhythm(expression: &Expression) -> Option<String> {
    let all = [Item::All];
    let (minutes, hours) = (&expression.minutes, &expression.hours);
    if *minutes == all && *hours == all && values(&expression.seconds).is_none() {
        return Some(every(step(&expression.seconds, 60)?, "second"));
    }
    if values(&expression.seconds)? != [0] {
        return None;
    }
    if *hours != all {
        let from_midnight = values(minutes)? == [0] && matches!(hours[..], [Item::Step(_)]);
        let step = step(hours, 24).filter(|_| from_midnight)?;
        return Some(format!("{} from 00:00", every(step, "hour")));
    }
    if let Some(step) = step(minutes, 60) {
        return Some(every(step, "minute"));
    }
    Some(match values(minutes)?[..] {
        [0] => "every hour".to_owned(),
        [1] => "1 minute past every hour".to_owned(),
        [minute] => format!("{minute} minutes past every hour"),
        ref minutes => format!("at {} minutes past every hour", join(minutes.iter())),
    })
}

/// "at 02:00", "at 09:00, 12:30 and 18:00".
fn times_of_day(expression: &Expression) -> Option<String> {
    let (seconds, minutes, hours) =
        (values(&expression.seconds)?, values(&expression.minutes)?, values(&expression.hours)?);
    if seconds.len() * minutes.len() * hours.len() > MOST_TIMES {
        return None;
    }
    let mut times = Vec::new();
    for hour in &hours {
        for minute in &minutes {
            for second in &seconds {
                times.push(match second {
                    0 if seconds.len() == 1 => format!("{hour:02}:{minute:02}"),
                    second => format!("{hour:02}:{minute:02}:{second:02}"),
                });
            }
        }
    }
    Some(format!("at {}", join(times.iter())))
}

/// "every 15 minutes from 09:00 to 17:45", "every hour from 08:30 to 18:30".
fn rhythm_within_hours(expression: &Expression) -> Option<String> {
    let (from, to) = match expression.hours[..] {
        [Item::Range { from, to, step: 1 }] => (from, to),
        [Item::Value(hour)] => (hour, hour),
        [_] | [] | [_, _, ..] => return None,
    };
    if values(&expression.seconds)? != [0] {
        return None;
    }
    if let Some(step) = step(&expression.minutes, 60) {
        let last = 60 - step;
        return Some(format!("{} from {from:02}:00 to {to:02}:{last:02}", every(step, "minute")));
    }
    match values(&expression.minutes)?[..] {
        [minute] => Some(format!("every hour from {from:02}:{minute:02} to {to:02}:{minute:02}")),
        [] | [_, _, ..] => None,
    }
}

/// "at second 5 of minutes 0 to 59 in steps of 7 of every hour".
fn field_by_field(expression: &Expression) -> String {
    let mut parts = Vec::new();
    if expression.seconds != [Item::Value(0)] {
        parts.push(numbers(&expression.seconds, Field::Second, "second"));
    }
    parts.push(numbers(&expression.minutes, Field::Minute, "minute"));
    parts.push(numbers(&expression.hours, Field::Hour, "hour"));
    format!("at {}", parts.join(" of "))
}

/// On which days; nothing when every day of the year.
fn days(expression: &Expression) -> Option<String> {
    let all = [Item::All];
    let (every_day, every_weekday) = (expression.days == all, expression.weekdays == all);
    let every_month = expression.months == all;
    let months = names(&expression.months, Field::Month);
    let in_months = if every_month { String::new() } else { format!(" in {months}") };
    match (every_day, every_weekday) {
        (true, true) if every_month => None,
        (true, true) => Some(format!("every day{in_months}")),
        (false, true) => match (values(&expression.days), values(&expression.months)) {
            (Some(days), Some(months)) if days.len() == 1 && months.len() == 1 => {
                Some(format!("on {} {}", days[0], MONTHS[usize::from(months[0] - 1)]))
            }
            _ if every_month => {
                Some(format!("on {}", days_of_month(&expression.days, "the month")))
            }
            _ => Some(format!("on {}", days_of_month(&expression.days, &months))),
        },
        (true, false) => Some(format!("on {}{in_months}", weekdays(&expression.weekdays, "and"))),
        (false, false) => {
            let days = days_of_month(&expression.days, "the month");
            let weekdays = |conjunction| weekdays(&expression.weekdays, conjunction);
            Some(if expression.both_days {
                format!("on {days} if it is {}{in_months}", weekdays("or"))
            } else {
                format!("on {days} or on {}{in_months}", weekdays("and"))
            })
        }
    }
}

/// "days 1 and 15 of the month", "the last day of the month".
fn days_of_month(items: &[Item], month: &str) -> String {
    let mut plain = Vec::new();
    let mut parts = Vec::new();
    for item in items {
        match item {
            Item::LastDay => parts.push(format!("the last day of {month}")),
            Item::LastWorkday => {
                parts.push(format!("the last weekday (Monday to Friday) of {month}"));
            }
            Item::Nearest(day) => {
                parts.push(format!(
                    "the weekday (Monday to Friday) nearest to day {day} of {month}"
                ));
            }
            Item::All
            | Item::Value(_)
            | Item::Range { .. }
            | Item::Step(_)
            | Item::Nth { .. }
            | Item::LastOf(_) => plain.push(*item),
        }
    }
    if !plain.is_empty() {
        parts.insert(0, format!("{} of {month}", numbers(&plain, Field::Day, "day")));
    }
    join(parts.iter())
}

/// "Monday and Friday", "the second Tuesday of the month".
fn weekdays(items: &[Item], conjunction: &str) -> String {
    let parts: Vec<String> = items
        .iter()
        .map(|item| match *item {
            Item::Nth { weekday, nth } => {
                let nth = ORDINALS[usize::from(nth - 1)];
                format!("the {nth} {} of the month", weekday_name(weekday))
            }
            Item::LastOf(weekday) => format!("the last {} of the month", weekday_name(weekday)),
            Item::All
            | Item::Value(_)
            | Item::Range { .. }
            | Item::Step(_)
            | Item::LastDay
            | Item::LastWorkday
            | Item::Nearest(_) => names(&[*item], Field::Weekday),
        })
        .collect();
    join_with(parts.iter(), conjunction)
}

/// Names of months or weekdays: "January and July", "Monday to Friday".
fn names(items: &[Item], field: Field) -> String {
    let name = |value: u8| {
        if field == Field::Month { MONTHS[usize::from(value - 1)] } else { weekday_name(value) }
    };
    let mut parts = Vec::new();
    for item in items {
        if let Item::Range { from, to, step: 1 } = *item {
            parts.push(format!("{} to {}", name(from), name(to)));
        } else {
            parts.extend(expand(*item, field).map(|value| name(value).to_owned()));
        }
    }
    join(parts.iter())
}

fn weekday_name(weekday: u8) -> &'static str {
    WEEKDAYS[usize::from(weekday % 7)]
}

/// "every minute", "minute 5", "minutes 0, 10 to 20 and 30 to 50 in steps of 5".
fn numbers(items: &[Item], field: Field, unit: &str) -> String {
    if *items == [Item::All] {
        return format!("every {unit}");
    }
    let parts: Vec<String> = items
        .iter()
        .map(|item| match *item {
            Item::Range { from, to, step: 1 } => format!("{from} to {to}"),
            Item::Range { from, to, step } => format!("{from} to {to} in steps of {step}"),
            Item::Step(step) => {
                let (from, to) = field.span();
                format!("{from} to {to} in steps of {step}")
            }
            Item::All
            | Item::Value(_)
            | Item::LastDay
            | Item::LastWorkday
            | Item::Nearest(_)
            | Item::Nth { .. }
            | Item::LastOf(_) => item.to_string(),
        })
        .collect();
    let plural = if matches!(items, [Item::Value(_)]) { "" } else { "s" };
    format!("{unit}{plural} {}", join(parts.iter()))
}

/// Gives the values of a field that has nothing but plain values, ascending.
fn values(items: &[Item]) -> Option<Vec<u8>> {
    let mut values = items
        .iter()
        .map(|item| if let Item::Value(value) = item { Some(*value) } else { None })
        .collect::<Option<Vec<u8>>>()?;
    values.sort_unstable();
    values.dedup();
    Some(values)
}

/// Gives the step of `*` and `*/n` when it divides `whole`, so that it is the same across its end.
fn step(items: &[Item], whole: u8) -> Option<u8> {
    match *items {
        [Item::All] => Some(1),
        [Item::Step(step)] if whole.is_multiple_of(step) => Some(step),
        _ => None,
    }
}

fn expand(item: Item, field: Field) -> impl Iterator<Item = u8> {
    let (least, most) = field.span();
    let (from, to, step) = match item {
        Item::Value(value) => (value, value, 1),
        Item::Range { from, to, step } => (from, to, step),
        Item::Step(step) => (least, most, step),
        // All but the first are told by themselves before.
        Item::All
        | Item::LastDay
        | Item::LastWorkday
        | Item::Nearest(_)
        | Item::Nth { .. }
        | Item::LastOf(_) => (least, most, 1),
    };
    (from..=to).step_by(usize::from(step))
}

fn every(step: u8, unit: &str) -> String {
    if step == 1 { format!("every {unit}") } else { format!("every {step} {unit}s") }
}

fn join<T: ToString>(parts: impl ExactSizeIterator<Item = T>) -> String {
    join_with(parts, "and")
}

fn join_with<T: ToString>(parts: impl ExactSizeIterator<Item = T>, conjunction: &str) -> String {
    let mut text = String::new();
    let count = parts.len();
    for (position, part) in parts.enumerate() {
        if position > 0 && position + 1 == count {
            text.push_str(&format!(" {conjunction} "));
        } else if position > 0 {
            text.push_str(", ");
        }
        text.push_str(&part.to_string());
    }
    text
}
