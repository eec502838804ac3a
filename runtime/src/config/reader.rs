//! From texts to typed values. Every mistake is written down and reading goes on, so that all are told at once.
//!
//! What is in effect in the end is kept as text too, for the administration API and for comparing nodes.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::effective::{Effective, Shown};
use super::environment::Environment;
use super::errors::{ConfigErrors, Problem};
use super::registry::{self, Variable};
use crate::secret::Secret;

/// Reads options and collects what is wrong with them.
#[derive(Debug)]
pub(super) struct Reader {
    environment: Environment,
    respelled: BTreeMap<&'static str, String>,
    effective: Effective,
}

impl Reader {
    pub(super) fn new(environment: Environment) -> Self {
        Self { environment, respelled: BTreeMap::new(), effective: Effective::default() }
    }

    /// Gives the raw texts of one section.
    pub(super) fn section<R: DeserializeOwned>(&self, prefix: &str) -> R {
        self.environment.section(prefix)
    }

    /// Ends reading: what is in effect and the warnings, or all the mistakes.
    pub(super) fn finish(mut self) -> Result<(Effective, Vec<String>), ConfigErrors> {
        if self.environment.problems.is_empty() {
            self.effective.trace(|name| self.environment.source(name));
            return Ok((self.effective, self.environment.warnings));
        }
        Err(ConfigErrors::new(self.environment.problems))
    }

    /// Writes down a mistake. The text must not hold any value.
    pub(super) fn problem(&mut self, name: &str, text: impl Into<String>) {
        let variable = self.spelling(name).to_owned();
        self.environment.problems.push(Problem { variable, text: text.into() });
    }

    /// Returns whether something is wrong with an option already.
    pub(super) fn has_problem(&self, name: &str) -> bool {
        let spelling = self.spelling(name);
        self.environment.problems.iter().any(|problem| problem.variable == spelling)
    }

    /// Writes down something that an operator should hear, but that does not stop the node.
    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.environment.warnings.push(text.into());
    }

    /// Says that an option came from elsewhere, so that mistakes are reported there.
    pub(super) fn respell(&mut self, name: &'static str, spelling: String) {
        self.respelled.insert(name, spelling);
    }

    /// Reads an option that has a plain default.
    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        given: Option<&str>,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        let default = known(name).default;
        let text = given.map_or(default, str::trim);
        self.show(name, text);
        parse(text).unwrap_or_else(|| {
            self.problem(name, format!("must be {expected}"));
            parse(default).expect("the default of every option is valid")
        })
    }

    /// Reads an option without a plain default; a wrong one counts as not given once it is written down.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        given: Option<&str>,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = given.map_or("", str::trim);
        self.show(name, text);
        if text.is_empty() {
            return None;
        }
        let value = parse(text);
        if value.is_none() {
            self.problem(name, format!("must be {expected}"));
        }
        value
    }

    /// Reads a whole number.
    pub(super) fn number<T: TryFrom<u64>>(
        &mut self,
        name: &'static str,
        given: Option<&str>,
        range: RangeInclusive<u64>,
    ) -> T {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(name, given, &expected, |text| whole(text, &range)?.try_into().ok())
    }

    /// Reads a number of milliseconds.
    pub(super) fn millis(
        &mut self,
        name: &'static str,
        given: Option<&str>,
        range: RangeInclusive<u64>,
    ) -> Duration {
        let expected =
            format!("a whole number of milliseconds from {} to {}", range.start(), range.end());
        self.parsed(name, given, &expected, |text| whole(text, &range).map(Duration::from_millis))
    }

    /// Reads a number of seconds.
    pub(super) fn seconds(
        &mut self,
        name: &'static str,
        given: Option<&str>,
        range: RangeInclusive<u64>,
    ) -> Duration {
        let expected =
            format!("a whole number of seconds from {} to {}", range.start(), range.end());
        self.parsed(name, given, &expected, |text| whole(text, &range).map(Duration::from_secs))
    }

    /// Reads `true` or `false`, and nothing else: `yes` and `1` mean different things to different people.
    pub(super) fn flag(&mut self, name: &'static str, given: Option<&str>) -> bool {
        self.parsed(name, given, "true or false", flag)
    }

    /// Reads one of several words.
    pub(super) fn choice<T: Clone>(
        &mut self,
        name: &'static str,
        given: Option<&str>,
        words: &[(&str, T)],
    ) -> T {
        self.parsed(name, given, &one_of(words), |text| word(text, words))
    }

    /// Reads a secret. It is not trimmed: blanks may belong to it.
    pub(super) fn secret(
        &mut self,
        name: &'static str,
        given: Option<String>,
    ) -> Option<Secret<String>> {
        self.effective.insert(name, Shown::secret(given.as_deref()));
        given.map(Secret::new)
    }

    /// Records what is in effect for an option that is worked out from others.
    pub(super) fn show(&mut self, name: &'static str, text: &str) {
        self.effective.insert(name, Shown::plain(text));
    }

    /// Records a secret of which a part may be shown, such as a URL without its password.
    pub(super) fn show_masked(&mut self, name: &'static str, masked: &str, secret: Option<&str>) {
        self.effective.insert(name, Shown::masked(masked, secret));
    }

    fn spelling<'a>(&'a self, name: &'a str) -> &'a str {
        self.respelled.get(name).map_or_else(|| self.environment.spelling(name), String::as_str)
    }
}

/// Reads a whole number without sign; a range that an operator can understand is part of every one.
pub(super) fn whole(text: &str, range: &RangeInclusive<u64>) -> Option<u64> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None; // parse alone would take a plus
    }
    text.parse().ok().filter(|number| range.contains(number))
}

pub(super) fn flag(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

pub(super) fn word<T: Clone>(text: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(known, _)| *known == text).map(|(_, value)| value.clone())
}

pub(super) fn one_of<T>(words: &[(&str, T)]) -> String {
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    format!("one of {}", words.join(", "))
}

/// Splits a comma list and drops blanks and empty parts.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn known(name: &str) -> &'static Variable {
    registry::find(name).expect("every option that is read is registered")
}
