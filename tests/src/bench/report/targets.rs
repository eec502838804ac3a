//! What the project promised itself, and by how much each promise is kept or missed.

use std::fmt;

use super::Report;
use crate::bench::case::{Case, INCREMENTS};

/// Most bytes of memory for a resident session, besides its state.
const SESSION_BYTES: f64 = 4096.0;

/// Which side of the wanted value is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Good {
    AtLeast,
    AtMost,
}

/// A promise beside what was measured.
#[derive(Debug)]
pub(super) struct Target {
    what: &'static str,
    good: Good,
    wanted: f64,
    measured: f64,
}

impl Target {
    fn is_met(&self) -> bool {
        match self.good {
            Good::AtLeast => self.measured >= self.wanted,
            Good::AtMost => self.measured <= self.wanted,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relation = match self.good {
            Good::AtLeast => "≥",
            Good::AtMost => "≤",
        };
        let verdict = if self.is_met() { "met" } else { "**missed**" };
        let off = if self.wanted == 0.0 {
            String::new()
        } else {
            let percent = (self.measured / self.wanted - 1.0) * 100.0;
            format!(", {percent:+.0} %")
        };
        let (wanted, measured) = (figure(self.wanted), figure(self.measured));
        write!(f, "| {} | {relation} {wanted} | {measured} | {verdict}{off} |", self.what)
    }
}

fn figure(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// The targets for which there are measurements.
pub(super) fn all(report: &Report) -> Vec<Target> {
    let rate = |case, to| report.ratio(case, to, |sample| sample.rate);
    let lost = |case| report.kept(case).map(|kept| (INCREMENTS.saturating_sub(kept)) as f64);
    let commands = |case| report.median(case, |sample| sample.commands);
    let memory = report.memory.map(|memory| memory.node_bytes - memory.state_bytes);
    let lines = [
        ("read at the owner, of the floor", Good::AtLeast, 0.88, rate(Case::Read, Case::Floor)),
        ("Redis commands per read at the owner", Good::AtMost, 0.02, commands(Case::Read)),
        ("write at the owner, of the floor", Good::AtLeast, 0.52, rate(Case::Write, Case::Floor)),
        (
            "write at the owner, of one bare EVALSHA",
            Good::AtLeast,
            1.0,
            rate(Case::Write, Case::FredEvalsha),
        ),
        ("increments lost through one process", Good::AtMost, 0.0, lost(Case::Hammer)),
        (
            "one session, of one Lua increment per request",
            Good::AtLeast,
            1.0,
            rate(Case::Hammer, Case::LuaHammer),
        ),
        ("increments lost through two processes", Good::AtMost, 0.0, lost(Case::HammerTwo)),
        (
            "one session through two, of one Lua increment",
            Good::AtLeast,
            0.4,
            rate(Case::HammerTwo, Case::LuaHammer),
        ),
        ("bytes per resident session besides its state", Good::AtMost, SESSION_BYTES, memory),
    ];
    let measured = lines.into_iter().filter_map(|(what, good, wanted, measured)| {
        Some(Target { what, good, wanted, measured: measured? })
    });
    measured.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_says_by_how_much_it_is_missed() {
        let target = Target { what: "speed", good: Good::AtLeast, wanted: 0.5, measured: 0.4 };
        assert_eq!(target.to_string(), "| speed | ≥ 0.50 | 0.40 | **missed**, -20 % |");
        let target = Target { good: Good::AtMost, wanted: 0.0, measured: 0.0, ..target };
        assert_eq!(target.to_string(), "| speed | ≤ 0 | 0 | met |");
    }
}
