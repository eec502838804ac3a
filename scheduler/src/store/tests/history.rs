//! What is kept, found again and forgotten.

use std::collections::BTreeSet;

use super::super::*;
use super::bench::{Bench, HOUR_MS, id, name, parallel, rare, taker};
use super::on_both;
use crate::run::{RunId, RunState};

on_both!(
    runs_are_forgotten_by_age_but_never_what_is_under_way,
    runs_are_forgotten_by_number_per_job,
    forgetting_goes_on_in_batches_and_takes_logs_along,
    runs_are_found_by_job_state_time_and_page,
    decisions_are_found_by_the_range_of_due_times,
    lines_of_a_log_are_read_on_from_where_one_was,
    progress_is_kept_while_a_run_goes_on,
    nodes_are_known_while_they_live,
    nodes_in_maintenance_stay_so,
    what_waits_for_a_node_that_is_gone_for_good_is_lost,
);

/// Makes runs that ended: the first is the oldest.
async fn ended(bench: &Bench, job: &str, runs: usize) -> Vec<RunId> {
    let mut ids = Vec::new();
    for _ in 0..runs {
        bench.task(job, None).await.unwrap();
        let run = bench.take(taker("a", 1, &[job])).await.remove(0);
        bench.end(&run, "a", RunState::Completed).await;
        ids.push(run.id);
    }
    ids
}

async fn ids(bench: &Bench, job: &str) -> Vec<RunId> {
    let mut ids: Vec<_> = bench.runs(job).await.into_iter().map(|run| run.id).collect();
    ids.reverse();
    ids
}

async fn runs_are_forgotten_by_age_but_never_what_is_under_way(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(parallel("job")).await;
    let done = ended(&bench, "job", 3).await;
    let going: Vec<RunId> = {
        bench.task("job", None).await.unwrap();
        let running = bench.take(taker("a", 1, &["job"])).await.remove(0).id;
        vec![running, bench.task("job", None).await.unwrap().run]
    };
    bench.job(rare("late")).await;
    bench.store.enable(&name("late"), "ann", false).await.unwrap();
    bench.sql("UPDATE us_job_cursor SET next_fire_ms = 1").await;
    let sql = format!(
        "INSERT INTO us_fire_decision (job, scope, from_ms, to_ms, fires, outcome, reason, epoch, at_ms) \
         VALUES ('late', '', 1, 1, 1, 'disabled', '', {epoch}, 1)"
    );
    bench.sql(&sql).await;
    bench.sql("UPDATE us_job_run SET queued_ms = 1, started_ms = 1, heartbeat_ms = 1").await;
    bench.sql(&format!("UPDATE us_job_run SET finished_ms = 1 WHERE id <= {}", done[1])).await;
    assert_eq!(bench.store.purge(HOUR_MS, 1_000, 100).await.unwrap(), 3);
    assert_eq!(ids(&bench, "job").await, [done[2], going[0], going[1]]);
    assert_eq!(bench.count("us_fire_decision").await, 0);
    assert_eq!(bench.store.purge(HOUR_MS, 0, 100).await.unwrap(), 1);
    assert_eq!(ids(&bench, "job").await, going);
    assert_eq!(bench.count("us_leader_history").await, 1);
}

async fn runs_are_forgotten_by_number_per_job(bench: Bench) {
    bench.job(parallel("one")).await;
    bench.job(parallel("two")).await;
    let (one, two) = (ended(&bench, "one", 5).await, ended(&bench, "two", 2).await);
    assert_eq!(bench.store.purge(HOUR_MS, 2, 100).await.unwrap(), 3);
    assert_eq!(ids(&bench, "one").await, one[3..]);
    assert_eq!(ids(&bench, "two").await, two);
}

async fn forgetting_goes_on_in_batches_and_takes_logs_along(bench: Bench) {
    bench.job(parallel("job")).await;
    let runs = ended(&bench, "job", 5).await;
    bench.store.write_lines(&[line(runs[0], 0, "old"), line(runs[4], 0, "new")]).await.unwrap();
    bench.sql("UPDATE us_job_run SET finished_ms = 1").await;
    for left in [3, 1, 0, 0] {
        bench.store.purge(HOUR_MS, 1_000, 2).await.unwrap();
        assert_eq!(bench.count("us_job_run").await, left);
        assert_eq!(bench.count("us_run_log").await, i64::from(left > 0));
    }
}

