//! Good files, and every kind of mistake with its place.

use std::time::Duration;

use serde_json::json;
use understudy_scheduler::spec::{
    Backoff, Fold, Gap, Misfire, OnFailure, OnLeaseLoss, OnOrphan, Overlap, Placement, Retry,
};

use super::*;

fn read(text: &str) -> Result<Parsed, Vec<Mistake>> {
    parse(text, &"UTC".parse().unwrap())
}

/// One job whose lines begin with the third of the file.
fn job_with(lines: &str) -> String {
    format!("[[job]]\nname = \"a\"\n{lines}\n")
}

const CALL: &str = "http = { url = \"http://127.0.0.1/\" }";

/// The mistakes of a file: `line:column problem`.
fn mistakes(text: &str) -> Vec<String> {
    let mistakes = read(text).unwrap_err();
    mistakes.iter().map(|it| format!("{}:{} {}", it.line, it.column, it.problem)).collect()
}

fn one(text: &str) -> JobSpec {
    read(text).unwrap().specs.remove(0)
}

#[test]
fn an_empty_file_has_no_jobs() {
    for text in ["", "\n# nothing yet\n", "job = []"] {
        assert_eq!(read(text), Ok(Parsed::default()), "{text}");
    }
}

#[test]
fn a_job_needs_a_name_a_schedule_and_a_call() {
    let spec = one(&job_with(&format!("schedule = \"*/5 * * * *\"\n{CALL}")));
    let mut expected = JobSpec::new(
        "a".parse().unwrap(),
        Schedule::Cron {
            expression: "*/5 * * * *".to_owned(),
            time_zone: None,
            gap: Gap::Auto,
            fold: Fold::Auto,
        },
    );
    expected.handler = "http".to_owned();
    expected.params = json!({
        "method": "GET", "url": "http://127.0.0.1/", "timeout_ms": 30_000, "follow_redirects": false
    });
    assert_eq!(spec, expected);
    assert_eq!(
        mistakes("[[job]]\n\n[[job]]\nname = \"b\"\n"),
        [
            "1:1 job 1: must have either http or command: what it does",
            "1:1 job 1: name is missing: 1 to 128 of A-Z a-z 0-9 . _ -",
            "1:1 job 1: schedule is missing: a cron expression, \"manual\", or a table with one of cron, every, after, once",
            "3:1 job `b`: must have either http or command: what it does",
            "3:1 job `b`: schedule is missing: a cron expression, \"manual\", or a table with one of cron, every, after, once",
        ]
    );
}

/// A job with every field there is.
const FULL: &str = r#"
        [[job]]
        name = "full"
        description = "all of it"
        schedule = { cron = "30 2 * * *", gap = "shift", fold = "both" }
        time_zone = "Europe/Oslo"
        placement = "any"
        labels = { zone = "a", disk = "fast" }
        misfire = { fire_all = 7 }
        misfire_grace = "2h"
        overlap = { allow = 2 }
        max_concurrency = 3
        concurrency_key = "disk"
        timeout = "1h 30m"
        retry = { retries = 3, delay = "10s", backoff = "exponential", max_delay = "1h", jitter_percent = 10 }
        on_orphan = { retry = 5 }
        on_lease_loss = "continue"
        priority = -7
        jitter = "250ms"
        then = ["b", "c"]
        on_failure = "continue"
        catch_up_on_resume = true
        [job.command]
        argv = ["./backup.sh", "--all"]
        env = { A = "b ${C}" }
        folder = "/srv"
        timeout = "1h"
        success = [0, 3]
    "#;

