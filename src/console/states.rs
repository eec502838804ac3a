//! States as people see them: a word, a shape and a colour that mean the same on every page.

use maud::{Markup, html};
use serde_json::Value;

use super::icons::icon;
use super::look::Look as _;
use super::words::plain;

/// How something looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Its colour.
    pub(super) tone: &'static str,
    /// Its shape.
    pub(super) icon: &'static str,
}

const fn look(tone: &'static str, icon: &'static str) -> Look {
    Look { tone, icon }
}

/// A state with its shape.
pub(super) fn chip(look: Look, word: &str) -> Markup {
    html! { span class={ "chip " (look.tone) } { (icon(look.icon)) span { (word) } } }
}

/// How a run stands.
pub(super) fn of_run(state: &str) -> Look {
    match state {
        "completed" => look("ok", "ok"),
        "running" => look("go", "run"),
        "queued" => look("go", "wait"),
        "retrying" => look("warn", "again"),
        "failed" | "dead" | "lost" | "incompatible" => look("bad", "bad"),
        _ => look("idle", "off"),
    }
}

/// How a run stands, in a word.
pub(super) fn run_chip(state: &str) -> Markup {
    chip(of_run(state), if state.is_empty() { "never ran" } else { state })
}

/// How severe a problem is.
pub(super) fn severity_chip(severity: &str) -> Markup {
    let look = match severity {
        "critical" => look("bad", "bad"),
        "warning" => look("warn", "warn"),
        _ => look("info", "info"),
    };
    chip(look, severity)
}

/// What a check found.
pub(super) fn check_chip(result: &str) -> Markup {
    let look = match result {
        "ok" => look("ok", "ok"),
        "warning" => look("warn", "warn"),
        "critical" => look("bad", "bad"),
        _ => look("idle", "idle"),
    };
    chip(look, result)
}

/// What was said of a file that is examined.
pub(super) fn verdict_chip(state: &str) -> Markup {
    let look = match state {
        "clean" => look("ok", "ok"),
        "infected" => look("bad", "bad"),
        "waiting" => look("warn", "wait"),
        _ => look("idle", "idle"),
    };
    chip(look, state)
}

/// What became of what somebody asked for.
pub(super) fn outcome_chip(outcome: &str) -> Markup {
    let look = match outcome {
        "done" => look("ok", "ok"),
        "refused" => look("warn", "warn"),
        "failed" => look("bad", "bad"),
        _ => look("idle", "idle"),
    };
    chip(look, outcome)
}

/// How a node is: from its entry in the list of nodes.
pub(super) fn node_state(node: &Value) -> (Look, String) {
    let state = node.text("record.state");
    if !node.flag("live") {
        return (look("bad", "bad"), "silent".to_owned());
    }
    if node.has("record.drained") || node.has("drained") {
        return (look("warn", "off"), "drained".to_owned());
    }
    let look = match state {
        "ready" => look("ok", "ok"),
        "starting" => look("go", "wait"),
        "draining" => look("warn", "off"),
        _ => look("idle", "idle"),
    };
    (look, if state.is_empty() { "unknown".to_owned() } else { plain(state) })
}

/// How a node is, in a word.
pub(super) fn node_chip(node: &Value) -> Markup {
    let (look, word) = node_state(node);
    chip(look, &word)
}

/// Whether a job starts anything at its due times.
pub(super) fn job_chip(job: &Value) -> Markup {
    match (job.flag("enabled"), job.has("paused")) {
        (false, _) => chip(look("idle", "off"), "off"),
        (true, true) => chip(look("warn", "pause"), "paused"),
        (true, false) => chip(look("ok", "ok"), "on"),
    }
}

/// Who leads.
pub(super) fn leader_chip() -> Markup {
    chip(look("lead", "lead"), "leader")
}

/// A word without judgement.
pub(super) fn plain_chip(word: &str) -> Markup {
    html! { span.chip.idle { span { (word) } } }
}

/// Good, or not so.
pub(super) fn yes_no(good: bool, yes: &str, no: &str) -> Markup {
    if good { chip(look("ok", "ok"), yes) } else { chip(look("warn", "warn"), no) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_is_silent_is_not_called_ready() {
        let node = |live, state: &str| json!({ "live": live, "record": { "state": state } });
        assert_eq!(node_state(&node(true, "ready")).1, "ready");
        assert_eq!(node_state(&node(false, "ready")).1, "silent");
        assert_eq!(node_state(&json!({ "live": true })).1, "unknown");
        let drained =
            json!({ "live": true, "record": { "state": "ready", "drained": { "by": "x" } } });
        assert_eq!(node_state(&drained).1, "drained");
    }

    #[test]
    fn a_state_is_told_apart_without_colours() {
        let shapes = ["completed", "running", "queued", "retrying", "failed", "skipped"]
            .map(|state| of_run(state).icon);
        let mut different = shapes.to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), shapes.len());
    }
}
