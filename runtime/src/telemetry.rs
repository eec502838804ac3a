//! What a node tells about itself while it runs: log lines on standard output, and metrics.
//!
//! Lines are JSON, or text for people on a terminal; either way one event is one line, whatever a client put into
//! it. Traces leave the process as the identifiers in those lines and, when an address for them is set, as spans.
//! Which lines are written can be changed while the process runs, and the latest can be followed from elsewhere (`tail`).

mod catalogue;
mod line;
pub(crate) mod otlp;
pub(crate) mod tail;

use std::any::Any;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use self::line::{JsonLine, TextLine};
pub use self::otlp::TracesError;
use crate::config::{Config, LogFormat};
use crate::ids::NodeName;

pub use self::catalogue::{Label, Metric, MetricKind, catalogue, describe};

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives of `LOG_FILTER` do not parse.
    #[error("the log filter is not valid")]
    Filter(#[source] ParseError),
    /// Someone else in this process has set up logging.
    #[error("logging is already set up in this process")]
    Logging(#[source] TryInitError),
    /// Someone else in this process has set up metrics.
    #[error("metrics are already set up in this process")]
    Metrics(#[source] BuildError),
    /// The thread that looks after the metrics does not start.
    #[error("cannot start the thread for metrics")]
    Thread(#[source] std::io::Error),
    /// Traces are on, and cannot be exported.
    #[error("traces cannot be exported")]
    Traces(#[source] TracesError),
}

/// The log filter could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The directives do not parse.
    #[error("the log filter is not valid")]
    Filter(#[source] ParseError),
    /// The lines of this process are not written by this module.
    #[error("logging was set up by the application")]
    NotOurs,
    /// The logger is gone.
    #[error("the log filter could not be replaced")]
    Replace(#[source] reload::Error),
}

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
/// What the filter begins with so that spans are made while traces are exported.
static TRACED: OnceLock<String> = OnceLock::new();
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Sets up logging, traces, metrics and a note in the log for each panic: once per process, before anything else starts.
///
/// # Errors
///
/// When the filter does not parse, or when the process already has a logger or a metrics recorder; the tests that
/// run several nodes in one process pass over the latter.
pub fn init(config: &Config) -> Result<(), TelemetryError> {
    let (log, node) = (&config.log, &config.node.id);
    let exports = otlp::prepare(config).map_err(TelemetryError::Traces)?;
    TRACED.get_or_init(|| otlp::directive(exports.as_ref()));
    let filter = filter(&log.filter).map_err(TelemetryError::Filter)?;
    let (filter, handle) = reload::Layer::new(filter);
    let is_terminal = std::io::stdout().is_terminal();
    match style(log.format, is_terminal) {
        Style::Json => {
            let layer = otlp::layer(exports.as_ref());
            let writer = tail::watched(std::io::stdout, tail::of_process());
            json(filter, node, writer).with(layer).try_init()
        }
        Style::Text(colours) => {
            let layer = otlp::layer(exports.as_ref());
            let writer = tail::watched(std::io::stdout, tail::of_process());
            text(filter, node, colours, writer).with(layer).try_init()
        }
    }
    .map_err(TelemetryError::Logging)?;
    otlp::install(exports);
    tail::of_process().is_fed_now();
    FILTER.get_or_init(|| handle);
    std::panic::set_hook(Box::new(note_panic));
    let handle = recorder()?.install_recorder().map_err(TelemetryError::Metrics)?;
    describe(catalogue());
    keep_small(handle.clone())?;
    METRICS.get_or_init(|| handle);
    Ok(())
}

/// Sends the spans that wait, for so long at most; blocks the thread.
pub(crate) fn flush(limit: Duration) {
    otlp::flush(limit);
}

/// Replaces the log filter of this process, for all its threads at once.
///
/// # Errors
///
/// When the filter does not parse, or the application writes its log lines itself.
pub fn set_filter(directives: &str) -> Result<(), FilterError> {
    let filter = filter(directives).map_err(FilterError::Filter)?;
    let handle = FILTER.get().ok_or(FilterError::NotOurs)?;
    handle.reload(filter).map_err(FilterError::Replace)
}

/// Returns all metrics of this process in the text format of Prometheus; empty before [`init`].
#[must_use]
pub fn metrics_text() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Json,
    Text(Colours),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    On,
    Off,
}

fn style(format: LogFormat, is_terminal: bool) -> Style {
    match (format, is_terminal) {
        (LogFormat::Json, _) | (LogFormat::Auto, false) => Style::Json,
        (LogFormat::Text | LogFormat::Auto, true) => Style::Text(Colours::On),
        (LogFormat::Text, false) => Style::Text(Colours::Off),
    }
}

/// The server library tells of each of its threads, and calls it an error when a stranger sends what is no HTTP; whoever
/// wants to hear it says so in the filter.
fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    let traced = TRACED.get().map_or("", String::as_str);
    EnvFilter::try_new(format!("actix_server=warn,actix_http::h1=off,{traced}{directives}"))
}

fn json<F, W>(
    filter: F,
    node: &NodeName,
    writer: W,
) -> impl Subscriber + for<'l> LookupSpan<'l> + Send + Sync
where
    F: Layer<Registry> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().json().event_format(JsonLine::new(node.clone()));
    tracing_subscriber::registry().with(filter).with(layer.with_writer(writer))
}

fn text<F, W>(
    filter: F,
    node: &NodeName,
    colours: Colours,
    writer: W,
) -> impl Subscriber + for<'l> LookupSpan<'l> + Send + Sync
where
    F: Layer<Registry> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // The layer's own colours are off: an escape sequence in a line is then always someone else's.
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(TextLine::new(node.clone(), colours));
    tracing_subscriber::registry().with(filter).with(layer.with_writer(writer))
}

/// Histograms in seconds: a local read takes tens of microseconds, a request that waits for a lease seconds.
fn recorder() -> Result<PrometheusBuilder, TelemetryError> {
    const SECONDS: [f64; 15] = [
        0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
        2.5, 10.0,
    ];
    PrometheusBuilder::new().set_buckets(&SECONDS).map_err(TelemetryError::Metrics)
}

/// Clears up behind histograms: where nobody asks for the metrics, what was observed would pile up.
fn keep_small(handle: PrometheusHandle) -> Result<(), TelemetryError> {
    let upkeep = move || loop {
        std::thread::park_timeout(Duration::from_secs(5)); // this thread has nothing else to do
        handle.run_upkeep();
    };
    let thread = std::thread::Builder::new().name("metrics-upkeep".to_owned());
    thread.spawn(upkeep).map(drop).map_err(TelemetryError::Thread)
}

/// Logs a panic as one line. Whoever runs the task that panicked decides what happens next.
fn note_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(panic.place = place, panic.message = panic_text(info.payload()), "panicked");
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use serde_json::Value;
    use tracing::subscriber::with_default;
    use tracing::{info, info_span};

    use super::*;

    /// Standard output for a test: each line is a message.
    #[derive(Clone)]
    struct Lines(Sender<Vec<u8>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn capture() -> (impl Fn() -> Lines + Send + Sync + 'static, Receiver<Vec<u8>>) {
        let (sender, receiver) = channel();
        (move || Lines(sender.clone()), receiver)
    }

    fn written(lines: &Receiver<Vec<u8>>) -> String {
        String::from_utf8(lines.try_iter().flatten().collect()).unwrap()
    }

    fn node() -> NodeName {
        "web-1".parse().unwrap()
    }

    /// What a client may put into a header that is then logged.
    const HOSTILE: &str = "a\r\nINFO forged\u{1b}[31m\u{9b}2J\u{7f}\u{2028}\tb";

    #[test]
    fn v16_hostile_text_stays_on_its_line_in_json() {
        let (writer, lines) = capture();
        with_default(json(EnvFilter::new("info"), &node(), writer), || {
            let span = info_span!("request", agent = HOSTILE);
            span.in_scope(|| info!(agent = HOSTILE, "seen {HOSTILE}"));
        });
        let text = written(&lines);
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["node"], "web-1");
        assert_eq!(line["fields"]["agent"], HOSTILE);
        assert_eq!(line["spans"][0]["agent"], HOSTILE);
    }

    #[test]
    fn v16_hostile_text_stays_on_its_line_in_text() {
        for colours in [Colours::On, Colours::Off] {
            let (writer, lines) = capture();
            with_default(text(EnvFilter::new("info"), &node(), colours, writer), || {
                let span = info_span!("request", agent = HOSTILE, shown = %HOSTILE);
                span.in_scope(|| info!(agent = HOSTILE, shown = %HOSTILE, "seen {HOSTILE}"));
            });
            let text = written(&lines);
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            let ours = text.replace("\u{1b}[32m", "").replace("\u{1b}[0m", "");
            assert!(!ours.trim_end().contains(char::is_control), "{text:?}");
            assert!(text.contains("INFO") && text.contains(" web-1 "), "{text:?}");
        }
    }

    #[test]
    fn a_json_line_tells_time_level_place_message_and_all_spans() {
        let (writer, lines) = capture();
        with_default(json(EnvFilter::new("info"), &node(), writer), || {
            let _request = info_span!("request", request.id = "r1").entered();
            let _load = info_span!("session.load").entered();
            info!(duration_ms = 3, "session loaded");
            tracing::debug!("not asked for");
        });
        let line: Value = serde_json::from_str(&written(&lines)).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["fields"]["message"], "session loaded");
        assert_eq!(line["fields"]["duration_ms"], 3);
        assert_eq!(line["spans"][0]["request.id"], "r1");
        assert_eq!(line["spans"][1]["name"], "session.load");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(line["target"].as_str().unwrap().starts_with("understudy_runtime"));
    }

    #[test]
    fn a_text_line_reads_from_left_to_right() {
        let (writer, lines) = capture();
        let subscriber = text(EnvFilter::new("info"), &node(), Colours::Off, writer);
        with_default(subscriber, || {
            let _request = info_span!("request", request.id = "r1").entered();
            info!(duration_ms = 3, "session loaded");
        });
        let line = written(&lines);
        let (_time, rest) = line.split_once(' ').unwrap();
        assert_eq!(
            rest,
            " INFO web-1 understudy_runtime::telemetry::tests: session loaded duration_ms=3 \
             | request{request.id=\"r1\"}\n"
        );
    }

    #[test]
    fn g4_a_filter_that_is_replaced_counts_at_once() {
        let (writer, lines) = capture();
        let (layer, handle) = reload::Layer::new(filter("info").unwrap());
        let say = || tracing::debug!("one place in the program");
        with_default(json(layer, &node(), writer), || {
            for (directives, written_lines) in [
                ("info", 0),
                ("debug", 1),
                ("understudy_runtime=debug", 1),
                ("other=debug", 0),
                ("info", 0),
            ] {
                handle.reload(filter(directives).unwrap()).unwrap();
                say();
                assert_eq!(written(&lines).lines().count(), written_lines, "{directives}");
            }
        });
    }

    #[test]
    fn g4_a_wrong_filter_and_a_process_without_our_logger_are_told() {
        assert!(matches!(set_filter("a=b=c"), Err(FilterError::Filter(_))));
        // No test of this process sets up the logger.
        assert!(matches!(set_filter("info"), Err(FilterError::NotOurs)));
    }

    #[test]
    fn the_format_follows_the_terminal_unless_it_is_chosen() {
        assert_eq!(style(LogFormat::Auto, false), Style::Json);
        assert_eq!(style(LogFormat::Auto, true), Style::Text(Colours::On));
        assert_eq!(style(LogFormat::Text, false), Style::Text(Colours::Off));
        assert_eq!(style(LogFormat::Json, true), Style::Json);
    }

    #[test]
    fn metrics_are_rendered_with_histograms_of_seconds() {
        let recorder = recorder().unwrap().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::counter!("session_conflicts_total").increment(1);
            metrics::histogram!("request_seconds").record(0.02);
        });
        let text = handle.render();
        assert!(text.contains("session_conflicts_total 1"), "{text}");
        assert!(text.contains("request_seconds_bucket{le=\"0.025\"} 1"), "{text}");
    }
}
