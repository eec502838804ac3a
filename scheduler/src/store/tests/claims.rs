//! Claims: each due time starts once, whatever leaders and clocks do.

use std::collections::{BTreeSet, HashSet};

use sea_orm::TransactionTrait as _;

use super::super::*;
use super::bench::{Bench, HOUR_MS, fire_at, id, name, node, rare, room, seconds};
use super::on_both;
use crate::leader::Inauguration as _;
use crate::run::RunState;
use crate::spec::Placement;

on_both!(
    the_leader_starts_what_is_due,
    a_due_time_in_the_future_is_left_alone,
    a_due_time_that_was_claimed_starts_nothing_again,
    an_old_due_time_starts_nothing_even_when_its_run_was_forgotten,
    an_old_epoch_writes_nothing,
    a_claim_that_was_frozen_between_its_check_and_its_write_writes_nothing,
    a_plan_of_an_old_revision_is_stale,
    eight_claimants_of_the_same_plans_start_each_due_time_once,
    the_unique_key_alone_prevents_a_second_start,
    a_paused_cluster_starts_nothing_but_what_keeps_it_clean,
    only_jobs_that_are_on_start,
    what_no_node_can_run_waits_and_is_noted,
    a_leader_without_the_handler_leaves_the_run_to_others,
    a_full_leader_leaves_the_run_in_its_queue,
    a_batch_of_many_jobs_is_claimed_at_once,
    an_overdue_cursor_is_due_and_moves_on,
);

async fn the_leader_starts_what_is_due(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(seconds("tick")).await;
    bench.rewind("tick", 1_000).await;
    let (plan, definition) = bench.planned_after("tick", 1_000).await;
    assert_eq!(plan.starts.len(), 1);
    let outcome = bench.claim(epoch, vec![(plan.clone(), definition)]).await;
    assert!(outcome.epoch_ok);
    assert_eq!((outcome.started.len(), outcome.queued, outcome.stale_plans), (1, 0, 0));
    let started = &outcome.started[0];
    assert_eq!((started.fire_ms, started.epoch, started.attempt), (plan.last_ms, epoch, 1));
    assert!(started.by_leader);
    let run = bench.run(started.id).await;
    assert_eq!(
        (run.state, run.node, run.cause.as_str()),
        (RunState::Running, Some(id("a")), "schedule")
    );
    let cursor = bench.cursor("tick", "").await;
    assert_eq!((cursor.last_ms, cursor.next_ms), (plan.last_ms, Some(plan.last_ms + 1_000)));
}

async fn a_due_time_in_the_future_is_left_alone(bench: Bench) {
    let epoch = bench.lead("a").await;
    let definition = bench.job(rare("job")).await;
    let before = bench.cursor("job", "").await;
    let early = fire_at(&before, bench.now().await + 3_000);
    let outcome = bench.claim(epoch, vec![(early, definition)]).await;
    assert_eq!((outcome.epoch_ok, outcome.stale_plans, outcome.started.len()), (true, 1, 0));
    assert_eq!(bench.cursor("job", "").await, before);
    assert_eq!(bench.runs("job").await, []);
}

async fn a_due_time_that_was_claimed_starts_nothing_again(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(rare("job")).await;
    let plan = bench.one_fire("job").await;
    assert_eq!(bench.claim(epoch, vec![plan.clone()]).await.started.len(), 1);
    let again = bench.claim(epoch, vec![plan]).await;
    assert_eq!((again.started.len(), again.queued, again.stale_plans), (0, 0, 1));
    assert_eq!(bench.runs("job").await.len(), 1);
}

async fn an_old_due_time_starts_nothing_even_when_its_run_was_forgotten(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(rare("job")).await;
    let old = bench.one_fire("job").await;
    let first = bench.claim(epoch, vec![old.clone()]).await;
    bench.end(&first.started[0], "a", RunState::Completed).await;
    let second = bench.fire(epoch, "job").await;
    bench.end(&second.started[0], "a", RunState::Completed).await;
    bench.sql("UPDATE us_job_run SET finished_ms = 1").await;
    assert_eq!(bench.store.purge(HOUR_MS, 1_000, 100).await.unwrap(), 2);
    let outcome = bench.claim(epoch, vec![old]).await;
    assert_eq!((outcome.stale_plans, outcome.started.len()), (1, 0));
    assert_eq!(bench.runs("job").await, []);
}

