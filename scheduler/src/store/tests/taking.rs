//! Taking runs from the queue: never more of them at once than are allowed, whoever takes.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::FutureExt as _;

use super::super::*;
use super::bench::{Bench, HOUR_MS, fire_at, id, name, parallel, rare, room, seconds, taker};
use super::on_both;
use crate::run::RunState;
use crate::spec::{Overlap, Placement};

on_both!(
    eight_takers_never_run_an_exclusive_job_twice_at_once,
    a_limit_holds_in_the_whole_cluster,
    jobs_of_one_key_share_its_limit,
    the_greater_priority_starts_first,
    a_node_takes_only_what_it_has_the_labels_and_the_handler_for,
    runs_of_the_leader_need_its_epoch,
    a_run_for_every_node_is_taken_by_its_own_node_only,
    a_paused_cluster_takes_nothing_but_system_runs,
    a_run_waits_until_its_time,
    a_run_whose_definition_cannot_be_read_here_is_left_to_others,
    ten_thousand_tasks_are_taken_once_each,
);

/// Takes and ends runs until nothing waits; calls `check` after each take. Gives how many it had.
async fn drain(bench: &Bench, taker: Taker, most_at_once: i64, of: &str) -> usize {
    let mut had = 0;
    loop {
        let taken = bench.take(taker.clone()).await;
        let running = bench.count(&format!("us_job_run WHERE state = 'running' AND {of}")).await;
        assert!(running <= most_at_once, "{running} at once");
        let waiting = "us_job_run WHERE state IN ('queued', 'retrying')";
        if taken.is_empty() && bench.count(waiting).await == 0 {
            return had;
        }
        had += taken.len();
        for run in taken {
            let ending = Ending::Final { state: RunState::Completed, result: None, error: None };
            let done = bench.store.finish(&run, &taker.node, ending, None).await.unwrap();
            assert_eq!(done, Finished::Done);
        }
    }
}

async fn eight_takers_never_run_an_exclusive_job_twice_at_once(bench: Bench) {
    for job in ["one", "two"] {
        let mut spec = parallel(job);
        spec.overlap = Overlap::QueueAll;
        bench.job(spec).await;
        for _ in 0..20 {
            bench.task(job, None).await.unwrap();
        }
    }
    let takers = (0..8).map(|number| {
        let taker = taker(&format!("n{number}"), 4, &["one", "two"]);
        drain(&bench, taker, 1, "job = 'one'")
    });
    let had: usize = futures_util::future::join_all(takers).await.into_iter().sum();
    assert_eq!(had, 40);
}

async fn a_limit_holds_in_the_whole_cluster(bench: Bench) {
    let mut spec = parallel("job");
    spec.max_concurrency = Some(2);
    bench.job(spec).await;
    for _ in 0..10 {
        bench.task("job", None).await.unwrap();
    }
    let takers =
        (0..3).map(|number| drain(&bench, taker(&format!("n{number}"), 8, &["job"]), 2, "true"));
    let had: usize = futures_util::future::join_all(takers).await.into_iter().sum();
    assert_eq!(had, 10);
}

async fn jobs_of_one_key_share_its_limit(bench: Bench) {
    for job in ["one", "two"] {
        let mut spec = parallel(job);
        (spec.max_concurrency, spec.concurrency_key) = (Some(3), Some("disk".to_owned()));
        bench.job(spec).await;
        for _ in 0..4 {
            bench.task(job, None).await.unwrap();
        }
    }
    let first = bench.take(taker("a", 100, &["one", "two"])).await;
    assert_eq!(first.len(), 3);
    assert!(bench.take(taker("b", 100, &["one", "two"])).await.is_empty());
    bench.end(&first[0], "a", RunState::Failed).await;
    assert_eq!(bench.take(taker("b", 100, &["one", "two"])).await.len(), 1);
}

