//! A folder that can be taken away as a share of the network can, and be full as a disk can.
//!
//! It is a file system in memory, mounted twice: once out of sight, where it stays, and once where nodes look for it, from where
//! it is really unmounted. Only root may do that; see [`Share::mount`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::commands::run;
use super::scratch::Scratch;

const LIMIT: Duration = Duration::from_secs(10);

/// A mounted folder; unmounted on drop.
#[derive(Debug)]
pub struct Share {
    /// Where it stays.
    disk: PathBuf,
    /// Where nodes look for it.
    place: PathBuf,
    mebibytes: u64,
    _folder: Scratch,
}

impl Share {
    /// Mounts one of so many MiB.
    ///
    /// # Errors
    /// What the system says when it may not be mounted: who is not root, or is in a container, may not.
    pub fn mount(mebibytes: u64) -> Result<Self, String> {
        let folder = Scratch::new("share");
        let (disk, place) = (folder.join("disk"), folder.join("place"));
        for empty in [&disk, &place] {
            std::fs::create_dir(empty).map_err(|error| error.to_string())?;
        }
        let size = format!("size={mebibytes}m,mode=0777");
        command(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs"], &[&disk])?;
        // From here on it is unmounted on drop.
        let share = Self { disk, place, mebibytes, _folder: folder };
        command(&["mount", "--bind"], &[&share.disk, &share.place])?;
        Ok(share)
    }

    /// Where nodes look for it.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Unmounts it: there is an empty folder now, and what was open stays open.
    pub fn take_away(&self) {
        must(command(&["umount", "-l"], &[&self.place]));
    }

    /// Mounts it again, with all that was in it.
    pub fn bring_back(&self) {
        must(command(&["mount", "--bind"], &[&self.disk, &self.place]));
    }

    /// Leaves room for so many more bytes and no more.
    pub fn fill_but(&self, bytes: u64) {
        let now = rustix::fs::statvfs(&self.disk).expect("it is mounted");
        let used = (now.f_blocks - now.f_bfree) * now.f_frsize;
        self.resize(&format!("{}", used + bytes));
    }

    /// Gives it all its room again.
    pub fn empty(&self) {
        self.resize(&format!("{}m", self.mebibytes));
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        must(command(&["mount", "-o", &options], &[&self.disk]));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        for mounted in [&self.place, &self.disk] {
            drop(command(&["umount", "-l"], &[mounted])); // it may have been taken away
        }
    }
}

fn command(words: &[&str], paths: &[&Path]) -> Result<(), String> {
    let (program, arguments) = words.split_first().expect("a command has a name");
    run(Command::new(program).args(arguments).args(paths), LIMIT).map(|_| ())
}

fn must(done: Result<(), String>) {
    done.unwrap_or_else(|error| panic!("{error}"));
}
