//! What the cache costs, beside the least that each of its parts could cost: a hit in memory beside a hit of the bare library, a hit
//! in Redis beside a bare `GET`, an invalidation beside a bare `PUBLISH`.
//!
//! All of it in this process, on one thread, in turn: whatever disturbs one disturbs the other. Two caches stand for two nodes;
//! each has connections of its own.

mod bare;
mod stage;

use std::convert::Infallible;
use std::fmt;
use std::future::ready;
use std::time::Duration;

use tokio::time::Instant;
use understudy_runtime::clock::SystemClock;

use self::bare::{Bare, Clocked, InMoka, InQuickCache};
use self::stage::{CacheStage, KEYS, text};
use super::report::median;
use super::run::Options;
use crate::crowd;

/// Hits in a row, before whoever reads the log has its turn.
const IN_A_ROW: usize = 20_000;
/// How often that is done in a round.
const ROWS: usize = 20;
/// Values that are read from Redis in a round, and keys that are forgotten.
const IN_REDIS: usize = 5_000;
/// How many are asked for, or forgotten, at the same time.
const AT_ONCE: usize = 64;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    QuickCache,
    Clocked,
    Moka,
    Get,
    Publish,
}

impl Part {
    const ALL: [Self; 5] = [Self::QuickCache, Self::Clocked, Self::Moka, Self::Get, Self::Publish];

    fn name(self) -> &'static str {
        match self {
            Self::QuickCache => "hit in memory, of a bare quick_cache hit",
            Self::Clocked => "hit in memory, of a bare quick_cache hit and a look at the clock",
            Self::Moka => "hit in memory, of a bare moka hit",
            Self::Get => "hit in Redis, of a bare GET",
            Self::Publish => "`forget`, of a bare PUBLISH",
        }
    }

    /// What the ratio is to be at least, if anything.
    fn wanted(self) -> Option<f64> {
        match self {
            Self::QuickCache | Self::Clocked | Self::Moka => Some(0.8),
            Self::Get => None,
            Self::Publish => Some(0.75),
        }
    }
}

/// Rates of the cache and of what it is compared with, by round.
#[derive(Debug, Clone, PartialEq)]
struct Compared {
    part: Part,
    rounds: Vec<(f64, f64)>,
}

/// All of it; shown as a table in Markdown.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheReport(Vec<Compared>);

/// Measures on a Redis of its own; `progress` is told each measurement.
pub async fn measure(options: &Options, mut progress: impl FnMut(String)) -> CacheReport {
    let stage = CacheStage::start().await;
    let mut all = Vec::new();
    for part in Part::ALL {
        let mut rounds = Vec::new();
        for round in 0..options.rounds {
            // Who goes first takes turns.
            let rates = if round % 2 == 0 {
                let ours = ours(part, &stage, round).await;
                (ours, theirs(part, &stage, round).await)
            } else {
                let theirs = theirs(part, &stage, round).await;
                (ours(part, &stage, round).await, theirs)
            };
            progress(format!("{}: {:.0}/s and {:.0}/s", part.name(), rates.0, rates.1));
            rounds.push(rates);
        }
        all.push(Compared { part, rounds });
    }
    CacheReport(all)
}

async fn ours(part: Part, stage: &CacheStage, round: usize) -> f64 {
    match part {
        Part::QuickCache | Part::Clocked | Part::Moka => memory_hits(stage).await,
        Part::Get => redis_hits(stage, round).await,
        Part::Publish => {
            per_second(async |number| {
                stage.numbers.forget(&*key(round, number)).await.expect("Redis runs");
            })
            .await
        }
    }
}

async fn theirs(part: Part, stage: &CacheStage, round: usize) -> f64 {
    match part {
        Part::QuickCache => bare_hits(&InQuickCache::filled(&stage.keys), &stage.keys),
        Part::Clocked => {
            bare_hits(&Clocked(InQuickCache::filled(&stage.keys), SystemClock), &stage.keys)
        }
        Part::Moka => bare_hits(&InMoka::filled(&stage.keys), &stage.keys),
        Part::Get => {
            let keys: Vec<String> = (0..IN_REDIS).map(|number| key(round, number)).collect();
            for key in &keys {
                stage.bare.set(key, &text()).await;
            }
            per_second(async |number| stage.bare.get(&keys[number]).await).await
        }
        Part::Publish => {
            per_second(async |number| stage.bare.publish(&key(round, number)).await).await
        }
    }
}

