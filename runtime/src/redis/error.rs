//! What can go wrong with Redis, in the terms a caller must decide by: may it have happened, may I try again?

use fred::error::{Error, ErrorKind};

/// A command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// No answer: a time-out, a lost connection, or none there was. Whether the command ran, or still will, is
    /// **unknown**; it may be sent again only if it is idempotent or fenced.
    #[error("redis does not answer: {0}")]
    Unavailable(String),
    /// The server said no (`OOM`, `NOREPLICAS`, `READONLY`, `NOPERM`, an error in a script): it did not run, and
    /// sending it again at once will not help.
    #[error("redis refused: {0}")]
    Rejected(String),
    /// The answer is not of the form expected: the script and its caller do not fit together.
    #[error("unexpected answer from redis: {0}")]
    Protocol(String),
}

impl RedisError {
    /// Whether trying again later can help. Says nothing about whether the command ran.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Returns the code at the head of a refusal, such as `OOM`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Rejected(text) => text.split_whitespace().next(),
            Self::Unavailable(_) | Self::Protocol(_) => None,
        }
    }
}

/// Refusals that pass by themselves: the server loads its data, has no primary, or moves slots.
const PASSING: [&str; 5] = ["LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY"];

impl From<Error> for RedisError {
    fn from(error: Error) -> Self {
        let details = error.details();
        if let Some(code) = server_code(details) {
            return if PASSING.contains(&code) {
                Self::Unavailable(details.to_owned())
            } else {
                Self::Rejected(details.to_owned())
            };
        }
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "whatever the client invents without a word from the server means that there was no answer"
        )]
        match error.kind() {
            ErrorKind::Parse | ErrorKind::Protocol | ErrorKind::NotFound => {
                Self::Protocol(details.to_owned())
            }
            ErrorKind::InvalidArgument | ErrorKind::InvalidCommand => {
                Self::Rejected(details.to_owned())
            }
            _ => Self::Unavailable(details.to_owned()),
        }
    }
}

/// Whether a script that the server does not know was called.
pub(super) fn is_noscript(error: &Error) -> bool {
    error.details().starts_with("NOSCRIPT")
}

/// Errors of the server begin with a word in capitals; those that the client makes up do not.
fn server_code(details: &str) -> Option<&str> {
    let code = details.split_whitespace().next()?;
    let capitals = code.len() >= 2 && code.bytes().all(|b| b.is_ascii_uppercase());
    capitals.then_some(code)
}

/// A connection cannot be made because its options are wrong. A server that is away is no error.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A certificate or key file cannot be used.
    #[error("cannot use the TLS files of redis: {what}")]
    Tls {
        /// Which file, and what is wrong with it.
        what: String,
        /// The reason.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The options contradict each other or the server.
    #[error("{0}")]
    Options(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_never_came_is_told_from_a_refusal() {
        let away = [
            Error::new(ErrorKind::Timeout, "Request timed out."),
            Error::new(ErrorKind::Canceled, "Connection closed unexpectedly."),
            Error::new(ErrorKind::IO, "Connection closed."),
            Error::new(ErrorKind::Unknown, "LOADING Redis is loading the dataset in memory"),
            Error::new(ErrorKind::Cluster, "CLUSTERDOWN The cluster is down"),
        ];
        for error in away {
            assert!(RedisError::from(error.clone()).is_retryable(), "{error}");
        }
        let refused = [
            ("OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
            ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS"),
            ("READONLY You can't write against a read only replica.", "READONLY"),
            ("ERR value is not an integer", "ERR"),
        ];
        for (text, code) in refused {
            let error = RedisError::from(Error::new(ErrorKind::Unknown, text));
            assert!(!error.is_retryable());
            assert_eq!(error.code(), Some(code));
        }
        let garbled = RedisError::from(Error::new(ErrorKind::Parse, "Invalid integer string."));
        assert!(matches!(garbled, RedisError::Protocol(_)));
    }
}
