//! What is typed and what is sent.

use super::super::command::root;
use super::super::terminal::Surroundings;
use super::super::verbs;
use super::*;

/// What is typed, and the method, target and body that are sent.
const SENT: &[(&[&str], &str, &str, &str)] = &[
    (&["nodes"], "GET", "/v1/nodes", ""),
    (&["node", "show", "a"], "GET", "/v1/nodes/a", ""),
    (&["node", "drain", "a", "--why", "x y"], "POST", "/v1/nodes/a/drain", r#"{"why":"x y"}"#),
    (
        &["node", "drain", "a", "--why", "x", "--force"],
        "POST",
        "/v1/nodes/a/drain?force=true",
        r#"{"why":"x"}"#,
    ),
    (&["node", "resume", "a"], "POST", "/v1/nodes/a/resume", ""),
    (&["files", "show", "a b", "ü%.txt"], "GET", "/v1/files/a%20b/%C3%BC%25.txt", ""),
    (&["files", "list", "a", "--after", "b"], "GET", "/v1/files/a?after=b", ""),
    (&["locks", "clear", "a/b c"], "DELETE", "/v1/locks/a%2Fb%20c", ""),
    (
        &["runs", "--state", "dead,lost", "--stale", "90s", "--system"],
        "GET",
        "/v1/runs?stale=90&state=dead%2Clost&system=true",
        "",
    ),
    (&["jobs", "due", "--within", "2h"], "GET", "/v1/jobs-due?within_ms=7200000", ""),
    (
        &["settings", "set", "retry_after_s", "30", "--why", "w", "--for", "2h"],
        "PUT",
        "/v1/settings/retry_after_s",
        r#"{"for_s":7200,"value":"30","why":"w"}"#,
    ),
    (
        &["settings", "set", "log_filter", "debug", "--why", "w"],
        "PUT",
        "/v1/settings/log_filter",
        r#"{"value":"debug","why":"w"}"#,
    ),
    (
        &["token", "create", "--name", "ci", "--role", "viewer", "--expires", "30d"],
        "POST",
        "/v1/tokens",
        r#"{"expires_in_s":2592000,"name":"ci","role":"viewer"}"#,
    ),
    (
        &["sessions", "end-all", "--why", "w", "--yes"],
        "POST",
        "/v1/sessions/end-all",
        r#"{"confirm":"end all sessions","why":"w"}"#,
    ),
    (&["sessions", "end-user", "a/../b"], "DELETE", "/v1/users/a%2F..%2Fb/sessions", ""),
    (
        &["job", "run", "n", "--params", r#"{"a":[1]}"#],
        "POST",
        "/v1/jobs/n/run",
        r#"{"params":{"a":[1]}}"#,
    ),
    (
        &["job", "explain", "n", "--at", "2023-11-14T22:13:20Z"],
        "GET",
        "/v1/jobs/n/explain?at=1700000000000",
        "",
    ),
    (
        &["job", "backfill", "n", "--from", "5", "--to", "1970-01-01T00:00:01+00:00"],
        "POST",
        "/v1/jobs/n/backfill",
        r#"{"from":5,"to":1000}"#,
    ),
    (
        &["job", "preview-schedule", "--cron", "0 2 * * *", "--time-zone", "Europe/Oslo"],
        "POST",
        "/v1/jobs/preview",
        r#"{"schedule":{"expression":"0 2 * * *","kind":"cron","time_zone":"Europe/Oslo"}}"#,
    ),
    (
        &["job", "preview-schedule", "--every", "5min", "--count", "3"],
        "POST",
        "/v1/jobs/preview",
        r#"{"count":3,"schedule":{"every_ms":300000,"kind":"every"}}"#,
    ),
    (
        &["maintenance", "set", "full", "--why", "w", "--retry-after", "1min"],
        "PUT",
        "/v1/maintenance",
        r#"{"mode":"full","retry_after_s":60,"why":"w"}"#,
    ),
];

fn asked(line: &[&str], input: &'static str) -> Result<Request, Failure> {
    let words = std::iter::once("understudy").chain(line.iter().copied());
    let matches =
        root().try_get_matches_from(words).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    let (mut typed, mut words) = (&matches, Vec::new());
    while let Some((word, below)) = typed.subcommand() {
        words.push(word);
        typed = below;
    }
    let verb = verbs::all().find(|verb| verb.words == words.join(" ")).unwrap();
    let (mut terminal, _, _) = Terminal::for_test(Surroundings::for_test(), input);
    request(verb, typed, &mut terminal)
}

fn sent(line: &[&str]) -> (&'static str, String, String) {
    let request = asked(line, "").unwrap_or_else(|failure| panic!("{line:?}: {failure}"));
    let body = request.body.clone().map(|body| String::from_utf8(body).unwrap());
    (request.method, request.target(), body.unwrap_or_default())
}

fn wrong(line: &[&str]) -> String {
    let failure = asked(line, "").unwrap_err();
    assert_eq!(failure.status(), 64);
    failure.to_string()
}

#[test]
fn parameters_go_where_the_contract_wants_them() {
    for (line, method, target, body) in SENT {
        let expected = (*method, (*target).to_owned(), (*body).to_owned());
        assert_eq!(sent(line), expected, "{line:?}");
    }
}

#[test]
fn headers_are_sent_as_the_node_reads_them() {
    let request = asked(&["job", "run", "n", "--key", "k1"], "").unwrap();
    assert_eq!(request.headers, [("Idempotency-Key", "k1".to_owned())]);
    let definition = r#"{"name":"n","schedule":{"kind":"manual"}}"#;
    let request = asked(&["job", "put", "-", "--if-revision", "7"], definition).unwrap();
    assert_eq!(request.headers, [("If-Match", "\"7\"".to_owned())]);
    assert_eq!(
        (request.path.as_str(), request.body),
        ("/v1/jobs/n", Some(definition.as_bytes().to_vec()))
    );
    let request = asked(&["job", "put", "-", "--if-revision", "*", "--name", "m"], "{}").unwrap();
    assert_eq!((request.path.as_str(), request.headers[0].1.as_str()), ("/v1/jobs/m", "*"));
    let request = asked(&["job", "put", "-", "--if-new", "--name", "m"], "{}").unwrap();
    assert_eq!(request.headers, [("If-None-Match", "*".to_owned())]);
}

#[test]
fn mistakes_are_told_by_the_name_that_was_typed() {
    for (line, told) in [
        (&["runs", "--limit", "x"][..], "--limit must be a whole number from 1 up"),
        (&["run", "log", "7", "--all", "--limit", "0"], "--limit must be a whole number from 1 up"),
        (
            &["run", "log", "7", "--follow", "--limit=-3"],
            "--limit must be a whole number from 1 up",
        ),
        (&["job", "preview", "n", "--count", "0"], "--count must be a whole number from 1 up"),
        (&["runs", "--before", "x"], "--before must be a whole number"),
        (&["runs", "--stale", "soon"], "--stale must be a duration such as 30s"),
        (&["runs", "--from", "yesterday"], "--from must be a time such as"),
        (&["node", "show", ".."], "NODE cannot be empty, `.` or `..`"),
        (&["node", "show", ""], "NODE cannot be empty"),
        (&["job", "run", "n", "--params", "{"], "--params must be JSON"),
        (&["job", "run", "n", "--params", "@/no/such/file"], "/no/such/file cannot be read"),
        (&["job", "run", "n", "--key", "a b"], "--key must be printable ASCII"),
        (&["job", "preview-schedule"], "one of --cron, --every and --schedule"),
        (&["import", "/no/such/file"], "/no/such/file cannot be read"),
    ] {
        let text = wrong(line);
        assert!(text.contains(told), "{line:?}: {text}");
    }
    let told =
        asked(&["job", "put", "-", "--name", "b"], r#"{"name":"a"}"#).unwrap_err().to_string();
    assert!(told.contains("--name is `b`"), "{told}");
    let told = asked(&["import", "-"], "{\n x}").unwrap_err().to_string();
    assert!(told.contains("is not JSON") && told.contains("line 2"), "{told}");
    assert!(asked(&["job", "put", "-"], "[]").unwrap_err().to_string().contains("`name`"));
}

#[test]
fn a_time_may_be_told_from_now() {
    let now = 1_700_000_000_000;
    for (text, expected) in [
        ("now", Some(now)),
        ("2h ago", Some(now - 7_200_000)),
        ("in 5min", Some(now + 300_000)),
        ("0", Some(0)),
        ("2023-11-14T22:13:20.5Z", Some(now + 500)),
        ("2023-11-14T23:13:20+01:00", Some(now)),
        ("2023-11-14", None),
        ("-5", None),
        ("ago", None),
        ("in ", None),
    ] {
        assert_eq!(time(text, now), expected, "{text}");
    }
}
