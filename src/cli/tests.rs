//! Whole commands towards a server of a few lines: what is sent, what is printed, and how the process ends.

mod contract;
mod files;
mod long_work;
mod node;
mod passed_on;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use serde_json::{Value, json};

use self::node::{FakeNode, problem};
use super::terminal::Surroundings;
use super::*;

/// What a command came to.
struct Ended {
    status: u8,
    out: String,
    complaints: String,
}

fn around(variables: &[(&str, &str)]) -> Surroundings {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Surroundings { variables: variables.collect(), ..Surroundings::for_test() }
}

/// Carries out a command of this environment.
fn carried_out(line: &[&str], around: Surroundings, input: &'static str) -> Ended {
    let words: Vec<OsString> =
        std::iter::once("understudy").chain(line.iter().copied()).map(OsString::from).collect();
    let (mut terminal, out, complaints) = Terminal::for_test(around, input);
    let status = match parsed(&words, &mut terminal) {
        Ok(typed) => run(&typed, terminal),
        Err(status) => status,
    };
    Ended { status, out: out.text(), complaints: complaints.text() }
}

/// Carries out a command towards this node.
fn asked(node: &FakeNode, line: &[&str]) -> Ended {
    carried_out(line, around(&[("UNDERSTUDY_ADMIN_URL", &node.url)]), "")
}

#[test]
fn an_answer_is_shown_to_people_or_printed_as_it_came() {
    let raw = "{\"nodes\": [ {\"record\":{\"id\":\"a#0000000000000001\",\"state\":\"ready\"},\"live\":true, \"zz\":1.50} ]}";
    let node = FakeNode::answering("GET /v1/nodes", 200, raw);
    let ended = asked(&node, &["nodes", "--json"]);
    assert_eq!((ended.status, ended.out.as_str()), (0, format!("{raw}\n").as_str()));
    let ended = asked(&node, &["nodes"]);
    assert_eq!((ended.status, ended.out.as_str()), (0, "NODE  STATE\na     ready\n"));
    assert_eq!(ended.complaints, "");
}

#[test]
fn options_may_stand_before_the_command_too() {
    let node =
        FakeNode::answering("GET /v1/whoami", 200, r#"{"name":"ci","role":"viewer","open":false}"#);
    let ended = carried_out(&["--url", &node.url, "whoami"], around(&[]), "");
    assert_eq!((ended.status, ended.out.as_str()), (0, "name  ci\nopen  no\nrole  viewer\n"));
}

#[test]
fn the_token_is_sent_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "canary-of-the-file\n").unwrap();
    let file = file.to_str().unwrap();
    for (variables, arguments, token) in [
        (
            &[("UNDERSTUDY_TOKEN", "canary-of-the-variable")][..],
            &[][..],
            Some("canary-of-the-variable"),
        ),
        (&[("UNDERSTUDY_TOKEN_FILE", file)], &[], Some("canary-of-the-file")),
        (&[("UNDERSTUDY_TOKEN", "canary")], &["--token-file", file], Some("canary-of-the-file")),
        (&[("UNDERSTUDY_TOKEN", " ")], &[], None),
    ] {
        let node = FakeNode::answering("GET /v1/about", 403, &problem("forbidden"));
        let around = around(&[variables, &[("UNDERSTUDY_ADMIN_URL", &node.url)]].concat());
        let ended = carried_out(&[&["about"], arguments].concat(), around, "");
        assert_eq!(ended.status, 77);
        assert!(!ended.complaints.contains("canary") && !ended.out.contains("canary"));
        let sent = node.asked().remove(0);
        let expected = token.map(|token| format!("Bearer {token}"));
        assert_eq!(sent.header("authorization"), expected.as_deref());
    }
}

#[test]
fn what_is_wrong_with_the_surroundings_is_told_by_name() {
    for (variables, told) in [
        (&[("UNDERSTUDY_ADMIN_URL", "127.0.0.1:9090")][..], "UNDERSTUDY_ADMIN_URL must be"),
        (
            &[("UNDERSTUDY_TOKEN_FILE", "/no/such/file")],
            "UNDERSTUDY_TOKEN_FILE: /no/such/file cannot be read",
        ),
        (&[("UNDERSTUDY_TOKEN", "a"), ("UNDERSTUDY_TOKEN_FILE", "b")], "set only one of them"),
        (&[("UNDERSTUDY_TOKEN", "ca nary")], "the token must consist of"),
    ] {
        let ended = carried_out(&["about"], around(variables), "");
        assert_eq!(ended.status, 78, "{}", ended.complaints);
        assert!(
            ended.complaints.contains(told) && !ended.complaints.contains("ca nary"),
            "{}",
            ended.complaints
        );
    }
}

