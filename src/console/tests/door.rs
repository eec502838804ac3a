//! Who is let in, and how.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

#[actix_web::test]
async fn whoever_has_not_signed_in_is_led_to_the_door_and_back() {
    let browser = Browser::outside(Mood::Busy);
    let sent = browser.get("/console/jobs/a%20b?at=x").await;
    assert_eq!(
        (sent.status, sent.location.as_str()),
        (303, "/console/login?next=%2Fconsole%2Fjobs%2Fa%2520b%3Fat%3Dx")
    );
    let door = browser.get(&sent.location).await;
    assert_eq!(door.status, 200);
    assert!(door.policy.contains("default-src 'none'"));
    assert!(
        door.body.contains("name=\"next\" value=\"/console/jobs/a%20b?at=x\""),
        "{}",
        door.body
    );
    let form = [("token", "operator-token"), ("next", "/console/jobs/a%20b?at=x")];
    let entered = browser.post("/console/login", &form).await;
    assert_eq!((entered.status, entered.location.as_str()), (303, "/console/jobs/a%20b?at=x"));
    let cookie = entered.cookie("us_console");
    assert!(cookie.starts_with("us_console=sealed-operator;"), "{cookie}");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/console"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("operator-token"));
}

#[actix_web::test]
async fn nobody_is_led_to_another_site() {
    let browser = Browser::outside(Mood::Busy);
    for next in ["https://evil.test/", "//evil.test", "/console/\\evil", "/v1/nodes"] {
        let entered =
            browser.post("/console/login", &[("token", "viewer-token"), ("next", next)]).await;
        assert_eq!((entered.status, entered.location.as_str()), (303, "/console"), "{next}");
    }
}

#[actix_web::test]
async fn all_wrong_tokens_look_the_same_take_their_time_and_are_in_the_audit_log() {
    let browser = Browser::outside(Mood::Busy);
    let mut bodies = Vec::new();
    for token in ["", "wrong", "admin-toke", "ä", &"x".repeat(5_000)] {
        let began = Instant::now();
        let seen = browser.post("/console/login", &[("token", token)]).await;
        assert!(began.elapsed() >= Duration::from_millis(600), "{token}");
        assert_eq!((seen.status, seen.cookie("us_console")), (401, ""), "{token}");
        bodies.push(seen.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    // The API has refused those that could be sent at all.
    let looks = browser.stub.looks();
    assert_eq!(looks, ["/v1/whoami", "/v1/whoami"]);
}

#[actix_web::test]
async fn of_many_wrong_tokens_at_once_most_are_sent_away() {
    let browser = Browser::outside(Mood::Busy);
    let all = (0..60).map(|_| browser.post("/console/login", &[("token", "wrong")]));
    let statuses: Vec<u16> =
        futures_util::future::join_all(all).await.iter().map(|seen| seen.status).collect();
    let of = |status| statuses.iter().filter(|it| **it == status).count();
    assert_eq!(of(401) + of(429), 60, "{statuses:?}");
    assert!(of(429) > 0, "{statuses:?}");
    // And whoever is right does not wait for them.
    let entered = browser.post("/console/login", &[("token", "viewer-token")]).await;
    assert_eq!(entered.status, 303);
}

#[actix_web::test]
async fn a_link_from_elsewhere_is_asked_once_more_from_here() {
    let browser = Browser::outside(Mood::Busy);
    let elsewhere = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    let seen = browser.get_with("/console/jobs", &elsewhere).await;
    assert!(seen.status == 200 && seen.body.contains("href=\"/console/jobs\""), "{}", seen.body);
    let here = [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate")];
    assert_eq!(browser.get_with("/console/jobs", &here).await.status, 303);
}

#[actix_web::test]
async fn on_an_open_port_everybody_looks_and_nobody_changes_anything() {
    let browser = Browser::outside(Mood::Open);
    let seen = browser.get("/console").await;
    assert!(seen.status == 200 && seen.body.contains("Nobody can sign in"));
    assert!(!seen.body.contains("/console/do/") && !seen.body.contains("Sign out"));
    let entered = browser.post("/console/login", &[("token", "admin-token")]).await;
    assert_eq!((entered.status, entered.cookie("us_console")), (401, ""));
}

#[actix_web::test]
async fn leaving_forgets_who_it_was() {
    let browser = Browser::inside(Mood::Busy, Role::Admin);
    let left = browser.post("/console/logout", &[]).await;
    assert_eq!((left.status, left.location.as_str()), (303, "/console/login"));
    assert!(left.cookie("us_console").contains("Max-Age=0"));
    let copy = browser.get("/console/nodes").await;
    assert_eq!(
        (copy.status, copy.location.as_str()),
        (303, "/console/login?next=%2Fconsole%2Fnodes")
    );
}

#[actix_web::test]
async fn the_theme_is_kept_and_shown_without_a_script() {
    let browser = Browser::inside(Mood::Busy, Role::Viewer);
    let chosen =
        browser.post("/console/theme", &[("theme", "dark"), ("back", "/console/jobs")]).await;
    assert_eq!((chosen.status, chosen.location.as_str()), (303, "/console/jobs"));
    assert!(chosen.cookie("us_theme").starts_with("us_theme=dark;"));
    let dark = browser.with_cookie("us_theme=dark; us_pace=15");
    let page = dark.get("/console/jobs").await.body;
    assert!(
        page.contains("data-theme=\"dark\"") && page.contains("<option value=\"15\" selected>")
    );
    let wrong = dark.post("/console/theme", &[("theme", "\"><script>")]).await;
    assert!(wrong.cookie("us_theme").starts_with("us_theme=auto;"));
}
