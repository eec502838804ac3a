//! What can go wrong with the cache, by what was asked of it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::region::LONGEST_KEY;
use crate::redis::RedisError;

/// A value cannot be given. That the cache itself is away is no error: values are loaded then.
#[derive(Debug, Clone)]
pub enum CacheError<E> {
    /// The key is empty or too long.
    BadKey(BadKey),
    /// Loading it failed, here or for somebody else who asked at the same time.
    Load(Arc<E>),
    /// Loading it took longer than the region allows; it may go on.
    TooLong(Duration),
    /// Loading it ended without a result: it panicked, or the node stops.
    Lost,
}

impl<E> fmt::Display for CacheError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadKey(bad) => fmt::Display::fmt(bad, f),
            Self::Load(_) => f.write_str("the value could not be loaded"),
            Self::Lost => f.write_str("loading the value ended without a result"),
            Self::TooLong(limit) => {
                write!(f, "the value was not loaded within {} ms", limit.as_millis())
            }
        }
    }
}

impl<E: Error + 'static> Error for CacheError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Load(error) => Some(&**error),
            Self::BadKey(_) | Self::TooLong(_) | Self::Lost => None,
        }
    }
}

/// A key is empty, or longer than [`LONGEST_KEY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key of a cached value has 1 to {} bytes, not {bytes}", LONGEST_KEY)]
pub struct BadKey {
    /// How many it has.
    pub bytes: usize,
}

/// A value could not be forgotten on all nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// The key is empty or too long.
    #[error(transparent)]
    BadKey(#[from] BadKey),
    /// Redis does not answer, or refuses. This node has forgotten it; others show it for as long as it lives unless this is
    /// tried again, which may be done as often as one likes.
    #[error("the other nodes could not be told to forget")]
    Untold(#[source] RedisError),
}

impl ForgetError {
    /// Whether trying again can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Untold(_))
    }
}

/// A change around which a value is forgotten did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// It was not begun, since the other nodes could not be told first. Where it is unknown whether they were, nobody keeps the value
    /// until they are told that it is over, for [`HOLD`](super::HOLD) at most.
    #[error("the change was not begun")]
    NotBegun(#[source] ForgetError),
    /// It failed.
    #[error("the change failed")]
    Failed(E),
    /// It took too long and was given up: **whether it was made is unknown**.
    #[error("the change took too long; whether it was made is unknown")]
    TooLong,
}

/// A region cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("region {region} was opened before, with other options or for values of another type")]
pub struct OpenError {
    /// Its name.
    pub region: &'static str,
}
