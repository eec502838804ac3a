//! Every state that a run can be in is reached by what the store does.

use std::collections::{BTreeSet, HashSet};

use super::super::*;
use super::bench::{Bench, id, parallel, taker};
use super::on_both;
use crate::run::RunState;
use crate::spec::OnOrphan;

on_both!(every_state_is_reached);

async fn every_state_is_reached(bench: Bench) {
    let epoch = bench.lead("a").await;
    let mut spec = parallel("job");
    spec.then = vec![super::bench::name("rest")];
    bench.job(spec).await;
    bench.job(parallel("rest")).await;
    for (job, on_orphan) in [("fail", OnOrphan::Fail), ("retry", OnOrphan::Retry { max: 1 })] {
        let mut spec = parallel(job);
        spec.on_orphan = on_orphan;
        bench.job(spec).await;
    }
    let begin = async |job: &str| {
        bench.task(job, None).await.unwrap();
        bench.take(taker("a", 1, &[job])).await.remove(0)
    };
    let mut seen = HashSet::new();
    for state in
        [RunState::Completed, RunState::Failed, RunState::Incompatible, RunState::Cancelled]
    {
        let run = begin("job").await;
        seen.insert(bench.run(run.id).await.state);
        bench.end(&run, "a", state).await;
        seen.insert(bench.run(run.id).await.state);
    }
    for run in bench.runs("rest").await {
        seen.insert(run.state);
    }
    let lost = begin("fail").await;
    let dead = begin("retry").await;
    for _ in 0..2 {
        bench.sql("UPDATE us_job_run SET heartbeat_ms = 1 WHERE state = 'running'").await;
        bench.store.reap(epoch, 1_000, BTreeSet::new()).await.unwrap();
        seen.insert(bench.run(lost.id).await.state);
        seen.insert(bench.run(dead.id).await.state);
        bench.take(taker("b", 1, &["retry"])).await;
    }
    assert_eq!(seen, RunState::ALL.into_iter().collect());
    let filter = RunFilter { states: RunState::ALL.to_vec(), limit: 1_000, ..RunFilter::default() };
    let all = bench.store.runs(&filter).await.unwrap();
    assert_eq!(all.len(), usize::try_from(bench.count("us_job_run").await).unwrap());
    assert!(all.iter().all(|run| run.state.is_final() == run.finished_ms.is_some()), "{}", id("a"));
}
