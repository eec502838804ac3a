//! How long ago the user has shown who they are, and showing it again.
//!
//! The time is a [mark](crate::record::Mark) of the record, set by the owner behind its fence, in the write that changes the
//! secret; so it survives what the login survives, and is never there without it. A node that stands still before that write
//! has it refused if somebody took the session over; one that dies after it leaves a session whose new secret nobody has.
//! Nodes of a version before this keep the mark and do not set it: after a login by one of those it is missing or older than
//! it could be, and whoever asks for a recent one asks the user once more than needed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Session;
use super::slot::{Presented, Settling, judged};
use crate::engine::View;
use crate::error::SessionError;
use crate::keyring::SecretBytes;
use crate::state::Op;

/// How old what [`Session::reauthenticate`] has just noted can be at most; it is older when its owner did not know how to.
const JUST_NOW: Duration = Duration::from_secs(60);

impl Session {
    /// Tells when the user last showed who they are, by a login or [`Self::reauthenticate`], on the store's clock. `None` when
    /// nobody is logged in, or a node of an older version logged them in.
    ///
    /// # Errors
    /// When the session cannot be read now.
    pub async fn authenticated_at(&self) -> Result<Option<SystemTime>, SessionError> {
        let view = self.view().await?;
        let at_ms = view.as_ref().and_then(authenticated_ms);
        Ok(at_ms.map(|at_ms| UNIX_EPOCH + Duration::from_millis(at_ms)))
    }

    /// Refuses unless the user has shown who they are within `max_age`: for what must not be done with a browser that somebody
    /// left open.
    ///
    /// # Errors
    /// [`SessionError::ReauthenticationRequired`] when that was longer ago, is not known, or nobody is logged in; else when
    /// the session cannot be read now.
    pub async fn require_recent(&self, max_age: Duration) -> Result<(), SessionError> {
        let view = self.view().await?;
        match view.as_ref().and_then(age) {
            Some(age) if age <= max_age => Ok(()),
            Some(_) | None => Err(SessionError::ReauthenticationRequired { max_age }),
        }
    }

    /// Notes that the user who is logged in has shown again who they are; call it after that was checked. What is in the
    /// session and when it ends stay as they are; it gets a new secret, and the cookie from before is dead on every node when
    /// this returns.
    ///
    /// # Errors
    /// [`SessionError::Ended`] without a session; [`SessionError::OtherUser`] when it is not `user` who is logged in;
    /// [`SessionError::Busy`] when the owner of the session is of an older version and could not note it (do it again later;
    /// the session has a new cookie already); else when it cannot be stored now.
    pub async fn reauthenticate(&self, user: &str) -> Result<(), SessionError> {
        let Some(view) = self.view().await? else { return Err(SessionError::Ended) };
        // To make the session another's takes a new secret, so with this one it cannot become that before it is replaced.
        if view.record.user.as_deref() != Some(user) {
            return Err(SessionError::OtherUser);
        }
        let Some(presented) = self.presented() else { return Err(SessionError::Ended) };
        let secret = SecretBytes::random();
        let op = Op::Rotate { secret: secret.hash().to_text(), keep_ms: 0, authenticates: true };
        let answer = self.0.handle.ask(presented.locator, presented.secret.hash(), op).await;
        judged(answer, "", presented.seen).map_err(Settling::into_error)?;
        self.carry(Presented { secret, seen: true, outdated: false, ..presented });
        match self.view().await?.as_ref().and_then(age) {
            Some(age) if age <= JUST_NOW => Ok(()),
            Some(_) | None => Err(SessionError::Busy),
        }
    }
}

fn authenticated_ms(view: &View) -> Option<u64> {
    view.record.authenticated_ms().filter(|_| view.record.user.is_some())
}

fn age(view: &View) -> Option<Duration> {
    let at_ms = authenticated_ms(view)?;
    Some(Duration::from_millis(view.now_ms.saturating_sub(at_ms)))
}
