//! What a metric is called and means: one entry each, from which its help text and the page `docs/metrics.md` are made.
//!
//! A name that is counted under and stands in no table is a mistake: a test compares them with the sources, the page and
//! what running nodes serve. Each crate has the table of its own metrics beside them.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows, and begins at zero with the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many observations were how large; written as `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl MetricKind {
    /// Returns the word that Prometheus has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What tells the series of a metric apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// All values there can be; empty where they follow from the program, such as the patterns of its routes. Never from
    /// what a client sends: the number of series is bounded.
    pub values: &'static [&'static str],
}

impl Label {
    /// A label with these values and no others.
    #[must_use]
    pub const fn of(name: &'static str, values: &'static [&'static str]) -> Self {
        Self { name, values }
    }

    /// A label whose values follow from the program.
    #[must_use]
    pub const fn any(name: &'static str) -> Self {
        Self { name, values: &[] }
    }
}

/// One metric that a node may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name, with the unit at its end.
    pub name: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// What tells its series apart.
    pub labels: &'static [Label],
    /// What it counts, in one sentence without a full stop.
    pub meaning: &'static str,
}

impl Metric {
    /// Describes a counter.
    #[must_use]
    pub const fn counter(name: &'static str, meaning: &'static str) -> Self {
        Self { name, kind: MetricKind::Counter, labels: &[], meaning }
    }

    /// Describes a gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, meaning: &'static str) -> Self {
        Self { name, kind: MetricKind::Gauge, labels: &[], meaning }
    }

    /// Describes a histogram.
    #[must_use]
    pub const fn histogram(name: &'static str, meaning: &'static str) -> Self {
        Self { name, kind: MetricKind::Histogram, labels: &[], meaning }
    }

    /// Names its labels.
    #[must_use]
    pub const fn by(mut self, labels: &'static [Label]) -> Self {
        self.labels = labels;
        self
    }

    /// Returns the unit, as the name tells it: `seconds`, `bytes`, or a plain number.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        match name.rsplit('_').next() {
            Some("seconds") => "seconds",
            Some("bytes") => "bytes",
            Some(_) | None => "number",
        }
    }
}

/// Gives the metrics their help texts, and lets counters begin: at zero, not with the first thing they count, which would
/// then be no increase for whoever watches them. To be called when a recorder is in place; again does no harm.
pub fn describe(table: &[Metric]) {
    for metric in table {
        match metric.kind {
            MetricKind::Counter => {
                describe_counter!(metric.name, metric.meaning);
                begin(metric);
            }
            MetricKind::Gauge => describe_gauge!(metric.name, metric.meaning),
            MetricKind::Histogram => describe_histogram!(metric.name, metric.meaning),
        }
    }
}

fn begin(counter: &Metric) {
    match counter.labels {
        [] => counter!(counter.name).increment(0),
        [label] => {
            for value in label.values {
                counter!(counter.name, label.name => *value).increment(0);
            }
        }
        _ => {}
    }
}

/// Returns the metrics of this crate: those of the node itself, its ports, its leases and its servers.
#[must_use]
pub fn catalogue() -> &'static [Metric] {
    CATALOGUE
}