async fn runs_are_found_by_job_state_time_and_page(bench: Bench) {
    bench.job(parallel("job")).await;
    let mut system = parallel("system.sweep");
    system.system = true;
    bench.store.define(system, Origin::System, "test", None).await.unwrap();
    let done = ended(&bench, "job", 4).await;
    let waiting = bench.task("job", None).await.unwrap().run;
    let swept = bench.task("system.sweep", None).await.unwrap().run;
    let find = async |filter: RunFilter| -> Vec<RunId> {
        bench.store.runs(&filter).await.unwrap().into_iter().map(|run| run.id).collect()
    };
    let all = RunFilter { limit: 100, ..RunFilter::default() };
    assert_eq!(find(all.clone()).await, [waiting, done[3], done[2], done[1], done[0]]);
    assert_eq!(find(RunFilter { system: true, limit: 1, ..all.clone() }).await, [swept]);
    let states = vec![RunState::Queued, RunState::Retrying];
    assert_eq!(find(RunFilter { states, ..all.clone() }).await, [waiting]);
    let page = RunFilter { before: Some(done[3]), limit: 2, ..all.clone() };
    assert_eq!(find(page).await, [done[2], done[1]]);
    let fire_ms = bench.run(done[1]).await.fire_ms;
    let found = find(RunFilter { fire_ms: Some((fire_ms, fire_ms)), ..all.clone() }).await;
    assert!(found.contains(&done[1]) && !found.contains(&swept));
    let none = RunFilter { job: Some(name("none")), ..all.clone() };
    assert_eq!(find(none).await, []);
    let silent = RunFilter { silent_ms: Some(10_000), ..all };
    assert_eq!(find(silent.clone()).await, []);
    let run = bench.take(taker("a", 1, &["job"])).await.remove(0);
    bench.sql("UPDATE us_job_run SET heartbeat_ms = 1").await;
    assert_eq!(find(silent).await, [run.id]);
    assert_eq!(bench.store.active_runs().await.unwrap(), [(RunState::Running, 1)]);
    assert_eq!(bench.store.run(RunId(99)).await.unwrap(), None);
}

async fn decisions_are_found_by_the_range_of_due_times(bench: Bench) {
    bench.sql(
        "INSERT INTO us_fire_decision (job, scope, from_ms, to_ms, fires, outcome, reason, epoch, at_ms) \
         VALUES ('job', '', 10, 20, 3, 'paused', 'why', 1, 1), ('job', '', 5, 5, 1, 'coalesced', 'why', 1, 2), \
         ('other', '', 5, 5, 1, 'paused', 'why', 1, 1)",
    )
    .await;
    let find = async |from_ms, to_ms, limit| -> Vec<i64> {
        let range = (from_ms, to_ms);
        let found = bench.store.decisions(&name("job"), range, limit).await.unwrap();
        found.into_iter().map(|decision| decision.from_ms).collect()
    };
    assert_eq!(find(0, 100, 10).await, [5, 10]);
    assert_eq!(find(0, 100, 1).await, [5]);
    assert_eq!(find(15, 15, 10).await, [10]);
    assert_eq!(find(6, 9, 10).await, [0_i64; 0]);
    assert_eq!(find(20, 30, 10).await, [10]);
}

fn line(run_id: RunId, seq: u32, text: &str) -> RunLine {
    RunLine { run_id, attempt: 1, seq, at_ms: 1, level: "info", line: text.to_owned() }
}

async fn lines_of_a_log_are_read_on_from_where_one_was(bench: Bench) {
    let run = RunId(1);
    let weird = "Zoë \"x\" 'y' \\u0000 {}\n\t";
    let mut lines: Vec<_> = (0..5).map(|seq| line(run, seq, weird)).collect();
    lines.push(RunLine { attempt: 2, ..line(run, 0, "second") });
    bench.store.write_lines(&lines).await.unwrap();
    bench.store.write_lines(&[line(run, 0, "again"), line(run, 5, "more")]).await.unwrap();
    let all = bench.store.log_lines(run, (0, -1), 100).await.unwrap();
    assert_eq!(all.len(), 7);
    assert_eq!((all[0].line.as_str(), all[5].line.as_str()), (weird, "more"));
    let rest = bench.store.log_lines(run, (1, 4), 100).await.unwrap();
    let places: Vec<_> = rest.iter().map(|line| (line.attempt, line.seq)).collect();
    assert_eq!(places, [(1, 5), (2, 0)]);
    assert_eq!(bench.store.log_lines(run, (0, -1), 2).await.unwrap().len(), 2);
    assert_eq!(bench.store.log_lines(RunId(2), (0, -1), 2).await.unwrap(), []);
}

