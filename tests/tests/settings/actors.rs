//! Actors, seen from any node, and one of them stopped while it is in use.

use std::cell::Cell;
use std::collections::BTreeSet;

use serde_json::{Value, json};
use understudy_tests::{Answer, Client, crowd, oracle, wait};

use super::requests::only_what_is_under_way_can_be_ended;
use super::stage::{LIMIT, OPERATOR, Stage, VIEWER, admin};

/// How many times a counter is raised at least, over all nodes, and at most: it goes on until the actor was stopped often
/// enough, which takes its time where there is little of it.
const WRITES: usize = 900;
const MOST_WRITES: usize = 30 * WRITES;
const STOPS: usize = 3;

/// Also shows what an admin may do with requests, on the same nodes: a cluster costs more than it takes to ask.
#[tokio::test(flavor = "multi_thread")]
async fn u9_actors_are_seen_and_one_is_stopped_and_h3_only_requests_under_way_are_ended() {
    let mut stage = Stage::start().await;
    let client = Client::new();
    client.post(stage.cluster.url(0), "/incr").await.unwrap().expect(200);
    let listed = stage.told(1, "/v1/sessions").await;
    let id = listed["sessions"][0]["id"].as_str().expect("a session").to_owned();
    an_actor_is_stopped_under_load(&stage, &client, &id).await;
    all_nodes_tell_of_their_actors(&stage, &id).await;
    one_actor_is_shown_without_what_it_holds(&stage, &client, &id).await;
    only_admins_stop_actors_and_only_some(&stage).await;
    only_what_is_under_way_can_be_ended(&mut stage).await;
    wait::until("a node that is dead is named", LIMIT, async || {
        let told = stage.told(0, "/v1/actors").await;
        told["unreachable"] == json!(["node-c"])
    })
    .await;
}

/// Stops an actor of a session through a node.
async fn stop(stage: &Stage, node: usize, id: &str) -> Answer {
    let path = format!("/v1/actors/session/{id}/stop");
    admin().post(stage.node(node).admin_url(), &path).await.unwrap()
}

fn code(answer: &Answer) -> String {
    answer.json::<Value>()["code"].as_str().unwrap_or_default().to_owned()
}

async fn an_actor_is_stopped_under_load(stage: &Stage, client: &Client, id: &str) {
    let (over, stopped) = (Cell::new(false), Cell::new(0));
    let load = async {
        let mut statuses = Vec::new();
        while statuses.len() < WRITES || (stopped.get() < STOPS && statuses.len() < MOST_WRITES) {
            let answers = crowd(12, WRITES / 3, async |number| {
                client.post(stage.cluster.url(number % 3), "/incr").await.unwrap().status
            });
            statuses.extend(answers.await);
        }
        over.set(true);
        statuses
    };
    let stops = async {
        let mut number = 0;
        while !over.get() {
            let answer = stop(stage, number % 3, id).await;
            number += 1;
            match answer.status {
                200 => stopped.set(stopped.get() + 1),
                404 => assert_eq!(code(&answer), "unknown_actor", "between two requests"),
                409 => assert_eq!(code(&answer), "actor_busy"),
                other => panic!("{other}: {answer:?}"),
            }
        }
    };
    let (statuses, ()) = tokio::join!(load, stops);
    let acknowledged = statuses.iter().filter(|status| **status == 200).count();
    oracle!("times that the actor was stopped", stopped.get(), >= STOPS);
    oracle!("writes that were refused meanwhile", statuses.len() - acknowledged, 0);
    for node in 0..3 {
        let read = client.get(stage.cluster.url(node), "/read").await.unwrap().expect(200);
        let value = read.json::<Value>()["value"].as_u64().unwrap_or_default();
        let expected = u64::try_from(acknowledged).unwrap() + 1;
        oracle!(&format!("the counter, on node {node}"), value, expected);
    }
}

