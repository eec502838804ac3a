//! How errors are printed.
//!
//! Each error says what failed and leaves the reason to its source; whoever prints it, once, prints the chain.

use std::error::Error;

/// Writes an error and its causes as one line, `what failed: because of this: because of that`.
///
/// Libraries that repeat their cause in their own text are heard once only.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot renew the lease")]
    struct Renew(#[source] Connection);

    #[derive(Debug, thiserror::Error)]
    #[error("connection lost: reset by peer")]
    struct Connection(#[source] Reset);

    #[derive(Debug, thiserror::Error)]
    #[error("reset by peer")]
    struct Reset;

    #[test]
    fn a_chain_names_each_cause_once() {
        assert_eq!(chain(&Reset), "reset by peer");
        assert_eq!(
            chain(&Renew(Connection(Reset))),
            "cannot renew the lease: connection lost: reset by peer"
        );
    }
}
