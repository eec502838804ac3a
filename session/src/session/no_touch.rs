//! Looking at a session without using it.

use std::future::{Ready, ready};
use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use super::Session;
use super::slot::Access;
use crate::error::SessionError;

/// The [`Session`] of a request that is no use of it: an extractor for routes that browsers ask by themselves, again and again.
/// A session that is only looked at so ends when its idle time is over, whoever polls.
///
/// It holds for the whole request, whatever else asks for the session. To *change* a session is a use of it all the same. A
/// look costs nothing at a node that has the session in memory, and one round trip elsewhere; it does not bring it into memory.
///
/// ```
/// use actix_web::{HttpResponse, Responder};
/// use understudy_session::{NoTouch, SessionError};
///
/// /// How much longer? (The page warns a minute before.)
/// async fn left(session: NoTouch) -> Result<impl Responder, SessionError> {
///     let ends_ms = session.info().await?.map(|info| info.expires_ms);
///     Ok(HttpResponse::Ok().json(ends_ms))
/// }
/// # let _ = actix_web::web::get().to(left);
/// ```
#[derive(Debug, Clone)]
pub struct NoTouch(Session);

impl Deref for NoTouch {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl FromRequest for NoTouch {
    type Error = SessionError;
    type Future = Ready<Result<Self, SessionError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let session = Session::from_request(request, payload).into_inner();
        ready(session.map(|session| {
            session.0.access.set(Access::Look);
            Self(session)
        }))
    }
}
