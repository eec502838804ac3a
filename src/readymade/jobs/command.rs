//! The handler `command`: a program that runs as long as the run does, with its output in the run's log.
//!
//! It runs in a process group of its own, and nothing of that group outlives the run: neither when the run is told to end
//! (SIGTERM, and SIGKILL a moment later) nor when the handler is dropped. Only when the node itself is killed the program
//! goes on; whatever it changes should refuse a smaller `UNDERSTUDY_EPOCH` then.

use std::collections::BTreeMap;
use std::future::pending;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use understudy_runtime::error::chain;
use understudy_scheduler::{JobContext, JobError};

use super::attempt::{Attempt, Log};
use super::environment::Environment;

/// The name of the handler.
pub(super) const HANDLER: &str = "command";
/// How long a program may take to end after SIGTERM. The scheduler leaves a handler 1 s altogether.
const GRACE: Duration = Duration::from_millis(500);
/// How long output may still come after the end, from processes that left the group.
const DRAIN: Duration = Duration::from_millis(250);
/// Longer lines are broken, bytes.
const LONGEST_LINE: usize = 4 * 1024;
/// What a program gets of the node's own environment.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// What is run; the parameters of a job with this handler. Its `env` still has its variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandCall {
    pub(super) argv: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) folder: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout_ms: Option<u64>,
    #[serde(default = "zero")]
    pub(super) success: Vec<i32>,
}

fn zero() -> Vec<i32> {
    vec![0]
}

/// How a program came to its end.
enum Ended {
    Exited(ExitStatus),
    Cancelled,
    TimedOut(Duration),
}

/// Runs the program of a run.
pub(super) async fn handle(
    context: JobContext,
    environment: Environment,
) -> Result<Value, JobError> {
    let call: CommandCall = context.params()?;
    let attempt = Attempt::of(&context);
    run(&call, (&attempt, &environment), &context, context.cancelled()).await
}

async fn run(
    call: &CommandCall,
    (attempt, environment): (&Attempt, &Environment),
    log: &dyn Log,
    told_to_end: impl Future<Output = ()>,
) -> Result<Value, JobError> {
    let mut child = spawn(call, attempt, environment)?;
    let mut group = Group::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut reading = pin!(async {
        tokio::join!(lines(stdout, |line| log.info(line)), lines(stderr, |line| log.warn(line)))
    });
    let mut all_read = false;
    let ended = {
        let limit = call.timeout_ms.map(Duration::from_millis);
        let mut ending = pin!(wait(&mut child, &group, limit, told_to_end));
        loop {
            tokio::select! {
                ended = &mut ending => break ended,
                _ = &mut reading, if !all_read => all_read = true,
            }
        }
    };
    // What it left running in the background.
    group.end();
    if !all_read && tokio::time::timeout(DRAIN, reading).await.is_err() {
        log.warn("its output is still open and was left behind");
    }
    match ended? {
        Ended::Exited(status) => outcome(call, status),
        Ended::Cancelled => Err(JobError::cancelled()),
        Ended::TimedOut(limit) => {
            let limit = humantime::format_duration(limit);
            Err(JobError::failed(format!("took longer than {limit} and was ended")))
        }
    }
}

fn spawn(
    call: &CommandCall,
    attempt: &Attempt,
    environment: &Environment,
) -> Result<Child, JobError> {
    let [program, arguments @ ..] = &call.argv[..] else {
        return Err(JobError::fatal("argv is empty: it must begin with the program"));
    };
    let folder = call.folder.as_ref().map(std::path::absolute).transpose()?;
    let mut command = Command::new(place_of(program, folder.as_deref()));
    command.args(arguments).env_clear();
    for name in INHERITED {
        if let Some(value) = environment.get(name) {
            command.env(name, value);
        }
    }
    for (name, text) in &call.env {
        command.env(name, environment.expand("env", text)?);
    }
    command
        .env("UNDERSTUDY_JOB", &attempt.job)
        .env("UNDERSTUDY_RUN", &attempt.run)
        .env("UNDERSTUDY_FIRE_TIME", attempt.fire_time())
        .env("UNDERSTUDY_EPOCH", attempt.epoch.to_string())
        .env("UNDERSTUDY_ATTEMPT", attempt.number.to_string())
        .env("UNDERSTUDY_IDEMPOTENCY_KEY", &attempt.idempotency_key);
    if let Some(trace) = &attempt.trace {
        command.env("TRACEPARENT", trace);
    }
    if let Some(folder) = &folder {
        if !folder.is_dir() {
            return Err(JobError::fatal(format!("there is no folder {}", folder.display())));
        }
        command.current_dir(folder);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command.spawn().map_err(|error| {
        let kind = error.kind();
        if kind == ErrorKind::NotFound {
            JobError::fatal(format!("there is no program `{program}`"))
        } else if kind == ErrorKind::PermissionDenied {
            JobError::fatal(format!("the program `{program}` may not be run"))
        } else {
            JobError::failed(format!("the program `{program}` was not started: {}", chain(&error)))
        }
    })
}

/// A program with a slash in it is looked for from its folder, one without in `PATH`.
fn place_of(program: &str, folder: Option<&Path>) -> PathBuf {
    match folder {
        Some(folder) if program.contains('/') => folder.join(program),
        Some(_) | None => PathBuf::from(program),
    }
}

/// Waits for the end, and sees to it when it is time.
async fn wait(
    child: &mut Child,
    group: &Group,
    limit: Option<Duration>,
    told_to_end: impl Future<Output = ()>,
) -> Result<Ended, JobError> {
    let too_long = async {
        match limit {
            Some(limit) => {
                tokio::time::sleep(limit).await;
                limit
            }
            None => pending().await,
        }
    };
    let ended = tokio::select! {
        status = child.wait() => return Ok(Ended::Exited(status?)),
        () = told_to_end => Ended::Cancelled,
        limit = too_long => Ended::TimedOut(limit),
    };
    group.signal(Signal::TERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        group.signal(Signal::KILL);
        child.wait().await?;
    }
    Ok(ended)
}

fn outcome(call: &CommandCall, status: ExitStatus) -> Result<Value, JobError> {
    match (status.code(), status.signal()) {
        (Some(code), _) if call.success.contains(&code) => Ok(json!({ "status": code })),
        (Some(code), _) => Err(JobError::failed(format!("ended with status {code}"))),
        (None, Some(signal)) => Err(JobError::failed(format!("was ended by signal {signal}"))),
        (None, None) => Err(JobError::failed(format!("ended: {status}"))),
    }
}

/// The processes of a program; they end with this at the latest.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        Self(leader.and_then(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // That there is none any more is the usual case.
            kill_process_group(group, signal).ok();
        }
    }

    /// Ends what is left. Right after the leader was waited for, its number cannot belong to another group yet.
    fn end(&mut self) {
        self.signal(Signal::KILL);
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// Hands over output line by line. Long lines are broken, so that a program cannot fill the memory of the node.
async fn lines(output: Option<impl AsyncRead + Unpin>, write: impl Fn(&str)) {
    let Some(mut output) = output else { return };
    let mut chunk = vec![0; LONGEST_LINE];
    let mut line = Vec::new();
    loop {
        let length = match output.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        for part in chunk[..length].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if part.ends_with(b"\n") || line.len() >= LONGEST_LINE {
                tell(&line, &write);
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        tell(&line, &write);
    }
}

fn tell(line: &[u8], write: &impl Fn(&str)) {
    let text = String::from_utf8_lossy(line);
    write(text.trim_end_matches(['\r', '\n']));
}

#[cfg(test)]
mod tests;
