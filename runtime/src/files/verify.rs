//! Reads all files, or those of a space, where they lie, and tells which are not what was written: lines of JSON, one after
//! the other, for as long as whoever asked reads them. Nothing is changed, and nothing is kept: who goes away ends it, and
//! who comes back can go on behind the last file they were told of.
//!
//! A node does this for one at a time: it is all that its stores can give. Whoever does not take what they are told for
//! [`PATIENCE`] loses the turn to the next one, and what they had is stopped. Files that are written or deleted meanwhile may be
//! read or not. Also those are read that are served to nobody, since they were not found to be clean.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{Stream, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use super::admin::{Answer, told};
use super::error::FileError;
use super::info::FileInfo;
use super::{Files, naming};
use crate::admin::asked::{Query, bad_form, body};
use crate::admin::note;
use crate::http::problem::{ApiError as _, Problem};

/// How often it is told how far it is; so often it is also seen that nobody reads any more.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How many files are looked up at once.
const PAGE: u32 = 100;
/// For how long a line may wait to be taken before whoever asked loses the turn.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many lines may wait, beside those that are on their way.
pub(super) const UNREAD: usize = 16;

/// The turn of the one for whom a node reads all files; a cheap clone of the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn(Arc<AtomicBool>);

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Taken(Arc<AtomicBool>);

