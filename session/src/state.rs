//! What operations do to a session, without I/O.

use serde::{Deserialize, Serialize};

/// What an operation answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done; nothing to tell.
    Done,
    /// Whether something was there.
    Flag(bool),
    /// The new number.
    Number(i64),
    /// The new length.
    Length(u64),
    /// The attribute is not what the operation needs; nothing was changed.
    Rejected(Rejection),
}

/// Why an operation changed nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The attribute holds another kind of value, or the number would overflow.
    WrongType,
    /// The attribute is not what the caller saw: run the update again.
    Changed,
    /// The attribute or the session would become too large.
    TooLarge,
    /// The old secret in the request is not the current one any more.
    StaleSecret,
}
