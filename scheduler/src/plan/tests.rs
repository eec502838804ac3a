//! What the planner makes of due times: each is decided once, whatever has been missed.

use std::collections::BTreeMap;

use super::*;
use crate::spec::{Gap, JobSpec};
use crate::store::Pause;

/// 1 June 2026, 12:00 UTC.
const NOON: i64 = 1_780_315_200_000;
const SECOND: i64 = 1_000;

fn definition(spec: JobSpec) -> Definition {
    let timetable = spec.check(&"UTC".parse().unwrap()).unwrap();
    Definition { spec, timetable, revision: 3, enabled: true, paused: None }
}

fn seconds(misfire: Misfire) -> JobSpec {
    let every = Schedule::Every { every: Duration::from_secs(1), anchor_ms: 0 };
    JobSpec { misfire, ..JobSpec::new("job".parse().unwrap(), every) }
}

fn cron(expression: &str, zone: &str) -> Schedule {
    Schedule::Cron {
        expression: expression.to_owned(),
        time_zone: Some(zone.to_owned()),
        gap: Gap::Skip,
        fold: crate::spec::Fold::Auto,
    }
}

fn cursor(last_ms: i64, next_ms: Option<i64>) -> Cursor {
    let job = "job".parse().unwrap();
    Cursor { job, scope: String::new(), last_ms, next_ms, revision: 3 }
}

fn at(now_ms: i64) -> Moment<'static> {
    let (after, grace) = (Duration::from_secs(2), Duration::from_secs(3_600));
    Moment { now_ms, misfire_after: after, misfire_grace: grace, leaderless: &[] }
}

/// Plans from a cursor that stands `behind` seconds before noon, half a second past noon.
fn behind(spec: JobSpec, behind: i64) -> JobPlan {
    let last_ms = NOON - behind * SECOND;
    plan(&definition(spec), &cursor(last_ms, Some(last_ms + SECOND)), at(NOON + 500)).unwrap()
}

/// The seconds before noon at which something starts.
fn starts(plan: &JobPlan) -> Vec<i64> {
    plan.starts.iter().map(|start| (NOON - start.fire_ms) / SECOND).collect()
}

fn decisions(plan: &JobPlan) -> Vec<(i64, Outcome)> {
    let one = |decision: &Decision| ((NOON - decision.from_ms) / SECOND, decision.outcome);
    plan.decisions.iter().map(one).collect()
}

#[test]
fn nothing_is_planned_before_the_next_due_time() {
    let job = definition(seconds(Misfire::FireOnce));
    assert_eq!(plan(&job, &cursor(NOON, Some(NOON + SECOND)), at(NOON + 999)), None);
    assert!(plan(&job, &cursor(NOON, Some(NOON + SECOND)), at(NOON + SECOND)).is_some());
}

#[test]
fn what_is_in_time_starts_and_the_cursor_moves_to_it() {
    let plan = behind(seconds(Misfire::Skip), 2);
    assert_eq!((starts(&plan), decisions(&plan)), (vec![1, 0], vec![]));
    assert_eq!(plan.starts[1].key, format!("every:{}", NOON / SECOND));
    assert!(plan.starts.iter().all(|start| !start.caught_up));
    assert_eq!((plan.expected_last_ms, plan.last_ms), (NOON - 2 * SECOND, NOON));
    assert_eq!((plan.next_ms, plan.revision), (Some(NOON + SECOND), 3));
}

#[test]
fn fire_once_starts_the_latest_of_those_that_were_missed() {
    let plan = behind(seconds(Misfire::FireOnce), 6);
    assert_eq!(starts(&plan), [2, 1, 0]);
    assert!(plan.starts[0].caught_up && !plan.starts[1].caught_up);
    let coalesced = Outcome::Coalesced;
    assert_eq!(decisions(&plan), [(5, coalesced), (4, coalesced), (3, coalesced)]);
}

