//! A whole space as a folder: `files/` with the files under their names, and a manifest beside it that says what they are.
//!
//! Both directions can be asked for again, and then do only what is left: what is there already, with the same digest, is
//! not sent a second time. A folder is whole when its manifest is, which is written last.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use serde::Serialize;

use super::call::Caller;
use super::client::{Request, encoded};
use super::command::{flag, path as path_argument};
use super::failure::Failure;
use super::files::look_up;
use super::manifest::{Entry, Line, MANIFEST, Manifest, Totals, is_file_name};
use super::show;
use super::transfer::{
    Draft, Fetch, Info, Meter, Place, Sending, Sink, examined, interruptible, unreadable, upload,
};

/// Where the files are, below the folder.
const FILES: &str = "files";
/// How many files are listed at once.
const PAGE: u32 = 1_000;
/// How often a file is looked up anew that was changed while it was taken out.
const CHANGES: u32 = 5;

pub(super) fn commands() -> Vec<(&'static str, Command)> {
    let space = || Arg::new("space").value_name("SPACE").required(true).help("Name of the space");
    let out =
        "Writes all files of a space into a folder, with a manifest; what is there already is kept";
    let into =
        "Brings in all files of a folder that `files export` wrote; what is there already is kept";
    let replace = flag("replace", "Also files of which there is another one");
    vec![
        (
            "files export",
            Command::new("export")
                .about(out)
                .arg(space())
                .arg(path_argument("The folder; it is made if it is not there")),
        ),
        (
            "files import",
            Command::new("import")
                .about(into)
                .arg(space())
                .arg(path_argument("The folder"))
                .arg(replace),
        ),
    ]
}

/// The place of a file in a folder, whoever says its name; `None` when it would be elsewhere.
pub(super) fn inside(folder: &Path, name: &str) -> Option<PathBuf> {
    is_file_name(name).then(|| folder.join(name))
}

/// What was done.
#[derive(Debug, Clone, Default, Serialize)]
struct Report {
    space: String,
    /// All files, and how long they are together.
    files: u64,
    bytes: u64,
    /// Those that had to be sent.
    sent: u64,
    /// Those that were there already.
    kept: u64,
    /// Those in whose place there is another one.
    other: u64,
    /// Those that nobody is given, since they were not found to be clean; they are not counted above.
    withheld: u64,
}

/// The folder and the space that are made the same.
struct Pair<'a> {
    space: &'a str,
    folder: &'a Path,
    place: Place,
    meter: Meter,
    report: Report,
}

impl<'a> Pair<'a> {
    fn of(typed: &'a ArgMatches, place: Place, caller: &Caller) -> Self {
        let space = typed.get_one::<String>("space").expect("clap demands it");
        let folder = typed.get_one::<PathBuf>("path").expect("clap demands it");
        let meter = Meter::new(space, caller.json);
        let report = Report { space: space.to_owned(), ..Report::default() };
        let (space, folder) = (space.as_str(), folder.as_path());
        Self { space, folder, place, meter, report }
    }

    /// The path of a file in the API.
    fn api(&self, name: &str) -> String {
        format!("/v1/files/{}/{}", encoded(self.space), encoded(name))
    }

    /// The path of a file on this machine.
    fn own(&self, name: &str) -> Result<PathBuf, Failure> {
        inside(&self.folder.join(FILES), name).ok_or_else(|| {
            Failure::CameToNothing("a file has a name that none can have here".to_owned())
        })
    }

