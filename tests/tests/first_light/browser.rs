//! The page in a real browser: the script runs under the page's own policy and fills it in.

mod devtools;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use understudy_tests::servers::{Scratch, run};
use understudy_tests::{Client, Node, oracle, wait};

use self::devtools::Browser;
use super::alone::{spec, started};

const LIMIT: Duration = Duration::from_secs(60);

/// Chromium; without one these tests fail, since nobody would have looked at the page.
fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file())
        .expect("chromium is installed: run .ci/packages.sh (`make test` does), or install it")
}

/// Runs the browser until the page is quiet; returns what it prints.
fn browse(chromium: &Path, more: &[&str]) -> String {
    let profile = Scratch::new("chromium");
    let mut command = Command::new(chromium);
    command.args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--hide-scrollbars",
        "--window-size=800,1000",
        "--virtual-time-budget=5000",
    ]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).args(more);
    run(&mut command, LIMIT).unwrap_or_else(|error| panic!("{error}"))
}

async fn named() -> Node {
    started(spec().env("UNDERSTUDY_NODE_ID", "stage-left")).await
}

/// The text of the element with this id.
fn text_of(page: &str, id: &str) -> String {
    let after = page.split_once(&format!("id=\"{id}\"")).expect("the element is there").1;
    let inside = after.split_once('>').expect("a tag ends").1;
    inside.split_once('<').expect("an element ends").0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_counter_and_the_node_in_a_browser() {
    let chromium = chromium();
    let node = named().await;
    let page = browse(&chromium, &["--dump-dom", node.public_url()]);
    oracle!("counter on the page", text_of(&page, "count"), "0");
    oracle!("node on the page", text_of(&page, "node"), "stage-left");
    assert!(text_of(&page, "owner").starts_with("nobody yet"), "{page}");
    oracle!("message on the page", text_of(&page, "message"), "");
    // Kept for a person to look at.
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("first_light.png");
    let screenshot = format!("--screenshot={}", picture.display());
    browse(&chromium, &[&screenshot, node.public_url()]);
    let size = std::fs::metadata(&picture).map_or(0, |file| file.len());
    oracle!("bytes of the picture", size, >= 10_000);
}

/// Waits until the element with this id shows a text.
async fn shows(browser: &mut Browser, id: &str, text: &str) {
    wait::until(&format!("{id} shows {text}"), LIMIT, async || browser.text(id) == text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_clicked_and_noted_is_there_after_a_restart_of_the_node() {
    const NOTE: &str = "<b>break</b> a leg";
    let mut node = named().await;
    let mut browser = Browser::open(&chromium());
    browser.visit(node.public_url());
    shows(&mut browser, "count", "0").await;
    for count in 1..=3 {
        browser.run("document.getElementById('up').click()");
        shows(&mut browser, "count", &count.to_string()).await;
    }
    browser.run(&format!("document.getElementById('text').value = {}", json!(NOTE)));
    browser.run("document.querySelector('#note button').click()");
    shows(&mut browser, "notes", NOTE).await;
    for time in ["created", "expires", "absolute"] {
        let shown = browser.text(time);
        assert!(shown.contains(char::is_numeric), "{time}: {shown}");
    }
    node.terminate();
    assert!(node.wait_exit(LIMIT).await.success());
    node.start_again();
    node.ready(LIMIT).await;
    // Another tab of the same browser.
    browser.visit(node.public_url());
    shows(&mut browser, "count", "3").await;
    oracle!("counter on the page after the restart", browser.text("count"), "3");
    oracle!("note on the page after the restart", browser.text("notes"), NOTE);
    oracle!("message on the page", browser.text("message"), "");
}

/// What an app of one's own can do on the same node.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_in_a_browser_counts_in_a_session_of_its_own() {
    const APP: &str =
        "<!doctype html><output id=\"count\">...</output><script src=\"/app.js\"></script>";
    const SCRIPT: &str = r#"(async () => {
        const values = "/api/session/values";
        for (let n = 0; n < 3; n++) await fetch(values + "/n/increment", { method: "POST" });
        const answer = await (await fetch(values + "/n")).json();
        document.getElementById("count").textContent = answer.value;
    })();"#;
    let chromium = chromium();
    let root = Scratch::new("web-root");
    std::fs::write(root.join("index.html"), APP).unwrap();
    std::fs::write(root.join("app.js"), SCRIPT).unwrap();
    let folder = root.path().display().to_string();
    let node = started(spec().env("UNDERSTUDY_WEB_ROOT", &folder)).await;
    let page = browse(&chromium, &["--dump-dom", node.public_url()]);
    oracle!("counted by the browser, with its cookie", text_of(&page, "count"), "3");
    let other = Client::new();
    let path = "/api/session/values/n/increment";
    let first = other.post_json(node.public_url(), path, &json!({})).await.unwrap().expect(200);
    oracle!("another browser begins at", first.json::<serde_json::Value>()["value"], 1);
}
