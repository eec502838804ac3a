//! The log of a node as it is written: `GET /v1/logs/tail`, server-sent events, while the setting `log_tail` is on.
//!
//! | event | data |
//! |---|---|
//! | `line` | `{number, at, level, target, text}`: a line of the log, with all that the log has of it and no more |
//! | `lost` | `{lines}`: so many lines went, because whoever follows was too slow |
//! | `end` | `{why}`: there will be no more |
//!
//! A stream is told by the node whose log it is: one node cannot hand it on for another, and says which address to ask.
//! It ends when the node begins to drain, when the setting goes off, within seconds of the end of the token that it was asked
//! with, and after an hour.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::time::{Instant, Interval, interval_at, sleep_until};
use tracing::Level;

use super::access::{AdminPort, Principal, principal};
use super::asked::Query;
use super::resources::{AdminState, Started};
use crate::http::problem::Problem;
use crate::ids::NodeName;
use crate::node::{Lifecycle, Phase};
use crate::service::NodeContext;
use crate::telemetry::tail::{self, Heard, KEPT, Line, Listening, MOST_LISTENERS};

/// How often a comment is sent, as for all streams: that who follows has gone shows in nothing else. So often, and with all
/// that is sent, it is also looked whether they may still follow.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a stream lasts.
const LONGEST: Duration = Duration::from_secs(3_600);
/// How long lines are collected after some were sent. With a filter that shows how answers are sent each of them makes
/// lines: they come as often as this and no more.
const STEP: Duration = Duration::from_millis(200);
/// How many lines a stream begins with unless it is said.
const BEGINS_WITH: usize = 100;
const HELLO: &str = "retry: 2000\n: following\n\n";
const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

type Answer = Result<HttpResponse, Problem>;

/// Adds the resource.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    app.app_data(Started::of(state)).route("/v1/logs/tail", web::get().to(follow));
}

async fn follow(started: Data<Started>, request: HttpRequest) -> Answer {
    let query = Query::of(&request, &["node", "level", "target", "contains", "last", "follow"])?;
    let wanted = Wanted::of(&query)?;
    let last = query.number("last", 0..=i64::try_from(KEPT).unwrap_or(i64::MAX))?;
    let last = last.and_then(|last| usize::try_from(last).ok()).unwrap_or(BEGINS_WITH);
    let goes_on = query.parsed("follow", "true or false", |text| text.parse::<bool>().ok())?;
    let context = started.context()?;
    check_node(context, &query)?;
    if context.lifecycle.is_draining() {
        return Err(unavailable("draining", "This node is being stopped: look at its log itself"));
    }
    let (lines, listening) = listen(last)?;
    let begin = format!("{HELLO}{}", wanted.events(&lines));
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would otherwise collect what is to be seen at once.
        .insert_header(("x-accel-buffering", "no"))
        .content_type("text/event-stream");
    if goes_on == Some(false) {
        return Ok(answer.body(begin));
    }
    let following = Following::begin(context, (wanted, listening), (principal(&request), begin));
    Ok(answer.streaming(following.chunks()))
}

/// Begins to listen to the lines of this process, if they are kept.
fn listen(last: usize) -> Result<(Vec<Arc<Line>>, Listening), Problem> {
    let lines = tail::of_process();
    let conflict = |code, title: &'static str| Problem::new(StatusCode::CONFLICT, code, title);
    if !lines.is_fed() {
        let problem = conflict("log_not_ours", "The application writes its log itself");
        return Err(problem.with_detail("look at it where the application writes it"));
    }
    if !lines.is_on() {
        return Err(conflict("log_tail_off", "The log cannot be followed now").with_detail(
            "it is off: PUT /v1/settings/log_tail {\"value\":\"on\",\"why\":\"...\",\"for_s\":600} switches it on",
        ));
    }
    lines.listen(last).ok_or_else(|| {
        unavailable("too_many_listeners", "Too many follow the log of this node")
            .with_detail(format!("{MOST_LISTENERS} do"))
    })
}

fn unavailable(code: &'static str, title: &'static str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title)
        .with_retry_after(Duration::from_secs(2))
}

/// Refuses to tell of another node, and says whom to ask.
fn check_node(context: &NodeContext, query: &Query) -> Result<(), Problem> {
    let right = "the name of a node: 1 to 64 of A-Z a-z 0-9 . _ -";
    let name: Option<NodeName> = query.parsed("node", right, |text| text.parse().ok())?;
    let Some(name) = name.filter(|name| name != context.node_id.name()) else { return Ok(()) };
    let members = context.membership.members();
    let Some(member) = members.iter().find(|member| *member.record.id.name() == name) else {
        let (status, code) = (StatusCode::NOT_FOUND, "unknown_node");
        let problem = Problem::new(status, code, "There is no node of this name");
        return Err(problem.with_member("parameter", "node"));
    };
    let record = &member.record;
    let title = "A node tells its log itself";
    let problem = Problem::new(StatusCode::CONFLICT, "other_node", title);
    Err(match &record.admin_addr {
        Some(address) => problem
            .with_detail(format!("ask http://{address} on the host {}", record.host))
            .with_member("admin_addr", address.as_str())
            .with_member("host", record.host.as_str()),
        None => problem.with_detail("its admin port is off: look at its log where it runs"),
    })
}

/// Which lines somebody wants.
#[derive(Debug)]
struct Wanted {
    /// This level and those that are graver.
    level: Level,
    /// How the target begins.
    target: String,
    /// In small letters.
    contains: String,
}

