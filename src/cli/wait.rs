//! Waiting until something that goes on in the cluster is done, whatever happens to the node that is asked.
//!
//! The cluster does the work whether or not somebody waits: Ctrl-C ends the waiting only.

use std::time::Duration;

use clap::ArgMatches;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::asked;
use super::call::{Caller, print};
use super::client::{Client, Request, encoded};
use super::failure::Failure;
use super::problem::Problem;
use super::progress::Progress;
use super::show;
use super::verb::{Verb, Waits};
use super::verbs;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(700);
/// For so long a node may be away: while all are restarted, the one that is asked is too.
const AWAY: Duration = Duration::from_secs(120);

/// What speaks against stopping a node for as long as no other is left for its work: `--force` has taken that on.
const TAKEN_ON: [&str; 2] = ["last_ready_node", "only_eligible_leader"];

/// What waiting came to.
struct Outcome {
    /// The last answer.
    bytes: Vec<u8>,
    /// The exit status.
    status: u8,
    /// What people are told in place of the answer.
    said: Option<String>,
}

impl Outcome {
    fn new(bytes: Vec<u8>, status: u8) -> Self {
        Self { bytes, status, said: None }
    }
}

/// What looking came to.
enum Look {
    /// It is done.
    Done(Outcome),
    /// It goes on.
    Going(Option<(u64, u64)>, String),
}

/// Sends the request that begins it, and waits until it is done.
pub(super) async fn done(
    what: Waits,
    request: &Request,
    typed: &ArgMatches,
    caller: &mut Caller,
) -> Result<u8, Failure> {
    let limit = typed.get_one::<String>("wait-limit");
    let limit = limit.map(|limit| asked::duration("wait-limit", limit)).transpose()?;
    let begun = caller.client.json(request).await?;
    let node = typed.try_get_one::<String>("name").ok().flatten().cloned().unwrap_or_default();
    let mut progress = Progress::default();
    let is_forced = request.query.contains_key("force");
    let waiting = Waiting { what, begun: &begun, node: &node, is_forced };
    let waiting = until_done(waiting, &mut progress, caller);
    let ended = tokio::select! {
        ended = waiting => ended,
        () = over(limit) => Err(Failure::CameToNothing(format!(
            "it was not done within {}; it goes on", humantime::format_duration(limit.unwrap_or_default())
        ))),
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted("no longer waiting; it goes on in the cluster".to_owned())),
    };
    progress.end(&mut caller.terminal);
    let Outcome { bytes, status, said } = ended?;
    match said.filter(|_| !caller.json) {
        Some(said) => caller.terminal.page(|paper| paper.line(&said))?,
        None => drop(print(answering(what), &bytes, caller)?),
    }
    Ok(status)
}

async fn over(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// The verb that shows what waiting came to.
fn answering(what: Waits) -> &'static Verb {
    let operation = match what {
        Waits::Drain => "nodes.safe_to_stop",
        Waits::Run => "runs.show",
        Waits::Restart => "cluster.restart_show",
    };
    verbs::all().find(|verb| verb.operation == operation).expect("a test looks for each")
}

/// What is waited for.
struct Waiting<'a> {
    what: Waits,
    begun: &'a Value,
    node: &'a str,
    /// Whether it was begun although no other node is left for the work.
    is_forced: bool,
}

async fn until_done(
    waiting: Waiting<'_>,
    progress: &mut Progress,
    caller: &mut Caller,
) -> Result<Outcome, Failure> {
    let mut away_since: Option<Instant> = None;
    loop {
        match waiting.look(&caller.client).await {
            Ok(Look::Done(outcome)) => return Ok(outcome),
            Ok(Look::Going(share, text)) => {
                away_since = None;
                progress.tell(share, &text, &mut caller.terminal);
            }
            // What began it was not refused, so the token is one that counts.
            Err(failure) if failure.may_pass_again() => {
                if away_since.get_or_insert_with(Instant::now).elapsed() > AWAY {
                    return Err(failure);
                }
                progress.tell(
                    None,
                    &format!("the node does not answer: {failure}"),
                    &mut caller.terminal,
                );
            }
            Err(failure) => return Err(failure),
        }
        sleep(EVERY).await;
    }
}

