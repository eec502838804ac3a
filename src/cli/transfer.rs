//! The contents of files on their way between this machine and the cluster: piece by piece, and compared with their digest
//! at both ends.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::BuildHasher as _;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::call::Caller;
use super::client::Request;
use super::failure::Failure;
use super::progress::Progress;
use super::show;
use super::terminal::Terminal;

/// How many bytes are in memory at once.
const PIECE: usize = 65_536;
/// How often people are told how far it is.
const EVERY: Duration = Duration::from_millis(200);
/// How often a download goes on where it broke off, when nothing comes in between; and after which pause.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// What the cluster knows of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Info {
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) version: String,
    /// What was said of it, where files are examined.
    #[serde(default)]
    verdict: Option<Examined>,
}

/// What a node says of a file that is examined.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Examined {
    state: String,
}

impl Info {
    /// Whether nobody is given it: it is examined, and nobody has found it to be clean.
    pub(super) fn is_withheld(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.state != "clean")
    }
}

/// Tells people how far something is.
#[derive(Debug)]
pub(super) struct Meter {
    what: String,
    progress: Progress,
    told: Option<Instant>,
    is_silent: bool,
}

impl Meter {
    /// Tells of a file with this name; nothing where the answer is for programs.
    pub(super) fn new(what: &str, json: bool) -> Self {
        Self { what: what.to_owned(), progress: Progress::default(), told: None, is_silent: json }
    }

    /// Tells of another file from now on.
    pub(super) fn turn_to(&mut self, what: &str) {
        what.clone_into(&mut self.what);
        self.told = None;
    }

    /// Tells how far it is, but not all the time.
    pub(super) fn tell(&mut self, done: u64, of: Option<u64>, terminal: &mut Terminal) {
        if self.is_silent || self.told.is_some_and(|told| told.elapsed() < EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let size = |bytes: u64| show::bytes(i64::try_from(bytes).unwrap_or(i64::MAX));
        let text = match of {
            Some(of) => format!("{}  {} of {}", self.what, size(done), size(of)),
            None => format!("{}  {}", self.what, size(done)),
        };
        self.progress.tell(of.map(|of| (done, of)), &text, terminal);
    }

    /// Takes the line away.
    pub(super) fn end(&mut self, terminal: &mut Terminal) {
        self.progress.end(terminal);
    }
}

/// Does something that a person may interrupt. What it has begun is taken back when it is dropped.
pub(super) async fn interruptible<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => {
            let text = "interrupted: no file is there in part, and it can be asked for again";
            Err(Failure::Interrupted(text.to_owned()))
        }
    }
}

pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where content comes from.
type Source = Box<dyn AsyncRead + Send + Unpin>;

/// Content that is about to be sent.
pub(super) struct Sending {
    source: Source,
    /// How long it is and which digest it has, where that is known.
    known: Option<(u64, String)>,
}

impl Sending {
    /// Sends what comes in: how much that is, and what, shows at the end.
    pub(super) fn of_input() -> Result<Self, Failure> {
        let input = io::stdin().as_fd().try_clone_to_owned();
        let input = input.map_err(|error| unreadable(Path::new("-"), &error))?;
        let input = tokio::fs::File::from_std(File::from(input));
        Ok(Self { source: Box::new(input), known: None })
    }

    /// Sends a file that has this length and this digest, or had.
    pub(super) async fn of_file(path: &Path, known: (u64, String)) -> Result<Self, Failure> {
        let file = tokio::fs::File::open(path).await.map_err(|error| unreadable(path, &error))?;
        Ok(Self { source: Box::new(file.take(known.0)), known: Some(known) })
    }
}

/// A file of this machine cannot be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("{} cannot be read: {error}", path.display()))
}

