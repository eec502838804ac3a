//! The stream of events, `GET /v1/events`: server-sent events that say what kind of thing changed, so that a page reads
//! it again.
//!
//! Nothing is kept for who was not there: `Last-Event-ID` is not looked at, and a client that comes, or comes back, reads
//! everything it shows. One that was too slow is told so by `resync`. A stream ends when the node begins to drain, within
//! seconds of the end of the token that it was asked with, and after an hour.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream::{self, Stream};
use tokio::time::{Instant, Interval, interval_at, sleep_until};

use super::access::{AdminPort, Principal, principal};
use super::asked::Query;
use super::resources::{AdminState, Started};
use crate::clock::SharedClock;
use crate::events::{MOST_WATCHERS, Seen, Watching};
use crate::http::problem::Problem;
use crate::node::{Lifecycle, Phase};
use crate::service::NodeContext;

/// How often a comment is sent: balancers and networks forget silent connections, and that a watcher has gone shows in nothing
/// else. So often, and with all that is sent, it is also looked whether they may still watch.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a stream lasts.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Where a stream begins: a browser whose connection breaks comes back after so long.
const HELLO: &str = "retry: 2000\n: watching\n\n";

/// Adds the resource.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    app.app_data(Started::of(state)).route("/v1/events", web::get().to(watch));
}

async fn watch(started: Data<Started>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let context = started.context()?;
    if context.lifecycle.is_draining() {
        return Err(unavailable("draining", "This node is being stopped: watch another one"));
    }
    let Some(watching) = context.events.watch() else {
        let problem = unavailable("too_many_watchers", "Too many watch on this node");
        return Err(problem.with_detail(format!("{MOST_WATCHERS} do; watch another node")));
    };
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would otherwise collect what is to be seen at once.
        .insert_header(("x-accel-buffering", "no"))
        .content_type("text/event-stream")
        .streaming(Streaming::begin(context, watching, principal(&request)).chunks()))
}

fn unavailable(code: &'static str, title: &'static str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title)
        .with_retry_after(Duration::from_secs(2))
}

/// A stream under way.
struct Streaming {
    watching: Watching,
    /// Who watches, and where it is known whether they may.
    who: Option<Principal>,
    port: AdminPort,
    lifecycle: Lifecycle,
    clock: SharedClock,
    until: Instant,
    alive: Interval,
    greeted: bool,
}

impl Streaming {
    fn begin(context: &NodeContext, watching: Watching, who: Option<Principal>) -> Self {
        let now = Instant::now();
        Self {
            watching,
            who,
            port: context.admin.clone(),
            lifecycle: context.lifecycle.clone(),
            clock: context.clock.clone(),
            until: now + LONGEST,
            alive: interval_at(now + KEEP_ALIVE, KEEP_ALIVE),
            greeted: false,
        }
    }

    fn chunks(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, async |mut streaming| {
            let chunk = streaming.next().await?;
            Some((Ok(Bytes::from(chunk)), streaming))
        })
    }

    async fn next(&mut self) -> Option<String> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(HELLO.to_owned());
        }
        let chunk = tokio::select! {
            biased;
            () = self.lifecycle.reached(Phase::Draining) => return None,
            () = sleep_until(self.until) => return None,
            seen = self.watching.next() => text(seen?, self.clock.wall_ms()),
            _ = self.alive.tick() => ": keep-alive\n\n".to_owned(),
        };
        let still = self.who.as_ref().is_some_and(|who| self.port.still_counts(who));
        still.then_some(chunk)
    }
}

fn text(seen: Seen, now_ms: u64) -> String {
    match seen {
        Seen::Event(event) => {
            format!("event: {}\ndata: {{\"at_ms\":{}}}\n\n", event.kind.as_str(), event.at_ms)
        }
        Seen::Missed(missed) => {
            format!("event: resync\ndata: {{\"at_ms\":{now_ms},\"missed\":{missed}}}\n\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, EventKind};

    #[test]
    fn u18_an_event_is_written_as_browsers_read_it() {
        let event = Event { kind: EventKind::Nodes, at_ms: 7 };
        assert_eq!(text(Seen::Event(event), 9), "event: nodes\ndata: {\"at_ms\":7}\n\n");
        assert_eq!(text(Seen::Missed(3), 9), "event: resync\ndata: {\"at_ms\":9,\"missed\":3}\n\n");
    }
}
