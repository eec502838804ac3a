//! The latest log lines of this process, for those who follow them from elsewhere: exactly what is written, no more.
//!
//! Off unless somebody has switched it on; then a log line costs one look at a number. While it is on the latest
//! [`KEPT`] lines are kept, and whoever follows reads them from there: one that is too slow finds that lines are gone, and
//! how many. Nobody who follows can hold up who writes.
//!
//! A line is taken where it is written, so its text has gone through all that the log's own has.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwapOption;
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::line::write_on_one_line;

/// How many lines are kept.
pub(crate) const KEPT: usize = 512;
/// How many may follow at a time.
pub(crate) const MOST_LISTENERS: usize = 10;
/// So much of a line is kept, bytes.
const LONGEST: usize = 16_384;

static TAIL: LazyLock<Tail> = LazyLock::new(Tail::new);

/// The lines of this process.
pub(crate) fn of_process() -> &'static Tail {
    &TAIL
}

/// The latest lines; a cheap clone.
#[derive(Clone)]
pub(crate) struct Tail(Arc<Inner>);

struct Inner {
    /// Whether the lines of this process come here.
    is_fed: AtomicBool,
    /// How often it was switched: on when odd.
    switched: AtomicU64,
    /// How many lines there have been.
    count: AtomicU64,
    /// Line `n` lies in place `n` modulo [`KEPT`].
    places: Vec<ArcSwapOption<Line>>,
    listeners: AtomicUsize,
    more: Notify,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Which one it is since the process began.
    pub(crate) number: u64,
    pub(crate) level: Level,
    pub(crate) target: String,
    /// How often it had been switched when it was made: a late one is shown to nobody who came after that.
    switched: u64,
    /// As it was written, so much of it as is kept.
    written: String,
    /// How many bytes it had, when that is not all of it.
    cut_from: Option<usize>,
}

/// Where a line comes from.
#[derive(Debug, Clone)]
struct Origin {
    level: Level,
    target: String,
    switched: u64,
}

impl Tail {
    fn new() -> Self {
        Self(Arc::new(Inner {
            is_fed: AtomicBool::new(false),
            switched: AtomicU64::new(0),
            count: AtomicU64::new(0),
            places: (0..KEPT).map(|_| ArcSwapOption::empty()).collect(),
            listeners: AtomicUsize::new(0),
            more: Notify::new(),
        }))
    }

    /// Notes that the lines of this process come here from now on.
    pub(super) fn is_fed_now(&self) {
        self.0.is_fed.store(true, Ordering::Release);
    }

    /// Whether the lines of this process come here: not when the application writes its log itself.
    pub(crate) fn is_fed(&self) -> bool {
        self.0.is_fed.load(Ordering::Acquire)
    }

    /// Whether lines are kept.
    pub(crate) fn is_on(&self) -> bool {
        is_on(self.0.switched.load(Ordering::Acquire))
    }

    /// Begins to keep lines, or ends it: then those that are kept go, and whoever follows is told.
    pub(crate) fn switch(&self, on: bool) {
        let switch = |switched: u64| (is_on(switched) != on).then_some(switched + 1);
        let inner = &self.0;
        let changed = inner.switched.fetch_update(Ordering::AcqRel, Ordering::Acquire, switch);
        if changed.is_ok() && !on {
            for place in &inner.places {
                place.store(None);
            }
        }
        inner.more.notify_waiters();
    }

    /// Begins to follow; gives the latest lines that are kept, so many at most, and what comes after them. Nothing when
    /// [`MOST_LISTENERS`] already do.
    pub(crate) fn listen(&self, last: usize) -> Option<(Vec<Arc<Line>>, Listening)> {
        let inner = &self.0;
        let entered = inner.listeners.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < MOST_LISTENERS).then_some(count + 1)
        });
        entered.ok()?;
        let place = Place(Arc::clone(inner));
        let switched = inner.switched.load(Ordering::Acquire);
        let next = inner.count.load(Ordering::Acquire);
        let kept = u64::try_from(last.min(KEPT)).unwrap_or_default();
        let lines = (next.saturating_sub(kept)..next).filter_map(|number| {
            let line = inner.place(number).load_full()?;
            (line.number == number && line.switched == switched).then_some(line)
        });
        let lines: Vec<Arc<Line>> = lines.collect();
        Some((lines, Listening { tail: self.clone(), switched, next, _place: place }))
    }

    /// Says where a line comes from that is written now; nothing while no lines are kept.
    fn origin(&self, metadata: &Metadata<'_>) -> Option<Origin> {
        let switched = self.0.switched.load(Ordering::Acquire);
        is_on(switched).then(|| Origin {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            switched,
        })
    }

    fn keep(&self, origin: Origin, bytes: &[u8]) {
        let inner = &self.0;
        let Origin { level, target, switched } = origin;
        let number = inner.count.fetch_add(1, Ordering::AcqRel);
        let (written, cut_from) = shortened(bytes);
        inner.put(&Arc::new(Line { number, level, target, switched, written, cut_from }));
        if inner.listeners.load(Ordering::Acquire) > 0 {
            inner.more.notify_waiters();
        }
    }
}

