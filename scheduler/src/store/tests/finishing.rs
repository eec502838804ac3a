//! The end of an attempt, what it is fenced by, and what depends on it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt as _;
use sea_orm::TransactionTrait as _;
use understudy_runtime::trace::TraceContext;

use super::super::*;
use super::bench::{Bench, id, name, parallel, rare, taker};
use super::on_both;
use crate::run::{Cause, RunState};
use crate::spec::{JobSpec, OnFailure, OnOrphan, Placement, Schedule};

on_both!(
    the_end_is_noted_once_and_only_from_the_node_and_attempt_that_has_the_run,
    a_failed_attempt_is_tried_again_after_its_pause,
    a_run_that_is_handed_back_keeps_its_number,
    a_run_that_was_told_to_end_is_not_tried_again,
    a_chain_goes_on_when_a_run_succeeds,
    the_trace_of_whoever_asks_is_kept_by_all_attempts_and_by_the_chain,
    the_rest_of_a_chain_is_skipped_or_goes_on_when_a_run_fails,
    a_run_ends_although_what_depends_on_it_cannot_be_read_here,
    a_job_that_waits_for_its_run_is_due_again_however_the_run_ends,
    a_job_whose_schedule_was_edited_while_it_ran_is_not_due_by_the_old_one,
    a_job_without_a_pause_is_due_later_than_the_run_that_ended,
    the_end_is_in_the_transaction_of_the_handler_or_not_at_all,
);

async fn running(bench: &Bench, job: &str) -> TakenRun {
    bench.task(job, None).await.unwrap();
    bench.take(taker("a", 1, &[job])).await.remove(0)
}

async fn again(bench: &Bench, run: &TakenRun, outcome: &'static str, uncounted: bool) -> Finished {
    let error = Some("it broke".to_owned());
    let ending = Ending::Again { after_ms: 5_000, outcome, error, uncounted };
    bench.store.finish(run, &id("a"), ending, None).await.unwrap()
}

async fn the_end_is_noted_once_and_only_from_the_node_and_attempt_that_has_the_run(bench: Bench) {
    bench.job(parallel("job")).await;
    let run = running(&bench, "job").await;
    assert_eq!(bench.end(&run, "b", RunState::Completed).await, Finished::Fenced);
    let mut other = run.clone();
    other.attempt = 2;
    assert_eq!(bench.end(&other, "a", RunState::Completed).await, Finished::Fenced);
    assert_eq!(again(&bench, &other, "failed", false).await, Finished::Fenced);
    assert_eq!(bench.run(run.id).await.state, RunState::Running);
    let ending = Ending::Final {
        state: RunState::Completed,
        result: Some(serde_json::json!({ "rows": 3 })),
        error: None,
    };
    let done = bench.store.finish(&run, &id("a"), ending, Some("{}".to_owned())).await.unwrap();
    assert_eq!(done, Finished::Done);
    let row = bench.run(run.id).await;
    assert_eq!(
        (row.state, row.result),
        (RunState::Completed, Some(serde_json::json!({ "rows": 3 })))
    );
    assert!(row.finished_ms.is_some() && row.progress.is_some());
    assert_eq!(bench.end(&run, "a", RunState::Failed).await, Finished::Fenced);
    assert_eq!(bench.run(run.id).await.state, RunState::Completed);
}

async fn a_failed_attempt_is_tried_again_after_its_pause(bench: Bench) {
    bench.job(parallel("job")).await;
    let run = running(&bench, "job").await;
    let before = bench.now().await;
    assert_eq!(again(&bench, &run, "failed", false).await, Finished::Done);
    let after = bench.now().await;
    let row = bench.run(run.id).await;
    assert_eq!((row.state, row.attempt, row.node), (RunState::Retrying, 2, None));
    assert!((before + 5_000..=after + 5_000).contains(&row.not_before_ms));
    let attempts = bench.store.attempts(run.id).await.unwrap();
    assert_eq!(attempts.len(), 1);
    let one = &attempts[0];
    assert_eq!((one.attempt, one.outcome.as_str(), one.node.clone()), (1, "failed", Some(id("a"))));
    assert_eq!((one.error.as_deref(), one.started_ms), (Some("it broke"), Some(run.started_ms)));
    assert!(bench.take(taker("b", 1, &["job"])).await.is_empty());
    bench.sql("UPDATE us_job_run SET not_before_ms = 1").await;
    let second = bench.take(taker("b", 1, &["job"])).await.remove(0);
    assert_eq!((second.id, second.attempt), (run.id, 2));
    assert!(second.fence() > run.fence());
    assert_eq!((run.failed, second.failed), (0, 1));
    assert_eq!(bench.end(&run, "a", RunState::Completed).await, Finished::Fenced);
    assert_eq!(bench.end(&second, "b", RunState::Completed).await, Finished::Done);
}

