//! Runs that somebody asks for.

use futures_util::FutureExt as _;
use serde_json::json;

use super::super::*;
use super::bench::{Bench, fire_at, name, parallel, rare, seconds, taker};
use super::on_both;
use crate::run::{Cause, RunState};
use crate::spec::{Overlap, Placement};

on_both!(
    a_task_is_there_if_and_only_if_the_transaction_around_it_commits,
    the_same_key_gives_the_same_run,
    one_key_from_many_at_once_gives_one_run,
    a_job_that_must_not_overlap_is_busy,
    parameters_are_held_against_the_schema,
    wrong_orders_are_refused,
    past_due_times_are_filled_in_once,
    fences_never_go_backwards_between_due_and_ordered_runs,
    what_goes_wrong_is_told_in_a_transaction_and_to_clients,
);

async fn a_task_is_there_if_and_only_if_the_transaction_around_it_commits(bench: Bench) {
    bench.job(parallel("job")).await;
    for fails in [true, false] {
        let result = bench
            .store
            .transaction(fails, |tx, fails| {
                async move {
                    let order = Order::new("job".parse().unwrap(), Cause::Task);
                    let done = enqueue_in(tx, order).await;
                    assert!(done.is_ok(), "{done:?}");
                    if *fails { Err(DbErr::Custom("of the caller".into())) } else { Ok(()) }
                }
                .boxed()
            })
            .await;
        assert_eq!(result.is_err(), fails);
        assert_eq!(bench.count("us_job_run").await, i64::from(!fails));
    }
}

async fn the_same_key_gives_the_same_run(bench: Bench) {
    bench.job(parallel("job")).await;
    bench.job(parallel("other")).await;
    let first = bench.task("job", Some("k")).await.unwrap();
    assert!(first.new && first.state == RunState::Queued);
    let again = bench.task("job", Some("k")).await.unwrap();
    assert_eq!(again, Enqueued { run: first.run, new: false, state: RunState::Queued });
    assert_ne!(bench.task("other", Some("k")).await.unwrap().run, first.run);
    assert!(bench.task("job", None).await.unwrap().new);
    let taken = bench.take(taker("a", 1, &["job"])).await.remove(0);
    bench.end(&taken, "a", RunState::Completed).await;
    let ended = bench.task("job", Some("k")).await.unwrap();
    assert_eq!((ended.new, ended.state), (false, RunState::Completed));
}

async fn one_key_from_many_at_once_gives_one_run(bench: Bench) {
    let mut careful = parallel("careful");
    careful.overlap = Overlap::Skip;
    bench.job(careful).await;
    bench.job(parallel("job")).await;
    for job in ["job", "careful"] {
        let asked = (0..8).map(|_| bench.task(job, Some("now")));
        let got = futures_util::future::join_all(asked).await;
        let new = got.iter().filter(|one| one.as_ref().unwrap().new).count();
        assert_eq!(new, 1, "{job}: {got:?}");
        assert_eq!(bench.runs(job).await.len(), 1);
    }
}

async fn a_job_that_must_not_overlap_is_busy(bench: Bench) {
    bench.job(rare("job")).await;
    let run = bench.task("job", None).await.unwrap().run;
    for _ in 0..2 {
        let error = bench.task("job", None).await.unwrap_err();
        assert!(matches!(error, EnqueueError::Busy(busy) if busy == run), "{error:?}");
        bench.take(taker("a", 1, &["job"])).await;
    }
    let mut one = rare("one");
    one.overlap = Overlap::QueueOne;
    bench.job(one).await;
    bench.task("one", None).await.unwrap();
    bench.task("one", None).await.unwrap_err();
    assert_eq!(bench.take(taker("a", 1, &["one"])).await.len(), 1);
    bench.task("one", None).await.unwrap();
    bench.task("one", None).await.unwrap_err();
}

