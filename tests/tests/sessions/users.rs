//! Who is logged in where: how many sessions a user may have, and what operators see of them and end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use serde::Deserialize;
use tokio::time::Instant;
use understudy_tests::{
    Client, Cluster, ClusterBuilder, Node, NodeSpec, Program, Topology, crowd, oracle, rounds, wait,
};

use super::visitor::{cookie, dice, logged_in, whoami, with_cookie};

const OPERATOR: &str = "users-operator-token-of-the-tests";
const ADMIN: &str = "users-admin-token-of-the-tests-0000";
const LIMIT: Duration = Duration::from_secs(20);
/// A node's lease, as the cluster's options have it.
const NODE_TTL: Duration = Duration::from_millis(3_000);

#[derive(Debug, Deserialize)]
struct Page {
    sessions: Vec<Shown>,
    next: Option<String>,
    total: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Shown {
    id: String,
    user: Option<String>,
    owner: Option<String>,
    version: u64,
    created_ms: u64,
    changed_ms: u64,
    expires_ms: u64,
    bytes: u64,
    lease: Option<Lease>,
}

#[derive(Debug, Clone, Deserialize)]
struct Lease {
    node: String,
    live: bool,
}

#[derive(Debug, Deserialize)]
struct Ended {
    ended: u64,
}

#[derive(Debug, Deserialize)]
struct Count {
    sessions: u64,
    named: u64,
    anonymous: u64,
    residents: BTreeMap<String, Option<u64>>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    code: String,
}

fn with_operators(builder: ClusterBuilder) -> ClusterBuilder {
    builder.env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR).env("UNDERSTUDY_ADMIN_TOKEN", ADMIN)
}

fn operator() -> Client {
    Client::new().bearing(OPERATOR)
}

/// All sessions that a query gives, page by page.
async fn listed(node: &Node, query: &str) -> Vec<Shown> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/sessions?limit=7{query}{after}");
        let page: Page = operator().get(node.admin_url(), &path).await.unwrap().expect(200).json();
        all.extend(page.sessions);
        let Some(next) = page.next else { break };
        after = format!("&after={next}");
    }
    all
}

async fn of_user(node: &Node, user: &str) -> Vec<Shown> {
    listed(node, &format!("&user={user}")).await
}

/// How many sessions the list of a user has, as its first page says.
async fn count_of_user(node: &Node, user: &str) -> u64 {
    let path = format!("/v1/sessions?limit=1&user={user}");
    let page: Page = operator().get(node.admin_url(), &path).await.unwrap().expect(200).json();
    page.total.expect("a list of one user says how long it is")
}

/// At which of the nodes this browser is logged in.
async fn logged_in_at(cluster: &Cluster, client: &Client) -> usize {
    let asked = cluster.nodes.iter().map(|node| whoami(client, node.public_url()));
    futures_util::future::join_all(asked).await.into_iter().flatten().count()
}

/// Logs in as a user eleven times at once, at three nodes; gives the clients and the statuses.
async fn eleven(cluster: &Cluster, user: &str) -> Vec<(Client, u16)> {
    crowd(11, 11, async |number| {
        let client = Client::new();
        let path = format!("/login?user={user}");
        let answer = client.post(cluster.url(number % cluster.nodes.len()), &path).await.unwrap();
        (client, answer.status)
    })
    .await
}

async fn alive(cluster: &Cluster, clients: &[(Client, u16)]) -> BTreeSet<usize> {
    let mut alive = BTreeSet::new();
    for (number, (client, _)) in clients.iter().enumerate() {
        match logged_in_at(cluster, client).await {
            0 => {}
            at if at == cluster.nodes.len() => drop(alive.insert(number)),
            at => panic!("client {number} is logged in at {at} nodes"),
        }
    }
    alive
}

