//! Which trace a piece of work belongs to (W3C Trace Context), and how that goes along with it.
//!
//! A request brings its trace along, or one is drawn for it; messages to other nodes and runs of jobs carry it on.
//! It is kept with the span of `tracing` that the work is done in, so whoever spawns with that span, as all of
//! Understudy does, stays in the trace. That is so whether or not spans are exported
//! ([`TracesConfig`](crate::config::TracesConfig)): the lines of all nodes about one request have one `trace_id`.

use std::fmt;

use tracing::{Dispatch, Span, dispatcher, field};
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan;

use crate::telemetry::otlp;

/// The target of spans that are exported: whatever the log filter says, it lets these through while traces are on.
pub const TARGET: &str = "understudy_trace";

/// Which trace something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never zero.
    pub trace_id: u128,
    /// The span that what comes next belongs under: this node's own if it is exported, else the caller's, or one drawn
    /// here when the trace begins here; never zero.
    pub parent_id: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

/// Where the trace of a span comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Somebody else began it.
    Continues(TraceContext),
    /// It begins here, and is exported if traces are on.
    Begins,
}

impl TraceContext {
    /// Begins a trace.
    #[must_use]
    pub fn random() -> Self {
        let trace_id = rand::random::<u128>().max(1);
        Self { trace_id, parent_id: rand::random::<u64>().max(1), sampled: false }
    }

    /// Reads the value of a `traceparent` header; `None` when it is not valid, as the standard demands.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let parent_id = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        // Version 0 ends here; a later version may append, 255 is forbidden.
        let length_is_good = if version == 0 { parts.next().is_none() } else { version != 0xff };
        let valid = length_is_good && trace_id != 0 && parent_id != 0;
        let parent_id = u64::try_from(parent_id).ok()?;
        valid.then_some(Self { trace_id, parent_id, sampled: flags & 1 == 1 })
    }

    /// Returns the trace of what is being done here and now, for the header `traceparent` of a call for instance; `None`
    /// when it belongs to none. Its text is the value of that header.
    #[must_use]
    pub fn current() -> Option<Self> {
        dispatcher::get_default(|dispatch| {
            let current = dispatch.current_span();
            let span = dispatch.downcast_ref::<Registry>()?.span(current.id()?)?;
            // Spans of the application within one of ours belong to its trace.
            span.scope().find_map(|span| {
                let exported = otlp::context_of(&span.id(), dispatch);
                exported.or_else(|| span.extensions().get::<Self>().copied())
            })
        })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.parent_id)
    }
}

/// Whether spans are exported.
#[must_use]
pub fn exports() -> bool {
    otlp::is_on()
}

/// Draws whether work that nobody has decided about is traced; never while traces are off, which costs one load.
#[must_use]
pub fn draws() -> bool {
    otlp::draws()
}

/// Puts a new span, one that was never entered, into its trace, and writes `trace_id` and `parent_id` into it, which it
/// must have as empty fields. Returns the trace as what is done within the span hands it on; `None` for a span that is
/// disabled.
pub fn place(span: &Span, origin: Origin) -> Option<TraceContext> {
    if span.is_disabled() {
        return None;
    }
    let caller = match origin {
        Origin::Continues(caller) => Some(caller),
        Origin::Begins => None,
    };
    let own = otlp::start(span, caller);
    let context = own.or(caller).unwrap_or_else(TraceContext::random);
    span.record("trace_id", field::display(format_args!("{:032x}", context.trace_id)));
    let parent_id = caller.or(own.is_none().then_some(context)).map(|parent| parent.parent_id);
    if let Some(parent_id) = parent_id {
        span.record("parent_id", field::display(format_args!("{parent_id:016x}")));
    }
    span.with_subscriber(|(id, dispatch)| keep(context, id, dispatch));
    Some(context)
}

/// Writes something into a span that is told to the collector only, not in log lines.
pub(crate) fn tell(span: &Span, name: &'static str, value: String) {
    otlp::tell(span, name, value);
}

fn keep(context: TraceContext, id: &tracing::Id, dispatch: &Dispatch) {
    if let Some(span) = dispatch.downcast_ref::<Registry>().and_then(|spans| spans.span(id)) {
        span.extensions_mut().replace(context);
    }
}

/// Makes a span at `info` for [`place`]; one that is exported has its own target, so that no log filter holds it back.
#[doc(hidden)]
#[macro_export]
macro_rules! traced_span {
    ($name:literal, $($fields:tt)*) => {
        if $crate::trace::exports() {
            ::tracing::info_span!(target: $crate::trace::TARGET, $name, trace_id = ::tracing::field::Empty, parent_id = ::tracing::field::Empty, $($fields)*)
        } else {
            ::tracing::info_span!($name, trace_id = ::tracing::field::Empty, parent_id = ::tracing::field::Empty, $($fields)*)
        }
    };
}

/// Reads exactly so many digits; capitals and signs are not valid.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && lower).then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing::{debug_span, info_span};
    use tracing_subscriber::EnvFilter;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn within(filter: &str, test: impl FnOnce()) {
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(std::io::sink)
            .finish();
        with_default(subscriber, test);
    }

    #[test]
    fn a_traceparent_survives_reading_and_writing() {
        assert_eq!(TraceContext::parse(GOOD).unwrap().to_string(), GOOD);
        assert!(TraceContext::parse(GOOD).unwrap().sampled);
        let own = TraceContext::random();
        assert_eq!(TraceContext::parse(&own.to_string()), Some(own));
    }

    #[test]
    fn a_traceparent_that_is_not_valid_is_ignored() {
        let bad = [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for bad in bad {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
        assert!(TraceContext::parse(&GOOD.replacen("00", "cc", 1)).is_some(), "a later version");
        assert!(TraceContext::parse(&format!("cc{}-more", &GOOD[2..])).is_some());
    }

    #[test]
    fn what_is_done_within_a_span_belongs_to_its_trace() {
        let caller = TraceContext::parse(GOOD).unwrap();
        within("info", || {
            assert_eq!(TraceContext::current(), None);
            let span = traced_span!("job.run", job.name = "x");
            assert_eq!(place(&span, Origin::Continues(caller)), Some(caller));
            span.in_scope(|| {
                assert_eq!(TraceContext::current(), Some(caller));
                // A span of the application, and one that nobody looks at.
                let _inner = info_span!("inner").entered();
                let _unseen = debug_span!("unseen").entered();
                assert_eq!(TraceContext::current(), Some(caller));
            });
            assert_eq!(TraceContext::current(), None);
        });
    }

    #[test]
    fn a_span_that_nobody_looks_at_has_no_trace() {
        within("off", || {
            let span = traced_span!("job.run", job.name = "x");
            assert_eq!(place(&span, Origin::Begins), None);
            assert_eq!(span.in_scope(TraceContext::current), None);
        });
        assert_eq!(TraceContext::current(), None, "without any logger");
    }

    #[test]
    fn a_trace_that_begins_here_stays_the_same() {
        within("info", || {
            let span = traced_span!("job.run", job.name = "x");
            let context = place(&span, Origin::Begins).unwrap();
            assert!(!context.sampled, "nothing is exported");
            assert_eq!(span.in_scope(TraceContext::current), Some(context));
        });
    }
}
