//! Bounds the body of a request in size and in slowness, whoever reads it.
//!
//! The guard sits between the connection and the extractors. It counts only time in which a reader waited for
//! the client: a handler that takes its time to read is not the client's fault. It has no effect on a body that
//! nobody reads; the connection's own buffer bounds that one.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Bytes;
use actix_web::{HttpMessage as _, HttpRequest};
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::problem::Problem;
use super::settings::BodyPace;

/// Marks a request whose body is a stream that its handler takes piece by piece, with limits of its own: the limit of bodies
/// and that of the time until an answer are not for it. How slowly it may arrive is bounded all the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streamed;

/// How long the handler of a streamed body may take: at the slowest pace that is allowed, more than 80 MB arrive in this time.
const STREAMED: Duration = Duration::from_secs(86_400);

fn is_streamed(request: &HttpRequest) -> bool {
    request.extensions().get::<Streamed>().is_some()
}

/// How large the body of a request may be, where this is the usual limit.
pub(crate) fn limit_for(request: &HttpRequest, usual: u64) -> u64 {
    if is_streamed(request) { u64::MAX } else { usual }
}

/// How long a handler may take until the head of its answer, where this is the usual limit.
pub(crate) fn time_for(request: &HttpRequest, usual: Duration) -> Duration {
    if is_streamed(request) { STREAMED } else { usual }
}

/// What the guard found and left; looked at after the handler has answered.
#[derive(Default)]
pub(crate) struct Watch {
    verdict: Cell<Verdict>,
    unread: Cell<Option<Payload>>,
}

impl Watch {
    /// The watch over a body that nobody is going to read.
    pub(crate) fn unread(payload: Payload) -> Rc<Self> {
        Rc::new(Self { verdict: Cell::default(), unread: Cell::new(Some(payload)) })
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict.get()
    }

    /// Takes what is left of the body, once its reader is gone; nothing when it was read to its end.
    pub(crate) fn take_unread(&self) -> Payload {
        self.unread.take().unwrap_or(Payload::None)
    }
}

/// What the guard found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Verdict {
    /// Nothing to object to so far.
    #[default]
    Good,
    /// More bytes than allowed.
    TooLarge,
    /// The client was too slow.
    TooSlow,
}

impl Verdict {
    /// Returns what the client is told.
    pub(crate) fn problem(self, limit: u64) -> Option<Problem> {
        match self {
            Self::Good => None,
            Self::TooLarge => Some(too_large(limit)),
            Self::TooSlow => Some(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                "The body of the request arrived too slowly",
            )),
        }
    }
}

/// Refuses a body by its announced length, before a byte of it is read.
pub(crate) fn check_announced(headers: &HeaderMap, limit: u64) -> Result<(), Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    // The connection has refused a length that is not a number already.
    match announced.and_then(|value| value.trim().parse::<u64>().ok()) {
        Some(length) if length > limit => Err(too_large(limit)),
        Some(_) | None => Ok(()),
    }
}

/// Puts the guard around a body; what it finds is shared with the caller.
pub(crate) fn guard(payload: Payload, limit: u64, pace: BodyPace) -> (Payload, Rc<Watch>) {
    let watch = Rc::new(Watch::default());
    let guarded = GuardedBody {
        payload,
        limit,
        pace,
        received: 0,
        waited: Duration::ZERO,
        waiting: None,
        ended: false,
        watch: Rc::clone(&watch),
    };
    (Payload::Stream { payload: Box::pin(guarded) }, watch)
}

fn too_large(limit: u64) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body of the request is too large")
        .with_detail(format!("at most {limit} bytes are accepted"))
        .with_member("limit_bytes", limit)
}

struct GuardedBody {
    payload: Payload,
    limit: u64,
    pace: BodyPace,
    received: u64,
    /// How long the reader has waited in all, the present wait not counted.
    waited: Duration,
    /// The present wait: since when, and the timer that ends it.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Whether the body was read to its end, or broke off.
    ended: bool,
    watch: Rc<Watch>,
}

impl Drop for GuardedBody {
    fn drop(&mut self) {
        if !self.ended {
            let rest = std::mem::replace(&mut self.payload, Payload::None);
            self.watch.unread.set(Some(rest));
        }
    }
}

impl GuardedBody {
    fn fail(
        &self,
        verdict: Verdict,
        error: PayloadError,
    ) -> Poll<Option<Result<Bytes, PayloadError>>> {
        self.watch.verdict.set(verdict);
        Poll::Ready(Some(Err(error)))
    }

