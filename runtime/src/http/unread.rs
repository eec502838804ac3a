//! Keeps what is unread of the body of a request until its answer is written.
//!
//! The connection reads a body in chunks that was dropped to its end, without any deadline: a client that never ends
//! it would hold the connection for ever. A body that is still held makes it announce `Connection: close`, wait for a
//! moment so that the answer is not lost, and close.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::web::Bytes;

/// Puts the rest of a request's body into the answer, which holds it until it is written.
pub(crate) fn hold(answer: BoxBody, unread: Payload) -> BoxBody {
    if matches!(unread, Payload::None) {
        return answer;
    }
    BoxBody::new(Held { answer, _unread: unread })
}

struct Held {
    answer: BoxBody,
    _unread: Payload,
}

impl MessageBody for Held {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        match self.answer.size() {
            // A box around nothing forgets what it was given.
            BodySize::None => BodySize::Sized(0),
            size @ (BodySize::Sized(_) | BodySize::Stream) => size,
        }
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.answer).poll_next(context)
    }
}
