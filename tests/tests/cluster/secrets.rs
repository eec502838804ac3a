//! What must not be told is not told: neither in logs, nor by the administration, nor in errors.

use serde_json::json;
use understudy_tests::{
    Client, Cluster, Data, Node, NodeSpec, Program, Redis, Topology, oracle, wait,
};

use super::ground::{LIMIT, cluster_of};

/// Each is unique, so that whoever repeats it is found.
const CANARIES: [&str; 9] = [
    "canary-session-secret-0123456789-abcdef",
    "canary-redis-password",
    "canary-database-password",
    "canary-admin-token-0123456789",
    "canary-viewer-token-0123456789",
    "canary-value",
    "canary-query",
    "canary-header",
    "canary-wrong-password",
];

#[tokio::test(flavor = "multi_thread")]
async fn x4_nothing_secret_is_told_in_good_times_or_bad() {
    let redis = Redis::builder(Topology::Standalone).user(
        "app",
        CANARIES[1],
        "~* &* +@all -@dangerous +info",
    );
    let mut cluster = cluster_of(2)
        .program(Program::Understudy)
        .redis_with(redis)
        .env("UNDERSTUDY_SESSION_SECRET", CANARIES[0])
        .env("UNDERSTUDY_ADMIN_TOKEN", CANARIES[3])
        .env("UNDERSTUDY_ADMIN_VIEWER_TOKEN", CANARIES[4])
        .env("UNDERSTUDY_LOG_FILTER", "debug")
        .env("UNDERSTUDY_SESSION_WAIT_MS", "1500")
        .start()
        .await;
    let mut told = Vec::new();
    let database =
        cluster.postgres.url().replace("postgres@", &format!("postgres:{}@", CANARIES[2]));
    for index in 0..2 {
        assert!(database.contains(CANARIES[2]), "{database}");
        cluster.nodes[index].set_env("UNDERSTUDY_DATABASE_URL", &database);
        cluster.restart(index).await;
    }
    let cookies = busy(&cluster, &mut told).await;
    admin(&cluster, &mut told).await;
    // Bad times: the servers go, come back, and somebody has the wrong password.
    cluster.redis.kill();
    cluster.postgres.stop();
    for node in &cluster.nodes {
        wait::until("it is not ready", LIMIT, async || {
            Client::new().get(node.public_url(), "/readyz").await.unwrap().status == 503
        })
        .await;
    }
    busy(&cluster, &mut told).await;
    admin(&cluster, &mut told).await;
    cluster.postgres.restart().await;
    cluster.redis.restart(Data::Lost).await;
    cluster.ready().await;
    told.extend(wrong_passwords(&cluster).await);
    told.extend(wrong_options().await);
    told.extend(cluster.nodes.iter().map(Node::log));
    let everything = told.join("\n");
    for canary in CANARIES {
        oracle!(&format!("places that tell {canary}"), everything.matches(canary).count(), 0);
    }
    let leaked = cookies.iter().filter(|cookie| everything.contains(cookie.as_str())).count();
    oracle!(&format!("cookies of {} that are told", cookies.len()), leaked, 0);
}

