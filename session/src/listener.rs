//! The application's callbacks, in one form: bounded in time, and a panic is a failure like any other.

use std::fmt::{self, Display};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

/// How long a callback may take for one event; after that it failed.
pub const CALLBACK_LIMIT: Duration = Duration::from_secs(10);

/// What a callback may return: `()`, or a `Result` whose error says why it must be called again.
pub trait Heard {
    /// Turns it into one form.
    ///
    /// # Errors
    /// Why the callback must be called again.
    fn heard(self) -> Result<(), String>;
}

impl Heard for () {
    fn heard(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> Heard for Result<(), E> {
    fn heard(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

type Tell<T> = dyn Fn(T) -> BoxFuture<'static, Result<(), String>> + Send + Sync;

/// A callback for events of one kind.
pub struct Listener<T>(Arc<Tell<T>>);

impl<T: 'static> Listener<T> {
    /// Takes a callback.
    pub fn new<F, Fut>(tell: F) -> Self
    where
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Heard> + Send + 'static,
    {
        Self(Arc::new(move |event| {
            let told = tell(event);
            Box::pin(async move { told.await.heard() })
        }))
    }

    /// Calls it, for so long at most.
    pub(crate) async fn tell(&self, event: T) -> Result<(), String> {
        let call = AssertUnwindSafe(async { (self.0)(event).await }).catch_unwind();
        match timeout(CALLBACK_LIMIT, call).await {
            Ok(Ok(heard)) => heard,
            Ok(Err(_panic)) => Err("it panicked".to_owned()),
            Err(_elapsed) => Err(format!("no answer within {} s", CALLBACK_LIMIT.as_secs())),
        }
    }
}

impl<T> Clone for Listener<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Listener<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
