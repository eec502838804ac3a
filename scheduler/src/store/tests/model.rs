//! Random sequences of edits, pauses, prunes and deploys, held against a simple model of what each due time came to.
//!
//! Every job is a sequence of its own; they share a database, a leader and the real clock, and are due several times a
//! second.

use std::collections::HashMap;
use std::time::Duration;

use super::super::*;
use super::bench::{Bench, name, taker};
use crate::plan::{Moment, plan};
use crate::run::{Cause, RunState};
use crate::spec::{JobSpec, Misfire, Overlap, Schedule};

const ROUNDS: usize = 12;
/// Steps of the grids, ms.
const STEPS: [i64; 4] = [100, 150, 250, 400];

/// A small generator of numbers that a seed repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap() % most
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

/// For how long a schedule counted: its due times after `from_ms`, up to `to_ms`.
struct Segment {
    step_ms: i64,
    from_ms: i64,
    to_ms: i64,
}

/// One job, and what is known of it.
struct Sequence {
    code: JobSpec,
    definition: Arc<Definition>,
    segments: Vec<Segment>,
    /// Nothing may start for times up to here.
    floor_ms: i64,
    covered: HashMap<i64, u32>,
    shared: Vec<(i64, i64, i64)>,
    keys: usize,
}

impl Sequence {
    fn job(&self) -> &str {
        self.code.name.as_str()
    }

    fn is_held(&self) -> bool {
        self.definition.held_back().is_some()
    }

    fn step_ms(&self) -> i64 {
        let Schedule::Every { every, .. } = self.definition.spec.schedule else {
            panic!("the test makes no others")
        };
        crate::plan::millis(every)
    }
}

struct World {
    bench: Bench,
    random: Random,
    epoch: u64,
    jobs: Vec<Sequence>,
    running: Vec<TakenRun>,
    last_run: i64,
    last_decision: i64,
}

fn every(step_ms: i64) -> Schedule {
    let every = Duration::from_millis(u64::try_from(step_ms).unwrap());
    Schedule::Every { every, anchor_ms: 7 }
}

impl World {
    async fn new(seed: u64, sequences: usize) -> Self {
        let bench = Bench::sqlite().await;
        let epoch = bench.lead("a").await;
        let mut world = Self {
            bench,
            random: Random(seed),
            epoch,
            jobs: Vec::new(),
            running: Vec::new(),
            last_run: 0,
            last_decision: 0,
        };
        for number in 0..sequences {
            world.make(number).await;
        }
        world
    }

    async fn make(&mut self, number: usize) {
        let job = format!("job{number}");
        let mut code = JobSpec::new(name(&job), every(STEPS[self.random.below(STEPS.len())]));
        code.handler = "h".to_owned();
        code.catch_up_on_resume = self.random.percent(30);
        code.misfire =
            [Misfire::FireOnce, Misfire::Skip, Misfire::FireAll { max: 3 }][self.random.below(3)];
        let overlaps = [
            Overlap::Skip,
            Overlap::QueueOne,
            Overlap::QueueAll,
            Overlap::CancelPrevious,
            Overlap::Allow { max: 3 },
        ];
        code.overlap = overlaps[self.random.below(5)];
        let before_ms = self.bench.now().await;
        self.bench.store.sync(std::slice::from_ref(&code), Origin::Code, &[]).await.unwrap();
        let from_ms = self.bench.cursor(&job, "").await.last_ms;
        assert!(from_ms >= before_ms);
        let definition = self.bench.definition(&job).await;
        let mut sequence = Sequence {
            code,
            definition,
            segments: Vec::new(),
            floor_ms: from_ms,
            covered: HashMap::new(),
            shared: Vec::new(),
            keys: 0,
        };
        let step_ms = sequence.step_ms();
        sequence.segments.push(Segment { step_ms, from_ms, to_ms: from_ms });
        self.jobs.push(sequence);
    }

    async fn round(&mut self) {
        for number in 0..self.jobs.len() {
            if self.random.percent(30) {
                self.change(number).await;
            }
        }
        if self.random.percent(10) {
            let old = self.epoch;
            self.epoch = self.bench.lead("a").await;
            self.nothing_happens_in(old).await;
        }
        if self.random.percent(75) {
            self.claim().await;
        }
        self.work(60).await;
        self.collect().await;
        if self.random.percent(25) {
            self.bench.store.purge(0, 0, 100_000).await.unwrap();
        }
        let pause = 20 + self.random.below(250);
        tokio::time::sleep(Duration::from_millis(u64::try_from(pause).unwrap())).await;
    }

    async fn nothing_happens_in(&mut self, old: u64) {
        let now_ms = self.bench.now().await;
        let plans = self.plans(now_ms).await;
        let outcome = self.bench.claim(old, plans).await;
        assert!(!outcome.epoch_ok && outcome.started.is_empty());
    }

