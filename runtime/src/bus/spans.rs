//! The spans of messages: one at the node that asks, if spans are exported, and one at the node that handles.

use tracing::{Span, field};

use crate::ids::NodeId;
use crate::trace::{self, Origin, TARGET, TraceContext};
use crate::traced_span;

/// The span in which an answer is waited for: for the collector only, log lines have that of whoever asks.
pub(super) fn asking(message: &'static str, to: &NodeId) -> Span {
    if !trace::exports() || !TraceContext::current().is_some_and(|trace| trace.sampled) {
        return Span::none();
    }
    tracing::info_span!(
        target: TARGET,
        "bus.request",
        bus.message = message,
        node.to = %to,
        error = field::Empty,
    )
}

/// The span in which a message is handled that belongs to a trace.
pub(super) fn handling(message: &str, from: &NodeId, trace: Option<TraceContext>) -> Span {
    let Some(trace) = trace else { return Span::none() };
    let span = traced_span!("bus.handle", bus.message = message, node.from = %from);
    trace::place(&span, Origin::Continues(trace));
    span
}
