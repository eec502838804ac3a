//! The lease of a node that shares its store with nobody: whoever asks has it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;

use super::{Acquire, Held, LeaderLease, LeaderLeaseError, LeaseValue, Renewal};

/// A lease that is always won. Only for a process that holds the lock of the data directory, so that it is alone.
#[derive(Debug, Default)]
pub struct SingleLease {
    /// Kept only so that it can be shown, and released once.
    value: ArcSwapOption<LeaseValue>,
}

impl SingleLease {
    /// Makes a lease that nobody has yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl LeaderLease for SingleLease {
    async fn acquire(
        &self,
        value: &LeaseValue,
        _ttl: Duration,
    ) -> Result<Acquire, LeaderLeaseError> {
        self.value.store(Some(Arc::new(value.clone())));
        Ok(Acquire::Won)
    }

    async fn peek(&self) -> Result<Option<Held>, LeaderLeaseError> {
        let value = self.value.load_full();
        Ok(value.map(|value| Held { holder: Some(LeaseValue::clone(&value)), remaining: None }))
    }

    async fn renew(&self, value: &LeaseValue, _ttl: Duration) -> Result<Renewal, LeaderLeaseError> {
        match self.value.load_full() {
            Some(held) if *held == *value => Ok(Renewal::Renewed),
            Some(held) => Ok(Renewal::Lost { holder: Some(LeaseValue::clone(&held)) }),
            None => {
                self.value.store(Some(Arc::new(value.clone())));
                Ok(Renewal::Reasserted)
            }
        }
    }

    async fn release(&self, value: &LeaseValue) -> Result<bool, LeaderLeaseError> {
        let held = self.value.load();
        if held.as_deref() != Some(value) {
            return Ok(false);
        }
        // Of two that release the same term, one finds it gone.
        let before = self.value.compare_and_swap(&*held, None);
        Ok(before.as_deref() == Some(value))
    }
}