#[test]
fn fire_all_starts_up_to_its_number_the_latest_and_oldest_first() {
    let plan = behind(seconds(Misfire::FireAll { max: 2 }), 6);
    assert_eq!(starts(&plan), [3, 2, 1, 0]);
    let skipped = Outcome::SkippedMisfire;
    assert_eq!(decisions(&plan), [(5, skipped), (4, skipped)]);
    assert!(plan.decisions[0].reason.contains("at most 2"));
    assert_eq!(starts(&behind(seconds(Misfire::FireAll { max: 9 }), 6)), [5, 4, 3, 2, 1, 0]);
}

#[test]
fn skip_starts_none_of_those_that_were_missed() {
    let plan = behind(seconds(Misfire::Skip), 5);
    assert_eq!(starts(&plan), [1, 0]);
    let skipped = Outcome::SkippedMisfire;
    assert_eq!(decisions(&plan), [(4, skipped), (3, skipped), (2, skipped)]);
}

#[test]
fn what_is_later_than_its_grace_does_not_start() {
    let mut spec = seconds(Misfire::FireAll { max: 100 });
    spec.misfire_grace = Some(Duration::from_secs(3));
    let plan = behind(spec.clone(), 6);
    assert_eq!(starts(&plan), [2, 1, 0]);
    assert_eq!(decisions(&plan).len(), 3);
    assert!(plan.decisions[0].reason.contains("grace of 3 s"), "{}", plan.decisions[0].reason);
    // In time is in time, however short the grace.
    spec.misfire_grace = Some(Duration::ZERO);
    assert_eq!(starts(&behind(spec, 6)), [1, 0]);
}

#[test]
fn it_is_said_when_nobody_led() {
    let job = definition(seconds(Misfire::Skip));
    let gaps = [(NOON - 4 * SECOND, NOON - 2 * SECOND)];
    let moment = Moment { leaderless: &gaps, ..at(NOON + 500) };
    let plan = plan(&job, &cursor(NOON - 6 * SECOND, Some(NOON)), moment).unwrap();
    let (missed, leaderless) = (Outcome::SkippedMisfire, Outcome::Leaderless);
    assert_eq!(decisions(&plan), [(5, missed), (4, leaderless), (3, leaderless), (2, missed)]);
}

#[test]
fn a_job_that_is_held_back_starts_nothing_and_says_why() {
    let pause = Pause { since_ms: 1, by: "ann".to_owned(), why: "holiday".to_owned() };
    let from = cursor(NOON - 4 * SECOND, Some(NOON));
    let mut job = definition(seconds(Misfire::FireOnce));
    job.paused = Some(pause);
    let paused = plan(&job, &from, at(NOON + 500)).unwrap();
    assert_eq!((starts(&paused), paused.decisions.len()), (vec![], 4));
    assert!(paused.decisions.iter().all(|one| one.outcome == Outcome::Paused));
    assert!(paused.decisions[0].reason.contains("ann: holiday"));
    job.enabled = false;
    let off = plan(&job, &from, at(NOON + 500)).unwrap();
    assert!(
        off.starts.is_empty() && off.decisions.iter().all(|one| one.outcome == Outcome::Disabled)
    );
    // What is caught up later is not decided now.
    job.enabled = true;
    job.spec.catch_up_on_resume = true;
    let kept = plan(&job, &from, at(NOON + 500)).unwrap();
    assert_eq!((kept.last_ms, kept.next_ms), (from.last_ms, None));
    assert!(kept.starts.is_empty() && kept.decisions.is_empty());
    assert_eq!(plan(&job, &cursor(from.last_ms, None), at(NOON)), None);
}

