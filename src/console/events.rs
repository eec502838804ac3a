//! Streams of the API, handed through to the script of a page: kinds of events, and lines of the log; no more than the one
//! who looks may see.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use futures_util::stream;
use reqwest::Response;
use tokio::time::Instant;

use super::api::{Kind, target};
use super::pages::log;
use super::visit::Visit;

/// After this time the browser asks again, and shows again who it is.
const LIFE: Duration = Duration::from_secs(10 * 60);

/// Hands the events through.
pub(super) async fn watch(visit: Visit) -> HttpResponse {
    hand_through(&visit, "/v1/events").await
}

/// Hands the lines of the log through that the page asks for.
pub(super) async fn follow_log(visit: Visit) -> HttpResponse {
    hand_through(&visit, &target("/v1/logs/tail", &log::query(&visit))).await
}

/// Hands a stream through. A browser that is told 204 does not ask again: where there are no events, pages look again
/// by the clock alone.
async fn hand_through(visit: &Visit, target: &str) -> HttpResponse {
    let response = match visit.console.api.stream(&visit.asker, target).await {
        Ok(response) => response,
        Err(trouble) => {
            return HttpResponse::build(match trouble.kind {
                Kind::NotThere => StatusCode::NO_CONTENT,
                Kind::SignedOut => StatusCode::UNAUTHORIZED,
                Kind::Forbidden => StatusCode::FORBIDDEN,
                Kind::Unknown | Kind::Away | Kind::Refused => StatusCode::BAD_GATEWAY,
            })
            .insert_header((CACHE_CONTROL, "no-store"))
            .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
            .body(if trouble.kind == Kind::NotThere {
                String::new()
            } else {
                trouble.text()
            });
        }
    };
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(handed_through(response))
}

fn handed_through(
    response: Response,
) -> impl futures_util::Stream<Item = Result<actix_web::web::Bytes, actix_web::Error>> {
    let end = Instant::now() + LIFE;
    stream::unfold(Some(response), move |response| async move {
        let mut response = response?;
        // An end in whichever way is the end: the browser asks again.
        let chunk = tokio::time::timeout_at(end, response.chunk()).await.ok()?.ok()??;
        Some((Ok(chunk), Some(response)))
    })
}