async fn an_old_epoch_writes_nothing(bench: Bench) {
    let old = bench.lead("a").await;
    bench.job(rare("job")).await;
    let before = bench.cursor("job", "").await;
    bench.lead("b").await;
    let outcome = bench.fire(old, "job").await;
    assert!(!outcome.epoch_ok && outcome.started.is_empty());
    assert_eq!(bench.cursor("job", "").await, before);
    assert_eq!(bench.count("us_job_run").await + bench.count("us_fire_decision").await, 0);
}

async fn a_claim_that_was_frozen_between_its_check_and_its_write_writes_nothing(bench: Bench) {
    bench.job(rare("job")).await;
    let mut stale = 0;
    for _ in 0..30 {
        let epoch = bench.lead("a").await;
        let plan = bench.one_fire("job").await;
        // It stands still here, for longer than its lease.
        bench.lead("b").await;
        let outcome = bench.claim(epoch, vec![plan]).await;
        stale += usize::from(!outcome.epoch_ok);
    }
    assert_eq!(stale, 30);
    assert_eq!(bench.runs("job").await, []);
}

async fn a_plan_of_an_old_revision_is_stale(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(rare("job")).await;
    let plan = bench.one_fire("job").await;
    let mut edited = plan.1.spec.clone();
    edited.priority = 7;
    bench.store.define(edited, Origin::Api, "ann", None).await.unwrap();
    let outcome = bench.claim(epoch, vec![plan]).await;
    assert_eq!((outcome.stale_plans, outcome.started.len()), (1, 0));
    assert_eq!(bench.fire(epoch, "job").await.started.len(), 1);
}

async fn eight_claimants_of_the_same_plans_start_each_due_time_once(bench: Bench) {
    let epoch = bench.lead("a").await;
    let jobs: Vec<String> = (0..5).map(|number| format!("job{number}")).collect();
    for job in &jobs {
        bench.job(rare(job)).await;
    }
    for round in 1..=10 {
        let mut plans = Vec::new();
        for job in &jobs {
            plans.push(bench.one_fire(job).await);
        }
        let claims = (0..8).map(|_| {
            let (store, plans) = (bench.store.clone(), plans.clone());
            let handlers: Vec<&str> = jobs.iter().map(String::as_str).collect();
            let claimant =
                Claimant { node: id("a"), epoch: Some(epoch), room: room(100, &handlers) };
            tokio::spawn(async move {
                store.claim(claimant, plans, BTreeSet::new(), HOUR_MS).await.unwrap()
            })
        });
        let mut started = Vec::new();
        for claim in claims.collect::<Vec<_>>() {
            started.extend(claim.await.unwrap().started);
        }
        let unique: HashSet<_> = started.iter().map(|run| run.id).collect();
        assert_eq!((started.len(), unique.len()), (5, 5), "round {round}");
        for run in &started {
            bench.end(run, "a", RunState::Completed).await;
        }
    }
    assert_eq!(bench.count("us_job_run WHERE attempt = 1").await, 50);
}

async fn the_unique_key_alone_prevents_a_second_start(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(rare("job")).await;
    let plan = bench.one_fire("job").await;
    let first = bench.claim(epoch, vec![plan.clone()]).await;
    bench.end(&first.started[0], "a", RunState::Completed).await;
    let sql = format!("UPDATE us_job_cursor SET last_fire_ms = {}", plan.0.expected_last_ms);
    bench.sql(&sql).await;
    let second = bench.claim(epoch, vec![plan]).await;
    assert_eq!((second.stale_plans, second.started.len(), second.queued), (0, 0, 0));
    assert_eq!(bench.runs("job").await.len(), 1);
}

