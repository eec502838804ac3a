//! Child sessions: where they are, whether they are there, and how they begin.
//!
//! A child is a session like any other, with an owner, a version and a fence of its own, but for three things. Its locator and
//! what opens it follow from its parent and its name, so that every node finds it without asking anybody; what opens it is no
//! hash of anything that fits into a cookie, so no cookie ever does. It may begin again after it ended. And it does not run
//! out before its parent does: that it ends with its parent is the business of [`crate::kin`].
//!
//! What one child leaves behind that ended, a copy in the memory of a node that was cut off, must never be taken for the next
//! one of its name. Its epoch tells them apart: it begins with the time of the store in ms. An epoch grows by one with each
//! claim, so by far less than time does; and between the end of a child and the beginning of the next there is a minute (the
//! tombstone), more than by which two servers' clocks differ.

use sha2::{Digest as _, Sha256};

use super::SessionHandle;
use crate::engine::{Refusal, View};
use crate::error::SessionError;
use crate::kin::{MAX_CHILDREN, Noted};
use crate::record::{Locator, Mark, Record, SecretHash, Token};
use crate::state::{Ask, Op, Outcome, Task, plan};
use crate::store::{CreateReply, ReadReply, StoreError};

/// Which child of which session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChildId {
    pub(crate) locator: Locator,
    pub(crate) secret: SecretHash,
    parent: Locator,
    /// How long it lives, ms: longer than its parent does if nobody logs in meanwhile.
    lifetime_ms: u64,
}

/// What came of beginning a child.
#[derive(Debug)]
pub(crate) enum ChildBegan {
    /// It has begun, with the operation carried out.
    Begun(Outcome),
    /// The operation changes nothing, so there is no reason to begin.
    Vain(Outcome),
    /// It is there already, or has ended just now.
    Exists,
}

impl ChildId {
    /// Works out which one it is.
    pub(crate) fn new(parent: Locator, view: &View, name: &str, longest_ms: u64) -> Self {
        let digest = |what: &[u8]| -> [u8; 32] {
            let mut digest = Sha256::new();
            digest.update(b"understudy child session 1\0");
            digest.update(what);
            digest.update(parent.as_bytes());
            digest.update(view.record.scope().as_bytes());
            digest.update([0_u8]);
            digest.update(name.as_bytes());
            digest.finalize().into()
        };
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest(b"locator\0")[..16]);
        let left_ms = view.record.absolute_ms.saturating_sub(view.now_ms);
        Self {
            locator: Locator::from_bytes(bytes),
            secret: SecretHash(digest(b"secret\0")),
            parent,
            lifetime_ms: left_ms.saturating_add(longest_ms),
        }
    }
}

impl SessionHandle {
    /// Says whether a child is there. Of one that this node has in memory, or knows at another node, that is known; else the
    /// store is asked, and an actor that found it missing makes room for one that looks anew.
    pub(crate) async fn is_child_there(&self, locator: Locator) -> Result<bool, Refusal> {
        let inner = &self.0;
        let began = inner.clock.now();
        let known = inner
            .residents
            .get(&locator)
            .is_some_and(|resident| resident.cell.is_owned() || resident.cell.is_elsewhere(began));
        if known {
            return Ok(true);
        }
        loop {
            let sent_at = inner.clock.now();
            match self.store(locator).read(locator).await {
                Ok(ReadReply::Found(_)) => {
                    self.forget_over(locator);
                    return Ok(true);
                }
                Ok(ReadReply::Revoked) => return Ok(false),
                // A store that was just emptied may get it back; a claim waits for that.
                Ok(ReadReply::Missing) => {
                    return Ok(self.view_by_actor(locator, sent_at).await?.is_some());
                }
                Err(StoreError::Unavailable(_)) => self.outlast(sent_at, began).await?,
                Err(StoreError::Refused(_)) => return Err(Refusal::Refused),
                Err(StoreError::Unreadable(_)) => return Err(Refusal::Unreadable),
            }
        }
    }

