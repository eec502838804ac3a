//! Why a schedule is refused.

/// A schedule that cannot be used: the field, and what would be right.
///
/// Its text goes on after the field's name: `schedule.expression` "must not be empty ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ScheduleError {
    field: &'static str,
    problem: String,
}

impl ScheduleError {
    pub(super) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    /// Gives the field as it is called in JSON, such as `schedule.time_zone`.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }
}