/// Plans chunk after chunk, as the leader does; gives what starts, how often each due time was decided, and the chunks.
fn catch_up(job: &Definition, last_ms: i64, now_ms: i64) -> (Vec<i64>, BTreeMap<i64, u32>, usize) {
    let next_ms = job.timetable.next_fire(last_ms);
    let mut cursor = cursor(last_ms, next_ms);
    let (mut started, mut decided, mut chunks) = (Vec::new(), BTreeMap::new(), 0);
    while let Some(plan) = plan(job, &cursor, at(now_ms)) {
        assert!(plan.last_ms > cursor.last_ms && plan.decisions.len() <= MOST_ROWS);
        for start in &plan.starts {
            started.push(start.fire_ms);
            *decided.entry(start.fire_ms).or_default() += 1;
        }
        for decision in &plan.decisions {
            let all = job.timetable.after(decision.from_ms - 1).map(|one| one.at_ms());
            let all: Vec<i64> = all.take_while(|at_ms| *at_ms <= decision.to_ms).collect();
            assert_eq!(i64::try_from(all.len()).unwrap(), decision.fires);
            for at_ms in all {
                *decided.entry(at_ms).or_default() += 1;
            }
        }
        (cursor.last_ms, cursor.next_ms) = (plan.last_ms, plan.next_ms);
        chunks += 1;
    }
    (started, decided, chunks)
}

fn assert_decided_once(
    job: &Definition,
    decided: &BTreeMap<i64, u32>,
    (last_ms, now_ms): (i64, i64),
) {
    let due = job.timetable.after(last_ms).map(|one| one.at_ms());
    let due: Vec<i64> = due.take_while(|at_ms| *at_ms <= now_ms).collect();
    assert!(due.iter().eq(decided.keys()), "{} of {}", decided.len(), due.len());
    assert!(decided.values().all(|times| *times == 1));
}

#[test]
fn a_long_backlog_is_decided_in_chunks_and_each_due_time_once() {
    let (last_ms, now_ms) = (NOON - 10_345 * SECOND, NOON + 500);
    let mut cron = JobSpec::new("job".parse().unwrap(), cron("* * * * * *", "Europe/Oslo"));
    for misfire in [Misfire::FireOnce, Misfire::Skip, Misfire::FireAll { max: 1_000 }] {
        cron.misfire = misfire;
        for mut spec in [seconds(misfire), cron.clone()] {
            spec.misfire_grace = Some(Duration::from_secs(86_400));
            let job = definition(spec);
            let (started, decided, chunks) = catch_up(&job, last_ms, now_ms);
            assert_decided_once(&job, &decided, (last_ms, now_ms));
            assert_eq!(chunks, 3);
            // Two are in time.
            let expected = match misfire {
                Misfire::FireOnce => 3,
                Misfire::Skip => 2,
                Misfire::FireAll { .. } => 1_002,
            };
            let latest: Vec<i64> = (0..expected).rev().map(|back| NOON - back * SECOND).collect();
            assert_eq!(started, latest);
        }
    }
}

#[test]
fn of_a_backlog_that_ends_with_a_chunk_the_latest_still_starts() {
    let mut spec = seconds(Misfire::FireOnce);
    spec.misfire_grace = Some(Duration::from_secs(86_400));
    let job = definition(spec);
    for beyond in 0..=3 {
        let last_ms = NOON - (5_000 + beyond) * SECOND;
        let (started, decided, _) = catch_up(&job, last_ms, NOON + 500);
        assert_decided_once(&job, &decided, (last_ms, NOON + 500));
        assert_eq!(started, [NOON - 2 * SECOND, NOON - SECOND, NOON]);
    }
}

#[test]
fn a_long_pause_takes_few_rows() {
    let mut job = definition(seconds(Misfire::FireOnce));
    job.enabled = false;
    let last_ms = NOON - 20_000 * SECOND;
    let plan = plan(&job, &cursor(last_ms, Some(NOON)), at(NOON)).unwrap();
    assert_eq!((plan.decisions.len(), plan.decisions[0].fires), (1, 5_000));
    let (started, decided, _) = catch_up(&job, last_ms, NOON);
    assert_eq!(started, [0_i64; 0]);
    assert_decided_once(&job, &decided, (last_ms, NOON));
}