async fn of_eleven_parallel_logins_ten_live(cluster: &Cluster, rounds: usize) {
    let (mut alive_in_all, mut wrong_answers, mut wrong_lists) = (BTreeSet::new(), 0, 0);
    for round in 0..rounds {
        let user = format!("eleven-{round}");
        let clients = eleven(cluster, &user).await;
        alive_in_all.insert(alive(cluster, &clients).await.len());
        wrong_answers += clients.iter().filter(|(_, it)| !matches!(it, 204 | 401)).count();
        let node = &cluster.nodes[round % cluster.nodes.len()];
        wrong_lists += usize::from(of_user(node, &user).await.len() != 10);
    }
    let counts = format!("{alive_in_all:?}");
    oracle!("sessions alive after 11 parallel logins over 3 nodes, in all rounds", counts, "{10}");
    oracle!("logins that were answered neither 204 nor, having been ended, 401", wrong_answers, 0);
    oracle!("lists of such a user that do not show 10", wrong_lists, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s6_of_eleven_parallel_logins_exactly_ten_live() {
    let builder = with_operators(Cluster::builder().env("UNDERSTUDY_SESSION_MAX_PER_USER", "10"));
    let cluster = builder.start().await;
    of_eleven_parallel_logins_ten_live(&cluster, 20).await;
    // One after the other it is the one that logged in longest ago.
    let mut clients = Vec::new();
    for number in 0..13 {
        clients.push((logged_in(cluster.url(number % 3), "in-turn").await, 204));
    }
    let ended: BTreeSet<usize> = (0..13).collect();
    let ended: Vec<usize> = ended.difference(&alive(&cluster, &clients).await).copied().collect();
    oracle!("of 13 logins in turn these ended", format!("{ended:?}"), "[0, 1, 2]");
    // A logout makes room.
    clients[5].0.post(cluster.url(0), "/logout").await.unwrap().expect(204);
    clients.push((logged_in(cluster.url(1), "in-turn").await, 204));
    oracle!("sessions after a logout and a login", alive(&cluster, &clients).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn s6_the_eleventh_login_is_refused_where_that_is_wanted() {
    let builder = Cluster::builder()
        .env("UNDERSTUDY_SESSION_MAX_PER_USER", "10")
        .env("UNDERSTUDY_SESSION_MAX_POLICY", "reject");
    let cluster = with_operators(builder).start().await;
    let mut seen = BTreeSet::new();
    for round in 0..20 {
        let user = format!("eleven-{round}");
        let clients = eleven(&cluster, &user).await;
        let refused = clients.iter().filter(|(_, status)| *status == 409).count();
        seen.insert((alive(&cluster, &clients).await.len(), refused));
    }
    let seen = format!("{seen:?}");
    oracle!("alive and refused of 11 parallel logins, in all rounds", seen, "{(10, 1)}");
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(logged_in(cluster.url(number % 3), "full").await);
    }
    let client = Client::new();
    let answer = client.post(cluster.url(0), "/login?user=full").await.unwrap().expect(409);
    oracle!("code", answer.json::<Refused>().code, "session_too_many");
    oracle!("cookies that came with it", client.cookies().len(), 0);
    // Its own session does not count against a user who logs in anew.
    clients[0].post(cluster.url(1), "/login?user=full").await.unwrap().expect(204);
    clients[1].post(cluster.url(2), "/logout").await.unwrap().expect(204);
    client.post(cluster.url(0), "/login?user=full").await.unwrap().expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_a_session_that_is_ended_on_one_node_is_over_on_the_others_within_100_ms() {
    const ROUNDS: usize = 15;
    let cluster = with_operators(Cluster::builder()).start().await;
    let (mut accepted, mut times) = (0, Vec::new());
    for round in 0..ROUNDS {
        // The owner is A, B or C in turn; it is ended at A, and used at C.
        let client = logged_in(cluster.url(round % 3), "ann").await;
        oracle_all_know(&cluster, &client).await;
        let id = id_of(&cluster.nodes[round % 3], &client).await;
        let path = format!("/v1/sessions/{id}");
        let sent = Instant::now();
        let (ended, over) = tokio::join!(
            async {
                let ended = operator().delete(cluster.nodes[0].admin_url(), &path).await.unwrap();
                (ended.expect(200).json::<Ended>().ended, sent.elapsed())
            },
            wait::until("the cookie is invalid on C", LIMIT, async || {
                whoami(&client, cluster.url(2)).await.is_none()
            })
        );
        assert_eq!(ended.0, 1);
        times.push(over.max(ended.1).as_millis());
        accepted += logged_in_at(&cluster, &client).await;
        let again = operator().delete(cluster.nodes[1].admin_url(), &path).await.unwrap();
        assert_eq!(again.expect(404).json::<Refused>().code, "unknown_session");
    }
    times.sort_unstable();
    oracle!("nodes of 45 that accepted the cookie after the end was answered", accepted, 0);
    oracle!("answered, and over on C, ms: half of them within", times[ROUNDS / 2], within 100);
    oracle!("answered, and over on C, ms: the slowest", times[ROUNDS - 1], within 1_000);
}

/// All nodes have seen the session, so each could have kept something of it.
async fn oracle_all_know(cluster: &Cluster, client: &Client) {
    assert_eq!(logged_in_at(cluster, client).await, cluster.nodes.len());
}

/// What operators call the session of a client: the digits in the fixture's answer are those of log lines.
async fn id_of(node: &Node, client: &Client) -> String {
    let all = client.get(node.public_url(), "/all").await.unwrap().expect(200);
    let all: serde_json::Value = all.json();
    all["id"].as_str().expect("the session has an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_an_owner_that_stands_still_cannot_hold_an_end_up_nor_undo_it() {
    let cluster = with_operators(Cluster::builder()).start().await;
    let mut accepted = 0;
    for pause in [Duration::from_millis(200), Duration::from_secs(9)] {
        let client = logged_in(cluster.url(2), "ann").await;
        oracle_all_know(&cluster, &client).await;
        let id = id_of(&cluster.nodes[2], &client).await;
        cluster.nodes[2].stop();
        let stopped = Instant::now();
        let end = async {
            let path = format!("/v1/sessions/{id}");
            let client = Client::with_timeout(LIMIT).bearing(OPERATOR);
            client.delete(cluster.nodes[0].admin_url(), &path).await.unwrap().expect(200)
        };
        let goes_on = async {
            let elsewhere = wait::until("the cookie is invalid on B", LIMIT, async || {
                whoami(&client, cluster.url(1)).await.is_none()
            });
            let elsewhere = elsewhere.await;
            // How long it stands still is what this test varies.
            tokio::time::sleep_until(stopped + pause).await;
            cluster.nodes[2].cont();
            elsewhere
        };
        let (took, elsewhere) = tokio::join!(
            async {
                end.await;
                stopped.elapsed()
            },
            goes_on
        );
        oracle!("over on B, ms, with the owner stopped", elsewhere.as_millis(), within 1_000);
        let limit = (NODE_TTL + Duration::from_secs(2)).as_millis();
        oracle!("answered, ms, with the owner stopped", took.as_millis(), within limit);
        wait::until("C answers again", LIMIT, async || {
            Client::new().get(cluster.url(2), "/nothing").await.is_ok()
        })
        .await;
        accepted += logged_in_at(&cluster, &client).await;
    }
    oracle!("nodes that accepted the cookie after the end was answered", accepted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_a_thousand_sessions_of_a_user_end_on_three_nodes() {
    let sessions = rounds(1_000, 10_000);
    // All are in memory when they are ended, however long it took to begin them.
    let builder = Cluster::builder().env("UNDERSTUDY_SESSION_PASSIVATE_AFTER_MS", "3600000");
    let cluster = with_operators(builder).start().await;
    let http = Client::new();
    let clients = crowd(48, sessions, async |number| {
        let client = http.stranger();
        client.post(cluster.url(number % 3), "/login?user=bob").await.unwrap().expect(204);
        client
    })
    .await;
    let stays = logged_in(cluster.url(0), "ann").await;
    let listed = count_of_user(&cluster.nodes[1], "bob").await;
    oracle!("sessions of the user", listed, sessions as u64);
    let count: Count =
        operator().get(cluster.nodes[2].admin_url(), "/v1/sessions/count").await.unwrap().json();
    oracle!("sessions counted", count.sessions, >= sessions as u64);
    oracle!("of them with a user, and without", count.named + count.anonymous, count.sessions);
    oracle!("sessions counted with a user", count.named, >= sessions as u64);
    // A node that has much to do may not say in time how many it has in memory.
    wait::until("all sessions are in the memory of nodes", LIMIT, async || {
        let count = operator().get(cluster.nodes[2].admin_url(), "/v1/sessions/count").await;
        let count = count.unwrap().json::<Count>();
        count.residents.values().flatten().sum::<u64>() >= sessions as u64
    })
    .await;
    let (ended, took) = bob_ended(&cluster).await;
    oracle!("sessions ended", ended, sessions as u64);
    oracle!("answered after, ms", took.as_millis(), within rounds(10_000, 30_000) as u128);
    let accepted = crowd(48, 3 * sessions, async |at| {
        whoami(&clients[at % sessions], cluster.url(at / sessions)).await.is_some()
    });
    let accepted = accepted.await.into_iter().filter(|accepted| *accepted).count();
    oracle!("cookies accepted on any node afterwards", accepted, 0);
    oracle!("sessions listed afterwards", count_of_user(&cluster.nodes[2], "bob").await, 0);
    oracle!("nodes on which another user stays", logged_in_at(&cluster, &stays).await, 3);
}

/// Ends all sessions of that user; gives how many there were, and how long that took. In a soak run the third node, which owns a
/// third of them, stands still meanwhile.
async fn bob_ended(cluster: &Cluster) -> (u64, Duration) {
    let stands_still = rounds(0, 1) == 1;
    if stands_still {
        cluster.nodes[2].stop();
    }
    let client = Client::with_timeout(Duration::from_secs(60)).bearing(OPERATOR);
    let (path, sent) = ("/v1/users/bob/sessions", Instant::now());
    let ended = client.delete(cluster.nodes[0].admin_url(), path).await.unwrap().expect(200);
    let took = sent.elapsed();
    if stands_still {
        cluster.nodes[2].cont();
        wait::until("the third node answers again", LIMIT, async || {
            Client::new().get(cluster.url(2), "/nothing").await.is_ok()
        })
        .await;
    }
    (ended.json::<Ended>().ended, took)
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_lists_of_users_show_what_the_records_say_on_a_redis_cluster_too() {
    for topology in [Topology::Standalone, Topology::Cluster] {
        let mut cluster = with_operators(Cluster::builder().redis(topology)).start().await;
        lists_show_what_the_records_say(&cluster).await;
        if topology == Topology::Cluster {
            end_all(&cluster).await;
        }
        d12_lists_miss_nobody_when_a_node_is_killed(&mut cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_lists_of_users_show_what_the_records_say_in_postgresql() {
    let builder = Cluster::builder().env("UNDERSTUDY_SESSION_STORE", "database");
    let builder = builder.env("UNDERSTUDY_SESSION_MAX_PER_USER", "10");
    let cluster = with_operators(builder).start().await;
    of_eleven_parallel_logins_ten_live(&cluster, 5).await;
    lists_show_what_the_records_say(&cluster).await;
    end_all(&cluster).await;
}

/// Logs in and out by chance, and compares each user's list with all there is.
async fn lists_show_what_the_records_say(cluster: &Cluster) {
    const STEPS: usize = 300;
    let mut dice = dice("logins and logouts");
    let throws: Vec<[usize; 4]> = (0..STEPS)
        .map(|_| {
            [
                dice.random_range(0..20),
                dice.random_range(0..6),
                dice.random_range(0..3),
                dice.random_range(0..5),
            ]
        })
        .collect();
    let http = Client::new();
    let clients: Vec<Client> = (0..20).map(|_| http.stranger()).collect();
    let statuses = crowd(6, STEPS, async |step| {
        let [client, action, node, user] = throws[step];
        let (client, base) = (&clients[client], cluster.url(node));
        let path = match action {
            0..=2 => format!("/login?user=user-{user}"),
            3 => "/logout".to_owned(),
            4 => "/rotate".to_owned(),
            _ => "/incr".to_owned(),
        };
        client.post(base, &path).await.unwrap().status
    })
    .await;
    let wrong = statuses.iter().filter(|status| !matches!(status, 200 | 204 | 401 | 409)).count();
    oracle!("steps of 300 not answered 200, 204, 401 or 409", wrong, 0);
    let everything = listed(&cluster.nodes[0], "").await;
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for shown in &everything {
        assert!(shown.version > 0 && shown.created_ms <= shown.changed_ms, "{shown:?}");
        assert!(shown.changed_ms < shown.expires_ms && shown.bytes < 10_000, "{shown:?}");
        let owned =
            shown.lease.as_ref().is_none_or(|lease| Some(&lease.node) == shown.owner.as_ref());
        assert!(owned, "{shown:?}");
        if let Some(user) = &shown.user {
            users.entry(user.clone()).or_default().insert(shown.id.clone());
        }
    }
    let ids: BTreeSet<&String> = everything.iter().map(|shown| &shown.id).collect();
    oracle!("sessions that stand twice in the list of all", everything.len() - ids.len(), 0);
    oracle!("sessions with a user", users.values().map(BTreeSet::len).sum::<usize>(), >= 3);
    let (mut missed, mut too_many) = (0, 0);
    for number in 0..5 {
        let user = format!("user-{number}");
        let of_user = of_user(&cluster.nodes[number % 3], &user).await;
        let of_user: BTreeSet<String> = of_user.into_iter().map(|shown| shown.id).collect();
        let wanted = users.remove(&user).unwrap_or_default();
        missed += wanted.difference(&of_user).count();
        too_many += of_user.difference(&wanted).count();
    }
    oracle!("sessions that the lists of their users miss", missed, 0);
    oracle!("sessions in the list of a user whose they are not", too_many, 0);
    one_is_shown(cluster, &everything).await;
}

/// Kills a node while users log in and out, and compares each list with what browsers can still do. Redis sends no
/// notifications here, as it does unless it is told to.
async fn d12_lists_miss_nobody_when_a_node_is_killed(cluster: &mut Cluster) {
    // Each kill but the last is followed by a new life.
    let (steps, kills, limit) = (rounds(400, 50_000), rounds(1, 5), rounds(20, 1_800));
    let limit = Duration::from_secs(limit as u64);
    let mut dice = dice("logins while a node is killed");
    let throws: Vec<[usize; 4]> =
        (0..steps).map(|_| [30, 5, 3, 6].map(|sides: usize| dice.random_range(0..sides))).collect();
    let http = Client::new();
    let clients: Vec<Client> = (0..30).map(|_| http.stranger()).collect();
    let urls: Vec<String> = cluster.nodes.iter().map(|node| node.public_url().to_owned()).collect();
    let done = AtomicUsize::new(0);
    let stepping = crowd(8, steps, async |step| {
        let [client, action, node, user] = throws[step];
        let path = match action {
            0..=2 => format!("/login?user=user-{user}"),
            3 => "/logout".to_owned(),
            _ => "/incr".to_owned(),
        };
        // The killed node gives no answer, and perhaps one waits in vain for what it owns.
        drop(clients[client].post(&urls[node], &path).await);
        done.fetch_add(1, Ordering::SeqCst);
    });
    let victim = &mut cluster.nodes[2];
    let kill = async {
        for number in 1..=kills {
            let due = steps * number / (kills + 3);
            wait::until("they are busy", limit, async || done.load(Ordering::SeqCst) >= due).await;
            victim.kill9();
            if number < kills {
                victim.start_again();
                victim.ready(LIMIT).await;
            }
        }
    };
    tokio::join!(stepping, kill);
    let mut lists: BTreeMap<String, Vec<Shown>> = BTreeMap::new();
    for user in (0..6).map(|number| format!("user-{number}")) {
        let list = of_user(&cluster.nodes[0], &user).await;
        lists.insert(user, list);
    }
    let (mut alive, mut missed) = (0, 0);
    for client in &clients {
        let Some(user) = whoami(client, &urls[1]).await else { continue };
        let id = id_of(&cluster.nodes[1], client).await;
        alive += 1;
        missed += usize::from(!lists[&user].iter().any(|shown| shown.id.starts_with(&id)));
    }
    let strangers = lists
        .iter()
        .flat_map(|(user, list)| list.iter().filter(move |it| it.user.as_ref() != Some(user)));
    oracle!("sessions in the list of a user whose they are not", strangers.count(), 0);
    oracle!("sessions of 30 browsers that have a user", alive, >= 5);
    oracle!("of these missed by the list of their user", missed, 0);
}

async fn one_is_shown(cluster: &Cluster, everything: &[Shown]) {
    let client = logged_in(cluster.url(1), "shown").await;
    let (base, id) = (cluster.nodes[2].admin_url(), id_of(&cluster.nodes[1], &client).await);
    let shown = operator().get(base, &format!("/v1/sessions/{id}")).await.unwrap().expect(200);
    let (name, value) = cookie(&client);
    let (locator, secret) = value.split_once('.').expect("a cookie has two parts");
    let told = [locator, secret].into_iter().filter(|part| shown.text.contains(part)).count();
    oracle!("parts of the cookie that operators are shown", told, 0);
    let shown: Shown = shown.json();
    assert!(shown.id.starts_with(&id) && shown.id.len() == 32, "{shown:?}");
    assert!(!everything.iter().any(|other| other.id == shown.id));
    assert_eq!(shown.user.as_deref(), Some("shown"));
    assert!(shown.lease.is_some_and(|lease| lease.live && lease.node.starts_with("node-b#")));
    // What operators see opens nothing.
    let replayed = with_cookie(&client, &name, &format!("{}.{secret}", shown.id));
    assert_eq!(whoami(&replayed, cluster.url(1)).await, None);
    for wrong in ["abc", "zzzzzzzzzzzz", "000000000000"] {
        let path = format!("/v1/sessions/{wrong}");
        let answer = operator().get(base, &path).await.unwrap().expect(404);
        assert_eq!(answer.json::<Refused>().code, "unknown_session");
    }
    let viewer = Client::new().get(base, "/v1/sessions").await.unwrap();
    assert_eq!(viewer.status, 401, "people are not shown to everybody");
}

async fn end_all(cluster: &Cluster) {
    let http = Client::new();
    let clients = crowd(16, 60, async |number| {
        let client = http.stranger();
        let what = if number % 2 == 0 { "/login?user=all" } else { "/incr" };
        client.post(cluster.url(number % 3), what).await.unwrap();
        client
    })
    .await;
    let base = cluster.nodes[1].admin_url();
    let body = |confirm: &str| serde_json::json!({ "confirm": confirm, "why": "a leak" });
    let path = "/v1/sessions/end-all";
    let refused = operator().post_json(base, path, &body("end all sessions")).await.unwrap();
    assert_eq!(refused.status, 403, "an operator may not");
    let admin = Client::with_timeout(LIMIT).bearing(ADMIN);
    let unsure = admin.post_json(base, path, &body("yes")).await.unwrap().expect(422);
    assert_eq!(unsure.json::<Refused>().code, "invalid_value");
    let ended = admin.post_json(base, path, &body("end all sessions")).await.unwrap().expect(200);
    oracle!("sessions ended", ended.json::<Ended>().ended, >= 60);
    assert_eq!(ended.json::<serde_json::Value>()["failed"], 0, "none was left");
    let alive = crowd(16, 3 * 60, async |at| {
        let answer = clients[at % 60].get(cluster.url(at / 60), "/all").await.unwrap().expect(200);
        !answer.json::<serde_json::Value>()["info"].is_null()
    });
    let alive = alive.await.into_iter().filter(|alive| *alive).count();
    oracle!("sessions that live on any node after all were ended", alive, 0);
    oracle!("sessions listed after all were ended", listed(&cluster.nodes[2], "").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s6_s7_s14_a_node_on_its_own_does_the_same() {
    for store in ["database", "memory"] {
        let spec = NodeSpec::new(store).program(Program::Fixture);
        let mut node = spec
            .env("UNDERSTUDY_SESSION_STORE", store)
            .env("UNDERSTUDY_SESSION_MAX_PER_USER", "2")
            .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
            .start();
        node.ready(LIMIT).await;
        let base = node.public_url();
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(logged_in(base, "ann").await);
        }
        let mut who = Vec::new();
        for client in &clients {
            who.push(whoami(client, base).await.is_some());
        }
        oracle!("of three sessions alive", format!("{who:?}"), "[false, true, true]");
        let shown = of_user(&node, "ann").await;
        oracle!("sessions listed", shown.len(), 2);
        let page: Page = operator()
            .get(node.admin_url(), "/v1/sessions?user=ann&limit=1")
            .await
            .unwrap()
            .expect(200)
            .json();
        assert_eq!((page.sessions.len(), page.total, page.next.is_some()), (1, Some(2), true));
        let path = format!("/v1/sessions/{}", shown[0].id);
        operator().delete(node.admin_url(), &path).await.unwrap().expect(200);
        oracle!("sessions left", of_user(&node, "ann").await.len(), 1);
        let path = "/v1/users/ann/sessions";
        let ended = operator().delete(node.admin_url(), path).await.unwrap().expect(200);
        oracle!("sessions ended of the user", ended.json::<Ended>().ended, 1);
        let mut alive = 0;
        for client in &clients {
            alive += usize::from(whoami(client, base).await.is_some());
        }
        oracle!("sessions alive after that", alive, 0);
        locked_out(&[base, base, base]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s14_five_bad_logins_over_three_nodes_lock_on_all() {
    let cluster = with_operators(Cluster::builder()).start().await;
    let nodes = [cluster.url(0), cluster.url(1), cluster.url(2)];
    locked_out(&nodes).await;
    // However many guess at once: no more are judged than may be.
    let guesses = crowd(40, 40, async |number| {
        let path = "/guess?user=many&right=false";
        Client::new().post(nodes[number % 3], path).await.unwrap().status
    });
    let judged = guesses.await.into_iter().filter(|status| *status == 401).count();
    oracle!("of 40 guesses at once over 3 nodes judged", judged, 5);
}

async fn guess(base: &str, user: &str, right: bool) -> u16 {
    let path = format!("/guess?user={user}&right={right}");
    let answer = Client::new().post(base, &path).await.unwrap();
    if answer.status == 429 {
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=900).contains(&seconds), "{seconds}");
        assert_eq!(answer.json::<Refused>().code, "login_locked");
    }
    answer.status
}

async fn locked_out(nodes: &[&str; 3]) {
    let mut statuses = Vec::new();
    for number in 0..5 {
        statuses.push(guess(nodes[number % 3], "ann", false).await);
    }
    for node in nodes {
        statuses.push(guess(node, "ann", true).await);
    }
    let wanted = "[401, 401, 401, 401, 401, 429, 429, 429]";
    oracle!("five bad logins, then good ones on each node", format!("{statuses:?}"), wanted);
    oracle!("another user", guess(nodes[0], "bob", true).await, 204);
    // A success forgets the failures.
    let mut statuses = Vec::new();
    for right in [false, false, false, false, true, false, false, false, false, true] {
        statuses.push(guess(nodes[statuses.len() % 3], "eve", right).await);
    }
    let wanted = "[401, 401, 401, 401, 204, 401, 401, 401, 401, 204]";
    oracle!("failures with successes in between", format!("{statuses:?}"), wanted);
}
