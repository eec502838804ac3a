//! Locks of which there is one holder in the cluster.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use understudy_tests::{Answer, Client, Node, NodeSpec, Program, crowd, oracle, wait};

use super::ground::{LIMIT, cluster_of, started};

const TOKEN: &str = "an-operator-of-these-tests";
const OPERATOR: &str = "UNDERSTUDY_ADMIN_OPERATOR_TOKEN";

/// Adds one to the number in a file this often, through these nodes by turns, each time under the lock.
async fn add(bases: &[&str], file: &Path, times: usize) {
    let path = format!("/locked-add?file={}", file.display());
    let client = Client::new();
    let answers = crowd(24, times, async |number| {
        let base = bases[number % bases.len()];
        client.post(base, &path).await.unwrap().expect(200).json::<Value>()
    })
    .await;
    let tokens: BTreeSet<u64> =
        answers.iter().map(|answer| answer["token"].as_u64().expect("a number")).collect();
    oracle!("different tokens", tokens.len(), times);
    // Who came later has a greater token: so the values are in the order of the tokens.
    let mut in_order: Vec<(u64, u64)> = answers
        .iter()
        .map(|answer| (answer["token"].as_u64().unwrap(), answer["value"].as_u64().unwrap()))
        .collect();
    in_order.sort_unstable();
    assert!(in_order.windows(2).all(|pair| pair[0].1 < pair[1].1), "{in_order:?}");
    let counted = std::fs::read_to_string(file).unwrap();
    oracle!("what the file counts", counted, times.to_string());
}

/// A request that holds a lock for so long.
fn hold(node: &Node, name: &str, ttl: Duration, ms: u64) -> JoinHandle<Result<Answer, String>> {
    let base = node.public_url().to_owned();
    let path = format!("/lock-hold?name={name}&ttl_ms={}&ms={ms}", ttl.as_millis());
    tokio::spawn(async move {
        let client = Client::with_timeout(LIMIT);
        client.post(&base, &path).await.map_err(|error| error.to_string())
    })
}

/// A request of an operator.
async fn operate(method: Method, node: &Node, path: &str) -> Answer {
    let client = Client::new();
    let request = client.build(method, node.admin_url(), path).bearer_auth(TOKEN);
    client.send(request).await.unwrap()
}

/// The locks that are held, as a node lists them.
async fn held(node: &Node) -> Vec<Value> {
    let answer = operate(Method::GET, node, "/v1/locks").await.expect(200).json::<Value>();
    answer["locks"].as_array().expect("a list").clone()
}

