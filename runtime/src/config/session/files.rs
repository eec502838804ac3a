//! How much may be in the temporary files of a session: `SESSION_MAX_FILE_BYTES`, `SESSION_MAX_FILES_BYTES`.

use super::Raw;
use crate::config::reader::Reader;

/// How much may be in the temporary files of a session.
#[derive(Debug, Clone, Copy)]
pub struct FilesConfig {
    /// `SESSION_MAX_FILE_BYTES`: the largest file.
    pub file_bytes: u64,
    /// `SESSION_MAX_FILES_BYTES`: all files of a session together.
    pub session_bytes: u64,
}

pub(super) fn read(read: &mut Reader, raw: &Raw) -> FilesConfig {
    const ONE: &str = "UNDERSTUDY_SESSION_MAX_FILE_BYTES";
    const ALL: &str = "UNDERSTUDY_SESSION_MAX_FILES_BYTES";
    let most = 1 << 40;
    let file_bytes: u64 = read.number(ONE, raw.max_file_bytes.as_deref(), 0..=most);
    let session_bytes: u64 = read.number(ALL, raw.max_files_bytes.as_deref(), 0..=most);
    if file_bytes > session_bytes && !read.has_problem(ONE) && !read.has_problem(ALL) {
        read.problem(ONE, format!("must not be more than {ALL}"));
    }
    FilesConfig { file_bytes, session_bytes }
}
