//! Commands that need no cluster, and those that find none.

use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use understudy_tests::{NodeSpec, Program, oracle};

use super::typed::{command, typed};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_told_as_a_node_would_tell_it() {
    let wrong = [("UNDERSTUDY_HTTP_BIND", "here"), ("UNDERSTUDY_LOG_LEVEL", "info")];
    let checked = typed(&["config", "check"], &wrong).await.expect(78);
    let node = typed(&["serve"], &wrong).await.expect(78);
    oracle!("what is told", checked.complaints, node.complaints);
    assert_eq!(checked.complaints.lines().count(), 2, "{}", checked.complaints);
    let right = typed(&["config", "check"], &[]).await.expect(0);
    assert_eq!(right.out, "the configuration is right\n");
    let shown =
        typed(&["config", "print", "--json"], &[("UNDERSTUDY_LOG_FILTER", "debug")]).await.json();
    assert_eq!(shown["options"]["UNDERSTUDY_LOG_FILTER"], "debug");
    assert_eq!(shown["sources"]["UNDERSTUDY_LOG_FILTER"], "environment");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_69_and_not_healthy() {
    let nowhere = [("UNDERSTUDY_ADMIN_URL", "http://127.0.0.1:9")];
    let ended = typed(&["nodes"], &nowhere).await.expect(69);
    assert!(ended.complaints.contains("http://127.0.0.1:9"), "{}", ended.complaints);
    typed(&["health"], &nowhere).await.expect(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_not_confused_by_what_the_command_line_reads() {
    let spec = NodeSpec::new("alone").program(Program::Understudy);
    let spec = spec
        .env("UNDERSTUDY_ADMIN_URL", "http://127.0.0.1:1")
        .env("UNDERSTUDY_TOKEN", "a-token-of-an-operator")
        .env("UNDERSTUDY_TOKEN_FILE", "/no/such/file");
    let mut node = spec.start();
    node.ready(LIMIT).await;
    let url = [("UNDERSTUDY_ADMIN_URL", node.admin_url())];
    let healthy = typed(&["health"], &url).await.expect(0);
    assert_eq!(healthy.out, "ready\n");
    // In its own environment it is found without being named.
    let bind = node.admin_url().trim_start_matches("http://").to_owned();
    typed(&["health"], &[("UNDERSTUDY_ADMIN_BIND", &bind)]).await.expect(0);
    let about = typed(&["about", "--json"], &url).await.expect(0).json();
    assert!(about["node"].as_str().unwrap().starts_with("alone#"), "{about}");
    let top = typed(&["top", "--once"], &url).await.expect(0);
    assert!(top.out.contains("one node") && top.out.contains("leader alone"), "{}", top.out);
    oracle!("lines of a frame", top.out.lines().count(), 24);
}

#[test]
fn completions_and_help_may_be_cut_short_by_who_reads_them() {
    for arguments in [&["completions", "bash"][..], &["--help"]] {
        let mut child =
            command(arguments, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 1];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut first).unwrap();
        drop(out);
        let mut complaints = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
        assert_eq!((child.wait().unwrap().code(), complaints.as_str()), (Some(0), ""));
    }
}
