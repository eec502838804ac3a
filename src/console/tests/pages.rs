//! Every page in every state of the node, for every role.

use super::*;

/// A page with all that belongs to it may have so many bytes.
const FIRST_LOAD: usize = 100_000;

#[actix_web::test]
async fn every_page_is_shown_under_a_strict_policy_and_is_small() {
    let browser = Browser::inside(Mood::Busy, Role::Admin);
    let mut files = 0;
    for asset in [assets::style(), assets::script()] {
        let file = browser.get(asset.path()).await;
        assert_eq!(file.status, 200, "{}", asset.path());
        files += file.body.len();
    }
    for page in PAGES {
        let seen = browser.get(page).await;
        assert_eq!(seen.status, 200, "{page}: {}", seen.body);
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(seen.policy.contains(part), "{page}: {}", seen.policy);
        }
        let inline = ["<script>", "<style", " style=", " onclick=", " onload=", "javascript:"];
        for forbidden in inline {
            assert!(!seen.body.contains(forbidden), "{page} has {forbidden}");
        }
        assert_eq!(seen.body.matches("<h1").count(), 1, "{page}");
        let in_nav = !page.starts_with("/console/do/");
        assert_eq!(seen.body.contains("aria-current=\"page\""), in_nav, "{page}");
        let size = seen.body.len() + files;
        assert!(size <= FIRST_LOAD, "{page}: {size} bytes");
    }
}

#[actix_web::test]
async fn a_node_that_lacks_something_or_is_in_trouble_still_has_all_pages() {
    for mood in [Mood::Empty, Mood::Old, Mood::Down, Mood::Open] {
        let browser = match mood {
            Mood::Open => Browser::outside(mood),
            Mood::Busy | Mood::Empty | Mood::Old | Mood::Down | Mood::Hostile => {
                Browser::inside(mood, Role::Admin)
            }
        };
        for page in PAGES {
            let seen = browser.get(page).await;
            let gone = mood == Mood::Empty && seen.status == 404;
            assert!(seen.status == 200 || gone, "{mood:?} {page}: {}", seen.status);
            assert!(seen.body.contains("</main>"), "{mood:?} {page}");
        }
    }
}

#[actix_web::test]
async fn what_is_not_there_or_away_is_said() {
    let old = Browser::inside(Mood::Old, Role::Admin);
    for page in ["/console/settings", "/console/maintenance", "/console/sessions", "/console/audit"]
    {
        assert!(old.get(page).await.body.contains("Not available on this node"), "{page}");
    }
    // What an old node does know is shown all the same, on both pages that tell it.
    let overview = old.get("/console").await.body;
    assert!(overview.contains("<a href=\"/console/leader\">term 41</a>"), "{overview}");
    let leader = old.get("/console/leader").await.body;
    assert!(leader.contains("<dt>Term</dt><dd>41</dd>"), "{leader}");
    let down = Browser::inside(Mood::Down, Role::Admin);
    let seen = down.get("/console").await;
    assert!(seen.body.contains("This node is not ready: redis"), "{}", seen.body);
    assert!(seen.body.contains("no answer from 10.0.0.5:6379 for 14 s"));
    assert!(seen.body.contains("The database is not available"));
    assert!(seen.body.contains("Not all can be seen") && seen.body.contains("hamlet leads"));
    let gone = down.get("/console/runs/4812").await;
    assert!(gone.status == 200 && gone.body.contains("looks again by itself"));
}

#[actix_web::test]
async fn names_and_texts_of_strangers_are_never_markup() {
    let browser = Browser::inside(Mood::Hostile, Role::Admin);
    for page in PAGES {
        let seen = browser.get(page).await;
        assert!(!seen.body.contains("<script>window"), "{page}");
        assert!(!seen.body.contains("<img"), "{page}");
        assert!(!seen.body.contains("\" onerror="), "{page}");
    }
    assert!(browser.get("/console/jobs").await.body.contains("&lt;script&gt;window.hit=1"));
    let encoded = crate::console::api::encoded(HOSTILE);
    let asked = [
        format!("/console/runs?job={encoded}&from={encoded}&state={encoded}"),
        format!("/console/sessions?user={encoded}"),
        format!("/console/jobs?after={encoded}"),
        format!("/console/schedule?expression={encoded}&zone={encoded}"),
        format!("/console/do/locks.clear?name={encoded}&back={encoded}"),
        format!("/console/{encoded}"),
        format!("/console/nodes/{encoded}"),
        format!("/console/jobs/nightly-report?at={encoded}"),
    ];
    for page in asked {
        let seen = browser.get(&page).await;
        assert!(!seen.body.contains("<script>window") && !seen.body.contains("<img"), "{page}");
    }
}

