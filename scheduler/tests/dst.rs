//! Test 13 of the design: due times around changes of clocks, compared with an oracle that walks the time line step by
//! step and knows nothing but what the clock on the wall shows at each step.
//!
//! The oracle shares no code with the implementation: it has its own cron fields, its own calendar and its own way to
//! policies. It goes from civil times to instants by a table; the implementation goes from instants to civil times.

#![expect(clippy::unwrap_used, reason = "all of it is test code")]

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use understudy_scheduler::schedule::{DstSkip, Occurrence, Timetable, ZoneName};
use understudy_scheduler::spec::{Fold, Gap, Schedule};

#[path = "dst/oracle.rs"]
mod oracle;

use oracle::{Event, Wall, due_events};

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;
const GAPS: [Gap; 4] = [Gap::Auto, Gap::FirstValid, Gap::Shift, Gap::Skip];
const FOLDS: [Fold; 4] = [Fold::Auto, Fold::First, Fold::Last, Fold::Both];

/// Zones with a moment in the middle of each day on which their clocks change; UTC never does.
const CHANGES: [(&str, &str); 13] = [
    ("Europe/Zurich", "2026-03-29T01:00:00Z"),
    ("Europe/Zurich", "2026-10-25T01:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Africa/Cairo", "2026-04-23T22:00:00Z"),
    ("Africa/Cairo", "2026-10-29T21:00:00Z"),
    ("Asia/Beirut", "2026-03-28T22:00:00Z"),
    ("Asia/Beirut", "2026-10-24T21:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Pacific/Apia", "2011-09-24T14:00:00Z"),
    ("UTC", "2026-03-29T01:00:00Z"),
];

/// Of each sort: times of the day in and beside the gaps, midnight, several on one instant, lists, steps, ranges, days.
const EXPRESSIONS: [&str; 14] = [
    "30 2 * * *",
    "15 2 * * *",
    "0 0 * * *",
    "30 0 * * *",
    "0 12 * * *",
    "0 2,3 * * *",
    "0,10,59 1,2,3,23 * * *",
    "*/20 2 * * *",
    "*/15 * * * *",
    "7 * * * *",
    "0 */2 * * *",
    "*/10 0-3 * * *",
    "45 23 * * 0,4,6",
    "5 2 29,30,31,25,8,1 * 6",
];

fn seconds(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
}

fn timetable(expression: &str, name: &str, gap: Gap, fold: Fold) -> Timetable {
    let (expression, time_zone) = (expression.to_owned(), Some(name.to_owned()));
    let schedule = Schedule::Cron { expression, time_zone, gap, fold };
    Timetable::parse(&schedule, &ZoneName::utc()).unwrap()
}

/// Takes the implementation's word for what happens after an instant and before another.
fn told(table: &Timetable, after_ms: i64, until: i64) -> Vec<Event> {
    table
        .after(after_ms)
        .take_while(|occurrence| occurrence.at_ms() < until * 1_000)
        .map(|occurrence| match occurrence {
            Occurrence::Fire { at_ms, key, .. } => {
                assert_eq!(key, format!("cron:{at_ms}"));
                Event { at: at_ms / 1_000, due: true }
            }
            Occurrence::Skipped { at_ms, key, why } => {
                assert!(key.starts_with("cron-skip:"), "{key}");
                assert_eq!(why, DstSkip::Gap, "a time that is due once is no skipped one");
                Event { at: at_ms / 1_000, due: false }
            }
        })
        .collect()
}

fn assert_ascending(events: &[Event], case: &str) {
    assert!(events.windows(2).all(|pair| pair[0].at < pair[1].at), "{case}: {events:?}");
}

#[test]
fn every_expression_policy_and_zone_agrees_with_the_oracle() {
    let mut compared = 0;
    for (name, change) in CHANGES {
        let change = seconds(change);
        let (from, until) = (change - 2 * DAY, change + 2 * DAY);
        let wall = Wall::walk(&zone(name), from - 2 * DAY, until + 2 * DAY, MINUTE);
        for expression in EXPRESSIONS {
            for gap in GAPS {
                for fold in FOLDS {
                    let case = format!("{expression} in {name} around {change}, {gap:?} {fold:?}");
                    let expected = due_events(&wall, expression, gap, fold, from..until);
                    let table = timetable(expression, name, gap, fold);
                    let told = told(&table, from * 1_000 - 1, until);
                    assert_eq!(told, expected, "{case}");
                    assert_ascending(&told, &case);
                    compared += told.len();
                }
            }
        }
    }
    assert!(compared > 50_000, "{compared} due times were compared");
}

