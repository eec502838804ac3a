//! What happens when a run is due while an earlier one has not ended.

use super::super::*;
use super::bench::{Bench, rare, taker};
use super::on_both;
use crate::run::RunState;
use crate::spec::Overlap;

on_both!(
    skip_starts_nothing_while_a_run_goes_on,
    queue_one_lets_one_wait,
    queue_all_lets_all_wait_and_they_run_one_after_the_other,
    cancel_previous_tells_the_running_one_and_drops_the_waiting_one,
    allow_starts_up_to_its_number,
    due_times_that_are_caught_up_queue_behind_each_other,
);

async fn with(bench: &Bench, overlap: Overlap) -> u64 {
    let mut spec = rare("job");
    spec.overlap = overlap;
    bench.job(spec).await;
    bench.lead("a").await
}

/// The states of the runs, the oldest first.
async fn states(bench: &Bench) -> Vec<RunState> {
    let mut runs = bench.runs("job").await;
    runs.reverse();
    runs.into_iter().map(|run| run.state).collect()
}

async fn skip_starts_nothing_while_a_run_goes_on(bench: Bench) {
    let epoch = with(&bench, Overlap::Skip).await;
    let first = bench.fire(epoch, "job").await;
    let second = bench.fire(epoch, "job").await;
    assert_eq!(second.decided.get(&Outcome::SkippedOverlap), Some(&1));
    assert_eq!(bench.outcomes("job").await, ["skipped_overlap"]);
    bench.end(&first.started[0], "a", RunState::Completed).await;
    assert_eq!(bench.fire(epoch, "job").await.started.len(), 1);
    assert_eq!(states(&bench).await, [RunState::Completed, RunState::Running]);
}

async fn queue_one_lets_one_wait(bench: Bench) {
    let epoch = with(&bench, Overlap::QueueOne).await;
    for _ in 0..4 {
        bench.fire(epoch, "job").await;
    }
    assert_eq!(states(&bench).await, [RunState::Running, RunState::Queued]);
    assert_eq!(bench.outcomes("job").await, ["skipped_overlap"; 2]);
}

async fn queue_all_lets_all_wait_and_they_run_one_after_the_other(bench: Bench) {
    let epoch = with(&bench, Overlap::QueueAll).await;
    let mut running = bench.fire(epoch, "job").await.started;
    bench.fire(epoch, "job").await;
    bench.fire(epoch, "job").await;
    let mut leader = taker("a", 10, &["job"]);
    leader.epoch = Some(epoch);
    for _ in 0..2 {
        assert!(bench.take(leader.clone()).await.is_empty());
        bench.end(&running[0], "a", RunState::Completed).await;
        let next = bench.take(leader.clone()).await;
        assert_eq!(next.len(), 1);
        assert!(next[0].fire_ms > running[0].fire_ms);
        running = next;
    }
    assert_eq!(bench.outcomes("job").await, [""; 0]);
}

async fn cancel_previous_tells_the_running_one_and_drops_the_waiting_one(bench: Bench) {
    let epoch = with(&bench, Overlap::CancelPrevious).await;
    let first = bench.fire(epoch, "job").await.started.remove(0);
    let second = bench.fire(epoch, "job").await;
    assert_eq!(second.cancelled, [(first.id, super::bench::id("a"))]);
    let asked = bench.run(first.id).await;
    assert_eq!((asked.state, asked.cancel_by.as_deref()), (RunState::Running, Some("overlap")));
    assert_eq!(bench.fire(epoch, "job").await.cancelled, []);
    assert_eq!(states(&bench).await, [RunState::Running, RunState::Cancelled, RunState::Queued]);
    bench.end(&first, "a", RunState::Cancelled).await;
    let mut leader = taker("a", 10, &["job"]);
    leader.epoch = Some(epoch);
    assert_eq!(bench.take(leader).await.len(), 1);
}

async fn allow_starts_up_to_its_number(bench: Bench) {
    let epoch = with(&bench, Overlap::Allow { max: 2 }).await;
    for _ in 0..3 {
        bench.fire(epoch, "job").await;
    }
    assert_eq!(states(&bench).await, [RunState::Running; 2]);
    assert_eq!(bench.outcomes("job").await, ["skipped_overlap"]);
}

async fn due_times_that_are_caught_up_queue_behind_each_other(bench: Bench) {
    let epoch = with(&bench, Overlap::Skip).await;
    let (mut plan, definition) = bench.one_fire("job").await;
    let first = plan.starts[0].clone();
    plan.starts = (0..3)
        .map(|number| Start {
            fire_ms: first.fire_ms + number,
            key: format!("caught:{number}"),
            caught_up: true,
        })
        .collect();
    plan.last_ms += 2;
    let outcome = bench.claim(epoch, vec![(plan, definition)]).await;
    assert_eq!((outcome.started.len(), outcome.queued), (1, 2));
    // One that is in time is no more than the policy allows.
    bench.fire(epoch, "job").await;
    assert_eq!(bench.outcomes("job").await, ["skipped_overlap"]);
    assert_eq!(bench.runs("job").await.len(), 3);
}
