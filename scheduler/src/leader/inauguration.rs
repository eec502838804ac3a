//! The seam to the database that counts terms.

use std::fmt;

use async_trait::async_trait;
use understudy_runtime::database::DatabaseError;
use understudy_runtime::ids::NodeId;

/// Counts the terms of leaders, in the database that also checks each claim.
#[async_trait]
pub trait Inauguration: Send + Sync + fmt::Debug + 'static {
    /// Begins a term: returns its epoch, which is greater than all before, and makes every claim in an earlier epoch
    /// fail from now on. Asked again with the same `lease_value`, as after a lost answer, it should return the same
    /// epoch as long as no other term began.
    ///
    /// # Errors
    /// [`InaugurationError`]; after a retryable one the term may have begun.
    async fn inaugurate(&self, node: &NodeId, lease_value: &str) -> Result<u64, InaugurationError>;

    /// Notes when and why a term ended. Only for those who read the history: nothing depends on it.
    ///
    /// # Errors
    /// [`InaugurationError`]; then the history lacks an end.
    async fn end_term(&self, epoch: u64, reason: &str) -> Result<(), InaugurationError>;
}

/// The database did not count a term.
#[derive(Debug, thiserror::Error)]
#[error("the database did not count the leader's term")]
pub struct InaugurationError(#[from] DatabaseError);

impl InaugurationError {
    /// Whether trying again later can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.is_retryable()
    }
}