/// Reads a file for its length and its digest.
pub(super) async fn examined(
    path: &Path,
    meter: &mut Meter,
    terminal: &mut Terminal,
) -> Result<(u64, String), Failure> {
    let wrong = |error: io::Error| unreadable(path, &error);
    let mut file = tokio::fs::File::open(path).await.map_err(wrong)?;
    let metadata = file.metadata().await.map_err(wrong)?;
    if !metadata.is_file() {
        return Err(Failure::Usage(format!("{} is no file", path.display())));
    }
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).await.map_err(wrong)?;
        if read == 0 {
            return Ok((length, hex(hash.finalize().as_slice())));
        }
        hash.update(&piece[..read]);
        length += read as u64;
        meter.tell(length, Some(metadata.len()), terminal);
    }
}

/// Content on its way, read while it is sent.
struct Pouring {
    source: Source,
    hash: Sha256,
    count: Arc<AtomicU64>,
    digest: Option<oneshot::Sender<String>>,
}

impl Pouring {
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut piece = vec![0; PIECE];
        let read = self.source.read(&mut piece).await?;
        piece.truncate(read);
        if read == 0 {
            let digest = hex(self.hash.clone().finalize().as_slice());
            if let Some(told) = self.digest.take() {
                drop(told.send(digest));
            }
            return Ok(None);
        }
        self.hash.update(&piece);
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(Some(piece))
    }
}

fn body(pouring: Pouring) -> reqwest::Body {
    let pieces = stream::try_unfold(pouring, |mut pouring: Pouring| async move {
        let piece = pouring.next().await?;
        Ok::<_, io::Error>(piece.map(|piece: Vec<u8>| (piece, pouring)))
    });
    reqwest::Body::wrap_stream(pieces)
}

/// Sends content; gives the answer as it came, and what it says of the file. As long as something is sent it may take as
/// long as it likes.
pub(super) async fn upload(
    request: &Request,
    sending: Sending,
    meter: &mut Meter,
    caller: &mut Caller,
) -> Result<(Vec<u8>, Info), Failure> {
    let Sending { source, known } = sending;
    let length = known.as_ref().map(|(length, _)| *length);
    let (digest, digested) = oneshot::channel();
    let count = Arc::new(AtomicU64::new(0));
    let (hash, counted) = (Sha256::new(), Arc::clone(&count));
    let body = body(Pouring { source, hash, count: counted, digest: Some(digest) });
    let client = caller.client.clone();
    let mut asked = pin!(async { client.stream(request, body, length).await?.bytes().await });
    let mut seen = (0, Instant::now());
    let bytes = loop {
        tokio::select! {
            answer = &mut asked => break answer?,
            () = sleep(EVERY) => {}
        }
        let now = count.load(Ordering::Relaxed);
        if now != seen.0 {
            seen = (now, Instant::now());
        } else if seen.1.elapsed() > client.patience() {
            return Err(client.silent());
        }
        meter.tell(now, length, &mut caller.terminal);
    };
    let info: Info = serde_json::from_slice(&bytes)
        .map_err(|_| client.stranger("it did not tell of the file that it was sent"))?;
    let sent = match known {
        Some((_, digest)) => digest,
        None => digested.await.map_err(|_| client.stranger("it answered before the end"))?,
    };
    if !info.sha256.eq_ignore_ascii_case(&sent) {
        return Err(Failure::CameToNothing(format!(
            "what arrived as {} is not what was sent: its SHA-256 is {}, not {sent}",
            info.name, info.sha256
        )));
    }
    Ok((bytes, info))
}

/// Where content goes.
pub(super) enum Sink<'a> {
    File(&'a mut File),
    /// To whoever reads the answer.
    Output,
}

/// A file that is being taken out, and how far it is.
pub(super) struct Fetch<'a> {
    path: String,
    info: &'a Info,
    sink: Sink<'a>,
    at: u64,
    hash: Sha256,
}

impl<'a> Fetch<'a> {
    /// Takes out the file whose content is at this path of the API, this version of it.
    pub(super) fn new(path: String, info: &'a Info, sink: Sink<'a>) -> Self {
        Self { path, info, sink, at: 0, hash: Sha256::new() }
    }

