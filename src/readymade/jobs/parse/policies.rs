//! When a job of the file is due, and what happens when something goes wrong.

use toml::de::DeValue;
use understudy_scheduler::spec::{
    Backoff, Fold, Gap, JobName, JobSpec, Misfire, OnFailure, OnLeaseLoss, OnOrphan, Overlap,
    Placement, Retry, Schedule,
};

use super::fields::{DURATION, Fields, duration, one_of, whole};

const TIME: &str = "a time with its offset such as \"2026-12-01T02:00:00Z\"";
const SCHEDULE: &str =
    "a cron expression, \"manual\", or a table with one of cron, every, after, once";

pub(super) fn schedule(fields: &mut Fields<'_, '_, '_>) -> Option<Schedule> {
    let time_zone = fields.text("time_zone");
    if !fields.has("schedule") {
        fields.required("schedule", SCHEDULE, |_| None::<()>);
        return None;
    }
    let value = fields.take("schedule")?;
    let schedule = match (value.as_str(), value.as_table()) {
        (Some("manual"), _) => Some(Schedule::Manual),
        (Some(expression), _) => Some(cron(expression, Gap::default(), Fold::default())),
        (None, Some(table)) => {
            let mut inner = fields.inner("schedule", "schedule.", table);
            let schedule = in_words(&mut inner);
            inner.finish();
            schedule
        }
        (None, None) => {
            fields.wrong("schedule", &format!("must be {SCHEDULE}"));
            None
        }
    };
    match schedule {
        Some(Schedule::Cron { expression, gap, fold, .. }) => {
            Some(Schedule::Cron { expression, time_zone, gap, fold })
        }
        Some(other) => {
            if time_zone.is_some() {
                fields.wrong("time_zone", "goes with a cron expression only");
            }
            Some(other)
        }
        None => None,
    }
}

fn cron(expression: &str, gap: Gap, fold: Fold) -> Schedule {
    Schedule::Cron { expression: expression.to_owned(), time_zone: None, gap, fold }
}

fn in_words(fields: &mut Fields<'_, '_, '_>) -> Option<Schedule> {
    let kinds = ["cron", "every", "after", "once"];
    let given: Vec<&str> = kinds.into_iter().filter(|kind| fields.has(kind)).collect();
    let [kind] = given[..] else {
        fields.wrong_table("must have one of cron, every, after, once");
        for name in ["cron", "every", "after", "once", "gap", "fold", "anchor"] {
            fields.take(name);
        }
        return None;
    };
    match kind {
        "cron" => {
            let gap = fields.word("gap", &GAPS).unwrap_or_default();
            let fold = fields.word("fold", &FOLDS).unwrap_or_default();
            fields.text("cron").map(|expression| cron(&expression, gap, fold))
        }
        "every" => {
            let anchor_ms = fields.read("anchor", TIME, time).unwrap_or(0);
            fields.duration("every").map(|every| Schedule::Every { every, anchor_ms })
        }
        "after" => fields.duration("after").map(|delay| Schedule::After { delay }),
        _ => fields.read("once", TIME, time).map(|at_ms| Schedule::Once { at_ms }),
    }
}

const GAPS: [(&str, Gap); 4] = [
    ("auto", Gap::Auto),
    ("first_valid", Gap::FirstValid),
    ("shift", Gap::Shift),
    ("skip", Gap::Skip),
];
const FOLDS: [(&str, Fold); 4] =
    [("auto", Fold::Auto), ("first", Fold::First), ("last", Fold::Last), ("both", Fold::Both)];

