//! The end of a run's log. The API gives a log from its beginning, or from a place in it: the end of a long one is found
//! by halving.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::super::super::api::{Told, target};
use super::super::super::look::Look as _;
use super::super::super::parts::empty;
use super::super::super::visit::Visit;
use super::super::super::words;

/// So many lines are shown.
const SHOWN: usize = 200;
/// So many characters of a line are shown.
const LONGEST: usize = 400;
/// So many characters are shown in all, so that a page stays small.
const MOST: usize = 24_000;
/// An attempt has no more lines.
const MOST_LINES: i64 = 10_001;
/// So many lines the API gives at once.
const PAGE: i64 = 1_000;

/// Asks for the last lines.
pub(super) async fn of(visit: &Visit, path: &str, attempt: i64) -> Told {
    let first = lines(visit, path, "", PAGE).await?;
    if first.list("lines").len() < usize::try_from(PAGE).unwrap_or_default() {
        return Ok(first);
    }
    // Of this attempt, the last line that is known to be there, and the first that is not.
    let (mut there, mut not_there) = (0, MOST_LINES);
    while not_there - there > 1 {
        let middle = i64::midpoint(there, not_there);
        let after = format!("{attempt}:{}", middle - 1);
        match lines(visit, path, &after, 1).await?.list("lines").is_empty() {
            true => not_there = middle,
            false => there = middle,
        }
    }
    let shown = i64::try_from(SHOWN).unwrap_or_default();
    let from = match there {
        // The attempt has written nothing yet: what there is are lines of those before.
        0 => first.text("next").to_owned(),
        there => format!("{attempt}:{}", (there - shown).max(0)),
    };
    let last = lines(visit, path, &from, PAGE).await?;
    Ok(if last.list("lines").is_empty() { first } else { with_note(last) })
}

async fn lines(visit: &Visit, path: &str, after: &str, limit: i64) -> Told {
    let query = [("after", after), ("limit", &limit.to_string())];
    visit.get(&target(&format!("{path}/log"), &query)).await
}

/// Notes that there are lines before.
fn with_note(mut log: Value) -> Value {
    log["cut"] = json!(true);
    log
}

/// The last lines of these that fit.
fn fitting(lines: &[Value]) -> &[Value] {
    let mut room = MOST;
    let count = lines
        .iter()
        .rev()
        .take(SHOWN)
        .take_while(|line| {
            let length = line.text("line").chars().count().min(LONGEST) + 40;
            let fits = length <= room;
            room = room.saturating_sub(length);
            fits
        })
        .count();
    &lines[lines.len() - count..]
}

/// Shows them.
pub(super) fn show(visit: &Visit, log: &Value, under_way: bool) -> Markup {
    let lines = log.list("lines");
    let shown = fitting(lines);
    if shown.is_empty() {
        let hint = if under_way {
            "Lines appear here as it writes them."
        } else {
            "It wrote nothing, or its log was purged."
        };
        return empty("No lines", hint);
    }
    let before = lines.len() - shown.len();
    html! {
        @if log.flag("cut") || before > 0 {
            p.soft { "Earlier lines: " code { "understudy run log " (visit.name("id")) } }
        }
        div.scroll.log #log role="region" aria-label="Log" tabindex="0" data-tail {
            @for line in shown { (line_of(line)) }
        }
    }
}

fn line_of(line: &Value) -> Markup {
    let at = line.number("at_ms").unwrap_or_default();
    let clock = words::clock(at);
    html! {
        p class={ "line " (line.text("level")) } {
            time datetime=(words::rfc3339(at)) { (clock.get(11..).unwrap_or_default()) }
            " " span.level { (line.text("level")) }
            " " span { (words::shortened(line.text("line"), LONGEST)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_that_fit_are_shown() {
        let line =
            |number: usize, length: usize| json!({ "seq": number, "line": "x".repeat(length) });
        let short: Vec<Value> = (0..500).map(|number| line(number, 10)).collect();
        assert_eq!(fitting(&short).len(), SHOWN);
        assert_eq!(fitting(&short)[SHOWN - 1]["seq"], 499);
        let long: Vec<Value> = (0..100).map(|number| line(number, 9_000)).collect();
        assert_eq!(fitting(&long).len(), MOST / (LONGEST + 40));
        assert!(fitting(&[]).is_empty());
    }
}
