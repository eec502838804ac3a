//! Carrying out a verb: ask if it destroys something, send the request, show the answer.

use clap::ArgMatches;
use serde_json::Value;

use super::asked;
use super::client::{Client, Request};
use super::failure::Failure;
use super::terminal::Terminal;
use super::verb::{Manner, Verb};
use super::view::View;
use super::{events, files, local, paging, run_log, wait};

/// Who asks: the way to the node, and where the answer is shown.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) terminal: Terminal,
    /// Whether the answer is printed as it is.
    pub(super) json: bool,
}

/// Carries out a verb; gives the exit status.
pub(super) async fn call(
    verb: &'static Verb,
    typed: &ArgMatches,
    caller: &mut Caller,
) -> Result<u8, Failure> {
    if verb.manner == Manner::Options && typed.get_flag("print") {
        return local::print_options(caller.json, &mut caller.terminal);
    }
    let request = asked::request(verb, typed, &mut caller.terminal)?;
    if destroys(verb, typed) && !typed.get_flag("yes") {
        confirm(verb, &mut caller.terminal)?;
    }
    match verb.manner {
        Manner::Events => events::watch(&request, typed, caller).await,
        Manner::LogTail => events::log(&request, typed, caller).await,
        Manner::RunLog => run_log::print(verb, request, typed, caller).await,
        Manner::Waits(what) if typed.get_flag("wait") => {
            wait::done(what, &request, typed, caller).await
        }
        Manner::Doctor => doctor(verb, &request, caller).await,
        Manner::Upload => files::put(verb, request, typed, caller).await,
        Manner::Download => files::get(verb, &request, typed, caller).await,
        Manner::Verify => files::verify(&request, caller).await,
        Manner::Plain
        | Manner::Waits(_)
        | Manner::Document
        | Manner::Definition
        | Manner::Schedule
        | Manner::Options => {
            if !verb.pages.is_empty() && typed.get_flag("all") {
                paging::all(verb, request, caller).await
            } else {
                once(verb, &request, caller).await
            }
        }
    }
}

/// Whether this is one of the verbs that ask, said in the way in which it destroys something.
fn destroys(verb: &Verb, typed: &ArgMatches) -> bool {
    let is_said = verb.asks_if.is_none_or(|(parameter, value)| {
        typed.get_one::<String>(parameter).is_some_and(|said| said == value)
    });
    !verb.asks.is_empty() && is_said
}

/// Asks before something is destroyed. Without a person to ask, it must have been said before.
fn confirm(verb: &Verb, terminal: &mut Terminal) -> Result<(), Failure> {
    if !terminal.around.asks {
        return Err(Failure::Usage(format!(
            "`{}` is only done without asking if --yes says so",
            verb.words
        )));
    }
    terminal.complain(verb.asks);
    if terminal.agrees("Go on?") {
        return Ok(());
    }
    Err(Failure::Interrupted("nothing was done".to_owned()))
}

async fn once(verb: &Verb, request: &Request, caller: &mut Caller) -> Result<u8, Failure> {
    if caller.json || matches!(verb.view, View::AsItIs) {
        return as_it_is(request, caller).await;
    }
    let answer = match caller.client.send(request).await {
        // The reasons are the answer.
        Err(Failure::Refused(problem)) if problem.code == "not_safe" => {
            let answer = Value::Object(problem.members);
            caller.terminal.page(|paper| verb.view.render(&answer, paper))?;
            return Ok(1);
        }
        answer => answer?,
    };
    let bytes = answer.bytes().await?;
    show(verb, &bytes, caller)?;
    Ok(0)
}

/// Shows an answer to people.
pub(super) fn show(verb: &Verb, bytes: &[u8], caller: &mut Caller) -> Result<Value, Failure> {
    if bytes.is_empty() {
        let said = match verb.view {
            View::Nothing(said) | View::NothingOr(said) => said,
            View::Object | View::Parts(_) | View::Custom(_) | View::AsItIs => "done",
        };
        caller.terminal.page(|paper| paper.line(said))?;
        return Ok(Value::Null);
    }
    let answer = serde_json::from_slice(bytes)
        .map_err(|_| caller.client.stranger("it did not answer with JSON"))?;
    caller.terminal.page(|paper| verb.view.render(&answer, paper))?;
    if let Some(cursor) = verb.cursor()
        && !verb.pages.is_empty()
        && !answer["next"].is_null()
    {
        let next = super::show::plain(&answer["next"]);
        caller.terminal.mention(&format!("there are more: --all, or --{cursor} {next}"));
    }
    Ok(answer)
}

/// Passes an answer on, part by part: it may be larger than memory.
async fn as_it_is(request: &Request, caller: &mut Caller) -> Result<u8, Failure> {
    let mut answer = caller.client.send(request).await?;
    let mut last = None;
    while let Some(part) = answer.part().await? {
        caller.terminal.pass_on(&part)?;
        last = part.last().copied().or(last);
    }
    if last.is_some_and(|last| last != b'\n') {
        caller.terminal.pass_on(b"\n")?;
    }
    caller.terminal.flush()?;
    Ok(0)
}

/// Prints a whole answer, as it is or for people.
pub(super) fn print(verb: &Verb, bytes: &[u8], caller: &mut Caller) -> Result<Value, Failure> {
    if !caller.json {
        return show(verb, bytes, caller);
    }
    caller.terminal.pass_on(bytes)?;
    if !bytes.ends_with(b"\n") {
        caller.terminal.pass_on(b"\n")?;
    }
    caller.terminal.flush()?;
    Ok(serde_json::from_slice(bytes).unwrap_or_default())
}

async fn doctor(verb: &Verb, request: &Request, caller: &mut Caller) -> Result<u8, Failure> {
    let bytes = caller.client.send(request).await?.bytes().await?;
    let answer = print(verb, &bytes, caller)?;
    match answer["worst"].as_str() {
        Some("ok" | "skipped") => Ok(0),
        Some("warning") => Ok(1),
        Some("critical") => Ok(2),
        Some(_) | None => Err(caller.client.stranger("it did not say how it is")),
    }
}
