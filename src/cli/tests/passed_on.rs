//! What is passed on as it came: every byte to programs, and nothing to a terminal that could speak to it.

use super::node::FakeNode;
use super::{Ended, Surroundings, around, asked, carried_out};

/// Clears the screen, rubs out, and turns the direction of writing; all of it may stand in JSON as it is, which ESC may not.
const BAD: &str = "\u{9b}2J\u{7f}\u{202e}";
const ESCAPED: &str = "\\u009b2J\\u007f\\u202e";

/// Carries out a command whose output a person reads.
fn read(node: &FakeNode, line: &[&str]) -> Ended {
    let around = Surroundings { is_read: true, ..around(&[("UNDERSTUDY_ADMIN_URL", &node.url)]) };
    carried_out(line, around, "")
}

#[test]
fn an_answer_cannot_speak_to_a_terminal_and_reaches_programs_as_it_came() {
    let list = "{\"runs\":[{\"id\":1,\"job\":\"BAD\"}],\"next\":null}\n";
    for (request, line, answer) in [
        ("GET /metrics", &["metrics"][..], "a{b=\"BAD\"} 1\n"),
        ("GET /v1/definitions", &["export"], "{\"jobs\":[\"BAD\"]}\n"),
        ("GET /v1/whoami", &["whoami", "--json"], "{\"name\":\"BAD\"}\n"),
        ("GET /v1/diag", &["doctor", "--json"], "{\"worst\":\"ok\",\"x\":\"BAD\"}\n"),
        ("GET /v1/runs?limit=1000", &["runs", "--all", "--json"], list),
        ("GET /health/ready", &["health", "--json"], "{\"status\":\"BAD\"}\n"),
    ] {
        let sent = answer.replace("BAD", BAD);
        let node = FakeNode::answering(request, 200, sent.trim_end());
        let ended = asked(&node, line);
        assert_eq!((ended.status, ended.out), (0, sent), "{line:?}");
        let ended = read(&node, line);
        assert_eq!((ended.status, ended.out), (0, answer.replace("BAD", ESCAPED)), "{line:?}");
    }
}

#[test]
fn what_is_no_json_cannot_speak_to_a_terminal_either() {
    let sent = "a{b=\"\x1b]0;x\x07\"} 1\n";
    let node = FakeNode::answering("GET /metrics", 200, sent);
    assert_eq!(asked(&node, &["metrics"]).out, sent);
    assert_eq!(read(&node, &["metrics"]).out, "a{b=\"\\u001b]0;x\\u0007\"} 1\n");
}

#[test]
fn a_problem_cannot_speak_to_a_terminal_either() {
    let problem = format!("{{\"title\":\"{BAD}\",\"code\":\"x\"}}");
    let node = FakeNode::answering("GET /v1/whoami", 409, &problem);
    assert_eq!(asked(&node, &["whoami", "--json"]).out, format!("{problem}\n"));
    let ended = read(&node, &["whoami", "--json"]);
    assert_eq!((ended.status, ended.out), (1, format!("{problem}\n").replace(BAD, ESCAPED)));
    assert!(!ended.complaints.contains(['\x1b', '\u{9b}']), "{:?}", ended.complaints);
}

#[test]
fn the_page_of_a_balancer_is_a_problem_in_json_too() {
    let page = format!("<html>\x1b[2J{BAD}</html>");
    let made = "{\"status\":502,\"title\":\"the answer has the status 502\"}\n";
    for (request, line) in [
        ("GET /v1/whoami", &["whoami", "--json"]),
        ("GET /metrics", &["metrics", "--json"]),
        ("GET /health/ready", &["health", "--json"]),
    ] {
        let node = FakeNode::answering(request, 502, &page);
        let ended = asked(&node, line);
        assert_eq!((ended.status, ended.out.as_str()), (1, made), "{line:?}");
    }
}
