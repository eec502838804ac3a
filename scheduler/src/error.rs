//! How a job says that it did not succeed.

use std::fmt;

use understudy_runtime::error::chain;

/// Why an attempt did not succeed. Any error becomes one by `?`, and is tried again if the job allows it.
///
/// It is no [`std::error::Error`] itself, so that every error can become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    kind: Kind,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Retryable,
    Final,
    Cancelled,
    Incompatible,
    HandedBack,
}

impl JobError {
    /// It failed; another attempt may succeed.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Retryable, message: message.into() }
    }

    /// It failed, and would fail again: no further attempt.
    #[must_use]
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { kind: Kind::Final, message: message.into() }
    }

    /// It stopped because it was asked to.
    #[must_use]
    pub fn cancelled() -> Self {
        Self { kind: Kind::Cancelled, message: "cancelled".to_owned() }
    }

    /// Its parameters are of another version than the handler: no further attempt.
    #[must_use]
    pub fn incompatible(message: impl Into<String>) -> Self {
        Self { kind: Kind::Incompatible, message: message.into() }
    }

    /// It stopped so that another node goes on with the run, at once and without counting this as a failure.
    pub(crate) fn hand_back(why: impl Into<String>) -> Self {
        Self { kind: Kind::HandedBack, message: why.into() }
    }

    /// Whether it stopped because it was asked to.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.kind == Kind::Cancelled
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns what went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::failed(chain(&error))
    }
}
