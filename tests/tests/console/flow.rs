//! What somebody does in the console: sign in, look, ask, do; with keys and without a script.

use std::time::Duration;

use serde_json::json;
use understudy_runtime::admin::Role;
use understudy_tests::{oracle, wait};

use super::devtools::{Browser, LIMIT};
use super::stage::{node, pictures, signed_in, token};
use super::stub::{Mood, Stub};

async fn shows(browser: &mut Browser, what: &str, script: &str) {
    wait::poll(what, LIMIT, Duration::from_millis(50), async || {
        (browser.run(script) == json!(true)).then_some(())
    })
    .await;
}

#[test]
fn a_wrong_token_is_refused_and_a_right_one_leads_to_where_somebody_wanted_to_be() {
    let node = node(Mood::Busy);
    let mut browser = Browser::open();
    browser.visit(&node.url("/console/jobs/nightly-report"));
    browser.run("document.getElementById('token').value = 'wrong'");
    browser.follow("document.querySelector('form button').click()");
    assert!(browser.text("document.body.innerText").contains("does not open the door"));
    assert_eq!(browser.text("document.cookie"), "", "no script sees a cookie");
    browser.complaints(); // that the answer was 401 is one
    browser.run(&format!("document.getElementById('token').value = '{}'", token(Role::Viewer)));
    browser.follow("document.querySelector('form button').click()");
    assert_eq!(browser.text("location.pathname"), "/console/jobs/nightly-report");
    browser.follow("document.querySelector('form[action=\"/console/logout\"] button').click()");
    browser.visit(&node.url("/console/jobs"));
    assert_eq!(browser.text("location.pathname"), "/console/login");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_opens_in_a_dialog_and_what_was_done_is_told() {
    let node = node(Mood::Busy);
    let mut browser = signed_in(&node.url(""), token(Role::Operator));
    browser.look_as((1_280, 800), "light");
    browser.visit(&node.url("/console/nodes"));
    browser.run("document.querySelector('a[href*=\"nodes.drain\"][href*=\"hamlet\"]').click()");
    shows(&mut browser, "the dialog", "document.querySelector('dialog').open").await;
    let asked = browser.text("document.querySelector('dialog').innerText");
    assert!(asked.contains("Drain node hamlet?") && asked.contains("412 sessions"), "{asked}");
    browser.picture(&pictures().join("dialog.png"));
    assert_eq!(browser.text("document.activeElement.name"), "why", "the first field has the focus");
    browser.press("Escape");
    shows(&mut browser, "no dialog", "!document.querySelector('dialog').open").await;
    assert!(node.changes().is_empty(), "nothing was done");
    browser.run("document.querySelector('a[href*=\"nodes.drain\"][href*=\"hamlet\"]').click()");
    shows(&mut browser, "the dialog", "document.querySelector('dialog').open").await;
    browser.run("document.querySelector('dialog [name=why]').value = 'new disk'");
    browser.follow("document.querySelector('dialog button').click()");
    assert_eq!(browser.text("location.pathname"), "/console/nodes");
    assert!(
        browser
            .text("document.querySelector('.flash').innerText")
            .contains("Node hamlet is drained.")
    );
    assert_eq!(node.changes()[0].body, json!({ "why": "new disk" }));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn everything_works_without_the_script() {
    let node = node(Mood::Busy);
    let mut browser = signed_in(&node.url(""), token(Role::Operator));
    browser.without_scripts();
    browser.visit(&node.url("/console/jobs/nightly-report"));
    browser.visit(&node.url("/console/do/jobs.pause?name=nightly-report"));
    browser.fill("why", "too much mail");
    browser.submit();
    assert_eq!(node.changes()[0].line, "POST /v1/jobs/nightly-report/pause");
    assert_eq!(node.changes()[0].body, json!({ "why": "too much mail" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_lead_from_page_to_page_unless_somebody_writes() {
    let node = node(Mood::Busy);
    let mut browser = signed_in(&node.url(""), token(Role::Admin));
    for (key, path) in [("n", "/console/nodes"), ("l", "/console/leader"), ("j", "/console/jobs")] {
        browser.press("g");
        browser.press(key);
        let there = format!("location.pathname === '{path}' && document.readyState === 'complete'");
        shows(&mut browser, path, &there).await;
    }
    browser.press("/");
    assert_eq!(browser.text("document.activeElement.name"), "after");
    browser.press("g");
    browser.press("n");
    assert_eq!(browser.text("document.activeElement.value"), "gn");
    browser.run("document.activeElement.blur()");
    browser.press("?");
    shows(&mut browser, "the help", "document.getElementById('help').matches(':popover-open')")
        .await;
    browser.press("Escape");
    // The first that the keyboard reaches leads past the pages.
    browser.visit(&node.url("/console/jobs"));
    browser.press("Tab");
    assert_eq!(browser.text("document.activeElement.className"), "skip");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

fn looks_at(node: &Stub, target: &str) -> usize {
    node.looks().iter().filter(|look| *look == target).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_looks_again_by_itself_and_keeps_what_somebody_does() {
    let node = node(Mood::Busy);
    let mut browser = signed_in(&node.url(""), token(Role::Operator));
    browser.look_as((1_280, 500), "light");
    browser.visit(&node.url("/console/jobs"));
    browser.run("document.getElementById('pace').value = '1'; document.getElementById('pace').dispatchEvent(new Event('change'))");
    // Focus and scroll stay while the numbers change.
    browser.run("window.scrollTo(0, 120); document.querySelector('td a.button').focus(); window.kept = document.activeElement");
    let before = looks_at(&node, "/v1/jobs?limit=40");
    wait::until("the page has looked again", LIMIT, async || {
        looks_at(&node, "/v1/jobs?limit=40") > before + 2
    })
    .await;
    assert_eq!(
        browser.run("document.activeElement === window.kept && window.kept.isConnected"),
        true
    );
    assert_eq!(browser.run("window.scrollY"), 120);
    // It does not while a field has been changed.
    browser.run("document.querySelector('[name=after]').focus(); document.querySelector('[name=after]').value = 'imp'");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let before = looks_at(&node, "/v1/jobs?limit=40");
    tokio::time::sleep(Duration::from_secs(4)).await;
    oracle!("looks while somebody writes", looks_at(&node, "/v1/jobs?limit=40") - before, 0);
    assert_eq!(browser.text("document.querySelector('[name=after]').value"), "imp");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_says_when_its_node_does_not_answer_any_more() {
    let node = node(Mood::Busy);
    let mut browser = signed_in(&node.url(""), token(Role::Viewer));
    browser.visit(&node.url("/console"));
    browser.run("document.getElementById('pace').value = '1'; document.getElementById('pace').dispatchEvent(new Event('change'))");
    node.stop().await;
    shows(&mut browser, "the page says it", "!document.getElementById('stale').hidden").await;
    let told = browser.text("document.getElementById('stale').textContent");
    assert!(told.starts_with("No answer from this node since "), "{told}");
    browser.picture(&pictures().join("stale.png"));
    assert!(
        browser.text("document.querySelector('main').innerText").contains("hamlet"),
        "what was seen stays"
    );
}

#[test]
fn the_theme_changes_by_a_button_and_stays() {
    let node = node(Mood::Busy);
    let mut browser = signed_in(&node.url(""), token(Role::Viewer));
    browser.look_as((1_280, 800), "dark");
    let paper = "getComputedStyle(document.documentElement).backgroundColor";
    browser.visit(&node.url("/console/jobs"));
    let dark = browser.text(paper);
    browser.follow("document.querySelector('form[action=\"/console/theme\"] button').click()");
    assert_eq!(browser.text("location.pathname"), "/console/jobs");
    assert_ne!(browser.text(paper), dark, "light, although the system is dark");
    browser.look_as((1_280, 800), "light");
    browser.follow("document.querySelector('form[action=\"/console/theme\"] button').click()");
    assert_eq!(browser.text(paper), dark, "dark, although the system is light");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
