//! A connection as server-sent events, which browsers know by themselves (`EventSource`).

use std::convert::Infallible;

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Bytes;
use futures_util::stream::{self, Stream};

use super::subscription::{Step, Subscription, Told};

/// How soon a browser whose connection ended comes back, ms.
const RETRY_MS: u32 = 1_000;

/// Answers with what the connection is told, until it is over.
pub(crate) fn response(subscription: Subscription) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would otherwise collect what is to be seen at once.
        .insert_header(("x-accel-buffering", "no"))
        .content_type("text/event-stream")
        .streaming(chunks(subscription))
}

/// The first chunk fires no event: it tells the browser where it is, so that it misses nothing even if it is told nothing
/// before its connection breaks.
fn chunks(subscription: Subscription) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((subscription, false), async |(mut subscription, greeted)| {
        let text = if greeted {
            match subscription.step().await {
                Step::Told(told) => text(&told),
                Step::Quiet => ":\n\n".to_owned(),
                Step::Over => return None,
            }
        } else {
            format!("retry: {RETRY_MS}\nid: {}\n\n", subscription.position())
        };
        Some((Ok(Bytes::from(text)), (subscription, true)))
    })
}

fn text(told: &Told) -> String {
    let Told { id, name, data } = told;
    format!("id: {id}\nevent: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t11_an_event_is_written_as_browsers_read_it() {
        let told = Told { id: "7-1_9-2".to_owned(), name: "order".into(), data: "[1]".into() };
        assert_eq!(text(&told), "id: 7-1_9-2\nevent: order\ndata: [1]\n\n");
    }
}