#[test]
fn a_wrong_command_line_ends_with_64() {
    for (line, told) in [
        (&["fly"][..], "usage: understudy"),
        (&["nodes", "--colour"], "usage: understudy nodes"),
        (&["node"], "usage: understudy node"),
        (&["node", "drain", "a"], "--why"),
        (&["serve", "--json"], "environment variables"),
        (&["--json"], "environment variables"),
        (&["about", "--url", "nowhere"], "--url must be"),
        (&["about", "--timeout", "0s"], "--timeout must be"),
        (&["about", "--timeout", "soon"], "--timeout must be"),
        (&["runs", "--limit", "many"], "--limit must be a whole number"),
        (&["token", "create", "--name", "x", "--role", "king"], "viewer, support, operator, admin"),
        (&["sessions", "end-all", "--why", "x"], "--yes"),
        (&["cluster", "restart", "--why", "x"], "--yes"),
        (&["token", "revoke", "t1"], "--yes"),
        (&["job", "delete", "j"], "--yes"),
        (&["maintenance", "set", "full", "--why", "x"], "--yes"),
        (&["top"], "--once"),
        (&["top", "--json", "--once"], "for people"),
    ] {
        let ended = carried_out(line, around(&[]), "");
        assert_eq!(ended.status, 64, "{line:?}: {}", ended.complaints);
        assert!(ended.complaints.contains(told), "{line:?}: {}", ended.complaints);
        assert_eq!(ended.out, "", "{line:?}");
    }
    let words = [
        OsString::from("understudy"),
        "node".into(),
        "show".into(),
        OsString::from_vec(vec![0xff, b'a']),
    ];
    let (mut terminal, _, complaints) = Terminal::for_test(around(&[]), "");
    assert_eq!(parsed(&words, &mut terminal).unwrap_err(), 64);
    assert!(complaints.text().contains("UTF-8"), "{}", complaints.text());
}

#[test]
fn help_goes_to_the_standard_output() {
    for line in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["help", "node", "drain"],
        &["runs", "--help"],
        &["-V"],
    ] {
        let ended = carried_out(line, around(&[]), "");
        assert_eq!((ended.status, ended.complaints.as_str()), (0, ""), "{line:?}");
        assert!(ended.out.contains("understudy"), "{line:?}");
    }
    let help = carried_out(&["--help"], around(&[]), "").out;
    for part in [
        "usage: understudy",
        "docs/configuration.md",
        "docs/cli.md",
        "Exit status",
        " 77  not allowed",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
}

#[test]
fn what_a_node_refuses_is_told_with_what_to_do() {
    for (status, code, exit, advice) in [
        (409, "last_node", 1, "--force"),
        (404, "unknown_node", 1, "`understudy nodes`"),
        (401, "unauthorized", 77, "--token-file"),
        (403, "forbidden", 77, "understudy whoami"),
        (503, "node_unreachable", 1, "try again"),
    ] {
        let node = FakeNode::answering("POST /v1/nodes/a/drain", status, &problem(code));
        let ended = asked(&node, &["node", "drain", "a", "--why", "x"]);
        assert_eq!((ended.status, ended.out.as_str()), (exit, ""));
        assert!(
            ended.complaints.starts_with("understudy: A title: a detail\n  what to do: "),
            "{}",
            ended.complaints
        );
        assert!(ended.complaints.contains(advice), "{}", ended.complaints);
        let ended = asked(&node, &["node", "drain", "a", "--why", "x", "--json"]);
        assert_eq!((ended.status, ended.out), (exit, problem(code) + "\n"));
    }
}

#[test]
fn a_node_that_cannot_be_reached_is_69() {
    let closed = FakeNode::closed();
    let silent = FakeNode::silent();
    for (url, arguments, told) in [
        (&closed, &["about"][..], "onnect"),
        (&silent.url, &["about", "--timeout", "100ms"], "no answer within 100ms (--timeout)"),
    ] {
        let ended = carried_out(arguments, around(&[("UNDERSTUDY_ADMIN_URL", url)]), "");
        assert_eq!(ended.status, 69, "{}", ended.complaints);
        assert!(
            ended.complaints.contains(told) && ended.complaints.contains(url),
            "{}",
            ended.complaints
        );
        assert!(ended.complaints.contains("is a node running there?"), "{}", ended.complaints);
    }
    for (status, body) in [(200, "<html>"), (302, "")] {
        let stranger = FakeNode::answering("GET /v1/about", status, body);
        let ended = asked(&stranger, &["about"]);
        assert_eq!(ended.status, 69);
        assert!(ended.complaints.contains("this is no admin port"), "{}", ended.complaints);
    }
}