#[rustfmt::skip] // one line each: this is a table
static CATALOGUE: &[Metric] = &[
    Metric::gauge("understudy_build_info", "Always 1; the label tells the version of the program").by(&[Label::any("version")]),
    Metric::gauge("understudy_node_ready", "1 while the node is ready, that is while a balancer should send requests here, else 0"),
    Metric::gauge("understudy_nodes", "Nodes of the cluster as this one sees them; `lost` are those that are silent").by(&[Label::of("state", &["starting", "ready", "draining", "lost"])]),
    Metric::gauge("understudy_nodes_config_differs", "Living nodes whose options, those of the node itself apart, are others than this node's"),
    Metric::gauge("understudy_problems", "Problems of the cluster that the node knows of, by their code and how bad they are").by(&[Label::any("code"), Label::of("severity", &["info", "warning", "critical"])]),
    Metric::histogram("understudy_pauses_seconds", "Times for which the process stood still, of more than half a second"),
    Metric::counter("understudy_audit_dropped_total", "Entries of the audit log that stand in the log only, since the database was away for too long"),

    Metric::counter("understudy_http_requests_total", "Requests answered on the public port, by the pattern of the route (`unmatched` for all that met none), the method (`other` for unusual ones) and the class of the status").by(&[Label::any("route"), Label::of("method", &["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "other"]), Label::of("status", &["1xx", "2xx", "3xx", "4xx", "5xx"])]),
    Metric::histogram("understudy_http_request_duration_seconds", "Time from the head of a request on the public port to the head of its answer").by(&[Label::any("route")]),
    Metric::gauge("understudy_http_requests_under_way", "Requests on the public port that are being answered now"),
    Metric::counter("understudy_rate_limited_total", "Times somebody was refused what they had done too often"),
    Metric::counter("understudy_http_forwarding_ignored_total", "Requests that told of another client than their peer and were not believed, since the peer is no trusted proxy"),
    Metric::histogram("understudy_event_loop_lag_seconds", "How much later than planned a thread came to a task that was due: `worker` for the threads that serve requests, `node` for those of the node itself").by(&[Label::of("loop", &["worker", "node"])]),

    Metric::gauge("understudy_actors", "Actors on this node, by their type").by(&[Label::any("type")]),
    Metric::gauge("understudy_actor_waiting", "Messages that wait for the actors of a type on this node; of `session`, requests that wait for an answer").by(&[Label::any("type")]),
    Metric::gauge("understudy_actor_waiting_max", "The same of the one actor for which most wait").by(&[Label::any("type")]),
    Metric::counter("understudy_actor_messages_total", "Messages that the actors of a type have handled").by(&[Label::any("type")]),
    Metric::gauge("understudy_actor_message_seconds", "How long the messages of the last one to two minutes took, from when they were asked for, or taken out of the mailbox, until they were answered: half of them at most (`p50`), 99 of 100 at most (`p99`), the slowest (`max`)").by(&[Label::any("type"), Label::of("rank", &["p50", "p99", "max"])]),
    Metric::counter("understudy_actor_restarts_total", "Actors that were lost in a panic; a session gets another one with its next request").by(&[Label::any("type")]),
    Metric::counter("understudy_task_restarts_total", "Background tasks that failed or panicked and were started again").by(&[Label::any("task")]),

    Metric::gauge("understudy_lease_remaining_seconds", "How long the node may still trust its lease unless it is renewed, the shortest of all buckets; 0 when it has none. Not written by a node without a cluster"),
    Metric::counter("understudy_lease_failures_total", "Renewals of the node's lease that failed"),
    Metric::counter("understudy_lease_gaps_total", "Times that the node's lease was interrupted, so that others may have taken over what the node owned"),
    Metric::counter("understudy_lease_pauses_total", "Times that this process, or its machine, stood still for longer than half a second"),
    Metric::counter("understudy_lease_server_changes_total", "Times that the store of the leases was another than before: restarted empty, or a replica in place of its primary"),

    Metric::gauge("understudy_redis_up", "1 when Redis answered the last question of the readiness check, else 0"),
    Metric::gauge("understudy_redis_commands_under_way", "Commands that wait for an answer of Redis on the node's connection for data"),
    Metric::counter("understudy_redis_errors_total", "Commands to Redis that failed, by the kind of failure").by(&[Label::any("kind")]),
    Metric::histogram("understudy_redis_script_seconds", "Round trips of scripts to Redis that succeeded, by the name of the script").by(&[Label::any("script")]),

    Metric::gauge("understudy_database_up", "1 when the database answered the last question of the readiness check, else 0"),
    Metric::gauge("understudy_database_connections", "Open connections to the database: `main` is the pool of the application and the sessions, `scheduler` that of the jobs").by(&[Label::of("pool", &["main", "scheduler"]), Label::of("state", &["used", "idle"])]),
    Metric::gauge("understudy_database_connections_max", "Most connections that a pool may open").by(&[Label::of("pool", &["main", "scheduler"])]),

    Metric::counter("understudy_bus_dropped_total", "Messages of other nodes that were dropped: nobody here knows their `kind`, too many were being answered (`busy`), or they came faster than they were read (`lagged`)").by(&[Label::of("why", &["unreadable", "kind", "busy", "lagged"])]),
    Metric::counter("understudy_locks_acquired_total", "Cluster-wide locks that this node got"),
    Metric::gauge("understudy_locks_held", "Cluster-wide locks that this node holds"),
    Metric::counter("understudy_locks_lost_total", "Cluster-wide locks that ended under their holder: they ran out, or were taken away"),

    Metric::gauge("understudy_cache_entries", "Cached values in the memory of the node").by(&[Label::any("region")]),
    Metric::gauge("understudy_cache_bytes", "What they take, keys included").by(&[Label::any("region")]),
    Metric::gauge("understudy_cache_max_bytes", "What they may take").by(&[Label::any("region")]),
    Metric::gauge("understudy_cache_trusted", "1 while values are given from memory, 0 while nothing is heard of changes").by(&[Label::any("region")]),
    Metric::gauge("understudy_cache_age_seconds", "For how long nothing was heard of changes; values are given from memory up to 2 s").by(&[Label::any("region")]),
    Metric::counter("understudy_cache_reads_total", "Cached values that were asked for, by where they came from: the memory of the node, Redis, `loaded` and kept, loaded for those who asked just then (`unkept`), or memory after their life (`stale`)").by(&[Label::any("region"), Label::of("from", &["memory", "redis", "loaded", "unkept", "stale"])]),
    Metric::counter("understudy_cache_evicted_total", "Cached values that made room for others, or for a newer one of their key").by(&[Label::any("region")]),
    Metric::counter("understudy_cache_forgotten_total", "Cached values that were forgotten because somebody changed them, on any node").by(&[Label::any("region")]),
    Metric::counter("understudy_cache_cleared_total", "Times that all values of a region were forgotten: by an operator or the application, or because not all changes could be heard of").by(&[Label::any("region")]),
    Metric::counter("understudy_cache_looks_total", "Times that the node looked for changes of cached values, by why: another node said that there are some (`told`), it made one itself (`own`), or it was time. Where `told` stands still while others make changes, the messages between nodes are lost, and changes are heard of up to 0.5 s later").by(&[Label::any("region"), Label::of("why", &["told", "own", "time"])]),
    Metric::gauge("understudy_cache_outbox_age_seconds", "How long ago that was written which waits longest to be told to the cache after its transaction; 0 when nothing waits"),
    Metric::counter("understudy_cache_outbox_told_total", "What transactions and other programs changed and this node found and told to the cache; what is told right after its commit is not in here"),
    Metric::gauge("understudy_cache_listening", "1 while the node listens to what other programs change, 0 while it does not, or no table has the trigger"),
    Metric::gauge("understudy_cache_background_loads", "Values that are loaded while nobody need wait for them").by(&[Label::any("region")]),
    Metric::counter("understudy_cache_background_ended_total", "Loads of cached values that nobody need wait for, by how they ended: `done`, `put_off` since another node loads the value, it is being changed or Redis did not say, `failed`, and those that found `no_room` and were not begun").by(&[Label::any("region"), Label::of("end", &["done", "put_off", "failed", "no_room"])]),

    Metric::counter("understudy_files_written_total", "Files that every node sees which this node has written"),
    Metric::counter("understudy_files_written_bytes_total", "Bytes of these"),
    Metric::counter("understudy_files_read_bytes_total", "Bytes of files that every node sees which this node has read"),
    Metric::counter("understudy_files_removed_total", "Contents of files that were deleted, replaced or never finished which this node removed"),
    Metric::counter("understudy_files_orphans_removed_total", "Files that nobody used which this node took their name away"),
    Metric::counter("understudy_files_shared_total", "Files that this node has written and whose content was there already"),
    Metric::counter("understudy_files_damaged_total", "Times that the content of a file was not what had been written"),
    Metric::counter("understudy_files_unopened_total", "Times that an encrypted file was asked for and this node did not have its key"),
    Metric::counter("understudy_files_links_total", "Requests that came with a link to a file: it was read or written, or the link was not good for it").by(&[Label::of("result", &["read", "write", "refused"])]),
    Metric::counter("understudy_files_judged_total", "Files that were examined before anybody is served them; `failed` when nothing was said").by(&[Label::of("verdict", &["clean", "infected", "failed"])]),
    Metric::gauge("understudy_files_store_up", "1 when the store of the contents of files did its work at the last look, else 0"),
    Metric::counter("understudy_files_near_hits_total", "Pieces of files that this node read from its own disk (`UNDERSTUDY_FILES_CACHE_DIR`)"),
    Metric::counter("understudy_files_near_misses_total", "Pieces of files that were not there, and came from the store"),
    Metric::counter("understudy_files_near_failures_total", "Times that a piece of a file could not be kept there, or was not what had been kept"),
    Metric::gauge("understudy_files_near_bytes", "How much of files this node keeps there"),

    Metric::counter("understudy_trace_spans_sent_total", "Spans that the collector has taken"),
    Metric::counter("understudy_trace_spans_dropped_total", "Spans that were not sent: they came faster than they could be (`queue_full`), or the collector was away, too slow, or refused them").by(&[Label::of("why", &["queue_full", "collector"])]),

    Metric::counter("process_cpu_seconds_total", "Time that this process spent on processors"),
    Metric::gauge("process_resident_memory_bytes", "Memory of this process that is in use (Linux)"),
    Metric::gauge("process_open_fds", "Open files and sockets of this process (Linux)"),
    Metric::gauge("process_max_fds", "Most files and sockets that this process may open"),
    Metric::gauge("process_start_time_seconds", "When this process started, in seconds since 1970"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn h5_names_are_unique_and_end_as_their_kind_does() {
        let names: BTreeSet<_> = catalogue().iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), catalogue().len());
        for metric in catalogue() {
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == MetricKind::Counter,
                "{metric:?}"
            );
            assert!(!metric.meaning.ends_with('.') && !metric.meaning.is_empty(), "{metric:?}");
        }
    }

    #[test]
    fn the_unit_is_the_end_of_the_name() {
        assert_eq!(Metric::counter("a_seconds_total", "").unit(), "seconds");
        assert_eq!(Metric::gauge("a_bytes", "").unit(), "bytes");
        assert_eq!(Metric::gauge("a_total_of_things", "").unit(), "number");
    }

    #[test]
    fn h5_a_counter_is_there_before_it_counts() {
        static TABLE: [Metric; 3] = [
            Metric::counter("plain_total", "Plain things"),
            Metric::counter("kinds_total", "Things").by(&[Label::of("why", &["a", "b"])]),
            Metric::counter("open_total", "Things").by(&[Label::any("route")]),
        ];
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || describe(&TABLE));
        let text = recorder.handle().render();
        assert!(
            text.contains("plain_total 0\n") && text.contains("kinds_total{why=\"b\"} 0"),
            "{text}"
        );
        assert!(
            text.contains("# HELP plain_total Plain things") && !text.contains("open_total{"),
            "{text}"
        );
    }
}
