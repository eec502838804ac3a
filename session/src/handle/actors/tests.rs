use std::cell::Cell;

use futures_util::future::join_all;

use super::*;
use crate::record::SecretHash;
use crate::state::{Op, Outcome};
use crate::users::tests::{logged_in, memory, node_over};

/// The one of [`logged_in`].
const SECRET: SecretHash = SecretHash([7; 32]);
const PATIENCE: Duration = Duration::from_secs(60);
const STOPS: usize = 10;

async fn increment(node: &SessionHandle, locator: Locator) -> i64 {
    let op = Op::Increment { name: "n".to_owned(), by: 1 };
    match node.ask(locator, SECRET, op).await {
        Ok((Outcome::Number(number), _version)) => number,
        other => panic!("{other:?}"),
    }
}

#[actix_rt::test]
async fn u9_an_actor_that_is_stopped_under_load_loses_nothing_and_refuses_nobody() {
    let store = memory();
    let node = node_over(Arc::new(store.clone()));
    let locator = logged_in(&store, "ann").await;
    let (acknowledged, over) = (Cell::new(0), Cell::new(false));
    let clients = join_all((0..8).map(async |_| {
        while !over.get() {
            increment(&node, locator).await;
            acknowledged.set(acknowledged.get() + 1);
        }
    }));
    let stops = async {
        let mut gone = 0;
        while gone < STOPS {
            let stopped = stop_actor(node.clone(), locator).await;
            gone += usize::from(stopped == Stopped::Gone);
            sleep(LOOK).await;
        }
        over.set(true);
    };
    let all = async { tokio::join!(clients, stops) };
    timeout(PATIENCE, all).await.unwrap();
    assert!(acknowledged.get() > 0);
    assert_eq!(increment(&node, locator).await, acknowledged.get() + 1, "each counts once");
}

#[actix_rt::test]
async fn u9_an_actor_goes_once_and_the_next_request_starts_another_one() {
    let store = memory();
    let node = node_over(Arc::new(store.clone()));
    let locator = logged_in(&store, "ann").await;
    assert!(look_at_actor(&node, locator).is_none());
    assert_eq!(stop_actor(node.clone(), locator).await, Stopped::NotHere);
    assert_eq!(increment(&node, locator).await, 1);
    let state = look_at_actor(&node, locator).unwrap();
    assert!(state.owns && state.version.is_some() && state.waiting == 0, "{state:?}");
    assert_eq!(stop_actor(node.clone(), locator).await, Stopped::Gone);
    assert!(look_at_actor(&node, locator).is_none());
    assert_eq!(stop_actor(node.clone(), locator).await, Stopped::NotHere);
    assert_eq!(increment(&node, locator).await, 2);
}

#[actix_rt::test]
async fn u9_an_actor_that_is_never_idle_stays_and_goes_on() {
    let store = memory();
    let node = node_over(Arc::new(store.clone()));
    let locator = logged_in(&store, "ann").await;
    assert_eq!(increment(&node, locator).await, 1);
    let resident = Resident::clone(&node.0.residents.get(&locator).unwrap());
    let waits = resident.cell.wait();
    assert_eq!(stop_actor(node.clone(), locator).await, Stopped::Busy);
    assert!(
        !resident.cell.is_held_back(|| BootInstant::from_nanos(1)) && !resident.cell.is_given_up()
    );
    assert_eq!(increment(&node, locator).await, 2, "it is the same actor, and open");
    drop(waits);
    assert_eq!(stop_actor(node, locator).await, Stopped::Gone);
}

#[actix_rt::test]
async fn u9_an_actor_that_looks_given_up_and_stays_is_not_told_as_gone() {
    let store = memory();
    let node = node_over(Arc::new(store.clone()));
    let locator = logged_in(&store, "ann").await;
    assert_eq!(increment(&node, locator).await, 1);
    let resident = Resident::clone(&node.0.residents.get(&locator).unwrap());
    // As it is for an instant when an actor wants to give up and then sees that somebody waits.
    assert!(resident.cell.give_up());
    assert_eq!(stop_actor(node.clone(), locator).await, Stopped::Busy);
    assert!(node.0.residents.contains_key(&locator), "it is still there");
}
