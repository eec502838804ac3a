//! The policy `notify`: a login beyond the maximum succeeds, and the application is told which sessions are the oldest.
//!
//! It is told after the login was confirmed, by the node that did it, and nobody waits for that. Nothing is kept of it: when
//! the node dies before the callback returned, or it fails, the next login beyond the maximum tells again, with the sessions
//! that there are then. So it is a hint on which somebody may act, not a record of what happened. A node that stands still
//! before it calls tells late, of sessions some of which may be over by then; to end those changes nothing.

use serde::Serialize;
use tracing::Instrument as _;

use crate::handle::SessionHandle;
use crate::record::Locator;
use crate::store::StoreError;
use crate::store::register::{Place, Progress};

/// Most sessions that an event names.
const NAMED: usize = 100;

/// A user has more sessions than wanted, after a login that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionLimitExceeded {
    /// Who.
    pub user: String,
    /// The session that logged in, as operators name it: worth nothing to whoever reads it.
    pub id: String,
    /// How many sessions the user may have.
    pub most: u32,
    /// How many the user has.
    pub sessions: u64,
    /// Those beyond the maximum, which logged in longest ago, the oldest first; 100 at most.
    pub oldest: Vec<OldSession>,
}

/// One of the sessions that logged in longest ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OldSession {
    /// The session as operators name it; [`SessionHandle::find`] finds it by that.
    pub id: String,
    /// When it logged in, ms since 1970 on the store's clock.
    pub since_ms: u64,
}

impl SessionHandle {
    /// Tells the application that a user has more sessions than wanted; whoever logs in does not wait for it.
    pub(super) fn tell_limit(&self, user: &str, most: u32, own: Locator) {
        let Some(listener) = self.0.on_limit.clone() else { return };
        let (handle, user) = (self.clone(), user.to_owned());
        let work = async move {
            match handle.beyond(user, most, own).await {
                Ok(None) => {}
                Ok(Some(event)) => {
                    if let Err(error) = listener.tell(event).await {
                        tracing::warn!(
                            error,
                            "on_limit_exceeded failed: the next login tells again"
                        );
                    }
                }
                Err(error) => tracing::debug!(%error, "who has too many sessions was not told"),
            }
        };
        tokio::spawn(work.in_current_span());
    }

    /// Says which of a user's sessions are beyond the maximum; `None` when there are none any more.
    pub(super) async fn beyond(
        &self,
        user: String,
        most: u32,
        own: Locator,
    ) -> Result<Option<SessionLimitExceeded>, StoreError> {
        let (roll, sights) = self.seen_roll(&user).await?;
        let seen = roll.places.iter().zip(&sights);
        let standing = seen.filter(|((_, progress), sight)| {
            *progress == Progress::Stands && sight.of_user(&user).is_some()
        });
        let standing: Vec<Place> = standing.map(|((place, _), _)| *place).collect();
        let beyond = standing.len().saturating_sub(most as usize);
        if beyond == 0 {
            return Ok(None);
        }
        let oldest = standing.iter().take(beyond.min(NAMED));
        let oldest =
            oldest.map(|place| OldSession { id: place.locator.public_id(), since_ms: place.at_ms });
        Ok(Some(SessionLimitExceeded {
            id: own.public_id(),
            most,
            sessions: standing.len() as u64,
            oldest: oldest.collect(),
            user,
        }))
    }
}
