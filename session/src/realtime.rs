//! Events for the pages that a session or a user has open, on whichever node their connections are.
//!
//! *Told*: an event is added to a stream in Redis, one for each session and one for each user, bounded in length and time; then
//! all nodes are woken over the bus. A node that has such a connection reads the stream from where the connection is. So what
//! the bus loses costs time and no event: a connection looks by itself every [`QUIET`] too.
//!
//! *Resumed*: each event has an id that says where in both streams it stands, and a browser that comes back, to whichever node,
//! says the last one it was given (`Last-Event-ID`). What is gone by then, because it is too long ago, too many came, or Redis
//! lost them, is told as the event `reset`: the page reads everything anew. A number that grows by one within one life of a
//! stream makes that exact: nothing is missed without a `reset`, and nothing is told twice.
//!
//! *Ended*: before a connection is told anything, and every [`QUIET`], the session is looked at as by a route that does not use
//! it ([`NoTouch`](crate::NoTouch)); so it does not live longer for that, and once its end is answered nothing is told any more.
//! A connection ends with its session, with the cookie that opened it (after a login), and when its node is to stop.
//!
//! *What if*: a process that dies between the event and the wake leaves an event that is told within [`QUIET`]. A node that
//! stands still for 30 s goes on with what it had not told, after a look at the session. Nothing is owned here, so nothing is
//! fenced: a stream only grows, by one script.
//!
//! On a node without Redis the streams are in its memory, and end with the process.

mod event;
mod hub;
mod log;
mod position;
mod sse;
mod subscription;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::SessionError;
use crate::handle::SessionHandle;
use crate::record::Locator;
use crate::users::is_name;

pub use event::{MAX_DATA, SessionEvent};
pub(crate) use hub::{News, Realtime};
pub(crate) use sse::response;
pub(crate) use subscription::Opening;
pub use subscription::{Subscription, Told};

/// How often a connection to which nothing is told shows that it is there, and looks by itself.
pub const QUIET: Duration = Duration::from_secs(15);
/// Most events that are kept of a session, and of a user.
pub const MOST_EVENTS: usize = 256;
/// For how long they are kept after the last one was told, or a connection last looked.
pub const KEPT_FOR: Duration = Duration::from_secs(600);
/// Most connections that a session may have at a node.
pub const MOST_STREAMS: usize = 8;

/// Whom to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// All connections of a session.
    Session(Locator),
    /// All connections of all sessions of a user.
    User(String),
}

impl From<Locator> for Recipient {
    fn from(locator: Locator) -> Self {
        Self::Session(locator)
    }
}

impl From<&str> for Recipient {
    fn from(user: &str) -> Self {
        Self::User(user.to_owned())
    }
}

impl From<String> for Recipient {
    fn from(user: String) -> Self {
        Self::User(user)
    }
}

/// What a stream is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Topic {
    /// A session.
    Session(Locator),
    /// A user, by the digits of a hash of the name.
    User(String),
}

impl Topic {
    /// The stream of a user.
    pub(crate) fn of_user(user: &str) -> Self {
        let digest = Sha256::digest(user);
        Self::User(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl SessionHandle {
    /// Tells a session, or all sessions of a user, of something: it reaches every connection they have, on whichever node
    /// ([`Session::events`](crate::Session::events)), also those that break and come back.
    ///
    /// When this returns the event is kept; it arrives in milliseconds as a rule, and within [`QUIET`] when the message to the
    /// other nodes is lost. Events for one recipient arrive in the order in which they were kept. Whether anybody is there is not
    /// looked at: what nobody fetches is forgotten after [`KEPT_FOR`].
    ///
    /// # Errors
    /// [`SessionError::BadUser`] for what is no name of a user; [`SessionError::Unavailable`] when Redis is away: the event may
    /// be kept all the same, and whoever tells it again may have told it twice.
    pub async fn tell(
        &self,
        to: impl Into<Recipient>,
        event: &SessionEvent,
    ) -> Result<(), SessionError> {
        let topic = match to.into() {
            Recipient::Session(locator) => Topic::Session(locator),
            Recipient::User(user) if is_name(&user) => Topic::of_user(&user),
            Recipient::User(_) => return Err(SessionError::BadUser),
        };
        self.0.realtime.tell(topic, event).await?;
        Ok(())
    }
}
