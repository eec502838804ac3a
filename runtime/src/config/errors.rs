//! What is wrong with the configuration, all of it at once.

use std::fmt;

/// Everything that is wrong with the configuration. Shown as one line per mistake, by variable, without any value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The name by which the operator knows the option.
    pub(super) variable: String,
    /// What is wrong and what would be right.
    pub(super) text: String,
}

impl ConfigErrors {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Returns each variable with what is wrong about it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.problems.iter().map(|problem| (problem.variable.as_str(), problem.text.as_str()))
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Problem { variable, text }) in self.problems.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{variable}: {text}")?;
        }
        Ok(())
    }
}
