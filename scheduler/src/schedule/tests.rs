use std::time::Duration;

use super::*;
use crate::spec::{Fold, Gap};

fn cron_with(expression: &str, zone: &str, gap: Gap, fold: Fold) -> Timetable {
    let time_zone = Some(zone.to_owned());
    let schedule = Schedule::Cron { expression: expression.to_owned(), time_zone, gap, fold };
    Timetable::parse(&schedule, &ZoneName::utc()).unwrap()
}

fn cron(expression: &str, zone: &str) -> Timetable {
    cron_with(expression, zone, Gap::Auto, Fold::Auto)
}

fn every(every: Duration, anchor_ms: i64) -> Result<Timetable, ScheduleError> {
    Timetable::parse(&Schedule::Every { every, anchor_ms }, &ZoneName::utc())
}

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

/// The runs that are due in a day of a zone, as local times; the offset tells the halves of a repeated hour apart.
fn due_on(timetable: &Timetable, day: &str) -> Vec<String> {
    let zone = timetable.zone().time_zone();
    let day: jiff::civil::Date = day.parse().unwrap();
    let until = day.tomorrow().unwrap().to_zoned(zone.clone()).unwrap().timestamp();
    let from = day.to_zoned(zone.clone()).unwrap().timestamp();
    timetable
        .after(from.as_millisecond() - 1)
        .take_while(|occurrence| occurrence.at_ms() < until.as_millisecond())
        .filter(|occurrence| matches!(occurrence, Occurrence::Fire { .. }))
        .map(|occurrence| local_clock(zone, occurrence.at_ms()))
        .collect()
}

fn local_clock(zone: &jiff::tz::TimeZone, at_ms: i64) -> String {
    let zoned = Timestamp::from_millisecond(at_ms).unwrap().to_zoned(zone.clone());
    zoned.strftime("%H:%M%:z").to_string()
}

#[test]
fn gaps_are_resolved_as_in_the_table_of_the_design() {
    let zurich = |expression| due_on(&cron(expression, "Europe/Zurich"), "2026-03-29");
    assert_eq!(zurich("30 2 * * *"), ["03:00+02:00"]);
    assert_eq!(zurich("0 2,3 * * *"), ["03:00+02:00"], "two times on one instant are one due time");
    assert_eq!(
        zurich("0 */2 * * *")[..3],
        ["00:00+01:00", "04:00+02:00", "06:00+02:00"],
        "what follows the clock does not run in the gap"
    );
    assert!(zurich("*/20 2 * * *").is_empty());
    let cairo = cron("0 0 * * *", "Africa/Cairo");
    assert_eq!(due_on(&cairo, "2026-04-24"), ["01:00+03:00"], "midnight does not exist");
    let lord_howe = cron("15 2 * * *", "Australia/Lord_Howe");
    assert_eq!(due_on(&lord_howe, "2026-10-04"), ["02:30+11:00"], "a gap of half an hour");
}

#[test]
fn folds_are_resolved_as_in_the_table_of_the_design() {
    let zurich = |expression| due_on(&cron(expression, "Europe/Zurich"), "2026-10-25");
    assert_eq!(zurich("30 2 * * *"), ["02:30+02:00"], "once, the first time");
    assert_eq!(zurich("*/15 * * * *").len(), 100);
    assert_eq!(zurich("0 * * * *").len(), 25);
}

#[test]
fn a_day_that_never_was_is_stepped_over() {
    let apia = cron("0 12 * * *", "Pacific/Apia");
    let from = ms("2011-12-29T00:00:00Z");
    let zone = apia.zone().time_zone();
    let due: Vec<String> = apia
        .after(from)
        .take(4)
        .map(|due| {
            Timestamp::from_millisecond(due.at_ms()).unwrap().to_zoned(zone.clone()).to_string()
        })
        .collect();
    assert_eq!(
        due,
        [
            "2011-12-29T12:00:00-10:00[Pacific/Apia]",
            "2011-12-31T00:00:00+14:00[Pacific/Apia]",
            "2011-12-31T12:00:00+14:00[Pacific/Apia]",
            "2012-01-01T12:00:00+14:00[Pacific/Apia]",
        ],
        "noon of the 30th moves to the first moment after the gap"
    );
}

