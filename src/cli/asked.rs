//! From what was typed to the request that is sent, each mistake told by the name that was typed.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::client::{Request, encoded};
use super::failure::Failure;
use super::terminal::Terminal;
use super::verb::{Kind, Manner, Parameter, Place, Verb};

/// The largest file that is sent.
const LARGEST_FILE: u64 = 64 << 20;

const DURATION: &str = "a duration such as 30s, 5min or 2h";
const TIME: &str =
    "a time such as 2026-03-29T02:30:00Z, ms since 1970, now, `2h ago`, or `in 5min`";

/// Makes the request of a verb.
pub(super) fn request(
    verb: &Verb,
    typed: &ArgMatches,
    terminal: &mut Terminal,
) -> Result<Request, Failure> {
    let mut request =
        Request { method: verb.method, path: verb.path.to_owned(), ..Request::default() };
    let mut body = Map::new();
    for parameter in verb.parameters {
        if let Some(value) = value(parameter, typed, terminal)? {
            put(parameter, value, &mut request, &mut body)?;
        }
    }
    match verb.manner {
        Manner::Document => request.body = Some(document(typed, terminal)?.0),
        Manner::Definition => {
            let (bytes, document) = document(typed, terminal)?;
            let name = named(typed, &document)?;
            request.path =
                filled(&request.path, "name", &name).ok_or_else(|| not_a_name("--name"))?;
            request.body = Some(bytes);
        }
        Manner::Schedule => {
            body.insert("schedule".to_owned(), schedule(typed, terminal)?);
        }
        Manner::Plain
        | Manner::Events
        | Manner::LogTail
        | Manner::RunLog
        | Manner::Doctor
        | Manner::Waits(_)
        | Manner::Options
        | Manner::Upload
        | Manner::Download
        | Manner::Verify => {}
    }
    if !body.is_empty() {
        request.body = Some(Value::Object(body).to_string().into_bytes());
    }
    Ok(request)
}

/// Puts a value where it belongs.
fn put(
    parameter: &Parameter,
    value: Value,
    request: &mut Request,
    body: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match parameter.place {
        Place::Path => {
            request.path = filled(&request.path, parameter.name, &text())
                .ok_or_else(|| not_a_name(&parameter.typed()))?;
        }
        Place::Query => {
            request.query.insert(parameter.name, text());
        }
        Place::Header => {
            let text = header(parameter, &text())?;
            request.headers.push((parameter.name, text));
        }
        Place::Body => {
            body.insert(parameter.name.to_owned(), value);
        }
    }
    Ok(())
}

/// Fills a name into a path. Empty names and dots would name another resource.
fn filled(path: &str, name: &str, value: &str) -> Option<String> {
    if matches!(value, "" | "." | "..") {
        return None;
    }
    let value = encoded(value);
    Some(path.replace(&format!("{{{name}}}"), &value).replace(&format!("{{{name}*}}"), &value))
}

fn not_a_name(typed: &str) -> Failure {
    Failure::Usage(format!("{typed} cannot be empty, `.` or `..`"))
}

fn header(parameter: &Parameter, text: &str) -> Result<String, Failure> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let typed = parameter.typed();
        return Err(Failure::Usage(format!("{typed} must be printable ASCII without blanks")));
    }
    // A revision stands in quotes; a star is one without.
    let is_bare = parameter.name == "If-Match" && text != "*" && !text.starts_with('"');
    Ok(if is_bare { format!("\"{text}\"") } else { text.to_owned() })
}

/// Reads one parameter; `None` when it was not typed.
fn value(
    parameter: &Parameter,
    typed: &ArgMatches,
    terminal: &mut Terminal,
) -> Result<Option<Value>, Failure> {
    match parameter.kind {
        Kind::Constant(text) => return Ok(Some(text.into())),
        Kind::Flag => return Ok(typed.get_flag(parameter.name).then_some(true.into())),
        Kind::Mark(text) => return Ok(typed.get_flag(parameter.name).then_some(text.into())),
        Kind::Text(_)
        | Kind::Whole
        | Kind::Count
        | Kind::Time
        | Kind::Seconds
        | Kind::Millis
        | Kind::Json
        | Kind::Word(..) => {}
    }
    let Some(text) = typed.get_one::<String>(parameter.name) else { return Ok(None) };
    let wrong = |right: &str| Failure::Usage(format!("{} must be {right}", parameter.typed()));
    let value = match parameter.kind {
        Kind::Whole => text
            .trim()
            .parse::<i64>()
            .ok()
            .map(Value::from)
            .ok_or_else(|| wrong("a whole number"))?,
        // Of nothing there would be no last page.
        Kind::Count => text
            .trim()
            .parse::<i64>()
            .ok()
            .filter(|count| *count >= 1)
            .map(Value::from)
            .ok_or_else(|| wrong("a whole number from 1 up"))?,
        Kind::Time => time(text, terminal.around.now_ms()).ok_or_else(|| wrong(TIME))?.into(),
        Kind::Seconds => millis(text).ok_or_else(|| wrong(DURATION))?.div_ceil(1_000).into(),
        Kind::Millis => millis(text).ok_or_else(|| wrong(DURATION))?.into(),
        Kind::Json => json_text(parameter, text)?,
        Kind::Text(_) | Kind::Word(..) | Kind::Flag | Kind::Mark(_) | Kind::Constant(_) => {
            text.as_str().into()
        }
    };
    Ok(Some(value))
}