    async fn plans(&self, now_ms: i64) -> Vec<(JobPlan, Arc<Definition>)> {
        let store = &self.bench.store;
        let due = store.due_cursors("", now_ms, 500).await.unwrap();
        let wanted = due.iter().map(|cursor| (&cursor.job, cursor.revision));
        let found = store.definitions_of(wanted).await.unwrap();
        let by_name: HashMap<_, _> = found.iter().map(|one| (&one.spec.name, one)).collect();
        let (misfire_after, grace) = (Duration::from_millis(150), Duration::from_millis(800));
        let at = Moment { now_ms, misfire_after, misfire_grace: grace, leaderless: &[] };
        let planned = due.iter().map(|cursor| {
            let definition = by_name[&cursor.job];
            assert_eq!(definition.revision, cursor.revision, "{cursor:?}");
            (plan(definition, cursor, at).unwrap(), Arc::clone(definition))
        });
        planned.collect()
    }

    async fn claim(&mut self) {
        let now_ms = self.bench.now().await;
        loop {
            let plans = self.plans(now_ms).await;
            if plans.is_empty() {
                return;
            }
            let outcome = self.bench.claim(self.epoch, plans).await;
            assert!(outcome.epoch_ok && outcome.stale_plans == 0, "{outcome:?}");
            self.running.extend(outcome.started);
        }
    }

    /// Takes what waits, and ends some of what runs.
    async fn work(&mut self, chance: usize) {
        let mut leader = taker("a", 10_000, &["h"]);
        leader.epoch = Some(self.epoch);
        self.running.extend(self.bench.take(leader).await);
        for run in std::mem::take(&mut self.running) {
            if self.random.percent(chance) {
                assert_eq!(self.bench.end(&run, "a", RunState::Completed).await, Finished::Done);
            } else {
                self.running.push(run);
            }
        }
    }

    /// One random thing that somebody does to a job.
    async fn change(&mut self, number: usize) {
        let what = self.random.below(9);
        let step_ms = STEPS[self.random.below(STEPS.len())];
        let (before_ms, store) = (self.bench.now().await, self.bench.store.clone());
        let sequence = &mut self.jobs[number];
        let (job, job_name) = (sequence.job().to_owned(), sequence.code.name.clone());
        let cursor = self.bench.cursor(&job, "").await;
        let mut spec = sequence.definition.spec.clone();
        let later = sequence.definition.catches_up_later();
        let was_held = sequence.is_held() && !later;
        let done = match what {
            0 => {
                spec.priority = (spec.priority + 1) % 100;
                store.define(spec, Origin::Api, "ann", None).await
            }
            1 => {
                spec.schedule = every(step_ms);
                store.define(spec, Origin::Api, "ann", None).await
            }
            2 => store.pause(&job_name, "ann", "why").await,
            3 | 4 => store.resume(&job_name, "ann").await,
            5 => store.enable(&job_name, "ann", false).await,
            6 => store.enable(&job_name, "ann", true).await,
            7 => store.reset(&job_name, "ann").await,
            _ => {
                if step_ms == 100 {
                    sequence.code.description.push('x');
                }
                let code = std::slice::from_ref(&sequence.code);
                store.sync(code, Origin::Code, &[]).await.map(|_| 0)
            }
        };
        done.unwrap();
        self.note_change(number, (before_ms, was_held), &cursor).await;
        if what == 0 {
            self.run_now(number).await;
        }
    }

    async fn note_change(
        &mut self,
        number: usize,
        (before_ms, was_held): (i64, bool),
        cursor: &Cursor,
    ) {
        let job = cursor.job.as_str();
        let (definition, after) =
            (self.bench.definition(job).await, self.bench.cursor(job, "").await);
        let now_ms = self.bench.now().await;
        let sequence = &mut self.jobs[number];
        let edited = definition.spec.schedule != sequence.definition.spec.schedule;
        sequence.definition = definition;
        if was_held {
            sequence.floor_ms = sequence.floor_ms.max(before_ms);
        }
        if edited {
            assert!((before_ms..=now_ms).contains(&after.last_ms), "an edit counts from now");
            let step_ms = sequence.step_ms();
            // What was due until then is decided with the edit, as superseded or as what held it back.
            sequence.segments.last_mut().unwrap().to_ms = after.last_ms;
            sequence.segments.push(Segment {
                step_ms,
                from_ms: after.last_ms,
                to_ms: after.last_ms,
            });
            sequence.floor_ms = sequence.floor_ms.max(after.last_ms);
        } else {
            let settled = was_held && after.last_ms > cursor.last_ms && after.last_ms <= now_ms;
            assert!(after.last_ms == cursor.last_ms || settled, "{cursor:?} {after:?}");
        }
    }

