//! Cron expressions as written: what each field says, and clear words for what is wrong with it.
//!
//! croner decides what an expression matches; but it lets through what nobody can have meant (`*/90`, `MON` as a month,
//! `1,,2`) and does not say what would be right. So the text is read here first, and handed to it in its plainest form.

use std::fmt::{self, Write};

mod field;

pub(super) use field::Field;

/// Longest expression, bytes.
const MAX_LENGTH: usize = 256;
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// An expression, field by field; each field is a list of one or more items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expression {
    pub(super) seconds: Vec<Item>,
    pub(super) minutes: Vec<Item>,
    pub(super) hours: Vec<Item>,
    pub(super) days: Vec<Item>,
    pub(super) months: Vec<Item>,
    pub(super) weekdays: Vec<Item>,
    /// Whether a day must satisfy both the day of the month and the day of the week (`+` before the latter).
    pub(super) both_days: bool,
}

/// One item of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// `*` or `?`.
    All,
    /// `5`.
    Value(u8),
    /// `1-5`, `1-5/2`.
    Range { from: u8, to: u8, step: u8 },
    /// `*/5`.
    Step(u8),
    /// `L`: the last day of the month.
    LastDay,
    /// `LW`: the last Monday to Friday of the month.
    LastWorkday,
    /// `15W`: the Monday to Friday nearest to that day of the month.
    Nearest(u8),
    /// `2#1`: the first Tuesday of the month.
    Nth { weekday: u8, nth: u8 },
    /// `5L`: the last Friday of the month.
    LastOf(u8),
}

impl Expression {
    /// Reads an expression of 5 or 6 fields or a nickname. The error goes on after the name of the field.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("must not be empty: `0 2 * * *` is 02:00 every day".to_owned());
        }
        if text.len() > MAX_LENGTH {
            return Err(format!("must be at most {MAX_LENGTH} bytes"));
        }
        let text = if text.starts_with('@') { expand(text)? } else { text };
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        match fields.len() {
            5 => fields.insert(0, "0"),
            6 => {}
            7 => {
                return Err(
                    "must have 5 or 6 fields, not 7: there is no field for years".to_owned()
                );
            }
            count => {
                return Err(format!(
                    "must have 5 fields (minute, hour, day of month, month, day of week) or 6 with seconds first, \
                     not {count}"
                ));
            }
        }
        let (both_days, weekdays) = match fields[5].strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (false, fields[5]),
        };
        Ok(Self {
            seconds: Field::Second.parse(fields[0])?,
            minutes: Field::Minute.parse(fields[1])?,
            hours: Field::Hour.parse(fields[2])?,
            days: Field::Day.parse(fields[3])?,
            months: Field::Month.parse(fields[4])?,
            weekdays: Field::Weekday.parse(weekdays)?,
            both_days,
        })
    }

    /// Whether it repeats within the hour or the day: the minutes or hours have `*`, a step or a range. Such jobs follow
    /// the clock on the wall through a change of clocks, others are jobs of a time of the day (Vixie's rule).
    pub(super) fn is_interval(&self) -> bool {
        self.minutes.iter().chain(&self.hours).any(|item| !matches!(item, Item::Value(_)))
    }
}

/// Writes it as croner reads it, without names, always with seconds.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields =
            [&self.seconds, &self.minutes, &self.hours, &self.days, &self.months, &self.weekdays];
        for (position, items) in fields.into_iter().enumerate() {
            if position > 0 {
                f.write_char(' ')?;
            }
            if position == 5 && self.both_days {
                f.write_char('+')?;
            }
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    f.write_char(',')?;
                }
                item.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_char('*'),
            Self::Value(value) => write!(f, "{value}"),
            Self::Range { from, to, step: 1 } => write!(f, "{from}-{to}"),
            Self::Range { from, to, step } => write!(f, "{from}-{to}/{step}"),
            Self::Step(step) => write!(f, "*/{step}"),
            Self::LastDay => f.write_char('L'),
            Self::LastWorkday => f.write_str("LW"),
            Self::Nearest(day) => write!(f, "{day}W"),
            Self::Nth { weekday, nth } => write!(f, "{weekday}#{nth}"),
            Self::LastOf(weekday) => write!(f, "{weekday}L"),
        }
    }
}

fn expand(text: &str) -> Result<&'static str, String> {
    let known = NICKNAMES.iter().find(|(nickname, _)| nickname.eq_ignore_ascii_case(text));
    if let Some((_, expression)) = known {
        return Ok(expression);
    }
    if text.eq_ignore_ascii_case("@reboot") {
        return Err("must be a time, and `@reboot` is none: nodes start at any time, and each for itself; let the \
                    application do that work when it starts"
            .to_owned());
    }
    if text.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("@every")) {
        return Err("must be a time: for `@every` use a schedule of kind `every`".to_owned());
    }
    Err("must be one of `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`, or 5 or 6 \
         fields"
        .to_owned())
}

#[cfg(test)]
mod tests;