#[actix_web::test]
async fn what_can_be_done_follows_the_role() {
    for (role, drain, end, tokens) in [
        (Role::Viewer, false, false, false),
        (Role::Support, false, true, false),
        (Role::Operator, true, true, false),
        (Role::Admin, true, true, true),
    ] {
        let browser = Browser::inside(Mood::Busy, role);
        let nodes = browser.get("/console/nodes").await.body;
        assert_eq!(nodes.contains("/console/do/nodes.drain"), drain, "{role}");
        assert_eq!(nodes.contains("href=\"/console/tokens\""), tokens, "{role}");
        assert_eq!(nodes.contains("href=\"/console/sessions\""), end, "{role}");
        let sessions = browser.get("/console/sessions").await.body;
        assert_eq!(sessions.contains("/console/do/sessions.end?"), end, "{role}");
        assert_eq!(sessions.contains("/console/do/sessions.end_all"), tokens, "{role}");
        let actors = browser.get("/console/actors").await.body;
        assert_eq!(actors.contains("/console/do/actors.stop?"), tokens, "{role}");
        assert_eq!(actors.contains("/console/actors?type=session"), end, "{role}");
        let settings = browser.get("/console/settings").await.body;
        assert_eq!(settings.contains("settings.set?name=retry_after_s"), drain, "{role}");
        assert_eq!(settings.contains("settings.set?name=log_filter"), tokens, "{role}");
    }
    let question =
        Browser::inside(Mood::Busy, Role::Viewer).get("/console/do/nodes.drain?name=a").await;
    assert!(
        question.body.contains("It needs the role operator")
            && !question.body.contains("<form method=\"post\" action=\"/console/do")
    );
}

#[actix_web::test]
async fn the_script_is_given_the_changing_part_only() {
    let browser = Browser::inside(Mood::Busy, Role::Viewer)
        .with_cookie("us_flash=%7B%22good%22%3Atrue%2C%22title%22%3A%22x%22%7D");
    let part = browser.get_with("/console/jobs", &[("x-fragment", "1")]).await;
    assert!(part.body.starts_with("<main id=\"main\"") && part.body.ends_with("</main>"));
    assert!(
        part.body.contains("data-topics=\"jobs leader\"")
            && part.body.contains("data-problems=\"3\"")
    );
    assert_eq!(part.cookie("us_flash"), "", "a message is for a whole page");
    let outside = Browser::outside(Mood::Busy);
    assert_eq!(outside.get_with("/console/jobs", &[("x-fragment", "1")]).await.status, 401);
}

#[actix_web::test]
async fn files_are_kept_for_ever_under_their_hash_and_under_no_other() {
    let browser = Browser::outside(Mood::Busy);
    let page = browser.get("/console/login").await.body;
    for asset in [assets::style(), assets::script()] {
        assert!(page.contains(asset.path()), "{}", asset.path());
    }
    let other = assets::script().path().replace("/assets/", "/assets/0");
    assert_eq!(browser.get(&other).await.status, 404);
}

#[actix_web::test]
async fn events_are_handed_through_and_their_lack_is_told() {
    let events = Browser::inside(Mood::Busy, Role::Viewer).get("/console/events").await;
    assert_eq!(
        (events.status, events.body.as_str()),
        (200, "event: nodes\ndata: {\"at_ms\":1}\n\n")
    );
    let admin = Browser::inside(Mood::Busy, Role::Admin);
    let lines = admin.get("/console/log/stream?level=warn&last=5").await;
    assert_eq!((lines.status, lines.body.matches("event: line").count()), (200, 3));
    let looked = admin.stub.looks();
    assert!(looked.contains(&"/v1/logs/tail?level=warn".to_owned()), "{looked:?}");
    assert_eq!(Browser::inside(Mood::Old, Role::Viewer).get("/console/events").await.status, 204);
    assert_eq!(Browser::inside(Mood::Down, Role::Viewer).get("/console/events").await.status, 200);
    assert_eq!(Browser::outside(Mood::Busy).get("/console/events").await.status, 303);
}

