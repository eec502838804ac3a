//! A child process that cannot outlive the test.
//!
//! Linux tells a child when its parent dies (`PR_SET_PDEATHSIG`), but the parent in that sense is
//! the *thread* that forked it. libtest and tokio end threads while the test goes on, so all
//! children are forked by one thread that never ends. `setpriv` sets the signal and then becomes the
//! program: process id and parent stay.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, kill_process};

use super::commands::find_program;
use crate::processors;

pub use rustix::process::Signal;

const POLITE_END: Duration = Duration::from_secs(2);

/// What to start and how to end it.
#[derive(Debug)]
pub struct Launch {
    /// Shown in messages.
    pub name: String,
    /// Path of the program, see [`find_program`].
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// All of its environment; nothing of the test's own gets through but `PATH`, `HOME`, `TMPDIR`.
    pub environment: Vec<(String, String)>,
    /// Where it starts.
    pub directory: PathBuf,
    /// Standard output and error are appended here.
    pub log: PathBuf,
    /// Runs as this user and its groups; needs root.
    pub user: Option<String>,
    /// Ends it without leaving children behind: on drop, and when the test process dies.
    pub farewell: Signal,
}

/// A running child; ended on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    log: PathBuf,
    farewell: Signal,
    status: Option<ExitStatus>,
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    std::thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            // Never ends: the sender is in a static.
            for (mut command, answer) in inbox {
                drop(answer.send(command.spawn()));
            }
        })
        .expect("a thread can be started");
    orders
});

/// Starts a child that dies with the test process.
pub fn spawn(launch: Launch) -> Process {
    processors::watch();
    let log =
        File::options().create(true).append(true).open(&launch.log).unwrap_or_else(|error| {
            panic!("log {} of {}: {error}", launch.log.display(), launch.name)
        });
    let mut command = guarded(&launch);
    command
        .args(&launch.arguments)
        .env_clear()
        .envs(
            ["PATH", "HOME", "TMPDIR"]
                .iter()
                .filter_map(|&key| Some((key, std::env::var_os(key)?))),
        )
        .envs(launch.environment)
        .current_dir(&launch.directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file handle can be doubled"))
        .stderr(log);
    let (answer, spawned) = mpsc::channel();
    SPAWNER.send((command, answer)).expect("the spawner never ends");
    let child = spawned
        .recv()
        .expect("the spawner answers every order")
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", launch.name));
    let pid = Pid::from_child(&child);
    Process {
        name: launch.name,
        child,
        pid,
        log: launch.log,
        farewell: launch.farewell,
        status: None,
    }
}

/// The command up to and with the program.
fn guarded(launch: &Launch) -> Command {
    if !cfg!(target_os = "linux") {
        return Command::new(&launch.program);
    }
    let mut command = Command::new(find_program("setpriv"));
    command.args(["--pdeathsig", signal_name(launch.farewell)]);
    if let Some(user) = &launch.user {
        // In one call, since a change of the user clears the signal that was asked for before.
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--init-groups");
    }
    command.arg("--").arg(&launch.program);
    command
}

fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::TERM => "TERM",
        Signal::QUIT => "QUIT",
        Signal::INT => "INT",
        _ => "KILL",
    }
}

impl Process {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this one process.
    pub fn signal(&self, signal: Signal) {
        if self.status.is_none() {
            // The child is not reaped yet, so its id cannot belong to anybody else.
            send(self.pid, signal);
        }
    }

    /// Stops it and its own children where they are, as a machine does that swaps or migrates.
    pub fn pause(&self) {
        self.signal_family(Signal::STOP);
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal_family(Signal::CONT);
    }

    fn signal_family(&self, signal: Signal) {
        self.signal(signal);
        let id = self.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            if let Some(pid) = child.parse().ok().and_then(Pid::from_raw) {
                send(pid, signal);
            }
        }
    }

    /// Kills it as a power cut does, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.status = self.status.or_else(|| self.child.wait().ok());
    }

    /// Its exit status when it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Whether it has not ended: a look at the system's table, so that it can be asked of a process that is only read.
    pub fn is_running(&self) -> bool {
        if self.status.is_some() {
            return false;
        }
        // A child that has ended and was not waited for is a zombie.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    }

    /// Waits until it has ended by itself or by a signal sent before.
    pub async fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} has ended", self.name);
        crate::wait::until_some(&what, limit, async || self.exited()).await.0
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Its last lines, for the message of a failure.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let mut tail = format!("--- last lines of {} ---\n", self.name);
        for line in &lines[lines.len().saturating_sub(25)..] {
            tail += &format!("{line}\n");
        }
        tail
    }

    /// Ends it with its farewell signal, and with SIGKILL when that takes too long.
    pub fn end(&mut self) {
        self.signal(Signal::CONT); // a stopped process would not see the other signal
        self.signal(self.farewell);
        let mut patience = POLITE_END;
        while self.exited().is_none() && !patience.is_zero() {
            let nap = Duration::from_millis(2);
            pause_thread(nap);
            patience = patience.saturating_sub(nap);
        }
        self.kill9();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "drop cannot await, and no actor runs on this thread"
)]
fn pause_thread(nap: Duration) {
    std::thread::sleep(nap);
}

/// Sends a signal to a process that may have ended a moment ago, which is no failure.
pub(super) fn send(pid: Pid, signal: Signal) {
    kill_process(pid, signal).ok();
}