/// A time as text or as TOML writes it, ms since 1970.
fn time(value: &DeValue<'_>) -> Option<i64> {
    let written = value.as_datetime().map(ToString::to_string);
    let text = written.as_deref().or_else(|| value.as_str())?;
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// Reads everything but the schedule and the call.
pub(super) fn read(fields: &mut Fields<'_, '_, '_>, spec: &mut JobSpec) {
    let placements =
        [("leader", Placement::Leader), ("any", Placement::Any), ("every", Placement::Every)];
    spec.placement = fields.word("placement", &placements).unwrap_or_default();
    spec.labels = fields.texts("labels");
    let expected = "fire_once, skip, fire_all, or { fire_all = 100 }";
    spec.misfire = fields.read("misfire", expected, misfire).unwrap_or_default();
    spec.misfire_grace = fields.duration("misfire_grace");
    let expected = "skip, queue_one, queue_all, cancel_previous, or { allow = 2 }";
    spec.overlap = fields.read("overlap", expected, overlap).unwrap_or_default();
    spec.max_concurrency = fields.number("max_concurrency", 1, 1_000_000).map(small);
    spec.concurrency_key = fields.text("concurrency_key");
    spec.timeout = fields.duration("timeout");
    spec.retry = retry(fields);
    let expected = "retry, fail, or { retry = 3 }";
    spec.on_orphan = fields.read("on_orphan", expected, on_orphan).unwrap_or_default();
    let losses = [("cancel", OnLeaseLoss::Cancel), ("continue", OnLeaseLoss::Continue)];
    spec.on_lease_loss = fields.word("on_lease_loss", &losses).unwrap_or_default();
    let priority = fields.number("priority", -100, 100).unwrap_or_default();
    spec.priority = i32::try_from(priority).unwrap_or_default();
    spec.jitter = fields.duration("jitter").unwrap_or_default();
    spec.then = fields.read("then", "a list of names of jobs", names).unwrap_or_default();
    let failures = [("skip", OnFailure::Skip), ("continue", OnFailure::Continue)];
    spec.on_failure = fields.word("on_failure", &failures).unwrap_or_default();
    spec.catch_up_on_resume = fields.flag("catch_up_on_resume").unwrap_or_default();
}

/// `{ name = number }` and nothing beside it.
fn counted(value: &DeValue<'_>, name: &str) -> Option<u32> {
    let table = value.as_table().filter(|table| table.len() == 1)?;
    u32::try_from(whole(table.get(name)?.get_ref())?).ok()
}

fn misfire(value: &DeValue<'_>) -> Option<Misfire> {
    let words = [
        ("fire_once", Misfire::FireOnce),
        ("skip", Misfire::Skip),
        ("fire_all", Misfire::FireAll { max: 100 }),
    ];
    one_of(value, &words).or_else(|| Some(Misfire::FireAll { max: counted(value, "fire_all")? }))
}

fn overlap(value: &DeValue<'_>) -> Option<Overlap> {
    let words = [
        ("skip", Overlap::Skip),
        ("queue_one", Overlap::QueueOne),
        ("queue_all", Overlap::QueueAll),
        ("cancel_previous", Overlap::CancelPrevious),
    ];
    one_of(value, &words).or_else(|| Some(Overlap::Allow { max: counted(value, "allow")? }))
}

fn on_orphan(value: &DeValue<'_>) -> Option<OnOrphan> {
    let words = [("retry", OnOrphan::default()), ("fail", OnOrphan::Fail)];
    one_of(value, &words).or_else(|| Some(OnOrphan::Retry { max: counted(value, "retry")? }))
}

fn retry(fields: &mut Fields<'_, '_, '_>) -> Retry {
    let mut retry = Retry::never();
    if let Some(retries) = fields.number("retries", 0, 1_000) {
        retry.retries = small(retries);
        if fields.has("retry") {
            fields.wrong("retries", "and retry are both there: say it in one of them");
        }
    }
    let Some(mut inner) = fields.within("retry", "retry.") else { return retry };
    retry.retries = inner.number("retries", 0, 1_000).map_or(0, small);
    retry.delay = inner.duration("delay").unwrap_or(retry.delay);
    let backoffs = [("fixed", Backoff::Fixed), ("exponential", Backoff::Exponential)];
    retry.backoff = inner.word("backoff", &backoffs).unwrap_or_default();
    retry.max_delay = inner.read("max_delay", DURATION, duration).unwrap_or(retry.max_delay);
    let percent = inner.number("jitter_percent", 0, 100).unwrap_or_default();
    retry.jitter_percent = u8::try_from(percent).unwrap_or_default();
    inner.finish();
    retry
}

fn names(value: &DeValue<'_>) -> Option<Vec<JobName>> {
    value.as_array()?.iter().map(|name| name.get_ref().as_str()?.parse().ok()).collect()
}

/// A number whose range was checked.
fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}
