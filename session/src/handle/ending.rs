//! Ending sessions from outside, however many, so that it counts on every node.
//!
//! Three steps, each of which may be done again:
//!
//! 1. The store puts a tombstone in place of each session. An end is not fenced: it always wins. From here on no node but
//!    the owner shows the session, because all others ask the store. What the store lost and its owner may yet put back gets
//!    a tombstone too, so that it cannot.
//! 2. The owner is told over the bus, and shows nothing from then on ([`Cell::end`](crate::resident::Cell::end)); what it has
//!    under way is refused by the store.
//! 3. An owner that does not answer is waited for until the store says that its lease is over: then it shows nothing
//!    either, since it answers from memory only under its lease. So with an owner that was stopped (SIGSTOP) this takes one
//!    time to live of a node at most.
//!
//! When the node that does this dies in between, the tombstone stands, and doing it again finishes it. Of many sessions each
//! goes its way: one that cannot be ended holds none of the others up, and is told of at the end ([`Ends`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;
use understudy_runtime::bus::{BusError, BusRequest};
use understudy_runtime::ids::NodeId;

use super::SessionHandle;
use crate::forward::Forward;
use crate::realtime::Topic;
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

/// Carries `work` out in a task of its own: a client that leaves takes its request along, and half of an end, with an owner
/// that was not told or a place that stays condemned, is what nobody wanted.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, EndError>> + Send + 'static,
) -> Result<T, EndError> {
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(|lost| {
        let lost = format!("the task that ends sessions was lost: {lost}");
        Err(EndError::Store(StoreError::Unavailable(lost)))
    })
}

/// Sessions that were ended, by the node that owned them.
type Owned = BTreeMap<NodeId, Vec<Locator>>;

/// What came of ending sessions, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Over at the store; these owners do not know yet.
    untold: Owned,
    /// The store had none of these. After it lost what it knew, somebody may have a copy, who knows whom.
    missing: Vec<Locator>,
    /// The store did not take the end of these.
    failed: BTreeSet<Locator>,
    /// Why.
    error: Option<StoreError>,
}

impl Ends {
    /// Takes in what the store answered.
    fn take_in(&mut self, locator: Locator, reply: Result<RevokeReply, StoreError>) {
        match reply {
            Ok(RevokeReply::Revoked { owner }) => {
                if let Some(node) = owner.as_ref().and_then(Token::node) {
                    self.untold.entry(node).or_default().push(locator);
                }
            }
            Ok(RevokeReply::Missing) => self.missing.push(locator),
            Err(error) => {
                self.failed.insert(locator);
                // What cannot be read may stay so; whoever does it again must hear of what may pass.
                let milder = |known: &StoreError| matches!(known, StoreError::Unreadable(_));
                if self.error.as_ref().is_none_or(milder) {
                    self.error = Some(error);
                }
            }
        }
    }

    /// Gives those that may still be shown somewhere.
    pub(crate) fn left(&self) -> BTreeSet<Locator> {
        self.untold.values().flatten().chain(&self.failed).copied().collect()
    }

    /// Says how many the store did not end.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.len() as u64
    }

    /// Says what went wrong, if anything did.
    pub(crate) fn result(self) -> Result<(), EndError> {
        match self.error {
            Some(error) => Err(EndError::Store(error)),
            None if self.untold.is_empty() => Ok(()),
            None => Err(EndError::Unconfirmed(self.untold.into_keys().collect())),
        }
    }
}

impl SessionHandle {
    /// Ends sessions on every node. When it returns without an error, no request that is sent afterwards can use any of
    /// them. Those that are over already are no error. Goes on to its end when the future is dropped.
    ///
    /// # Errors
    /// [`EndError`], after all that can be ended were; it can be done again.
    pub async fn end(&self, locators: &[Locator]) -> Result<(), EndError> {
        let (handle, locators) = (self.clone(), locators.to_vec());
        to_its_end(async move {
            let mut ends = handle.end_at_store(&locators, End::Ordered).await;
            handle.tell_owners(&mut ends).await;
            ends.result()
        })
        .await
    }

    /// Puts a tombstone in place of each, and notes why. This node shows nothing of them from then on; other owners do not know.
    pub(crate) async fn end_at_store(&self, locators: &[Locator], end: End) -> Ends {
        let replies = locators
            .iter()
            .map(|locator| async move { (*locator, self.end_one_at_store(*locator, end).await) });
        let mut replies = stream::iter(replies.collect::<Vec<_>>()).buffer_unordered(AT_A_TIME);
        let mut ends = Ends::default();
        while let Some((locator, reply)) = replies.next().await {
            ends.take_in(locator, reply);
        }
        let over = locators.iter().filter(|locator| !ends.failed.contains(*locator));
        let over: Vec<Locator> = over.copied().collect();
        self.hear_ends(&over);
        over.iter().for_each(|locator| self.0.endings.tell(*locator));
        // Connections for events find out; those that do not hear this look by themselves.
        self.0.realtime.wake_everywhere(over.into_iter().map(Topic::Session).collect());
        ends.untold.remove(&self.0.node_id);
        ends
    }