impl Inner {
    /// Puts a line in its place. Who stood still on the way here must not put an old one in the place of a newer one.
    fn put(&self, line: &Arc<Line>) {
        self.place(line.number).rcu(|known: &Option<Arc<Line>>| match known {
            Some(known) if known.number > line.number => Some(Arc::clone(known)),
            Some(_) | None => Some(Arc::clone(line)),
        });
    }

    fn place(&self, number: u64) -> &ArcSwapOption<Line> {
        let places = u64::try_from(self.places.len()).unwrap_or(u64::MAX);
        let place = usize::try_from(number % places).expect("it is less than their number");
        &self.places[place]
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("is_on", &self.is_on()).finish_non_exhaustive()
    }
}

const fn is_on(switched: u64) -> bool {
    switched % 2 == 1
}

/// The text of a line without its end, as much as is kept; and how many bytes it had if that is not all.
fn shortened(bytes: &[u8]) -> (String, Option<usize>) {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches('\n');
    let kept = &text[..text.floor_char_boundary(LONGEST)];
    (kept.to_owned(), (kept.len() < text.len()).then_some(text.len()))
}

/// Somebody who follows; ends when dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    tail: Tail,
    switched: u64,
    /// The first line that was not given yet.
    next: u64,
    _place: Place,
}

/// What somebody who follows hears next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The next lines.
    Lines(Vec<Arc<Line>>),
    /// So many lines went before they could be given.
    Lost(u64),
    /// It was switched off.
    Off,
}

impl Listening {
    /// Waits for what is next. May be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Heard {
        let tail = self.tail.clone();
        loop {
            // Made before the look: what comes after that look wakes it.
            let woken = tail.0.more.notified();
            if let Some(heard) = self.look() {
                return heard;
            }
            woken.await;
        }
    }

    /// Gives what there is.
    fn look(&mut self) -> Option<Heard> {
        let inner = Arc::clone(&self.tail.0);
        let kept = u64::try_from(KEPT).unwrap_or(u64::MAX);
        loop {
            let switched = inner.switched.load(Ordering::Acquire);
            // Also off: it was before this began to listen, and nobody would tell.
            if switched != self.switched || !is_on(switched) {
                return Some(Heard::Off);
            }
            let end = inner.count.load(Ordering::Acquire);
            let oldest = end.saturating_sub(kept);
            if self.next < oldest {
                let lost = oldest - self.next;
                self.next = oldest;
                return Some(Heard::Lost(lost));
            }
            let mut lines = Vec::new();
            let mut is_overtaken = false;
            while self.next < end {
                // One that is not there yet wakes whoever waits when it is.
                let Some(line) = inner.place(self.next).load_full() else { break };
                if line.number != self.next {
                    is_overtaken = line.number > self.next;
                    break;
                }
                self.next += 1;
                if line.switched == self.switched {
                    lines.push(line);
                }
            }
            if !lines.is_empty() {
                return Some(Heard::Lines(lines));
            }
            if !is_overtaken {
                return None;
            }
        }
    }
}