#[test]
fn a_job_at_half_past_two_in_amsterdam_runs_exactly_once_on_both_days() {
    let job = cron("30 2 * * *", "Europe/Amsterdam");
    assert_eq!(due_on(&job, "2026-03-29"), ["03:00+02:00"]);
    assert_eq!(due_on(&job, "2026-10-25"), ["02:30+02:00"]);
}

#[test]
fn every_policy_does_what_it_says() {
    let gap =
        |gap| due_on(&cron_with("30 2 * * *", "Europe/Zurich", gap, Fold::Auto), "2026-03-29");
    assert_eq!(gap(Gap::FirstValid), ["03:00+02:00"]);
    assert_eq!(gap(Gap::Shift), ["03:30+02:00"]);
    assert!(gap(Gap::Skip).is_empty());
    let fold =
        |fold| due_on(&cron_with("30 2 * * *", "Europe/Zurich", Gap::Auto, fold), "2026-10-25");
    assert_eq!(fold(Fold::First), ["02:30+02:00"]);
    assert_eq!(fold(Fold::Last), ["02:30+01:00"]);
    assert_eq!(fold(Fold::Both), ["02:30+02:00", "02:30+01:00"]);
}

#[test]
fn a_skipped_time_leaves_a_trace_at_the_change_of_clocks() {
    let job = cron_with("30 2 * * *", "Europe/Zurich", Gap::Skip, Fold::Auto);
    let change = ms("2026-03-29T01:00:00Z");
    let skipped = Occurrence::Skipped {
        at_ms: change,
        key: "cron-skip:2026-03-29T02:30:00".to_owned(),
        why: DstSkip::Gap,
    };
    assert_eq!(job.next_fire(change - 1), Some(change));
    assert_eq!(job.after(change - 1).next(), Some(skipped.clone()));
    assert_eq!(job.is_due_at(change), Some(skipped));
    let follows_the_clock = cron("30 * * * *", "Europe/Zurich");
    assert_eq!(follows_the_clock.is_due_at(change), None, "nothing was due, nothing is noted");
    let also_due = cron_with("0 2,3 * * *", "Europe/Zurich", Gap::Skip, Fold::Auto);
    assert!(matches!(also_due.is_due_at(change), Some(Occurrence::Fire { note: None, .. })));
}

#[test]
fn the_half_of_a_repeated_time_that_is_not_due_is_explained() {
    let (first, second) = (ms("2026-10-25T00:30:00Z"), ms("2026-10-25T01:30:00Z"));
    let job = cron("30 2 * * *", "Europe/Zurich");
    let due = Occurrence::Fire {
        at_ms: first,
        key: format!("cron:{first}"),
        note: Some(DstNote::OnlyFirst),
    };
    let folded = Occurrence::Skipped {
        at_ms: second,
        key: "cron-skip:2026-10-25T02:30:00".to_owned(),
        why: DstSkip::Fold,
    };
    assert_eq!(job.is_due_at(first), Some(due));
    assert_eq!(job.is_due_at(second), Some(folded));
    assert_eq!(job.is_due_at(second + 60_000), None);
    assert_eq!(job.is_due_at(first + 1), None, "due times are whole seconds");
    let last = cron_with("30 2 * * *", "Europe/Zurich", Gap::Auto, Fold::Last);
    assert!(matches!(last.is_due_at(first), Some(Occurrence::Skipped { why: DstSkip::Fold, .. })));
    assert_eq!(last.next_fire(first - 1), Some(second));
}

