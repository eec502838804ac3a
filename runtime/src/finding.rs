//! What an operator should know or change: a stable code, how bad it is, what it leads to, and what would be right.
//!
//! Services give theirs by [`Service::findings`](crate::service::Service::findings); [`crate::problems`] gathers all of
//! them. A text stays the same as long as its cause does: no numbers in it that change from second to second.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Something that an operator should know or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A stable name, for documents, alerts and tests: `a-z 0-9 _`.
    pub code: Cow<'static, str>,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and what it leads to.
    pub text: Cow<'static, str>,
    /// What would be right, in one line.
    pub fix: Cow<'static, str>,
}

/// How bad something is; the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// It works, but will not when something else goes wrong, or not as well as it could.
    Warning,
    /// Something does not work, or data are in danger.
    Critical,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

impl Finding {
    /// Describes a finding.
    #[must_use]
    pub fn new(
        severity: Severity,
        code: &'static str,
        text: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { code: code.into(), severity, text: text.into(), fix: fix.into() }
    }
}
