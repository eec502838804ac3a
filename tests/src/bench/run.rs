//! One run: rounds in which every case has its turn, forwards and backwards, so that a machine that
//! grows slower meanwhile is slower for all of them.

use std::time::Duration;

use serde_json::Value;

use super::case::{Case, HAMMERS, INCREMENTS, Prepared, prepare};
use super::load::{Load, Totals};
use super::meter::Costs;
use super::report::{Report, Sample};
use super::stage::Stage;
use super::{latency, memory};

/// Increments of a session before those that are timed: the first ones meet cold caches.
const BURSTS: usize = 5;

/// What is measured besides the cases, each on clusters of its own.
const PARTS: [&str; 6] = ["settings", "pages", "cache", "multitude", "files", "jobs"];
/// Sessions whose memory is measured beside the cases; more are for the multitude.
const MOST_SESSIONS: u64 = 100_000;

/// How a run is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How often every case is measured; the table shows medians.
    pub rounds: usize,
    /// How long a steady case is measured.
    pub measured: Duration,
    /// How long it runs before that.
    pub warm_up: Duration,
    /// Threads of the clients.
    pub threads: usize,
    /// Measures only cases whose name contains this, and the floor; or one of the other parts.
    pub only: Option<String>,
    /// How many sessions the multitude has; beside the cases the memory of as many is measured, of 100,000 at most. 0 leaves
    /// both out.
    pub sessions: u64,
    /// Variables of the nodes, to compare settings.
    pub environment: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rounds: 5,
            measured: Duration::from_secs(3),
            warm_up: Duration::from_millis(500),
            threads: 2,
            only: None,
            sessions: 100_000,
            environment: Vec::new(),
        }
    }
}

impl Options {
    /// Whether the cases are to be measured.
    pub fn wants_cases(&self) -> bool {
        self.only.as_deref().is_none_or(|only| !PARTS.contains(&only))
    }

    /// Whether another part is.
    pub fn wants_part(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }

    fn wants(&self, case: Case) -> bool {
        let wanted = self.only.as_ref();
        case == Case::Floor || wanted.is_none_or(|part| case.name().contains(part.as_str()))
    }
}

/// Measures and returns the table; `progress` is told each measurement.
pub async fn run(options: &Options, stage: &mut Stage, mut progress: impl FnMut(String)) -> Report {
    let mut report = Report::default();
    for round in 0..options.rounds {
        let mut cases: Vec<Case> = Case::ALL.to_vec();
        cases.retain(|&case| options.wants(case));
        if round % 2 == 1 {
            cases.reverse();
        }
        for case in cases {
            let sample = measure(case, stage, options).await;
            progress(format!("round {}: {:26} {sample}", round + 1, case.name()));
            report.add(round, case, sample);
        }
    }
    if options.only.is_none() {
        report.latencies = latency::measure(stage, options).await;
    }
    if options.sessions > 0 {
        let few = Options { sessions: options.sessions.min(MOST_SESSIONS), ..options.clone() };
        report.memory = Some(memory::measure(stage, &few).await);
    }
    report
}

async fn measure(case: Case, stage: &mut Stage, options: &Options) -> Sample {
    if case.is_hammered() {
        hammer(case, stage, options).await
    } else {
        steady(case, stage, options).await
    }
}

async fn steady(case: Case, stage: &mut Stage, options: &Options) -> Sample {
    let prepared = prepare(case, stage).await;
    let pids = pids(case, stage);
    let load = Load::begin(prepared.visitors, u64::MAX, options.threads);
    tokio::time::sleep(options.warm_up).await;
    begin(stage, &pids).await;
    let before = load.look();
    tokio::time::sleep(options.measured).await;
    let totals = load.look().since(before);
    let costs = end(stage).await;
    load.stop().await;
    Sample::new(totals, costs)
}

/// Several bursts, each on a session of its own: one is over too soon to be measured well.
async fn hammer(case: Case, stage: &mut Stage, options: &Options) -> Sample {
    let limit = INCREMENTS / HAMMERS as u64;
    let mut bursts = Vec::new();
    for _ in 0..=BURSTS {
        bursts.push(prepare(case, stage).await);
    }
    let first = bursts.pop().expect("there is one more than needed");
    Load::begin(first.visitors.clone(), limit, options.threads).finish().await;
    let pids = pids(case, stage);
    let mut totals = Totals::default();
    begin(stage, &pids).await;
    for burst in &bursts {
        let load = Load::begin(burst.visitors.clone(), limit, options.threads);
        let came = load.finish().await;
        totals.answered += came.answered;
        totals.refused += came.refused;
        totals.processor += came.processor;
        totals.elapsed += came.elapsed;
    }
    let costs = end(stage).await;
    let mut kept = 0;
    for burst in &bursts {
        kept += counted(burst).await;
    }
    Sample { kept: Some(kept / BURSTS as u64), ..Sample::new(totals, costs) }
}

/// What the counter of a burst says, without the increment before it or the one that asks.
async fn counted(burst: &Prepared) -> u64 {
    let (site, line, cookie) = burst.counter.as_ref().expect("a hammered case counts");
    let answer = site.ask(line, cookie.as_deref()).await;
    let value: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    value["value"].as_u64().unwrap_or(0).saturating_sub(1)
}

fn pids(case: Case, stage: &Stage) -> Vec<u32> {
    case.sites(stage).iter().map(|site| site.pid).collect()
}

async fn begin(stage: &mut Stage, pids: &[u32]) {
    let begun = stage.meter.begin(pids).await;
    begun.expect("Redis runs as long as the stage");
}

async fn end(stage: &mut Stage) -> Costs {
    let costs = stage.meter.end().await;
    costs.expect("Redis runs as long as the stage")
}