    /// Begins a child with an operation carried out. Nobody owns it then; whoever needs it first claims it.
    ///
    /// It is noted in the database before it is there. So when the node dies in between, or stands still until its parent has
    /// ended, it is found by that note.
    pub(crate) async fn begin_child(
        &self,
        id: &ChildId,
        op: Op,
    ) -> Result<ChildBegan, SessionError> {
        let inner = &self.0;
        let Some(kin) = &inner.kin else { return Err(SessionError::NotInstalled) };
        let now_ms = inner.board.server_now_ms(&*inner.clock);
        let mut blank = self.blank(id.secret, &Token::new(&inner.node_id));
        blank.owner = None;
        blank.epoch = now_ms.max(1);
        blank.idle_ms = id.lifetime_ms;
        blank.unknown.insert(Mark::Parent.field().to_owned(), id.parent.to_string());
        let mut ask = Ask { secret: id.secret, task: Task::Op(op), remote: None };
        let planned = plan(&blank, &mut [&mut ask], &inner.options.limits, now_ms);
        let outcome = planned.outcomes.into_iter().next().unwrap_or(Outcome::Done);
        let Some((_, after)) = planned.write else { return Ok(ChildBegan::Vain(outcome)) };
        match kin.note_child(id.parent, id.locator).await? {
            Noted::In => {}
            Noted::Full => return Err(SessionError::TooManyChildren { most: MAX_CHILDREN }),
            Noted::Gone => return Err(SessionError::Ended),
        }
        let record = Record { version: 1, ..after };
        if self.put_in_child(id, &record).await? {
            metrics::counter!("session_children_total").increment(1);
            self.forget_over(id.locator);
            return Ok(ChildBegan::Begun(outcome));
        }
        Ok(ChildBegan::Exists)
    }

    /// Puts a child in; gives false when it is there.
    async fn put_in_child(&self, id: &ChildId, record: &Record) -> Result<bool, Refusal> {
        let began = self.0.clock.now();
        let mut unsure = false;
        loop {
            let sent_at = self.0.clock.now();
            match self.store(id.locator).create(id.locator, record, id.lifetime_ms).await {
                Ok(CreateReply::Created { .. }) => return Ok(true),
                // It may be what an attempt without an answer has put in, and then the operation is in it.
                Ok(CreateReply::Exists) if unsure => return Err(Refusal::OutcomeUnknown),
                Ok(CreateReply::Exists) => return Ok(false),
                Err(StoreError::Unavailable(_)) => {
                    unsure = true;
                    self.outlast(sent_at, began).await?;
                }
                Err(StoreError::Refused(_) | StoreError::Unreadable(_)) => {
                    return Err(Refusal::Refused);
                }
            }
        }
    }

    /// Takes an actor out of the map that knows only that the session was missing or has ended: it says so for as long as it is
    /// there, and never writes again.
    fn forget_over(&self, locator: Locator) {
        self.0.residents.remove_if(&locator, |_, resident| resident.cell.is_over());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::record::{Attributes, RecentOps, Seal};

    fn view(scope: Option<&str>) -> View {
        let unknown = scope.map(|scope| (Mark::Scope.field().to_owned(), scope.to_owned()));
        let record = Record {
            owner: None,
            epoch: 1,
            version: 1,
            last_op: None,
            created_ms: 0,
            absolute_ms: 5_000,
            last_access_ms: 0,
            idle_ms: 1_000,
            user: None,
            secret: SecretHash([7; 32]),
            previous_secret: None,
            attributes: Arc::new(Attributes::new()),
            recent: RecentOps::default(),
            unknown: unknown.into_iter().collect::<BTreeMap<_, _>>(),
            seal: Seal::Open,
        };
        View { record: Arc::new(record), now_ms: 1_000, owner: None }
    }

    #[test]
    fn s16_a_child_is_the_same_on_every_node_and_another_for_another_parent_name_or_user() {
        let parent = Locator::from_bytes([1; 16]);
        let id = ChildId::new(parent, &view(None), "flow", 60_000);
        let again = ChildId::new(parent, &view(None), "flow", 60_000);
        assert_eq!((id.locator, id.secret), (again.locator, again.secret));
        assert_eq!(id.lifetime_ms, 64_000, "it outlives its parent");
        let others = [
            ChildId::new(Locator::from_bytes([2; 16]), &view(None), "flow", 60_000),
            ChildId::new(parent, &view(None), "other", 60_000),
            ChildId::new(parent, &view(Some("x")), "flow", 60_000),
        ];
        for other in others {
            assert_ne!((other.locator, other.secret), (id.locator, id.secret));
        }
        assert_ne!(id.locator.as_bytes()[..], id.secret.0[..16], "one does not tell the other");
    }
}