#[actix_web::test]
async fn a_page_that_there_is_not_says_so() {
    let browser = Browser::inside(Mood::Busy, Role::Admin);
    for page in
        ["/console/nosuch", "/console/do/no.such", "/console/nodes/nobody", "/console/jobs/no-job"]
    {
        let seen = browser.get(page).await;
        assert_eq!(seen.status, 404, "{page}");
        assert!(seen.body.contains("</nav>"), "{page}");
    }
    let start = browser.get("/").await;
    assert_eq!((start.status, start.location.as_str()), (308, "/console"));
}

/// Whatever a page shows is asked for by its operation: the list of actions is not just a list.
#[actix_web::test]
async fn every_shown_operation_is_asked_for_by_some_page() {
    let browser = Browser::inside(Mood::Busy, Role::Admin);
    for page in PAGES {
        browser.get(page).await;
    }
    browser.get("/console/events").await;
    let looks = browser.stub.looks();
    let paths = [
        ("about.show", "/v1/about"),
        ("whoami.show", "/v1/whoami"),
        ("events.watch", "/v1/events"),
        ("nodes.list", "/v1/nodes"),
        ("nodes.show", "/v1/nodes/hamlet"),
        ("nodes.safe_to_stop", "/v1/nodes/hamlet/safe-to-stop"),
        ("cluster.restart_show", "/v1/cluster/rolling-restart"),
        ("config.show", "/v1/config?node=hamlet"),
        ("config.drift", "/v1/config/drift"),
        ("leader.show", "/v1/leader"),
        ("leader.history", "/v1/leader/history?limit=50"),
        ("jobs.list", "/v1/jobs?limit=40"),
        ("jobs.due", "/v1/jobs-due?within_ms=300000&limit=10"),
        ("jobs.show", "/v1/jobs/nightly-report"),
        ("jobs.preview", "/v1/jobs/nightly-report/preview?count=20"),
        ("jobs.explain", "/v1/jobs/nightly-report/explain?at=1795573800000"),
        ("scheduler.show", "/v1/scheduler"),
        ("runs.list", "/v1/runs?job=nightly-report&state=failed%2Clost&limit=50"),
        ("tasks.list", "/v1/tasks?limit=50"),
        ("runs.show", "/v1/runs/4812"),
        ("runs.progress", "/v1/runs/4812/progress"),
        ("runs.log", "/v1/runs/4812/log?limit=1000"),
        ("runs.errors", "/v1/runs/4812/errors"),
        ("sessions.list", "/v1/sessions?user=yorick&limit=50"),
        ("sessions.count", "/v1/sessions/count"),
        ("users.online", "/v1/users/online?limit=20"),
        ("sessions.show", "/v1/sessions/9f86d0818884c7d659a2feaa0c55ad00"),
        ("settings.list", "/v1/settings"),
        ("maintenance.show", "/v1/maintenance"),
        ("problems.list", "/v1/problems"),
        ("diag.run", "/v1/diag?node=hamlet"),
        ("diag.tasks", "/v1/diag/tasks?node=hamlet"),
        ("logs.tail", "/v1/logs/tail?last=100&follow=false"),
        ("migrations.list", "/v1/migrations"),
        ("actors.list", "/v1/actors"),
        ("actors.slow", "/v1/actors/slow"),
        ("actors.show", "/v1/actors/session/9f86d0818884c7d659a2feaa0c55ad00"),
        ("requests.list", "/v1/requests"),
        ("files.spaces", "/v1/files?limit=50"),
        ("files.list", "/v1/files/avatars?limit=50"),
        ("files.orphans", "/v1/files-orphans?limit=50"),
        ("locks.list", "/v1/locks"),
        ("caches.list", "/v1/caches"),
        ("audit.list", "/v1/audit?limit=50"),
        ("tokens.list", "/v1/tokens"),
    ];
    for (operation, target) in paths {
        assert!(looks.iter().any(|look| look == target), "{operation}: {target} not in {looks:#?}");
    }
    let shown = actions()
        .iter()
        .filter(|action| super::super::deeds::Deed::find(action.operation).is_none());
    for action in shown.filter(|action| action.operation != "schedules.preview") {
        assert!(paths.iter().any(|(operation, _)| *operation == action.operation), "{action:?}");
    }
    let changes = browser.stub.changes();
    assert!(changes.iter().all(|change| change.line == "POST /v1/jobs/preview"), "{changes:?}");
    assert!(!changes.is_empty());
}
