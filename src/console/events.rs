//! Streams of the API, handed through to the script of a page: kinds of events, and lines of the log; no more than the one
//! who looks may see.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use reqwest::Response;
use tokio::time::Instant;
use understudy_runtime::admin::Principal;

use super::api::{Kind, target};
use super::cookies;
use super::pages::log;
use super::visit::Visit;
use super::{Backstage, Console};

/// After this time the browser asks again, and shows again who it is.
const LIFE: Duration = Duration::from_secs(10 * 60);

/// Hands the events through.
pub(super) async fn watch(request: HttpRequest, visit: Visit) -> HttpResponse {
    hand_through(&request, &visit, "/v1/events").await
}

/// Hands the lines of the log through that the page asks for.
pub(super) async fn follow_log(request: HttpRequest, visit: Visit) -> HttpResponse {
    hand_through(&request, &visit, &target("/v1/logs/tail", &log::query(&visit))).await
}

/// Hands a stream through. A browser that is told 204 does not ask again: where there are no events, pages look again
/// by the clock alone.
async fn hand_through(request: &HttpRequest, visit: &Visit, target: &str) -> HttpResponse {
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
        .streaming(handed_through(
            response,
            visit.console.clone(),
            (cookies::value(request, cookies::SIGNED_IN), visit.who.clone()),
        ))
}

fn handed_through(
    response: Response,
    console: Data<Console>,
    (sealed, who): (Option<String>, Principal),
) -> impl futures_util::Stream<Item = Result<actix_web::web::Bytes, actix_web::Error>> {
    let end = Instant::now() + LIFE;
    // Who has signed out meanwhile sees no more. A stream is never silent for long, so they do not wait for it either.
    let still_inside = move || is_still(console.backstage.as_ref(), sealed.as_deref(), &who);
    stream::unfold((response, still_inside), move |(mut response, still_inside)| async move {
        // An end in whichever way is the end: the browser asks again.
        let chunk = tokio::time::timeout_at(end, response.chunk()).await.ok()?.ok()??;
        still_inside().then_some((Ok(chunk), (response, still_inside)))
    })
}

/// Whether a browser is still whose it was. On a port that is open to everybody, one that has signed out is a visitor, who
/// may look, and hears no more of what the other one might.
fn is_still(backstage: &dyn Backstage, sealed: Option<&str>, who: &Principal) -> bool {
    backstage.browser(sealed).as_ref() == Some(who)
}

#[cfg(test)]
mod tests {
    use understudy_runtime::admin::Role;

    use super::super::stub::{FakeNode, Mood};
    use super::*;

    #[actix_web::test]
    async fn x1_who_signs_out_hears_no_more_also_where_everybody_may_look() {
        for (mood, afterwards) in [(Mood::Busy, None), (Mood::Open, Some("loopback"))] {
            let node = FakeNode::new(([127, 0, 0, 1], 9).into(), mood);
            let sealed = Some("sealed-admin");
            let who = node.browser(sealed).unwrap();
            assert_eq!(who.role, Role::Admin);
            assert!(is_still(&node, sealed, &who));
            node.sign_out("sealed-admin").await;
            assert_eq!(node.browser(sealed).as_ref().map(|who| &*who.name), afterwards);
            assert!(!is_still(&node, sealed, &who), "{mood:?}");
        }
    }
}
