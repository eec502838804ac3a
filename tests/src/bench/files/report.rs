//! The table: what moves how fast, and how much of what nginx and the bare client library do.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Way;
use crate::bench::report::median;

/// One file, written and read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// MB/s, written and read.
    rates: [f64; 2],
    /// Processor time of the node for each MB, µs; 0 where it is not asked.
    processor_us: [f64; 2],
}

impl Sample {
    pub(super) fn new(bytes: usize, took: [Duration; 2], processor: [Duration; 2]) -> Self {
        let megabytes = bytes as f64 / 1e6;
        Self {
            rates: took.map(|time| megabytes / time.as_secs_f64().max(1e-9)),
            processor_us: processor.map(|time| time.as_secs_f64() * 1e6 / megabytes),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} MB/s written, {:.0} MB/s read", self.rates[0], self.rates[1])
    }
}

/// All of it; shown as a table in Markdown. Ratios are taken within a round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FilesReport(BTreeMap<Way, Vec<Sample>>);

impl FilesReport {
    pub(super) fn add(&mut self, way: Way, sample: Sample) {
        self.0.entry(way).or_default().push(sample);
    }

    fn median(&self, way: Way, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.0.get(&way)?.iter().map(of).collect())
    }

    /// How much of the rate of another, in the median.
    fn ratio(&self, way: Way, other: Way, direction: usize) -> Option<f64> {
        let (own, other) = (self.0.get(&way)?, self.0.get(&other)?);
        let ratio =
            |(own, other): (&Sample, &Sample)| own.rates[direction] / other.rates[direction];
        median(own.iter().zip(other).map(ratio).collect())
    }
}

impl fmt::Display for FilesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| one file of {} MiB | written MB/s | of nginx | of object_store | node CPU µs per MB \
             | read MB/s | of nginx | of object_store | node CPU µs per MB |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|",
            super::FILE_MIB
        )?;
        let shown = |value: Option<f64>, places: usize| {
            value.map_or_else(String::new, |value| format!("{value:.places$}"))
        };
        for way in Way::ALL {
            write!(f, "| {} |", way.name())?;
            for direction in 0..2 {
                let rate = self.median(way, |sample| sample.rates[direction]);
                let processor = self.median(way, |sample| sample.processor_us[direction]);
                write!(
                    f,
                    " {} | {} | {} | {} |",
                    shown(rate, 0),
                    shown(self.ratio(way, Way::Nginx, direction), 2),
                    shown(self.ratio(way, Way::Bare, direction), 2),
                    shown(processor.filter(|time| *time > 0.0), 0),
                )?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_compared_with_nginx_and_the_bare_library_in_the_same_round() {
        let mut report = FilesReport::default();
        // The machine is ten times slower in the second round.
        for speed in [10, 1, 9] {
            let took = |share: u64| [Duration::from_millis(10_000 / (speed * share)); 2];
            let none = [Duration::ZERO; 2];
            report.add(Way::Nginx, Sample::new(1_000_000, took(4), none));
            report.add(Way::Bare, Sample::new(1_000_000, took(2), none));
            let processor = [Duration::from_millis(2); 2];
            report.add(Way::Node(1), Sample::new(1_000_000, took(1), processor));
        }
        let ratio = |other: Way| report.ratio(Way::Node(1), other, 0).unwrap_or_default();
        assert!((ratio(Way::Nginx) - 0.25).abs() < 0.01);
        assert!((ratio(Way::Bare) - 0.5).abs() < 0.01);
        assert_eq!(report.ratio(Way::Node(0), Way::Nginx, 0), None);
        let table = report.to_string();
        assert!(table.contains("| node, `folder` | 1 | 0.25 | 0.50 | 2000 |"), "{table}");
    }
}
