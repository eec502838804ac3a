//! Programs that end by themselves, and those that are made to.

use std::future::pending;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::super::attempt::tests::{attempt, lines};
use super::*;

fn call(argv: &[&str]) -> CommandCall {
    CommandCall {
        argv: argv.iter().map(|text| (*text).to_owned()).collect(),
        env: BTreeMap::new(),
        folder: None,
        timeout_ms: None,
        success: vec![0],
    }
}

fn shell(script: &str) -> CommandCall {
    call(&["/bin/sh", "-c", script])
}

fn environment() -> Environment {
    Environment::of([
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/nowhere"),
        ("TOKEN", "s3cret"),
        ("OTHER", "x"),
    ])
}

/// Runs a program to its end; gives its log too.
async fn run_to_end(call: &CommandCall) -> (Result<Value, JobError>, Vec<String>) {
    let (log, mut lines) = lines();
    let ended = run(call, (&attempt(), &environment()), &log, pending()).await;
    let mut told = Vec::new();
    while let Ok(line) = lines.try_recv() {
        told.push(line);
    }
    (ended, told)
}

async fn failure(call: &CommandCall) -> String {
    run_to_end(call).await.0.unwrap_err().message().to_owned()
}

/// The number that a script has told in its first line.
async fn told_number(lines: &mut UnboundedReceiver<String>) -> i32 {
    lines.recv().await.unwrap().trim_start_matches("info ").parse().unwrap()
}