/// Requests of all kinds, good and bad; keeps the answers that are errors, and the secrets of the sessions.
async fn busy(cluster: &Cluster, told: &mut Vec<String>) -> Vec<String> {
    let mut secrets = Vec::new();
    for round in 0..4 {
        let (here, there) = (cluster.url(round % 2), cluster.url((round + 1) % 2));
        let client = Client::new();
        let mut answers = Vec::new();
        for (base, key) in [(here, "a"), (there, "b")] {
            let path = format!("/api/session/values/{key}?q={}", CANARIES[6]);
            answers.push(client.put_json(base, &path, &CANARIES[5]).await.unwrap());
        }
        secrets.extend(client.cookies().into_values());
        let wrong = json!({ "by": CANARIES[5], CANARIES[5]: 1 });
        answers.push(
            client.post_json(there, "/api/session/values/a/increment", &wrong).await.unwrap(),
        );
        answers.push(client.post(here, "/api/session/values/a/increment").await.unwrap());
        let request = client.build(reqwest::Method::PATCH, here, "/api/session/values/a");
        let request = request.header("x-secret", CANARIES[7]).header("authorization", CANARIES[7]);
        answers.push(client.send(request.body(CANARIES[5])).await.unwrap());
        let cross = client.build(reqwest::Method::PUT, there, "/api/session/values/a");
        let cross = cross.header("origin", format!("https://{}", CANARIES[7]));
        answers.push(client.send(cross.body(CANARIES[5])).await.unwrap());
        let thief = Client::new();
        thief.set_cookie("usid", &format!("{}.{}", CANARIES[7], CANARIES[7]));
        answers.push(thief.get(here, "/api/session").await.unwrap());
        answers.push(client.delete(there, "/api/session").await.unwrap());
        told.extend(answers.into_iter().filter(|it| it.status >= 400).map(|it| format!("{it:?}")));
    }
    // Half of a cookie names the session; the other half opens it. Neither may be told.
    secrets.iter().flat_map(|cookie| cookie.split('.')).map(str::to_owned).collect()
}

async fn admin(cluster: &Cluster, told: &mut Vec<String>) {
    let client = Client::new();
    for node in &cluster.nodes {
        for path in [
            "/v1/config",
            "/v1/about",
            "/v1/nodes",
            "/v1/problems",
            "/v1/sessions",
            "/metrics",
            "/health/ready",
        ] {
            for token in [CANARIES[3], CANARIES[4], CANARIES[8]] {
                let get =
                    client.build(reqwest::Method::GET, node.admin_url(), path).bearer_auth(token);
                told.push(format!("{:?}", client.send(get).await.unwrap()));
            }
        }
    }
}

/// Nodes that cannot get in tell why, and no more; they wait for ever, so their word is awaited, not their end.
async fn wrong_passwords(cluster: &Cluster) -> Vec<String> {
    let redis = cluster.redis.url().replace(CANARIES[1], CANARIES[8]);
    let node = super::ground::bare("wrong")
        .env("UNDERSTUDY_REDIS_URL", &redis)
        .env("UNDERSTUDY_DATABASE_URL", &cluster.postgres.url())
        .env("UNDERSTUDY_LOG_FILTER", "debug")
        .allow_error("WRONGPASS")
        .start();
    wait::until("it tells that it cannot get in", LIMIT, async || node.log().contains("WRONGPASS"))
        .await;
    let about = Client::new().get(node.admin_url(), "/health/ready").await.unwrap();
    vec![node.log(), format!("{about:?}")]
}

/// Nodes that do not start because of the very secrets.
async fn wrong_options() -> Vec<String> {
    let mut said = Vec::new();
    for (name, value) in [
        ("UNDERSTUDY_SESSION_SECRET", "canary-value"),
        ("UNDERSTUDY_SESSION_ENCRYPTION_KEYS", "name:canary-value"),
        ("UNDERSTUDY_FILES_ENCRYPTION_KEYS", "name:canary-value"),
        ("UNDERSTUDY_REDIS_URL", "redis://app:canary-redis-password@h:canary-value"),
        ("UNDERSTUDY_REDIS_OPTIONS", "{\"password\":\"canary-redis-password\""),
        ("UNDERSTUDY_DATABASE_URL", "postgres://u:canary-database-password@h:canary-value/d"),
        ("UNDERSTUDY_ADMIN_TOKEN", "canary value"),
        ("UNDERSTUDY_CANARY", "canary-value"),
    ] {
        let (status, text) =
            super::ground::refused(NodeSpec::new("refused").env(name, value)).await;
        assert_eq!(status, 78, "{name}: {text}");
        said.push(text);
    }
    said
}
