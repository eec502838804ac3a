//! Counts requests by route, method and class of status, and how long they took.
//!
//! Looking up a labelled counter in the recorder costs more than routing. So each worker counts in plain cells of
//! its own, which no other thread touches, and hands the sums to the recorder once a second. The route is the
//! pattern, never the path, so that the number of series is bounded by the code.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use actix_web::http::Method;
use tokio::time::Instant;

const REQUESTS: &str = "understudy_http_requests_total";
const DURATION: &str = "understudy_http_request_duration_seconds";
const FLUSH_EVERY: Duration = Duration::from_secs(1);

const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Upper bounds of what is told apart before it is handed over, in microseconds; those of [`crate::telemetry`].
const BOUNDS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// The counts of one worker.
#[derive(Debug, Default)]
pub(crate) struct WorkerMetrics {
    routes: RefCell<HashMap<String, Rc<RouteCounts>>>,
}

impl WorkerMetrics {
    /// Begins to count, and to hand over until the returned value is dropped. Must be called on the worker.
    pub(crate) fn begin() -> Rc<Self> {
        let counts = Rc::new(Self::default());
        actix_web::rt::spawn(flush_regularly(Rc::downgrade(&counts)));
        counts
    }

    /// Counts one answered request; `None` when it was not routed.
    pub(crate) fn count(&self, route: Option<&str>, method: &Method, status: u16, took: Duration) {
        let route = route.unwrap_or("unmatched");
        let known = self.routes.borrow().get(route).map(Rc::clone);
        let counts = known.unwrap_or_else(|| {
            let counts = Rc::new(RouteCounts::default());
            self.routes.borrow_mut().insert(route.to_owned(), Rc::clone(&counts));
            counts
        });
        let class = usize::from((status / 100).clamp(1, 5)) - 1;
        increase(&counts.requests[method_index(method)][class], 1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = &counts.durations[BOUNDS.partition_point(|bound| *bound < micros)];
        increase(&bucket.0, 1);
        increase(&bucket.1, micros);
    }

    /// Hands over what was counted since the last time.
    fn flush(&self) {
        for (route, counts) in self.routes.borrow().iter() {
            counts.flush(route);
        }
    }
}

impl Drop for WorkerMetrics {
    fn drop(&mut self) {
        self.flush();
    }
}

#[derive(Debug, Default)]
struct RouteCounts {
    requests: [[Cell<u64>; CLASSES.len()]; METHODS.len()],
    /// Per bucket: how many, and their microseconds in all.
    durations: [(Cell<u64>, Cell<u64>); BOUNDS.len() + 1],
}

impl RouteCounts {
    fn flush(&self, route: &str) {
        for (method, classes) in METHODS.iter().zip(&self.requests) {
            for (class, count) in CLASSES.iter().zip(classes) {
                let count = count.take();
                if count > 0 {
                    let route = route.to_owned();
                    metrics::counter!(REQUESTS, "route" => route, "method" => *method, "status" => *class)
                        .increment(count);
                }
            }
        }
        for (count, micros) in &self.durations {
            let (count, micros) = (count.take(), micros.take());
            // The mean lies in the same bucket as all it stands for, and keeps the sum right.
            if let Some(mean) = micros.checked_div(count) {
                let mean = Duration::from_micros(mean).as_secs_f64();
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                metrics::histogram!(DURATION, "route" => route.to_owned()).record_many(mean, count);
            }
        }
    }
}

fn increase(cell: &Cell<u64>, by: u64) {
    cell.set(cell.get().saturating_add(by));
}

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::POST => 1,
        Method::PUT => 2,
        Method::DELETE => 3,
        Method::PATCH => 4,
        Method::HEAD => 5,
        Method::OPTIONS => 6,
        _ => 7,
    }
}

async fn flush_regularly(counts: Weak<WorkerMetrics>) {
    let lag = metrics::histogram!("understudy_event_loop_lag_seconds", "loop" => "worker");
    loop {
        let began = Instant::now();
        tokio::time::sleep(FLUSH_EVERY).await;
        // What came too late for this came too late for requests, too.
        lag.record(began.elapsed().saturating_sub(FLUSH_EVERY));
        match counts.upgrade() {
            Some(counts) => counts.flush(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_pattern_method_and_class() {
        let metrics = WorkerMetrics::default();
        for status in [200, 204, 301, 404, 500, 99, 700] {
            metrics.count(Some("/x/{id}"), &Method::GET, status, Duration::from_millis(3));
        }
        metrics.count(None, &Method::from_bytes(b"BREW").unwrap(), 404, Duration::ZERO);
        let routes = metrics.routes.borrow();
        let counted = &routes["/x/{id}"].requests[0];
        let counted: Vec<u64> = counted.iter().map(Cell::get).collect();
        assert_eq!(counted, [1, 2, 1, 1, 2]);
        assert_eq!(routes["unmatched"].requests[7][3].get(), 1);
    }

    #[test]
    fn durations_keep_their_bucket_and_their_sum() {
        let metrics = WorkerMetrics::default();
        for micros in [250, 251, 400, 9_000_000] {
            metrics.count(Some("/"), &Method::GET, 200, Duration::from_micros(micros));
        }
        let routes = metrics.routes.borrow();
        let durations = &routes["/"].durations;
        assert_eq!((durations[1].0.get(), durations[1].1.get()), (1, 250));
        assert_eq!((durations[2].0.get(), durations[2].1.get()), (2, 651));
        assert_eq!((durations[14].0.get(), durations[14].1.get()), (1, 9_000_000));
    }

    #[test]
    fn what_was_handed_over_is_not_counted_again() {
        let metrics = WorkerMetrics::default();
        metrics.count(Some("/"), &Method::GET, 200, Duration::ZERO);
        metrics.flush();
        assert_eq!(metrics.routes.borrow()["/"].requests[0][1].get(), 0);
    }
}
