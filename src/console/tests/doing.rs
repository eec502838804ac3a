//! Doing things: what the API is asked for, and what somebody is told.

use serde_json::json;

use super::super::cookies::read_text;
use super::*;

#[actix_web::test]
async fn a_question_says_what_will_be_hit() {
    let browser = Browser::inside(Mood::Busy, Role::Admin);
    for (question, told) in [
        ("nodes.drain?name=hamlet", "412 sessions are resident on it"),
        ("nodes.restart?name=horatio", "It may be stopped"),
        ("cluster.restart", "3 nodes"),
        ("leader.step_down", "leads now, in term 41"),
        ("jobs.cancel?name=nightly-report", "50 runs"),
        ("runs.cancel?id=4812", "nightly-report"),
        ("sessions.end?id=9f86d0818884c7d659a2feaa0c55ad00", "yorick"),
        ("sessions.end_others?id=9f86d0818884c7d659a2feaa0c55ad00", "yorick"),
        ("sessions.end_user?user=yorick", "8 sessions"),
        ("sessions.end_all", "1,204 sessions"),
    ] {
        let seen = browser.get(&format!("/console/do/{question}")).await;
        assert!(seen.body.contains(told), "{question}: {}", seen.body);
    }
    assert!(browser.stub.changes().is_empty(), "a question changes nothing");
}

#[actix_web::test]
async fn what_is_confirmed_is_asked_of_the_api_on_behalf_of_who_is_signed_in() {
    let browser = Browser::inside(Mood::Busy, Role::Operator);
    let form =
        [("name", "hamlet"), ("why", "new disk"), ("force", "true"), ("back", "/console/nodes")];
    let seen = browser.post("/console/do/nodes.drain", &form).await;
    assert_eq!((seen.status, seen.location.as_str()), (303, "/console/nodes"));
    let changes = browser.stub.changes();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].line, "POST /v1/nodes/hamlet/drain?force=true");
    assert_eq!(changes[0].body, json!({ "why": "new disk" }));
    assert_eq!(changes[0].token, "inside-operator");
    let flash = read_text(seen.cookie("us_flash"));
    assert!(flash.contains("Node hamlet is drained."), "{flash}");
    // The next page shows it, once.
    let cookie = seen.cookie("us_flash").split(';').next().unwrap_or_default().to_owned();
    let next = browser.with_cookie(&cookie).get("/console/nodes").await;
    assert!(next.body.contains("Node hamlet is drained."));
    assert!(next.cookie("us_flash").contains("Max-Age=0"));
}

#[actix_web::test]
async fn a_refusal_is_told_at_the_form_with_what_was_written() {
    let browser = Browser::inside(Mood::Busy, Role::Operator);
    let form = [("name", "refused"), ("why", "\"new\" disk")];
    let seen = browser.post("/console/do/nodes.drain", &form).await;
    assert_eq!(seen.status, 409);
    assert!(seen.body.contains("No other living node could lead"));
    assert!(seen.body.contains("value=\"&quot;new&quot; disk\""), "{}", seen.body);
    assert!(!seen.body.contains("<script>window"));
    let missing = browser.post("/console/do/nodes.drain", &[("name", "a")]).await;
    assert!(missing.status == 422 && missing.body.contains("“Why” is missing."));
    assert_eq!(browser.stub.changes().len(), 1, "what is incomplete is not asked for");
}

#[actix_web::test]
async fn a_refusal_of_what_needs_no_question_is_told_on_the_next_page() {
    let browser = Browser::inside(Mood::Busy, Role::Operator);
    let form = [("name", "refused"), ("back", "/console/jobs?after=a")];
    let seen = browser.post("/console/do/jobs.resume", &form).await;
    assert_eq!((seen.status, seen.location.as_str()), (303, "/console/jobs?after=a"));
    let flash = read_text(seen.cookie("us_flash"));
    assert!(flash.contains("\"good\":false") && flash.contains("No other living node could lead"));
    let cookie = seen.cookie("us_flash").split(';').next().unwrap_or_default().to_owned();
    let next = browser.with_cookie(&cookie).get("/console/jobs").await;
    assert!(next.body.contains("role=\"alert\"") && !next.body.contains("<script>window"));
}

#[actix_web::test]
async fn the_api_decides_whatever_a_form_says() {
    let browser = Browser::inside(Mood::Busy, Role::Viewer);
    let seen = browser.post("/console/do/nodes.drain", &[("name", "hamlet"), ("why", "x")]).await;
    assert!(
        seen.status == 403 && seen.body.contains("The token does not allow this"),
        "{}",
        seen.body
    );
}