    /// What the cluster knows of a file; `None` when there is none.
    async fn look_up(&self, name: &str, caller: &Caller) -> Result<Option<Info>, Failure> {
        match look_up(&self.api(name), caller).await {
            Ok((_, info)) => Ok(Some(info)),
            Err(failure) if is_refused(&failure, &["unknown_file"]) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Tells what was done; gives the status.
    fn tell(self, caller: &mut Caller) -> Result<u8, Failure> {
        let Report { files, bytes, sent, kept, other, withheld, .. } = self.report;
        if caller.json {
            let text = serde_json::to_string(&self.report).expect("it has texts and numbers only");
            caller.terminal.pass_on(format!("{text}\n").as_bytes())?;
            caller.terminal.flush()?;
        } else {
            let size = show::bytes(i64::try_from(bytes).unwrap_or(i64::MAX));
            let mut line = format!("{files} files, {size}: {sent} sent, {kept} there already");
            if other > 0 {
                line.push_str(&format!(", {other} not: there is another one (--replace)"));
            }
            if withheld > 0 {
                line.push_str(&format!(", and {withheld} left out: not found to be clean"));
            }
            caller.terminal.page(|paper| paper.line(&line))?;
        }
        Ok(u8::from(other > 0 || withheld > 0))
    }
}

fn is_refused(failure: &Failure, codes: &[&str]) -> bool {
    matches!(failure, Failure::Refused(problem) if codes.contains(&problem.code.as_str()))
}

/// Writes a space into a folder.
pub(super) async fn export(typed: &ArgMatches, caller: &mut Caller) -> Result<u8, Failure> {
    let mut pair = Pair::of(typed, Place::Replaced, caller);
    let done = interruptible(take_all(&mut pair, caller)).await;
    pair.meter.end(&mut caller.terminal);
    done?;
    pair.tell(caller)
}

async fn take_all(pair: &mut Pair<'_>, caller: &mut Caller) -> Result<(), Failure> {
    fs::create_dir_all(pair.folder.join(FILES)).map_err(Failure::Output)?;
    let target = pair.folder.join(MANIFEST);
    let draft = Draft::beside(&target)?;
    let mut manifest = BufWriter::new(&draft.file);
    manifest.write_all(&Line::first(pair.space).written())?;
    let mut after = String::new();
    loop {
        let page = list(pair.space, &after, caller).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.name);
        for info in page {
            let Some(entry) = take_one(pair, info, caller).await? else { continue };
            pair.report.files += 1;
            pair.report.bytes += entry.bytes;
            manifest.write_all(&Line::File(entry).written())?;
        }
    }
    let Report { files, bytes, .. } = pair.report;
    manifest.write_all(&Line::End(Totals { files, bytes }).written())?;
    manifest.flush()?;
    drop(manifest);
    draft.publish(&target, Place::Replaced)
}

async fn list(space: &str, after: &str, caller: &Caller) -> Result<Vec<Info>, Failure> {
    let mut request = Request::get(format!("/v1/files/{}", encoded(space)));
    request.query.insert("limit", PAGE.to_string());
    if !after.is_empty() {
        request.query.insert("after", after.to_owned());
    }
    let mut answer = caller.client.json(&request).await?;
    serde_json::from_value(answer["files"].take())
        .map_err(|_| caller.client.stranger("it did not list files"))
}

/// Takes one file out, unless it is there; `None` when it is in the space no more, or nobody is given it.
async fn take_one(
    pair: &mut Pair<'_>,
    mut info: Info,
    caller: &mut Caller,
) -> Result<Option<Entry>, Failure> {
    let target = pair.own(&info.name)?;
    pair.meter.turn_to(&info.name);
    let mut changes = 0;
    loop {
        // Also one that is in the folder since it was taken out before.
        if info.is_withheld() {
            withheld(pair, &info.name, caller);
            return Ok(None);
        }
        if is_same(&target, &info, &mut pair.meter, caller).await? {
            pair.report.kept += 1;
            break;
        }
        let mut draft = Draft::beside(&target)?;
        let path = format!("{}/content", pair.api(&info.name));
        let fetch = Fetch::new(path, &info, Sink::File(&mut draft.file));
        match fetch.run(&mut pair.meter, caller).await {
            Ok(()) => {
                draft.publish(&target, Place::Replaced)?;
                pair.report.sent += 1;
                break;
            }
            Err(failure)
                if is_refused(&failure, &["file_changed", "unknown_file", "file_gone"]) =>
            {
                changes += 1;
                if changes > CHANGES {
                    return Err(failure);
                }
            }
            // One that nobody is given must not keep the others from being taken out.
            Err(failure) if is_refused(&failure, &["file_quarantined", "file_infected"]) => {
                withheld(pair, &info.name, caller);
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        }
        match pair.look_up(&info.name, caller).await? {
            Some(now) => info = now,
            None => return Ok(None),
        }
    }
    let Info { name, content_type, bytes, sha256, .. } = info;
    Ok(Some(Entry { name, content_type, bytes, sha256 }))
}

/// Whether a file of this machine is what the cluster has.
async fn is_same(
    path: &Path,
    info: &Info,
    meter: &mut Meter,
    caller: &mut Caller,
) -> Result<bool, Failure> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() == info.bytes => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(unreadable(path, &error)),
    }
    let (_, sha256) = examined(path, meter, &mut caller.terminal).await?;
    Ok(sha256 == info.sha256)
}

