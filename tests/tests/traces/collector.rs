//! A collector of OTLP over HTTP, as small as one can be: takes what nodes send apart and keeps it.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use understudy_tests::wait;

/// How long anything may take that only must happen.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// A span as a person would read it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// The node.
    pub(super) node: String,
    pub(super) name: String,
    pub(super) kind: SpanKind,
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) attributes: BTreeMap<String, String>,
}

/// A collector; ends on drop.
pub(super) struct Collector {
    url: String,
    spans: Arc<RwLock<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans: Arc<RwLock<Vec<Seen>>> = Arc::default();
        let kept = Arc::clone(&spans);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A node that was killed in the middle of a request is none of its business.
                tokio::spawn(serve(stream, Arc::clone(&kept)));
            }
        });
        Self { url, spans, task }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// All spans so far.
    pub(super) fn spans(&self) -> Vec<Seen> {
        self.spans.read().expect("no holder panics").clone()
    }

    /// The spans of a trace so far.
    pub(super) fn trace(&self, trace: &str) -> Vec<Seen> {
        self.spans().into_iter().filter(|span| span.trace == trace).collect()
    }

    /// Waits for a span of this name, of this node if it is said, in a trace.
    pub(super) async fn span(&self, trace: &str, node: Option<&str>, name: &str) -> Seen {
        let what = format!("{name} of {node:?} is in the trace {trace}");
        let found = wait::until_some(&what, LIMIT, async || {
            let mut spans = self.trace(trace).into_iter();
            spans.find(|span| span.name == name && node.is_none_or(|node| span.node == node))
        });
        found.await.0
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, spans: Arc<RwLock<Vec<Seen>>>) {
    while let Some(body) = request(&mut stream).await {
        let request = ExportTraceServiceRequest::decode(&*body).expect("nodes send protobuf");
        spans.write().expect("no holder panics").extend(read(request));
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// The body of the next request of a connection; none when there is no more.
async fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 65_536]);
    loop {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        let length: usize = length.parse().ok()?;
        assert!(head.starts_with("post /v1/traces "), "{head}");
        if bytes.len() >= end + 4 + length {
            return Some(bytes.split_off(end + 4));
        }
    }
}

fn read(request: ExportTraceServiceRequest) -> Vec<Seen> {
    let mut seen = Vec::new();
    for of in request.resource_spans {
        let resource = pairs(of.resource.map(|of| of.attributes).unwrap_or_default());
        let node = resource.get("service.instance.id").cloned().unwrap_or_default();
        let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
        seen.extend(spans.map(|span| one(&node, span)));
    }
    seen
}

fn one(node: &str, span: Span) -> Seen {
    assert!(span.events.is_empty(), "events stay in the log: {span:?}");
    Seen {
        node: node.to_owned(),
        kind: span.kind(),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: pairs(span.attributes),
    }
}

fn pairs(of: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other @ (Value::BoolValue(_)
        | Value::DoubleValue(_)
        | Value::ArrayValue(_)
        | Value::KvlistValue(_)
        | Value::BytesValue(_)
        | Value::StringValueStrindex(_)) => format!("{other:?}"),
    };
    let pair = |pair: KeyValue| Some((pair.key, text(pair.value?.value?)));
    of.into_iter().filter_map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A trace of a caller, and the header that says so.
pub(super) struct Caller {
    pub(super) trace: String,
    pub(super) span: String,
    pub(super) header: String,
}

/// Draws a trace that its caller records, or not.
pub(super) fn caller(sampled: bool) -> Caller {
    let trace = format!("{:032x}", rand::random::<u128>().max(1));
    let span = format!("{:016x}", rand::random::<u64>().max(1));
    let header = format!("00-{trace}-{span}-{:02x}", u8::from(sampled));
    Caller { trace, span, header }
}
