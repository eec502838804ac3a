//! Why a command did not do what it was to do, and with which status the process then ends.

use std::io;

use super::problem::Problem;

/// The exit statuses, each with its meaning; the help and `docs/cli.md` list them.
pub(super) const STATUSES: &[(u8, &str)] = &[
    (0, "done"),
    (1, "the cluster said no, or what was waited for went wrong; doctor: warnings"),
    (2, "doctor: something is critical"),
    (64, "the command line is wrong"),
    (69, "no node can be reached there"),
    (74, "the output cannot be written"),
    (77, "not allowed: no token, a wrong one, or one that allows less"),
    (78, "an option or a file for the command line or the node is wrong"),
    (130, "interrupted, or you said no: nothing was done, or it goes on in the cluster"),
];

const REFUSED: u8 = 1;
const USAGE: u8 = 64;
const UNREACHABLE: u8 = 69;
const OUTPUT: u8 = 74;
const NOT_ALLOWED: u8 = 77;
const CONFIGURATION: u8 = 78;
const INTERRUPTED: u8 = 130;

/// Why a command failed. Each text is complete; what could be done about it is in [`Failure::advice`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The command line does not make sense.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers, or somebody who is no node.
    #[error("{url}: {why}")]
    Unreachable {
        /// Where the node should be.
        url: String,
        why: String,
    },
    /// The node answered with a problem.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// What was waited for did not come, or came to nothing.
    #[error("{0}")]
    CameToNothing(String),
    /// Something that the command needs from its surroundings is wrong.
    #[error("{0}")]
    Configuration(String),
    /// A person said no, or pressed Ctrl-C.
    #[error("{0}")]
    Interrupted(String),
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
    /// Whoever reads the output has seen enough: that is no failure.
    #[error("the output is closed")]
    Closed,
}

impl Failure {
    /// Returns the exit status.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Unreachable { .. } => UNREACHABLE,
            Self::Refused(problem) if matches!(problem.status, 401 | 403) => NOT_ALLOWED,
            Self::Refused(_) | Self::CameToNothing(_) => REFUSED,
            Self::Configuration(_) => CONFIGURATION,
            Self::Interrupted(_) => INTERRUPTED,
            Self::Output(_) => OUTPUT,
            Self::Closed => 0,
        }
    }

    /// Returns what could be done about it.
    pub(super) fn advice(&self) -> Option<String> {
        match self {
            Self::Refused(problem) => problem.advice(),
            Self::Unreachable { .. } => Some(
                "is a node running there? --url or UNDERSTUDY_ADMIN_URL says where its admin port is".to_owned(),
            ),
            Self::Usage(_)
            | Self::CameToNothing(_)
            | Self::Configuration(_)
            | Self::Interrupted(_)
            | Self::Output(_)
            | Self::Closed => None,
        }
    }

    /// Returns whether the same request may succeed soon.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(problem) => problem.status >= 500,
            Self::Usage(_)
            | Self::CameToNothing(_)
            | Self::Configuration(_)
            | Self::Interrupted(_)
            | Self::Output(_)
            | Self::Closed => false,
        }
    }

    /// Returns whether the same request may succeed soon, where one with the same token has succeeded before: a node that
    /// has just begun does not know the tokens in the database until it has read them.
    pub(super) fn may_pass_again(&self) -> bool {
        let is_unknown = matches!(self, Self::Refused(problem) if problem.status == 401);
        is_unknown || self.may_pass()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Output(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_worth_waiting_for() {
        let refused = |status| Failure::Refused(Box::new(Problem::for_test(status, "x")));
        for (status, at_first, later) in
            [(503, true, true), (401, false, true), (403, false, false), (404, false, false)]
        {
            let failure = refused(status);
            assert_eq!((failure.may_pass(), failure.may_pass_again()), (at_first, later));
        }
        let away = Failure::Unreachable { url: String::new(), why: String::new() };
        assert!(away.may_pass() && away.may_pass_again());
    }

    #[test]
    fn every_failure_has_a_status_that_is_listed() {
        let refused = |status| Failure::Refused(Box::new(Problem::for_test(status, "x")));
        for (failure, status) in [
            (Failure::Usage(String::new()), 64),
            (Failure::Unreachable { url: String::new(), why: String::new() }, 69),
            (refused(404), 1),
            (refused(503), 1),
            (refused(401), 77),
            (refused(403), 77),
            (Failure::CameToNothing(String::new()), 1),
            (Failure::Configuration(String::new()), 78),
            (Failure::Interrupted(String::new()), 130),
            (io::Error::from(io::ErrorKind::StorageFull).into(), 74),
            (io::Error::from(io::ErrorKind::BrokenPipe).into(), 0),
        ] {
            assert_eq!(failure.status(), status, "{failure:?}");
            assert!(STATUSES.iter().any(|(listed, _)| *listed == status), "{failure:?}");
        }
    }
}
