//! Whether a specification makes sense; every mistake names its field.

use std::time::Duration;

use super::{JobSpec, Misfire, OnOrphan, Overlap, Placement, Schedule};
use crate::schedule::{Timetable, ZoneName};

/// Longest text of a description, a handler's name or a key, bytes.
const MAX_TEXT: usize = 1_000;
/// Largest parameters, bytes of JSON.
const MAX_PARAMS: usize = 1 << 20;
/// Most labels, and most jobs in one chain.
const MAX_LIST: usize = 100;
/// Most durations a job may ask for: a hundred years, so that no sum of times overflows.
const MAX_DURATION: Duration = Duration::from_secs(100 * 366 * 86_400);

/// One mistake in a specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct SpecError {
    /// The field, as in JSON: `retry.delay_ms`.
    pub field: &'static str,
    /// What is wrong and what would be right; goes on after the field's name.
    pub problem: String,
}

impl SpecError {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

impl JobSpec {
    /// Checks everything that can be told without a database or a handler: the expression, the zone, that it is ever due,
    /// the ranges of all numbers, the parameters against their schema.
    ///
    /// `zone` is the time zone of cron expressions that name none.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn check(&self, zone: &ZoneName) -> Result<Timetable, Vec<SpecError>> {
        let mut errors = Vec::new();
        self.check_texts(&mut errors);
        self.check_numbers(&mut errors);
        self.check_combinations(&mut errors);
        // A job that is only started by hand, or from the queue, may be given its parameters each time.
        let given_later = self.params.is_null() && self.schedule == Schedule::Manual;
        let params = if given_later {
            self.params_validator().map(|_| ())
        } else {
            self.check_params(&self.params)
        };
        if let Err(error) = params {
            errors.push(error);
        }
        let timetable = Timetable::parse(&self.schedule, zone)
            .map_err(|error| errors.push(SpecError::new(error.field(), error.to_string())));
        match timetable {
            Ok(timetable) if errors.is_empty() => Ok(timetable),
            Ok(_) | Err(()) => Err(errors),
        }
    }

    /// Checks parameters against the schema, if there is one.
    ///
    /// # Errors
    /// [`SpecError`] with the place in the parameters, never with their values.
    pub fn check_params(&self, params: &serde_json::Value) -> Result<(), SpecError> {
        let length = serde_json::to_string(params).map_or(0, |json| json.len());
        if length > MAX_PARAMS {
            return Err(SpecError::new("params", format!("must be at most {MAX_PARAMS} bytes")));
        }
        let Some(validator) = self.params_validator()? else { return Ok(()) };
        let Some(error) = validator.iter_errors(params).next() else { return Ok(()) };
        let (place, rule) = (error.instance_path().to_string(), error.schema_path().to_string());
        let place = if place.is_empty() { "/".to_owned() } else { place };
        Err(SpecError::new(
            "params",
            format!("breaks the rule `{rule}` of the schema at `{place}`"),
        ))
    }

    /// Reads the schema, if there is one.
    fn params_validator(&self) -> Result<Option<jsonschema::Validator>, SpecError> {
        let Some(schema) = &self.params_schema else { return Ok(None) };
        jsonschema::validator_for(schema).map(Some).map_err(|error| {
            let place = error.instance_path().to_string();
            SpecError::new("params_schema", format!("is not a JSON schema (at `{place}`)"))
        })
    }

    fn check_texts(&self, errors: &mut Vec<SpecError>) {
        let mut text = |field, text: &str, empty_is_fine: bool| {
            if text.len() > MAX_TEXT || text.chars().any(|c| c.is_control() && c != '\n') {
                let limit = format!("must be at most {MAX_TEXT} bytes without control characters");
                errors.push(SpecError::new(field, limit));
            } else if text.is_empty() && !empty_is_fine {
                errors.push(SpecError::new(field, "must not be empty"));
            }
        };
        text("handler", &self.handler, false);
        text("description", &self.description, true);
        if let Some(key) = &self.concurrency_key {
            text("concurrency_key", key, false);
        }
        for (key, value) in &self.labels {
            text("labels", key, false);
            text("labels", value, true);
        }
    }

    fn check_numbers(&self, errors: &mut Vec<SpecError>) {
        let mut demand = |holds: bool, field, problem: &str| {
            if !holds {
                errors.push(SpecError::new(field, problem));
            }
        };
        let sane = |duration: Duration| duration <= MAX_DURATION;
        let positive = |duration: Duration| !duration.is_zero() && sane(duration);
        demand(
            self.timeout.is_none_or(positive),
            "timeout_ms",
            "must be more than 0 and less than 100 years",
        );
        demand(
            self.misfire_grace.is_none_or(sane),
            "misfire_grace_ms",
            "must be less than 100 years",
        );
        demand(sane(self.jitter), "jitter_ms", "must be less than 100 years");
        demand(sane(self.retry.delay), "retry.delay_ms", "must be less than 100 years");
        demand(sane(self.retry.max_delay), "retry.max_delay_ms", "must be less than 100 years");
        demand(self.retry.jitter_percent <= 100, "retry.jitter_percent", "must be 0 to 100");
        demand(self.retry.retries <= 1_000, "retry.retries", "must be 0 to 1000");
        demand((-100..=100).contains(&self.priority), "priority", "must be -100 to 100");
        let limit = self.max_concurrency.is_none_or(|max| (1..=100_000).contains(&max));
        demand(limit, "max_concurrency", "must be 1 to 100000");
        demand(self.labels.len() <= MAX_LIST, "labels", "must be at most 100");
        demand(self.then.len() <= MAX_LIST, "then", "must name at most 100 jobs");
        if let Misfire::FireAll { max } = self.misfire {
            demand((1..=1_000).contains(&max), "misfire.max", "must be 1 to 1000");
        }
        if let Overlap::Allow { max } = self.overlap {
            demand((1..=10_000).contains(&max), "overlap.max", "must be 1 to 10000");
        }
        if let OnOrphan::Retry { max } = self.on_orphan {
            demand((1..=1_000).contains(&max), "on_orphan.max", "must be 1 to 1000");
        }
    }

    fn check_combinations(&self, errors: &mut Vec<SpecError>) {
        let mut refuse = |wrong: bool, field, problem: &str| {
            if wrong {
                errors.push(SpecError::new(field, problem));
            }
        };
        let every = self.placement == Placement::Every;
        refuse(
            self.concurrency_key.is_some() && self.max_concurrency.is_none(),
            "concurrency_key",
            "needs max_concurrency: how many may run at once",
        );
        refuse(every && !self.then.is_empty(), "then", "does not go with placement `every`");
        refuse(
            every && matches!(self.schedule, Schedule::Once { .. }),
            "placement",
            "`every` does not go with a schedule of kind `once`: nodes that join later would start it late",
        );
        refuse(
            self.then.contains(&self.name),
            "then",
            "must not name the job itself: use a schedule of kind `after`",
        );
        refuse(self.name.is_system() && !self.system, "name", "must not begin with `system.`");
    }
}
