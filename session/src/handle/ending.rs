//! Ending sessions from outside, however many, so that it counts on every node.
//!
//! Three steps, each of which may be done again:
//!
//! 1. The store puts a tombstone in place of each session. An end is not fenced: it always wins. From here on no node but
//!    the owner shows the session, because all others ask the store.
//! 2. The owner is told over the bus, and shows nothing from then on ([`Cell::end`](crate::resident::Cell::end)); what it has
//!    under way is refused by the store.
//! 3. An owner that does not answer is waited for until the store says that its lease is over: then it shows nothing
//!    either, since it answers from memory only under its lease. So with an owner that was stopped (SIGSTOP) this takes one
//!    time to live of a node at most.
//!
//! When the node that does this dies in between, the tombstone stands, and doing it again finishes it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};
use understudy_runtime::bus::{BusError, BusRequest};
use understudy_runtime::ids::NodeId;

use super::SessionHandle;
use crate::forward::Forward;
use crate::record::{Locator, Token};
use crate::store::{End, RevokeReply, StoreError};

/// How many sessions are ended at the store at a time: enough to fill the connection.
const AT_A_TIME: usize = 64;
/// Most sessions that one message to an owner names.
const TOLD_AT_ONCE: usize = 1_000;
/// How long an owner gets to answer before the store is asked whether its lease is over.
const ANSWER: Duration = Duration::from_millis(500);
/// How soon an owner that did not answer is told again.
const AGAIN: Duration = Duration::from_millis(50);
/// How much longer than a lease an owner is waited for that lives and does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells the owner that sessions were ended at the store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndedMessage {
    locators: Vec<Locator>,
}

impl BusRequest for EndedMessage {
    const NAME: &'static str = "session.ended";
    type Reply = ();
}

/// Does what [`EndedMessage`] asks for.
pub(crate) async fn serve_ends(handle: SessionHandle, message: EndedMessage) {
    handle.hear_ends(&message.locators);
}

/// Why it is not sure that sessions are over on every node.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// The store did not take the end of some of them.
    #[error("sessions cannot be ended at the store")]
    Store(#[source] StoreError),
    /// They are over at the store. These nodes live, own some of them and did not answer; they may show them until they
    /// do, or next look at the store.
    #[error("sessions are over, but their owners did not say that they know")]
    Unconfirmed(Vec<NodeId>),
}

/// Sessions that were ended, by the node that owned them.
type Owned = BTreeMap<NodeId, Vec<Locator>>;

impl SessionHandle {
    /// Ends sessions on every node. When it returns without an error, no request that is sent afterwards can use any of
    /// them. Those that are over already are no error.
    ///
    /// # Errors
    /// [`EndError`]; it can be done again.
    pub async fn end(&self, locators: &[Locator]) -> Result<(), EndError> {
        let mut owned = self.end_at_store(locators).await?;
        self.hear_ends(locators);
        owned.remove(&self.0.node_id);
        let until = self.0.clock.now() + self.0.lease_ttl + PATIENCE;
        loop {
            owned = self.tell_owners(owned).await?;
            if owned.is_empty() {
                return Ok(());
            }
            if self.0.clock.now() >= until {
                return Err(EndError::Unconfirmed(owned.into_keys().collect()));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Puts a tombstone in place of each; gives those that somebody owned.
    async fn end_at_store(&self, locators: &[Locator]) -> Result<Owned, EndError> {
        let ends = locators.iter().map(|locator| async {
            let owner = self.end_one_at_store(*locator).await?;
            Ok((owner.as_ref().and_then(Token::node), *locator))
        });
        let mut ends = stream::iter(ends.collect::<Vec<_>>()).buffer_unordered(AT_A_TIME);
        let (mut owned, mut failed) = (Owned::new(), None);
        while let Some(ended) = ends.next().await {
            match ended {
                Ok((Some(node), locator)) => owned.entry(node).or_default().push(locator),
                Ok((None, _)) => {}
                // The others are ended all the same.
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(owned), |error| Err(EndError::Store(error)))
    }

    async fn end_one_at_store(&self, locator: Locator) -> Result<Option<Token>, StoreError> {
        let began = self.0.clock.now();
        loop {
            let sent_at = self.0.clock.now();
            match self.store(locator).revoke(locator, End::Asked).await {
                Ok(RevokeReply::Revoked { owner }) => return Ok(owner),
                Ok(RevokeReply::Missing) => return Ok(None),
                Err(error @ StoreError::Unavailable(_)) => {
                    self.outlast(sent_at, began).await.map_err(|_too_late| error)?;
                }
                Err(error @ (StoreError::Refused(_) | StoreError::Unreadable(_))) => {
                    return Err(error);
                }
            }
        }
    }

    /// Tells each owner; gives those that did not answer and whose lease is not over.
    async fn tell_owners(&self, owned: Owned) -> Result<Owned, EndError> {
        let told = owned.iter().map(|(node, locators)| self.tell_owner(node, locators));
        let told = join_all(told.collect::<Vec<_>>()).await;
        let silent = owned.into_iter().zip(told).filter(|(_, told)| !told);
        let mut left = Owned::new();
        for ((node, locators), _) in silent {
            let held = self.still_held(&node, &locators).await.map_err(EndError::Store)?;
            if !held.is_empty() {
                left.insert(node, held);
            }
        }
        Ok(left)
    }

    /// Tells an owner; says whether it heard of all.
    async fn tell_owner(&self, node: &NodeId, locators: &[Locator]) -> bool {
        for some in locators.chunks(TOLD_AT_ONCE) {
            let message = EndedMessage { locators: some.to_vec() };
            match self.0.bus.request(node, &message, ANSWER).await {
                Ok(()) => {}
                Err(BusError::NoHandler) if self.tell_elder(node, some).await => {}
                Err(error) => {
                    tracing::debug!(owner = %node, %error, "owner of ended sessions did not answer");
                    return false;
                }
            }
        }
        true
    }

    /// Tells an owner of an older version, which does not know the message: it is asked to end each session itself.
    async fn tell_elder(&self, node: &NodeId, locators: &[Locator]) -> bool {
        let tell = |locator: &Locator| {
            let forward = Forward::end(*locator, ANSWER);
            async move {
                let answer = self.0.bus.request(node, &forward, ANSWER).await;
                answer.is_ok_and(|answer| answer.is_over())
            }
        };
        let told = stream::iter(locators).map(tell).buffer_unordered(AT_A_TIME);
        told.all(async |told| told).await
    }

    /// Of sessions that `node` owned, gives those that it may still show: its lease is not over. One of each bucket tells
    /// for all.
    async fn still_held(
        &self,
        node: &NodeId,
        locators: &[Locator],
    ) -> Result<Vec<Locator>, StoreError> {
        let mut buckets: BTreeMap<u16, Vec<Locator>> = BTreeMap::new();
        for locator in locators {
            let bucket = self.0.keys.bucket_of(locator.as_bytes());
            buckets.entry(bucket.0).or_default().push(*locator);
        }
        let mut held = Vec::new();
        for some in buckets.into_values() {
            let Some(first) = some.first() else { continue };
            let still = self.store(*first).still_held(*first).await?;
            if still.is_some_and(|still| still.node == *node) {
                held.extend(some);
            }
        }
        Ok(held)
    }

    /// Shows nothing of these sessions from now on: they were ended at the store.
    pub(crate) fn hear_ends(&self, locators: &[Locator]) {
        for locator in locators {
            // First this: whoever is just putting it in looks for it after there is an actor.
            self.0.beginning.remove(locator);
            if let Some(resident) = self.0.residents.get(locator) {
                resident.cell.end();
            }
        }
    }
}
