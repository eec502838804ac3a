//! The lock that keeps a second process out of a data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::error::DatabaseError;

const LOCK_FILE: &str = "understudy.lock";

/// Holds a data directory for this process; dropping it, or the end of the process however it ends, gives it free.
///
/// Whoever holds it knows that no other node lives on the embedded database. The lock is the system's (`flock`), not
/// the presence of the file, so a crash leaves nothing behind that an operator would have to remove. It does not
/// work on network file systems without locks, where an embedded database has no business anyway.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Creates the directory if it is missing, for its owner only, and locks it.
    ///
    /// # Errors
    /// [`DatabaseError::DataDirInUse`] when another process has it, [`DatabaseError::DataDir`] when the system says no.
    pub fn acquire(directory: &Path) -> Result<Self, DatabaseError> {
        let failed = |source| DatabaseError::DataDir { path: directory.to_owned(), source };
        create_private_dir(directory).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(directory.join(LOCK_FILE)).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {
                let pid = read_pid(&mut file);
                return Err(DatabaseError::DataDirInUse { path: directory.to_owned(), pid });
            }
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Creates a directory and those above it; what is new may be entered by its owner only.
pub(super) fn create_private_dir(directory: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Reads who holds the lock; none while it has not told its id yet.
fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_the_process_of_the_first() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("a/b");
        let first = DataDirLock::acquire(&directory).unwrap();
        let error = DataDirLock::acquire(&directory).unwrap_err();
        let expected = format!(
            "the data directory {} is in use by process {}",
            directory.display(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
        assert!(!error.is_retryable());
        drop(first);
        DataDirLock::acquire(&directory).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_new_data_directory_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("data");
        let _lock = DataDirLock::acquire(&directory).unwrap();
        let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
