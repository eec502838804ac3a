//! The command line: runs a node, and operates a cluster over the admin port of any of its nodes.
//!
//! | file | what it is for |
//! |---|---|
//! | `verb`, `verbs/*` | the table: what is typed, and which operation of the admin port it stands for |
//! | `command` | the same as clap knows it |
//! | `asked` | from what was typed to a request |
//! | `client`, `problem`, `failure` | sending it, and what can go wrong, with exit statuses and advice |
//! | `call`, `paging`, `wait`, `events`, `run_log` | carrying a verb out |
//! | `view`, `views/*`, `show`, `paper`, `harmless` | showing the answer to people |
//! | `files`, `transfer`, `folder`, `manifest` | files: their contents on the way, and whole spaces as folders |
//! | `local`, `balancer`, `top` | commands that are more, or less, than one request |
//!
//! It deliberately knows nothing of a cluster but its API: what it can do, whoever writes a program can do too.

mod asked;
mod balancer;
mod call;
mod client;
mod command;
mod events;
mod failure;
mod files;
mod folder;
mod harmless;
mod local;
mod manifest;
mod paging;
mod paper;
mod problem;
mod progress;
mod reference;
mod run_log;
mod show;
mod terminal;
mod top;
mod transfer;
mod verb;
mod verbs;
mod view;
mod views;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, FromArgMatches as _};
use understudy_runtime::secret::Secret;

use self::call::Caller;
use self::client::{Client, base_of};
use self::command::Common;
use self::failure::Failure;
use self::terminal::Terminal;

pub use verb::{Kind, Parameter, Place, Verb};

const DEFAULT_URL: &str = "http://127.0.0.1:9090";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest token that makes sense, bytes.
const LONGEST_TOKEN: u64 = 16_384;

/// Does what `main` of the program does: runs a node when nothing or `serve` is said, else carries out the command.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let serves = match words.as_slice() {
        [] | [_] => true,
        [_, command] => command == "serve",
        [_, _, _, ..] => false,
    };
    if serves {
        return crate::readymade::main();
    }
    let mut terminal = Terminal::of_process();
    match parsed(&words, &mut terminal) {
        Ok(typed) => ExitCode::from(run(&typed, terminal)),
        Err(status) => ExitCode::from(status),
    }
}

/// Returns all verbs that stand for an operation of the admin port, for comparing the two.
pub fn verbs() -> impl Iterator<Item = Verb> {
    verbs::all().copied()
}

/// Reads the command line; gives the exit status when there is nothing left to do.
fn parsed(words: &[OsString], terminal: &mut Terminal) -> Result<ArgMatches, u8> {
    let error = match command::root().try_get_matches_from(words) {
        Ok(typed) => return Ok(typed),
        Err(error) => error,
    };
    // clap writes with a capital what is a word in the middle of a line here.
    let text = error.render().to_string().replace("Usage: ", "usage: ");
    if error.use_stderr() {
        let text =
            text.strip_prefix("error: ").map_or(text.clone(), |text| format!("understudy: {text}"));
        terminal.complain(text.trim_end());
        return Err(Failure::Usage(String::new()).status());
    }
    match terminal.write(text.as_bytes()).and_then(|()| terminal.flush()) {
        Ok(()) => Err(0),
        Err(failure) => Err(failure.status()),
    }
}

/// Carries out a command; gives the exit status.
fn run(typed: &ArgMatches, mut terminal: Terminal) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal.complain(&format!("understudy: no thread of work can be begun: {error}"));
            return 1;
        }
    };
    let status = runtime.block_on(carry_out(typed, terminal));
    // A name may still be looked up by a thread that nobody waits for.
    runtime.shutdown_background();
    status
}

async fn carry_out(typed: &ArgMatches, mut terminal: Terminal) -> u8 {
    let (words, leaf) = spoken(typed);
    let carried = match prepared(&words, leaf, &terminal) {
        Ok((client, json)) => {
            let mut caller = Caller { client, terminal, json };
            let carried = dispatch(&words, leaf, &mut caller).await;
            terminal = caller.terminal;
            carried.map_err(|failure| (failure, json))
        }
        Err(failure) => Err((failure, false)),
    };
    match carried {
        Ok(status) => status,
        Err((failure, json)) => {
            tell(&failure, json, &mut terminal);
            failure.status()
        }
    }
}

/// The words of the command, and what was said with the last of them.
fn spoken(typed: &ArgMatches) -> (String, &ArgMatches) {
    let (mut words, mut leaf) = (Vec::new(), typed);
    while let Some((word, below)) = leaf.subcommand() {
        words.push(word);
        leaf = below;
    }
    (words.join(" "), leaf)
}