async fn all_nodes_tell_of_their_actors(stage: &Stage, id: &str) {
    let viewer = Client::new().bearing(VIEWER);
    let url = stage.node(1).admin_url();
    // A node has a second to answer: on a machine with too much to do one may miss it.
    let (told, _) = wait::until_some("all nodes answer", LIMIT, async || {
        let told: Value = viewer.get(url, "/v1/actors").await.unwrap().expect(200).json();
        (told["unreachable"] == json!([])).then_some(told)
    })
    .await;
    let rows = told["actors"].as_array().expect("a list");
    let mut seen = BTreeSet::new();
    for row in rows {
        let (of, node) = (row["type"].as_str().unwrap(), row["node"].as_str().unwrap());
        assert!(seen.insert((of, node)), "{of} of {node} is there twice");
        assert!(of == "session" || row["live"] == 1, "{row}");
        assert_eq!((&row["restarts"], row["instead"].is_null()), (&json!(0), of == "session"));
    }
    let types: BTreeSet<&str> = seen.iter().map(|(of, _)| *of).collect();
    let expected = ["bus", "leader", "lease", "scheduler", "session", "worker"];
    assert_eq!(types, BTreeSet::from(expected));
    oracle!("types of actors, on three nodes", seen.len(), 18);
    let of_sessions = || rows.iter().filter(|row| row["type"] == "session");
    let handled: u64 = of_sessions().filter_map(|row| row["handled"].as_u64()).sum();
    oracle!("messages that actors of sessions handled", handled, >= WRITES as u64);
    let slowest = of_sessions().filter_map(|row| row["p99_ms"].as_f64()).fold(0.0, f64::max);
    assert!(slowest > 0.0, "{rows:?}");
    let tasks = told["tasks"].as_array().expect("a list");
    assert!(tasks.iter().any(|task| task["name"] == "settings" && task["restarts"] == 0));
    let path = "/v1/actors/slow?type=session&limit=5";
    let told: Value = viewer.get(url, path).await.unwrap().expect(200).json();
    let slow = told["slow"].as_array().expect("a list");
    assert!(slow.iter().all(|message| message["actor"].is_null()), "whose it was: {slow:?}");
    let told: Value = admin().get(url, path).await.unwrap().expect(200).json();
    let slow = told["slow"].as_array().expect("a list");
    assert!((1..=5).contains(&slow.len()), "{slow:?}");
    for message in slow {
        let known = ["change", "view"].contains(&message["message"].as_str().unwrap());
        let took = message["took_ms"].as_f64().unwrap_or_default();
        assert!(known && took > 0.0 && message["actor"] == id[..12], "{message}");
    }
}

async fn one_actor_is_shown_without_what_it_holds(stage: &Stage, client: &Client, id: &str) {
    client.post(stage.cluster.url(2), "/incr").await.unwrap().expect(200);
    let path = format!("/v1/actors/session/{}", &id[..12]);
    let answer = admin().get(stage.node(0).admin_url(), &path).await.unwrap().expect(200);
    assert!(!answer.text.contains("counter"), "the name of an attribute: {}", answer.text);
    let shown: Value = answer.json();
    assert_eq!((&shown["type"], shown["id"].as_str()), (&json!("session"), Some(id)));
    assert_eq!((&shown["actor"]["owns"], &shown["unreachable"]), (&json!(true), &Value::Null));
    assert_eq!(shown["actor"]["version"], shown["session"]["version"], "{shown}");
    let lease = stage.told(0, "/v1/actors/lease/node-b").await;
    assert_eq!((&lease["node"], &lease["live"]), (&json!("node-b"), &json!(1)));
    wait::until("the audit log tells of the stops", LIMIT, async || {
        let audit = stage.told(0, "/v1/audit?action=actors.stop&outcome=done&limit=1").await;
        let note = audit["entries"][0]["note"].as_str().unwrap_or_default().to_owned();
        note.contains(&id[..12])
    })
    .await;
}

async fn only_admins_stop_actors_and_only_some(stage: &Stage) {
    let url = stage.node(0).admin_url();
    for (who, path, expected) in [
        (admin(), "/v1/actors/lease/node-b/stop", (409, "not_stoppable")),
        (admin(), "/v1/actors/leader/node-a/stop", (409, "not_stoppable")),
        (admin(), "/v1/actors/nothing/node-a/stop", (404, "unknown_actor_type")),
        (admin(), "/v1/actors/session/00000000000000000000/stop", (404, "unknown_session")),
        (admin(), "/v1/actors/session/zz/stop", (404, "unknown_session")),
        (admin(), "/v1/actors/lease/node-b/stop?force=true", (400, "bad_query")),
        (Client::new().bearing(OPERATOR), "/v1/actors/lease/node-b/stop", (403, "forbidden")),
    ] {
        let answer = who.post(url, path).await.unwrap();
        assert_eq!((answer.status, code(&answer).as_str()), expected, "{path}");
    }
    for (path, expected) in [
        ("/v1/actors?node=a", (400, "bad_query")),
        ("/v1/actors/slow?limit=0", (400, "bad_query")),
        ("/v1/actors/slow?type=nothing", (404, "unknown_actor_type")),
        ("/v1/actors/lease/nobody", (404, "unknown_node")),
        ("/v1/actors/nothing/node-a", (404, "unknown_actor_type")),
    ] {
        let answer = admin().get(url, path).await.unwrap();
        assert_eq!((answer.status, code(&answer).as_str()), expected, "{path}");
    }
    let refused = admin().post(url, "/v1/actors/leader/node-a/stop").await.unwrap();
    assert!(refused.text.contains("leader step-down"), "{}", refused.text);
}
