//! The console of a real node: what is there is shown, what is done is done, and what this node does not have is said.

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::servers::Scratch;
use understudy_tests::{Client, Node, NodeSpec, wait};

use super::devtools::{Browser, LIMIT};
use super::stage::{pictures, signed_in};

const ADMIN: &str = "an-admin-of-the-console-tests";
const VIEWER: &str = "a-viewer-of-the-console-tests";

const JOBS: &str = r#"
[[job]]
name = "tick"
schedule = "* * * * * *"
description = "Does nothing, every second"
command = { argv = ["true"] }

[[job]]
name = "broken"
schedule = "manual"
command = { argv = ["false"] }
"#;

async fn started(folder: &Path) -> Node {
    let jobs = folder.join("jobs.toml");
    std::fs::write(&jobs, JOBS).expect("the folder is there");
    let spec = NodeSpec::new("alone")
        .env("UNDERSTUDY_ADMIN_TOKEN", ADMIN)
        .env("UNDERSTUDY_ADMIN_VIEWER_TOKEN", VIEWER)
        .env("UNDERSTUDY_JOBS_FILE", &jobs.display().to_string());
    let mut node = spec.start();
    node.ready(LIMIT).await;
    node
}

/// All pages of the navigation, as this visitor has it, and those that they lead to.
fn pages(browser: &mut Browser) -> Vec<String> {
    let links = browser
        .run("[...document.querySelectorAll('#nav a')].map((link) => link.getAttribute('href'))");
    let links: Vec<String> = serde_json::from_value(links).expect("a list of texts");
    let more = [
        "/console/nodes/alone",
        "/console/nodes/alone/config",
        "/console/jobs/tick",
        "/console/jobs/tick/edit",
        "/console/jobs/broken?at=2026-01-01T00:00",
        "/console/new-job",
        "/console/tasks",
        "/console/schedule?expression=30+2+*+*+*",
        "/console/problems/doctor",
        "/console/jobs?system=true",
    ];
    links.into_iter().chain(more.map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_of_a_real_node_are_shown_without_a_complaint() {
    let folder = Scratch::new("console");
    let node = started(folder.path()).await;
    let admin = Client::new().bearing(ADMIN);
    wait::until("a job has run", LIMIT, async || {
        let runs = admin.get(node.admin_url(), "/v1/runs?job=tick&state=completed").await;
        runs.is_ok_and(|runs| {
            runs.json::<Value>()["runs"].as_array().is_some_and(|runs| !runs.is_empty())
        })
    })
    .await;
    for (token, least) in [(ADMIN, 24), (VIEWER, 20)] {
        let mut browser = signed_in(node.admin_url(), token);
        browser.look_as((1_280, 900), "light");
        let pages = pages(&mut browser);
        assert!(pages.len() >= least, "{pages:?}");
        for page in pages {
            browser.visit(&format!("{}{page}", node.admin_url()));
            assert_eq!(browser.complaints(), Vec::<String>::new(), "{page}");
            let text = browser.text("document.querySelector('main').innerText");
            assert!(
                !text.contains("did not answer") && !text.contains("status 500"),
                "{page}: {text}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_in_the_console_is_done_and_is_in_the_audit_log() {
    let folder = Scratch::new("console");
    let node = started(folder.path()).await;
    let admin = Client::new().bearing(ADMIN);
    let mut browser = signed_in(node.admin_url(), ADMIN);
    let at = |path: &str| format!("{}{path}", node.admin_url());
    // Pause a job, with a reason.
    browser.visit(&at("/console/do/jobs.pause?name=tick"));
    browser.run("document.querySelector('[name=why]').value = 'it is <b>noisy</b>'");
    browser.follow("document.querySelector('.question button').click()");
    let page = browser.text("document.body.innerText");
    assert!(page.contains("Job tick is paused.") && page.contains("it is <b>noisy</b>"), "{page}");
    let job: Value = admin.get(node.admin_url(), "/v1/jobs/tick").await.unwrap().expect(200).json();
    assert_eq!(job["paused"]["why"], "it is <b>noisy</b>");
    // Start one that fails, and see what went wrong.
    browser.visit(&at("/console/do/jobs.run?name=broken"));
    browser.follow("document.querySelector('.question button').click()");
    assert!(browser.text("location.pathname").starts_with("/console/runs/"));
    wait::poll("the run has failed", LIMIT, Duration::from_millis(300), async || {
        let address = browser.text("location.href");
        browser.visit(&address);
        browser.text("document.querySelector('h1').innerText").contains("failed").then_some(())
    })
    .await;
    assert!(browser.text("document.querySelector('main').innerText").contains("What went wrong"));
    browser.picture(&pictures().join("real_run.png"));
    // Something that is refused is told with its reason.
    browser.visit(&at("/console/do/jobs.delete?name=tick"));
    browser.follow("document.querySelector('.question button').click()");
    assert!(
        browser
            .text("document.querySelector('.question').innerText")
            .contains("The job would come back")
    );
    assert_eq!(browser.complaints().len(), 1, "that the answer was 409");
    // All of it is in the log.
    let audit: Value = admin.get(node.admin_url(), "/v1/audit").await.unwrap().expect(200).json();
    let done: Vec<_> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["action"], one["outcome"]]))
        .collect();
    for wanted in [
        json!(["jobs.pause", "done"]),
        json!(["jobs.run", "done"]),
        json!(["jobs.delete", "failed"]),
    ] {
        assert!(done.contains(&wanted), "{wanted} in {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_does_nothing() {
    let folder = Scratch::new("console");
    let node = started(folder.path()).await;
    let client = Client::new();
    for (name, value) in
        [("origin", "https://evil.test"), ("sec-fetch-site", "cross-site"), ("accept", "*/*")]
    {
        let request = client
            .build(Method::POST, node.admin_url(), "/console/do/jobs.pause")
            .header(name, value)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("name=tick&why=x");
        let answer = client.send(request).await.expect("an answer");
        assert_eq!(answer.status, 403, "{name}: {value}");
    }
}
