//! What stands beside the files of a space that was exported: a line of JSON for each, which says what it is, with one
//! before all of them and one behind. Without the last line it is not whole.

use std::io::{BufRead, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::failure::Failure;

/// The name of the file.
pub(super) const MANIFEST: &str = "manifest.ndjson";
/// The form of these lines; another one for each that older programs would misread.
const FORM: u32 = 1;
/// The longest line, bytes: a name, a type and digits.
const LONGEST: u64 = 16_384;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(super) enum Line {
    /// The first one.
    Space { form: u32, space: String },
    /// A file.
    File(Entry),
    /// The last one.
    End(Totals),
}

/// A file of a space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// All files together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Line {
    /// The first line, for a space of this name.
    pub(super) fn first(space: &str) -> Self {
        Self::Space { form: FORM, space: space.to_owned() }
    }

    /// As it is written.
    pub(super) fn written(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).expect("it has texts and numbers only");
        text.push(b'\n');
        text
    }
}

/// Reads what was exported, line by line.
pub(super) struct Manifest<'a, R> {
    path: &'a Path,
    reader: R,
    line: u64,
    seen: Totals,
}

impl<'a, R: BufRead> Manifest<'a, R> {
    /// Begins to read; the path is for messages.
    pub(super) fn begin(path: &'a Path, reader: R) -> Result<Self, Failure> {
        let mut manifest = Self { path, reader, line: 0, seen: Totals::default() };
        match manifest.read()? {
            Some(Line::Space { form: FORM, .. }) => Ok(manifest),
            Some(Line::Space { .. }) => Err(manifest.wrong("is of a newer program than this one")),
            Some(Line::File(_) | Line::End(_)) | None => {
                Err(manifest.wrong("does not begin as `understudy files export` begins it"))
            }
        }
    }

    /// The next file; `None` behind the last one, when all of it is there and adds up.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Failure> {
        match self.read()? {
            Some(Line::File(entry)) => {
                if !is_file_name(&entry.name) || !is_digest(&entry.sha256) {
                    return Err(self.wrong("has a name or a digest that is none"));
                }
                self.seen.files += 1;
                self.seen.bytes = self.seen.bytes.saturating_add(entry.bytes);
                Ok(Some(entry))
            }
            Some(Line::End(totals)) if totals == self.seen => match self.read()? {
                None => Ok(None),
                Some(_) => Err(self.wrong("has something behind its last line")),
            },
            Some(Line::End(_)) => Err(self.wrong("has not as many files as it says")),
            Some(Line::Space { .. }) => Err(self.wrong("begins twice")),
            None => Err(self.wrong("has no last line: the export did not come to its end")),
        }
    }

    /// What was read so far.
    pub(super) fn seen(&self) -> Totals {
        self.seen
    }

    fn read(&mut self) -> Result<Option<Line>, Failure> {
        self.line += 1;
        let mut text = Vec::new();
        let read = self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut text);
        read.map_err(|error| self.wrong(&format!("cannot be read: {error}")))?;
        if text.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|_| self.wrong("is not what `understudy files export` writes"))
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::Usage(format!("{}, line {}: it {what}", self.path.display(), self.line))
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a name, whoever says it, stays in the folder that it is put into.
pub(super) fn is_file_name(name: &str) -> bool {
    let stays = |c: char| !matches!(c, '/' | '\\' | '\0');
    !matches!(name, "" | "." | "..") && name.len() <= 255 && name.chars().all(stays)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Line {
        let (content_type, sha256) = ("a/b".to_owned(), "0".repeat(64));
        Line::File(Entry { name: name.to_owned(), content_type, bytes: 3, sha256 })
    }

    fn end(files: u64) -> Line {
        Line::End(Totals { files, bytes: files * 3 })
    }

    fn names(lines: &[Line]) -> Result<Vec<String>, String> {
        let text: Vec<u8> = lines.iter().flat_map(Line::written).collect();
        read(&text)
    }

    fn read(text: &[u8]) -> Result<Vec<String>, String> {
        let told = |failure: Failure| failure.to_string();
        let mut manifest = Manifest::begin(Path::new("m"), text).map_err(told)?;
        let mut names = Vec::new();
        while let Some(entry) = manifest.next().map_err(told)? {
            names.push(entry.name);
        }
        Ok(names)
    }

    #[test]
    fn f2_what_was_exported_is_read_as_a_whole_or_not_at_all() {
        let first = || Line::first("avatars");
        assert_eq!(names(&[first(), entry("a"), entry("..."), end(2)]).unwrap(), ["a", "..."]);
        assert!(names(&[first(), end(0)]).unwrap().is_empty());
        for (lines, told) in [
            (vec![first(), entry("a")], "line 3: it has no last line"),
            (vec![first(), entry("a"), end(2)], "not as many files"),
            (vec![first(), end(0), entry("a")], "behind its last line"),
            (vec![first(), first()], "begins twice"),
            (vec![entry("a"), end(1)], "does not begin"),
            (vec![], "does not begin"),
            (vec![Line::Space { form: 2, space: String::new() }], "newer"),
            (vec![first(), entry("../a"), end(1)], "line 2: it has a name"),
            (vec![first(), entry(".."), end(1)], "line 2: it has a name"),
        ] {
            let refused = names(&lines).unwrap_err();
            assert!(refused.contains(told), "{refused}");
        }
        let mut endless = Line::first("x").written();
        endless.extend_from_slice(&[b'x'; 100_000]);
        assert!(read(&endless).unwrap_err().contains("line 2"));
    }
}