impl Turn {
    pub(super) fn take(&self) -> Option<Taken> {
        let is_free = !self.0.swap(true, Ordering::AcqRel);
        is_free.then(|| Taken(Arc::clone(&self.0)))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Adds the resource; that of files has given the files.
pub(super) fn configure(app: &mut ServiceConfig, turn: &Turn) {
    app.app_data(Data::new(turn.clone()))
        .service(web::resource("/v1/files-verify").route(web::post().to(verify)));
}

/// Which files.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    space: Option<String>,
    #[serde(default)]
    after: Option<String>,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(super) enum Line {
    /// How far it is.
    Progress { space: Option<String>, file: Option<String>, files: u64, bytes: u64 },
    /// A file that is not what was written, or that cannot be read.
    Found {
        space: String,
        name: String,
        version: String,
        bytes: u64,
        finding: Finding,
        code: &'static str,
        /// The key that this node does not have, where that is why.
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// It could not go on; what was told so far is right.
    Stopped { code: &'static str, title: String, files: u64, bytes: u64 },
    /// All were read.
    Done { files: u64, bytes: u64, damaged: u64, missing: u64, unreadable: u64 },
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Finding {
    /// Its content is another one, or a part of it is missing.
    Damaged,
    /// Nothing of its content is there.
    Missing,
    /// It lies in a store that this node has no options for, or that does its work and does not give this file; or it is
    /// encrypted, and this node does not have the key.
    Unreadable,
}

async fn verify(
    files: Data<Files>,
    turn: Data<Turn>,
    request: HttpRequest,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let wanted: Wanted = body(&request, &bytes)?;
    let walk = Walk::begin(&files, wanted)?;
    let Some(taken) = turn.take() else {
        let (status, code) = (StatusCode::CONFLICT, "files_verify_under_way");
        let title = "This node reads all files for somebody already";
        return Err(Problem::new(status, code, title).with_detail("wait, or ask another node"));
    };
    note(&request, walk.only.as_deref().map_or("all spaces".to_owned(), str::to_owned));
    let lines = followed(walk, taken, PATIENCE).map(|line| Ok::<_, Infallible>(written(&line)));
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would otherwise collect what is to be seen at once.
        .insert_header(("x-accel-buffering", "no"))
        .content_type("application/x-ndjson")
        .streaming(lines))
}

/// Reads on by itself and hands out what it has to tell. A line that nobody takes ends it, and with it the turn: the one who
/// asked may be there no more, or stand still.
pub(super) fn followed(
    mut walk: Walk,
    taken: Taken,
    patience: Duration,
) -> impl Stream<Item = Line> + 'static {
    let (tell, lines) = mpsc::channel::<Line>(UNREAD);
    let work = async move {
        let _taken = taken;
        while let Some(line) = walk.next().await {
            match timeout(patience, tell.send(line)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return, // they went away
                Err(_) => {
                    tracing::info!("a verification of files was stopped: nobody took what it told");
                    return;
                }
            }
        }
    };
    tokio::spawn(work.in_current_span());
    let heard = Heard { lines, files: 0, bytes: 0, ended: false };
    stream::unfold(heard, |mut heard: Heard| async move {
        let line = heard.next().await?;
        Some((line, heard))
    })
}

/// What whoever asked has been told so far.
struct Heard {
    lines: mpsc::Receiver<Line>,
    files: u64,
    bytes: u64,
    ended: bool,
}

impl Heard {
    /// The next line; `None` behind the last one. Whoever comes back too late is told that it was stopped.
    async fn next(&mut self) -> Option<Line> {
        if self.ended {
            return None;
        }
        let (files, bytes) = (self.files, self.bytes);
        let line = self.lines.recv().await.unwrap_or_else(|| {
            let title = "What was told was not read, so the turn was given to the next one";
            Line::Stopped { code: "files_verify_unread", title: title.to_owned(), files, bytes }
        });
        match &line {
            Line::Progress { files, bytes, .. } => (self.files, self.bytes) = (*files, *bytes),
            Line::Found { .. } => {}
            Line::Stopped { .. } | Line::Done { .. } => self.ended = true,
        }
        Some(line)
    }
}

fn written(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line).expect("it has names and numbers only");
    text.push(b'\n');
    Bytes::from(text)
}

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, FileError>> + Send>>;

/// A file that is being read.
struct Reading {
    info: FileInfo,
    pieces: Pieces,
}

/// How far it is.
pub(super) struct Walk {
    files: Files,
    /// The only space that is wanted, if not all are.
    only: Option<String>,
    /// The space whose files are read, and the name behind which the next ones are looked up.
    space: Option<String>,
    after: String,
    /// The space behind which the next one is looked up.
    behind: String,
    page: VecDeque<FileInfo>,
    reading: Option<Reading>,
    told: Instant,
    counts: Counts,
    ended: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    files: u64,
    bytes: u64,
    damaged: u64,
    missing: u64,
    unreadable: u64,
}

impl Walk {
    pub(super) fn begin(files: &Files, wanted: Wanted) -> Result<Self, Problem> {
        files.store().map_err(told)?;
        let Wanted { space, after } = wanted;
        let space = space.map(|space| naming::space_name(&space)).transpose().map_err(told)?;
        let after = after.map(|after| naming::file_name(&after)).transpose().map_err(told)?;
        if after.is_some() && space.is_none() {
            return Err(bad_form("`after` needs `space`: names are those of one space"));
        }
        Ok(Self {
            files: files.clone(),
            only: space.clone(),
            space,
            after: after.unwrap_or_default(),
            behind: String::new(),
            page: VecDeque::new(),
            reading: None,
            told: Instant::now(),
            counts: Counts::default(),
            ended: false,
        })
    }

    /// The next line; `None` behind the last one.
    pub(super) async fn next(&mut self) -> Option<Line> {
        if self.ended {
            return None;
        }
        let line = match self.next_line().await {
            Ok(line) => line,
            Err(error) => self.stopped(&error),
        };
        self.ended = matches!(line, Line::Stopped { .. } | Line::Done { .. });
        Some(line)
    }

    async fn next_line(&mut self) -> Result<Line, FileError> {
        loop {
            if self.told.elapsed() >= TELL_EVERY {
                return Ok(self.progress());
            }
            let Some(reading) = &mut self.reading else {
                let Some(info) = self.next_file().await? else { return Ok(self.done()) };
                match self.open(info).await? {
                    Some(line) => return Ok(line),
                    None => continue,
                }
            };
            // A piece that takes long is waited for again: it goes on being read in between.
            match timeout(TELL_EVERY, reading.pieces.next()).await {
                Err(_) => return Ok(self.progress()),
                Ok(Some(Ok(piece))) => self.counts.bytes += piece.len() as u64,
                Ok(None) => {
                    self.counts.files += 1;
                    self.reading = None;
                }
                Ok(Some(Err(error))) => {
                    if let Some(line) = self.failed(error).await? {
                        return Ok(line);
                    }
                }
            }
        }
    }

    /// The next file, of this space or the next one; `None` at the end.
    async fn next_file(&mut self) -> Result<Option<FileInfo>, FileError> {
        loop {
            if let Some(info) = self.page.pop_front() {
                self.after.clone_from(&info.name);
                return Ok(Some(info));
            }
            if let Some(space) = &self.space {
                let page = self.files.space(space).list(&self.after, PAGE).await?;
                if page.is_empty() {
                    self.space = None;
                }
                self.page = page.into();
                continue;
            }
            if self.only.is_some() {
                return Ok(None);
            }
            let Some(next) = self.files.spaces(&self.behind, 1).await?.pop() else {
                return Ok(None);
            };
            self.behind.clone_from(&next.name);
            self.after.clear();
            self.space = Some(next.name);
        }
    }

    /// Begins to read a file; one that is gone meanwhile is passed over.
    async fn open(&mut self, info: FileInfo) -> Result<Option<Line>, FileError> {
        match self.files.space(&info.space).find(&info.name).await {
            Ok(Some(file)) => {
                let file = file.past_what_is_near();
                let info = file.info().clone();
                self.reading = Some(Reading { info, pieces: Box::pin(file.stream()) });
                Ok(None)
            }
            Ok(None) => Ok(None),
            Err(error) if is_of_the_file(&error) => {
                Ok(Some(self.found(info, Finding::Unreadable, &error)))
            }
            Err(error) => Err(error),
        }
    }

    /// What it means that a file could not be read to its end.
    async fn failed(&mut self, error: FileError) -> Result<Option<Line>, FileError> {
        let Some(Reading { info, .. }) = self.reading.take() else { return Ok(None) };
        if matches!(error, FileError::Gone) {
            return Ok(None);
        }
        let is_unavailable = matches!(error, FileError::Unavailable);
        if !is_of_the_file(&error) && !is_unavailable {
            return Err(error);
        }
        // A file that was replaced while it was read is not the one that is looked at here.
        let again = self.files.space(&info.space).find(&info.name).await?;
        let Some(file) = again.filter(|file| file.info().version == info.version) else {
            return Ok(None);
        };
        let file = file.past_what_is_near();
        if is_unavailable {
            // A disk with a bad place does not give this file, and all the others.
            if !file.is_within_reach().await {
                return Err(error);
            }
            return Ok(Some(self.found(info, Finding::Unreadable, &error)));
        }
        let is_missing = file.is_missing().await?;
        let finding = if is_missing { Finding::Missing } else { Finding::Damaged };
        Ok(Some(self.found(info, finding, &error)))
    }

    fn found(&mut self, info: FileInfo, finding: Finding, error: &FileError) -> Line {
        self.counts.files += 1;
        match finding {
            Finding::Damaged => self.counts.damaged += 1,
            Finding::Missing => self.counts.missing += 1,
            Finding::Unreadable => self.counts.unreadable += 1,
        }
        let FileInfo { space, name, version, bytes, .. } = info;
        let key = error.key().map(str::to_owned);
        Line::Found { space, name, version, bytes, finding, code: error.problem().code, key }
    }

    fn progress(&mut self) -> Line {
        self.told = Instant::now();
        let at = self.reading.as_ref().map(|reading| &reading.info);
        let Counts { files, bytes, .. } = self.counts;
        Line::Progress {
            space: at.map(|info| info.space.clone()),
            file: at.map(|info| info.name.clone()),
            files,
            bytes,
        }
    }

    fn stopped(&self, error: &FileError) -> Line {
        let problem = told_of(error);
        let Counts { files, bytes, .. } = self.counts;
        Line::Stopped { code: problem.code, title: problem.title.into_owned(), files, bytes }
    }

    fn done(&self) -> Line {
        let Counts { files, bytes, damaged, missing, unreadable } = self.counts;
        Line::Done { files, bytes, damaged, missing, unreadable }
    }
}

/// The error stands in the log too: the answer has begun long ago.
fn told_of(error: &FileError) -> Problem {
    tracing::warn!(error = crate::error::chain(error), "reading all files has stopped");
    error.problem()
}

/// Whether an error says something of the file, and nothing of the others.
fn is_of_the_file(error: &FileError) -> bool {
    matches!(
        error,
        FileError::Damaged
            | FileError::OtherStore { .. }
            | FileError::UnknownKey { .. }
            | FileError::OtherKey { .. }
    )
}
