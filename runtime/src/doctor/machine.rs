//! Checks of the machine that a node runs on.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Check, Outcome};

/// Each connection takes a file; fewer are used up by a busy node.
const FILES: u64 = 4_096;
/// So much of the files in use is too much, per cent.
const MUCH: u64 = 80;
/// Less room than this in the data folder an operator should know of, and act on; bytes.
const LITTLE: u64 = 1 << 30;
const TOO_LITTLE: u64 = 100 << 20;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "data_dir",
        title: "Data folder",
        fix: "let the user of the process write into UNDERSTUDY_DATA_DIR",
        run: |patient| {
            let folder = patient.node().config.node.data_dir.clone();
            Box::pin(blocking(move || data_dir(&folder)))
        },
    },
    Check {
        code: "disk_space",
        title: "Space in the data folder",
        fix: "free space on the disk of UNDERSTUDY_DATA_DIR",
        run: |patient| {
            let folder = patient.node().config.node.data_dir.clone();
            Box::pin(blocking(move || disk_space(&folder)))
        },
    },
    Check {
        code: "open_files",
        title: "Open files",
        fix: "raise the limit of open files: LimitNOFILE of systemd, or ulimit -n",
        run: |_| Box::pin(blocking(open_files)),
    },
];

/// Files may lie on a disk that hangs.
async fn blocking(look: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|error| Outcome::critical(error.to_string()))
}

fn data_dir(folder: &Path) -> Outcome {
    let shown = folder.display();
    if !folder.exists() {
        return Outcome::ok(format!("{shown} is not there, and nothing has needed it"));
    }
    let probe = folder.join(format!(".understudy-probe-{:016x}", rand::random::<u64>()));
    let written = std::fs::write(&probe, b"probe");
    let removed = std::fs::remove_file(&probe);
    match written.and(removed) {
        Ok(()) => Outcome::ok(format!("{shown} can be written to")),
        Err(error) => Outcome::critical(format!("{shown} cannot be written to: {error}")),
    }
}

fn disk_space(folder: &Path) -> Outcome {
    let Some(there) = folder.ancestors().find(|folder| folder.exists()) else {
        return Outcome::skipped("no part of its path is there");
    };
    match rustix::fs::statvfs(there) {
        Ok(stat) => room(stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => Outcome::warning(format!("it cannot be told: {error}")),
    }
}

fn room(free: u64) -> Outcome {
    let text = format!("{} MiB are free", free >> 20);
    match free {
        LITTLE.. => Outcome::ok(text),
        TOO_LITTLE.. => Outcome::warning(text),
        0.. => Outcome::critical(text),
    }
}

fn open_files() -> Outcome {
    let limit = getrlimit(Resource::Nofile).current;
    let used = std::fs::read_dir("/proc/self/fd").map(|files| files.count() as u64).ok();
    files(used, limit)
}

fn files(used: Option<u64>, limit: Option<u64>) -> Outcome {
    let used_of = used.map_or_else(String::new, |used| format!("{used} are open, "));
    let Some(limit) = limit else { return Outcome::ok(format!("{used_of}without a limit")) };
    let text = format!("{used_of}{limit} may be");
    if used.is_some_and(|used| used.saturating_mul(100) >= limit.saturating_mul(MUCH)) {
        return Outcome::critical(text);
    }
    if limit < FILES { Outcome::warning(text) } else { Outcome::ok(text) }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Critical, Ok as Good, Warning};
    use super::*;

    #[test]
    fn h7_a_folder_that_cannot_be_written_to_is_found() {
        let temporary = tempfile::tempdir().unwrap();
        assert_eq!(data_dir(temporary.path()).verdict, Good);
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "nothing is left");
        assert_eq!(data_dir(&temporary.path().join("missing")).verdict, Good);
        let file = temporary.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(data_dir(&file).verdict, Critical, "a file in its place");
        assert_ne!(disk_space(&temporary.path().join("a/b")).text, "");
    }

    #[test]
    fn h7_room_and_files_are_judged() {
        for (free, expected) in
            [(2 << 30, Good), (500 << 20, Warning), (1 << 20, Critical), (0, Critical)]
        {
            assert_eq!(room(free).verdict, expected, "{free}");
        }
        assert_eq!(files(Some(10), Some(4_096)).verdict, Good);
        assert_eq!(files(Some(10), Some(1_024)).verdict, Warning);
        assert_eq!(files(Some(900), Some(1_024)).verdict, Critical);
        assert_eq!(files(None, None).verdict, Good);
    }
}
