//! The board on which the leader's actor publishes whether, in which epoch and until when this node leads.
//!
//! Read before each claim by any thread, so it is made of atomics and takes no lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;
use understudy_runtime::clock::BootInstant;

/// One term of this node.
#[derive(Debug, Clone)]
pub struct Term {
    /// Its number in the database; every claim checks it there.
    pub epoch: u64,
    /// Fires when the term ends, for whatever reason. After a pause of the process it fires only once the process runs
    /// again: what must not happen twice checks the epoch.
    pub ended: CancellationToken,
}

/// Whether this node leads; a cheap clone.
#[derive(Clone, Default)]
pub struct LeaderBoard {
    place: Arc<Place>,
}

#[derive(Default)]
struct Place {
    /// In ns since boot; 0: this node does not lead.
    deadline: AtomicU64,
    term: ArcSwapOption<Term>,
}

impl LeaderBoard {
    /// Makes the board of a node that does not lead.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the term if this node leads at `now`. This call is the moment that counts; what it leads to must
    /// check the epoch where it is written.
    #[must_use]
    pub fn leading(&self, now: BootInstant) -> Option<Term> {
        // First: a deadline that holds belongs to the term found after it, or to one before that, which is over and
        // whose deadline the later term has outdone.
        let deadline = self.place.deadline.load(Ordering::Acquire);
        if now.as_nanos() >= deadline {
            return None;
        }
        self.place.term.load().as_deref().cloned()
    }

    /// Returns until when this node leads unless its lease is renewed; `None` when it does not.
    #[must_use]
    pub fn deadline(&self) -> Option<BootInstant> {
        match self.place.deadline.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(BootInstant::from_nanos(nanos)),
        }
    }

    /// Publishes that this node leads in `epoch` until `deadline`; returns whether the term is new. Only the actor calls it.
    pub(super) fn lead(&self, epoch: u64, deadline: BootInstant) -> bool {
        let goes_on = self.place.term.load().as_ref().is_some_and(|term| term.epoch == epoch);
        if !goes_on {
            self.end();
            let term = Term { epoch, ended: CancellationToken::new() };
            self.place.term.store(Some(Arc::new(term)));
        }
        self.place.deadline.store(deadline.as_nanos(), Ordering::Release);
        !goes_on
    }

    /// Takes the term off the board and lets everything know that hangs on it; returns its epoch.
    pub(super) fn end(&self) -> Option<u64> {
        self.place.deadline.store(0, Ordering::Release);
        let term = self.place.term.swap(None)?;
        term.ended.cancel();
        Some(term.epoch)
    }
}

impl fmt::Debug for LeaderBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = self.place.term.load().as_ref().map(|term| term.epoch);
        f.debug_struct("LeaderBoard").field("epoch", &epoch).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootInstant {
        BootInstant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_term_counts_until_its_deadline_and_its_token_fires_when_it_ends() {
        let board = LeaderBoard::new();
        assert!(board.leading(at(1)).is_none() && board.deadline().is_none());
        assert!(board.lead(7, at(10)));
        let term = board.leading(at(9)).unwrap();
        assert_eq!(term.epoch, 7);
        assert!(board.leading(at(10)).is_none(), "the deadline is not part of it");
        assert!(!board.lead(7, at(20)), "renewed, not new");
        assert!(board.leading(at(15)).is_some() && !term.ended.is_cancelled());
        assert_eq!(board.end(), Some(7));
        assert!(term.ended.is_cancelled() && board.leading(at(15)).is_none());
        assert_eq!(board.end(), None);
    }

    #[test]
    fn a_new_term_ends_the_one_before() {
        let board = LeaderBoard::new();
        board.lead(1, at(10));
        let first = board.leading(at(5)).unwrap();
        assert!(board.lead(2, at(10)));
        assert!(first.ended.is_cancelled());
        let second = board.leading(at(5)).unwrap();
        assert!(second.epoch == 2 && !second.ended.is_cancelled());
    }
}