async fn a_paused_cluster_starts_nothing_but_what_keeps_it_clean(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(rare("job")).await;
    let mut system = rare("system.sweep");
    system.system = true;
    bench.store.define(system, Origin::System, "test", None).await.unwrap();
    bench.rewind("system.sweep", 1_000).await;
    let pause = Switch { value: "paused".into(), by: "ann".into(), why: "fire".into(), at_ms: 0 };
    bench.store.set_switch("pause", pause).await.unwrap();
    let plans = vec![bench.one_fire("job").await, bench.one_fire("system.sweep").await];
    let outcome = bench.claim(epoch, plans).await;
    let started: Vec<_> =
        outcome.started.iter().map(|run| run.definition.spec.name.to_string()).collect();
    assert_eq!(started, ["system.sweep"]);
    let all = bench.store.decisions(&name("job"), (0, i64::MAX), 10).await.unwrap();
    assert_eq!((all.len(), all[0].outcome.as_str()), (1, "paused"));
    assert!(all[0].reason.contains("ann") && all[0].reason.contains("fire"), "{}", all[0].reason);
    bench.store.set_switch("pause", Switch::default()).await.unwrap();
    assert_eq!(bench.fire(epoch, "job").await.started.len(), 1);
}

async fn only_jobs_that_are_on_start(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(rare("on")).await;
    bench.job(rare("off")).await;
    bench.store.begin_jobs_enabled("other, on", "file").await.unwrap();
    bench.store.begin_jobs_enabled("none", "a later node").await.unwrap();
    let plans = vec![bench.one_fire("on").await, bench.one_fire("off").await];
    let outcome = bench.claim(epoch, plans).await;
    assert_eq!(outcome.started.len(), 1);
    assert_eq!(bench.outcomes("off").await, ["disabled"]);
    assert_eq!(bench.runs("off").await, []);
    let none = Switch { value: "none".into(), ..Switch::default() };
    bench.store.set_switch("jobs_enabled", none).await.unwrap();
    bench.fire(epoch, "on").await;
    assert_eq!(bench.outcomes("on").await, ["disabled"]);
}

async fn what_no_node_can_run_waits_and_is_noted(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(rare("job")).await;
    let claimant = Claimant { node: id("a"), epoch: Some(epoch), room: room(10, &[]) };
    let plans = vec![bench.one_fire("job").await];
    let unhandled = BTreeSet::from([super::bench::need("job")]);
    let outcome = bench.store.claim(claimant, plans, unhandled, HOUR_MS).await.unwrap();
    assert_eq!((outcome.queued, outcome.decided.get(&Outcome::NoHandler)), (1, Some(&1)));
    assert_eq!(bench.outcomes("job").await, ["no_handler"]);
    assert_eq!(bench.runs("job").await[0].state, RunState::Queued);
}

async fn a_leader_without_the_handler_leaves_the_run_to_others(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(rare("job")).await;
    let claimant = Claimant { node: id("a"), epoch: Some(epoch), room: room(10, &["other"]) };
    let plans = vec![bench.one_fire("job").await];
    let outcome = bench.store.claim(claimant, plans, BTreeSet::new(), HOUR_MS).await.unwrap();
    assert_eq!((outcome.started.len(), outcome.queued), (0, 1));
    let taken = bench.take(super::bench::taker("b", 1, &["job"])).await;
    assert_eq!(taken.len(), 1);
    assert!(!taken[0].by_leader);
}

async fn a_full_leader_leaves_the_run_in_its_queue(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(rare("one")).await;
    bench.job(rare("two")).await;
    let claimant = Claimant { node: id("a"), epoch: Some(epoch), room: room(1, &["one", "two"]) };
    let plans = vec![bench.one_fire("one").await, bench.one_fire("two").await];
    let outcome = bench.store.claim(claimant, plans, BTreeSet::new(), HOUR_MS).await.unwrap();
    assert_eq!((outcome.started.len(), outcome.queued), (1, 1));
    // It stays with whoever leads.
    assert!(bench.take(super::bench::taker("b", 1, &["one", "two"])).await.is_empty());
    let mut leader = super::bench::taker("a", 1, &["one", "two"]);
    leader.epoch = Some(epoch);
    assert_eq!(bench.take(leader).await.len(), 1);
}

