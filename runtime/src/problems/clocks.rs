//! Whether this node's clock shows the time of the servers, and whether the process stood still; pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::Sighting;
use super::around::utc;
use crate::clock::BootInstant;
use crate::finding::{Finding, Severity};

/// Clocks that differ by no more are fine, ms.
pub(crate) const TOLERATED_MS: i64 = 500;
/// For how long a pause is told.
const TOLD: Duration = Duration::from_secs(600);
/// So many pauses are remembered.
const PAUSES: usize = 3;

/// How far a server's clock is ahead of this node's, heard several times: one answer that was slow means nothing.
#[derive(Debug, Clone)]
pub(super) struct Skew {
    /// In ms, the part that is sure; the latest last.
    heard: VecDeque<i64>,
    needed: usize,
}

impl Skew {
    /// Believes a difference when so many looks in a row agree.
    pub(super) fn new(needed: usize) -> Self {
        Self { heard: VecDeque::new(), needed }
    }

    /// Takes one look, of which the last `doubt_ms` are uncertain.
    pub(super) fn heard(&mut self, offset_ms: i64, doubt_ms: i64) {
        let sure = (offset_ms.abs() - doubt_ms).max(0) * offset_ms.signum();
        self.heard.push_back(sure);
        if self.heard.len() > self.needed {
            self.heard.pop_front();
        }
    }

    /// Returns by how much the server is ahead, in ms, when that is too much; negative when it is behind.
    fn too_much(&self) -> Option<i64> {
        if self.heard.len() < self.needed {
            return None;
        }
        let least = self.heard.iter().copied().min_by_key(|sure| sure.abs())?;
        let same_side = self.heard.iter().all(|sure| sure.signum() == least.signum());
        (same_side && least.abs() > TOLERATED_MS).then_some(least)
    }

    /// Tells it of this node and the server.
    pub(super) fn finding(&self, node: &str, server: &str) -> Option<Finding> {
        let ahead_ms = self.too_much()?;
        // To half a second: the words should not change with every look.
        let halves = (ahead_ms.unsigned_abs() + 250) / 500;
        let (whole, half) = (halves / 2, if halves % 2 == 1 { ".5" } else { "" });
        let side = if ahead_ms > 0 { "behind" } else { "ahead of" };
        let text = format!("the clock of {node} is about {whole}{half} s {side} that of {server}");
        let fix = "let a time server (chrony, systemd-timesyncd) keep the clocks of all machines";
        Some(Finding::new(Severity::Warning, "clock_skew", text, fix))
    }
}

/// Times in which this process did not run.
#[derive(Debug, Clone)]
pub(super) struct Pauses {
    threshold: Duration,
    /// How long a node may be silent.
    ttl: Duration,
    noted: VecDeque<Pause>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    ended: BootInstant,
    at_ms: u64,
    length: Duration,
}

impl Pauses {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { threshold: (ttl / 2).max(Duration::from_secs(1)), ttl, noted: VecDeque::new() }
    }

    /// Takes how long a sleep was and how long it took; `at_ms` is the time when it ended.
    pub(super) fn slept(
        &mut self,
        planned: Duration,
        took: Duration,
        (now, at_ms): (BootInstant, u64),
    ) {
        let length = took.saturating_sub(planned);
        if length < self.threshold {
            return;
        }
        self.noted.push_back(Pause { ended: now, at_ms, length });
        if self.noted.len() > PAUSES {
            self.noted.pop_front();
        }
    }

    pub(super) fn sightings(&self, node: &str, now: BootInstant) -> Vec<Sighting> {
        let recent = self.noted.iter().filter(|it| now.saturating_duration_since(it.ended) < TOLD);
        recent.map(|pause| pause.sighting(node, self.ttl)).collect()
    }
}

impl Pause {
    fn sighting(self, node: &str, ttl: Duration) -> Sighting {
        let length = self.length.as_secs_f64();
        let mut text = format!("{node} stood still for {length:.1} s until {}", utc(self.at_ms));
        if self.length >= ttl {
            text.push_str(", so that other nodes could take over what it owns");
        }
        let fix = "look for memory that is swapped, a processor quota that is used up, or a machine that was suspended";
        let finding = Finding::new(Severity::Warning, "node_paused", text, fix);
        Sighting { finding, since_ms: Some(self.at_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skew(looks: &[(i64, i64)]) -> Option<i64> {
        let mut skew = Skew::new(3);
        looks.iter().for_each(|(offset_ms, doubt_ms)| skew.heard(*offset_ms, *doubt_ms));
        skew.too_much()
    }

    #[test]
    fn h7_a_clock_is_wrong_when_every_look_is_sure_of_it() {
        assert_eq!(skew(&[(900, 0), (900, 0)]), None, "too few looks");
        assert_eq!(skew(&[(900, 0), (700, 0), (800, 0)]), Some(700));
        assert_eq!(skew(&[(-900, 100), (-900, 0), (-900, 0)]), Some(-800));
        assert_eq!(skew(&[(900, 0), (499, 0), (900, 0)]), None, "one look was slow");
        assert_eq!(skew(&[(900, 0), (900, 500), (900, 0)]), None);
        assert_eq!(skew(&[(900, 0), (-900, 0), (900, 0)]), None);
        assert_eq!(skew(&[(0, 0), (900, 0), (900, 0), (900, 0)]), Some(900), "the last ones count");
    }

    #[test]
    fn h7_a_wrong_clock_is_told_with_its_side() {
        let told = |offset_ms: i64| {
            let mut skew = Skew::new(1);
            skew.heard(offset_ms, 0);
            skew.finding("a", "Redis").map(|finding| finding.text.into_owned())
        };
        assert_eq!(told(500), None);
        assert_eq!(told(800).unwrap(), "the clock of a is about 1 s behind that of Redis");
        assert_eq!(told(-2_400).unwrap(), "the clock of a is about 2.5 s ahead of that of Redis");
    }

    #[test]
    fn h7_a_pause_is_told_for_ten_minutes() {
        let at = |seconds: u64| BootInstant::from_nanos(seconds * 1_000_000_000);
        let mut pauses = Pauses::new(Duration::from_secs(3));
        let second = Duration::from_secs(1);
        pauses.slept(second, Duration::from_millis(2_400), (at(10), 10_000));
        assert_eq!(pauses.sightings("a", at(11)), []);
        pauses.slept(second, Duration::from_millis(2_600), (at(20), 20_000));
        pauses.slept(second, Duration::from_millis(5_000), (at(30), 1_767_225_600_000));
        let told = pauses.sightings("a", at(31));
        assert_eq!(told.len(), 2);
        assert_eq!(
            told[1].finding.text,
            "a stood still for 4.0 s until 2026-01-01T00:00:00Z, so that other nodes could take over what it owns"
        );
        assert_eq!(told[1].since_ms, Some(1_767_225_600_000));
        assert_eq!(pauses.sightings("a", at(625)).len(), 1);
    }
}
