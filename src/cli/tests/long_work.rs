//! What takes its time: waiting, events, the log of a run.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::node::{FakeNode, problem};
use super::{Surroundings, around, asked, carried_out};

/// A node that starts a run, and says what comes next each time the run is asked for.
fn running(states: &'static [&'static str]) -> FakeNode {
    let looks = AtomicUsize::new(0);
    FakeNode::start(move |asked| {
        let state = |number: usize| states[number.min(states.len() - 1)];
        Some(match (asked.method.as_str(), asked.target.as_str()) {
            ("POST", _) => (202, r#"{"run":7,"new":true,"state":"queued"}"#.to_owned()),
            ("GET", "/v1/runs/7") => match state(looks.fetch_add(1, Ordering::SeqCst)) {
                "away" => (503, problem("database_unavailable")),
                "began" => (401, problem("unauthorized")),
                state => (200, json!({ "id": 7, "state": state, "error": "no paper" }).to_string()),
            },
            ("GET", "/v1/cluster/rolling-restart") => (
                200,
                r#"{"run":7,"state":"done","nodes":[{"node":"a","state":"back"}]}"#.to_owned(),
            ),
            _ => return None,
        })
    })
}

#[test]
fn a_run_is_waited_for_and_its_end_is_the_status() {
    let ended = asked(&running(&["completed"]), &["job", "run", "n", "--wait"]);
    assert_eq!(ended.status, 0, "{}", ended.complaints);
    assert!(ended.out.contains("state  completed"), "{}", ended.out);
    assert_eq!(ended.complaints, "", "progress is for people");
    let ended =
        asked(&running(&["began", "away", "failed"]), &["run", "retry", "7", "--wait", "--json"]);
    assert_eq!(ended.status, 1, "{}", ended.complaints);
    assert_eq!(ended.out, "{\"error\":\"no paper\",\"id\":7,\"state\":\"failed\"}\n");
}

#[test]
fn without_wait_only_the_beginning_is_told() {
    let node = running(&["running"]);
    let ended = asked(&node, &["job", "run", "n"]);
    assert_eq!((ended.status, ended.out.as_str()), (0, "new    yes\nrun    7\nstate  queued\n"));
    assert_eq!(node.asked().len(), 1);
}

#[test]
fn waiting_has_a_limit_and_tells_people_how_far_it_is() {
    let node = running(&["running"]);
    let around =
        Surroundings { is_watched: true, ..around(&[("UNDERSTUDY_ADMIN_URL", &node.url)]) };
    let ended = carried_out(&["job", "run", "n", "--wait", "--wait-limit", "300ms"], around, "");
    assert_eq!(ended.status, 1);
    assert!(ended.complaints.contains("\rrunning\x1b[K\r\x1b[K"), "{:?}", ended.complaints);
    assert!(
        ended.complaints.contains("it was not done within 300ms; it goes on"),
        "{}",
        ended.complaints
    );
}

#[test]
fn a_restart_of_all_nodes_is_waited_for() {
    let ended = asked(
        &running(&["running", "completed"]),
        &["cluster", "restart", "--why", "x", "--yes", "--wait"],
    );
    assert_eq!(ended.status, 0, "{}", ended.complaints);
    assert!(ended.out.contains("a     back"), "{}", ended.out);
}

#[test]
fn a_drain_is_over_when_the_node_can_be_stopped() {
    let looks = AtomicUsize::new(0);
    let node = FakeNode::start(move |asked| {
        let not_yet =
            r#"{"title":"No","code":"not_safe","reasons":[{"code":"r","text":"2 runs"}]}"#;
        Some(match (asked.method.as_str(), looks.fetch_add(1, Ordering::SeqCst)) {
            ("POST", _) => (200, r#"{"node":"a","drained":{}}"#.to_owned()),
            (_, ..2) => (409, not_yet.to_owned()),
            _ => (200, r#"{"node":"a","safe":true,"reasons":[],"notes":["it led"]}"#.to_owned()),
        })
    });
    let ended = asked(&node, &["node", "drain", "a", "--why", "x", "--wait"]);
    assert_eq!((ended.status, ended.out.as_str()), (0, "a can be stopped\n  it led\n"));
    let targets: Vec<String> = node.asked().into_iter().map(|asked| asked.target).collect();
    assert_eq!(
        targets,
        ["/v1/nodes/a/drain", "/v1/nodes/a/safe-to-stop", "/v1/nodes/a/safe-to-stop"]
    );
}

#[test]
fn a_drain_by_force_does_not_wait_for_another_node() {
    const LAST: &str = r#"{"code":"last_ready_node","text":"no other node is ready"}"#;
    let node = |reasons: &'static str| {
        let refused = format!(
            r#"{{"title":"No","code":"not_safe","node":"a","safe":false,"reasons":[{reasons}]}}"#
        );
        let node = FakeNode::start(move |asked| match asked.method.as_str() {
            "POST" => Some((200, r#"{"node":"a","drained":{}}"#.to_owned())),
            _ => Some((409, refused.clone())),
        });
        let line = ["node", "drain", "a", "--why", "x", "--wait", "--wait-limit", "300ms"];
        (node, line)
    };
    let (last, line) = node(LAST);
    assert_eq!(asked(&last, &line).status, 1, "without force it waits for another");
    let forced = [&line[..], &["--force"]].concat();
    let ended = asked(&last, &forced);
    assert_eq!(ended.status, 0, "{}", ended.complaints);
    let told = "a is out of service; --force took on that no other node is ready\n";
    assert_eq!(ended.out, told);
    let ended = asked(&last, &[&forced[..], &["--json"]].concat());
    assert!(ended.status == 0 && ended.out.contains("\"safe\":false"), "{}", ended.out);
    let (silent, _) =
        node(r#"{"code":"last_ready_node","text":"x"},{"code":"not_alive","text":"y"}"#);
    let ended = asked(&silent, &forced);
    assert_eq!(ended.status, 1, "what force did not take on is waited for: {}", ended.out);
}

/// Sends these events over one connection each, which is lost then.
fn events(connections: &'static [&'static str]) -> FakeNode {
    // There was to be more.
    streams(connections, "content-length: 1000000\r\n")
}

/// Sends these events over one connection each.
fn streams(connections: &'static [&'static str], length: &'static str) -> FakeNode {
    let mut left = connections.iter();
    FakeNode::serving(move |_, stream| {
        let Some(events) = left.next() else { return };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{length}connection: close\r\n\r\n"
        );
        drop(stream.write_all(format!("{head}{events}").as_bytes()));
    })
}

#[test]
fn events_are_lines_and_survive_a_lost_connection() {
    const FIRST: &str = ": hello\n\nevent: nodes\ndata: {\"at_ms\":0, \"node\":\"a\"}\n\n";
    const SECOND: &str =
        "event: jobs\ndata: {\"at_ms\":1000,\"run\":7}\n\nevent: audit\ndata: {}\n\n";
    let ended = asked(&events(&[FIRST, SECOND]), &["watch", "--count", "2", "--json"]);
    assert_eq!(ended.status, 0, "{}", ended.complaints);
    let expected = "{\"event\":\"nodes\",\"data\":{\"at_ms\":0, \"node\":\"a\"}}\n{\"event\":\"jobs\",\"data\":{\"at_ms\":1000,\"run\":7}}\n";
    assert_eq!(ended.out, expected);
    assert!(ended.complaints.contains("trying again"), "{}", ended.complaints);
    let ended = asked(&events(&[SECOND]), &["watch", "--count", "1", "--only", "jobs, nodes"]);
    assert_eq!(ended.out, "00:00:01 jobs      run=7\n");
    let ended = asked(&events(&[SECOND]), &["watch", "--count", "two"]);
    assert_eq!(ended.status, 64);
}

#[test]
fn u14_lines_of_a_log_that_come_between_two_connections_are_shown_once() {
    const FIRST: &str = "retry: 2000\n\nevent: line\ndata: {\"number\":5,\"at\":\"2026-01-01T00:00:05.000000Z\",\"text\":\"a\"}\n\n";
    const SECOND: &str = "retry: 2000\n\nevent: line\ndata: {\"number\":5,\"at\":\"2026-01-01T00:00:05.000000Z\",\"text\":\"a\"}\n\n\
        event: line\ndata: {\"number\":6,\"at\":\"2026-01-01T00:00:06.000000Z\",\"text\":\"between\"}\n\n";
    const NEXT: &str = "retry: 2000\n\nevent: line\ndata: {\"number\":1,\"at\":\"2026-01-01T00:00:07.000000Z\",\"text\":\"of the next process\"}\n\n\
        event: end\ndata: {\"why\":\"off\"}\n\n";
    let line = ["log", "tail", "--last", "1", "--json"];
    let node = streams(&[FIRST, SECOND, NEXT], "");
    let ended = asked(&node, &line);
    assert_eq!(ended.status, 0, "{}", ended.complaints);
    let texts = ["\"a\"", "\"between\"", "\"of the next process\""];
    let shown = texts.map(|text| ended.out.matches(text).count());
    assert_eq!(shown, [1, 1, 1], "{}", ended.out);
    assert_eq!(ended.complaints, "", "a node ends streams in time");
    let targets: Vec<String> = node.asked().into_iter().map(|asked| asked.target).collect();
    let path = "/v1/logs/tail?last=";
    assert_eq!(targets, [format!("{path}1"), format!("{path}512"), format!("{path}512")]);
    let ended = asked(&events(&[FIRST, NEXT]), &line);
    assert!(ended.complaints.contains("the connection is lost"), "{}", ended.complaints);
}

#[test]
fn events_that_are_refused_are_not_asked_for_again() {
    let node = FakeNode::answering("GET /v1/events", 403, &problem("forbidden"));
    assert_eq!(asked(&node, &["watch"]).status, 77);
    assert_eq!(node.asked().len(), 1);
    let ended =
        carried_out(&["watch"], around(&[("UNDERSTUDY_ADMIN_URL", &FakeNode::closed())]), "");
    assert_eq!(ended.status, 69);
}

/// A log of three lines, of which the last is written while it is followed.
fn log() -> FakeNode {
    FakeNode::start(|asked| {
        let answer = |lines: &str, next: &str, ended: bool| {
            (
                200,
                format!("{{\"run\":7,\"lines\":[{lines}],\"next\":\"{next}\",\"ended\":{ended}}}"),
            )
        };
        let line = |number: u8| {
            format!(
                "{{\"attempt\":1,\"seq\":{number}, \"at_ms\":0,\"level\":\"info\",\"line\":\"l{number}\"}}"
            )
        };
        Some(match asked.target.as_str() {
            "/v1/runs/7/log" | "/v1/runs/7/log?limit=1000" | "/v1/runs/7/log?limit=2" => {
                answer(&[line(1), line(2)].join(","), "1:2", false)
            }
            "/v1/runs/7/log?after=1%3A2&limit=1000" | "/v1/runs/7/log?after=1%3A2&limit=2" => {
                answer(&line(3), "1:3", true)
            }
            _ => return None,
        })
    })
}

#[test]
fn a_log_is_read_by_page_as_a_whole_or_until_it_ends() {
    let ended = asked(&log(), &["run", "log", "7"]);
    assert_eq!((ended.status, ended.out.as_str()), (0, "00:00:00 info  l1\n00:00:00 info  l2\n"));
    let ended = asked(&log(), &["run", "log", "7", "--limit", "2"]);
    assert_eq!(ended.complaints, "there may be more: --all, or --after 1:2\n");
    let ended = asked(&log(), &["run", "log", "7", "--limit", "2", "--all"]);
    assert_eq!(ended.out.lines().count(), 3, "{}", ended.out);
    let ended = asked(&log(), &["run", "log", "7", "--follow", "--json"]);
    assert_eq!(ended.status, 0, "{}", ended.complaints);
    assert_eq!(ended.out.lines().count(), 3, "{}", ended.out);
    let last = "{\"attempt\":1,\"seq\":3, \"at_ms\":0,\"level\":\"info\",\"line\":\"l3\"}";
    assert_eq!(ended.out.lines().last(), Some(last), "as it came");
}
