//! The service for systemd: whether systemd takes it, how closed it is, and what in it must agree with the program.

use std::process::Command;
use std::time::Duration;

use understudy::runtime::config::EXIT_CONFIG;
use understudy_tests::Program;
use understudy_tests::servers::{Scratch, find_program, run};

use super::files::{is_option, read};
use super::limits::{is_enough, stop_limit};

const LIMIT: Duration = Duration::from_secs(30);
/// Tenths of what systemd calls the exposure of a service; up to 20 it calls it OK.
const EXPOSURE: u32 = 20;

/// All values that a key is given.
fn values(unit: &str, key: &str) -> Vec<String> {
    let of_key = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
    unit.lines().filter_map(of_key).collect()
}

fn value(unit: &str, key: &str) -> String {
    let all = values(unit, key);
    assert_eq!(all.len(), 1, "{key}: {all:?}");
    all[0].clone()
}

fn unit() -> String {
    read("deploy/understudy.service")
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s')
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{text}"))
}

#[test]
#[cfg(target_os = "linux")]
fn o5_systemd_accepts_the_service_and_calls_it_closed() {
    let folder = Scratch::new("systemd");
    let file = folder.join("understudy.service");
    // It is checked that the program is there, so it is told where this one is.
    let program = Program::Understudy.path().display().to_string();
    let installed = value(&unit(), "ExecStart").split(' ').next().unwrap().to_owned();
    assert_eq!(installed, "/usr/local/bin/understudy");
    std::fs::write(&file, unit().replace(&installed, &program)).unwrap();
    let tool = find_program("systemd-analyze");
    // With nothing wrong it says nothing, on either output.
    let mut verify = Command::new("sh");
    verify.args(["-c", "\"$0\" verify --man=no \"$1\" 2>&1"]).arg(&tool).arg(&file);
    assert_eq!(run(&mut verify, LIMIT).as_deref(), Ok(""));
    let mut judge = Command::new(&tool);
    judge.args(["security", "--offline=yes", &format!("--threshold={EXPOSURE}")]).arg(&file);
    let report = run(&mut judge, LIMIT).unwrap_or_else(|open| panic!("{open}"));
    understudy_tests::oracle::note(report.lines().last().unwrap_or_default());
}

#[actix_web::test]
async fn o5_the_service_waits_as_long_as_a_node_takes_and_starts_no_wrong_one_again() {
    let unit = unit();
    assert_eq!(value(&unit, "Type"), "notify");
    assert_eq!(value(&unit, "NotifyAccess"), "main");
    assert_eq!(value(&unit, "Restart"), "always");
    // The readiness check goes round once a second, and may take two.
    assert!(seconds(&value(&unit, "WatchdogSec")) >= 10);
    is_enough(
        "TimeoutStopSec",
        seconds(&value(&unit, "TimeoutStopSec")),
        stop_limit(&Default::default()).await,
    );
    let never_again = value(&unit, "RestartPreventExitStatus");
    assert!(
        never_again.split(' ').any(|status| status == EXIT_CONFIG.to_string()),
        "{never_again}"
    );
    for setting in values(&unit, "Environment") {
        let (name, folder) = setting.split_once('=').unwrap();
        assert!(is_option(name), "{name} is no option");
        assert!(folder.ends_with(&value(&unit, "StateDirectory")), "it may write there only");
    }
    // What the document tells to install is what the service reads.
    let page = read("docs/deployment.md");
    for file in [value(&unit, "EnvironmentFile"), "/usr/local/bin/understudy".to_owned()] {
        assert!(page.contains(&file), "docs/deployment.md does not name {file}");
    }
}