impl Wanted {
    fn of(query: &Query) -> Result<Self, Problem> {
        let right = "error, warn, info, debug or trace";
        let level = query.parsed("level", right, |text| {
            LEVELS.iter().find(|(name, _)| *name == text).map(|(_, level)| *level)
        })?;
        let text = |name: &str| query.text(name).unwrap_or_default();
        Ok(Self {
            level: level.unwrap_or(Level::TRACE),
            target: text("target").to_owned(),
            contains: text("contains").to_lowercase(),
        })
    }

    /// Writes those of the lines that are wanted.
    fn events(&self, lines: &[Arc<Line>]) -> String {
        lines.iter().filter_map(|line| self.event(line)).collect()
    }

    fn event(&self, line: &Line) -> Option<String> {
        if line.level > self.level || !line.target.starts_with(&self.target) {
            return None;
        }
        let (at, text) = line.told();
        if !self.contains.is_empty() && !text.to_lowercase().contains(&self.contains) {
            return None;
        }
        let level = LEVELS.iter().find(|(_, level)| *level == line.level)?.0;
        let data = json!({
            "number": line.number, "at": at, "level": level, "target": line.target, "text": text,
        });
        Some(format!("event: line\ndata: {data}\n\n"))
    }
}

/// A stream under way.
struct Following {
    wanted: Wanted,
    listening: Listening,
    /// Who follows, and where it is known whether they may.
    who: Option<Principal>,
    port: AdminPort,
    lifecycle: Lifecycle,
    /// What is sent first.
    begin: Option<String>,
    /// When lines may be sent again.
    next: Instant,
    until: Instant,
    alive: Interval,
    is_over: bool,
}

impl Following {
    fn begin(
        context: &NodeContext,
        (wanted, listening): (Wanted, Listening),
        (who, begin): (Option<Principal>, String),
    ) -> Self {
        let now = Instant::now();
        Self {
            wanted,
            listening,
            who,
            port: context.admin.clone(),
            lifecycle: context.lifecycle.clone(),
            begin: Some(begin),
            next: now,
            until: now + LONGEST,
            alive: interval_at(now + KEEP_ALIVE, KEEP_ALIVE),
            is_over: false,
        }
    }

    fn chunks(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, async |mut following| {
            let chunk = following.chunk().await?;
            Some((Ok(Bytes::from(chunk)), following))
        })
    }

    async fn chunk(&mut self) -> Option<String> {
        if let Some(begin) = self.begin.take() {
            return Some(begin);
        }
        while !self.is_over {
            let heard = tokio::select! {
                biased;
                () = self.lifecycle.reached(Phase::Draining) => return None,
                () = sleep_until(self.until) => return None,
                heard = hear(&mut self.listening, self.next) => Some(heard),
                _ = self.alive.tick() => None,
            };
            if !self.who.as_ref().is_some_and(|who| self.port.still_counts(who)) {
                self.is_over = true;
                return Some(ended("the token does not count any more"));
            }
            let Some(heard) = heard else { return Some(": keep-alive\n\n".to_owned()) };
            self.next = Instant::now() + STEP;
            let text = self.text(&heard);
            if !text.is_empty() {
                return Some(text);
            }
        }
        None
    }

    fn text(&mut self, heard: &Heard) -> String {
        match heard {
            Heard::Lines(lines) => self.wanted.events(lines),
            Heard::Lost(lines) => format!("event: lost\ndata: {{\"lines\":{lines}}}\n\n"),
            Heard::Off => {
                self.is_over = true;
                ended("the setting log_tail went off")
            }
        }
    }
}

/// Writes that there will be no more, and why: in words that JSON need not escape.
fn ended(why: &str) -> String {
    format!("event: end\ndata: {{\"why\":\"{why}\"}}\n\n")
}

/// Waits for what is next, not before this moment.
async fn hear(listening: &mut Listening, from: Instant) -> Heard {
    sleep_until(from).await;
    listening.next().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(query: &str) -> Wanted {
        let query = Query::parse(query, &["level", "target", "contains"]).unwrap();
        Wanted::of(&query).unwrap()
    }

    fn line(level: Level, target: &str, message: &str) -> Line {
        let written =
            json!({ "timestamp": "2026-01-01T00:00:00Z", "fields": { "message": message } });
        Line::for_test(7, level, target, &written.to_string())
    }

    #[test]
    fn u14_only_what_is_wanted_is_told() {
        let line = line(Level::INFO, "understudy_session::store", "Session loaded");
        for (query, is_told) in [
            ("", true),
            ("level=info", true),
            ("level=trace", true),
            ("level=warn", false),
            ("target=understudy_session", true),
            ("target=session", false),
            ("contains=session%20LOADED", true),
            ("contains=saved", false),
            ("level=debug&target=understudy_&contains=loaded", true),
        ] {
            assert_eq!(wanted(query).event(&line).is_some(), is_told, "{query}");
        }
        let query = Query::parse("level=loud", &["level"]).unwrap();
        let problem = Wanted::of(&query).unwrap_err();
        assert_eq!(
            problem.detail.as_deref(),
            Some("`level` must be error, warn, info, debug or trace")
        );
    }

    #[test]
    fn u14_an_event_is_written_as_browsers_read_it_whatever_the_line_says() {
        let line = line(Level::ERROR, "a", "x\n\ndata: forged\u{1b}[2J");
        let event = wanted("").event(&line).unwrap();
        let data = event.strip_prefix("event: line\ndata: ").unwrap();
        let data = data.strip_suffix("\n\n").unwrap();
        assert!(!data.contains(char::is_control), "{data:?}");
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["text"], "x\\n\\ndata: forged\\u001b[2J");
        assert_eq!((&data["level"], &data["number"]), (&json!("error"), &json!(7)));
        assert_eq!(data["at"], "2026-01-01T00:00:00Z");
    }
}