/// A key that no other round has.
fn key(round: usize, number: usize) -> String {
    format!("round-{round}:{number}")
}

/// How many hits per second there are, in rows between which others have their turn.
async fn memory_hits(stage: &CacheStage) -> f64 {
    for key in &stage.keys {
        hit(stage, key).await;
    }
    let before = stage.memory_hits();
    let mut took = Duration::ZERO;
    for _ in 0..ROWS {
        let begun = Instant::now();
        for key in stage.keys.iter().cycle().take(IN_A_ROW) {
            hit(stage, key).await;
        }
        took += begun.elapsed();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let hits = (ROWS * IN_A_ROW) as u64;
    assert_eq!(stage.memory_hits() - before, hits, "all of them are in memory");
    hits as f64 / took.as_secs_f64()
}

async fn hit(stage: &CacheStage, key: &str) {
    let given = stage.numbers.get_with(key, || ready(Ok::<u64, Infallible>(1))).await;
    std::hint::black_box(given.expect("loading cannot fail"));
}

/// The same number of hits of a library alone.
fn bare_hits(cache: &impl Bare, keys: &[String]) -> f64 {
    let begun = Instant::now();
    for _ in 0..ROWS {
        for key in keys.iter().cycle().take(IN_A_ROW) {
            std::hint::black_box(cache.get(key));
        }
    }
    (ROWS * IN_A_ROW) as f64 / begun.elapsed().as_secs_f64()
}

/// How many values per second are read that another node has loaded.
async fn redis_hits(stage: &CacheStage, round: usize) -> f64 {
    let keys: Vec<String> = (0..IN_REDIS).map(|number| key(round, number)).collect();
    for key in &keys {
        let loaded = stage.texts.get_with(key.as_str(), || ready(Ok::<String, Infallible>(text())));
        loaded.await.expect("loading cannot fail");
    }
    let before = stage.redis_hits();
    let rate = per_second(async |number| {
        let load = || ready(Ok::<String, Infallible>(text()));
        let given = stage.same_texts.get_with(keys[number].as_str(), load).await;
        std::hint::black_box(given.expect("loading cannot fail"));
    })
    .await;
    assert_eq!(stage.redis_hits() - before, IN_REDIS as u64, "all of them are in Redis");
    rate
}

/// Does something once for each number below [`IN_REDIS`], [`AT_ONCE`] at a time; says how many per second.
async fn per_second(work: impl AsyncFn(usize)) -> f64 {
    let begun = Instant::now();
    crowd(AT_ONCE, IN_REDIS, work).await;
    IN_REDIS as f64 / begun.elapsed().as_secs_f64()
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |figure: fn(&(f64, f64)) -> f64| {
            median(self.rounds.iter().map(figure).collect()).unwrap_or(0.0)
        };
        let ratio = of(|(ours, theirs)| ours / theirs.max(0.001));
        let (wanted, verdict) = match self.part.wanted() {
            Some(wanted) if ratio >= wanted => (format!("≥ {wanted:.2}"), "met"),
            Some(wanted) => (format!("≥ {wanted:.2}"), "**missed**"),
            None => (String::new(), ""),
        };
        write!(
            f,
            "| {} | {:.0} | {:.0} | {ratio:.2} | {wanted} | {verdict} |",
            self.part.name(),
            of(|(ours, _)| *ours),
            of(|(_, theirs)| *theirs),
        )
    }
}

impl fmt::Display for CacheReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| cache, {KEYS} keys in memory, {IN_REDIS} in Redis | per second | of the other | ratio | wanted | |\n\
             |---|--:|--:|--:|--:|---|"
        )?;
        for compared in &self.0 {
            writeln!(f, "{compared}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_compared_within_a_round() {
        // The machine is ten times slower in the second round.
        let rounds = vec![(700.0, 1_000.0), (80.0, 100.0), (75.0, 100.0)];
        let shown = Compared { part: Part::Publish, rounds }.to_string();
        assert_eq!(shown, "| `forget`, of a bare PUBLISH | 80 | 100 | 0.75 | ≥ 0.75 | met |");
    }
}
