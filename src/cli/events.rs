//! Events as they come (server-sent events): one line each, across reconnections. Lines of a log come in the same way.

use std::time::Duration;

use clap::ArgMatches;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::call::Caller;
use super::client::{Answer, Request};
use super::failure::Failure;
use super::paper::{Cell, Style};
use super::show;

/// A node says something at least every 5 s, if only that it lives.
const SILENCE: Duration = Duration::from_secs(20);
/// Pauses between attempts to reach a node again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A longer line is no event.
const LONGEST_LINE: usize = 1 << 20;
/// So many lines of its log a node keeps.
const KEPT_LINES: u64 = 512;
const MAYBE_MISSING: &str = "lines may be missing here: the node keeps 512 of them";

/// Which events are wanted.
struct Wanted {
    /// All when it is empty.
    types: Vec<String>,
    left: Option<u64>,
    telling: Telling,
    /// Of a log: the line that was shown last.
    shown: Option<Shown>,
}

/// How far a log was shown.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    /// The latest time of a line.
    at: String,
    /// The number of the last line.
    number: u64,
    /// Whether the stream was asked for anew since.
    is_resumed: bool,
}

/// What a line of a log is to who has seen those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// It was shown before.
    Known,
    /// It comes next.
    Next,
    /// It is new, and others between may not be kept any more.
    AfterGap,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// There was enough, or the node said that there will be no more.
    Enough,
    /// As nodes end each stream after an hour, and before they stop.
    InTime,
    /// It did not even begin as that of a node does.
    Strange,
}

/// How events are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// What changed, by its kind.
    Changes,
    /// Lines of a log.
    Lines,
}

/// Prints events until there were enough, or for ever.
pub(super) async fn watch(
    request: &Request,
    typed: &ArgMatches,
    caller: &mut Caller,
) -> Result<u8, Failure> {
    let types = typed.get_one::<String>("only").map(String::as_str).unwrap_or_default();
    let types = types.split(',').map(str::trim).filter(|name| !name.is_empty());
    let types = types.map(str::to_owned).collect();
    let wanted = Wanted { types, left: count(typed)?, telling: Telling::Changes, shown: None };
    follow(request, wanted, caller).await
}

/// Prints lines of a log until there were enough, it is followed no more, or for ever.
pub(super) async fn log(
    request: &Request,
    typed: &ArgMatches,
    caller: &mut Caller,
) -> Result<u8, Failure> {
    let (types, left) = (Vec::new(), count(typed)?);
    let wanted = Wanted { types, left, telling: Telling::Lines, shown: None };
    follow(request, wanted, caller).await
}