/// Makes the way to the node; nothing is connected yet.
fn prepared(
    words: &str,
    leaf: &ArgMatches,
    terminal: &Terminal,
) -> Result<(Client, bool), Failure> {
    let common =
        Common::from_arg_matches(leaf).map_err(|error| Failure::Usage(error.to_string()))?;
    if words.is_empty() || words == "serve" {
        // It can only have got here with options of other commands.
        debug_assert!(common.is_said());
        return Err(Failure::Usage(
            "a node takes no options: they are environment variables, see docs/configuration.md"
                .to_owned(),
        ));
    }
    let timeout = match &common.timeout {
        Some(timeout) => asked::duration("timeout", timeout)?,
        None => DEFAULT_TIMEOUT,
    };
    // What asks nobody must not fail for want of an address or a token; health needs no token.
    let needs_no_node =
        ["config check", "config print", "completions", "reference"].contains(&words);
    let (base, token) = match (needs_no_node, words) {
        (true, _) => (DEFAULT_URL.to_owned(), None),
        (false, "health") => (base(words, common.url.as_deref(), terminal)?, None),
        (false, _) => (base(words, common.url.as_deref(), terminal)?, token(&common, terminal)?),
    };
    Ok((Client::new(base, token, timeout)?, common.json))
}

fn base(words: &str, url: Option<&str>, terminal: &Terminal) -> Result<String, Failure> {
    if let Some(url) = url {
        return base_of(url).map_err(|right| Failure::Usage(format!("--url {right}")));
    }
    if let Some(url) = terminal.around.variable("UNDERSTUDY_ADMIN_URL") {
        return base_of(url)
            .map_err(|right| Failure::Configuration(format!("UNDERSTUDY_ADMIN_URL {right}")));
    }
    let own = if words == "health" { local::own_health_port(terminal) } else { None };
    Ok(own.unwrap_or_else(|| DEFAULT_URL.to_owned()))
}

/// The token: from a file that is named, or from the environment; never from an argument, which others could see.
fn token(common: &Common, terminal: &Terminal) -> Result<Option<Secret<String>>, Failure> {
    const VARIABLE: &str = "UNDERSTUDY_TOKEN";
    const FILE: &str = "UNDERSTUDY_TOKEN_FILE";
    if let Some(path) = &common.token_file {
        return of_file("--token-file", path).map(Some);
    }
    match (terminal.around.variable(VARIABLE), terminal.around.variable(FILE)) {
        (Some(_), Some(_)) => Err(Failure::Configuration(format!(
            "{VARIABLE} is set and {FILE} too; set only one of them"
        ))),
        (Some(token), None) => Ok(Some(Secret::new(token.trim().to_owned()))),
        (None, Some(path)) => of_file(FILE, std::path::Path::new(path.trim())).map(Some),
        (None, None) => Ok(None),
    }
}

fn of_file(named_by: &str, path: &std::path::Path) -> Result<Secret<String>, Failure> {
    use std::io::Read as _;
    let wrong =
        |what: &str| Failure::Configuration(format!("{named_by}: {} {what}", path.display()));
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST_TOKEN).read_to_string(&mut text));
    read.map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    match text.trim() {
        "" => Err(wrong("is empty")),
        token => Ok(Secret::new(token.to_owned())),
    }
}

async fn dispatch(words: &str, typed: &ArgMatches, caller: &mut Caller) -> Result<u8, Failure> {
    let Caller { client, terminal, json } = caller;
    match words {
        "config check" => local::check(*json, terminal),
        "config print" => local::print_options(*json, terminal),
        "health" => local::health(client, *json, terminal).await,
        "completions" => local::completions(typed, terminal),
        "reference" => reference::print(terminal),
        "lb nginx" => balancer::print("nginx", typed, client, terminal).await,
        "lb haproxy" => balancer::print("haproxy", typed, client, terminal).await,
        "files export" => folder::export(typed, caller).await,
        "files import" => folder::import(typed, caller).await,
        "files sweep" => files::sweep(typed, caller).await,
        "top" => top::top(typed, caller).await,
        words => {
            let verb = verbs::all().find(|verb| verb.words == words);
            call::call(verb.expect("every other command is a verb"), typed, caller).await
        }
    }
}

/// Tells what went wrong and what helps; with `--json` the problem itself is the answer.
fn tell(failure: &Failure, json: bool, terminal: &mut Terminal) {
    if let Failure::Closed = failure {
        return;
    }
    if let (Failure::Refused(problem), true) = (failure, json) {
        let written = terminal.pass_on(&problem.json()).and_then(|()| terminal.pass_on(b"\n"));
        drop(written.and_then(|()| terminal.flush()));
    }
    // What was printed before comes first.
    drop(terminal.flush());
    terminal.complain(&format!("understudy: {failure}"));
    if let Some(advice) = failure.advice() {
        terminal.complain(&format!("  what to do: {advice}"));
    }
    if let Failure::Refused(problem) = failure
        && let Some(request) = problem.request()
    {
        terminal.mention(&format!("  in the log of the node: request {request}"));
    }
}

#[cfg(test)]
mod tests;
