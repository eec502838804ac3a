//! Programs: where they are, and the short ones that run to their end.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Pid;

use super::process::{Signal, send};

/// Runs one short command to its end; returns what it printed.
///
/// # Errors
/// What it wrote to standard error, when it failed or did not end within `limit`.
pub fn run(command: &mut Command, limit: Duration) -> Result<String, String> {
    let shown = format!("{}", command.get_program().to_string_lossy());
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{shown} cannot be started: {error}"))?;
    let pid = Pid::from_child(&child);
    let (done, wait) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late = wait.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            send(pid, Signal::KILL);
        }
        late
    });
    let output = child.wait_with_output().map_err(|error| format!("{shown}: {error}"))?;
    drop(done);
    if watchdog.join().unwrap_or(false) {
        return Err(format!("{shown} did not end within {limit:?}"));
    }
    said(&shown, &output)
}

fn said(shown: &str, output: &Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if output.status.success() {
        return Ok(text);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{shown} failed ({}): {} {text}", output.status, complaint.trim_end()))
}

/// Finds a program in `PATH` and in the places where cargo puts programs, and Debian and Homebrew hide servers.
pub fn find_program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"].map(PathBuf::from));
    let cargo = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    folders.extend(cargo.map(|cargo| cargo.join("bin")));
    folders.extend(versions("/usr/lib/postgresql"));
    folders.extend(versions("/opt/homebrew/opt")); // postgresql@15
    folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()).unwrap_or_else(
        || panic!("{name} is not installed: run .ci/packages.sh (`make test` does), or install it"),
    )
}

/// `<root>/<version>/bin`, newest version first.
fn versions(root: &str) -> impl Iterator<Item = PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Path::new(root)
        .read_dir()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.rsplit('@').next()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by(|left, right| right.cmp(left));
    found.into_iter().map(|(_, path)| path)
}
