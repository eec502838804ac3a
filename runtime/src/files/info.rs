//! What is known of a file without reading it.

use serde::Serialize;

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileInfo {
    /// The space that it is in.
    pub space: String,
    /// Its name there.
    pub name: String,
    /// Its type, as whoever wrote it said.
    pub content_type: String,
    /// How long it is.
    pub bytes: u64,
    /// The SHA-256 of its content, 64 hexadecimal digits.
    pub sha256: String,
    /// Which file of this name it is: another one for each that is written, also with the same content.
    pub version: String,
    /// Since when it has its name, ms since 1970 on the database's clock.
    pub created_ms: u64,
}

impl FileInfo {
    /// Gives the strong validator of RFC 9110.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

/// What is known of a space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpaceInfo {
    /// Its name.
    pub name: String,
    /// How long its files are together.
    pub bytes: u64,
    /// How many files it has.
    pub files: u64,
}

/// On what it depends whether a file gets its name. It is decided in the transaction that gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PutWhen {
    /// Whatever is there.
    #[default]
    Always,
    /// Only when there is none of this name.
    Absent,
    /// Only when the one that is there has this [version](FileInfo::version).
    Version(String),
    /// Only when no file got its name under this key in the last eight days, whichever name and whatever became of it. So an
    /// upload that is tried again, or asked for twice, is there once. A key is formed like a name; one that was not used yet is
    /// used up by nothing but success.
    Once(String),
}

impl PutWhen {
    /// Says whether a file may get its name where this version has it.
    pub(super) fn allows(&self, found: Option<&str>) -> bool {
        match self {
            // A key is looked at where it is used up.
            Self::Always | Self::Once(_) => true,
            Self::Absent => found.is_none(),
            Self::Version(version) => found == Some(version.as_str()),
        }
    }
}

/// How a file is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// On what it depends.
    pub when: PutWhen,
    /// The SHA-256 that the content must have, 64 hexadecimal digits; anything if not said.
    pub sha256: Option<String>,
}