/// Reads a duration, ms.
pub(super) fn millis(text: &str) -> Option<u64> {
    let duration = humantime::parse_duration(text.trim()).ok()?;
    u64::try_from(duration.as_millis()).ok().filter(|ms| i64::try_from(*ms).is_ok())
}

/// Reads a duration that was typed as this option.
pub(super) fn duration(option: &str, text: &str) -> Result<std::time::Duration, Failure> {
    let read = millis(text).filter(|ms| *ms > 0).map(std::time::Duration::from_millis);
    read.ok_or_else(|| Failure::Usage(format!("--{option} must be {DURATION}")))
}

/// Reads a moment, ms since 1970.
fn time(text: &str, now_ms: i64) -> Option<i64> {
    let text = text.trim();
    let apart = |text: &str| i64::try_from(millis(text)?).ok();
    if text == "now" {
        return Some(now_ms);
    }
    if let Some(past) = text.strip_suffix(" ago") {
        return now_ms.checked_sub(apart(past)?);
    }
    if let Some(future) = text.strip_prefix("in ") {
        return now_ms.checked_add(apart(future)?);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        text.parse().ok()
    } else {
        Some(text.parse::<Timestamp>().ok()?.as_millisecond())
    }
}

fn json_text(parameter: &Parameter, text: &str) -> Result<Value, Failure> {
    let typed = parameter.typed();
    let read = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("{typed}: {path} cannot be read: {error}")))?,
        None => text.to_owned(),
    };
    serde_json::from_str(&read).map_err(|error| {
        Failure::Usage(format!("{typed} must be JSON, or @ and a file with it: {error}"))
    })
}

/// Reads the document that is sent as it is; it must be JSON.
fn document(typed: &ArgMatches, terminal: &mut Terminal) -> Result<(Vec<u8>, Value), Failure> {
    let path = typed.get_one::<PathBuf>("file").expect("clap demands it");
    let shown = path.display();
    let wrong = |what: String| Failure::Usage(format!("{shown} {what}"));
    let bytes = read(path, terminal).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(wrong(format!("is larger than {LARGEST_FILE} bytes")));
    }
    let document =
        serde_json::from_slice(&bytes).map_err(|error| wrong(format!("is not JSON: {error}")))?;
    Ok((bytes, document))
}

fn read(path: &Path, terminal: &mut Terminal) -> std::io::Result<Vec<u8>> {
    if path == Path::new("-") {
        return terminal.read_all(LARGEST_FILE + 1);
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The job that a definition is for.
fn named(typed: &ArgMatches, document: &Value) -> Result<String, Failure> {
    match (typed.get_one::<String>("name"), document["name"].as_str()) {
        (Some(name), Some(inside)) if name != inside => {
            Err(Failure::Usage(format!("--name is `{name}`, but the definition is of `{inside}`")))
        }
        (Some(name), _) => Ok(name.clone()),
        (None, Some(name)) => Ok(name.to_owned()),
        (None, None) => Err(Failure::Usage(
            "the definition must be a JSON object with `name`, or --name must say it".to_owned(),
        )),
    }
}

fn schedule(typed: &ArgMatches, terminal: &mut Terminal) -> Result<Value, Failure> {
    let text = |name: &str| typed.get_one::<String>(name).map(String::as_str);
    match (text("cron"), text("every"), text("schedule")) {
        (Some(expression), _, _) => {
            let mut schedule = json!({ "kind": "cron", "expression": expression });
            if let Some(zone) = text("time-zone") {
                schedule["time_zone"] = zone.into();
            }
            Ok(schedule)
        }
        (None, Some(every), _) => {
            let every = duration("every", every)?;
            Ok(
                json!({ "kind": "every", "every_ms": u64::try_from(every.as_millis()).unwrap_or(u64::MAX) }),
            )
        }
        (None, None, Some(_)) => {
            let parameter = Parameter::body("schedule", Kind::Json, "");
            Ok(value(&parameter, typed, terminal)?.unwrap_or_default())
        }
        (None, None, None) => Err(Failure::Usage(
            "one of --cron, --every and --schedule must say the schedule".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests;