async fn parameters_are_held_against_the_schema(bench: Bench) {
    let mut spec = parallel("job");
    spec.params_schema = Some(json!({ "type": "object", "required": ["day"] }));
    spec.params = json!({ "day": 0 });
    bench.job(spec).await;
    let order = |params| Order { params: Some(params), ..Order::new(name("job"), Cause::Manual) };
    let error = bench.store.enqueue(order(json!({ "night": 1 }))).await.unwrap_err();
    assert!(matches!(error, EnqueueError::Params(_)), "{error:?}");
    let good = json!({ "day": "weird \"\u{0}\\ é" });
    let run = bench.store.enqueue(order(good.clone())).await.unwrap().run;
    assert_eq!(bench.run(run).await.params, Some(good.clone()));
    assert_eq!(bench.take(taker("a", 1, &["job"])).await[0].params, Some(good));
}

async fn wrong_orders_are_refused(bench: Bench) {
    let mut every = seconds("every");
    every.placement = Placement::Every;
    bench.job(every).await;
    assert!(matches!(bench.task("every", None).await, Err(EnqueueError::RunsEverywhere)));
    assert!(matches!(bench.task("none", None).await, Err(EnqueueError::UnknownJob)));
    for key in ["", "a b", &"x".repeat(201)] {
        assert!(matches!(bench.task("every", Some(key)).await, Err(EnqueueError::Key)));
    }
}

async fn past_due_times_are_filled_in_once(bench: Bench) {
    let epoch = bench.lead("a").await;
    let mut spec = seconds("job");
    spec.overlap = Overlap::Allow { max: 10 };
    let definition = bench.job(spec).await;
    let cursor = bench.cursor("job", "").await;
    let mut plan = fire_at(&cursor, cursor.last_ms + 1);
    plan.starts[0].key = "every:2".to_owned();
    bench.claim(epoch, vec![(plan, Arc::clone(&definition))]).await;
    let fires = || (1..=3).map(|k| (k * 1_000, format!("every:{k}"))).collect::<Vec<_>>();
    let spec = &definition.spec;
    assert_eq!(bench.store.backfill(spec, fires(), None).await.unwrap(), 2);
    assert_eq!(bench.store.backfill(spec, fires(), None).await.unwrap(), 0);
    assert_eq!(bench.store.backfill(spec, fires(), Some("x")).await.unwrap(), 3);
    assert_eq!(bench.store.backfill(spec, fires(), Some("x")).await.unwrap(), 0);
    assert_eq!(bench.store.backfill(spec, Vec::new(), None).await.unwrap(), 0);
    assert_eq!(bench.runs("job").await.len(), 6);
}

async fn fences_never_go_backwards_between_due_and_ordered_runs(bench: Bench) {
    let mut spec = rare("job");
    spec.overlap = Overlap::Allow { max: 10 };
    spec.then = vec![name("next")];
    bench.job(spec).await;
    bench.job(parallel("next")).await;
    bench.task("job", None).await.unwrap();
    let mut fences = vec![bench.take(taker("a", 1, &["job"])).await.remove(0).fence()];
    assert_eq!(fences[0].epoch, 0);
    for on in ["a", "b"] {
        let epoch = bench.lead(on).await;
        fences.push(bench.fire(epoch, "job").await.started.remove(0).fence());
        bench.task("job", None).await.unwrap();
        let run = bench.take(taker("a", 1, &["job"])).await.remove(0);
        fences.push(run.fence());
        bench.end(&run, "a", RunState::Completed).await;
        fences.push(bench.take(taker("a", 1, &["next"])).await.remove(0).fence());
        assert_eq!(fences[fences.len() - 1].epoch, epoch);
    }
    assert!(fences.is_sorted(), "{fences:?}");
}

async fn what_goes_wrong_is_told_in_a_transaction_and_to_clients(bench: Bench) {
    use actix_web::ResponseError as _;
    bench.job(rare("job")).await;
    bench.task("job", None).await.unwrap();
    let busy = bench.task("job", None).await.unwrap_err();
    assert_eq!(busy.status_code().as_u16(), 409);
    let text = busy.to_string();
    assert!(DbErr::from(busy).to_string().contains(&text));
    assert_eq!(bench.task("none", None).await.unwrap_err().status_code().as_u16(), 404);
}
