//! The log of the node that shows the page, as it is written. The lines that are kept stand in the page; with the script
//! more follow by themselves.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::{Trouble, target};
use super::super::doing::button;
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, empty, heading};
use super::super::visit::Visit;
use super::super::words;

/// So many lines are shown at first.
const LAST: &str = "100";
/// So many characters of a line are shown.
const LONGEST: usize = 400;
/// So many characters are shown in all, so that a page stays small.
const MOST: usize = 24_000;
const SETTING: &str = "log_tail";
/// For so many minutes it is switched on unless somebody says otherwise: it must have an end.
const MINUTES: &str = "15";

/// Which lines are asked for, as the API and the addresses of the console name it.
pub(in super::super) fn query(visit: &Visit) -> [(&'static str, &str); 3] {
    ["level", "target", "contains"].map(|name| (name, visit.asked(name)))
}

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let wanted = query(visit);
    let kept = [wanted.as_slice(), &[("last", LAST), ("follow", "false")]].concat();
    let path = target("/v1/logs/tail", &kept);
    let (told, settings) =
        tokio::join!(visit.console.api.text(&visit.asker, &path), visit.get("/v1/settings"),);
    let settings = settings.unwrap_or_default();
    let setting = settings.list("settings").iter().find(|one| one.text("name") == SETTING);
    let node = visit.console.backstage.node();
    let body = html! {
        (heading(
            "Log",
            html! { "What " (parts::node_link(&node)) " writes into its log, as it does." },
            switch(visit, told.is_ok()),
        ))
        section.card {
            (filters(visit))
            @match &told {
                Ok(text) => {
                    @if let Some(setting) = setting {
                        p.soft { "It can be followed on all nodes." (super::settings::until(visit, setting)) }
                    }
                    (lines(&target("/console/log/stream", &wanted), text))
                },
                Err(trouble) => (not_followed(trouble)),
            }
        }
    };
    Page::new("Log", "settings", body)
}

/// What switches it off, or on.
fn switch(visit: &Visit, is_on: bool) -> Markup {
    if is_on {
        return button(visit, "settings.reset", &[("name", SETTING)]);
    }
    button(visit, "settings.set", &[("name", SETTING), ("value", "on"), ("for_s", MINUTES)])
}

fn not_followed(trouble: &Trouble) -> Markup {
    if trouble.code != "log_tail_off" {
        return parts::missing(trouble);
    }
    empty(
        "The log cannot be followed now",
        html! {
            "Set " (parts::code("log_tail")) " to " (parts::code("on")) " for a while, 24 hours at most: "
            (parts::code("understudy settings set log_tail on --why … --for 10min"))
        },
    )
}

fn filters(visit: &Visit) -> Markup {
    html! {
        form.filters method="get" action="/console/log" {
            label { span { "Level" } select name="level" {
                option value="" { "all" }
                @for level in ["debug", "info", "warn", "error"] {
                    option value=(level) selected[visit.asked("level") == level] { (level) " and graver" }
                }
            } }
            label {
                span { "Target" }
                input name="target" type="search" value=(visit.asked("target")) placeholder="understudy_session" autocomplete="off";
            }
            label {
                span { "With the text" }
                input name="contains" type="search" value=(visit.asked("contains")) autocomplete="off";
            }
            button { "Show" }
            @if !visit.query.is_empty() { a.button href="/console/log" { "Clear" } }
        }
    }
}

/// The lines that are kept, where the script puts those that come.
fn lines(stream: &str, events: &str) -> Markup {
    let lines: Vec<Value> = events
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    let mut room = MOST;
    let shown = lines.iter().rev().take_while(|line| {
        let length = line.text("text").chars().count().min(LONGEST) + 60;
        let fits = length <= room;
        room = room.saturating_sub(length);
        fits
    });
    let shown = shown.count();
    html! {
        div.scroll.log #log role="region" aria-label="Log" tabindex="0" data-tail data-stream=(stream) {
            @for line in &lines[lines.len() - shown..] { (line_of(line)) }
        }
    }
}

fn line_of(line: &Value) -> Markup {
    let at = line.text("at");
    html! {
        p class={ "line " (line.text("level")) } {
            time datetime=(at) { (at.get(11..23).unwrap_or(at)) }
            " " span.level { (line.text("level")) }
            " " span.soft { (line.text("target")) }
            " " span { (words::shortened(line.text("text"), LONGEST)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u14_the_latest_lines_that_fit_are_shown_and_nothing_in_them_is_markup() {
        let event = |number: usize, text: &str| {
            let data = serde_json::json!({
                "number": number, "at": "2026-01-01T00:00:00.123456Z", "level": "warn",
                "target": "a::b", "text": text,
            });
            format!("event: line\ndata: {data}\n\n")
        };
        let shown = lines("/console/log/stream?level=warn", &event(1, "<b>x</b>")).0;
        assert!(
            shown.contains("&lt;b&gt;x&lt;/b&gt;") && shown.contains("00:00:00.123"),
            "{shown}"
        );
        assert!(shown.contains("data-stream=\"/console/log/stream?level=warn\""), "{shown}");
        let long: String = (0..200).map(|number| event(number, &"y".repeat(2_000))).collect();
        let shown = lines("", &long).0;
        assert_eq!(shown.matches("<p ").count(), MOST / (LONGEST + 60));
        assert!(shown.len() < 45_000, "{}", shown.len());
    }
}