#[test]
fn a_leader_that_takes_over_in_the_repeated_hour_goes_on_where_the_other_stopped() {
    let job = cron("*/20 * * * *", "Europe/Zurich");
    let from = ms("2026-10-25T00:00:00Z");
    let all: Vec<Occurrence> = job.after(from - 1).take(12).collect();
    for minute in 0..180 {
        let after = from + minute * 60_000 + 17;
        let rest: Vec<&Occurrence> = all.iter().filter(|due| due.at_ms() > after).collect();
        let again: Vec<Occurrence> = job.after(after).take(rest.len()).collect();
        assert_eq!(again.iter().collect::<Vec<_>>(), rest, "after minute {minute}");
    }
}

#[test]
fn schedules_that_are_never_due_or_out_of_range_are_refused() {
    let refused = |schedule: &Schedule| {
        let error = Timetable::parse(schedule, &ZoneName::utc()).unwrap_err();
        (error.field(), error.to_string())
    };
    let cron = |expression: &str, zone: Option<&str>| Schedule::Cron {
        expression: expression.to_owned(),
        time_zone: zone.map(str::to_owned),
        gap: Gap::Auto,
        fold: Fold::Auto,
    };
    let (field, problem) = refused(&cron("0 0 30 2 *", None));
    assert_eq!(field, "schedule.expression");
    assert!(problem.contains("in 5 years"), "{problem}");
    let (field, problem) = refused(&cron("0 2 * * *", Some("Oslo")));
    assert_eq!(field, "schedule.time_zone");
    assert!(problem.contains("such as `Europe/Oslo`"), "{problem}");
    assert_eq!(refused(&cron("*/90 * * * *", None)).0, "schedule.expression");
    assert_eq!(every(Duration::from_millis(99), 0).unwrap_err().field(), "schedule.every_ms");
    assert_eq!(every(Duration::MAX, 0).unwrap_err().field(), "schedule.every_ms");
    assert_eq!(every(Duration::from_secs(1), i64::MAX).unwrap_err().field(), "schedule.anchor_ms");
    assert_eq!(refused(&Schedule::After { delay: Duration::MAX }).0, "schedule.delay_ms");
    assert_eq!(refused(&Schedule::Once { at_ms: -1 }).0, "schedule.at_ms");
}

#[test]
fn the_leap_day_is_found_also_where_a_century_has_none() {
    let job = cron("0 0 29 2 *", "Europe/Oslo");
    let due: Vec<i64> =
        job.after(ms("2026-01-01T00:00:00Z")).take(2).map(|due| due.at_ms()).collect();
    assert_eq!(due, [ms("2028-02-28T23:00:00Z"), ms("2032-02-28T23:00:00Z")]);
    assert_eq!(job.next_fire(ms("2097-01-01T00:00:00Z")), Some(ms("2104-02-28T23:00:00Z")));
}

#[test]
fn a_grid_is_the_same_from_wherever_it_is_entered() {
    let grid = every(Duration::from_secs(30), 7_000).unwrap();
    let due: Vec<Occurrence> = grid.after(-60_000).take(4).collect();
    let times: Vec<i64> = due.iter().map(Occurrence::at_ms).collect();
    assert_eq!(times, [-53_000, -23_000, 7_000, 37_000]);
    assert_eq!(due[0].key(), "every:-2");
    assert_eq!(due[3].key(), "every:1");
    assert_eq!(grid.next_fire(7_000), Some(37_000), "strictly after");
    assert_eq!(grid.is_due_at(37_000), Some(due[3].clone()));
    assert_eq!(grid.is_due_at(37_001), None);
    assert_eq!(grid.next_fire(6_999), Some(7_000));
    let slow = every(Duration::from_secs(100 * 366 * 86_400), i64::from(i32::MIN)).unwrap();
    assert!(slow.next_fire(0).is_some());
}

