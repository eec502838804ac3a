//! The names that OpenTelemetry's conventions have for what our spans tell.
//!
//! Our fields are named as log lines name them. They are renamed just before they are sent, on the thread that sends,
//! so that requests do not pay for it and lines are the same whether or not spans are exported.

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents};

/// What spans tell of themselves, or the resource does.
const NEEDLESS: [&str; 4] = ["trace_id", "parent_id", "duration_ms", "node.id"];
const RENAMED: [(&str, &str); 4] = [
    ("http.method", "http.request.method"),
    ("http.status_code", "http.response.status_code"),
    ("client.addr", "client.address"),
    ("request_id", "understudy.request_id"),
];
/// Methods that are told by name; others could be any text of a stranger.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
/// Outcomes of an attempt that are none of its faults.
const GOOD_OUTCOMES: [&str; 3] = ["completed", "cancelled", "handed_back"];

/// Gives a span the names and the form of the conventions. Spans of the application are left as they are, but none has
/// events, which are in the log: only their number would be told.
pub(super) fn apply(span: &mut SpanData) {
    span.events = SpanEvents::default();
    let target = take(span, "target");
    if !target.is_some_and(|target| target.starts_with("understudy_")) {
        return;
    }
    span.attributes.retain(|attribute| !NEEDLESS.contains(&attribute.key.as_str()));
    for attribute in &mut span.attributes {
        if let Some((_, name)) = RENAMED.iter().find(|(ours, _)| *ours == attribute.key.as_str()) {
            attribute.key = Key::from_static_str(name);
        }
    }
    match &*span.name {
        "http.request" => request(span),
        "bus.request" => called(span, SpanKind::Client, "bus.message"),
        "bus.handle" => called(span, SpanKind::Server, "bus.message"),
        "job.run" => job(span),
        _ => {}
    }
}

fn request(span: &mut SpanData) {
    span.span_kind = SpanKind::Server;
    let given = text(span, "http.request.method").unwrap_or_default();
    let method = if METHODS.contains(&given.as_str()) {
        given
    } else {
        set(span, "http.request.method", "_OTHER".into());
        "HTTP".to_owned()
    };
    // A route that there is none of would not be a small number of names.
    let route = text(span, "http.route").filter(|route| route != "unmatched");
    span.name = match &route {
        Some(route) => format!("{method} {route}").into(),
        None => {
            take(span, "http.route");
            method.into()
        }
    };
    // Three digits, so that the first tells who is to blame.
    let status = text(span, "http.response.status_code");
    if let Some(status) = status.filter(|status| status.starts_with('5')) {
        failed(span, &status);
    }
}

fn called(span: &mut SpanData, kind: SpanKind, name: &str) {
    span.span_kind = kind;
    if let Some(message) = text(span, name) {
        span.name = format!("{} {message}", span.name).into();
    }
    if let Some(error) = take(span, "error") {
        failed(span, &error);
    }
}

fn job(span: &mut SpanData) {
    called(span, SpanKind::Consumer, "job.name");
    let outcome = text(span, "outcome");
    if let Some(outcome) = outcome.filter(|outcome| !GOOD_OUTCOMES.contains(&outcome.as_str())) {
        failed(span, &outcome);
    }
}

fn failed(span: &mut SpanData, kind: &str) {
    span.status = Status::error("");
    set(span, "error.type", kind.to_owned().into());
}

fn text(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name)?;
    Some(found.value.as_str().into_owned())
}

fn take(span: &mut SpanData, name: &str) -> Option<String> {
    let at = span.attributes.iter().position(|attribute| attribute.key.as_str() == name)?;
    Some(span.attributes.swap_remove(at).value.as_str().into_owned())
}

fn set(span: &mut SpanData, name: &'static str, value: Value) {
    match span.attributes.iter_mut().find(|attribute| attribute.key.as_str() == name) {
        Some(known) => known.value = value,
        None => span.attributes.push(KeyValue::new(name, value)),
    }
}
