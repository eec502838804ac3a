//! The page in a real browser: the script runs under the page's own policy and fills it in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use understudy_tests::servers::{Scratch, run};
use understudy_tests::{Client, Node, oracle};

use super::alone::{spec, started};

const LIMIT: Duration = Duration::from_secs(60);

/// Chromium, where it is installed; these tests are of no use without one.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let files = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file());
    if files.is_none() {
        oracle::note("no chromium here: the page was not looked at");
    }
    files
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
    let Some(chromium) = chromium() else { return };
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

/// The page has no way to be clicked from outside; an app on the same node does what its buttons do.
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
    let Some(chromium) = chromium() else { return };
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
