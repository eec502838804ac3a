//! Signs of life, cancelling, and giving up runs whose node is silent.

use std::collections::BTreeSet;

use super::super::*;
use super::bench::{Bench, id, parallel, rare, taker};
use super::on_both;
use crate::run::{RunId, RunState};
use crate::spec::OnOrphan;

on_both!(
    a_run_whose_node_is_silent_is_tried_again_and_dead_in_the_end,
    a_run_that_may_run_once_only_is_lost,
    a_sign_of_life_in_between_saves_a_run,
    an_old_leader_gives_up_nothing,
    a_run_that_was_told_to_end_is_not_given_to_another_node,
    a_run_that_nobody_can_start_is_dropped_after_its_grace,
    a_run_whose_labels_no_node_has_says_so_and_is_dropped_after_its_grace,
    a_run_of_a_removed_job_is_given_up_too,
    a_sign_of_life_tells_what_is_new,
    a_run_is_cancelled_wherever_it_stands,
    many_runs_of_a_silent_node_are_given_up_at_one_go,
    runs_that_wait_for_a_leader_without_their_handler_are_left_to_others,
);

const STALE_MS: i64 = 15_000;

async fn silence(bench: &Bench) {
    bench.sql("UPDATE us_job_run SET heartbeat_ms = heartbeat_ms - 20000").await;
}

async fn running(bench: &Bench, on_orphan: OnOrphan) -> TakenRun {
    let mut spec = parallel("job");
    spec.on_orphan = on_orphan;
    bench.job(spec).await;
    bench.task("job", None).await.unwrap();
    bench.take(taker("a", 1, &["job"])).await.remove(0)
}

async fn a_run_whose_node_is_silent_is_tried_again_and_dead_in_the_end(bench: Bench) {
    let epoch = bench.lead("a").await;
    let run = running(&bench, OnOrphan::Retry { max: 2 }).await;
    assert_eq!(bench.store.reap(epoch, STALE_MS, BTreeSet::new()).await.unwrap().retried, 0);
    for round in 1..=2 {
        silence(&bench).await;
        let reaped = bench.store.reap(epoch, STALE_MS, BTreeSet::new()).await.unwrap();
        assert_eq!((reaped.epoch_ok, reaped.retried), (true, 1));
        let row = bench.run(run.id).await;
        assert_eq!((row.state, row.attempt, row.orphaned), (RunState::Retrying, round + 1, round));
        assert_eq!(bench.end(&run, "a", RunState::Completed).await, Finished::Fenced);
        assert_eq!(bench.take(taker("b", 1, &["job"])).await.len(), 1);
    }
    silence(&bench).await;
    let reaped = bench.store.reap(epoch, STALE_MS, BTreeSet::new()).await.unwrap();
    assert_eq!((reaped.dead, reaped.retried), (1, 0));
    let row = bench.run(run.id).await;
    assert_eq!((row.state, row.orphaned), (RunState::Dead, 3));
    let attempts = bench.store.attempts(run.id).await.unwrap();
    let outcomes: Vec<_> = attempts.iter().map(|one| (one.attempt, one.outcome.as_str())).collect();
    assert_eq!(outcomes, [(1, "lost"), (2, "lost"), (3, "lost")]);
}

async fn a_run_that_may_run_once_only_is_lost(bench: Bench) {
    let epoch = bench.lead("a").await;
    let run = running(&bench, OnOrphan::Fail).await;
    silence(&bench).await;
    assert_eq!(bench.store.reap(epoch, STALE_MS, BTreeSet::new()).await.unwrap().lost, 1);
    assert_eq!(bench.run(run.id).await.state, RunState::Lost);
    assert_eq!(bench.store.reap(epoch, STALE_MS, BTreeSet::new()).await.unwrap().lost, 0);
}

async fn a_sign_of_life_in_between_saves_a_run(bench: Bench) {
    let epoch = bench.lead("a").await;
    let run = running(&bench, OnOrphan::Retry { max: 2 }).await;
    silence(&bench).await;
    let heard = bench.store.heartbeat(&id("a"), &[(run.id, run.attempt)]).await.unwrap();
    assert_eq!(heard.alive, [(run.id, 1, None)]);
    assert_eq!(bench.store.reap(epoch, STALE_MS, BTreeSet::new()).await.unwrap().retried, 0);
    assert_eq!(bench.run(run.id).await.state, RunState::Running);
}

async fn an_old_leader_gives_up_nothing(bench: Bench) {
    let old = bench.lead("a").await;
    let run = running(&bench, OnOrphan::Retry { max: 2 }).await;
    silence(&bench).await;
    bench.lead("b").await;
    assert!(
        !bench
            .store
            .reap(old, STALE_MS, BTreeSet::from([super::bench::need("job")]))
            .await
            .unwrap()
            .epoch_ok
    );
    assert_eq!(bench.run(run.id).await.state, RunState::Running);
}

