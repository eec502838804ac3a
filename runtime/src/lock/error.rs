//! What can go wrong with a lock, for applications and, through them, for clients.

use std::time::Duration;

use actix_web::http::StatusCode;
use sea_orm::DbErr;

use crate::database::DatabaseError;
use crate::http::problem::{ApiError, Problem};

/// Why a lock could not be acquired, or is not one's own any more.
///
/// As a response it is a problem document with a stable `code`.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The name will not do.
    #[error("the name of a lock has 1 to 200 characters, none of them a control character")]
    BadName,
    /// The time to live will not do.
    #[error("the ttl of a lock is 500 ms to 24 h, not {} ms", .given.as_millis())]
    BadTtl {
        /// What was asked for.
        given: Duration,
    },
    /// Others had the lock for as long as the caller wanted to wait.
    #[error("the lock `{name}` is held by others")]
    Busy {
        /// Its name.
        name: String,
        /// The node that held it last, if it was asked.
        node: Option<String>,
    },
    /// The lock is not the caller's any more: it was not extended in time, or an operator took it away.
    #[error("the lock `{name}` was lost")]
    Lost {
        /// Its name.
        name: String,
    },
    /// The database is away or refuses.
    #[error("the lock's state could not be read or written")]
    Store(#[source] DatabaseError),
}

impl LockError {
    /// Says whether the same call may succeed a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Lost { .. } => true,
            Self::Store(error) => error.is_retryable(),
            Self::BadName | Self::BadTtl { .. } => false,
        }
    }
}

impl From<DatabaseError> for LockError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error)
    }
}

/// So that [`guard`](super::ClusterLock::guard) can be followed by `?` in the work of
/// [`Database::transaction`](crate::database::Database::transaction), which it then rolls back.
impl From<LockError> for DbErr {
    fn from(error: LockError) -> Self {
        Self::Custom(crate::error::chain(&error))
    }
}

impl ApiError for LockError {
    fn problem(&self) -> Problem {
        let (status, code) = match self {
            Self::BadName => (StatusCode::UNPROCESSABLE_ENTITY, "lock_bad_name"),
            Self::BadTtl { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "lock_bad_ttl"),
            Self::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "lock_busy"),
            Self::Lost { .. } => (StatusCode::CONFLICT, "lock_lost"),
            Self::Store(error) if error.is_retryable() => {
                (StatusCode::SERVICE_UNAVAILABLE, "lock_store_unavailable")
            }
            Self::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "lock_store_refuses"),
        };
        let problem = Problem::new(status, code, self.to_string());
        if self.is_retryable() { problem.with_retry_after(Duration::from_secs(1)) } else { problem }
    }
}

crate::answer_with_problem!(LockError);