#[test]
fn who_reads_no_further_is_no_failure() {
    let node = FakeNode::answering("GET /metrics", 200, "a 1\n");
    let (mut terminal, ..) = Terminal::for_test(around(&[]), "");
    let words = ["understudy", "metrics", "--url", &node.url].map(OsString::from);
    let typed = parsed(&words, &mut terminal).unwrap();
    assert_eq!(run(&typed, Terminal::unread(around(&[]))), 0);
}

#[test]
fn texts_for_other_programs_are_passed_on_as_they_are() {
    let node = FakeNode::answering("GET /metrics", 200, "# HELP a b\na 1\n");
    assert_eq!(asked(&node, &["metrics"]).out, "# HELP a b\na 1\n");
    let node = FakeNode::answering("GET /v1/definitions", 200, r#"{"z": 1,"a": 2}"#);
    assert_eq!(asked(&node, &["export"]).out, "{\"z\": 1,\"a\": 2}\n");
    let node = FakeNode::answering("PUT /v1/definitions", 200, r#"{"jobs":3}"#);
    let around = around(&[("UNDERSTUDY_ADMIN_URL", &node.url)]);
    let ended = carried_out(&["import", "-"], around, "{\"z\": 1,\"a\": 2}\n");
    assert_eq!((ended.status, ended.out.as_str()), (0, "jobs  3\n"));
    assert_eq!(node.asked().remove(0).body, "{\"z\": 1,\"a\": 2}\n");
}

#[test]
fn an_empty_answer_is_said() {
    let node = FakeNode::answering("DELETE /v1/jobs/a%20b", 204, "");
    assert_eq!(asked(&node, &["job", "delete", "a b", "-y"]).out, "the job is removed\n");
    assert_eq!(asked(&node, &["job", "delete", "a b", "-y", "--json"]).out, "");
}

/// Three pages of runs.
fn pages() -> FakeNode {
    FakeNode::start(|asked| {
        let page = |runs: &str, next: &str| (200, format!("{{\"runs\":[{runs}],\"next\":{next}}}"));
        Some(match asked.target.as_str() {
            "/v1/runs?job=n&limit=1000" | "/v1/runs?job=n" => {
                page("{\"id\":9, \"job\":\"n\"},{\"id\":8,\"job\":\"n\"}", "8")
            }
            "/v1/runs?before=8&job=n&limit=1000" => page("{\"id\":7,\"job\":\"n\"}", "7"),
            "/v1/runs?before=7&job=n&limit=1000" => page("", "null"),
            _ => return None,
        })
    })
}

#[test]
fn all_pages_are_one_document() {
    let ended = asked(&pages(), &["runs", "--job", "n", "--all", "--json"]);
    assert_eq!(ended.status, 0, "{}", ended.complaints);
    let expected = "{\"runs\":[{\"id\":9, \"job\":\"n\"},\n{\"id\":8,\"job\":\"n\"},\n{\"id\":7,\"job\":\"n\"}],\"next\":null}\n";
    assert_eq!(ended.out, expected);
    let ended = asked(&pages(), &["runs", "--job", "n", "--all"]);
    assert_eq!(ended.out.lines().count(), 3 + 2, "two tables: {}", ended.out);
    let ended = asked(&pages(), &["runs", "--job", "n"]);
    assert_eq!(ended.out.lines().count(), 3, "{}", ended.out);
    assert_eq!(ended.complaints, "there are more: --all, or --before 8\n");
}

#[test]
fn a_list_that_never_ends_is_noticed() {
    let node = FakeNode::start(|_| Some((200, r#"{"runs":[{"id":1}],"next":1}"#.to_owned())));
    let ended = asked(&node, &["runs", "--all"]);
    assert_eq!(ended.status, 69);
    assert!(ended.complaints.contains("the same page"), "{}", ended.complaints);
}

#[test]
fn a_person_is_asked_before_something_is_destroyed() {
    for (input, status, told, sent) in [
        ("y\n", 0, "ended  7", 1),
        ("n\n", 130, "nothing was done", 0),
        ("", 130, "nothing was done", 0),
    ] {
        let node = FakeNode::answering("POST /v1/sessions/end-all", 200, r#"{"ended":7}"#);
        let around = Surroundings { asks: true, ..around(&[("UNDERSTUDY_ADMIN_URL", &node.url)]) };
        let ended = carried_out(&["sessions", "end-all", "--why", "leak"], around, input);
        assert_eq!(ended.status, status, "{}", ended.complaints);
        assert!(ended.complaints.contains("everybody is logged out"), "{}", ended.complaints);
        assert!(format!("{}{}", ended.out, ended.complaints).contains(told));
        assert_eq!(node.asked().len(), sent);
    }
    let node = FakeNode::answering("POST /v1/sessions/end-all", 200, r#"{"ended":7}"#);
    assert_eq!(asked(&node, &["sessions", "end-all", "--why", "leak", "-y"]).status, 0);
    let body: Value = serde_json::from_str(&node.asked().remove(0).body).unwrap();
    assert_eq!(body, json!({ "confirm": "end all sessions", "why": "leak" }));
}

#[test]
fn keeping_users_out_is_asked_about_and_letting_them_in_is_not() {
    for (mode, yes, sent) in
        [("full", &[][..], 0), ("full", &["--yes"], 1), ("read_only", &[], 1), ("off", &[], 1)]
    {
        let node = FakeNode::answering("PUT /v1/maintenance", 200, r#"{"mode":"off"}"#);
        let line = [&["maintenance", "set", mode, "--why", "x"][..], yes].concat();
        let ended = asked(&node, &line);
        assert_eq!(ended.status == 0, sent == 1, "{mode}: {}", ended.complaints);
        assert_eq!(node.asked().len(), sent, "{mode}");
    }
}

/// Everything that the console cannot take back is asked about here too: at a prompt one slips no less.
#[test]
fn what_the_console_asks_gravely_about_has_a_verb_that_asks() {
    let grave = crate::console::grave_operations();
    assert!(grave.len() > 5, "{grave:?}");
    for operation in grave {
        let verb = verbs::all().find(|verb| verb.operation == operation);
        let verb = verb.unwrap_or_else(|| panic!("{operation} has no verb"));
        assert!(!verb.asks.is_empty() && verb.asks_if.is_none(), "{}", verb.words);
    }
}

#[test]
fn the_doctor_tells_the_worst_by_its_status() {
    for (worst, status) in [("ok", 0), ("skipped", 0), ("warning", 1), ("critical", 2), ("odd", 69)]
    {
        let answer = json!({ "node": "a", "checks": [], "worst": worst }).to_string();
        let node = FakeNode::answering("GET /v1/diag?node=a", 200, &answer);
        assert_eq!(asked(&node, &["doctor", "--node", "a"]).status, status);
        let ended = asked(&node, &["doctor", "--node", "a", "--json"]);
        assert_eq!((ended.status, ended.out), (status, answer + "\n"));
    }
}

#[test]
fn a_log_is_shown_line_by_line_until_it_is_followed_no_more() {
    let stream = "retry: 2000\n: following\n\nevent: line\ndata: {\"at\":\"2026-01-01T00:00:00Z\",\"level\":\"warn\",\
                  \"target\":\"a::b\",\"text\":\"lease lost\"}\n\nevent: lost\ndata: {\"lines\":3}\n\nevent: end\ndata: \
                  {\"why\":\"it went off\"}\n\n";
    let node = FakeNode::answering("GET /v1/logs/tail?level=warn", 200, stream);
    let ended = asked(&node, &["log", "tail", "--level", "warn"]);
    assert_eq!(ended.status, 0, "{}", ended.complaints);
    for part in ["2026-01-01T00:00:00Z", "warn", "a::b:", "lease lost"] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    assert_eq!(ended.out.lines().count(), 1, "{}", ended.out);
    assert!(ended.complaints.contains("3 lines are missing"), "{}", ended.complaints);
    assert!(ended.complaints.contains("it went off"), "{}", ended.complaints);
    let ended = asked(&node, &["log", "tail", "--level", "warn", "--json", "--count", "1"]);
    assert_eq!((ended.status, ended.out.lines().count()), (0, 1), "{}", ended.out);
    assert!(ended.out.starts_with("{\"event\":\"line\""), "{}", ended.out);
    let off = FakeNode::answering("GET /v1/logs/tail", 409, &problem("log_tail_off"));
    let ended = asked(&off, &["log", "tail"]);
    assert_eq!(ended.status, 1);
    assert!(ended.complaints.contains("settings set log_tail on"), "{}", ended.complaints);
}

#[test]
fn migrations_are_told_by_name() {
    let answer = r#"{"dry_run":false,"applied":["a_0001"],"pending":["a_0002"]}"#;
    let node = FakeNode::answering("POST /v1/migrations/apply", 202, answer);
    let ended = asked(&node, &["migrate"]);
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (0, "MIGRATION  STATE\na_0001     applied\na_0002     pending\n")
    );
    let none = r#"{"dry_run":true,"applied":[],"pending":[]}"#;
    let node = FakeNode::answering("POST /v1/migrations/apply?dry_run=true", 200, none);
    assert_eq!(asked(&node, &["migrate", "--dry-run"]).out, "nothing is missing\n");
}

#[test]
fn whether_a_node_can_be_stopped_is_an_answer_and_a_status() {
    let no = r#"{"title":"No","code":"not_safe","status":409,"node":"a","reasons":[{"code":"x","text":"it is the last"}]}"#;
    let node = FakeNode::answering("GET /v1/nodes/a/safe-to-stop", 409, no);
    let ended = asked(&node, &["node", "safe-to-stop", "a"]);
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (1, "a must not be stopped\n  it is the last\n")
    );
    let yes = r#"{"node":"a","safe":true,"reasons":[],"notes":[]}"#;
    let node = FakeNode::answering("GET /v1/nodes/a/safe-to-stop", 200, yes);
    assert_eq!(asked(&node, &["node", "safe-to-stop", "a"]).status, 0);
}

#[test]
fn health_is_0_or_1() {
    let node = FakeNode::answering("GET /health/ready", 200, r#"{"status":"ready"}"#);
    let ended = asked(&node, &["health"]);
    assert_eq!((ended.status, ended.out.as_str()), (0, "ready\n"));
    let body = r#"{"status":"not_ready","reasons":[{"code":"redis","detail":"away"}]}"#;
    let node = FakeNode::answering("GET /health/ready", 503, body);
    let ended = asked(&node, &["health"]);
    assert_eq!((ended.status, ended.out.as_str()), (1, "not_ready\n  redis: away\n"));
    let nobody = FakeNode::closed();
    let ended = carried_out(&["health"], around(&[("UNDERSTUDY_ADMIN_URL", &nobody)]), "");
    assert!(
        ended.status == 1 && ended.complaints.starts_with("not ready: "),
        "{}",
        ended.complaints
    );
    let silent = FakeNode::silent();
    assert_eq!(asked(&silent, &["health", "--timeout", "100ms"]).status, 1);
    // A token is not even looked for: a broken file must not make a node look ill.
    let node = FakeNode::answering("GET /health/ready", 200, r#"{"status":"ready"}"#);
    let around =
        around(&[("UNDERSTUDY_ADMIN_URL", &node.url), ("UNDERSTUDY_TOKEN_FILE", "/no/such/file")]);
    assert_eq!(carried_out(&["health"], around, "").status, 0);
}

#[test]
fn a_balancer_is_told_the_nodes_of_the_cluster() {
    let nodes = json!({ "nodes": [
        { "record": { "id": "a#0000000000000001", "host": "h1", "public_addr": "0.0.0.0:8080" } },
        { "record": { "id": "b#0000000000000002", "host": "h2", "public_addr": "10.0.0.2:8080" } },
    ] });
    let node = FakeNode::answering("GET /v1/nodes", 200, &nodes.to_string());
    let nginx = asked(&node, &["lb", "nginx"]).out;
    assert!(
        nginx.contains("server h1:8080 max_fails=1")
            && nginx.contains("server 10.0.0.2:8080 max_fails=0")
    );
    let haproxy = asked(&node, &["lb", "haproxy"]).out;
    assert!(haproxy.contains("    server a h1:8080\n    server b 10.0.0.2:8080\n"), "{haproxy}");
    let ended =
        carried_out(&["lb", "nginx", "--node", "x:1,y:2", "--node", "z:3"], around(&[]), "");
    assert!(["x:1", "y:2", "z:3"].iter().all(|node| ended.out.contains(node)), "{}", ended.out);
}

#[test]
fn top_shows_what_it_can_learn() {
    let node = FakeNode::start(|asked| {
        let answer = match asked.target.as_str() {
            "/v1/about" => json!({ "node": "a#0000000000000001", "cluster": "shop" }),
            "/v1/nodes" => {
                json!({ "nodes": [{ "record": { "id": "a#0000000000000001", "state": "ready" }, "live": true }] })
            }
            "/v1/leader" => json!({ "leaderNodeId": "a", "since_ms": 0 }),
            _ => return None,
        };
        Some((200, answer.to_string()))
    });
    let ended = asked(&node, &["top", "--once"]);
    assert_eq!(ended.status, 0, "{}", ended.complaints);
    assert_eq!(ended.out.lines().count(), 24, "{}", ended.out);
    for part in ["cluster shop", "leader a", "NODES 1", "leads", "RUNS", "A title: a detail"] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    assert!(!ended.out.contains('\x1b'), "{}", ended.out);
}
