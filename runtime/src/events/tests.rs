use std::time::Duration;

use super::*;
use crate::bus::LocalHub;
use crate::clock::{ManualClock, SystemClock};
use crate::membership::record_for_test;
use crate::redis::testing::{eventually, node};

fn kind_of(seen: Option<Seen>) -> EventKind {
    match seen {
        Some(Seen::Event(event)) => event.kind,
        Some(Seen::Missed(_)) | None => panic!("no event: {seen:?}"),
    }
}

/// Waits for the next event, but not for ever.
async fn next(watching: &mut Watching) -> EventKind {
    let limit = Duration::from_secs(10);
    kind_of(tokio::time::timeout(limit, watching.next()).await.expect("an event comes"))
}

struct Node {
    events: Events,
    membership: Membership,
    _task: Supervised,
}

fn joined(hub: &LocalHub, name: &str) -> Node {
    let record = record_for_test(node(name));
    let bus = Bus::local(hub, record.id.clone());
    let events = Events::new(SystemClock::shared());
    let membership = Membership::single(record);
    let task = events.connect(&bus, &membership);
    Node { events, membership, _task: task }
}

#[test]
fn u18_of_many_events_one_leaves_at_once_and_one_at_the_end_of_the_step() {
    let at = |ms: u64| BootInstant::from_nanos(ms * 1_000_000);
    let gate = Gate::default();
    assert_eq!(gate.pass(at(10)), Pass::Now);
    assert_eq!(gate.pass(at(110)), Pass::Later(Duration::from_millis(400)));
    assert_eq!(gate.pass(at(200)), Pass::Collected);
    gate.open(at(510));
    assert_eq!(gate.pass(at(600)), Pass::Later(Duration::from_millis(410)));
    gate.open(at(1_010));
    assert_eq!(gate.pass(at(1_510)), Pass::Now, "a step without any is over");
}

#[tokio::test]
async fn u18_nothing_is_collected_while_nobody_watches() {
    let node = joined(&LocalHub::new(), "a");
    node.events.send(EventKind::Jobs);
    let mut watching = node.events.watch().unwrap();
    node.events.send(EventKind::Audit);
    assert_eq!(next(&mut watching).await, EventKind::Audit, "what was before is not shown");
}

#[tokio::test]
async fn u18_many_events_of_a_kind_become_few_and_the_last_is_among_them() {
    let node = joined(&LocalHub::new(), "a");
    let mut watching = node.events.watch().unwrap();
    for _ in 0..50 {
        node.events.send(EventKind::Jobs);
    }
    assert_eq!(next(&mut watching).await, EventKind::Jobs);
    assert_eq!(next(&mut watching).await, EventKind::Jobs, "one for all that came after the first");
    let quiet = tokio::time::timeout(STEP * 2, watching.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

#[tokio::test]
async fn u18_who_is_too_slow_is_told_so() {
    let clock = Arc::new(ManualClock::new());
    let shared: SharedClock = Arc::clone(&clock) as SharedClock;
    let events = Events::new(shared);
    let mut watching = events.watch().unwrap();
    for _ in 0..=BEHIND {
        events.send(EventKind::Jobs);
        clock.advance(STEP);
    }
    assert_eq!(watching.next().await, Some(Seen::Missed(1)));
    assert_eq!(kind_of(watching.next().await), EventKind::Jobs, "what is left follows");
}

#[tokio::test]
async fn u18_no_more_than_so_many_may_watch() {
    let events = Events::new(SystemClock::shared());
    let mut watching: Vec<Watching> = (0..MOST_WATCHERS).filter_map(|_| events.watch()).collect();
    assert_eq!(watching.len(), MOST_WATCHERS);
    assert!(events.watch().is_none());
    watching.pop();
    assert!(events.watch().is_some());
}

#[tokio::test]
async fn u18_a_changed_list_of_nodes_is_an_event_and_an_unchanged_one_is_not() {
    let node = joined(&LocalHub::new(), "a");
    let mut watching = node.events.watch().unwrap();
    tokio::task::yield_now().await;
    node.membership.update(|record| record.pid += 1);
    tokio::task::yield_now().await;
    node.membership.set_state(MemberState::Ready);
    assert_eq!(next(&mut watching).await, EventKind::Nodes);
    let quiet = tokio::time::timeout(STEP * 2, watching.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

#[tokio::test]
async fn u18_what_one_node_knows_is_told_to_those_on_which_somebody_watches() {
    let hub = LocalHub::new();
    let (a, b) = (joined(&hub, "a"), joined(&hub, "b"));
    let mut watching = a.events.watch().unwrap();
    // Their lists hold one node each, so the word is said by hand.
    let b_id = b.membership.own().id.clone();
    a.events.inner.ways.get().unwrap().bus.send(&b_id, &SomebodyWatches {});
    eventually("b knows that somebody watches", || !b.events.inner.elsewhere.is_empty()).await;
    b.events.send(EventKind::Leader);
    b.events.send(EventKind::Audit);
    assert_eq!(next(&mut watching).await, EventKind::Audit, "the leader is seen by each itself");
}

#[test]
fn every_kind_is_found_by_its_name() {
    for (number, kind) in EVENT_KINDS.into_iter().enumerate() {
        assert_eq!(EventKind::of(kind.as_str()), Some(kind));
        assert_eq!(kind as usize, number);
    }
    assert_eq!(EventKind::of("weather"), None);
}