async fn a_run_that_is_handed_back_keeps_its_number(bench: Bench) {
    bench.job(parallel("job")).await;
    let run = running(&bench, "job").await;
    assert_eq!(again(&bench, &run, "handed_back", true).await, Finished::Done);
    let row = bench.run(run.id).await;
    assert_eq!((row.state, row.attempt), (RunState::Queued, 1));
    assert_eq!(bench.store.attempts(run.id).await.unwrap(), []);
}

async fn a_run_that_was_told_to_end_is_not_tried_again(bench: Bench) {
    bench.job(parallel("job")).await;
    let run = running(&bench, "job").await;
    bench.store.cancel(run.id, "ann").await.unwrap();
    assert_eq!(again(&bench, &run, "failed", false).await, Finished::Done);
    let row = bench.run(run.id).await;
    assert_eq!((row.state, row.attempt), (RunState::Cancelled, 1));
    assert!(row.error.unwrap().contains("ann"));
}

fn chain(job: &str, then: &[&str], on_failure: OnFailure) -> JobSpec {
    let mut spec = parallel(job);
    spec.then = then.iter().map(|job| name(job)).collect();
    spec.on_failure = on_failure;
    spec
}

async fn the_trace_of_whoever_asks_is_kept_by_all_attempts_and_by_the_chain(bench: Bench) {
    bench.job(parallel("next")).await;
    bench.job(chain("job", &["next"], OnFailure::Skip)).await;
    let trace = Some(TraceContext { sampled: true, ..TraceContext::random() });
    let order = Order { trace, ..Order::new(name("job"), Cause::Task) };
    bench.store.enqueue(order).await.unwrap();
    let take = async |job| bench.take(taker("a", 1, &[job])).await.remove(0);
    let run = take("job").await;
    assert_eq!(run.trace, trace);
    again(&bench, &run, "failed", false).await;
    bench.sql("UPDATE us_job_run SET not_before_ms = 1").await;
    let second = take("job").await;
    assert_eq!((second.attempt, second.trace), (2, trace));
    bench.end(&second, "a", RunState::Completed).await;
    assert_eq!(take("next").await.trace, trace);
    assert_eq!(running(&bench, "next").await.trace, None, "nobody asked within a trace");
}

async fn a_chain_goes_on_when_a_run_succeeds(bench: Bench) {
    // The chain of the job in the middle is not that of the first.
    bench.job(chain("one", &["two", "gone", "three"], OnFailure::Skip)).await;
    bench.job(chain("two", &["one"], OnFailure::Skip)).await;
    bench.job(parallel("three")).await;
    let first = running(&bench, "one").await;
    let mut run = first.clone();
    for job in ["two", "three"] {
        assert_eq!(bench.runs(job).await, []);
        bench.end(&run, "a", RunState::Completed).await;
        run = bench.take(taker("a", 5, &[job])).await.remove(0);
        assert!(run.fire_key.starts_with(&format!("chain:{}:", first.id)), "{}", run.fire_key);
        assert_eq!(bench.run(run.id).await.cause, "chain");
    }
    bench.end(&run, "a", RunState::Completed).await;
    assert_eq!(bench.count("us_job_run WHERE state = 'completed'").await, 3);
    assert_eq!(bench.count("us_job_run").await, 3);
}

async fn the_rest_of_a_chain_is_skipped_or_goes_on_when_a_run_fails(bench: Bench) {
    bench.job(chain("strict", &["two", "three"], OnFailure::Skip)).await;
    bench.job(chain("lax", &["two", "three"], OnFailure::Continue)).await;
    bench.job(parallel("two")).await;
    bench.job(parallel("three")).await;
    let run = running(&bench, "strict").await;
    bench.end(&run, "a", RunState::Failed).await;
    for job in ["two", "three"] {
        let rows = bench.runs(job).await;
        assert_eq!((rows.len(), rows[0].state), (1, RunState::Skipped));
        assert!(
            rows[0].finished_ms.is_some() && rows[0].error.as_ref().unwrap().contains("strict")
        );
    }
    let mut run = running(&bench, "lax").await;
    for job in ["two", "three"] {
        bench.end(&run, "a", RunState::Failed).await;
        run = bench.take(taker("a", 5, &[job])).await.remove(0);
    }
    // One that is cancelled before it starts has a rest too.
    bench.task("strict", None).await.unwrap();
    let waiting = bench.runs("strict").await[0].id;
    assert_eq!(bench.store.cancel(waiting, "ann").await.unwrap(), Cancelled::Waiting);
    assert_eq!(bench.count("us_job_run WHERE state = 'skipped'").await, 4);
}

