//! What the actor does at the store, as its engine decided, and what came of it.

use tracing::warn;

use crate::engine::Step;
use crate::handle::Shard;
use crate::record::{Locator, Token};
use crate::store::{
    ClaimReply, RestoreReply, RevokeReply, StoreError, ValidateReply, Write, WriteReply,
};

/// What came of a step.
pub(super) enum Came {
    Claim(Token, Result<ClaimReply, StoreError>),
    Write(Result<WriteReply, StoreError>),
    Validate(Result<ValidateReply, StoreError>),
    Restore(Result<RestoreReply, StoreError>),
    Revoke(Result<RevokeReply, StoreError>),
}

/// Does at the store what the engine decided. Bounded by the store's own time-out.
pub(super) async fn carry_out(shard: &Shard, locator: Locator, step: Step) -> Came {
    let store = &shard.store;
    match step {
        Step::Claim { token, known_version } => {
            let reply = store.claim(locator, &token, known_version).await;
            Came::Claim(token, reply)
        }
        Step::Write { held, op_id, change, after } => {
            let write = Write {
                locator,
                fence: &held.fence,
                base_version: held.version,
                op_id,
                change: &change,
                after: &after,
            };
            Came::Write(store.write(write).await)
        }
        Step::Validate(held) => {
            Came::Validate(store.validate(locator, &held.fence, held.version).await)
        }
        Step::Restore(record) => Came::Restore(store.restore(locator, &record).await),
        Step::Revoke(end) => Came::Revoke(store.revoke(locator, end).await),
        Step::Rest | Step::Wait(_) | Step::Forward { .. } => {
            unreachable!("only steps at the store are carried out here")
        }
    }
}

/// A store that is away is told to every request; here only what an operator must look at is logged.
pub(super) fn log_failure(step: &'static str, error: Option<&StoreError>) {
    match error {
        None => {}
        Some(StoreError::Unavailable(reason)) => {
            tracing::debug!(step, reason, "session store did not answer")
        }
        Some(error @ (StoreError::Refused(_) | StoreError::Unreadable(_))) => {
            if matches!(error, StoreError::Unreadable(_)) {
                metrics::counter!("session_unreadable_total").increment(1);
            }
            warn!(step, error = %error, "session step failed");
        }
    }
}