    async fn run_now(&mut self, number: usize) {
        let sequence = &mut self.jobs[number];
        sequence.keys += 1;
        let mut order = Order::new(sequence.code.name.clone(), Cause::Manual);
        order.key = Some(format!("key{}", sequence.keys));
        let first = self.bench.store.enqueue(order.clone()).await;
        let second = self.bench.store.enqueue(order).await;
        match (first, second) {
            (Ok(first), Ok(second)) => {
                assert!(first.new && !second.new && first.run == second.run);
            }
            (Err(EnqueueError::Busy(_)), Err(EnqueueError::Busy(_))) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Reads what has come about since, before it is forgotten.
    async fn collect(&mut self) {
        let numbers: HashMap<String, usize> = self
            .jobs
            .iter()
            .enumerate()
            .map(|(number, one)| (one.job().to_owned(), number))
            .collect();
        let sql = "SELECT id, job, fire_ms, queued_ms FROM us_job_run WHERE id > $1 AND cause = 'schedule' ORDER BY id";
        for row in self.bench.store.all(sql.to_owned(), vec![self.last_run.into()]).await.unwrap() {
            let number = |column: &str| row.try_get::<i64>("", column).unwrap();
            self.last_run = number("id");
            let (fire_ms, queued_ms) = (number("fire_ms"), number("queued_ms"));
            let sequence = &mut self.jobs[numbers[&row.try_get::<String>("", "job").unwrap()]];
            assert!(!sequence.is_held(), "{} started while it was held back", sequence.job());
            assert!(fire_ms > sequence.floor_ms, "{} fired for a time before", sequence.job());
            assert!(queued_ms >= fire_ms - 50, "{} fired early", sequence.job());
            *sequence.covered.entry(fire_ms).or_default() += 1;
        }
        let sql =
            "SELECT id, job, from_ms, to_ms, fires FROM us_fire_decision WHERE id > $1 ORDER BY id";
        for row in
            self.bench.store.all(sql.to_owned(), vec![self.last_decision.into()]).await.unwrap()
        {
            let number = |column: &str| row.try_get::<i64>("", column).unwrap();
            self.last_decision = number("id");
            let fires: i32 = row.try_get("", "fires").unwrap();
            let sequence = &mut self.jobs[numbers[&row.try_get::<String>("", "job").unwrap()]];
            sequence.shared.push((number("from_ms"), number("to_ms"), i64::from(fires)));
        }
    }

    /// Lets everything come to its end, and holds it against the model.
    async fn end(mut self) {
        for number in 0..self.jobs.len() {
            let sequence = &self.jobs[number];
            let (job, cursor) =
                (sequence.code.name.clone(), self.bench.cursor(sequence.job(), "").await);
            let later = sequence.definition.catches_up_later();
            let held = (self.bench.now().await, sequence.is_held() && !later);
            self.bench.store.resume(&job, "ann").await.unwrap();
            self.note_change(number, held, &cursor).await;
            let cursor = self.bench.cursor(job.as_str(), "").await;
            let held = (self.bench.now().await, self.jobs[number].is_held());
            self.bench.store.enable(&job, "ann", true).await.unwrap();
            self.note_change(number, held, &cursor).await;
        }
        let now_ms = self.bench.now().await;
        self.claim().await;
        self.collect().await;
        for number in 0..self.jobs.len() {
            let cursor = self.bench.cursor(self.jobs[number].job(), "").await;
            assert!(cursor.next_ms.is_some_and(|next_ms| next_ms > now_ms), "{cursor:?}");
            self.jobs[number].segments.last_mut().unwrap().to_ms = cursor.last_ms;
            check(&mut self.jobs[number]);
        }
        for _ in 0..200 {
            self.work(100).await;
        }
        let left = "us_job_run WHERE state IN ('queued', 'retrying', 'running')";
        assert_eq!(self.bench.count(left).await, 0);
    }
}

/// Each due time has one run or one decision, and nothing else has any.
fn check(sequence: &mut Sequence) {
    for (from_ms, to_ms, fires) in std::mem::take(&mut sequence.shared) {
        let within = |one: &&Segment| one.from_ms < from_ms && to_ms <= one.to_ms;
        let step_ms = sequence.segments.iter().find(within).unwrap().step_ms;
        assert_eq!((to_ms - from_ms) / step_ms + 1, fires);
        for k in 0..fires {
            *sequence.covered.entry(from_ms + k * step_ms).or_default() += 1;
        }
    }
    let mut due = 0;
    for Segment { step_ms, from_ms, to_ms } in &sequence.segments {
        let mut at_ms = (from_ms - 7).div_euclid(*step_ms) * step_ms + step_ms + 7;
        while at_ms <= *to_ms {
            assert_eq!(sequence.covered.get(&at_ms), Some(&1), "{} at {at_ms}", sequence.code.name);
            due += 1;
            at_ms += step_ms;
        }
    }
    assert_eq!(due, sequence.covered.len(), "{}", sequence.code.name);
}

fn setting(name: &str) -> Option<String> {
    std::env::var_os(name).and_then(|value| value.into_string().ok())
}

#[tokio::test]
async fn random_edits_pauses_prunes_and_deploys_lose_no_due_time_and_start_none_twice() {
    let seed = setting("UNDERSTUDY_SEED").and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    eprintln!("UNDERSTUDY_SEED={seed}");
    let sequences = if setting("UNDERSTUDY_SOAK").is_some() { 5_000 } else { 300 };
    let mut world = World::new(seed, sequences).await;
    for _ in 0..ROUNDS {
        world.round().await;
    }
    world.end().await;
}
