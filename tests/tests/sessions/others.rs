//! What a user does about the own sessions, and what an application is told of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use understudy_tests::{Client, Cluster, Topology, oracle, wait};

use super::privacy::{FIRST, KEYS};
use super::realtime::Page;
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
    let id = all.json::<Value>()["id"].as_str().expect("it has an id").to_owned();
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
async fn s6_with_notify_the_oldest_are_named_and_s15_every_end_is_told_though_the_leader_dies() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes");
    let mut cluster = Cluster::builder()
        .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
        .env(KEYS, FIRST)
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
        ids.push(id_of(client, cluster.url(0)).await);
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
    sealed_events_arrive(&cluster).await;
    every_end_is_told(&mut cluster, &file).await;
}

/// With keys, events for pages are sealed in Redis, and opened for those who listen.
async fn sealed_events_arrive(cluster: &Cluster) {
    const CANARY: u64 = 47_110_815_471_108;
    let client = logged_in(cluster.url(0), "sealed").await;
    let page = Page::open(&client, cluster.url(1), None).await;
    for to in ["", "&user=sealed"] {
        let path = format!("/tell?n={CANARY}{to}");
        client.post(cluster.url(2), &path).await.unwrap().expect(204);
    }
    page.until_told(2).await;
    assert_eq!(page.numbers(), [CANARY, CANARY]);
    let keys = cluster.redis.all_keys();
    let streams = keys.iter().filter(|key| key.contains(":t:") || key.ends_with(":t"));
    let kept = streams.map(|key| cluster.redis.cli(&["XRANGE", key.as_str(), "-", "+"]));
    let kept = kept.collect::<Vec<String>>().join("\n");
    assert!(kept.contains("1.first."), "{kept}");
    oracle!("x6: values of events that Redis tells", kept.matches(&CANARY.to_string()).count(), 0);
}

/// The id by which log lines name the session of this browser, and the ids of events begin.
async fn id_of(client: &Client, base: &str) -> String {
    let all: Value = client.get(base, "/all").await.unwrap().expect(200).json();
    all["id"].as_str().expect("it has an id").to_owned()
}

/// Sessions end in all ways, and the leader dies while it tells that. What it had in its hands is told by the next one.
async fn every_end_is_told(cluster: &mut Cluster, file: &Path) {
    /// How many callbacks run at once: so many may have been called when their node died, and are called again.
    const AT_ONCE: usize = 16;
    let operator = Client::new().bearing(OPERATOR);
    let wanted = ended_in_all_ways(cluster, &operator).await;
    let told = || -> Vec<String> {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix("ended ")).map(str::to_owned).collect()
    };
    let leader = leader(cluster, &operator).await;
    wait::until("the leader begins to tell", Duration::from_secs(60), async || !told().is_empty())
        .await;
    cluster.kill9(leader);
    let named = |id: &String| told().iter().any(|line| line.starts_with(id.as_str()));
    // What was handed to the dead one is handed out again after a minute.
    let limit = Duration::from_secs(180);
    wait::poll("all ends were told", limit, Duration::from_millis(200), async || {
        wanted.keys().all(named).then_some(())
    })
    .await;
    let told = told();
    let right = told.iter().filter(|line| {
        let (id, rest) = line.split_once(' ').unwrap_or_default();
        let reason = wanted.iter().find(|(wanted, _)| id.starts_with(wanted.as_str()));
        reason.is_some_and(|(_, reason)| rest == format!("{reason} Some(1)"))
    });
    oracle!("s15: events with another session, reason or state", told.len() - right.count(), 0);
    oracle!("s15: events beyond one for each end", told.len() - wanted.len(), <= AT_ONCE);
    cluster.restart(leader).await;
}

/// Ends two sessions of each of twelve users; gives why each is over.
async fn ended_in_all_ways(cluster: &Cluster, operator: &Client) -> BTreeMap<String, &'static str> {
    let mut wanted: BTreeMap<String, &'static str> = BTreeMap::new();
    for number in 0..12 {
        let user = format!("end-{number}");
        let sessions = sessions_of(cluster, &user, 2).await;
        let base = cluster.url(number % 3);
        let mut ids = Vec::new();
        for session in &sessions {
            session.post(base, "/incr").await.unwrap().expect(200);
            ids.push(id_of(session, base).await);
        }
        sessions[1].post(base, "/end-others").await.unwrap().expect(200);
        wanted.insert(ids.remove(0), "others");
        if number % 2 == 0 {
            sessions[1].post(base, "/logout").await.unwrap().expect(204);
            wanted.insert(ids.remove(0), "logout");
        } else {
            let path = format!("/v1/users/{user}/sessions");
            operator.delete(cluster.nodes[0].admin_url(), &path).await.unwrap().expect(200);
            wanted.insert(ids.remove(0), "ended");
        }
    }
    wanted
}

async fn leader(cluster: &Cluster, operator: &Client) -> usize {
    let (leader, _) = wait::until_some("one node leads", Duration::from_secs(30), async || {
        for (number, node) in cluster.nodes.iter().enumerate() {
            let told = operator.get(node.admin_url(), "/v1/leader").await.unwrap().expect(200);
            if told.json::<Value>()["leader"] == true {
                return Some(number);
            }
        }
        None
    })
    .await;
    leader
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
