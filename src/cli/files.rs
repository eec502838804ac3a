//! Files of the cluster: one in, one out, and looking whether all are what was written.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::call::{Caller, print};
use super::client::{Answer, Request};
use super::failure::Failure;
use super::show;
use super::transfer::{
    Draft, Fetch, Info, Meter, Place, Sending, Sink, examined, interruptible, is_there, upload,
};
use super::verb::{Verb, Waits};
use super::{folder, wait};

/// The job that removes what is left of files.
const SWEEP: &str = "/v1/jobs/system.files-sweep/run";
/// The longest line of an answer, bytes.
const LONGEST_LINE: usize = 1 << 20;

pub(super) fn commands() -> Vec<(&'static str, Command)> {
    let limit = Arg::new("wait-limit")
        .long("wait-limit")
        .value_name("DURATION")
        .help("Wait for so long at most");
    let about = "Has the leader remove the contents of files that are gone, and waits for it";
    let mut commands = vec![("files sweep", Command::new("sweep").about(about).arg(limit))];
    commands.extend(folder::commands());
    commands
}

fn path(typed: &ArgMatches) -> &Path {
    typed.get_one::<PathBuf>("path").expect("clap demands it")
}

/// Brings a file in.
pub(super) async fn put(
    verb: &Verb,
    request: Request,
    typed: &ArgMatches,
    caller: &mut Caller,
) -> Result<u8, Failure> {
    let path = path(typed);
    let name = typed.get_one::<String>("name").map_or("", String::as_str);
    let mut meter = Meter::new(name, caller.json);
    let sent = interruptible(send(request, path, &mut meter, caller)).await;
    meter.end(&mut caller.terminal);
    print(verb, &sent?, caller)?;
    Ok(0)
}

async fn send(
    mut request: Request,
    path: &Path,
    meter: &mut Meter,
    caller: &mut Caller,
) -> Result<Vec<u8>, Failure> {
    let sending = if path == Path::new("-") {
        Sending::of_input()?
    } else {
        let known = examined(path, meter, &mut caller.terminal).await?;
        request.query.insert("sha256", known.1.clone());
        Sending::of_file(path, known).await?
    };
    let (bytes, _) = upload(&request, sending, meter, caller).await?;
    Ok(bytes)
}

/// Takes a file out; `request` is that of its content.
pub(super) async fn get(
    verb: &Verb,
    request: &Request,
    typed: &ArgMatches,
    caller: &mut Caller,
) -> Result<u8, Failure> {
    let name = typed.get_one::<String>("name").map_or("", String::as_str);
    let place = if typed.get_flag("replace") { Place::Replaced } else { Place::New };
    let target = target(path(typed), name, place, caller)?;
    let shown = request.path.strip_suffix("/content").unwrap_or(&request.path);
    let (answer, info) = look_up(shown, caller).await?;
    let mut meter = Meter::new(name, caller.json);
    let mut with = Fetching { meter: &mut meter, caller: &mut *caller };
    let fetched = fetch(request, &info, (target.as_deref(), place), &mut with);
    let fetched = interruptible(fetched).await;
    meter.end(&mut caller.terminal);
    fetched?;
    if target.is_none() {
        caller.terminal.flush()?;
    } else if caller.json {
        print(verb, &answer, caller)?;
    } else {
        let size = show::bytes(i64::try_from(info.bytes).unwrap_or(i64::MAX));
        let line = format!("{name}: {size}, SHA-256 {}", info.sha256);
        caller.terminal.page(|paper| paper.line(&line))?;
    }
    Ok(0)
}

/// Asks what the cluster knows of a file; gives the answer as it came, too.
pub(super) async fn look_up(path: &str, caller: &Caller) -> Result<(Vec<u8>, Info), Failure> {
    let bytes = caller.client.send(&Request::get(path)).await?.bytes().await?;
    let info: Info = serde_json::from_slice(&bytes)
        .map_err(|_| caller.client.stranger("it did not tell of the file that it was asked for"))?;
    Ok((bytes, info))
}

/// Where a file is written; `None` for the output.
fn target(
    path: &Path,
    name: &str,
    place: Place,
    caller: &Caller,
) -> Result<Option<PathBuf>, Failure> {
    if path == Path::new("-") {
        if caller.terminal.around.is_read {
            let text = "what is in a file is not written to a terminal; name a file, or use a pipe";
            return Err(Failure::Usage(text.to_owned()));
        }
        return Ok(None);
    }
    let target = if path.is_dir() {
        folder::inside(path, name).ok_or_else(|| {
            Failure::Usage(format!("no file of this machine can be called {name}; name one"))
        })?
    } else {
        path.to_owned()
    };
    if place == Place::New && target.exists() {
        return Err(is_there(&target));
    }
    Ok(Some(target))
}

