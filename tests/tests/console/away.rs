//! The console of a cluster: what a look costs Redis, and what is left of it while Redis is away.

use std::time::Duration;

use reqwest::Method;
use tokio::time::Instant;
use understudy_tests::{Client, Cluster, oracle, wait};

use super::devtools::LIMIT;

const ADMIN: &str = "an-admin-of-the-console-tests";
/// The pages of the navigation, and one of a node.
const PAGES: [&str; 16] = [
    "/console",
    "/console/problems",
    "/console/nodes",
    "/console/nodes/node-b",
    "/console/leader",
    "/console/config",
    "/console/jobs",
    "/console/runs",
    "/console/locks",
    "/console/sessions",
    "/console/requests",
    "/console/actors",
    "/console/maintenance",
    "/console/settings",
    "/console/audit",
    "/console/tokens",
];
/// How long a page may take while Redis is away: parts that wait for it give up before that.
const PAGE_MS: u128 = 5_000;

/// A client that has signed in at a node of a cluster.
async fn visitor(cluster: &Cluster) -> Client {
    let client = Client::with_timeout(LIMIT);
    send(&client, cluster.nodes[0].admin_url(), "/console/login", &format!("token={ADMIN}")).await;
    client
}

/// Sends a form as a browser does.
async fn send(client: &Client, admin: &str, path: &str, form: &str) {
    let request = client.build(Method::POST, admin, path);
    let request = request
        .header("origin", admin)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.to_owned());
    client.send(request).await.unwrap().expect(303);
}

async fn page(client: &Client, cluster: &Cluster, path: &str) -> String {
    client.get(cluster.nodes[0].admin_url(), path).await.unwrap().expect(200).text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_every_page_scans_no_key() {
    let mut cluster = Cluster::builder().env("UNDERSTUDY_ADMIN_TOKEN", ADMIN).start().await;
    for _ in 0..100 {
        Client::new().post(cluster.url(0), "/incr").await.unwrap().expect(200);
    }
    let client = visitor(&cluster).await;
    cluster.redis.reset_commandstats();
    for path in PAGES.iter().cycle().take(PAGES.len() * 3) {
        page(&client, &cluster, path).await;
    }
    let stats = cluster.redis.commandstats();
    let calls = |name: &str| stats.get(name).copied().unwrap_or(0);
    for command in ["keys", "scan", "hscan", "sscan", "zscan"] {
        oracle!(&format!("calls of {command} in 48 looks"), calls(command), 0);
    }
    // 100 sessions were not read one by one either, by 48 looks and what three nodes do by themselves.
    oracle!("scripts in 48 looks", calls("evalsha") + calls("eval"), <= 1_500);
    a_copy_of_a_cookie_ends_when_somebody_signs_out(&mut cluster).await;
}

/// Somebody signs out on one node: whoever copied the cookie is out on all of them, also after a restart, and nobody else is.
async fn a_copy_of_a_cookie_ends_when_somebody_signs_out(cluster: &mut Cluster) {
    let (leaves, stays) = (visitor(cluster).await, visitor(cluster).await);
    let copy = leaves.fork();
    assert_eq!(statuses(&copy, cluster).await, [200, 200, 200], "a copy is as good");
    let watching = copy.build(Method::GET, cluster.nodes[0].admin_url(), "/console/events");
    let mut watched = watching.timeout(Duration::from_secs(600)).send().await.unwrap();
    assert_eq!(watched.status(), 200);
    send(&leaves, cluster.nodes[1].admin_url(), "/console/logout", "").await;
    let ends = async { while let Ok(Some(_)) = watched.chunk().await {} };
    let ended = tokio::time::timeout(LIMIT, ends).await;
    assert!(ended.is_ok(), "a stream that was begun with the copy goes on");
    let out = statuses(&copy, cluster).await;
    oracle!("pages with the copy after signing out", format!("{out:?}"), "[303, 303, 303]");
    cluster.restart(2).await;
    let out = statuses(&copy, cluster).await;
    oracle!("pages with the copy after a restart", format!("{out:?}"), "[303, 303, 303]");
    let other = statuses(&stays, cluster).await;
    oracle!("pages of who signed in with the same token", format!("{other:?}"), "[200, 200, 200]");
}

/// What each node answers to somebody who looks at the nodes.
async fn statuses(client: &Client, cluster: &Cluster) -> Vec<u16> {
    let mut statuses = Vec::new();
    for node in &cluster.nodes {
        let answer = client.get(node.admin_url(), "/console/nodes").await.unwrap();
        statuses.push(answer.status);
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_is_of_use_and_says_so_while_redis_is_away() {
    let mut cluster = Cluster::builder()
        .env("UNDERSTUDY_ADMIN_TOKEN", ADMIN)
        .allow_error("redis")
        .allow_error("Redis")
        .start()
        .await;
    let client = visitor(&cluster).await;
    cluster.redis.kill();
    wait::until("the overview says that Redis is away", LIMIT, async || {
        let overview = page(&client, &cluster, "/console").await;
        overview.contains("Redis")
    })
    .await;
    let problems = page(&client, &cluster, "/console/problems").await;
    assert!(problems.contains("Redis"), "{problems}");
    let mut slowest = Duration::ZERO;
    for path in PAGES {
        let began = Instant::now();
        let text = page(&client, &cluster, path).await;
        slowest = slowest.max(began.elapsed());
        assert!(text.contains("</html>"), "{path}");
    }
    oracle!("slowest page without Redis, ms", slowest.as_millis(), within PAGE_MS);
    // The database is there: what is in it can be changed.
    let admin = Client::new().bearing(ADMIN);
    let body = serde_json::json!({ "mode": "read_only", "why": "Redis is away" });
    let url = cluster.nodes[0].admin_url();
    let request = admin.build(Method::PUT, url, "/v1/maintenance").json(&body);
    admin.send(request).await.unwrap().expect(200);
    assert!(page(&client, &cluster, "/console/maintenance").await.contains("Redis is away"));
}
