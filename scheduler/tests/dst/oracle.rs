//! What is due, by brute force: a table of what the clock shows at every step, and every civil time looked up in it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use understudy_scheduler::spec::{Fold, Gap};

/// Something that happens at an instant (seconds since 1970): a run is due, or one is struck out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: i64,
    pub(crate) due: bool,
}

/// What the clock on the wall shows at every step of a stretch of time.
pub(crate) struct Wall {
    step: i64,
    /// Instant and civil time, step by step.
    shown: Vec<(i64, i64)>,
    /// At which instants a civil time is shown.
    instants: HashMap<i64, Vec<i64>>,
}

impl Wall {
    pub(crate) fn walk(zone: &TimeZone, from: i64, until: i64, step: i64) -> Self {
        let from = from - from.rem_euclid(step);
        let mut shown = Vec::new();
        let mut instants: HashMap<i64, Vec<i64>> = HashMap::new();
        for at in (from..until).step_by(usize::try_from(step).unwrap()) {
            let offset = zone.to_offset(Timestamp::from_second(at).unwrap()).seconds();
            let civil = at + i64::from(offset);
            shown.push((at, civil));
            instants.entry(civil).or_default().push(at);
        }
        Self { step, shown, instants }
    }

    /// Whether minutes are enough to tell everything, and one change of clocks is all there is.
    pub(crate) fn has_at_most_one_change_and_whole_minutes(&self) -> bool {
        let changes =
            self.shown.windows(2).filter(|pair| pair[1].1 - pair[0].1 != self.step).count();
        changes <= 1 && self.shown.iter().all(|(_, civil)| civil % 60 == 0)
    }
}

/// Tells everything that happens within `range`.
pub(crate) fn due_events(
    wall: &Wall,
    expression: &str,
    gap: Gap,
    fold: Fold,
    range: Range<i64>,
) -> Vec<Event> {
    let fields = Fields::read(expression);
    let follows_the_clock = fields.follows_the_clock;
    let mut events: BTreeMap<i64, bool> = BTreeMap::new();
    let least = wall.shown.iter().map(|shown| shown.1).min().unwrap();
    let most = wall.shown.iter().map(|shown| shown.1).max().unwrap();
    let mut civil = least;
    while civil <= most {
        if fields.matches(civil) {
            match wall.instants.get(&civil).map(Vec::as_slice) {
                Some([at]) => {
                    events.insert(*at, true);
                }
                Some([first, second]) => {
                    let (on_first, on_second) = match fold {
                        Fold::Auto => (true, follows_the_clock),
                        Fold::First => (true, false),
                        Fold::Last => (false, true),
                        Fold::Both => (true, true),
                    };
                    if on_first {
                        events.insert(*first, true);
                    }
                    if on_second {
                        events.insert(*second, true);
                    }
                }
                Some(_) => panic!("{civil} is shown three times"),
                None => {
                    // The clock jumps over it: find the jump.
                    let jump =
                        wall.shown.windows(2).find(|two| two[0].1 < civil && civil < two[1].1);
                    let (last_shown, after) = jump.map(|two| (two[0].1, two[1].0)).unwrap();
                    let missing_since = last_shown + wall.step;
                    let (at, due) = match gap {
                        Gap::Auto if follows_the_clock => {
                            civil += wall.step;
                            continue;
                        }
                        Gap::Auto | Gap::FirstValid => (after, true),
                        Gap::Shift => (after + civil - missing_since, true),
                        Gap::Skip => (after, false),
                    };
                    let known = events.entry(at).or_insert(due);
                    *known |= due;
                }
            }
        }
        civil += wall.step;
    }
    events
        .into_iter()
        .filter(|(at, _)| range.contains(at))
        .map(|(at, due)| Event { at, due })
        .collect()
}

/// The fields of an expression as sets; knows `*`, `*/n`, `a-b`, `a` and lists, which is all the tests use.
struct Fields {
    seconds: Vec<bool>,
    minutes: Vec<bool>,
    hours: Vec<bool>,
    days: Vec<bool>,
    months: Vec<bool>,
    weekdays: Vec<bool>,
    any_day: bool,
    any_weekday: bool,
    follows_the_clock: bool,
}

impl Fields {
    fn read(expression: &str) -> Self {
        let mut fields: Vec<&str> = expression.split(' ').collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let plain = |field: &str| field.chars().all(|c| c.is_ascii_digit() || c == ',');
        Self {
            seconds: set(fields[0], 0, 59),
            minutes: set(fields[1], 0, 59),
            hours: set(fields[2], 0, 23),
            days: set(fields[3], 1, 31),
            months: set(fields[4], 1, 12),
            weekdays: set(fields[5], 0, 6),
            any_day: fields[3] == "*",
            any_weekday: matches!(fields[5], "*" | "*/1"),
            follows_the_clock: !plain(fields[1]) || !plain(fields[2]),
        }
    }

    fn matches(&self, civil: i64) -> bool {
        let (day_number, of_day) = (civil.div_euclid(86_400), civil.rem_euclid(86_400));
        let index = |number: i64| usize::try_from(number).unwrap();
        let in_time = self.seconds[index(of_day % 60)]
            && self.minutes[index(of_day / 60 % 60)]
            && self.hours[index(of_day / 3_600)];
        if !in_time {
            return false;
        }
        let (month, day) = month_and_day(day_number);
        // The first of January 1970 was a Thursday.
        let weekday = self.weekdays[index((day_number + 4).rem_euclid(7))];
        let day = self.days[index(day)];
        let on_day = match (self.any_day, self.any_weekday) {
            (true, true) => true,
            (true, false) => weekday,
            (false, true) => day,
            (false, false) => day || weekday,
        };
        on_day && self.months[index(month)]
    }
}

fn set(field: &str, least: usize, most: usize) -> Vec<bool> {
    let mut set = vec![false; most + 1];
    for item in field.split(',') {
        let (range, step) = item.split_once('/').unwrap_or((item, "1"));
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
            None if range == "*" => (least, most),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        for value in (from..=to).step_by(step.parse().unwrap()) {
            set[value] = true;
        }
    }
    set
}

/// Counts through the years and months since 1970.
fn month_and_day(day_number: i64) -> (i64, i64) {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut rest) = (1970, day_number);
    while rest < 0 {
        year -= 1;
        rest += if leap(year) { 366 } else { 365 };
    }
    while rest >= if leap(year) { 366 } else { 365 } {
        rest -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (month, rest + 1)
}
