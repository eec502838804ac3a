//! A value that may be given past its life, and says so.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// A value as [`get_or_stale`](super::Cache::get_or_stale) gives it: one that lives, or a stale one that says how old it is.
#[derive(Debug)]
pub struct Given<V> {
    value: Arc<V>,
    age: Option<Duration>,
}

impl<V> Given<V> {
    pub(super) fn living(value: Arc<V>) -> Self {
        Self { value, age: None }
    }

    pub(super) fn stale(value: Arc<V>, age: Duration) -> Self {
        Self { value, age: Some(age) }
    }

    /// Returns how long ago a stale value was loaded, at most; `None` for one that lives.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// Says whether its life is over: it may have changed since without that anybody said so.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.age.is_some()
    }

    /// Returns the value.
    #[must_use]
    pub fn into_value(self) -> Arc<V> {
        self.value
    }
}

impl<V> Clone for Given<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), age: self.age }
    }
}

impl<V> Deref for Given<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}