struct Fetching<'a> {
    meter: &'a mut Meter,
    caller: &'a mut Caller,
}

async fn fetch(
    request: &Request,
    info: &Info,
    (target, place): (Option<&Path>, Place),
    with: &mut Fetching<'_>,
) -> Result<(), Failure> {
    let path = request.path.clone();
    let Some(target) = target else {
        return Fetch::new(path, info, Sink::Output).run(with.meter, with.caller).await;
    };
    let mut draft = Draft::beside(target)?;
    let fetch = Fetch::new(path, info, Sink::File(&mut draft.file));
    fetch.run(with.meter, with.caller).await?;
    draft.publish(target, place)
}

/// Has the sweep done, and waits for it.
pub(super) async fn sweep(typed: &ArgMatches, caller: &mut Caller) -> Result<u8, Failure> {
    let body = Some(json!({}).to_string().into_bytes());
    let request = Request { method: "POST", body, ..Request::get(SWEEP) };
    wait::done(Waits::Run, &request, typed, caller).await
}

/// Has all files read; the status tells whether all are what was written.
pub(super) async fn verify(request: &Request, caller: &mut Caller) -> Result<u8, Failure> {
    let mut meter = Meter::new("files", caller.json);
    let verified = interruptible(follow(request, &mut meter, caller)).await;
    meter.end(&mut caller.terminal);
    verified
}

async fn follow(request: &Request, meter: &mut Meter, caller: &mut Caller) -> Result<u8, Failure> {
    let answer = caller.client.send(request).await?;
    let mut lines = Lines { answer, rest: Vec::new() };
    while let Some(line) = lines.next(caller).await? {
        if caller.json {
            caller.terminal.pass_on(&line)?;
            caller.terminal.pass_on(b"\n")?;
            caller.terminal.flush()?;
        }
        let said: Value = serde_json::from_slice(&line)
            .map_err(|_| caller.client.stranger("it did not answer with lines of JSON"))?;
        if let Some(status) = heard(&said, meter, caller)? {
            return Ok(status);
        }
    }
    let text = "the answer broke off before all files were read; --space and --after go on";
    Err(Failure::CameToNothing(text.to_owned()))
}

/// Tells what a line says; gives the status at the last one.
fn heard(said: &Value, meter: &mut Meter, caller: &mut Caller) -> Result<Option<u8>, Failure> {
    let text = |name: &str| show::plain(&said[name]);
    let number = |name: &str| said[name].as_u64().unwrap_or_default();
    match said["line"].as_str() {
        Some("progress") => {
            meter.turn_to(&format!(
                "{} files, at {} {}",
                text("files"),
                text("space"),
                text("file")
            ));
            meter.tell(number("bytes"), None, &mut caller.terminal);
        }
        Some("found") if !caller.json => {
            meter.end(&mut caller.terminal);
            let has_key = said["key"].is_string();
            let key = if has_key { format!("  (no key {})", text("key")) } else { String::new() };
            let line = format!("{}  {}  {}{key}", text("finding"), text("space"), text("name"));
            caller.terminal.page(|paper| paper.line(&line))?;
        }
        Some("stopped") => {
            return Err(Failure::CameToNothing(format!(
                "{} ({}) after {} files: those behind them were not read",
                text("title"),
                text("code"),
                text("files")
            )));
        }
        Some("done") => {
            let bad = number("damaged") + number("missing") + number("unreadable");
            meter.end(&mut caller.terminal);
            if !caller.json {
                let size = show::bytes(said["bytes"].as_i64().unwrap_or_default());
                let line = format!(
                    "{} files read, {size}: {} damaged, {} missing, {} unreadable",
                    text("files"),
                    text("damaged"),
                    text("missing"),
                    text("unreadable")
                );
                caller.terminal.page(|paper| paper.line(&line))?;
            }
            return Ok(Some(u8::from(bad > 0)));
        }
        // Of a newer node.
        Some(_) | None => {}
    }
    Ok(None)
}

/// An answer, line by line.
struct Lines {
    answer: Answer,
    rest: Vec<u8>,
}

impl Lines {
    async fn next(&mut self, caller: &Caller) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            if self.rest.len() > LONGEST_LINE {
                return Err(caller.client.stranger("a line of its answer has no end"));
            }
            match self.answer.part().await? {
                Some(part) => self.rest.extend_from_slice(&part),
                None => return Ok(None),
            }
        }
    }
}