#[test]
fn every_field_of_a_job_is_read() {
    let spec = one(FULL);
    let mut expected = JobSpec::new(
        "full".parse().unwrap(),
        Schedule::Cron {
            expression: "30 2 * * *".to_owned(),
            time_zone: Some("Europe/Oslo".to_owned()),
            gap: Gap::Shift,
            fold: Fold::Both,
        },
    );
    expected.handler = "command".to_owned();
    expected.description = "all of it".to_owned();
    expected.params = json!({
        "argv": ["./backup.sh", "--all"], "env": { "A": "b ${C}" }, "folder": "/srv",
        "timeout_ms": 3_600_000, "success": [0, 3]
    });
    expected.placement = Placement::Any;
    expected.labels = BTreeMap::from(
        [("zone", "a"), ("disk", "fast")].map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    expected.misfire = Misfire::FireAll { max: 7 };
    expected.misfire_grace = Some(Duration::from_secs(7_200));
    expected.overlap = Overlap::Allow { max: 2 };
    expected.max_concurrency = Some(3);
    expected.concurrency_key = Some("disk".to_owned());
    expected.timeout = Some(Duration::from_secs(5_400));
    expected.retry = Retry {
        retries: 3,
        delay: Duration::from_secs(10),
        backoff: Backoff::Exponential,
        max_delay: Duration::from_secs(3_600),
        jitter_percent: 10,
    };
    expected.on_orphan = OnOrphan::Retry { max: 5 };
    expected.on_lease_loss = OnLeaseLoss::Continue;
    expected.priority = -7;
    expected.jitter = Duration::from_millis(250);
    expected.then = ["b", "c"].map(|name| name.parse().unwrap()).to_vec();
    expected.on_failure = OnFailure::Continue;
    expected.catch_up_on_resume = true;
    assert_eq!(spec, expected);
}

#[test]
fn every_kind_of_schedule_is_read() {
    let schedule = |text: &str| one(&job_with(&format!("schedule = {text}\n{CALL}"))).schedule;
    let seconds = Duration::from_secs;
    assert_eq!(schedule("\"manual\""), Schedule::Manual);
    assert_eq!(
        schedule("{ every = \"30s\" }"),
        Schedule::Every { every: seconds(30), anchor_ms: 0 }
    );
    assert_eq!(
        schedule("{ every = \"1m\", anchor = \"1970-01-01T00:00:07Z\" }"),
        Schedule::Every { every: seconds(60), anchor_ms: 7_000 }
    );
    assert_eq!(schedule("{ after = \"10m\" }"), Schedule::After { delay: seconds(600) });
    for time in
        ["\"2026-12-01T02:00:00Z\"", "2026-12-01T02:00:00Z", "\"2026-12-01T03:00:00+01:00\""]
    {
        let once = schedule(&format!("{{ once = {time} }}"));
        assert_eq!(once, Schedule::Once { at_ms: 1_796_090_400_000 }, "{time}");
    }
    let zoned =
        one(&job_with(&format!("schedule = \"@daily\"\ntime_zone = \"Asia/Tokyo\"\n{CALL}")));
    let Schedule::Cron { time_zone, .. } = zoned.schedule else { panic!("{zoned:?}") };
    assert_eq!(time_zone.as_deref(), Some("Asia/Tokyo"));
}

#[test]
fn policies_are_words_too() {
    let spec = |line: &str| one(&job_with(&format!("schedule = \"manual\"\n{CALL}\n{line}")));
    assert_eq!(spec("misfire = \"skip\"").misfire, Misfire::Skip);
    assert_eq!(spec("misfire = \"fire_all\"").misfire, Misfire::FireAll { max: 100 });
    assert_eq!(spec("overlap = \"queue_one\"").overlap, Overlap::QueueOne);
    assert_eq!(spec("overlap = \"cancel_previous\"").overlap, Overlap::CancelPrevious);
    assert_eq!(spec("on_orphan = \"fail\"").on_orphan, OnOrphan::Fail);
    assert_eq!(spec("on_orphan = \"retry\"").on_orphan, OnOrphan::default());
    assert_eq!(spec("retries = 2").retry.retries, 2);
    assert_eq!(spec("").retry.retries, 0);
    assert!(
        read(&job_with(&format!("schedule = \"manual\"\n{CALL}\nenabled = false")))
            .unwrap()
            .specs
            .is_empty()
    );
}

#[test]
fn a_call_keeps_its_variables_and_tells_them() {
    let parsed = read(
        r#"
        [[job]]
        name = "a"
        schedule = "manual"
        [job.http]
        method = "POST"
        url = "${BASE}/x"
        headers = { X-Token = "${TOKEN}" }
        json = { deep = [{ text = "${DEEP}", when = 2026-12-01, half = 0.5, yes = true }] }
        expect = [200, 204]
        timeout = "10s"
        follow_redirects = true
    "#,
    )
    .unwrap();
    assert_eq!(
        parsed.specs[0].params,
        json!({
            "method": "POST", "url": "${BASE}/x", "headers": { "X-Token": "${TOKEN}" },
            "json": { "deep": [{ "text": "${DEEP}", "when": "2026-12-01", "half": 0.5, "yes": true }] },
            "expect": [200, 204], "timeout_ms": 10_000, "follow_redirects": true
        })
    );
    let names: Vec<&str> = parsed.variables.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["BASE", "DEEP", "TOKEN"]);
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let told = mistakes("[[job]]\nname = \"a\nschedule = \"manual\"\n[job.http\n");
    assert!(told.len() >= 2, "{told:?}");
    assert!(told[0].starts_with("2:") && told[0].contains("is not TOML here"), "{told:?}");
    assert!(told.iter().any(|it| it.starts_with("4:")), "{told:?}");
    assert!(mistakes("a = 1\na = 2").iter().all(|it| it.contains("is not TOML here")));
}