    /// Returns how long a reader may wait in all, given what has arrived.
    fn patience(&self) -> Duration {
        let millis = self.received.saturating_mul(1_000) / self.pace.bytes_per_second.max(1);
        self.pace.grace.saturating_add(Duration::from_millis(millis))
    }
}

impl Stream for GuardedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.watch.verdict() != Verdict::Good {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.payload).poll_next(context) {
            Poll::Ready(Some(Ok(bytes))) => {
                if let Some((since, _)) = this.waiting.take() {
                    this.waited += since.elapsed();
                }
                this.received += bytes.len() as u64;
                if this.received > this.limit {
                    return this.fail(Verdict::TooLarge, PayloadError::Overflow);
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(end) => {
                this.ended = true;
                Poll::Ready(end)
            }
            Poll::Pending => {
                let left = this.patience().saturating_sub(this.waited);
                let (_, timer) = this.waiting.get_or_insert_with(|| {
                    let now = Instant::now();
                    (now, Box::pin(sleep_until(now + left)))
                });
                if timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                this.fail(Verdict::TooSlow, PayloadError::Io(late))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    const PACE: BodyPace = BodyPace { grace: Duration::from_millis(100), bytes_per_second: 1_000 };

    fn body(chunks: impl Stream<Item = Result<Bytes, PayloadError>> + 'static) -> Payload {
        Payload::Stream { payload: Box::pin(chunks) }
    }

    async fn drip(mut payload: Payload) -> u64 {
        let mut received = 0;
        while let Some(Ok(bytes)) = payload.next().await {
            received += bytes.len() as u64;
        }
        received
    }

    #[actix_web::test]
    async fn a_body_within_its_bounds_passes_unchanged() {
        let chunks = stream::iter((0..10).map(|_| Ok(Bytes::from_static(b"0123456789"))));
        let (payload, watch) = guard(body(chunks), 100, PACE);
        assert_eq!(drip(payload).await, 100);
        assert_eq!(watch.verdict(), Verdict::Good);
    }

    #[actix_web::test]
    async fn a_body_without_a_length_is_cut_at_the_limit() {
        let chunks = stream::iter((0..10).map(|_| Ok(Bytes::from_static(b"0123456789"))));
        let (payload, watch) = guard(body(chunks), 99, PACE);
        assert_eq!(drip(payload).await, 90);
        assert_eq!(watch.verdict(), Verdict::TooLarge);
    }

    #[actix_web::test]
    async fn a_body_that_stops_is_given_up_after_the_grace() {
        let (payload, watch) = guard(body(stream::pending()), 99, PACE);
        let began = Instant::now();
        assert_eq!(drip(payload).await, 0);
        assert_eq!(watch.verdict(), Verdict::TooSlow);
        assert!(began.elapsed() >= PACE.grace);
    }

    #[actix_web::test]
    async fn bytes_buy_time() {
        // 20 bytes each 20 ms are exactly the pace; 20 rounds are four times the grace.
        let chunks = stream::unfold(0, |round| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            (round < 20).then(|| (Ok(Bytes::from_static(&[0; 40])), round + 1))
        });
        let (payload, watch) = guard(body(Box::pin(chunks)), 10_000, PACE);
        assert_eq!(drip(payload).await, 800);
        assert_eq!(watch.verdict(), Verdict::Good);
    }

    #[actix_web::test]
    async fn single_bytes_buy_too_little() {
        let chunks = stream::unfold((), |()| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok(Bytes::from_static(b"x")), ()))
        });
        let (payload, watch) = guard(body(Box::pin(chunks)), 10_000, PACE);
        assert!(drip(payload).await < 10);
        assert_eq!(watch.verdict(), Verdict::TooSlow);
    }

    #[actix_web::test]
    async fn a_reader_that_pauses_is_not_the_clients_fault() {
        let chunks = stream::iter((0..3).map(|_| Ok(Bytes::from_static(b"x"))));
        let (mut payload, watch) = guard(body(chunks), 99, PACE);
        for _ in 0..3 {
            assert!(payload.next().await.unwrap().is_ok());
            tokio::time::sleep(PACE.grace).await;
        }
        assert_eq!(watch.verdict(), Verdict::Good);
    }

    #[test]
    fn an_announced_length_is_refused_before_it_is_read() {
        let mut headers = HeaderMap::new();
        assert!(check_announced(&headers, 10).is_ok());
        for (length, refused) in [("10", false), ("11", true), ("18446744073709551615", true)] {
            headers.insert(header::CONTENT_LENGTH, length.parse().unwrap());
            assert_eq!(check_announced(&headers, 10).is_err(), refused, "{length}");
        }
    }
}