/// Waits until a process is no more; one that nobody has waited for yet is no more either.
async fn gone(process: i32) {
    let gone = async {
        loop {
            let state = std::fs::read_to_string(format!("/proc/{process}/stat"));
            let state = state.ok().and_then(|stat| stat.rsplit(") ").next().map(str::to_owned));
            if state.is_none_or(|state| state.starts_with(['Z', 'X'])) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test]
async fn output_goes_into_the_log_line_by_line() {
    let script = "echo one; echo two >&2; printf 'three\\r\\n\\nfour'";
    let (ended, mut told) = run_to_end(&shell(script)).await;
    assert_eq!(ended.unwrap(), json!({ "status": 0 }));
    // Between the two there is no order.
    told.sort_by_key(|line| line.starts_with("warn"));
    assert_eq!(told, ["info one", "info three", "info ", "info four", "warn two"]);
}

#[tokio::test]
async fn a_line_without_an_end_is_broken() {
    let (_, told) = run_to_end(&shell("head -c 20000 /dev/zero | tr '\\0' x")).await;
    assert_eq!(told.iter().map(|line| line.len() - "info ".len()).sum::<usize>(), 20_000);
    assert!(told.len() > 1 && told.iter().all(|line| line.len() < 2 * LONGEST_LINE + 5));
}

#[tokio::test]
async fn a_program_knows_its_run_and_little_of_the_node() {
    let mut call = call(&["env"]);
    call.env = BTreeMap::from([("GIVEN".to_owned(), "<${TOKEN}>".to_owned())]);
    let (ended, mut told) = run_to_end(&call).await;
    ended.unwrap();
    told.sort();
    let expected = [
        "info GIVEN=<s3cret>",
        "info HOME=/nowhere",
        "info PATH=/usr/bin:/bin",
        "info UNDERSTUDY_ATTEMPT=2",
        "info UNDERSTUDY_EPOCH=3",
        "info UNDERSTUDY_FIRE_TIME=2026-12-01T02:00:00Z",
        "info UNDERSTUDY_IDEMPOTENCY_KEY=ping/cron:1796090400000",
        "info UNDERSTUDY_JOB=ping",
        "info UNDERSTUDY_RUN=17",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn only_the_named_statuses_are_a_success() {
    assert_eq!(failure(&shell("exit 3")).await, "ended with status 3");
    assert_eq!(failure(&shell("kill -9 $$")).await, "was ended by signal 9");
    let allowed = CommandCall { success: vec![3, 4], ..shell("exit 3") };
    assert_eq!(run_to_end(&allowed).await.0.unwrap(), json!({ "status": 3 }));
    let refused = CommandCall { success: vec![3, 4], ..shell("true") };
    assert_eq!(failure(&refused).await, "ended with status 0");
}

#[tokio::test]
async fn what_cannot_be_started_is_told_by_its_name() {
    assert_eq!(failure(&call(&["no-such-program"])).await, "there is no program `no-such-program`");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(failure(&call(&[path])).await, format!("the program `{path}` may not be run"));
    let nowhere = CommandCall { folder: Some(format!("{path}/nowhere")), ..shell("true") };
    assert_eq!(failure(&nowhere).await, format!("there is no folder {path}/nowhere"));
    let unset = CommandCall {
        env: BTreeMap::from([("A".to_owned(), "${NOT_SET}".to_owned())]),
        ..shell("true")
    };
    assert!(failure(&unset).await.contains("NOT_SET"));
}

#[tokio::test]
async fn a_program_with_a_slash_is_looked_for_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    // A link, since a program that was written just now cannot be run while another test starts one.
    std::os::unix::fs::symlink("/bin/pwd", folder.path().join("pwd")).unwrap();
    let mut call = call(&["./pwd"]);
    call.folder = Some(folder.path().to_str().unwrap().to_owned());
    let (ended, told) = run_to_end(&call).await;
    ended.unwrap();
    let folder = folder.path().canonicalize().unwrap();
    assert_eq!(told, [format!("info {}", folder.display())]);
}

#[tokio::test]
async fn a_cancelled_program_ends_with_all_its_children_although_it_does_not_want_to() {
    let (log, mut lines) = lines();
    let (cancel, cancelled) = oneshot::channel();
    // The child inherits that it does not heed the signal.
    let call = shell("trap '' TERM; sleep 600 & echo $!; wait; sleep 600");
    let (attempt, environment) = (attempt(), environment());
    let told_to_end = async { cancelled.await.unwrap() };
    let program = run(&call, (&attempt, &environment), &log, told_to_end);
    let (ended, child) = tokio::join!(program, async {
        let child = told_number(&mut lines).await;
        cancel.send(()).unwrap();
        child
    });
    assert!(ended.unwrap_err().is_cancelled());
    gone(child).await;
}

#[tokio::test]
async fn a_program_that_heeds_the_signal_has_time_to_clean_up() {
    let (log, mut lines) = lines();
    let (cancel, cancelled) = oneshot::channel();
    let call = shell("trap 'echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
    let (attempt, environment) = (attempt(), environment());
    let told_to_end = async { cancelled.await.unwrap() };
    let program = run(&call, (&attempt, &environment), &log, told_to_end);
    let (ended, told) = tokio::join!(program, async {
        assert_eq!(lines.recv().await.unwrap(), "info ready");
        cancel.send(()).unwrap();
        // The whole group is told to end: a shell may say of its `sleep` that it was terminated.
        loop {
            match lines.recv().await.unwrap() {
                told if told.starts_with("warn") => {}
                told => break told,
            }
        }
    });
    assert!(ended.unwrap_err().is_cancelled());
    assert_eq!(told, "info cleaned");
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_ended() {
    let slow = CommandCall { timeout_ms: Some(50), ..shell("sleep 600") };
    assert_eq!(failure(&slow).await, "took longer than 50ms and was ended");
}

#[tokio::test]
async fn a_dropped_run_ends_its_program_and_what_that_began() {
    let (log, mut lines) = lines();
    let call = shell("sleep 600 & echo $!; wait");
    let (attempt, environment) = (attempt(), environment());
    let child = tokio::select! {
        _ = run(&call, (&attempt, &environment), &log, pending()) => panic!("it ended by itself"),
        child = told_number(&mut lines) => child,
    };
    gone(child).await;
}

#[tokio::test]
async fn what_a_program_leaves_in_the_background_ends_with_it() {
    let (ended, told) = run_to_end(&shell("sleep 600 & echo $!")).await;
    ended.unwrap();
    gone(told[0].trim_start_matches("info ").parse().unwrap()).await;
}
