//! Jobs without Rust: a file of jobs that call something over HTTP or run a command.
//!
//! The file is read once before anything starts, and a broken one keeps the node from starting. Later it is looked at every
//! two seconds; a broken one is refused as a whole then, and what was in force stays in force. `docs/jobs-file.md` is its
//! reference.
//!
//! The handlers `http` and `command` are only there on nodes that have a file: without one nobody can have a node run
//! commands by defining a job.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tracing::warn;
use understudy_scheduler::Registry;
use understudy_scheduler::schedule::ZoneName;
use understudy_scheduler::spec::JobSpec;

mod attempt;
mod command;
mod environment;
mod http;
mod mistakes;
mod parse;
mod watch;

use environment::Environment;
pub(crate) use mistakes::JobsFileError;
use parse::{Parsed, parse};
pub(crate) use watch::{Trouble, tell, watch};

/// The largest file that is read, bytes.
const MOST_BYTES: u64 = 16 << 20;

/// A jobs file, as it was when it was last good.
#[derive(Debug)]
pub(crate) struct JobsFile {
    path: PathBuf,
    zone: ZoneName,
    text: String,
    parsed: Parsed,
    /// By what a change is noticed; `None` while there is no file.
    signature: Option<Signature>,
    /// What was said last about the file, while it is broken.
    told: Option<JobsFileError>,
}

/// Modified (s, ns), length, number and change (s, ns) of a file: another of any means another file.
type Signature = [i64; 6];

/// What looking at the file came to.
#[derive(Debug, PartialEq)]
enum Look {
    /// It is as it was.
    Same,
    /// It is another, and good.
    Good,
    /// It is broken, and this was not said yet.
    Broken(JobsFileError),
}

impl JobsFile {
    /// Reads the file; `zone` is the time zone of cron expressions that name none.
    pub(crate) fn load(path: &Path, zone: ZoneName) -> Result<Self, JobsFileError> {
        let read = std::fs::metadata(path).and_then(|metadata| {
            let text = if is_small(&metadata) { std::fs::read(path)? } else { Vec::new() };
            Ok((metadata, text))
        });
        let (metadata, bytes) = read.map_err(|error| unreadable(path, &error))?;
        let text = text(path, &metadata, bytes)?;
        let parsed = parsed(path, &text, &zone)?;
        let signature = Some(signature(&metadata));
        Ok(Self { path: path.to_owned(), zone, text, parsed, signature, told: None })
    }

    /// Gives the jobs of the file that are on.
    pub(crate) fn specs(&self) -> &[JobSpec] {
        &self.parsed.specs
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Says which variables the jobs need that this node does not have.
    pub(crate) fn warn_of_unset_variables(&self) {
        for (job, name) in unset(&self.parsed.variables, &Environment::of_process()) {
            warn!(
                job = job.as_str(),
                variable = name.as_str(),
                "a variable that a job needs is not set on this node"
            );
        }
    }

    /// Reads the file again if it may have changed.
    async fn look(&mut self) -> Look {
        let metadata = match tokio::fs::metadata(&self.path).await {
            Ok(metadata) => metadata,
            Err(error) => {
                self.signature = None;
                return self.broken(unreadable(&self.path, &error));
            }
        };
        let seen = signature(&metadata);
        if self.signature == Some(seen) {
            return Look::Same;
        }
        let bytes =
            if is_small(&metadata) { tokio::fs::read(&self.path).await } else { Ok(Vec::new()) };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            // The next look tries again.
            Err(error) => return self.broken(unreadable(&self.path, &error)),
        };
        self.signature = Some(seen);
        let text = match text(&self.path, &metadata, bytes) {
            Ok(text) => text,
            Err(error) => return self.broken(error),
        };
        if text == self.text {
            return if self.told.take().is_some() { Look::Good } else { Look::Same };
        }
        match parsed(&self.path, &text, &self.zone) {
            Ok(parsed) => {
                (self.text, self.parsed, self.told) = (text, parsed, None);
                Look::Good
            }
            Err(error) => self.broken(error),
        }
    }

    fn broken(&mut self, error: JobsFileError) -> Look {
        if self.told.as_ref() == Some(&error) {
            return Look::Same;
        }
        self.told = Some(error.clone());
        Look::Broken(error)
    }
}

/// Brings the handlers that the jobs of a file need.
pub(crate) fn register(registry: &mut Registry) {
    let (clients, environment) = (http::Clients::default(), Environment::of_process());
    let for_commands = environment.clone();
    registry.add_handler(http::HANDLER, move |context| {
        http::handle(context, clients.clone(), environment.clone())
    });
    registry.add_handler(command::HANDLER, move |context| {
        command::handle(context, for_commands.clone())
    });
}

fn unset(
    variables: &BTreeSet<(String, String)>,
    environment: &Environment,
) -> Vec<(String, String)> {
    variables.iter().filter(|(_, name)| environment.get(name).is_none()).cloned().collect()
}

fn signature(metadata: &Metadata) -> Signature {
    [
        metadata.mtime(),
        metadata.mtime_nsec(),
        i64::try_from(metadata.len()).unwrap_or(i64::MAX),
        metadata.ino().cast_signed(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ]
}

fn is_small(metadata: &Metadata) -> bool {
    metadata.len() <= MOST_BYTES
}

fn text(path: &Path, metadata: &Metadata, bytes: Vec<u8>) -> Result<String, JobsFileError> {
    if !is_small(metadata) {
        let problem = format!("must be at most {MOST_BYTES} bytes");
        return Err(JobsFileError::unreadable(path, problem));
    }
    String::from_utf8(bytes)
        .map_err(|_| JobsFileError::unreadable(path, "must be text in UTF-8".to_owned()))
}

fn parsed(path: &Path, text: &str, zone: &ZoneName) -> Result<Parsed, JobsFileError> {
    parse(text, zone).map_err(|mistakes| JobsFileError { path: path.to_owned(), mistakes })
}

fn unreadable(path: &Path, error: &io::Error) -> JobsFileError {
    JobsFileError::unreadable(path, format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests;
