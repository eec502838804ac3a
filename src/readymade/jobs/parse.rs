//! Reads the text of a jobs file. All mistakes are found at once, each with its place; no value is ever repeated in one, as
//! it may be a secret.
//!
//! The fields are read one by one instead of by serde, which stops at the first mistake and repeats what it found.

mod calls;
mod fields;
mod policies;

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};
use understudy_scheduler::schedule::ZoneName;
use understudy_scheduler::spec::{JobName, JobSpec, Schedule};

use super::mistakes::{Mistake, Sheet};
use fields::Fields;

/// What a jobs file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Parsed {
    /// The jobs that are on.
    pub(super) specs: Vec<JobSpec>,
    /// Which variables of the environment they need: job and variable.
    pub(super) variables: BTreeSet<(String, String)>,
}

/// Reads a jobs file; `zone` is the time zone of cron expressions that name none.
pub(super) fn parse(text: &str, zone: &ZoneName) -> Result<Parsed, Vec<Mistake>> {
    let mut sheet = Sheet::new(text);
    let (table, broken) = DeTable::parse_recoverable(text);
    if !broken.is_empty() {
        for error in broken {
            let at = error.span().map_or(text.len(), |span| span.start);
            sheet.wrong(at, format_args!("is not TOML here: {}", error.message()));
        }
        return Err(sheet.mistakes());
    }
    let mut specs = Vec::new();
    let mut root = Fields::new(&mut sheet, "", table.get_ref(), 0);
    let jobs =
        root.read("job", "a list of tables, each of them begun by a line [[job]]", |value| {
            let jobs = value.as_array()?;
            let tables = jobs.iter().map(|job| Some((job.get_ref().as_table()?, job.span().start)));
            tables.collect::<Option<Vec<_>>>()
        });
    root.finish();
    let mut names = BTreeMap::new();
    for (number, (table, at)) in jobs.unwrap_or_default().into_iter().enumerate() {
        sheet.begin(title(table, number));
        let (spec, is_on) = job(&mut sheet, (table, at), zone);
        let is_named = table.contains_key("name");
        if let Some(first) = names.insert(spec.name.clone(), number + 1).filter(|_| is_named) {
            sheet.wrong_field("name", at, &format!("is that of job {first} already"));
        }
        specs.extend(is_on.then_some(spec));
    }
    let mistakes = sheet.mistakes();
    if mistakes.is_empty() {
        return Ok(Parsed { specs, variables: sheet.variables });
    }
    Err(mistakes)
}

/// What mistakes call a job: its name, if it has one, else its place in the file.
fn title(table: &DeTable<'_>, number: usize) -> String {
    match table.get("name").and_then(|name| name.get_ref().as_str()) {
        Some(name) => format!("job `{}`", shortened(name)),
        None => format!("job {}", number + 1),
    }
}

/// A text of the file as it may stand in a message.
fn shortened(text: &str) -> String {
    let short: String = text.chars().take(128).collect();
    short.escape_debug().to_string()
}

/// Reads one job, and whether it is on. With mistakes it is not quite what the file means.
fn job(
    sheet: &mut Sheet<'_>,
    (table, at): (&DeTable<'_>, usize),
    zone: &ZoneName,
) -> (JobSpec, bool) {
    let mut fields = Fields::new(sheet, "", table, at);
    let name = fields.required("name", "1 to 128 of A-Z a-z 0-9 . _ -", |value| {
        value.as_str()?.parse::<JobName>().ok()
    });
    // Whatever else is wrong is told all the same.
    let name = name.unwrap_or_else(|| "unnamed".parse().expect("a valid name"));
    let schedule = policies::schedule(&mut fields).unwrap_or(Schedule::Manual);
    let mut spec = JobSpec::new(name, schedule);
    if let Some((handler, params)) = calls::read(&mut fields) {
        handler.clone_into(&mut spec.handler);
        spec.params = params;
    }
    spec.description = fields.text("description").unwrap_or_default();
    policies::read(&mut fields, &mut spec);
    let is_on = fields.read("enabled", "true or false", DeValue::as_bool).unwrap_or(true);
    fields.finish();
    check(sheet, &spec, at, zone);
    (spec, is_on)
}

/// Checks what the fields mean together, and tells it by the names of the file.
fn check(sheet: &mut Sheet<'_>, spec: &JobSpec, at: usize, zone: &ZoneName) {
    let Err(problems) = spec.check(zone) else { return };
    for problem in problems {
        // A field that was given and is wrong was told already; its default must not be told in its place.
        if problem.field == "concurrency_key" && sheet.was_given("max_concurrency") {
            continue;
        }
        let field = field_of(problem.field, sheet);
        sheet.wrong_field(&field, at, &problem.problem);
    }
}

/// The file's name of a field of the specification.
fn field_of(field: &str, sheet: &Sheet<'_>) -> String {
    match field {
        "schedule.expression" => "schedule".to_owned(),
        "schedule.time_zone" => "time_zone".to_owned(),
        "schedule.every_ms" => "schedule.every".to_owned(),
        "schedule.delay_ms" => "schedule.after".to_owned(),
        "schedule.at_ms" => "schedule.once".to_owned(),
        "schedule.anchor_ms" => "schedule.anchor".to_owned(),
        "misfire.max" => "misfire.fire_all".to_owned(),
        "overlap.max" => "overlap.allow".to_owned(),
        "on_orphan.max" => "on_orphan.retry".to_owned(),
        "retry.retries" if sheet.was_given("retries") => "retries".to_owned(),
        // The handler and its parameters are made of the call.
        "params" | "handler" if sheet.was_given("http") => "http".to_owned(),
        "params" | "handler" => "command".to_owned(),
        other => other.strip_suffix("_ms").unwrap_or(other).to_owned(),
    }
}

#[cfg(test)]
mod tests;