async fn a_run_that_was_told_to_end_is_not_given_to_another_node(bench: Bench) {
    let epoch = bench.lead("a").await;
    let run = running(&bench, OnOrphan::Retry { max: 2 }).await;
    bench.store.cancel(run.id, "ann").await.unwrap();
    silence(&bench).await;
    let reaped = bench.store.reap(epoch, STALE_MS, BTreeSet::new()).await.unwrap();
    assert_eq!(reaped.retried, 0);
    assert_eq!(bench.run(run.id).await.state, RunState::Cancelled);
}

async fn a_run_that_nobody_can_start_is_dropped_after_its_grace(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(rare("job")).await;
    bench.job(rare("other")).await;
    let claimant = Claimant { node: id("a"), epoch: Some(epoch), room: super::bench::room(5, &[]) };
    let plans = vec![bench.one_fire("job").await, bench.one_fire("other").await];
    bench.store.claim(claimant, plans, BTreeSet::new(), 1_000).await.unwrap();
    assert_eq!(bench.store.waiting_needs().await.unwrap().len(), 2);
    let unhandled = || BTreeSet::from([super::bench::need("job")]);
    assert_eq!(bench.store.reap(epoch, STALE_MS, unhandled()).await.unwrap().expired, 0);
    bench.sql("UPDATE us_job_run SET expires_ms = expires_ms - 20000").await;
    assert_eq!(bench.store.reap(epoch, STALE_MS, BTreeSet::new()).await.unwrap().expired, 0);
    assert_eq!(bench.store.reap(epoch, STALE_MS, unhandled()).await.unwrap().expired, 1);
    assert_eq!(bench.runs("job").await[0].state, RunState::Skipped);
    assert_eq!(bench.runs("other").await[0].state, RunState::Queued);
}

async fn a_run_whose_labels_no_node_has_says_so_and_is_dropped_after_its_grace(bench: Bench) {
    let epoch = bench.lead("a").await;
    let mut spec = rare("job");
    spec.labels = [("zone".to_owned(), "b".to_owned())].into();
    let need = Need::of(&spec);
    bench.job(spec).await;
    let room = super::bench::room(5, &["job"]);
    assert!(room.handlers.contains("job") && !room.meets(&need), "it has the handler only");
    let claimant = Claimant { node: id("a"), epoch: Some(epoch), room };
    let plans = vec![bench.one_fire("job").await];
    let unmet = BTreeSet::from([need]);
    let outcome = bench.store.claim(claimant, plans, unmet.clone(), 1_000).await.unwrap();
    assert_eq!((outcome.queued, outcome.decided[&Outcome::NoHandler]), (1, 1));
    let around = (i64::MIN, i64::MAX);
    let told = bench.store.decisions(&super::bench::name("job"), around, 10).await.unwrap();
    assert!(told[0].reason.contains("zone=b"), "{told:?}");
    assert_eq!(
        bench.store.waiting_needs().await.unwrap(),
        unmet.iter().cloned().collect::<Vec<_>>()
    );
    bench.sql("UPDATE us_job_run SET expires_ms = 1").await;
    let others = BTreeSet::from([super::bench::need("job")]);
    assert_eq!(bench.store.reap(epoch, STALE_MS, others).await.unwrap().expired, 0);
    assert_eq!(bench.store.reap(epoch, STALE_MS, unmet).await.unwrap().expired, 1);
    assert_eq!(bench.runs("job").await[0].state, RunState::Skipped);
}

async fn a_run_of_a_removed_job_is_given_up_too(bench: Bench) {
    let epoch = bench.lead("a").await;
    let run = running(&bench, OnOrphan::Retry { max: 2 }).await;
    bench.store.remove(&super::bench::name("job"), "ann").await.unwrap();
    silence(&bench).await;
    assert_eq!(bench.store.reap(epoch, STALE_MS, BTreeSet::new()).await.unwrap().lost, 1);
    assert_eq!(bench.run(run.id).await.state, RunState::Lost);
}