#[actix_web::test]
async fn a_form_that_is_sent_twice_starts_one_run() {
    let browser = Browser::inside(Mood::Busy, Role::Operator);
    let ask = async || {
        let page = browser.get("/console/do/jobs.run?name=nightly-report").await.body;
        let after = page.split_once("name=\"once\" value=\"").unwrap().1.to_owned();
        after.split_once('"').unwrap().0.to_owned()
    };
    let (first, second) = (ask().await, ask().await);
    assert!(first.starts_with("console-") && first != second);
    for _ in 0..2 {
        let form = [("name", "nightly-report"), ("once", first.as_str()), ("params", "{\"a\": 1}")];
        let seen = browser.post("/console/do/jobs.run", &form).await;
        assert_eq!(seen.location, "/console/runs/4812");
    }
    let changes = browser.stub.changes();
    assert!(changes.len() == 2 && changes.iter().all(|change| change.key == first));
    assert_eq!(changes[0].body, json!({ "params": { "a": 1 } }));
}

#[actix_web::test]
async fn a_secret_is_shown_once_and_kept_nowhere() {
    let browser = Browser::inside(Mood::Busy, Role::Admin);
    let form = [("name", "deploy"), ("role", "operator")];
    let seen = browser.post("/console/do/tokens.create", &form).await;
    assert_eq!((seen.status, seen.location.as_str()), (201, ""));
    assert!(seen.body.contains("us_4f7d1b0e6a9c4d0d8f0a2f6b7c3e5d11"));
    assert!(seen.cookies.is_empty(), "{:?}", seen.cookies);
    let bypass = browser.post("/console/do/maintenance.bypass", &[("for_s", "60")]).await;
    assert!(bypass.body.contains("Understudy-Bypass: b1.9f86d081"));
    assert_eq!(browser.stub.changes()[1].body, json!({ "for_s": 3_600 }));
}

#[actix_web::test]
async fn ending_all_sessions_takes_the_very_words() {
    let browser = Browser::inside(Mood::Busy, Role::Admin);
    let wrong =
        browser.post("/console/do/sessions.end_all", &[("why", "x"), ("confirm", "yes")]).await;
    assert!(wrong.status == 422 && browser.stub.changes().is_empty());
    let form = [("why", "leak"), ("confirm", "end all sessions")];
    assert_eq!(browser.post("/console/do/sessions.end_all", &form).await.status, 303);
    let change = browser.stub.changes().remove(0);
    assert_eq!(change.line, "POST /v1/sessions/end-all");
    assert_eq!(change.body, json!({ "why": "leak", "confirm": "end all sessions" }));
}

#[actix_web::test]
async fn a_link_cannot_write_the_words_that_confirm() {
    let browser = Browser::inside(Mood::Busy, Role::Admin);
    let empty = "name=\"confirm\" value=\"\"";
    let link = "/console/do/sessions.end_all?why=leak&confirm=end+all+sessions";
    let seen = browser.get(link).await;
    assert!(seen.body.contains(empty), "{}", seen.body);
    assert!(seen.body.contains("name=\"why\" value=\"leak\""), "other fields: {}", seen.body);
    // Whoever is refused writes them again.
    let form = [("why", ""), ("confirm", "end all sessions")];
    let again = browser.post("/console/do/sessions.end_all", &form).await;
    assert!(again.status == 422 && again.body.contains(empty), "{}", again.body);
    assert!(browser.stub.changes().is_empty());
}

#[actix_web::test]
async fn how_many_were_hit_is_told() {
    let browser = Browser::inside(Mood::Busy, Role::Support);
    let seen = browser.post("/console/do/sessions.end_user", &[("user", "a/b")]).await;
    assert_eq!(browser.stub.changes()[0].line, "DELETE /v1/users/a%2Fb/sessions");
    assert!(
        read_text(seen.cookie("us_flash")).contains("The sessions of a/b have ended. 3 sessions.")
    );
}

#[actix_web::test]
async fn a_request_that_is_cancelled_later_is_not_called_cancelled() {
    let browser = Browser::inside(Mood::Busy, Role::Admin);
    for (id, told) in [
        ("00abcd-0-1", "The request will be cancelled when its worker answers."),
        ("00abcd-0-2", "The request was cancelled."),
    ] {
        let seen = browser.post("/console/do/requests.cancel", &[("id", id)]).await;
        assert_eq!(seen.status, 303);
        let flash = read_text(seen.cookie("us_flash"));
        assert!(flash.contains(told), "{flash}");
    }
}

#[actix_web::test]
async fn a_definition_that_is_wrong_stays_in_the_form() {
    let browser = Browser::inside(Mood::Busy, Role::Operator);
    let form = [("name", "new"), ("definition", "{ \"schedule\": ")];
    let seen = browser.post("/console/do/jobs.put", &form).await;
    assert!(seen.status == 422 && seen.body.contains("{ &quot;schedule&quot;:"), "{}", seen.body);
    let form = [
        ("name", "new"),
        ("revision", "7"),
        ("definition", "{\"schedule\":{\"kind\":\"manual\"}}"),
    ];
    assert_eq!(browser.post("/console/do/jobs.put", &form).await.location, "/console/jobs/new");
    assert_eq!(browser.stub.changes()[0].line, "PUT /v1/jobs/new");
}
