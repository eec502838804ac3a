//! Events for the pages that a session has open.

use actix_web::{HttpRequest, HttpResponse};

use super::Session;
use super::slot::Access;
use crate::error::SessionError;
use crate::realtime::{Opening, SessionEvent, Subscription, response};

/// What a browser that comes back says it was told last.
const LAST_EVENT_ID: &str = "last-event-id";

impl Session {
    /// Answers a page that listens (`new EventSource("/events")`) with what the session and its user are told from now on, or
    /// since the page was last there: server-sent events, until the session ends or the node is to stop.
    ///
    /// It is no use of the session, which ends when its idle time is over whoever listens. The event `reset` says that some are
    /// missing, and that the page must read everything anew. A session may have [`MOST_STREAMS`] such pages at a node.
    ///
    /// ```
    /// use actix_web::{HttpRequest, Responder};
    /// use understudy_session::{Session, SessionError};
    ///
    /// async fn events(session: Session, request: HttpRequest) -> Result<impl Responder, SessionError> {
    ///     session.events(&request).await
    /// }
    /// # let _ = actix_web::web::get().to(events);
    /// ```
    ///
    /// [`MOST_STREAMS`]: crate::realtime::MOST_STREAMS
    ///
    /// # Errors
    /// [`SessionError::Ended`] when there is no session, or none any more; [`SessionError::TooManyStreams`];
    /// [`SessionError::Busy`] when the node is to stop; else when the session or the events cannot be read now.
    pub async fn events(&self, request: &HttpRequest) -> Result<HttpResponse, SessionError> {
        let last = request.headers().get(LAST_EVENT_ID);
        // What is no text is no place in the streams either.
        let last = last.map(|last| last.to_str().unwrap_or("?"));
        self.subscribe(last).await.map(response)
    }

    /// The same for connections of any other kind, a WebSocket for example: whoever has it asks it for what is to be told
    /// ([`Subscription::next`]) and ends when it gives nothing more. `last` is the [`id`](crate::realtime::Told::id) that the client
    /// was told last.
    ///
    /// # Errors
    /// As [`Self::events`].
    pub async fn subscribe(&self, last: Option<&str>) -> Result<Subscription, SessionError> {
        let presented = self.presented().ok_or(SessionError::Ended)?;
        let (handle, secret) = (&self.0.handle, presented.secret.hash());
        let view = handle.peek(presented.locator, &secret).await?.ok_or(SessionError::Ended)?;
        // To listen is no use, and no reason for the session to come here.
        let access = self.0.access.replace(Access::Look);
        self.saw_record(&view);
        self.0.access.set(access);
        let (locator, user) = (presented.locator, view.record.user.as_deref());
        Subscription::open(handle, Opening { locator, secret, user, last }).await
    }

    /// Tells all pages that this session has open; see [`SessionHandle::tell`](crate::SessionHandle::tell), also for a user.
    /// Nothing happens without a session.
    ///
    /// # Errors
    /// When the session cannot be read, or the event cannot be kept now.
    pub async fn tell(&self, event: &SessionEvent) -> Result<(), SessionError> {
        if self.view().await?.is_none() {
            return Ok(());
        }
        let Some(presented) = self.presented() else { return Ok(()) };
        self.0.handle.tell(presented.locator, event).await
    }
}
