//! What is wrong with a jobs file: every mistake with its line, column and field, and never with a value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// So many mistakes are told; a file that is no TOML at all has more.
const MOST_TOLD: usize = 100;

/// A jobs file is broken: all its mistakes, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobsFileError {
    pub(super) path: PathBuf,
    pub(super) mistakes: Vec<Mistake>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mistake {
    /// From 1; 0 when it belongs to no line.
    pub(super) line: usize,
    /// From 1, counted in characters.
    pub(super) column: usize,
    /// What is wrong and what would be right; names the job and the field.
    pub(super) problem: String,
}

impl JobsFileError {
    /// Makes the error of a file that cannot even be read.
    pub(super) fn unreadable(path: &Path, problem: String) -> Self {
        let mistake = Mistake { line: 0, column: 0, problem };
        Self { path: path.to_owned(), mistakes: vec![mistake] }
    }
}

impl fmt::Display for JobsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (index, mistake) in self.mistakes.iter().take(MOST_TOLD).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match mistake.line {
                0 => write!(f, "{path}: {}", mistake.problem)?,
                line => write!(f, "{path}:{line}:{}: {}", mistake.column, mistake.problem)?,
            }
        }
        match self.mistakes.len().saturating_sub(MOST_TOLD) {
            0 => Ok(()),
            more => write!(f, "\n{path}: and {more} more"),
        }
    }
}

impl std::error::Error for JobsFileError {}

/// Where mistakes are written down while a file is read.
#[derive(Debug)]
pub(super) struct Sheet<'t> {
    text: &'t str,
    /// The job that is being read, as mistakes call it.
    pub(super) job: Option<String>,
    /// Where in the text its fields stand, by their full names.
    places: BTreeMap<String, usize>,
    found: BTreeSet<(usize, String)>,
    /// Which variables of the environment the jobs ask for.
    pub(super) variables: BTreeSet<(String, String)>,
}

impl<'t> Sheet<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            job: None,
            places: BTreeMap::new(),
            found: BTreeSet::new(),
            variables: BTreeSet::new(),
        }
    }

    /// Begins with another job.
    pub(super) fn begin(&mut self, job: String) {
        self.job = Some(job);
        self.places.clear();
    }

    /// Notes where a field stands.
    pub(super) fn stands(&mut self, field: String, at: usize) {
        self.places.insert(field, at);
    }

    pub(super) fn was_given(&self, field: &str) -> bool {
        self.places.contains_key(field)
    }

    /// Writes down a mistake at a place of the text.
    pub(super) fn wrong(&mut self, at: usize, problem: impl fmt::Display) {
        let told = match &self.job {
            Some(job) => format!("{job}: {problem}"),
            None => problem.to_string(),
        };
        self.found.insert((at, told));
    }

    /// Writes down a mistake in a field; where that is not given itself, at what would hold it, else at `otherwise`.
    pub(super) fn wrong_field(&mut self, field: &str, otherwise: usize, problem: &str) {
        let mut holder = field;
        let at = loop {
            if let Some(at) = self.places.get(holder) {
                break *at;
            }
            match holder.rsplit_once('.') {
                Some((outer, _)) => holder = outer,
                None => break otherwise,
            }
        };
        self.wrong(at, format_args!("{field} {problem}"));
    }

    /// Gives all mistakes in the order of the text.
    pub(super) fn mistakes(&self) -> Vec<Mistake> {
        let place = |(at, problem): &(usize, String)| {
            let (line, column) = line_and_column(self.text, *at);
            Mistake { line, column, problem: problem.clone() }
        };
        self.found.iter().map(place).collect()
    }
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line_begins = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_begins..].chars().count() + 1)
}
