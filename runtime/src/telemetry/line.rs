//! How one event becomes one line.

use std::fmt::{self, Write};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::Colours;
use crate::ids::NodeName;

/// One JSON object, of which `node` is the first member.
#[derive(Debug)]
pub(super) struct JsonLine {
    node: NodeName,
    inner: Format<Json>,
}

impl JsonLine {
    pub(super) fn new(node: NodeName) -> Self {
        // The list of spans tells all that a single one would; fields stay apart from the line's own members.
        let inner = tracing_subscriber::fmt::format().json().with_current_span(false);
        Self { node, inner }
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let members = line.trim_end_matches('\n').strip_prefix('{').ok_or(fmt::Error)?;
        // A node's name has no character that JSON would escape.
        write!(writer, "{{\"node\":\"{}\",", self.node)?;
        write_on_one_line(&mut writer, members)?;
        writeln!(writer)
    }
}

/// `time LEVEL node target: message fields | outer span | inner span`
#[derive(Debug)]
pub(super) struct TextLine {
    node: NodeName,
    colours: Colours,
}

impl TextLine {
    pub(super) fn new(node: NodeName, colours: Colours) -> Self {
        Self { node, colours }
    }

    fn write_level(&self, writer: &mut Writer<'_>, level: Level) -> fmt::Result {
        let colour = match level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            Level::DEBUG => 34,
            Level::TRACE => 35,
        };
        match self.colours {
            Colours::On => write!(writer, "\u{1b}[{colour}m{level:>5}\u{1b}[0m"),
            Colours::Off => write!(writer, "{level:>5}"),
        }
    }
}

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        writer.write_char(' ')?;
        self.write_level(&mut writer, *event.metadata().level())?;
        write!(writer, " {} {}: ", self.node, event.metadata().target())?;
        let mut rest = String::new();
        context.field_format().format_fields(Writer::new(&mut rest), event)?;
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(rest, " | {}", span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(rest, "{{{fields}}}")?;
            }
        }
        write_on_one_line(&mut writer, &rest)?;
        writeln!(writer)
    }
}

/// Writes text so that it can neither begin a new line nor speak to a terminal. Also right inside JSON strings.
pub(super) fn write_on_one_line(writer: &mut impl Write, text: &str) -> fmt::Result {
    for c in text.chars() {
        match c {
            '\n' => writer.write_str("\\n")?,
            '\r' => writer.write_str("\\r")?,
            '\t' => writer.write_str("\\t")?,
            // Some viewers take the two separators for line ends.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            c => writer.write_char(c)?,
        }
    }
    Ok(())
}