    /// Writes all of it; where the connection is lost it goes on from there. Only when this returns was it the right one.
    pub(super) async fn run(
        mut self,
        meter: &mut Meter,
        caller: &mut Caller,
    ) -> Result<(), Failure> {
        let mut failed = 0;
        while self.at < self.info.bytes {
            let before = self.at;
            let Err(failure) = self.rest(meter, caller).await else { continue };
            failed = if self.at > before { 1 } else { failed + 1 };
            if failed > TRIES || !failure.may_pass_again() {
                return Err(failure);
            }
            meter.end(&mut caller.terminal);
            caller.terminal.mention("the connection is lost; going on where it broke off");
            sleep(PAUSE).await;
        }
        if hex(self.hash.finalize().as_slice()) == self.info.sha256 {
            return Ok(());
        }
        Err(Failure::CameToNothing(format!(
            "what came of {} is not what was written; `understudy files check` tells if it is damaged",
            self.info.name
        )))
    }

    /// Writes what is left of it.
    async fn rest(&mut self, meter: &mut Meter, caller: &mut Caller) -> Result<(), Failure> {
        let mut request = Request::get(self.path.clone());
        request.headers.push(("If-Match", format!("\"{}\"", self.info.version)));
        if self.at > 0 {
            request.headers.push(("Range", format!("bytes={}-", self.at)));
        }
        let mut answer = caller.client.send(&request).await?;
        let odd = || Failure::CameToNothing("the node sent something else".to_owned());
        if (self.at > 0) != answer.is_part() {
            return Err(odd());
        }
        while let Some(part) = answer.part().await? {
            let length = part.len() as u64;
            if length > self.info.bytes - self.at {
                return Err(odd());
            }
            match &mut self.sink {
                Sink::File(file) => file.write_all(&part).map_err(Failure::Output)?,
                Sink::Output => caller.terminal.write(&part)?,
            }
            self.hash.update(&part);
            self.at += length;
            meter.tell(self.at, Some(self.info.bytes), &mut caller.terminal);
        }
        if self.at == self.info.bytes { Ok(()) } else { Err(odd()) }
    }
}

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It stays, and nothing is written.
    New,
    /// It is replaced.
    Replaced,
}

/// A file that is being written beside its place, and removed unless it gets there.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    pub(super) file: File,
}

impl Draft {
    /// Begins to write what goes to `target`, under a name that nobody can have given to a file of the cluster: that one would
    /// be taken for this, and removed.
    pub(super) fn beside(target: &Path) -> Result<Self, Failure> {
        // The keys of such a state are drawn.
        let drawn = RandomState::new().hash_one(std::process::id());
        let path = target.with_file_name(format!(".understudy-{drawn:016x}.part"));
        let file = File::create_new(&path).map_err(Failure::Output)?;
        Ok(Self { path, file })
    }

    /// Moves it to its place, when all of it is on the disk.
    pub(super) fn publish(self, target: &Path, place: Place) -> Result<(), Failure> {
        self.file.sync_all().map_err(Failure::Output)?;
        let moved = match place {
            Place::Replaced => fs::rename(&self.path, target),
            // Unlike a move, a link takes nobody's place. Not every file system has links.
            Place::New => fs::hard_link(&self.path, target).or_else(|error| {
                if target.exists() { Err(error) } else { fs::rename(&self.path, target) }
            }),
        };
        moved.map_err(|error| match error.kind() == ErrorKind::AlreadyExists {
            true => is_there(target),
            false => Failure::Output(error),
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Nothing is there when it was moved.
        fs::remove_file(&self.path).ok();
    }
}

/// There is something where a file is to be written.
pub(super) fn is_there(path: &Path) -> Failure {
    Failure::Usage(format!("{} is there already; --replace replaces it", path.display()))
}
