//! What a user does about the own sessions, and what an application is told of them.

use std::time::Duration;

use serde::Deserialize;
use understudy_tests::{Client, Cluster, Topology, oracle, wait};

use super::visitor::{logged_in, whoami};

const OPERATOR: &str = "others-operator-token-of-the-tests";

#[derive(Debug, Deserialize)]
struct Ended {
    ended: u64,
}

/// At how many of the nodes this browser is logged in.
async fn logged_in_at(cluster: &Cluster, client: &Client) -> usize {
    let mut count = 0;
    for node in &cluster.nodes {
        count += usize::from(whoami(client, node.public_url()).await.is_some());
    }
    count
}

/// Sessions of a user, begun at the nodes in turn, and seen by all of them.
async fn sessions_of(cluster: &Cluster, user: &str, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..count {
        let client = logged_in(cluster.url(number % cluster.nodes.len()), user).await;
        assert_eq!(logged_in_at(cluster, &client).await, cluster.nodes.len());
        clients.push(client);
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_a_user_ends_all_other_sessions_on_every_node() {
    for topology in [Topology::Standalone, Topology::Cluster] {
        let cluster = Cluster::builder().redis(topology).start().await;
        ends_all_others(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_a_user_ends_all_other_sessions_in_postgresql() {
    let builder = Cluster::builder().env("UNDERSTUDY_SESSION_STORE", "database");
    ends_all_others(&builder.start().await).await;
}

async fn ends_all_others(cluster: &Cluster) {
    let clients = sessions_of(cluster, "ann", 6).await;
    let stranger = logged_in(cluster.url(0), "bob").await;
    // It asks at another node than its own.
    let answer = clients[4].post(cluster.url(0), "/end-others").await.unwrap().expect(200);
    oracle!("other sessions ended", answer.json::<Ended>().ended, 5);
    let mut alive = Vec::new();
    for client in &clients {
        alive.push(logged_in_at(cluster, client).await);
    }
    oracle!("nodes that know each", format!("{alive:?}"), "[0, 0, 0, 0, 3, 0]");
    oracle!("nodes that know another user", logged_in_at(cluster, &stranger).await, 3);
    let answer = clients[4].post(cluster.url(2), "/end-others").await.unwrap().expect(200);
    oracle!("ended when there are no others", answer.json::<Ended>().ended, 0);
    let nobody = Client::new().post(cluster.url(1), "/end-others").await.unwrap().expect(200);
    oracle!("ended when nobody is logged in", nobody.json::<Ended>().ended, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_an_operator_ends_all_but_one_and_a_stopped_owner_does_not_hold_that_up() {
    let builder = Cluster::builder().env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR);
    let cluster = builder.start().await;
    let clients = sessions_of(&cluster, "ann", 3).await;
    let all = clients[0].get(cluster.url(0), "/all").await.unwrap().expect(200);
    let id = all.json::<serde_json::Value>()["id"].as_str().expect("it has an id").to_owned();
    cluster.nodes[2].stop();
    let operator = Client::with_timeout(Duration::from_secs(20)).bearing(OPERATOR);
    let path = format!("/v1/sessions/{id}/others");
    let ended = operator.delete(cluster.nodes[0].admin_url(), &path).await.unwrap().expect(200);
    cluster.nodes[2].cont();
    wait::until("C answers again", Duration::from_secs(20), async || {
        Client::new().get(cluster.url(2), "/whoami").await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    oracle!("other sessions ended", ended.json::<Ended>().ended, 2);
    let mut alive = Vec::new();
    for client in &clients {
        alive.push(logged_in_at(&cluster, client).await);
    }
    oracle!("nodes that know each", format!("{alive:?}"), "[3, 0, 0]");
}

#[tokio::test(flavor = "multi_thread")]
async fn s6_with_notify_everybody_comes_in_and_the_oldest_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes");
    let cluster = Cluster::builder()
        .env("UNDERSTUDY_SESSION_MAX_PER_USER", "2")
        .env("UNDERSTUDY_SESSION_MAX_POLICY", "notify")
        .env("FIXTURE_NOTES", &file.display().to_string())
        .start()
        .await;
    let told = || -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.strip_prefix("beyond "));
        lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let clients = sessions_of(&cluster, "ann", 2).await;
    oracle!("events of two sessions of two", told().len(), 0);
    let more = sessions_of(&cluster, "ann", 2).await;
    wait::until("both logins beyond were told", Duration::from_secs(20), async || {
        told().len() == 2
    })
    .await;
    let mut ids = Vec::new();
    for client in &clients {
        let all = client.get(cluster.url(0), "/all").await.unwrap().expect(200);
        let all: serde_json::Value = all.json();
        ids.push(all["id"].as_str().expect("it has an id").to_owned());
    }
    let mut events = told();
    events.sort();
    for (event, (sessions, oldest)) in events.iter().zip([("3", 1), ("4", 2)]) {
        assert_eq!(event[..3], ["ann", sessions, "2"], "{event:?}");
        let named = event[3..].iter().zip(&ids).filter(|(named, id)| named.starts_with(*id));
        oracle!("of the oldest named rightly", named.count(), oldest);
        oracle!("named", event.len() - 3, oldest);
    }
    for client in clients.iter().chain(&more) {
        assert_eq!(logged_in_at(&cluster, client).await, 3, "no session ends");
    }
}

#[derive(Debug, Deserialize)]
struct Online {
    users: Vec<OnlineUser>,
    next: Option<String>,
    total: Option<u64>,
    guests: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct OnlineUser {
    user: String,
    seen_ms: u64,
}

/// All who are online for a node, page by page, and how many it counts.
async fn online(cluster: &Cluster, number: usize) -> (Vec<String>, u64, u64) {
    let operator = Client::new().bearing(OPERATOR);
    let (mut users, mut after, mut counts) = (Vec::new(), String::new(), (0, 0));
    loop {
        let path = format!("/v1/users/online?within_s=600&limit=3{after}");
        let answer = operator.get(cluster.nodes[number].admin_url(), &path).await.unwrap();
        let page: Online = answer.expect(200).json();
        if let (Some(total), Some(guests)) = (page.total, page.guests) {
            counts = (total, guests);
        }
        assert!(page.users.iter().all(|user| user.seen_ms > 0));
        users.extend(page.users.into_iter().map(|user| user.user));
        let Some(next) = page.next else { break };
        after = format!("&after={next}");
    }
    users.sort();
    (users, counts.0, counts.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_who_is_online_is_told_by_every_node_on_every_store() {
    let builder = || Cluster::builder().env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR);
    for topology in [Topology::Standalone, Topology::Cluster] {
        tells_who_is_online(&builder().redis(topology).start().await).await;
    }
    let builder = builder().env("UNDERSTUDY_SESSION_STORE", "database");
    tells_who_is_online(&builder.start().await).await;
}

async fn tells_who_is_online(cluster: &Cluster) {
    let mut clients = Vec::new();
    for number in 0..7 {
        let user = format!("user-{number}");
        clients.push(logged_in(cluster.url(number % 3), &user).await);
        // Another session of the same user does not count twice.
        logged_in(cluster.url((number + 1) % 3), &user).await;
    }
    for number in 0..4 {
        Client::new().post(cluster.url(number % 3), "/incr").await.unwrap().expect(200);
    }
    let wanted: Vec<String> = (0..7).map(|number| format!("user-{number}")).collect();
    for number in 0..3 {
        wait::until("all are listed and counted", Duration::from_secs(20), async || {
            online(cluster, number).await == (wanted.clone(), 7, 4)
        })
        .await;
    }
    clients[0].post(cluster.url(1), "/end-others").await.unwrap().expect(200);
    clients[0].post(cluster.url(2), "/logout").await.unwrap().expect(204);
    wait::until("who has left is not there", Duration::from_secs(20), async || {
        online(cluster, 1).await == (wanted[1..].to_vec(), 6, 4)
    })
    .await;
}
