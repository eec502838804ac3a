//! From the environment of the process to one text per known option.
//!
//! Here names are judged: files for secrets and the file of further variables are read, names from elsewhere are
//! understood, unknown ones are refused. What the texts mean is decided later, in [`super::reader`].
//!
//! The variables are taken from the system here and not by envy, which panics if any of them is not UTF-8.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use super::effective::Source;
use super::errors::Problem;
use super::names;
use super::registry::{self, PREFIX, Variable};

/// What the operator gave, by the full name of the option.
#[derive(Debug, Default)]
pub(super) struct Environment {
    given: BTreeMap<&'static str, Given>,
    /// The names that stood in the file of variables.
    in_file: BTreeSet<String>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

/// One option as given.
struct Given {
    text: String,
    /// Under which name: an alias, or the name of a file, may have been used.
    spelling: String,
    source: Source,
}

// The text may be a secret.
impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("spelling", &self.spelling).finish_non_exhaustive()
    }
}

/// Returns the variables of this process; those that are not UTF-8 cannot be ours and are left out.
pub(super) fn of_process() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl Environment {
    /// Sorts out the names. An empty value counts as not set, as it does in compose files.
    pub(super) fn read(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut environment = Self::default();
        let mut vars: BTreeMap<String, String> = vars
            .into_iter()
            .filter(|(name, value)| is_ours(name) && !value.trim().is_empty())
            .collect();
        environment.add_env_file(&mut vars);
        for (name, value) in &vars {
            if name.starts_with(PREFIX) {
                environment.take(name, value);
            }
        }
        environment.take_aliases(&vars);
        environment
    }

    /// Gives the options of one section to its raw struct, whose fields are all `Option<String>`.
    ///
    /// # Panics
    ///
    /// When the registry has an option that the struct does not know: a test reads every option once.
    pub(super) fn section<R: DeserializeOwned>(&self, prefix: &str) -> R {
        let texts = self.given.iter().filter_map(|(name, given)| {
            let field = name.strip_prefix(PREFIX)?.strip_prefix(prefix)?;
            Some((field.to_owned(), given.text.clone()))
        });
        envy::from_iter(texts).expect("every registered option has a field of type Option<String>")
    }

    /// Returns the name by which the operator knows an option.
    pub(super) fn spelling<'a>(&'a self, name: &'a str) -> &'a str {
        self.given.get(name).map_or(name, |given| &given.spelling)
    }

    /// Returns where an option was given, if it was.
    pub(super) fn source(&self, name: &str) -> Option<Source> {
        self.given.get(name).map(|given| given.source)
    }

    fn add_env_file(&mut self, vars: &mut BTreeMap<String, String>) {
        const NAME: &str = "UNDERSTUDY_ENV_FILE";
        let Some(path) = vars.get(NAME) else { return };
        let text = match std::fs::read_to_string(path.trim()) {
            Ok(text) => text,
            Err(error) => return self.problem(NAME, &format!("cannot be read: {}", error.kind())),
        };
        let real: Vec<String> = vars.keys().cloned().collect();
        for (number, line) in (1..).zip(text.lines()) {
            match env_line(line) {
                Ok(None) => {}
                Ok(Some((name, value))) => {
                    // A name and the name of its file are one option: the real environment wins over both.
                    let wins = |known: &String| {
                        without_file(known) == without_file(name) && known.as_str() != NAME
                    };
                    if is_ours(name) && !value.trim().is_empty() && !real.iter().any(wins) {
                        vars.insert(name.to_owned(), value.to_owned());
                        self.in_file.insert(name.to_owned());
                    }
                }
                Err(NotAnAssignment) => {
                    self.problem(NAME, &format!("line {number} of the file is not KEY=VALUE"));
                }
            }
        }
    }

    fn take(&mut self, name: &str, value: &str) {
        if let Some(variable) = registry::find(name) {
            self.give(variable, value.to_owned(), name);
        } else if let Some(variable) = secret_of_file(name) {
            match std::fs::read_to_string(value.trim()) {
                Ok(text) if text.trim().is_empty() => self.problem(name, "names an empty file"),
                Ok(text) => {
                    self.give(variable, text.trim_end_matches(['\r', '\n']).to_owned(), name)
                }
                Err(error) => self.problem(name, &format!("cannot be read: {}", error.kind())),
            }
        } else if names::is_of_command_line(name) {
            // Another use of this program reads it.
        } else if names::is_service_link(name, value) {
            // Kubernetes puts these there for a Service called understudy-something.
        } else if let Some(replacement) = names::replacement(name) {
            self.problem(name, &format!("is not an option here; use {replacement}"));
        } else {
            match names::nearest(name) {
                Some(known) => self.problem(name, &format!("is not known; did you mean {known}?")),
                None => self.problem(name, "is not known; docs/configuration.md lists all options"),
            }
        }
    }

    fn give(&mut self, variable: &'static Variable, text: String, spelling: &str) {
        if let Some(other) = self.given.get(variable.name) {
            let other = other.spelling.clone();
            return self
                .problem(spelling, &format!("is set and {other} too; set only one of them"));
        }
        let in_file = self.in_file.contains(spelling) || secret_of_file(spelling).is_some();
        let source = if in_file { Source::File } else { Source::Environment };
        self.given.insert(variable.name, Given { text, spelling: spelling.to_owned(), source });
    }

    fn take_aliases(&mut self, vars: &BTreeMap<String, String>) {
        for (alias, name) in names::ALIASES {
            let (Some(value), Some(variable)) = (vars.get(*alias), registry::find(name)) else {
                continue;
            };
            if self.given.contains_key(name) {
                continue; // the product's own name says it; what others call it may be meant for others
            }
            let mut text = value.clone();
            if *alias == "PORT" {
                if value.trim().parse::<u16>().is_err() {
                    self.problem(alias, "must be a port number from 0 to 65535");
                    continue;
                }
                text = format!("0.0.0.0:{}", value.trim());
            }
            self.warnings.push(format!("{alias} is taken for {name}; set {name} instead"));
            self.give(variable, text, alias);
        }
    }

    fn problem(&mut self, variable: &str, text: &str) {
        self.problems.push(Problem { variable: variable.to_owned(), text: text.to_owned() });
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) || names::ALIASES.iter().any(|(alias, _)| *alias == name)
}

/// Finds the secret whose value lies in a file named by this variable.
fn secret_of_file(name: &str) -> Option<&'static Variable> {
    registry::find(name.strip_suffix("_FILE")?).filter(|variable| variable.secret)
}

fn without_file(name: &str) -> &str {
    secret_of_file(name).map_or(name, |variable| variable.name)
}

struct NotAnAssignment;

/// Reads one line of a file of variables: `KEY=VALUE`, with or without `export`, quotes around the value, comments.
fn env_line(line: &str) -> Result<Option<(&str, &str)>, NotAnAssignment> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or(NotAnAssignment)?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(NotAnAssignment);
    }
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            return inner
                .strip_suffix(quote)
                .map(|inner| Some((name, inner)))
                .ok_or(NotAnAssignment);
        }
    }
    // Without quotes a comment may follow; a # inside a word, as in a password, is no comment.
    Ok(Some((name, value.split_once(" #").map_or(value, |(value, _)| value.trim_end()))))
}