/// Lets a job that is due after its run be due now, and its run begin or wait.
async fn due_after(bench: &Bench, epoch: u64) -> Option<TakenRun> {
    let sql = "UPDATE us_job_cursor SET next_fire_ms = last_fire_ms + 1 WHERE job = 'job'";
    bench.sql(sql).await;
    let plan = bench.planned("job").await.unwrap();
    let outcome = bench.claim(epoch, vec![plan]).await;
    assert_eq!(bench.cursor("job", "").await.next_ms, None);
    outcome.started.into_iter().next()
}

async fn a_job_that_waits_for_its_run_is_due_again_however_the_run_ends(bench: Bench) {
    let epoch = bench.lead("a").await;
    let delay = Duration::from_secs(60);
    let mut spec = JobSpec::new(name("job"), Schedule::After { delay });
    spec.on_orphan = OnOrphan::Fail;
    bench.job(spec.clone()).await;
    let next = async || bench.cursor("job", "").await.next_ms;
    let run = due_after(&bench, epoch).await.unwrap();
    bench.end(&run, "a", RunState::Completed).await;
    assert!(next().await.unwrap() > bench.now().await + 50_000);
    // Its node is lost.
    due_after(&bench, epoch).await.unwrap();
    bench.sql("UPDATE us_job_run SET heartbeat_ms = 1 WHERE state = 'running'").await;
    assert_eq!(bench.store.reap(epoch, 1_000, BTreeSet::new()).await.unwrap().lost, 1);
    assert!(next().await.is_some());
    // It is cancelled while it waits.
    spec.placement = Placement::Any;
    bench.job(spec).await;
    assert!(due_after(&bench, epoch).await.is_none());
    let waiting = bench.runs("job").await[0].id;
    bench.store.cancel(waiting, "ann").await.unwrap();
    assert!(next().await.is_some());
    // Nobody can run it.
    due_after(&bench, epoch).await;
    bench.sql("UPDATE us_job_run SET expires_ms = 1").await;
    assert_eq!(
        bench
            .store
            .reap(epoch, 1_000, BTreeSet::from([super::bench::need("job")]))
            .await
            .unwrap()
            .expired,
        1
    );
    assert!(next().await.is_some());
    // A run that is skipped, because another goes on, does not end the waiting either.
    bench.task("job", None).await.unwrap();
    let now_ms = bench.now().await;
    bench.sql(&format!("UPDATE us_job_cursor SET next_fire_ms = {now_ms}")).await;
    let plan = bench.planned("job").await.unwrap();
    bench.claim(epoch, vec![plan]).await;
    assert_eq!(bench.outcomes("job").await, ["skipped_overlap"]);
    assert!(next().await.is_some());
}

async fn a_job_whose_schedule_was_edited_while_it_ran_is_not_due_by_the_old_one(bench: Bench) {
    let epoch = bench.lead("a").await;
    let delay = Duration::from_secs(60);
    bench.job(JobSpec::new(name("job"), Schedule::After { delay })).await;
    let run = due_after(&bench, epoch).await.unwrap();
    bench
        .store
        .define(JobSpec::new(name("job"), Schedule::Manual), Origin::Api, "ann", None)
        .await
        .unwrap();
    bench.end(&run, "a", RunState::Completed).await;
    assert_eq!(bench.cursor("job", "").await.next_ms, None);
}

async fn a_job_without_a_pause_is_due_later_than_the_run_that_ended(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(JobSpec::new(name("job"), Schedule::After { delay: Duration::ZERO })).await;
    let run = due_after(&bench, epoch).await.unwrap();
    // As when the run was claimed a moment before its time.
    let later_ms = bench.now().await + 60_000;
    bench.sql(&format!("UPDATE us_job_cursor SET last_fire_ms = {later_ms}")).await;
    bench.end(&run, "a", RunState::Completed).await;
    assert_eq!(bench.cursor("job", "").await.next_ms, Some(later_ms + 1));
}