async fn a_sign_of_life_tells_what_is_new(bench: Bench) {
    bench.job(parallel("job")).await;
    for _ in 0..4 {
        bench.task("job", None).await.unwrap();
    }
    let runs = bench.take(taker("a", 4, &["job"])).await;
    assert_eq!(runs.len(), 4);
    bench.store.cancel(runs[0].id, "ann").await.unwrap();
    bench.end(&runs[1], "a", RunState::Completed).await;
    // The third is known under an attempt that is over, the fourth not at all.
    bench.sql(&format!("UPDATE us_job_run SET attempt = 2 WHERE id = {}", runs[2].id)).await;
    let known: Vec<_> = runs[..3].iter().map(|run| (run.id, run.attempt)).collect();
    let heard = bench.store.heartbeat(&id("a"), &known).await.unwrap();
    assert_eq!(heard.alive, [(runs[0].id, 1, Some("ann".to_owned()))]);
    let mut unknown: Vec<_> = heard.unknown.iter().map(|run| (run.id, run.attempt)).collect();
    unknown.sort_unstable();
    assert_eq!(unknown, [(runs[2].id, 2), (runs[3].id, 1)]);
    let other = bench.store.heartbeat(&id("b"), &known).await.unwrap();
    assert_eq!((other.alive.len(), other.unknown.len()), (0, 0));
    assert_eq!(bench.store.heartbeat(&id("a"), &[]).await.unwrap().unknown.len(), 3);
}

async fn a_run_is_cancelled_wherever_it_stands(bench: Bench) {
    bench.job(parallel("job")).await;
    let waiting = bench.task("job", None).await.unwrap().run;
    assert_eq!(bench.store.cancel(waiting, "ann").await.unwrap(), Cancelled::Waiting);
    let row = bench.run(waiting).await;
    assert_eq!((row.state, row.cancel_by.as_deref()), (RunState::Cancelled, Some("ann")));
    assert!(row.finished_ms.is_some());
    bench.task("job", None).await.unwrap();
    let run = bench.take(taker("a", 1, &["job"])).await.remove(0);
    for by in ["bob", "ann"] {
        let told = bench.store.cancel(run.id, by).await.unwrap();
        assert_eq!(told, Cancelled::Running(Some(id("a"))));
    }
    assert_eq!(bench.run(run.id).await.cancel_by.as_deref(), Some("bob"));
    bench.end(&run, "a", RunState::Cancelled).await;
    let ended = bench.store.cancel(run.id, "ann").await.unwrap();
    assert_eq!(ended, Cancelled::Ended("cancelled".to_owned()));
    assert_eq!(bench.store.cancel(RunId(77), "ann").await.unwrap(), Cancelled::Unknown);
}

async fn many_runs_of_a_silent_node_are_given_up_at_one_go(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(parallel("job")).await;
    for _ in 0..60 {
        bench.task("job", None).await.unwrap();
    }
    assert_eq!(bench.take(taker("a", 60, &["job"])).await.len(), 60);
    silence(&bench).await;
    let reaped = bench.store.reap(epoch, STALE_MS, BTreeSet::new()).await.unwrap();
    assert_eq!((reaped.epoch_ok, reaped.retried), (true, 60));
    let again = bench.take(taker("b", 60, &["job"])).await;
    // What was lost does not count as a failure.
    assert!(again.len() == 60 && again.iter().all(|run| run.attempt == 2 && run.failed == 0));
}

async fn runs_that_wait_for_a_leader_without_their_handler_are_left_to_others(bench: Bench) {
    let epoch = bench.lead("a").await;
    for job in ["known", "unknown", "labelled"] {
        let mut spec = rare(job);
        if job == "labelled" {
            spec.labels = [("disk".to_owned(), "ssd".to_owned())].into();
        }
        bench.job(spec).await;
    }
    for job in ["known", "unknown"] {
        let claimant =
            Claimant { node: id("a"), epoch: Some(epoch), room: super::bench::room(0, &[job]) };
        let plans = vec![bench.one_fire(job).await];
        bench.store.claim(claimant, plans, BTreeSet::new(), 1_000).await.unwrap();
    }
    let mut leader = SchedulerNode {
        node: id("a"),
        seen_ms: 0,
        handlers: ["known".to_owned(), "labelled".to_owned()].into(),
        definitions: [].into(),
        labels: [("disk".to_owned(), "ssd".to_owned())].into(),
        tzdb: String::new(),
        takes_jobs: true,
        offset_ms: 0,
    };
    assert_eq!(bench.store.leave_to_others(epoch - 1, &leader).await.unwrap(), 0);
    assert_eq!(bench.store.leave_to_others(epoch, &leader).await.unwrap(), 1);
    assert_eq!(bench.runs("known").await[0].placement, "leader");
    assert_eq!(bench.runs("unknown").await[0].placement, "any");
    let mut claimant =
        Claimant { node: id("a"), epoch: Some(epoch), room: super::bench::room(0, &["labelled"]) };
    claimant.room.labels = Arc::new(leader.labels.clone());
    let plans = vec![bench.one_fire("labelled").await];
    bench.store.claim(claimant, plans, BTreeSet::new(), 1_000).await.unwrap();
    assert_eq!(bench.store.leave_to_others(epoch, &leader).await.unwrap(), 0);
    leader.labels.clear();
    assert_eq!(bench.store.leave_to_others(epoch, &leader).await.unwrap(), 1);
    assert_eq!(bench.runs("labelled").await[0].placement, "any");
}