impl Waiting<'_> {
    async fn look(&self, client: &Client) -> Result<Look, Failure> {
        match self.what {
            Waits::Drain => self.may_stop(client).await,
            Waits::Run => self.run(client).await,
            Waits::Restart => self.restart(client).await,
        }
    }

    fn begun_run(&self, client: &Client) -> Result<Request, Failure> {
        let run = show::plain(&self.begun["run"]);
        if run.is_empty() {
            return Err(client.stranger("it did not say which run it began"));
        }
        Ok(Request::get(format!("/v1/runs/{}", encoded(&run))))
    }

    async fn run(&self, client: &Client) -> Result<Look, Failure> {
        let bytes = client.send(&self.begun_run(client)?).await?.bytes().await?;
        let run: Value = parsed(client, &bytes)?;
        match status_of(&run) {
            Some(status) => Ok(Look::Done(Outcome::new(bytes, status))),
            None => Ok(stage(&run)),
        }
    }

    async fn restart(&self, client: &Client) -> Result<Look, Failure> {
        let run = client.json(&self.begun_run(client)?).await?;
        let bytes =
            client.send(&Request::get("/v1/cluster/rolling-restart")).await?.bytes().await?;
        if let Some(status) = status_of(&run) {
            return Ok(Look::Done(Outcome::new(bytes, status)));
        }
        let nodes: Value = parsed(client, &bytes)?;
        Ok(restarted(&nodes))
    }

    async fn may_stop(&self, client: &Client) -> Result<Look, Failure> {
        let request = Request::get(format!("/v1/nodes/{}/safe-to-stop", encoded(self.node)));
        match client.send(&request).await {
            Ok(answer) => Ok(Look::Done(Outcome::new(answer.bytes().await?, 0))),
            Err(Failure::Refused(problem)) if problem.code == "not_safe" => {
                Ok(self.not_safe(&problem))
            }
            Err(failure) => Err(failure),
        }
    }

    /// What speaks against stopping the node; what `--force` has taken on will not go away, so it is not waited for.
    fn not_safe(&self, problem: &Problem) -> Look {
        let reasons = problem.members.get("reasons").and_then(Value::as_array);
        let reasons = reasons.map_or(&[][..], Vec::as_slice);
        let texts: Vec<String> =
            reasons.iter().map(|reason| show::plain(&reason["text"])).collect();
        let texts = texts.join("; ");
        let is_taken_on =
            |reason: &Value| reason["code"].as_str().is_some_and(|code| TAKEN_ON.contains(&code));
        if !self.is_forced || reasons.is_empty() || !reasons.iter().all(is_taken_on) {
            return Look::Going(None, format!("not yet: {texts}"));
        }
        let said = format!("{} is out of service; --force took on that {texts}", self.node);
        Look::Done(Outcome { said: Some(said), ..Outcome::new(problem.json(), 0) })
    }
}

fn parsed(client: &Client, bytes: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(bytes).map_err(|_| client.stranger("it did not answer with JSON"))
}

/// The exit status for a run that has ended; `None` while it has not.
fn status_of(run: &Value) -> Option<u8> {
    match run["state"].as_str() {
        Some("queued" | "running" | "retrying") | None => None,
        Some("completed") => Some(0),
        Some(_) => Some(1),
    }
}

/// How far a run is: its latest stage.
fn stage(run: &Value) -> Look {
    let state = run["state"].as_str().unwrap_or_default();
    let stages = run["progress"]["stages"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(stage) = stages.last() else { return Look::Going(None, state.to_owned()) };
    let number = |name: &str| stage[name].as_u64();
    let share = number("total").map(|total| (number("done").unwrap_or_default(), total));
    let name = stage["name"].as_str().unwrap_or_default();
    let text = match (stage["item"].as_str(), number("done")) {
        (Some(item), _) => format!("{state}: {name}: {item}"),
        (None, Some(done)) if share.is_none() => format!("{state}: {name}, {done} done"),
        (None, _) => format!("{state}: {name}"),
    };
    Look::Going(share, text)
}

/// How many nodes are back, and where the others are.
fn restarted(answer: &Value) -> Look {
    let nodes = answer["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let is = |node: &Value, state: &str| node["state"] == state;
    let back = nodes.iter().filter(|node| is(node, "back")).count() as u64;
    let under_way = nodes.iter().filter(|node| !is(node, "back") && !is(node, "waiting"));
    let texts: Vec<String> = under_way
        .map(|node| format!("{} {}", show::plain(&node["node"]), show::plain(&node["state"])))
        .collect();
    Look::Going(Some((back, nodes.len() as u64)), texts.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn going(look: Look) -> (Option<(u64, u64)>, String) {
        match look {
            Look::Going(share, text) => (share, text),
            Look::Done(..) => panic!("it goes on"),
        }
    }

    #[test]
    fn how_far_a_run_is_comes_from_its_latest_stage() {
        let run = |stage: Value| json!({ "state": "running", "progress": { "stages": [{ "name": "a" }, stage] } });
        let told =
            going(stage(&run(json!({ "name": "shops", "total": 4, "done": 1, "item": "oslo" }))));
        assert_eq!(told, (Some((1, 4)), "running: shops: oslo".to_owned()));
        let told = going(stage(&run(json!({ "name": "shops", "done": 7 }))));
        assert_eq!(told, (None, "running: shops, 7 done".to_owned()));
        assert_eq!(going(stage(&json!({ "state": "queued" }))), (None, "queued".to_owned()));
    }

    #[test]
    fn a_run_has_ended_well_or_not() {
        for (state, status) in [
            ("queued", None),
            ("retrying", None),
            ("completed", Some(0)),
            ("failed", Some(1)),
            ("lost", Some(1)),
        ] {
            assert_eq!(status_of(&json!({ "state": state })), status, "{state}");
        }
    }

    #[test]
    fn a_restart_tells_which_nodes_are_under_way() {
        let answer = json!({ "nodes": [
            { "node": "a", "state": "back" }, { "node": "b", "state": "draining" }, { "node": "c", "state": "waiting" },
        ] });
        assert_eq!(going(restarted(&answer)), (Some((1, 3)), "b draining".to_owned()));
    }

    #[test]
    fn what_was_waited_for_can_be_shown() {
        for what in [Waits::Drain, Waits::Run, Waits::Restart] {
            assert_eq!(answering(what).method, "GET");
        }
    }
}