#[test]
fn a_time_that_the_clocks_skip_is_noted() {
    // 29 March 2026, 02:30 in Oslo: it does not exist. 01:00 UTC is the moment of the change.
    let change = 1_774_746_000_000;
    let job = definition(JobSpec::new("job".parse().unwrap(), cron("30 2 * * *", "Europe/Oslo")));
    let plan = plan(&job, &cursor(change - SECOND, Some(change)), at(change + 100)).unwrap();
    assert!(plan.starts.is_empty());
    assert_eq!((plan.decisions.len(), plan.decisions[0].outcome), (1, Outcome::DstGap));
    // Also when it is found late, and beside one that is caught up.
    let late = super::plan(&job, &cursor(change - SECOND, None), at(change + 86_400_000)).unwrap();
    assert_eq!(late.decisions[0].outcome, Outcome::DstGap);
    assert_eq!(late.starts.len(), 1);
}

#[test]
fn a_job_that_waits_for_its_run_is_due_when_its_cursor_says() {
    let delay = Duration::from_secs(60);
    let mut job = definition(JobSpec::new("job".parse().unwrap(), Schedule::After { delay }));
    assert_eq!(plan(&job, &cursor(NOON, None), at(NOON + 1)), None);
    assert_eq!(plan(&job, &cursor(NOON, Some(NOON + 2)), at(NOON + 1)), None);
    let due = plan(&job, &cursor(NOON, Some(NOON + 1)), at(NOON + 1)).unwrap();
    assert_eq!((due.starts.len(), due.next_ms, due.last_ms), (1, None, NOON + 1));
    assert_eq!(due.starts[0].key, format!("after:{}", NOON + 1));
    job.enabled = false;
    let off = plan(&job, &cursor(NOON, Some(NOON + 1)), at(NOON + 5)).unwrap();
    assert_eq!((off.starts.len(), off.next_ms), (0, Some(NOON + 60_005)));
}

#[test]
fn what_is_due_once_is_due_once() {
    let mut spec = JobSpec::new("job".parse().unwrap(), Schedule::Once { at_ms: NOON });
    let from = cursor(NOON - 1, Some(NOON));
    let due = plan(&definition(spec.clone()), &from, at(NOON)).unwrap();
    assert_eq!((due.starts[0].key.as_str(), due.next_ms), (format!("once:{NOON}").as_str(), None));
    assert_eq!(plan(&definition(spec.clone()), &cursor(NOON, None), at(NOON + 1)), None);
    let late = plan(&definition(spec.clone()), &from, at(NOON + 60_000)).unwrap();
    assert!(late.starts[0].caught_up);
    let too_late = plan(&definition(spec.clone()), &from, at(NOON + 3_600_001)).unwrap();
    assert_eq!(
        (too_late.starts.len(), too_late.decisions[0].outcome),
        (0, Outcome::SkippedMisfire)
    );
    spec.schedule = Schedule::Manual;
    assert_eq!(plan(&definition(spec), &cursor(NOON, None), at(NOON + 1)), None);
}

#[test]
fn a_cursor_that_another_program_set_wrongly_is_mended() {
    // As with another time zone: it is not due, and would be looked at again and again.
    let job = definition(JobSpec::new("job".parse().unwrap(), cron("0 13 * * *", "UTC")));
    let mended = plan(&job, &cursor(NOON - 5, Some(NOON)), at(NOON)).unwrap();
    assert!(mended.starts.is_empty() && mended.decisions.is_empty());
    assert_eq!((mended.last_ms, mended.next_ms), (NOON - 5, Some(NOON + 3_600_000)));
    let manual = definition(JobSpec::new("job".parse().unwrap(), Schedule::Manual));
    assert_eq!(plan(&manual, &cursor(NOON - 5, Some(NOON)), at(NOON)).unwrap().next_ms, None);
}

#[test]
fn a_job_without_a_pause_between_its_runs_is_never_due_twice_at_one_time() {
    let delay = Duration::ZERO;
    let mut job = definition(JobSpec::new("job".parse().unwrap(), Schedule::After { delay }));
    job.enabled = false;
    let off = plan(&job, &cursor(NOON - 1, Some(NOON)), at(NOON)).unwrap();
    assert_eq!((off.last_ms, off.next_ms), (NOON, Some(NOON + 1)));
}