#[test]
fn every_mistake_names_its_line_and_its_field() {
    for (line, place, field) in [
        ("schedul = \"manual\"", "3:1", "schedul is not known"),
        ("schedule = 5", "3:1", "schedule must be"),
        ("schedule = \"* * * *\"", "3:1", "schedule "),
        ("schedule = \"0 0 30 2 *\"", "3:1", "schedule "),
        ("schedule = { }", "3:1", "schedule must have one of"),
        ("schedule = { every = \"1s\", after = \"1s\" }", "3:1", "schedule must have one of"),
        ("schedule = { every = \"often\" }", "3:14", "schedule.every must be a duration"),
        ("schedule = { every = \"0s\" }", "3:14", "schedule.every "),
        ("schedule = { after = \"1us\" }", "3:14", "schedule.after must be a duration"),
        ("schedule = { every = \"1s\", gap = \"skip\" }", "3:28", "schedule.gap is not known"),
        ("schedule = { cron = \"@daily\", gap = \"no\" }", "3:31", "schedule.gap must be one of"),
        ("schedule = { once = \"2026-12-01T02:00:00\" }", "3:14", "schedule.once must be a time"),
        ("schedule = \"@daily\"\ntime_zone = \"Oslo\"", "4:1", "time_zone "),
        ("schedule = \"manual\"\ntime_zone = \"UTC\"", "4:1", "time_zone goes with"),
        ("placement = \"all\"", "3:1", "placement must be one of leader, any, every"),
        ("labels = { zone = 1 }", "3:12", "labels.zone must be a text"),
        ("labels = [\"a\"]", "3:1", "labels must be a table"),
        ("misfire = { fire_all = 0 }", "3:1", "misfire.fire_all must be 1 to 1000"),
        ("misfire = { fire_all = 1, x = 2 }", "3:1", "misfire must be"),
        ("misfire_grace = 5", "3:1", "misfire_grace must be a duration"),
        ("overlap = \"none\"", "3:1", "overlap must be"),
        ("overlap = { allow = -1 }", "3:1", "overlap must be"),
        ("max_concurrency = 0", "3:1", "max_concurrency must be a whole number"),
        ("concurrency_key = \"k\"", "3:1", "concurrency_key needs max_concurrency"),
        ("timeout = \"0s\"", "3:1", "timeout must be more than 0"),
        ("retries = -1", "3:1", "retries must be a whole number from 0 to 1000"),
        ("retries = 1\nretry = { retries = 1 }", "3:1", "retries and retry are both there"),
        ("retry = { delay = 1 }", "3:11", "retry.delay must be a duration"),
        ("retry = { backof = \"fixed\" }", "3:11", "retry.backof is not known"),
        ("on_orphan = { retry = 5_000 }", "3:1", "on_orphan.retry must be 1 to 1000"),
        ("on_lease_loss = true", "3:1", "on_lease_loss must be one of cancel, continue"),
        ("priority = 101", "3:1", "priority must be a whole number from -100 to 100"),
        ("then = [\"a\"]", "3:1", "then must not name the job itself"),
        ("then = [\"a b\"]", "3:1", "then must be a list of names"),
        ("enabled = 1", "3:1", "enabled must be true or false"),
    ] {
        let rest = if line.contains("schedule =") { "" } else { "schedule = \"manual\"\n" };
        let told = mistakes(&job_with(&format!("{line}\n{rest}{CALL}")));
        let begin = format!("{place} job `a`: {field}");
        assert!(told.iter().any(|it| it.starts_with(&begin)), "{line}: {told:?}");
    }
}