async fn the_greater_priority_starts_first(bench: Bench) {
    for (job, priority) in [("low", -5), ("high", 50), ("middle", 0)] {
        let mut spec = parallel(job);
        spec.priority = priority;
        bench.job(spec).await;
        bench.task(job, None).await.unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..3 {
        let taken = bench.take(taker("a", 1, &["low", "middle", "high"])).await;
        order.extend(taken.iter().map(|run| run.definition.spec.name.to_string()));
    }
    assert_eq!(order, ["high", "middle", "low"]);
}

async fn a_node_takes_only_what_it_has_the_labels_and_the_handler_for(bench: Bench) {
    let mut spec = parallel("job");
    spec.labels =
        [("disk", "ssd"), ("zone", "eu")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    bench.job(spec).await;
    bench.task("job", None).await.unwrap();
    let with = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut taker = taker("a", 5, &["job"]);
        taker.room.labels = Arc::new(labels);
        taker
    };
    assert!(bench.take(with(&[])).await.is_empty());
    assert!(bench.take(with(&[("disk", "ssd")])).await.is_empty());
    assert!(bench.take(with(&[("disk", "ssd"), ("zone", "us")])).await.is_empty());
    let mut other = with(&[("disk", "ssd"), ("zone", "eu")]);
    other.room.handlers = room(1, &["other"]).handlers;
    assert!(bench.take(other).await.is_empty());
    assert_eq!(bench.take(with(&[("disk", "ssd"), ("more", "1"), ("zone", "eu")])).await.len(), 1);
}

async fn runs_of_the_leader_need_its_epoch(bench: Bench) {
    let old = bench.lead("a").await;
    bench.job(rare("job")).await;
    let claimant = Claimant { node: id("a"), epoch: Some(old), room: room(0, &["job"]) };
    let plans = vec![bench.one_fire("job").await];
    bench.store.claim(claimant, plans, BTreeSet::new(), HOUR_MS).await.unwrap();
    let new = bench.lead("b").await;
    let leads = |epoch| Taker { epoch, ..taker("b", 5, &["job"]) };
    assert!(bench.take(leads(None)).await.is_empty());
    assert!(bench.take(leads(Some(old))).await.is_empty());
    let taken = bench.take(leads(Some(new))).await;
    assert_eq!((taken.len(), taken[0].epoch, taken[0].by_leader), (1, new, true));
}

async fn a_run_for_every_node_is_taken_by_its_own_node_only(bench: Bench) {
    let mut spec = seconds("job");
    spec.placement = Placement::Every;
    bench.store.define(spec, Origin::Code, "test", None).await.unwrap();
    assert_eq!(bench.store.meet_jobs("a").await.unwrap(), 1);
    assert_eq!(bench.store.meet_jobs("a").await.unwrap(), 0);
    assert_eq!(bench.store.meet_jobs("b").await.unwrap(), 1);
    bench.rewind("job", 1_000).await;
    let definition = bench.definition("job").await;
    let mut states = Vec::new();
    // The first has room, the second has not.
    for (scope, slots) in [("a", 1), ("b", 0)] {
        let cursor = bench.cursor("job", scope).await;
        let claimant = Claimant { node: id(scope), epoch: None, room: room(slots, &["job"]) };
        let plan = fire_at(&cursor, cursor.last_ms + 1);
        let plans = vec![(plan, Arc::clone(&definition))];
        let outcome = bench.store.claim(claimant, plans, BTreeSet::new(), HOUR_MS).await.unwrap();
        states.push((outcome.started.len(), outcome.queued));
    }
    assert_eq!(states, [(1, 0), (0, 1)]);
    assert!(bench.take(taker("a", 5, &["job"])).await.is_empty());
    let taken = bench.take(taker("b", 5, &["job"])).await;
    assert_eq!((taken.len(), taken[0].scope.as_str()), (1, "b"));
}

async fn a_paused_cluster_takes_nothing_but_system_runs(bench: Bench) {
    bench.job(parallel("job")).await;
    let mut system = parallel("system.sweep");
    system.system = true;
    bench.store.define(system, Origin::System, "test", None).await.unwrap();
    for job in ["job", "system.sweep"] {
        bench.task(job, None).await.unwrap();
    }
    let pause = Switch { value: "paused".into(), ..Switch::default() };
    bench.store.set_switch("pause", pause).await.unwrap();
    let taken = bench.take(taker("a", 5, &["job", "system.sweep"])).await;
    assert_eq!(taken.len(), 1);
    assert!(taken[0].definition.spec.system);
    bench.store.set_switch("pause", Switch::default()).await.unwrap();
    // Nor does a node without room take more than those.
    bench.task("system.sweep", None).await.unwrap();
    assert_eq!(bench.take(taker("a", 0, &["job", "system.sweep"])).await.len(), 1);
    assert_eq!(bench.take(taker("a", 1, &["job", "system.sweep"])).await.len(), 1);
}

async fn a_run_waits_until_its_time(bench: Bench) {
    bench.job(parallel("job")).await;
    let mut order = Order::new(name("job"), crate::run::Cause::Task);
    order.not_before_ms = bench.now().await + 60_000;
    let run = bench.store.enqueue(order).await.unwrap().run;
    assert!(bench.take(taker("a", 5, &["job"])).await.is_empty());
    bench.sql("UPDATE us_job_run SET not_before_ms = 1").await;
    assert_eq!(bench.take(taker("a", 5, &["job"])).await[0].id, run);
}

/// Puts tasks into the queue in one transaction.
async fn enqueue(bench: &Bench, key: String, tasks: usize) {
    let work = bench.store.transaction((key, tasks), |tx, input| {
        async move {
            for number in 0..input.1 {
                let mut order = Order::new(name("job"), crate::run::Cause::Task);
                order.key = Some(format!("{}:{number}", input.0));
                assert!(enqueue_in(tx, order).await.is_ok_and(|done| done.new));
            }
            Ok(())
        }
        .boxed()
    });
    work.await.unwrap();
}

async fn ten_thousand_tasks_are_taken_once_each(bench: Bench) {
    let tasks: i64 = 10_000;
    bench.job(parallel("job")).await;
    let lanes = (0..8).map(async |lane| {
        for batch in 0..tasks / 1_000 {
            enqueue(&bench, format!("{lane}:{batch}"), 125).await;
        }
    });
    futures_util::future::join_all(lanes).await;
    assert_eq!(bench.count("us_job_run WHERE state = 'queued'").await, tasks);
    let began = tokio::time::Instant::now();
    let takers = ["a", "b", "c"].map(|on| {
        let bench = &bench;
        async move {
            let mut all = Vec::new();
            loop {
                let taken = bench.take(taker(on, 50, &["job"])).await;
                if taken.is_empty() && bench.count("us_job_run WHERE state = 'queued'").await == 0 {
                    return all;
                }
                all.extend(taken.iter().map(|run| (run.id, run.attempt)));
            }
        }
    });
    let taken = futures_util::future::join_all(takers).await;
    let mut by_node = HashMap::new();
    for (on, runs) in ["a", "b", "c"].into_iter().zip(&taken) {
        let sql = format!("us_job_run WHERE state = 'running' AND node = '{}'", id(on));
        by_node.insert(on, (runs.len(), bench.count(&sql).await));
        assert_eq!(i64::try_from(runs.len()).unwrap(), by_node[on].1);
    }
    let unique: HashSet<_> = taken.iter().flatten().collect();
    assert_eq!(i64::try_from(unique.len()).unwrap(), tasks, "{by_node:?}");
    assert_eq!(i64::try_from(taken.iter().map(Vec::len).sum::<usize>()).unwrap(), tasks);
    let all = began.elapsed();
    assert!(all.as_secs() < 60, "taken after {all:?}");
}

async fn a_run_whose_definition_cannot_be_read_here_is_left_to_others(bench: Bench) {
    for job in ["newer", "gone", "job"] {
        bench.job(parallel(job)).await;
        // More than are looked at once, in front of the one that can be taken.
        for _ in 0..20 {
            bench.task(job, None).await.unwrap();
        }
    }
    bench.sql("UPDATE us_job SET spec = '{}', revision = 9 WHERE name = 'newer'").await;
    bench.sql("DELETE FROM us_job WHERE name = 'gone'").await;
    bench.sql("DELETE FROM us_job_cursor WHERE job = 'gone'").await;
    let taken = bench.take(taker("a", 1, &["newer", "gone", "job"])).await;
    assert_eq!((taken.len(), taken[0].definition.spec.name.as_str()), (1, "job"));
    assert_eq!(bench.count("us_job_run WHERE state = 'running'").await, 1);
    let cancelled = "us_job_run WHERE state = 'cancelled' AND error = 'the job was removed'";
    assert_eq!(bench.count(cancelled).await, 20);
    assert_eq!(bench.count("us_job_run WHERE job = 'newer' AND state = 'queued'").await, 20);
}

#[tokio::test]
async fn a_long_queue_is_not_sorted_to_take_from_its_front() {
    let bench = Bench::postgres().await;
    let backend = bench.store.backend();
    bench.job(parallel("job")).await;
    let explain = async |what: &str| {
        let sql = format!("EXPLAIN ANALYZE {}", take::candidates_sql(backend, false));
        let values = vec![
            "[{\"handler\":\"job\"}]".into(),
            "{}".into(),
            "a".into(),
            48_i64.into(),
            "[]".into(),
        ];
        let rows = bench.store.all(sql, values).await.unwrap();
        let lines = rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap());
        let plan = lines.collect::<Vec<_>>().join("\n");
        eprintln!("{what}\n{plan}");
        assert!(!plan.contains("Sort"), "{what}: {plan}");
    };
    for (runs, exclusive) in [(10_000, false), (100_000, false), (10_000, true), (100_000, true)] {
        bench.sql("TRUNCATE us_job_run CASCADE").await;
        // Some at a time: a statement may take as long as it may in a node, also on a busy machine.
        for first in (1..=runs).step_by(10_000) {
            let last = first + 9_999;
            let sql = format!(
                "INSERT INTO us_job_run (job, fire_key, scope, fire_ms, cause, state, attempt, placement, \
                 handler, priority, system, exclusive, queued_ms, not_before_ms, epoch) \
                 SELECT 'job', g::text, '', g, 'task', CASE WHEN g = 1 THEN 'running' ELSE 'queued' END, 1, \
                 'any', 'job', 0, false, {exclusive}, g, g, 1 FROM generate_series({first}, {last}) g"
            );
            bench.sql(&sql).await;
        }
        bench.sql("ANALYZE us_job_run").await;
        explain(&format!("{runs} runs, exclusive: {exclusive}")).await;
        let began = tokio::time::Instant::now();
        bench.take(taker("a", 10, &["job"])).await;
        eprintln!("take: {:?}", began.elapsed());
    }
}