/// Brings a folder into a space.
pub(super) async fn import(typed: &ArgMatches, caller: &mut Caller) -> Result<u8, Failure> {
    let place = if typed.get_flag("replace") { Place::Replaced } else { Place::New };
    let mut pair = Pair::of(typed, place, caller);
    let done = interruptible(bring_all(&mut pair, caller)).await;
    pair.meter.end(&mut caller.terminal);
    done?;
    pair.tell(caller)
}

async fn bring_all(pair: &mut Pair<'_>, caller: &mut Caller) -> Result<(), Failure> {
    let path = pair.folder.join(MANIFEST);
    let open = || -> Result<BufReader<File>, Failure> {
        let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        Ok(BufReader::new(file))
    };
    // What is not whole is not begun.
    let mut manifest = Manifest::begin(&path, open()?)?;
    while let Some(entry) = manifest.next()? {
        let own = pair.own(&entry.name)?;
        let metadata = fs::metadata(&own).map_err(|error| unreadable(&own, &error))?;
        if metadata.len() != entry.bytes {
            let wrong = io::Error::other(format!("it must have {} bytes", entry.bytes));
            return Err(unreadable(&own, &wrong));
        }
    }
    let totals = manifest.seen();
    (pair.report.files, pair.report.bytes) = (totals.files, totals.bytes);
    let mut manifest = Manifest::begin(&path, open()?)?;
    while let Some(entry) = manifest.next()? {
        bring_one(pair, entry, caller).await?;
    }
    Ok(())
}

/// Brings one file in, unless it is there, or another one that must stay.
async fn bring_one(pair: &mut Pair<'_>, entry: Entry, caller: &mut Caller) -> Result<(), Failure> {
    let own = pair.own(&entry.name)?;
    pair.meter.turn_to(&entry.name);
    let there = pair.look_up(&entry.name, caller).await?;
    let is_same =
        |info: &Info| info.sha256 == entry.sha256 && info.content_type == entry.content_type;
    if there.as_ref().is_some_and(is_same) {
        pair.report.kept += 1;
        return Ok(());
    }
    // What somebody else writes meanwhile is not replaced unseen.
    let condition = match (there, pair.place) {
        (None, _) => ("If-None-Match", "*".to_owned()),
        (Some(there), Place::Replaced) => ("If-Match", format!("\"{}\"", there.version)),
        (Some(_), Place::New) => {
            other(pair, &entry.name, caller);
            return Ok(());
        }
    };
    let mut request = Request { method: "PUT", ..Request::get(pair.api(&entry.name)) };
    request.headers.push(condition);
    request.headers.push(("Content-Type", entry.content_type.clone()));
    request.query.insert("sha256", entry.sha256.clone());
    let sending = Sending::of_file(&own, (entry.bytes, entry.sha256.clone())).await?;
    match upload(&request, sending, &mut pair.meter, caller).await {
        Ok(_) => pair.report.sent += 1,
        Err(failure) if is_refused(&failure, &["file_changed"]) => {
            other(pair, &entry.name, caller);
        }
        Err(failure) => return Err(failure),
    }
    Ok(())
}

/// Tells that there is another file in the place of one.
fn other(pair: &mut Pair<'_>, name: &str, caller: &mut Caller) {
    pair.report.other += 1;
    pair.meter.end(&mut caller.terminal);
    caller.terminal.complain(&format!("{name}: there is another one in {}", pair.space));
}

/// Tells that a file is left out.
fn withheld(pair: &mut Pair<'_>, name: &str, caller: &mut Caller) {
    pair.report.withheld += 1;
    pair.meter.end(&mut caller.terminal);
    caller
        .terminal
        .complain(&format!("{name}: it is left out, since it was not found to be clean"));
}