async fn follow(request: &Request, mut wanted: Wanted, caller: &mut Caller) -> Result<u8, Failure> {
    if wanted.left == Some(0) {
        return Ok(0);
    }
    let mut request = request.clone();
    let mut pause = FIRST_PAUSE;
    let mut has_listened = false;
    loop {
        let lost = match caller.client.send(&request).await {
            Ok(answer) => {
                has_listened = true;
                match listen(answer, &mut wanted, &mut pause, caller).await {
                    Ok(Over::Enough) => return Ok(0),
                    // It was not asked to go on.
                    Ok(Over::InTime | Over::Strange) if request.query.contains_key("follow") => {
                        return Ok(0);
                    }
                    Ok(Over::InTime) => None,
                    Ok(Over::Strange) => Some(caller.client.stranger("it ended")),
                    Err(failure) => Some(failure),
                }
            }
            Err(failure) => Some(failure),
        };
        if let Some(failure) = lost {
            // Who never answered is not waited for.
            if !has_listened || !failure.may_pass() {
                return Err(failure);
            }
            if pause == FIRST_PAUSE {
                caller.terminal.mention("the connection is lost; trying again");
            }
        }
        // Else nothing came since it was asked the last time.
        if pause == FIRST_PAUSE {
            ask_on(&mut request, &mut wanted, caller);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Lets the next question go on where the stream ended, as far as the node keeps what was in between.
fn ask_on(request: &mut Request, wanted: &mut Wanted, caller: &mut Caller) {
    if wanted.telling == Telling::Changes {
        return;
    }
    if let Some(shown) = &mut wanted.shown {
        shown.is_resumed = true;
        request.query.insert("last", KEPT_LINES.to_string());
    } else if request.query.get("last").is_some_and(|last| last == "0") {
        // Which of the lines that are kept are old could not be told.
        caller.terminal.mention("lines that are written before it is followed again are missing");
    }
}

/// After how many it ends.
fn count(typed: &ArgMatches) -> Result<Option<u64>, Failure> {
    let Some(text) = typed.get_one::<String>("count") else { return Ok(None) };
    let count = text.parse::<u64>();
    count.map(Some).map_err(|_| Failure::Usage("--count must be a whole number".to_owned()))
}

/// Prints what comes over one connection, until it ends or there was enough; the next pause is short if anything came.
async fn listen(
    mut answer: Answer,
    wanted: &mut Wanted,
    pause: &mut Duration,
    caller: &mut Caller,
) -> Result<Over, Failure> {
    let mut reading = Reading::default();
    let patience = SILENCE.max(caller.client.patience());
    while let Some(part) = answer.part_within(patience).await? {
        *pause = FIRST_PAUSE;
        for event in reading.take(&part) {
            if !wanted.types.is_empty() && !wanted.types.contains(&event.kind) {
                continue;
            }
            match wanted.telling {
                Telling::Changes => tell(&event, caller)?,
                Telling::Lines => {
                    let line = match event.kind.as_str() {
                        "line" => judged(&mut wanted.shown, &event.data),
                        _ => Line::Next,
                    };
                    match line {
                        Line::Known => continue,
                        Line::Next => {}
                        Line::AfterGap => caller.terminal.mention(MAYBE_MISSING),
                    }
                    tell_line(&event, caller)?;
                    match event.kind.as_str() {
                        "line" => {}
                        "end" => return Ok(Over::Enough),
                        // What was lost does not count.
                        _ => continue,
                    }
                }
            }
            if let Some(left) = &mut wanted.left {
                *left -= 1;
                if *left == 0 {
                    return Ok(Over::Enough);
                }
            }
        }
        if reading.line.len() > LONGEST_LINE || reading.data.len() > LONGEST_LINE {
            return Err(caller.client.stranger("it does not send events"));
        }
    }
    Ok(if reading.has_begun { Over::InTime } else { Over::Strange })
}

/// Judges a line of a log, which is the last that was shown if it is new.
///
/// Numbers grow, and begin anew with the process of the node, whose lines have a later time than those of the one before. Of
/// two lines that are written at once the one with the greater number may have the earlier time, so the latest one counts.
fn judged(shown: &mut Option<Shown>, data: &str) -> Line {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    // What has no number cannot be told from others.
    let Some(number) = data["number"].as_u64() else { return Line::Next };
    let at = data["at"].as_str().unwrap_or_default();
    let Some(known) = shown else {
        *shown = Some(Shown { at: at.to_owned(), number, is_resumed: false });
        return Line::Next;
    };
    if number <= known.number && at <= known.at.as_str() {
        return Line::Known;
    }
    let is_after_gap = known.is_resumed && number > known.number.saturating_add(KEPT_LINES);
    (known.number, known.is_resumed) = (number, false);
    if at > known.at.as_str() {
        at.clone_into(&mut known.at);
    }
    if is_after_gap { Line::AfterGap } else { Line::Next }
}

fn tell(event: &Event, caller: &mut Caller) -> Result<(), Failure> {
    if caller.json {
        caller.terminal.pass_on(json_line(event).as_bytes())?;
        return caller.terminal.flush();
    }
    let data: Value =
        serde_json::from_str(&event.data).unwrap_or_else(|_| event.data.as_str().into());
    let now_ms = caller.terminal.around.now_ms();
    let at = show::clock_time(data["at_ms"].as_i64().unwrap_or(now_ms));
    caller.terminal.page(|paper| {
        paper.cells(&[
            Cell::new(at, Style::Dim),
            Cell::new(format!("{:<9}", event.kind), Style::Bold),
            Cell::plain(in_words(&data)),
        ]);
    })
}

/// A line of a log, or what is to be said of it.
fn tell_line(event: &Event, caller: &mut Caller) -> Result<(), Failure> {
    if caller.json {
        caller.terminal.pass_on(json_line(event).as_bytes())?;
        return caller.terminal.flush();
    }
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    match event.kind.as_str() {
        "line" => caller.terminal.page(|paper| {
            let level = match text("level") {
                "error" => Style::Bad,
                "warn" => Style::Warn,
                _ => Style::Plain,
            };
            paper.cells(&[
                Cell::new(text("at"), Style::Dim),
                Cell::new(format!("{:<5}", text("level")), level),
                Cell::new(format!("{}:", text("target")), Style::Dim),
                Cell::plain(text("text")),
            ]);
        }),
        "lost" => {
            let lines = show::plain(&data["lines"]);
            caller.terminal.mention(&format!("{lines} lines are missing here: they came too fast"));
            Ok(())
        }
        "end" => {
            caller.terminal.mention(&format!("it is followed no more: {}", text("why")));
            Ok(())
        }
        // Of a newer node.
        _ => Ok(()),
    }
}

/// An event as a line of JSON: its type, and its data as it came.
fn json_line(event: &Event) -> String {
    let kind = Value::from(event.kind.as_str());
    // Data of several lines would no longer be a line.
    match serde_json::from_str::<&RawValue>(&event.data) {
        Ok(data) if !data.get().contains('\n') => format!("{{\"event\":{kind},\"data\":{data}}}\n"),
        Ok(_) | Err(_) => {
            let data = serde_json::from_str(&event.data)
                .unwrap_or_else(|_| Value::from(event.data.as_str()));
            format!("{{\"event\":{kind},\"data\":{data}}}\n")
        }
    }
}

/// What an event says, without the time, which stands before it.
fn in_words(data: &Value) -> String {
    let Some(members) = data.as_object() else { return show::plain(data) };
    let members = members.iter().filter(|(name, value)| *name != "at_ms" && !value.is_null());
    let words: Vec<String> =
        members.map(|(name, value)| format!("{name}={}", show::plain(value))).collect();
    words.join(" ")
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    kind: String,
    data: String,
}

/// What has come of an event so far.
#[derive(Debug, Default)]
struct Reading {
    line: Vec<u8>,
    kind: String,
    data: String,
    /// Whether it began as streams of nodes do.
    has_begun: bool,
}

impl Reading {
    /// Takes bytes, wherever they are cut; gives the events that they complete.
    fn take(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    let line = String::from_utf8_lossy(&line);
                    events.extend(self.line_is_over(line.strip_suffix('\r').unwrap_or(&line)));
                }
                byte => self.line.push(*byte),
            }
        }
        events
    }

    fn line_is_over(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
            let kind = if kind.is_empty() { "message".to_owned() } else { kind };
            return (!data.is_empty()).then(|| Event {
                kind,
                data: data.strip_suffix('\n').unwrap_or(&data).to_owned(),
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            // For browsers: when to come back. All streams of nodes begin with it.
            "retry" => self.has_begun = true,
            // Comments, and what only browsers use.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> Event {
        Event { kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_read_wherever_the_network_cuts_them() {
        let stream = ": hello\n\nevent: nodes\ndata: {\"at_ms\":1}\n\nid: 7\r\ndata:a\r\ndata: b\r\n\r\nevent: empty\n\n";
        let expected = [event("nodes", "{\"at_ms\":1}"), event("message", "a\nb")];
        for size in [1, 3, 7, stream.len()] {
            let mut reading = Reading::default();
            let events: Vec<Event> =
                stream.as_bytes().chunks(size).flat_map(|part| reading.take(part)).collect();
            assert_eq!(events, expected, "{size}");
        }
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        assert_eq!(
            json_line(&event("jobs", "{\"z\":1, \"a\":2}")),
            "{\"event\":\"jobs\",\"data\":{\"z\":1, \"a\":2}}\n"
        );
        assert_eq!(json_line(&event("x", "{\"a\":\n1}")), "{\"event\":\"x\",\"data\":{\"a\":1}}\n");
        assert_eq!(
            json_line(&event("x", "a \"b\"")),
            "{\"event\":\"x\",\"data\":\"a \\\"b\\\"\"}\n"
        );
    }

    #[test]
    fn u14_a_line_is_shown_once_and_those_of_the_next_process_too() {
        let mut shown = None;
        for (number, at, expected) in [
            (5, "2026-01-01T00:00:05.000000Z", Line::Next),
            (6, "2026-01-01T00:00:04.999999Z", Line::Next),
            // Both are told again after a reconnection.
            (5, "2026-01-01T00:00:05.000000Z", Line::Known),
            (6, "2026-01-01T00:00:04.999999Z", Line::Known),
            (7, "2026-01-01T00:00:06.000000Z", Line::Next),
            // Of the next process, and told again.
            (0, "2026-01-01T00:00:09.000000Z", Line::Next),
            (1, "2026-01-01T00:00:09.000001Z", Line::Next),
            (0, "2026-01-01T00:00:09.000000Z", Line::Known),
            // A filter lets few lines through: no gap.
            (900, "2026-01-01T00:00:09.000002Z", Line::Next),
        ] {
            let data = serde_json::json!({ "number": number, "at": at }).to_string();
            assert_eq!(judged(&mut shown, &data), expected, "{data}");
        }
        assert_eq!(judged(&mut shown, "{}"), Line::Next, "what has no number is shown");
        if let Some(shown) = &mut shown {
            shown.is_resumed = true;
        }
        assert_eq!(judged(&mut shown, r#"{"number":1413}"#), Line::AfterGap);
        assert_eq!(judged(&mut shown, r#"{"number":9000}"#), Line::Next, "it is told by the node");
    }

    #[test]
    fn an_event_is_told_in_words() {
        let data = serde_json::json!({ "at_ms": 1, "job": "nightly", "run": 7, "node": null });
        assert_eq!(in_words(&data), "job=nightly run=7");
    }
}
