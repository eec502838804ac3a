//! The charts of the overview: readings of the counters of this node, taken when somebody looks and kept for a quarter of
//! an hour. While nobody looks nothing is read; the line goes straight over that time.

use std::collections::VecDeque;

use maud::{Markup, html};
use tokio::sync::Mutex;

use super::super::super::visit::Visit;
use super::super::super::{chart, words};
use super::chart_tile;

/// So long readings are kept.
const KEPT_MS: i64 = 15 * 60_000;
/// A chart shows at least so much time.
const NARROWEST_MS: i64 = 60_000;
/// Readings are at least so far apart.
const APART_MS: i64 = 900;

/// The readings.
#[derive(Debug, Default)]
pub(in super::super::super) struct Readings(Mutex<VecDeque<Reading>>);

/// What counters said at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Reading {
    at_ms: i64,
    requests: f64,
    /// How late all fires together were, s.
    late: f64,
    fires: f64,
}

impl Reading {
    /// Sums up over all labels of the counters that are drawn.
    fn of(at_ms: i64, metrics: &str) -> Self {
        let mut reading = Self { at_ms, ..Self::default() };
        for line in metrics.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let name = series.split_once('{').map_or(series, |(name, _)| name);
            let Ok(value) = value.parse::<f64>() else { continue };
            if name.ends_with("http_requests_total") {
                reading.requests += value;
            } else if name.ends_with("fire_lateness_seconds_sum") {
                reading.late += value;
            } else if name.ends_with("fire_lateness_seconds_count") {
                reading.fires += value;
            }
        }
        reading
    }
}

/// Takes a reading and draws all.
pub(super) async fn charts(visit: &Visit) -> Markup {
    let Ok(metrics) = visit.console.api.text(&visit.asker, "/metrics").await else {
        return html! {};
    };
    let mut readings = visit.console.readings.0.lock().await;
    keep(&mut readings, Reading::of(visit.now_ms, &metrics));
    draw(visit.now_ms, &visit.console.backstage.node(), readings.make_contiguous())
}

fn keep(readings: &mut VecDeque<Reading>, new: Reading) {
    if readings.back().is_some_and(|last| new.requests < last.requests) {
        // The counters began anew.
        readings.clear();
    }
    if readings.back().is_none_or(|last| new.at_ms - last.at_ms >= APART_MS) {
        readings.push_back(new);
    }
    while readings.front().is_some_and(|first| new.at_ms - first.at_ms > KEPT_MS) {
        readings.pop_front();
    }
}

fn draw(now_ms: i64, node: &str, readings: &[Reading]) -> Markup {
    let requests = points(readings, |before, after| {
        Some((after.requests - before.requests) * 1_000.0 / ms(before, after))
    });
    let late = points(readings, |before, after| {
        let fires = after.fires - before.fires;
        (fires > 0.0).then(|| (after.late - before.late) * 1_000.0 / fires)
    });
    // As wide as what is known, so that a line is seen soon.
    let first = readings.first().map_or(now_ms, |reading| reading.at_ms);
    let range = (first.min(now_ms - NARROWEST_MS), now_ms);
    let over = words::length(range.1 - range.0);
    let per_second =
        requests.last().map_or_else(|| "–".to_owned(), |(_, value)| thousandths(*value));
    let latest =
        late.last().map_or_else(|| "–".to_owned(), |(_, value)| words::span(value / 1_000));
    html! {
        (chart_tile(
            "Requests per second",
            &per_second,
            &chart::line(&format!("Requests per second on {node} in the last {over}"), range, &requests),
            &format!("on {node}, last {over}"),
        ))
        (chart_tile(
            "Late at start",
            &latest,
            &chart::line(&format!("How late jobs started on {node} in the last {over}"), range, &late),
            &format!("on {node}, last {over}"),
        ))
    }
}

fn ms(before: &Reading, after: &Reading) -> f64 {
    let ms = i32::try_from(after.at_ms - before.at_ms).unwrap_or(i32::MAX);
    f64::from(ms.max(1))
}

/// Values between neighbouring readings, in thousandths.
fn points(
    readings: &[Reading],
    value: impl Fn(&Reading, &Reading) -> Option<f64>,
) -> Vec<(i64, i64)> {
    let pairs = readings.iter().zip(readings.iter().skip(1));
    #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
    pairs
        .filter_map(|(before, after)| {
            Some((after.at_ms, (value(before, after)? * 1_000.0).round() as i64))
        })
        .collect()
}

fn thousandths(value: i64) -> String {
    match value {
        0..10_000 => format!("{}.{}", value / 1_000, value / 100 % 10),
        _ => words::count(value / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# TYPE x counter\nunderstudy_http_requests_total{route=\"/ a\"} 40\n\
        understudy_http_requests_total{route=\"/b\"} 2\nfire_lateness_seconds_sum 1.5\n\
        fire_lateness_seconds_count 3\nother{x=\"http_requests_total\"} 9\nbroken";

    #[test]
    fn counters_are_summed_over_their_labels() {
        let reading = Reading::of(7, METRICS);
        assert_eq!(reading, Reading { at_ms: 7, requests: 42.0, late: 1.5, fires: 3.0 });
    }

    #[test]
    fn readings_are_kept_apart_and_not_for_ever() {
        let mut readings = VecDeque::new();
        let at = |at_ms, requests| Reading { at_ms, requests, ..Reading::default() };
        for reading in [at(0, 1.0), at(100, 2.0), at(2_000, 3.0)] {
            keep(&mut readings, reading);
        }
        assert_eq!(readings.len(), 2);
        keep(&mut readings, at(KEPT_MS + 1_000, 9.0));
        assert_eq!(readings.front().map(|one| one.at_ms), Some(2_000));
        keep(&mut readings, at(KEPT_MS + 3_000, 1.0));
        assert_eq!(readings.len(), 1, "the node was started again");
    }

    #[test]
    fn rates_are_per_second() {
        let readings = [
            Reading { at_ms: 0, requests: 0.0, late: 0.0, fires: 0.0 },
            Reading { at_ms: 2_000, requests: 50.0, late: 0.0, fires: 0.0 },
            Reading { at_ms: 3_000, requests: 50.0, late: 0.5, fires: 2.0 },
        ];
        let drawn = draw(3_000, "a", &readings).0;
        assert!(drawn.contains("0.0") && drawn.contains("250 ms"), "{drawn}");
        assert_eq!(
            (thousandths(9_940), thousandths(1_234_567)),
            ("9.9".to_owned(), "1,234".to_owned())
        );
    }
}
