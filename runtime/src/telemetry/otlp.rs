//! Spans on their way to a collector: OpenTelemetry, OTLP over HTTP. Off unless an address is set.
//!
//! Finished spans wait in a bounded [`queue`] and are sent by a thread of their own, so a collector that is slow,
//! broken or away costs spans, which are counted, and never a request. Exported are Understudy's own spans and, within
//! them, those of the application that the log filter lets through; events are not, they are in the log. Nothing of
//! `OTEL_*` in the environment is needed; only headers and compression are taken from there too, by the library.

mod convention;
mod queue;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample, SpanExporter as _,
};
use rustls::{ClientConfig, RootCertStore};
use tracing::{Dispatch, Id, Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _, get_otel_context};
use tracing_subscriber::registry::LookupSpan;

use self::queue::Flushes;
use crate::config::{Config, TracesConfig};
use crate::trace::TraceContext;

/// How long reaching the collector may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one batch may take, with repetitions.
const EXPORT: Duration = Duration::from_secs(5);

/// Traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The library does not take the settings.
    #[error("the exporter cannot be made")]
    Exporter(#[source] ExporterBuildError),
    /// No client can be made for the collector.
    #[error("no client can be made for the collector")]
    Client(#[source] reqwest::Error),
    /// TLS does not work.
    #[error("TLS does not work")]
    Tls(#[source] rustls::Error),
    /// The thread that sends spans does not start.
    #[error("cannot start the thread for traces")]
    Thread(#[source] std::io::Error),
}

/// The way out for spans.
#[derive(Debug)]
pub(super) struct Exports {
    sample: f64,
    provider: SdkTracerProvider,
    flushes: Flushes,
}

/// Set once the logger is: only then are there spans to export.
static EXPORTS: OnceLock<Exports> = OnceLock::new();

/// Starts the exporter, if traces are on.
pub(super) fn prepare(config: &Config) -> Result<Option<Exports>, TracesError> {
    let Some(endpoint) = &config.traces.endpoint else { return Ok(None) };
    let mut exporter = exporter(endpoint, &config.traces)?;
    let resource = resource(config);
    exporter.set_resource(&resource);
    let (queue, flushes) = queue::start(exporter).map_err(TracesError::Thread)?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(AsDecided)
        .with_max_events_per_span(0)
        .with_span_processor(queue)
        .build();
    Ok(Some(Exports { sample: config.traces.sample, provider, flushes }))
}

/// Makes the layer that hands spans to the exporter.
///
/// It has no filter of its own: with a filter per layer, `enabled!` of one event would hide the next span from it. What
/// is not to be exported is left out by the sampler, and events by the limit of spans.
pub(super) fn layer<S>(exports: Option<&Exports>) -> Option<OpenTelemetryLayer<S, SdkTracer>>
where
    S: Subscriber + for<'l> LookupSpan<'l>,
{
    let tracer = exports?.provider.tracer("understudy");
    let layer = OpenTelemetryLayer::new(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        // The parent of a span is that of `tracing`, whoever else uses OpenTelemetry in this process.
        .with_context_activation(false);
    Some(layer)
}

/// The directive that lets exported spans through any log filter; to be put before those of the operator.
pub(super) fn directive(exports: Option<&Exports>) -> String {
    exports.map(|_| format!("{}=info,", crate::trace::TARGET)).unwrap_or_default()
}

/// Makes this the exporter of the process, now that its layer is in place.
pub(super) fn install(exports: Option<Exports>) {
    if let Some(exports) = exports {
        EXPORTS.get_or_init(|| exports);
    }
}

pub(crate) fn is_on() -> bool {
    EXPORTS.get().is_some()
}

/// Draws whether something that nobody has decided about is traced.
pub(crate) fn draws() -> bool {
    EXPORTS.get().is_some_and(|exports| rand::random::<f64>() < exports.sample)
}

/// Sends what waits, for so long at most; blocks the thread.
pub(crate) fn flush(limit: Duration) {
    if let Some(exports) = EXPORTS.get() {
        exports.flushes.flush(limit);
    }
}

/// Begins the exported side of a new span, under `parent` or as the root of a trace that was drawn. Returns where it is,
/// if it is exported.
pub(crate) fn start(span: &Span, parent: Option<TraceContext>) -> Option<TraceContext> {
    let context = match parent {
        Some(parent) => Context::new().with_remote_span_context(remote(parent)),
        None => Context::new().with_value(Drawn),
    };
    span.set_parent(context).ok()?;
    exported(&span.context())
}

/// Returns where a span is, if it is exported.
pub(crate) fn context_of(id: &Id, dispatch: &Dispatch) -> Option<TraceContext> {
    exported(&get_otel_context(id, dispatch)?)
}

/// Writes something into the exported side of a span.
pub(crate) fn tell(span: &Span, name: &'static str, value: String) {
    span.set_attribute(name, value);
}

fn exported(context: &Context) -> Option<TraceContext> {
    let span = context.span();
    let place = span.span_context();
    (place.is_valid() && place.is_sampled()).then(|| TraceContext {
        trace_id: u128::from_be_bytes(place.trace_id().to_bytes()),
        parent_id: u64::from_be_bytes(place.span_id().to_bytes()),
        sampled: true,
    })
}

fn remote(context: TraceContext) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, parent) = (TraceId::from(context.trace_id), SpanId::from(context.parent_id));
    SpanContext::new(trace, parent, flags, true, TraceState::NONE)
}

/// Marks the root of a trace that was drawn.
#[derive(Debug)]
struct Drawn;

/// Samples what was decided before the span was made: by the caller, by the parent, or by [`draws`]. A span of the
/// application that is in no trace begins none.
#[derive(Debug, Clone)]
struct AsDecided;

impl ShouldSample for AsDecided {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _trace_id: TraceId,
        _name: &str,
        _kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let goes_on = |parent: &Context| {
            let span = parent.span();
            let place = span.span_context();
            if place.is_valid() { place.is_sampled() } else { parent.get::<Drawn>().is_some() }
        };
        let decision = if parent.is_some_and(goes_on) {
            SamplingDecision::RecordAndSample
        } else {
            SamplingDecision::Drop
        };
        SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::NONE }
    }
}

fn resource(config: &Config) -> Resource {
    let text = |name: &'static str, value: &str| KeyValue::new(name, value.to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Resource::builder_empty()
        .with_attributes([
            text("service.name", config.cluster.name.as_str()),
            text("service.instance.id", config.node.id.as_str()),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("host.name", &host),
        ])
        .build()
}

fn exporter(endpoint: &str, config: &TracesConfig) -> Result<SpanExporter, TracesError> {
    let headers: HashMap<String, String> = config
        .headers
        .iter()
        .map(|header| (header.name.clone(), header.value.expose().clone()))
        .collect();
    SpanExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT)
        .with_headers(headers)
        .with_http_client(client()?)
        .build()
        .map_err(TracesError::Exporter)
}

/// Redirects are not followed: headers may hold a key.
fn client() -> Result<reqwest::Client, TracesError> {
    reqwest::Client::builder()
        .user_agent(concat!("understudy/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(EXPORT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_backend_preconfigured(tls()?)
        .build()
        .map_err(TracesError::Client)
}

/// TLS with the authorities of the system. Without any, a collector over plain HTTP is still reached.
fn tls() -> Result<ClientConfig, TracesError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TracesError::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests;