async fn progress_is_kept_while_a_run_goes_on(bench: Bench) {
    bench.job(parallel("job")).await;
    bench.task("job", None).await.unwrap();
    let run = bench.take(taker("a", 1, &["job"])).await.remove(0);
    let write = async |attempt, text: &str| {
        bench.store.write_progress(&[(run.id, attempt, text.to_owned())]).await.unwrap();
        bench.run(run.id).await.progress
    };
    assert_eq!(write(1, "{\"a\":1}").await, Some(serde_json::json!({ "a": 1 })));
    assert_eq!(write(2, "{\"a\":2}").await, Some(serde_json::json!({ "a": 1 })));
    bench.end(&run, "a", RunState::Completed).await;
    assert_eq!(write(1, "{\"a\":3}").await, Some(serde_json::json!({ "a": 1 })));
}

async fn nodes_are_known_while_they_live(bench: Bench) {
    let tell = async |on: &str, handler: &str| {
        let node = SchedulerNode {
            node: id(on),
            seen_ms: 0,
            handlers: [handler.to_owned()].into(),
            definitions: [("job".to_owned(), "f".to_owned())].into(),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            tzdb: "2026a".to_owned(),
            takes_jobs: true,
            offset_ms: -5,
        };
        let seen_ms = bench.store.report_node(&node).await.unwrap();
        SchedulerNode { seen_ms, ..node }
    };
    tell("a", "old").await;
    let (a, b) = (tell("a", "new").await, tell("b", "new").await);
    assert_eq!(bench.store.nodes(60_000).await.unwrap(), [a, b.clone()]);
    bench.sql("UPDATE us_scheduler_node SET seen_ms = 1 WHERE node LIKE 'a%'").await;
    assert_eq!(bench.store.nodes(60_000).await.unwrap(), [b]);
    assert_eq!(bench.store.forget_silent_nodes(60_000).await.unwrap(), 1);
    bench.store.forget_node(&id("b")).await.unwrap();
    assert_eq!(bench.store.nodes(60_000).await.unwrap(), []);
    tell("b", "new").await;
    assert_eq!(bench.store.nodes(60_000).await.unwrap().len(), 1);
}

async fn what_waits_for_a_node_that_is_gone_for_good_is_lost(bench: Bench) {
    let mut spec = super::bench::seconds("job");
    spec.placement = crate::spec::Placement::Every;
    bench.store.define(spec, Origin::Code, "test", None).await.unwrap();
    for on in ["a", "a_b"] {
        let node = SchedulerNode {
            node: id(on),
            seen_ms: 0,
            handlers: [].into(),
            definitions: [].into(),
            labels: [].into(),
            tzdb: String::new(),
            takes_jobs: true,
            offset_ms: 0,
        };
        bench.store.report_node(&node).await.unwrap();
        assert_eq!(bench.store.meet_jobs(on).await.unwrap(), 1);
        let cursor = bench.cursor("job", on).await;
        let plan = super::bench::fire_at(&cursor, cursor.last_ms);
        let plans = vec![(plan, bench.definition("job").await)];
        let claimant =
            Claimant { node: id(on), epoch: None, room: super::bench::room(0, &["job"]) };
        bench.store.claim(claimant, plans, BTreeSet::new(), HOUR_MS).await.unwrap();
    }
    // One that leaves may come back for a while.
    bench.store.forget_node(&id("a")).await.unwrap();
    assert_eq!(bench.store.forget_silent_nodes(60_000).await.unwrap(), 0);
    assert_eq!(bench.store.forget_gone_scopes().await.unwrap(), 0);
    bench
        .sql(&format!("UPDATE us_scheduler_node SET seen_ms = 1 WHERE node = '{}'", id("a")))
        .await;
    assert_eq!(bench.store.forget_silent_nodes(60_000).await.unwrap(), 1);
    assert_eq!(bench.store.forget_gone_scopes().await.unwrap(), 2);
    let states = bench.runs("job").await.into_iter().map(|run| (run.scope, run.state));
    let states: Vec<_> = states.collect();
    let wanted = [("a_b", RunState::Queued), ("a", RunState::Lost)];
    assert_eq!(states, wanted.map(|(scope, state)| (scope.to_owned(), state)));
    assert_eq!(bench.count("us_job_cursor WHERE scope = 'a_b'").await, 1);
}

async fn nodes_in_maintenance_stay_so(bench: Bench) {
    let by = |by: &str| Switch { by: by.to_owned(), why: "disk".to_owned(), ..Switch::default() };
    for who in ["ann", "bob"] {
        bench.store.set_maintenance("a", true, by(who)).await.unwrap();
    }
    let nodes = bench.store.in_maintenance().await.unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!((nodes[0].0.as_str(), nodes[0].1.by.as_str()), ("a", "bob"));
    assert_eq!(bench.store.switches().await.unwrap().pause, Switch::default());
    bench.store.set_maintenance("a", false, by("ann")).await.unwrap();
    assert_eq!(bench.store.in_maintenance().await.unwrap(), []);
}