/// A place among those who follow.
struct Place(Arc<Inner>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.listeners.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

impl Line {
    #[cfg(test)]
    pub(crate) fn for_test(number: u64, level: Level, target: &str, written: &str) -> Self {
        let (target, written) = (target.to_owned(), written.to_owned());
        Self { number, level, target, switched: 1, written, cut_from: None }
    }

    /// Takes the line apart, in whichever form it was written: when it was, if it says so, and what it says, on one line;
    /// also that it is not all of it.
    pub(crate) fn told(&self) -> (String, String) {
        let (at, text) = match serde_json::from_str::<Map<String, Value>>(&self.written) {
            Ok(line) => told_by_json(&line),
            Err(_) if self.written.starts_with('{') => told_by_cut_json(&self.written),
            Err(_) => told_by_text(&self.written, &self.target),
        };
        let mut told = String::with_capacity(text.len());
        // Writing into a text does not fail.
        write_on_one_line(&mut told, &text).ok();
        if let Some(bytes) = self.cut_from {
            told.push_str(&format!(" ... (cut: the line has {bytes} bytes)"));
        }
        (at, told)
    }
}

fn told_by_json(line: &Map<String, Value>) -> (String, String) {
    let at = line.get("timestamp").and_then(Value::as_str).unwrap_or_default();
    let fields = line.get("fields").and_then(Value::as_object);
    let message = fields.and_then(|fields| fields.get("message")).map(in_words);
    let mut text = message.unwrap_or_default();
    for (name, value) in fields.into_iter().flatten().filter(|(name, _)| *name != "message") {
        text.push_str(&format!(" {name}={}", in_words(value)));
    }
    for span in line.get("spans").and_then(Value::as_array).into_iter().flatten() {
        let name = span.get("name").and_then(Value::as_str).unwrap_or_default();
        let members = span.as_object().into_iter().flatten().filter(|(name, _)| *name != "name");
        let members: Vec<String> =
            members.map(|(name, value)| format!("{name}={}", in_words(value))).collect();
        text.push_str(&format!(" | {name}{{{}}}", members.join(" ")));
    }
    (at.to_owned(), text.trim_start().to_owned())
}

/// What is left of a JSON line whose end is missing. The time stands before all that is the caller's, and the message first
/// of that; the rest is told as it is.
fn told_by_cut_json(written: &str) -> (String, String) {
    let after = |text: &'static str| written.split_once(text).map(|(_, rest)| rest);
    let at = after("\"timestamp\":\"").and_then(|rest| rest.split_once('"'));
    let at = at.map_or("", |(at, _)| at).to_owned();
    let Some(rest) = after("\"fields\":{\"message\":") else { return (at, written.to_owned()) };
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    let text = match values.next() {
        Some(Ok(message)) => format!("{} {}", in_words(&message), &rest[values.byte_offset()..]),
        // It is the message that was cut.
        Some(Err(_)) | None => rest.trim_start_matches('"').to_owned(),
    };
    (at, text)
}

fn in_words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `time LEVEL node target: message ...`; the time alone is taken from what is before the message.
fn told_by_text(written: &str, target: &str) -> (String, String) {
    match written.split_once(&format!("{target}: ")) {
        Some((before, text)) => {
            let at = before.split(' ').next().unwrap_or_default();
            (at.to_owned(), text.to_owned())
        }
        None => (String::new(), written.to_owned()),
    }
}

/// Writes as `inner` does, and has the lines kept.
pub(super) fn watched<M>(inner: M, tail: &Tail) -> Watched<M> {
    Watched { inner, tail: tail.clone() }
}

/// Makes writers whose lines are kept.
#[derive(Debug)]
pub(super) struct Watched<M> {
    inner: M,
    tail: Tail,
}

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for Watched<M> {
    type Writer = WatchedWriter<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        WatchedWriter { inner: self.inner.make_writer(), kept: None }
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Self::Writer {
        let origin = self.tail.origin(metadata);
        let kept = origin.map(|origin| Kept { tail: self.tail.clone(), origin });
        WatchedWriter { inner: self.inner.make_writer_for(metadata), kept }
    }
}

/// Writes one line.
#[derive(Debug)]
pub(super) struct WatchedWriter<W> {
    inner: W,
    kept: Option<Kept>,
}

/// What is to be kept with the line.
#[derive(Debug)]
struct Kept {
    tail: Tail,
    origin: Origin,
}

impl<W: Write> Write for WatchedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }

    /// A line comes whole, by one call of this.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(Kept { tail, origin }) = self.kept.take() {
            tail.keep(origin, bytes);
        }
        self.inner.write_all(bytes)
    }
}

#[cfg(test)]
mod tests;