async fn the_end_is_in_the_transaction_of_the_handler_or_not_at_all(bench: Bench) {
    bench.job(parallel("job")).await;
    let run = running(&bench, "job").await;
    for fails in [true, false] {
        let input = (run.clone(), fails);
        let result = bench
            .store
            .transaction(input, |tx, input| {
                async move {
                    let (run, fails) = &*input;
                    assert!(!guard(tx, run, &id("b")).await?);
                    assert!(guard(tx, run, &id("a")).await?);
                    let ending =
                        Ending::Final { state: RunState::Completed, result: None, error: None };
                    finish_in(tx, run, &id("a"), (&ending, None)).await?;
                    if *fails { Err(DbErr::Custom("of the handler".into())) } else { Ok(()) }
                }
                .boxed()
            })
            .await;
        assert_eq!(result.is_err(), fails);
        let state = if fails { RunState::Running } else { RunState::Completed };
        assert_eq!(bench.run(run.id).await.state, state);
    }
}

#[tokio::test]
async fn a_run_whose_handler_guards_its_writes_lives_and_holds_nobody_up() {
    let bench = Bench::postgres().await;
    let epoch = bench.lead("a").await;
    bench.job(rare("job")).await;
    let run = bench.fire(epoch, "job").await.started.remove(0);
    bench.job(rare("other")).await;
    let other = bench.fire(epoch, "other").await.started.remove(0);
    bench.sql("UPDATE us_job_run SET heartbeat_ms = 1").await;
    let open = bench.store.database().connection().begin().await.unwrap();
    let executor = DatabaseExecutor::Transaction(&open);
    let tx = Tx::new(&executor, bench.store.backend());
    assert!(guard(&tx, &run, &id("a")).await.unwrap());
    let reaped = bench.store.reap(epoch, 1_000, BTreeSet::new()).await.unwrap();
    assert_eq!((reaped.epoch_ok, reaped.retried), (true, 1));
    assert_eq!(bench.run(run.id).await.state, RunState::Running);
    assert_eq!(bench.run(other.id).await.state, RunState::Retrying);
    let known = [(run.id, run.attempt), (other.id, other.attempt)];
    let heard = bench.store.heartbeat(&id("a"), &known).await.unwrap();
    assert_eq!(heard.alive, [(run.id, 1, None)]);
    assert_eq!(bench.run(run.id).await.heartbeat_ms, Some(1));
    let ending = Ending::Final { state: RunState::Completed, result: None, error: None };
    finish_in(&tx, &run, &id("a"), (&ending, None)).await.unwrap();
    open.commit().await.unwrap();
    assert_eq!(bench.run(run.id).await.state, RunState::Completed);
}

/// Makes a definition one of a newer program.
async fn renew(bench: &Bench, job: &str) {
    let sql = format!(
        "UPDATE us_job SET spec = replace(spec, '\"handler\"', '\"more\":1,\"handler\"'), revision = revision + 1 \
         WHERE name = '{job}'"
    );
    assert_eq!(bench.sql(&sql).await, 1);
    assert!(bench.store.definition(&name(job)).await.unwrap().is_none());
}

async fn a_run_ends_although_what_depends_on_it_cannot_be_read_here(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(chain("one", &["newer", "two"], OnFailure::Skip)).await;
    bench.job(parallel("newer")).await;
    bench.job(parallel("two")).await;
    let (good, bad) = (running(&bench, "one").await, running(&bench, "one").await);
    renew(&bench, "newer").await;
    assert_eq!(bench.end(&good, "a", RunState::Completed).await, Finished::Done);
    assert_eq!(bench.end(&bad, "a", RunState::Failed).await, Finished::Done);
    assert_eq!(bench.runs("newer").await, []);
    let states: Vec<_> = bench.runs("two").await.iter().map(|run| run.state).collect();
    assert_eq!(states, [RunState::Skipped, RunState::Queued]);
    let delay = Duration::from_secs(3_600);
    bench.job(JobSpec::new(name("job"), Schedule::After { delay })).await;
    let run = due_after(&bench, epoch).await.unwrap();
    renew(&bench, "job").await;
    assert_eq!(bench.end(&run, "a", RunState::Completed).await, Finished::Done);
    assert!(bench.cursor("job", "").await.next_ms.unwrap() > bench.now().await + 3_000_000);
}
