//! The log of a run: a page of it, all of it, or what comes until the run has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::call::{Caller, print as print_answer};
use super::client::Request;
use super::failure::Failure;
use super::verb::Verb;

/// How often it is asked for further lines.
const EVERY: Duration = Duration::from_millis(800);
const PAGE: &str = "1000";
/// For so long a node may be away.
const AWAY: Duration = Duration::from_secs(120);

/// Prints the log; all of it and what follows is, as JSON, one line per line.
pub(super) async fn print(
    verb: &Verb,
    mut request: Request,
    typed: &ArgMatches,
    caller: &mut Caller,
) -> Result<u8, Failure> {
    let (follows, all) = (typed.get_flag("follow"), typed.get_flag("all"));
    if !follows && !all {
        let bytes = caller.client.send(&request).await?.bytes().await?;
        let answer = print_answer(verb, &bytes, caller)?;
        let lines = answer["lines"].as_array().map_or(0, Vec::len);
        let limit = request.query.get("limit").map_or("100", String::as_str);
        if !caller.json && limit.parse().is_ok_and(|limit: usize| lines >= limit) {
            let next = super::show::plain(&answer["next"]);
            caller.terminal.mention(&format!("there may be more: --all, or --after {next}"));
        }
        return Ok(0);
    }
    let limit =
        request.query.entry("limit").or_insert_with(|| PAGE.to_owned()).parse().unwrap_or(1);
    let mut away_since: Option<Instant> = None;
    loop {
        let page = match caller.client.send(&request).await {
            Ok(answer) => page(verb, &answer.bytes().await?, caller)?,
            // Whoever follows wants to see the end of it, whatever happens to the node that is asked.
            Err(failure) if follows && failure.may_pass_again() && has_begun(&request) => {
                if away_since.is_none() {
                    caller.terminal.mention("the node does not answer; trying again");
                }
                if away_since.get_or_insert_with(Instant::now).elapsed() > AWAY {
                    return Err(failure);
                }
                sleep(EVERY).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        away_since = None;
        if let Some(next) = page.next {
            request.query.insert("after", next);
        }
        if page.lines >= limit {
            continue;
        }
        // The node looks at the state first: of a run that has ended then, these were the last lines.
        if page.ended || !follows {
            return Ok(0);
        }
        sleep(EVERY).await;
    }
}

/// Whether a part of the log was read.
fn has_begun(request: &Request) -> bool {
    request.query.contains_key("after")
}

/// What a page of a log came to.
struct Page {
    lines: usize,
    next: Option<String>,
    ended: bool,
}

fn page(verb: &Verb, bytes: &[u8], caller: &mut Caller) -> Result<Page, Failure> {
    let answer: Value = serde_json::from_slice(bytes)
        .map_err(|_| caller.client.stranger("it did not answer with JSON"))?;
    if caller.json {
        let page: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).unwrap_or_default();
        let lines = page.get("lines").map_or("[]", |lines| lines.get());
        let lines: Vec<&RawValue> = serde_json::from_str(lines).unwrap_or_default();
        for line in lines {
            caller.terminal.pass_on(line.get().as_bytes())?;
            caller.terminal.write(b"\n")?;
        }
        caller.terminal.flush()?;
    } else {
        caller.terminal.page(|paper| verb.view.render(&answer, paper))?;
    }
    let next = Some(super::show::plain(&answer["next"])).filter(|next| !next.is_empty());
    Ok(Page {
        lines: answer["lines"].as_array().map_or(0, Vec::len),
        next,
        ended: answer["ended"] == true,
    })
}
