//! Spans on their way to a collector of a few lines, which takes them apart as a real one does.

use std::sync::mpsc as blocking;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as Kind;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tracing::subscriber::with_default;
use tracing::{debug_span, field, info, info_span};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::trace::{Origin, place};
use crate::traced_span;

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const LIMIT: Duration = Duration::from_secs(10);

/// What a collector was sent: headers, resource, spans.
struct Received {
    head: String,
    service: Vec<(String, String)>,
    spans: Vec<Sent>,
}

struct Collector {
    url: String,
    sent: blocking::Receiver<Received>,
}

/// A collector that answers with this status, after this long.
fn collector(status: u16, after: Duration) -> Collector {
    let (tell, sent) = blocking::channel();
    let (ready, url) = blocking::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (head, body) = request(&mut stream).await;
                tokio::time::sleep(after).await;
                let answer = format!(
                    "HTTP/1.1 {status} Any\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                // Whoever sent may have given up.
                stream.write_all(answer.as_bytes()).await.ok();
                if tell.send(taken_apart(head, &body)).is_err() {
                    return;
                }
            }
        });
    });
    Collector { url: url.recv_timeout(LIMIT).unwrap(), sent }
}

async fn request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the request ended early");
        bytes.extend_from_slice(&chunk[..read]);
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let body = &bytes[end + 4..];
        if body.len() >= length.parse::<usize>().unwrap() {
            return (head, body.to_vec());
        }
    }
}

fn taken_apart(head: String, body: &[u8]) -> Received {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let of = request.resource_spans.into_iter().next().unwrap();
    let service = of.resource.unwrap().attributes;
    let service = service.into_iter().map(|one| (one.key, text(one.value.unwrap().value.unwrap())));
    let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans).collect();
    Received { head, service: service.collect(), spans }
}

fn text(value: Any) -> String {
    match value {
        Any::StringValue(text) => text,
        Any::IntValue(number) => number.to_string(),
        other @ (Any::BoolValue(_)
        | Any::DoubleValue(_)
        | Any::ArrayValue(_)
        | Any::KvlistValue(_)
        | Any::BytesValue(_)
        | Any::StringValueStrindex(_)) => format!("{other:?}"),
    }
}

fn attributes(span: &Sent) -> Vec<(String, String)> {
    let pairs = span.attributes.iter().cloned();
    let mut pairs: Vec<_> =
        pairs.map(|pair| (pair.key, text(pair.value.unwrap().value.unwrap()))).collect();
    pairs.sort();
    pairs
}

fn config(endpoint: &str, more: &[(&str, &str)]) -> Config {
    let vars = [("UNDERSTUDY_TRACES_ENDPOINT", endpoint), ("UNDERSTUDY_NODE_ID", "web-1")];
    let vars = vars.iter().chain(more);
    Config::from_vars(vars.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).unwrap()
}

fn exports(endpoint: &str, more: &[(&str, &str)]) -> Exports {
    prepare(&config(endpoint, more)).unwrap().unwrap()
}

/// Does something under a logger like that of a node, whose filter is `warn`, and sends what came of it.
fn traced(exports: &Exports, work: impl FnOnce()) {
    let filter = EnvFilter::new("understudy_runtime=info,application=info,warn");
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    let subscriber =
        tracing_subscriber::registry().with(filter).with(lines).with(layer(Some(exports)));
    with_default(subscriber, work);
    assert!(exports.flushes.flush(LIMIT));
}