#[test]
fn every_mistake_in_a_call_names_its_line_and_its_field() {
    for (line, place, field) in [
        ("http = \"http://a/\"", "3:1", "http must be a table"),
        ("http = { }", "3:1", "http.url is missing"),
        ("http = { url = \"ftp://a/\" }", "3:10", "http.url must be an address"),
        ("http = { url = \"/x\" }", "3:10", "http.url must be an address"),
        ("http = { url = \"http://${A\" }", "3:10", "http.url has a `${`"),
        ("http = { url = \"http://a/\", methd = \"GET\" }", "3:29", "http.methd is not known"),
        ("http = { url = \"http://a/\", method = \"get\" }", "3:29", "http.method must be one of"),
        ("http = { url = \"http://a/\", body = \"\", json = 1 }", "3:40", "http.json and body"),
        ("http = { url = \"http://a/\", json = [nan] }", "3:29", "http.json must be"),
        ("http = { url = \"http://a/\", expect = 200 }", "3:29", "http.expect must be a list"),
        ("http = { url = \"http://a/\", expect = [] }", "3:29", "http.expect must be a list"),
        ("http = { url = \"http://a/\", expect = [99] }", "3:29", "http.expect must be a list"),
        ("http = { url = \"http://a/\", timeout = \"0s\" }", "3:29", "http.timeout must be more"),
        (
            "[job.http]\nurl = \"http://a/\"\nheaders.Host = \"b\"",
            "5:9",
            "http.headers.Host is set by",
        ),
        (
            "[job.http]\nurl = \"http://a/\"\nheaders.\"a b\" = \"b\"",
            "5:9",
            "http.headers.a b is not the name",
        ),
        (
            "[job.http]\nurl = \"http://a/\"\nheaders.A = \"a\\nb\"",
            "5:9",
            "http.headers.A has characters",
        ),
        (
            "[job.http]\nurl = \"http://a/\"\nheaders.A = \"${UNDERSTUDY_REDIS_URL}\"",
            "5:9",
            "http.headers.A asks for",
        ),
        ("command = [\"ls\"]", "3:1", "command must be a table"),
        ("command = { argv = [] }", "3:13", "command.argv must be a list"),
        ("command = { argv = \"ls\" }", "3:13", "command.argv must be a list"),
        ("command = { argv = [\"ls\"], success = [256] }", "3:28", "command.success must be"),
        ("command = { argv = [\"ls\"], folder = \"\" }", "3:28", "command.folder must be"),
        (
            "command = { argv = [\"ls\"], env = { UNDERSTUDY_RUN = \"1\" } }",
            "3:36",
            "command.env.UNDERSTUDY_RUN is set",
        ),
        (
            "http = { url = \"http://a/\" }\ncommand = { argv = [\"ls\"] }",
            "1:1",
            "must have either http or command",
        ),
    ] {
        let rest = if line.starts_with('[') { "" } else { "schedule = \"manual\"" };
        let text = job_with(&format!("{line}\n{rest}"));
        let told = mistakes(&text);
        let begin = format!("{place} job `a`: {field}");
        assert!(told.iter().any(|it| it.starts_with(&begin)), "{line}: {told:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_their_order() {
    let text = format!(
        "job_count = 2\n\n{}{}",
        job_with(
            "schedule = \"60 * * * *\"\ntimeout = \"soon\"\npriority = 200\nhttp = { url = 5 }"
        ),
        job_with(&format!("schedule = \"manual\"\nretires = 3\n{CALL}"))
    );
    let told = mistakes(&text);
    let begins = [
        "1:1 job_count is not known",
        "5:1 job `a`: schedule ",
        "6:1 job `a`: timeout must be",
        "7:1 job `a`: priority must be",
        "8:10 job `a`: http.url must be",
        "10:1 job `a`: name is that of job 1 already",
        "12:1 job `a`: retires is not known",
    ];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    for (told, begin) in told.iter().zip(begins) {
        assert!(told.starts_with(begin), "{told} does not begin with {begin}");
    }
}

#[test]
fn no_value_is_repeated_in_a_mistake() {
    let secret = "hunter2";
    for line in [
        format!("http = {{ url = \"{secret}\", headers = {{ A = [\"{secret}\"] }} }}"),
        format!(
            "http = {{ url = \"http://a/\", headers = {{ A = \"{secret}\\n\" }}, body = {{ a = \"{secret}\" }} }}"
        ),
        format!("http = {{ url = \"http://a/\", timeout = \"{secret}\", method = \"{secret}\" }}"),
        format!(
            "command = {{ argv = [\"ls\", 5], env = {{ A = \"${{{secret}\", B = 7, C = {{ D = \"{secret}\" }} }} }}"
        ),
        format!("command = {{ argv = [\"ls\"], env = {{ A = \"{secret}\" \"{secret}\" }} }}"),
        format!("command = {{ argv = [\"ls\"], env = {{ A = {secret} }} }}"),
        format!("http = {{ url = \"http://a/\", headers = {{ A = \"{secret} }} }}"),
    ] {
        let told = mistakes(&job_with(&line)).join("\n");
        assert!(!told.contains(secret), "{told}");
    }
}
