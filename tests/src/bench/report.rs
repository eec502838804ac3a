//! The table of a run, and what it says about the targets.

mod targets;

use std::collections::BTreeMap;
use std::fmt;

use super::case::{Case, INCREMENTS};
use super::latency::Latency;
use super::load::Totals;
use super::memory::MemoryUse;
use super::meter::Costs;

/// One measurement of one case.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sample {
    /// Requests answered with a status below 300, per second.
    pub rate: f64,
    /// Processor time of the servers per request, µs.
    pub server_us: f64,
    /// Processor time of Redis per request, µs.
    pub redis_us: f64,
    /// Processor time of the clients per request, µs.
    pub client_us: f64,
    /// Commands sent to Redis per request.
    pub commands: f64,
    /// The same, with those that scripts issued.
    pub commands_in_all: f64,
    /// Other answers.
    pub refused: u64,
    /// Increments that a hammered session kept, of [`INCREMENTS`].
    pub kept: Option<u64>,
}

impl Sample {
    pub(super) fn new(totals: Totals, costs: Costs) -> Self {
        let count = (totals.answered + totals.refused).max(1) as f64;
        let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6 / count;
        Self {
            rate: totals.answered as f64 / totals.elapsed.as_secs_f64(),
            server_us: micros(costs.servers),
            redis_us: micros(costs.redis),
            client_us: micros(totals.processor),
            commands: costs.commands as f64 / count,
            commands_in_all: costs.commands_in_all as f64 / count,
            refused: totals.refused,
            kept: None,
        }
    }
}

impl Sample {
    /// Requests that a second of processor time is good for, all processes together. On a busy machine
    /// it is the rate that would be seen if nothing else ran there.
    pub(super) fn per_processor_second(&self) -> f64 {
        1e6 / (self.server_us + self.redis_us + self.client_us).max(0.001)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:9.0}/s  server {:6.2} µs  redis {:5.2} µs  clients {:5.2} µs  commands {:.4}",
            self.rate, self.server_us, self.redis_us, self.client_us, self.commands
        )?;
        if let Some(kept) = self.kept {
            write!(f, "  kept {kept} of {INCREMENTS}")?;
        }
        if self.refused > 0 {
            write!(f, "  REFUSED {}", self.refused)?;
        }
        Ok(())
    }
}

/// All measurements of a run; shown as two tables in Markdown.
#[derive(Debug, Default)]
pub struct Report {
    samples: BTreeMap<Case, BTreeMap<usize, Sample>>,
    /// How long single requests take, if that was measured.
    pub latencies: Vec<Latency>,
    /// Memory, if it was measured.
    pub memory: Option<MemoryUse>,
}

impl Report {
    pub(super) fn add(&mut self, round: usize, case: Case, sample: Sample) {
        self.samples.entry(case).or_default().insert(round, sample);
    }

    /// The median of one figure over the rounds.
    pub(super) fn median(&self, case: Case, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.samples.get(&case)?.values().map(figure).collect())
    }

    /// The median of the ratios of two cases, each taken within one round.
    pub(super) fn ratio(
        &self,
        case: Case,
        to: Case,
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<f64> {
        let (these, those) = (self.samples.get(&case)?, self.samples.get(&to)?);
        let ratios = these.iter().filter_map(|(round, sample)| {
            let base = figure(those.get(round)?);
            (base > 0.0).then(|| figure(sample) / base)
        });
        median(ratios.collect())
    }

    /// The fewest increments that a round of a hammered case kept.
    pub(super) fn kept(&self, case: Case) -> Option<u64> {
        self.samples.get(&case)?.values().filter_map(|sample| sample.kept).min()
    }

    fn refused(&self, case: Case) -> u64 {
        let samples = self.samples.get(&case).into_iter().flat_map(BTreeMap::values);
        samples.map(|sample| sample.refused).sum()
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, case: Case) -> fmt::Result {
        let show = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let median = |figure: fn(&Sample) -> f64, digits| show(self.median(case, figure), digits);
        let kept = match (self.kept(case), self.refused(case)) {
            (None, 0) => String::new(),
            (Some(kept), 0) => format!("{kept} of {INCREMENTS}"),
            (kept, refused) => format!("{} ({refused} refused)", kept.unwrap_or(0)),
        };
        writeln!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {kept} |",
            case.name(),
            median(|sample| sample.rate, 0),
            show(self.ratio(case, Case::Floor, |sample| sample.rate), 2),
            show(self.ratio(case, Case::Floor, Sample::per_processor_second), 2),
            show(self.ratio(case, Case::Bare, |sample| sample.rate), 2),
            median(|sample| sample.server_us, 1),
            show(self.ratio(case, Case::Floor, |sample| sample.server_us), 2),
            median(|sample| sample.redis_us, 1),
            median(|sample| sample.client_us, 1),
            median(|sample| sample.commands, 4),
            median(|sample| sample.commands_in_all, 2),
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| case | requests/s | of floor | of floor, by CPU | of actix-web alone | server CPU µs \
             | of floor | Redis CPU µs | client CPU µs | Redis commands | with those in scripts \
             | kept |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for case in Case::ALL {
            if self.samples.contains_key(&case) {
                self.line(f, case)?;
            }
        }
        if !self.latencies.is_empty() {
            writeln!(
                f,
                "\n| one client, one request at a time | p50 µs | p99 µs |\n|---|--:|--:|"
            )?;
            for latency in &self.latencies {
                writeln!(f, "{latency}")?;
            }
        }
        if let Some(memory) = &self.memory {
            writeln!(
                f,
                "\n{} sessions of 1 KB created at {:.0}/s: {:.0} bytes each in the node \
                 ({:.0} of them state), {:.0} in Redis.",
                memory.sessions,
                memory.rate,
                memory.node_bytes,
                memory.state_bytes,
                memory.redis_bytes
            )?;
        }
        writeln!(f, "\n| target | wanted | measured | | by CPU |\n|---|--:|--:|---|--:|")?;
        for target in targets::all(self) {
            writeln!(f, "{target}")?;
        }
        Ok(())
    }
}

/// `None` of none.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut report = Report::default();
        // The machine is ten times slower in the second round.
        for (round, speed) in [(0, 1_000.0), (1, 100.0), (2, 900.0)] {
            let sample = |rate| Sample { rate, ..Sample::default() };
            report.add(round, Case::Floor, sample(speed));
            report.add(round, Case::Read, sample(speed * 0.9));
        }
        let ratio = report.ratio(Case::Read, Case::Floor, |sample| sample.rate);
        assert!((ratio.unwrap_or(0.0) - 0.9).abs() < 1e-9);
        assert_eq!(report.median(Case::Floor, |sample| sample.rate), Some(900.0));
        assert_eq!(report.ratio(Case::Read, Case::Bare, |sample| sample.rate), None);
        assert_eq!(median(vec![1.0, 2.0]), Some(1.5));
    }
}