    async fn end_one_at_store(
        &self,
        locator: Locator,
        end: End,
    ) -> Result<RevokeReply, StoreError> {
        let began = self.0.clock.now();
        loop {
            let sent_at = self.0.clock.now();
            match self.store(locator).revoke(locator, end).await {
                Ok(reply) => return Ok(reply),
                Err(error @ StoreError::Unavailable(_)) => {
                    self.outlast(sent_at, began).await.map_err(|_too_late| error)?;
                }
                Err(error @ (StoreError::Refused(_) | StoreError::Unreadable(_))) => {
                    return Err(error);
                }
            }
        }
    }

    /// Tells the owners until all know or their leases are over; gives up on those that live and do not answer. Whoever
    /// drops this finds in `ends` what is known so far. Of what the store did not have everybody is told once.
    pub(crate) async fn tell_owners(&self, ends: &mut Ends) {
        let missing = std::mem::take(&mut ends.missing);
        join(self.tell_everybody(&missing), self.tell_until_known(ends)).await;
    }

    /// Tells all nodes of sessions that the store did not have. Whoever has a copy cannot put it back any more, and learns so
    /// from the store when it tries, should it not hear this.
    async fn tell_everybody(&self, missing: &[Locator]) {
        for some in missing.chunks(TOLD_AT_ONCE) {
            let message = EndedMessage { locators: some.to_vec() };
            for (node, heard) in self.0.bus.broadcast(&message, ANSWER).await {
                if let Err(error) = heard {
                    tracing::debug!(%node, %error, "a node did not hear of ended sessions");
                }
            }
        }
    }

    async fn tell_until_known(&self, ends: &mut Ends) {
        let until = self.0.clock.now() + self.0.lease_ttl + PATIENCE;
        while !ends.untold.is_empty() {
            match self.tell_once(&ends.untold).await {
                Ok(left) => ends.untold = left,
                // They are over at the store. It may be back in a moment, and so may they.
                Err(error) => tracing::debug!(%error, "the store does not tell who holds a lease"),
            }
            if ends.untold.is_empty() || self.0.clock.now() >= until {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Tells each owner; gives those that did not answer and whose lease is not over.
    async fn tell_once(&self, untold: &Owned) -> Result<Owned, StoreError> {
        let told = untold.iter().map(|(node, locators)| self.tell_owner(node, locators));
        let told = join_all(told.collect::<Vec<_>>()).await;
        let silent = untold.iter().zip(told).filter(|(_, told)| !told);
        let silent: Vec<_> = silent.map(|(owner, _)| owner).collect();
        let mut left = Owned::new();
        for (node, locators) in silent {
            let held = self.still_held(node, locators).await?;
            if !held.is_empty() {
                left.insert(node.clone(), held);
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
        let tells = locators.iter().map(tell).collect::<Vec<_>>();
        let mut told = stream::iter(tells).buffer_unordered(AT_A_TIME);
        while let Some(told) = told.next().await {
            if !told {
                return false;
            }
        }
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    fn revoked(owner: Option<&NodeId>) -> Result<RevokeReply, StoreError> {
        Ok(RevokeReply::Revoked { owner: owner.map(Token::new) })
    }

    #[test]
    fn one_end_that_fails_leaves_the_others_to_be_told() {
        let owner = NodeId::begin("a".parse().unwrap());
        let locators: Vec<Locator> = (0..4).map(|n| Locator::from_bytes([n; 16])).collect();
        let mut ends = Ends::default();
        ends.take_in(locators[0], revoked(Some(&owner)));
        ends.take_in(locators[1], Err(StoreError::Unreadable("text".to_owned())));
        ends.take_in(locators[2], revoked(None));
        ends.take_in(locators[3], Ok(RevokeReply::Missing));
        assert_eq!(ends.untold, Owned::from([(owner, vec![locators[0]])]));
        assert_eq!((ends.failed(), &*ends.missing), (1, &locators[3..]));
        assert_eq!(ends.left(), BTreeSet::from([locators[0], locators[1]]));
        ends.untold.clear();
        assert_eq!(ends.left(), BTreeSet::from([locators[1]]), "all else is over everywhere");
        assert!(matches!(ends.result(), Err(EndError::Store(StoreError::Unreadable(_)))));
    }

    #[test]
    fn a_store_that_is_away_is_told_before_what_cannot_be_read() {
        let mut ends = Ends::default();
        let errors = [
            StoreError::Unreadable("text".to_owned()),
            StoreError::Unavailable("away".to_owned()),
            StoreError::Unreadable("text".to_owned()),
        ];
        for (number, error) in (0..).zip(errors) {
            ends.take_in(Locator::from_bytes([number; 16]), Err(error));
        }
        assert_eq!(ends.left().len(), 3);
        assert!(matches!(ends.result(), Err(EndError::Store(StoreError::Unavailable(_)))));
    }

    #[test]
    fn owners_that_do_not_answer_are_named() {
        let owner = NodeId::begin("a".parse().unwrap());
        let mut ends = Ends::default();
        ends.take_in(Locator::from_bytes([1; 16]), revoked(Some(&owner)));
        let Err(EndError::Unconfirmed(nodes)) = ends.result() else { panic!("it does not know") };
        assert_eq!(nodes, [owner]);
        assert!(Ends::default().result().is_ok());
    }
}
