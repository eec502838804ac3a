//! Reads the fields of one table, notes where they stand, and knows at the end which nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::super::environment;
use super::super::mistakes::Sheet;
use super::shortened;

/// One table while it is read.
pub(super) struct Fields<'s, 't, 'x> {
    sheet: &'s mut Sheet<'x>,
    /// What stands before the names of its fields: `http.`
    path: &'static str,
    table: &'t DeTable<'t>,
    at: usize,
    known: BTreeSet<&'static str>,
}

impl<'s, 't, 'x> Fields<'s, 't, 'x> {
    pub(super) fn new(
        sheet: &'s mut Sheet<'x>,
        path: &'static str,
        table: &'t DeTable<'t>,
        at: usize,
    ) -> Self {
        Self { sheet, path, table, at, known: BTreeSet::new() }
    }

    /// Takes a field, whatever it holds.
    pub(super) fn take(&mut self, name: &'static str) -> Option<&'t DeValue<'t>> {
        self.known.insert(name);
        let (key, value) = self.table.get_key_value(name)?;
        self.sheet.stands(format!("{}{name}", self.path), key.span().start);
        Some(value.get_ref())
    }

    /// Reads a field that may be missing; `expected` goes on after "must be".
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&'t DeValue<'t>) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let read = read(value);
        if read.is_none() {
            self.wrong(name, &format!("must be {expected}"));
        }
        read
    }

    /// Reads a field that must be there.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&'t DeValue<'t>) -> Option<T>,
    ) -> Option<T> {
        if !self.table.contains_key(name) {
            self.known.insert(name);
            self.wrong(name, &format!("is missing: {expected}"));
            return None;
        }
        self.read(name, expected, read)
    }

    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.read(name, "a text in quotes", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn duration(&mut self, name: &'static str) -> Option<Duration> {
        self.read(name, DURATION, duration)
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.read(name, "true or false", DeValue::as_bool)
    }

    /// Reads a whole number from `least` to `most`.
    pub(super) fn number(&mut self, name: &'static str, least: i64, most: i64) -> Option<i64> {
        let expected = format!("a whole number from {least} to {most}");
        self.read(name, &expected, |value| whole(value).filter(|it| (least..=most).contains(it)))
    }

    /// Reads a field that is one of a few words.
    pub(super) fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let listed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.read(name, &format!("one of {}", listed.join(", ")), |value| one_of(value, words))
    }

    /// Reads a table of texts. Its names are told in mistakes, its values are not.
    pub(super) fn texts(&mut self, name: &'static str) -> BTreeMap<String, String> {
        let table = self.read(name, "a table of texts", DeValue::as_table);
        let mut texts = BTreeMap::new();
        for (key, value) in table.into_iter().flatten() {
            let field = format!("{}{name}.{}", self.path, shortened(key.get_ref()));
            self.sheet.stands(field.clone(), key.span().start);
            match value.get_ref().as_str() {
                Some(text) => {
                    texts.insert(key.get_ref().to_string(), text.to_owned());
                }
                None => self.sheet.wrong_field(&field, self.at, "must be a text in quotes"),
            }
        }
        texts
    }

    /// Begins to read a table within this one.
    pub(super) fn within(
        &mut self,
        name: &'static str,
        path: &'static str,
    ) -> Option<Fields<'_, 't, 'x>> {
        let table = self.read(name, "a table", DeValue::as_table)?;
        Some(self.inner(name, path, table))
    }

    /// As [`Self::within`], for a table that was found already.
    pub(super) fn inner(
        &mut self,
        name: &str,
        path: &'static str,
        table: &'t DeTable<'t>,
    ) -> Fields<'_, 't, 'x> {
        let at = self.table.get_key_value(name).map_or(self.at, |(key, _)| key.span().start);
        Fields::new(self.sheet, path, table, at)
    }

    /// Whether the field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Says that a field is wrong; `name` may go on into it, as `headers.X`.
    pub(super) fn wrong(&mut self, name: &str, problem: &str) {
        self.sheet.wrong_field(&format!("{}{name}", self.path), self.at, problem);
    }

    /// Says that the table is wrong as a whole.
    pub(super) fn wrong_table(&mut self, problem: &str) {
        let field = self.path.trim_end_matches('.');
        match field {
            "" => self.sheet.wrong(self.at, problem),
            field => self.sheet.wrong(self.at, format_args!("{field} {problem}")),
        }
    }

    /// Checks a text with variables, and notes which ones. Gives whether it has any.
    pub(super) fn template(&mut self, name: &str, text: &str) -> bool {
        match environment::variables(text) {
            Ok(names) => {
                let job = self.sheet.job.clone().unwrap_or_default();
                let asked = names.iter().map(|name| (job.clone(), (*name).to_owned()));
                self.sheet.variables.extend(asked);
                !names.is_empty()
            }
            Err(bad) => {
                self.wrong(name, &bad.to_string());
                true
            }
        }
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            if !self.known.contains(key.get_ref().as_ref()) {
                let (path, name) = (self.path, shortened(key.get_ref()));
                let known: Vec<&str> = self.known.iter().copied().collect();
                let known = known.join(", ");
                self.sheet.wrong(
                    key.span().start,
                    format_args!("{path}{name} is not known; there may be {known}"),
                );
            }
        }
    }
}

/// What a duration must be.
pub(super) const DURATION: &str = "a duration of whole milliseconds such as \"10s\" or \"1h 30m\"";

pub(super) fn duration(value: &DeValue<'_>) -> Option<Duration> {
    let duration = humantime::parse_duration(value.as_str()?).ok()?;
    duration.subsec_nanos().is_multiple_of(1_000_000).then_some(duration)
}

pub(super) fn whole(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

pub(super) fn one_of<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Option<T> {
    let text = value.as_str()?;
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}
