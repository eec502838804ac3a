//! The cluster at a glance, in a terminal: nodes, who leads, runs, problems, again and again.
//!
//! It asks the API for what it shows and changes nothing. Parts that the node or the token does not give are told as
//! missing; the rest is shown all the same.

mod frame;
mod screen;

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use self::frame::{Size, frame};
use self::screen::{Events, Happening, Screen};
use super::asked;
use super::call::Caller;
use super::client::{Client, Request};
use super::failure::Failure;
use super::terminal::terminal_size;

const EVERY: Duration = Duration::from_secs(2);
/// What a terminal has that does not say.
const USUAL: (usize, usize) = (80, 24);

pub(super) fn commands() -> Vec<(&'static str, Command)> {
    let once =
        Arg::new("once").long("once").action(ArgAction::SetTrue).help("Print it once and end");
    let every = Arg::new("every")
        .long("every")
        .value_name("DURATION")
        .help("How often it is refreshed [default: 2s]");
    let about = "Shows nodes, leader, runs and problems, and refreshes them; q ends it";
    vec![("top", Command::new("top").about(about).arg(once).arg(every))]
}

/// What is known of the cluster at one moment; what could not be learned is told instead.
#[derive(Debug)]
struct Snapshot {
    about: Part,
    nodes: Part,
    leader: Part,
    scheduler: Part,
    runs: Part,
    problems: Part,
}

type Part = Result<Value, String>;

/// Shows the cluster until somebody has seen enough.
pub(super) async fn top(typed: &ArgMatches, caller: &mut Caller) -> Result<u8, Failure> {
    let every = typed.get_one::<String>("every");
    let every = every.map_or(Ok(EVERY), |every| asked::duration("every", every))?;
    if caller.json {
        return Err(Failure::Usage(
            "top is for people; `nodes --json` and the like are for programs".to_owned(),
        ));
    }
    if typed.get_flag("once") {
        return once(caller).await;
    }
    if !caller.terminal.around.is_read {
        return Err(Failure::Usage("top needs a terminal; --once prints one frame".to_owned()));
    }
    // Whoever cannot be reached at all is not worth a screen.
    caller.client.json(&Request::get("/v1/about")).await?;
    let mut screen = Screen::enter();
    let watched = watch(every, &mut screen, caller).await;
    screen.leave();
    watched.map(|()| 0)
}

async fn once(caller: &mut Caller) -> Result<u8, Failure> {
    let about = caller.client.json(&Request::get("/v1/about")).await?;
    let snapshot = Snapshot { about: Ok(about), ..gather(&caller.client).await };
    let around = &caller.terminal.around;
    let size = Size::new(around.size.unwrap_or(USUAL), around.colours());
    let lines = frame(&snapshot, caller.client.base(), size, around.now_ms());
    caller.terminal.write((lines.join("\n") + "\n").as_bytes())?;
    caller.terminal.flush()?;
    Ok(0)
}

async fn watch(every: Duration, screen: &mut Screen, caller: &mut Caller) -> Result<(), Failure> {
    let mut events = Events::new()?;
    loop {
        let client = caller.client.clone();
        let gathering = gather(&client);
        tokio::pin!(gathering);
        let snapshot = loop {
            tokio::select! {
                snapshot = &mut gathering => break snapshot,
                happening = events.next() => match happening {
                    Happening::End => return Ok(()),
                    Happening::Suspend => screen.suspend(),
                    Happening::Resize | Happening::Again => {}
                },
            }
        };
        draw(&snapshot, caller)?;
        let next = Instant::now() + every;
        loop {
            let happening = tokio::select! {
                () = sleep_until(next) => break,
                happening = events.next() => happening,
            };
            match happening {
                Happening::End => return Ok(()),
                Happening::Again => break,
                Happening::Suspend => screen.suspend(),
                Happening::Resize => {}
            }
            draw(&snapshot, caller)?;
        }
    }
}

/// Writes a frame over the one before, line by line, so that nothing flickers.
fn draw(snapshot: &Snapshot, caller: &mut Caller) -> Result<(), Failure> {
    let size = Size::new(terminal_size().unwrap_or(USUAL), caller.terminal.around.colours());
    let lines = frame(snapshot, caller.client.base(), size, caller.terminal.around.now_ms());
    let text = format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"));
    caller.terminal.write(text.as_bytes())?;
    caller.terminal.flush()
}

async fn gather(client: &Client) -> Snapshot {
    let ask = async |path: &str| {
        client.json(&Request::get(path)).await.map_err(|failure| failure.to_string())
    };
    let (about, nodes, leader, scheduler, runs, problems) = tokio::join!(
        ask("/v1/about"),
        ask("/v1/nodes"),
        ask("/v1/leader"),
        ask("/v1/scheduler"),
        ask("/v1/runs?state=queued,running,retrying&limit=100"),
        ask("/v1/problems"),
    );
    Snapshot { about, nodes, leader, scheduler, runs, problems }
}
