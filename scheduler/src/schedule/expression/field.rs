//! One field of a cron expression: its range, its names, and the items it may have.

use super::Item;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// How much of a wrong item is repeated in an error, characters.
const SHOWN: usize = 20;

/// Which of the six fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schedule) enum Field {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Weekday,
}

impl Field {
    /// Reads the list of items of this field.
    pub(super) fn parse(self, text: &str) -> Result<Vec<Item>, String> {
        let text = text.to_ascii_uppercase();
        if text == "*" || (text == "?" && matches!(self, Self::Day | Self::Weekday)) {
            return Ok(vec![Item::All]);
        }
        let items: Vec<Item> =
            text.split(',').map(|item| self.item(item)).collect::<Result<_, _>>()?;
        if items.contains(&Item::LastDay) && items.contains(&Item::LastWorkday) {
            return Err("must not have both `L` and `LW`: one of them decides".to_owned());
        }
        // To croner `*/1` is no wildcard, which matters when both day fields are given.
        Ok(if items == [Item::Step(1)] { vec![Item::All] } else { items })
    }

    fn item(self, item: &str) -> Result<Item, String> {
        if item.is_empty() {
            return Err(format!("must not have an empty item in the {} field", self.name()));
        }
        if item == "*" || item == "?" {
            return Err(format!(
                "must not have {} in the {} field: `*` stands alone, `?` too, and that only for days",
                shown(item),
                self.name()
            ));
        }
        if let Some((range, step)) = item.split_once('/') {
            return self.stepped(item, range, step);
        }
        if let Some(item) = self.special(item)? {
            return Ok(item);
        }
        match item.split_once('-') {
            Some((from, to)) => {
                let (from, to) = self.range(item, from, to)?;
                Ok(Item::Range { from, to, step: 1 })
            }
            None => Ok(Item::Value(self.value(item)?)),
        }
    }

    /// Reads `*/5` and `10-40/5`.
    fn stepped(self, item: &str, range: &str, step: &str) -> Result<Item, String> {
        let (least, most) = self.span();
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => self.range(item, from, to)?,
            None if range == "*" => (least, most),
            None => {
                let from = if range.is_empty() { least } else { self.value(range)? };
                return Err(format!(
                    "must say where the step ends in the {} field: `{from}-{most}/{step}`, not {}",
                    self.name(),
                    shown(item),
                    step =
                        step.chars().take(SHOWN).filter(char::is_ascii_digit).collect::<String>(),
                ));
            }
        };
        let longest = to - from;
        let step = number(step).filter(|step| (1..=longest).contains(step)).ok_or_else(|| {
            format!(
                "must have a step of 1 to {longest} in {} of the {} field: it does not go on into the next {}; \
                 for a steady rhythm use a schedule of kind `every`",
                shown(item),
                self.name(),
                self.next_greater(),
            )
        })?;
        Ok(if range == "*" { Item::Step(step) } else { Item::Range { from, to, step } })
    }

    /// Reads the items that only the days have: `L`, `LW`, `15W`, `5L`, `5#2`.
    fn special(self, item: &str) -> Result<Option<Item>, String> {
        match self {
            Self::Day => match (item, item.strip_suffix('W')) {
                ("L", _) => Ok(Some(Item::LastDay)),
                ("LW", _) => Ok(Some(Item::LastWorkday)),
                (_, Some(day)) => Ok(Some(Item::Nearest(self.value(day)?))),
                (_, None) => Ok(None),
            },
            Self::Weekday if item == "L" => Err(
                "must say which day in the day-of-week field: `5L` is the last Friday of the month, `6` is Saturday"
                    .to_owned(),
            ),
            Self::Weekday => match (item.strip_suffix('L'), item.split_once('#')) {
                (Some(weekday), _) => Ok(Some(Item::LastOf(self.value(weekday)?))),
                (None, Some((weekday, nth))) => {
                    let weekday = self.value(weekday)?;
                    let nth = number(nth).filter(|nth| (1..=5).contains(nth)).ok_or_else(|| {
                        format!(
                            "must have 1 to 5 after `#` in the day-of-week field, not {}",
                            shown(item)
                        )
                    })?;
                    Ok(Some(Item::Nth { weekday, nth }))
                }
                (None, None) => Ok(None),
            },
            Self::Second | Self::Minute | Self::Hour | Self::Month => Ok(None),
        }
    }

    fn range(self, item: &str, from: &str, to: &str) -> Result<(u8, u8), String> {
        let from = self.value(from)?;
        // A week ends on Sunday here: FRI-SUN.
        let to = match self {
            Self::Weekday if to == WEEKDAYS[0] => 7,
            Self::Second | Self::Minute | Self::Hour | Self::Day | Self::Month | Self::Weekday => {
                self.value(to)?
            }
        };
        if from > to {
            let (least, most) = self.span();
            return Err(format!(
                "must not have the range {} in the {} field, for it runs backwards: write `{from}-{most},{least}-{to}`",
                shown(item),
                self.name(),
            ));
        }
        Ok((from, to))
    }

    fn value(self, text: &str) -> Result<u8, String> {
        let named = |names: &[&str], first: u8| {
            let position = names.iter().position(|name| *name == text)?;
            Some(first + u8::try_from(position).ok()?)
        };
        let name = match self {
            Self::Month => named(&MONTHS, 1),
            Self::Weekday => named(&WEEKDAYS, 0),
            Self::Second | Self::Minute | Self::Hour | Self::Day => None,
        };
        let (least, most) = self.limits();
        name.or_else(|| number(text).filter(|value| (least..=most).contains(value))).ok_or_else(
            || {
                format!(
                    "must have {} in the {} field, not {}",
                    self.allowed(),
                    self.name(),
                    shown(text)
                )
            },
        )
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day-of-month",
            Self::Month => "month",
            Self::Weekday => "day-of-week",
        }
    }

    const fn next_greater(self) -> &'static str {
        match self {
            Self::Second => "minute",
            Self::Minute => "hour",
            Self::Hour => "day",
            Self::Day => "month",
            Self::Month => "year",
            Self::Weekday => "week",
        }
    }

    const fn allowed(self) -> &'static str {
        match self {
            Self::Second | Self::Minute => "0 to 59",
            Self::Hour => "0 to 23",
            Self::Day => "1 to 31, `L`, `LW` or `15W`",
            Self::Month => "1 to 12 or JAN to DEC",
            Self::Weekday => "0 to 7 (0 and 7 are Sunday), SUN to SAT, `5L` or `5#2`",
        }
    }

    /// The least and the greatest number that may be written.
    const fn limits(self) -> (u8, u8) {
        match self {
            Self::Weekday => (0, 7),
            Self::Second | Self::Minute | Self::Hour | Self::Day | Self::Month => self.span(),
        }
    }

    /// The first and the last value: what `*` stands for.
    pub(in crate::schedule) const fn span(self) -> (u8, u8) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::Day => (1, 31),
            Self::Month => (1, 12),
            Self::Weekday => (0, 6),
        }
    }
}

/// Reads digits only: no sign, no blanks.
fn number(text: &str) -> Option<u8> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Quotes a wrong item, shortened and without control characters.
fn shown(item: &str) -> String {
    let text: String = item.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    format!("`{text}`")
}