#[test]
fn times_at_the_ends_of_time_break_nothing() {
    let tables = [
        cron("* * * * * *", "Europe/Oslo"),
        cron("0 0 29 2 *", "Africa/Casablanca"),
        every(Duration::from_millis(100), 0).unwrap(),
        Timetable::parse(&Schedule::Once { at_ms: 5 }, &ZoneName::utc()).unwrap(),
        Timetable::parse(&Schedule::Manual, &ZoneName::utc()).unwrap(),
    ];
    for table in tables {
        for at in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
            let next = table.next_fire(at);
            assert!(next.is_none_or(|next| next > at), "{table:?} {at}");
            assert_eq!(table.after(at).next().map(|due| due.at_ms()), next);
            assert_eq!(
                table.is_due_at(at).is_some(),
                at.checked_sub(1).is_some_and(|before| { table.next_fire(before) == Some(at) })
            );
            assert!(table.preview(at, 2).len() <= 2);
        }
        assert_eq!(table.next_fire(i64::MAX), None);
    }
}

#[test]
fn once_is_due_once_and_the_others_never() {
    let once = Timetable::parse(&Schedule::Once { at_ms: 1_234 }, &ZoneName::utc()).unwrap();
    let due = Occurrence::Fire { at_ms: 1_234, key: "once:1234".to_owned(), note: None };
    assert_eq!(once.after(0).next(), Some(due.clone()));
    assert_eq!(once.after(0).count(), 1);
    assert_eq!(once.is_due_at(1_234), Some(due));
    assert_eq!(once.next_fire(1_234), None);
    let pause = Duration::from_secs(300);
    let after = Timetable::parse(&Schedule::After { delay: pause }, &ZoneName::utc()).unwrap();
    assert_eq!((after.next_fire(0), after.pause()), (None, Some(pause)));
    let manual = Timetable::parse(&Schedule::Manual, &ZoneName::utc()).unwrap();
    assert_eq!((manual.next_fire(0), manual.pause()), (None, None));
}

#[test]
fn expressions_are_told_in_words() {
    for (expression, words) in [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("* * * * * *", "every second"),
        ("*/30 * * * * *", "every 30 seconds"),
        ("@hourly", "every hour"),
        ("17 * * * *", "17 minutes past every hour"),
        ("0,30 * * * *", "at 0 and 30 minutes past every hour"),
        ("0 */2 * * *", "every 2 hours from 00:00"),
        ("0 2 * * *", "at 02:00 every day"),
        ("15 30 2 * * *", "at 02:30:15 every day"),
        ("0 18,9,12 * * *", "at 09:00, 12:00 and 18:00 every day"),
        ("0 2 * * MON,FRI", "at 02:00 on Monday and Friday"),
        ("0 2 * * 1-5", "at 02:00 on Monday to Friday"),
        ("0 2 * * 7", "at 02:00 on Sunday"),
        ("0 2 L * *", "at 02:00 on the last day of the month"),
        ("0 2 LW * *", "at 02:00 on the last weekday (Monday to Friday) of the month"),
        (
            "0 2 15W * *",
            "at 02:00 on the weekday (Monday to Friday) nearest to day 15 of the month",
        ),
        ("0 2 1,15 * *", "at 02:00 on days 1 and 15 of the month"),
        ("0 2 * * 2#2", "at 02:00 on the second Tuesday of the month"),
        ("0 2 * * 5L", "at 02:00 on the last Friday of the month"),
        ("0 2 13 * 5", "at 02:00 on day 13 of the month or on Friday"),
        ("0 2 13 * +5", "at 02:00 on day 13 of the month if it is Friday"),
        ("@yearly", "at 00:00 on 1 January"),
        ("0 0 1 1,7 *", "at 00:00 on day 1 of January and July"),
        ("0 2 * JUN-AUG 1", "at 02:00 on Monday in June to August"),
        ("*/15 9-17 * * MON-FRI", "every 15 minutes from 09:00 to 17:45 on Monday to Friday"),
        ("0 9-17 * * *", "every hour from 09:00 to 17:00 every day"),
        ("* 2 * * *", "every minute from 02:00 to 02:59 every day"),
        ("*/7 * * * *", "at minutes 0 to 59 in steps of 7 of every hour every day"),
        (
            "5 0,10-20 1-5/2 */2 * *",
            "at second 5 of minutes 0 and 10 to 20 of hours 1 to 5 in steps of 2 \
             on days 1 to 31 in steps of 2 of the month",
        ),
    ] {
        assert_eq!(cron(expression, "europe/oslo").words(), format!("{words}, Europe/Oslo"));
    }
}