async fn until_held(node: &Node, name: &str) -> Value {
    let found = async || held(node).await.into_iter().find(|lock| lock["name"] == name);
    wait::until_some("the lock is held", LIMIT, found).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn j17_three_nodes_count_in_one_file_and_no_count_is_lost() {
    let cluster = cluster_of(3).start().await;
    let folder = tempfile::tempdir().unwrap();
    let bases = [cluster.url(0), cluster.url(1), cluster.url(2)];
    let begin = Instant::now();
    add(&bases, &folder.path().join("counter"), 1_500).await;
    oracle::note(&format!("1500 additions under one lock took {:?}", begin.elapsed()));
}

#[tokio::test(flavor = "multi_thread")]
async fn j17_of_a_node_that_is_killed_a_lock_is_free_after_its_time() {
    let ttl = Duration::from_secs(3);
    let mut cluster = cluster_of(2).env(OPERATOR, TOKEN).start().await;
    let holder = hold(&cluster.nodes[0], "killed", ttl, 60_000);
    let before = until_held(&cluster.nodes[1], "killed").await;
    let waiter = hold(&cluster.nodes[1], "killed", ttl, 0);
    let killed_at = Instant::now();
    cluster.kill9(0);
    let answer = waiter.await.unwrap().unwrap().expect(200).json::<Value>();
    let took = killed_at.elapsed();
    oracle!(
        "ms until it was free",
        took.as_millis(),
        within(ttl + Duration::from_millis(500)).as_millis()
    );
    assert!(answer["token"].as_u64() > before["token"].as_u64(), "{answer} after {before}");
    assert!(holder.await.unwrap().is_err(), "its request died with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn j17_an_operator_takes_a_lock_away_and_its_holder_is_told() {
    let cluster = cluster_of(2).env(OPERATOR, TOKEN).start().await;
    let [a, b] = &cluster.nodes[..] else { panic!("two nodes") };
    // A time to live so long that it cannot be what ends the lock.
    let holder = hold(a, "a%2Fb", Duration::from_secs(600), 50_000);
    let listed = until_held(b, "a/b").await;
    assert!(listed["node"].as_str().unwrap().starts_with("node-a#"), "{listed}");
    let busy = Client::new().post(b.public_url(), "/lock-try?name=a/b").await.unwrap().expect(200);
    assert_eq!(busy.json::<Value>()["token"], Value::Null);
    let denied = Client::new().delete(b.admin_url(), "/v1/locks/a%2Fb").await.unwrap();
    oracle!("status for who is nobody", denied.status, 401);
    let begin = Instant::now();
    let cleared = operate(Method::DELETE, b, "/v1/locks/a%2Fb").await.expect(200).json::<Value>();
    assert_eq!(cleared["cleared"]["token"], listed["token"], "{cleared}");
    let told = holder.await.unwrap().unwrap().expect(200).json::<Value>();
    assert_eq!(told["lost"], true, "{told}");
    oracle!("ms until its holder knew", begin.elapsed().as_millis(), within 2_000);
    let next = Client::new().post(b.public_url(), "/lock-try?name=a/b").await.unwrap().expect(200);
    assert!(next.json::<Value>()["token"].as_u64() > listed["token"].as_u64());
    assert!(held(a).await.is_empty());
    let again = operate(Method::DELETE, b, "/v1/locks/a%2Fb").await.expect(404).json::<Value>();
    assert_eq!(again["code"], "lock_not_held");
}

#[tokio::test(flavor = "multi_thread")]
async fn j17_a_bad_name_or_time_is_told_and_nothing_is_locked() {
    // The time to live is said by the program: a wrong one is its mistake.
    let spec = NodeSpec::new("alone").program(Program::Fixture);
    let node = started(spec.allow_error("the ttl of a lock")).await;
    let try_it = async |query: &str| {
        let answer = Client::new().post(node.public_url(), &format!("/lock-try?{query}")).await;
        let answer = answer.unwrap();
        (answer.status, answer.json::<Value>()["code"].as_str().unwrap_or_default().to_owned())
    };
    let bad_name = (422, "lock_bad_name".to_owned());
    assert_eq!(try_it("name=").await, bad_name);
    assert_eq!(try_it("name=a%0Ab").await, bad_name);
    assert_eq!(try_it(&format!("name={}", "n".repeat(201))).await, bad_name);
    assert_eq!(try_it("name=a&ttl_ms=499").await, (500, "lock_bad_ttl".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn j17_a_node_without_a_cluster_has_locks_that_end_with_its_process() {
    let spec = NodeSpec::new("alone").program(Program::Fixture).env(OPERATOR, TOKEN);
    let mut node = started(spec).await;
    let folder = tempfile::tempdir().unwrap();
    add(&[node.public_url()], &folder.path().join("counter"), 200).await;
    let holder = hold(&node, "mine", Duration::from_secs(600), 60_000);
    let before = until_held(&node, "mine").await;
    node.kill9();
    assert!(holder.await.unwrap().is_err());
    node.start_again();
    node.ready(LIMIT).await;
    // It is alone on its file: nobody can hold what its earlier life held.
    let free = Client::new().post(node.public_url(), "/lock-try?name=mine").await.unwrap();
    let token = free.expect(200).json::<Value>()["token"].as_u64();
    assert!(token > before["token"].as_u64(), "{token:?} after {before}");
}
