//! The next due times as people read them, with what a change of clocks does to them.

use jiff::tz::Offset;
use jiff::{Timestamp, civil};
use serde::Serialize;

use super::ZoneName;
use super::cron::{CronTimes, Hit, HitKind};

/// One of the next due times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewedFire {
    /// When, ms since 1970.
    pub at_ms: i64,
    /// The same in the zone of the schedule, in the form of RFC 9557: `2026-03-29T03:00:00+02:00[Europe/Oslo]`.
    pub local: String,
    /// Whether no run starts then, because a change of clocks strikes it out.
    pub skipped: bool,
    /// What a change of clocks does to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl PreviewedFire {
    pub(super) fn plain(at_ms: i64, zone: &ZoneName) -> Self {
        Self { at_ms, local: local(at_ms, zone), skipped: false, note: None }
    }

    fn of(hit: Hit, zone: &ZoneName) -> Self {
        let at_ms = hit.at * 1_000;
        Self {
            at_ms,
            local: local(at_ms, zone),
            skipped: matches!(hit.kind, HitKind::Skipped { .. } | HitKind::Folded),
            note: note(hit),
        }
    }
}

pub(super) fn of_cron(
    times: &CronTimes,
    zone: &ZoneName,
    from: i64,
    count: usize,
) -> Vec<PreviewedFire> {
    let mut from = from;
    std::iter::from_fn(|| {
        let hit = times.next(from)?;
        from = hit.at + 1;
        Some(PreviewedFire::of(hit, zone))
    })
    .take(count)
    .collect()
}

fn note(hit: Hit) -> Option<String> {
    let forward = |(from, to): (i64, i64), what: &str, at: i64| {
        // A gap within a day is told by times of the day; one of a whole day needs the dates.
        let same_day = from.div_euclid(86_400) == (to - 1).div_euclid(86_400) && to - from < 43_200;
        let clock = |at: i64| civil_time(at).map(|civil| clock(civil, same_day));
        let (from, at) = (clock(from)?, clock(at)?);
        Some(match what {
            "" => format!("clocks go forward at {from}: skipped"),
            what => format!("clocks go forward at {from}: {what} {at}"),
        })
    };
    match hit.kind {
        HitKind::Plain => None,
        HitKind::Moved { gap } => forward(gap, "moved to", gap.1),
        HitKind::Shifted { gap } => {
            // Where the civil time that it matched comes to lie: as much later as the gap is long.
            forward(gap, "shifted to", hit.civil + gap.1 - gap.0)
        }
        HitKind::Skipped { gap } => forward(gap, "", gap.1),
        HitKind::First { only: false } => Some("happens twice, first".to_owned()),
        HitKind::Second { only: false } => Some("happens twice, second".to_owned()),
        HitKind::First { only: true } => Some("happens twice, only the first is due".to_owned()),
        HitKind::Second { only: true } => Some("happens twice, only the second is due".to_owned()),
        HitKind::Folded => Some("happens twice, the other one is due".to_owned()),
    }
}

fn civil_time(seconds: i64) -> Option<civil::DateTime> {
    Timestamp::from_second(seconds).ok().map(|civil| Offset::UTC.to_datetime(civil))
}

fn clock(civil: civil::DateTime, same_day: bool) -> String {
    let (hour, minute, second) = (civil.hour(), civil.minute(), civil.second());
    let date = if same_day { String::new() } else { format!("{} ", civil.date()) };
    match second {
        0 => format!("{date}{hour:02}:{minute:02}"),
        second => format!("{date}{hour:02}:{minute:02}:{second:02}"),
    }
}

fn local(at_ms: i64, zone: &ZoneName) -> String {
    // Due times lie within the years that jiff knows.
    Timestamp::from_millisecond(at_ms).map_or_else(
        |_| at_ms.to_string(),
        |timestamp| timestamp.to_zoned(zone.time_zone().clone()).to_string(),
    )
}

/// Gives a time in a zone as people write it: `2026-10-25 02:30:00`.
pub(super) fn plain(at_ms: i64, zone: &ZoneName) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(
        |_| at_ms.to_string(),
        |timestamp| {
            let civil = zone.time_zone().to_datetime(timestamp);
            format!("{} {}", civil.date(), civil.time())
        },
    )
}