#[test]
fn a_collector_is_told_of_a_request_as_the_conventions_have_it() {
    let collector = collector(200, Duration::ZERO);
    let headers = [("UNDERSTUDY_TRACES_HEADERS", "x-key=s3cret")];
    let exports = exports(&collector.url, &headers);
    traced(&exports, || {
        let span = traced_span!(
            "http.request",
            http.method = %"GET",
            http.route = field::Empty,
            http.status_code = field::Empty,
            client.addr = %"192.0.2.1",
            node.id = "web-1#1",
            duration_ms = field::Empty,
        );
        place(&span, Origin::Continues(TraceContext::parse(CALLER).unwrap())).unwrap();
        tell(&span, "url.path", "/users/7".to_owned());
        span.in_scope(|| {
            info!(password = "never exported", "an event");
            let _debug = debug_span!("not wanted by the filter").entered();
            let _own = info_span!(target: "application", "their own", item = 7).entered();
        });
        span.record("http.route", "/users/{id}");
        span.record("http.status_code", i64::from(503_u16));
        span.record("duration_ms", 3_u64);
    });
    let sent = collector.sent.recv_timeout(LIMIT).unwrap();
    assert!(sent.head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{}", sent.head);
    for header in ["content-type: application/x-protobuf", "x-key: s3cret"] {
        assert!(sent.head.lines().any(|line| line == header), "{header} is not in {}", sent.head);
    }
    for expected in [("service.name", "understudy"), ("service.instance.id", "web-1")] {
        let expected = (expected.0.to_owned(), expected.1.to_owned());
        assert!(sent.service.contains(&expected), "{:?}", sent.service);
    }
    let names: Vec<_> = sent.spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["their own", "GET /users/{id}"]);
    let (own, request) = (&sent.spans[0], &sent.spans[1]);
    assert_eq!(request.kind, Kind::Server as i32);
    assert_eq!(request.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(request.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(own.parent_span_id, request.span_id);
    assert!(own.events.is_empty() && request.events.is_empty());
    assert_eq!(request.status.as_ref().unwrap().code, 2);
    let expected = [
        ("client.address", "192.0.2.1"),
        ("error.type", "503"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "503"),
        ("http.route", "/users/{id}"),
        ("url.path", "/users/7"),
    ];
    assert_eq!(attributes(request), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn only_what_was_decided_is_exported() {
    let collector = collector(200, Duration::ZERO);
    let exports = exports(&collector.url, &[]);
    let caller = TraceContext { sampled: false, ..TraceContext::parse(CALLER).unwrap() };
    traced(&exports, || {
        let unsampled = traced_span!("http.request", http.method = "GET");
        // Not exported, so what comes next still belongs under the caller.
        assert_eq!(place(&unsampled, Origin::Continues(caller)), Some(caller));
        unsampled.in_scope(|| {
            assert_eq!(TraceContext::current(), Some(caller));
            drop(info_span!(target: "application", "inner"));
        });
        drop(info_span!(target: "application", "on its own").entered());
        drop(traced_span!("job.run", job.name = "x").entered());
        let drawn = traced_span!("job.run", job.name = "x", attempt = 2_i64);
        let context = place(&drawn, Origin::Begins).unwrap();
        assert!(context.sampled);
        drawn.in_scope(|| {
            assert_eq!(TraceContext::current(), Some(context));
            let inner = info_span!(target: "application", "inner").entered();
            let within = TraceContext::current().unwrap();
            assert_eq!(within.trace_id, context.trace_id);
            assert_ne!(within.parent_id, context.parent_id, "the innermost exported span");
            drop(inner);
        });
    });
    let sent = collector.sent.recv_timeout(LIMIT).unwrap();
    let names: Vec<_> = sent.spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["inner", "job.run x"]);
    assert!(sent.spans[1].parent_span_id.is_empty(), "it is a root");
    assert_eq!(sent.spans[1].kind, Kind::Consumer as i32);
}

#[test]
fn outcomes_and_errors_are_told_and_unknown_methods_are_not() {
    let collector = collector(200, Duration::ZERO);
    let exports = exports(&collector.url, &[]);
    let caller = Origin::Continues(TraceContext::parse(CALLER).unwrap());
    traced(&exports, || {
        for outcome in ["completed", "failed"] {
            let run = traced_span!("job.run", job.name = "x", outcome = field::Empty);
            place(&run, caller);
            run.record("outcome", outcome);
        }
        let asked = traced_span!("bus.request", bus.message = "m", error = field::Empty);
        place(&asked, caller);
        asked.record("error", "the node did not answer in time");
        drop(asked);
        let odd = traced_span!("http.request", http.method = "BREW", http.route = "unmatched");
        place(&odd, caller);
    });
    let sent = collector.sent.recv_timeout(LIMIT).unwrap();
    let seen: Vec<_> = sent
        .spans
        .iter()
        .map(|span| (span.name.as_str(), span.status.as_ref().map_or(0, |status| status.code)))
        .collect();
    assert_eq!(seen, [("job.run x", 0), ("job.run x", 2), ("bus.request m", 2), ("HTTP", 0)]);
    assert_eq!(
        attributes(&sent.spans[3]),
        [("http.request.method".to_owned(), "_OTHER".to_owned())]
    );
}

/// Makes spans and finishes them; gives how long that took.
fn finish(exports: &Exports, spans: usize) -> Duration {
    let begun = tokio::time::Instant::now();
    let subscriber = tracing_subscriber::registry().with(layer(Some(exports)));
    with_default(subscriber, || {
        for _ in 0..spans {
            let span = traced_span!("job.run", job.name = "x");
            place(&span, Origin::Begins);
        }
    });
    begun.elapsed()
}

#[test]
fn a_collector_that_is_away_or_silent_delays_nobody_and_memory_is_bounded() {
    // Nobody listens on the one, and nobody answers on the other.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for endpoint in ["http://127.0.0.1:1", silent.as_str()] {
        let exports = exports(endpoint, &[]);
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let took = metrics::with_local_recorder(&recorder, || finish(&exports, 10_000));
        // Whoever waited for the collector would wait for each of twenty batches.
        assert!(took < EXPORT * 10, "{endpoint}: {took:?}");
        let text = handle.render();
        let dropped = text
            .lines()
            .find_map(|line| {
                line.strip_prefix("understudy_trace_spans_dropped_total{why=\"queue_full\"} ")
            })
            .unwrap_or_else(|| panic!("nothing was dropped at {endpoint}: {text}"));
        let dropped: u64 = dropped.parse().unwrap();
        // Those that wait, and those that were taken out to be sent.
        assert!((10_000 - 4_096 - 10 * 512..=10_000 - 4_096).contains(&dropped), "{dropped}");
        let begun = tokio::time::Instant::now();
        exports.flushes.flush(Duration::from_millis(300));
        assert!(begun.elapsed() < Duration::from_secs(1), "a flush is bounded");
        // Dropping the provider asks for a last flush of its own, which is bounded too.
        std::mem::forget(exports);
    }
}

#[test]
fn a_collector_that_refuses_is_asked_again_with_what_comes_next() {
    let refusing = collector(400, Duration::ZERO);
    let exports = exports(&refusing.url, &[]);
    for _ in 0..2 {
        finish(&exports, 1);
        assert!(exports.flushes.flush(LIMIT));
        assert_eq!(refusing.sent.recv_timeout(LIMIT).unwrap().spans.len(), 1);
    }
}

#[test]
fn nothing_is_prepared_when_traces_are_off() {
    assert!(prepare(&config("", &[])).unwrap().is_none());
    assert!(layer::<tracing_subscriber::Registry>(None).is_none());
    assert_eq!(directive(None), "");
    assert!(!is_on() && !draws());
}