async fn a_batch_of_many_jobs_is_claimed_at_once(bench: Bench) {
    let epoch = bench.lead("a").await;
    let mut plans = Vec::new();
    for number in 0..200 {
        let job = format!("job{number}");
        let mut spec = rare(&job);
        spec.placement = if number % 2 == 0 { Placement::Any } else { Placement::Leader };
        bench.job(spec).await;
        plans.push(bench.one_fire(&job).await);
    }
    let outcome = bench.claim(epoch, plans).await;
    assert_eq!((outcome.started.len(), outcome.queued, outcome.stale_plans), (100, 100, 0));
}

async fn an_overdue_cursor_is_due_and_moves_on(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(seconds("tick")).await;
    let now_ms = bench.now().await;
    assert_eq!(bench.store.due_cursors("", now_ms - 60_000, 10).await.unwrap(), []);
    bench.sql(&format!("UPDATE us_job_cursor SET next_fire_ms = {}", now_ms - 10)).await;
    let due = bench.store.due_cursors("", now_ms, 10).await.unwrap();
    assert_eq!(due, [bench.cursor("tick", "").await]);
    assert_eq!(bench.store.next_due("").await.unwrap(), Some(now_ms - 10));
    assert_eq!(bench.store.next_due("b").await.unwrap(), None);
    let plan = bench.planned("tick").await.unwrap();
    bench.claim(epoch, vec![plan]).await;
    assert_eq!(bench.store.due_cursors("", now_ms, 10).await.unwrap(), []);
}

#[tokio::test]
async fn an_open_claim_makes_the_next_inauguration_wait() {
    let bench = Bench::postgres().await;
    let epoch = bench.lead("a").await;
    let claim = bench.store.database().connection().begin().await.unwrap();
    let executor = DatabaseExecutor::Transaction(&claim);
    let tx = Tx::new(&executor, bench.store.backend());
    assert!(epoch_is_ours(&tx, Some(epoch)).await.unwrap());
    let store = bench.store.clone();
    let next = tokio::spawn(async move { store.inaugurate(&node("b"), "next").await.unwrap() });
    bench.until_blocked().await;
    assert!(!next.is_finished());
    claim.commit().await.unwrap();
    assert!(next.await.unwrap() > epoch);
}

#[tokio::test]
async fn a_claim_waits_for_an_open_inauguration_and_then_writes_nothing() {
    let bench = Bench::postgres().await;
    let epoch = bench.lead("a").await;
    bench.job(rare("job")).await;
    let plan = bench.one_fire("job").await;
    let inauguration = bench.store.database().connection().begin().await.unwrap();
    let executor = DatabaseExecutor::Transaction(&inauguration);
    let tx = Tx::new(&executor, bench.store.backend());
    tx.execute("UPDATE us_leader_term SET epoch = epoch + 1", Vec::new()).await.unwrap();
    let store = bench.store.clone();
    let claimant = Claimant { node: id("a"), epoch: Some(epoch), room: room(1, &["job"]) };
    let claim = tokio::spawn(async move {
        store.claim(claimant, vec![plan], BTreeSet::new(), HOUR_MS).await.unwrap()
    });
    bench.until_blocked().await;
    inauguration.commit().await.unwrap();
    assert!(!claim.await.unwrap().epoch_ok);
    assert_eq!(bench.runs("job").await, []);
}

#[tokio::test]
async fn a_cursor_that_the_application_holds_keeps_no_other_job_waiting() {
    let bench = Bench::postgres().await;
    let epoch = bench.lead("a").await;
    bench.job(rare("held")).await;
    bench.job(rare("job")).await;
    let plans = vec![bench.one_fire("held").await, bench.one_fire("job").await];
    let open = bench.store.database().connection().begin().await.unwrap();
    let executor = DatabaseExecutor::Transaction(&open);
    let tx = Tx::new(&executor, bench.store.backend());
    let order = Order::new(name("held"), crate::run::Cause::Task);
    enqueue_in(&tx, order).await.unwrap();
    let outcome = bench.claim(epoch, plans.clone()).await;
    assert_eq!((outcome.started.len(), outcome.stale_plans), (1, 1));
    assert_eq!(outcome.started[0].definition.spec.name.as_str(), "job");
    open.rollback().await.unwrap();
    assert_eq!(bench.claim(epoch, plans).await.started.len(), 1);
}