#[test]
fn the_other_kinds_are_told_in_words() {
    let words =
        |schedule| Timetable::parse(&schedule, &"Europe/Oslo".parse().unwrap()).unwrap().words();
    assert_eq!(every(Duration::from_secs(30), 0).unwrap().words(), "every 30 s");
    assert_eq!(every(Duration::from_millis(90_500), 0).unwrap().words(), "every 1 min 30 s 500 ms");
    let delay = Duration::from_secs(300);
    assert_eq!(words(Schedule::After { delay }), "5 min after the end of the run before");
    assert_eq!(words(Schedule::Manual), "only when started");
    let at_ms = ms("2026-10-25T00:30:00Z");
    assert_eq!(words(Schedule::Once { at_ms }), "once at 2026-10-25 02:30:00, Europe/Oslo");
}

#[test]
fn a_preview_says_what_a_change_of_clocks_does() {
    let before = ms("2026-03-28T22:00:00Z");
    let preview = |gap| cron_with("30 2 * * *", "Europe/Oslo", gap, Fold::Both).preview(before, 2);
    let moved = &preview(Gap::FirstValid)[0];
    assert_eq!(moved.at_ms, ms("2026-03-29T01:00:00Z"));
    assert_eq!(moved.local, "2026-03-29T03:00:00+02:00[Europe/Oslo]");
    assert_eq!(moved.note.as_deref(), Some("clocks go forward at 02:00: moved to 03:00"));
    let note = |gap: Gap| preview(gap)[0].note.clone();
    assert_eq!(note(Gap::Shift).as_deref(), Some("clocks go forward at 02:00: shifted to 03:30"));
    assert_eq!(note(Gap::Skip).as_deref(), Some("clocks go forward at 02:00: skipped"));
    assert!(preview(Gap::Skip)[0].skipped && !preview(Gap::Skip)[1].skipped);
    assert_eq!(preview(Gap::Skip)[1].note, None);

    let both = cron_with("30 2 * * *", "Europe/Oslo", Gap::Auto, Fold::Both);
    let notes: Vec<Option<String>> =
        both.preview(ms("2026-10-24T22:00:00Z"), 3).into_iter().map(|fire| fire.note).collect();
    assert_eq!(notes[0].as_deref(), Some("happens twice, first"));
    assert_eq!(notes[1].as_deref(), Some("happens twice, second"));
    assert_eq!(notes[2], None);

    let apia = cron("0 12 * * *", "Pacific/Apia").preview(ms("2011-12-30T00:00:00Z"), 1);
    assert_eq!(
        apia[0].note.as_deref(),
        Some("clocks go forward at 2011-12-30 00:00: moved to 2011-12-31 00:00")
    );
    let json =
        serde_json::to_value(every(Duration::from_secs(1), 0).unwrap().preview(0, 1)).unwrap();
    let plain = "1970-01-01T00:00:01+00:00[UTC]";
    assert_eq!(json, serde_json::json!([{ "at_ms": 1_000, "local": plain, "skipped": false }]));
}

#[test]
fn zones_are_known_by_their_name_alone() {
    let zone: ZoneName = "europe/ZURICH".parse().unwrap();
    assert_eq!(zone.to_string(), "Europe/Zurich");
    assert_eq!(serde_json::to_string(&zone).unwrap(), "\"Europe/Zurich\"");
    assert_eq!(serde_json::from_str::<ZoneName>("\"Europe/Zurich\"").unwrap(), zone);
    assert_eq!("UTC".parse::<ZoneName>().unwrap(), ZoneName::utc());
    for wrong in ["", "Mars/Olympus", "+02:00", "Etc/Unknown", "../etc/passwd"] {
        let error = wrong.parse::<ZoneName>().unwrap_err().to_string();
        assert!(error.contains("IANA"), "{error}");
    }
    assert!("x".repeat(500).parse::<ZoneName>().is_err());
    assert!(tzdb_version().starts_with("20"));
}