#[test]
fn whoever_takes_over_at_any_minute_of_the_day_sees_the_same_due_times() {
    for (position, (name, change)) in CHANGES.into_iter().enumerate() {
        let change = seconds(change);
        let (from, until) = (change - DAY / 2, change + DAY / 2);
        let wall = Wall::walk(&zone(name), from - 3 * DAY, until + 3 * DAY, MINUTE);
        for (turn, expression) in EXPRESSIONS.into_iter().enumerate() {
            // Each expression meets each policy in some zone; one pair has all minutes of all zones for itself.
            let (gap, fold) = (GAPS[(turn + position) % 4], FOLDS[(turn + position / 4) % 4]);
            for (gap, fold) in [(gap, fold), (Gap::Shift, Fold::Both)] {
                let expected = due_events(&wall, expression, gap, fold, from..until);
                let table = timetable(expression, name, gap, fold);
                for minute in (from..until).step_by(60) {
                    let next = expected.iter().find(|event| event.at > minute);
                    let told = table.next_fire(minute * 1_000).map(|at_ms| at_ms / 1_000);
                    let told = told.filter(|at| *at < until);
                    let case = format!("{expression} in {name} after {minute}, {gap:?} {fold:?}");
                    assert_eq!(told, next.map(|event| event.at), "{case}");
                }
            }
        }
    }
}

#[test]
fn the_whole_rest_is_the_same_from_wherever_it_is_entered() {
    let change = seconds("2026-10-25T01:00:00Z");
    let (from, until) = (change - 3 * 3_600, change + 3 * 3_600);
    for expression in ["*/15 * * * *", "30 2 * * *", "*/7 */10 1-3 * * *"] {
        for fold in FOLDS {
            let table = timetable(expression, "Europe/Zurich", Gap::Auto, fold);
            let all = told(&table, from * 1_000, until);
            for after in (from..until).step_by(60) {
                let here = all.iter().find(|event| event.at == after && event.due);
                let due = matches!(table.is_due_at(after * 1_000), Some(Occurrence::Fire { .. }));
                assert!(after == from || due == here.is_some(), "{expression} at {after}");
                let rest: Vec<Event> = all.iter().copied().filter(|due| due.at > after).collect();
                assert_eq!(told(&table, after * 1_000, until), rest, "{expression} after {after}");
            }
        }
    }
}

#[test]
fn seconds_in_the_gap_and_in_the_repeated_hour_agree_with_the_oracle() {
    for (name, change) in [CHANGES[0], CHANGES[1], CHANGES[8], CHANGES[9]] {
        let change = seconds(change);
        let (from, until) = (change - 3 * 3_600, change + 3 * 3_600);
        let wall = Wall::walk(&zone(name), from - DAY, until + DAY, 1);
        for expression in
            ["*/7 */10 * * * *", "5,50 30 1,2 * * *", "* 15 2 * * *", "30 0 0-4 * * *"]
        {
            for (gap, fold) in GAPS.into_iter().zip(FOLDS) {
                let expected = due_events(&wall, expression, gap, fold, from..until);
                let table = timetable(expression, name, gap, fold);
                let told = told(&table, from * 1_000 - 1, until);
                assert_eq!(told, expected, "{expression} in {name}, {gap:?} {fold:?}");
            }
        }
    }
}

#[test]
fn random_expressions_in_random_zones_agree_with_the_oracle() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let names: Vec<String> =
        TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect();
    let mut cases = 0;
    while cases < 300 {
        let name = &names[random.random_range(0..names.len())];
        let zone = zone(name);
        let start = Timestamp::from_second(random.random_range(0..2_300_000_000)).unwrap();
        // Zones that have given up changing their clocks are looked at where they still did, or at no change at all.
        let change = zone.following(start).next().map_or(start, |change| change.timestamp());
        let change = change.as_second();
        let (from, until) = (change - 2 * DAY, change + 2 * DAY);
        let wall = Wall::walk(&zone, from - 2 * DAY, until + 2 * DAY, MINUTE);
        if !wall.has_at_most_one_change_and_whole_minutes() {
            continue;
        }
        cases += 1;
        let expression = random_expression(&mut random);
        let (gap, fold) = (GAPS[random.random_range(0..4)], FOLDS[random.random_range(0..4)]);
        let expected = due_events(&wall, &expression, gap, fold, from..until);
        let table = timetable(&expression, name, gap, fold);
        let case = format!("seed {seed}: {expression} in {name} around {change}, {gap:?} {fold:?}");
        assert_eq!(told(&table, from * 1_000 - 1, until), expected, "{case}");
        for _ in 0..20 {
            let after = random.random_range(from..until);
            let next = expected.iter().find(|event| event.at > after).map(|event| event.at);
            let told = table.next_fire(after * 1_000).map(|at_ms| at_ms / 1_000);
            assert_eq!(told.filter(|at| *at < until), next, "{case}, after {after}");
        }
    }
}

fn random_expression(random: &mut StdRng) -> String {
    let field = |random: &mut StdRng, least: u8, most: u8| match random.random_range(0..5) {
        0 => "*".to_owned(),
        1 => format!("*/{}", random.random_range(1..=most - least)),
        2 => {
            let from = random.random_range(least..most);
            format!("{from}-{}", random.random_range(from + 1..=most))
        }
        3 => random.random_range(least..=most).to_string(),
        _ => {
            let values: Vec<String> =
                (0..3).map(|_| random.random_range(least..=most).to_string()).collect();
            values.join(",")
        }
    };
    let (minute, hour) = (field(random, 0, 59), field(random, 0, 23));
    // Hours in which clocks change are worth more than their share.
    let hour = if random.random_bool(0.5) { "0,1,2,3".to_owned() } else { hour };
    let weekday = if random.random_bool(0.7) { "*".to_owned() } else { field(random, 0, 6) };
    format!("{minute} {hour} * * {weekday}")
}
