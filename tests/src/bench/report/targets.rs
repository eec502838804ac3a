//! What the project promised itself, and by how much each promise is kept or missed.

use std::fmt;

use super::{Report, Sample};
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
    /// The same ratio in processor time, which other programs on the machine disturb less.
    by_processor: Option<f64>,
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
        let by_processor = self.by_processor.map(figure).unwrap_or_default();
        write!(
            f,
            "| {} | {relation} {wanted} | {measured} | {verdict}{off} | {by_processor} |",
            self.what
        )
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
    use Case::{Floor, FredEvalsha, Hammer, HammerTwo, LuaHammer, Read, Write};
    let rate = |what, wanted, case, to| {
        let measured = report.ratio(case, to, |sample| sample.rate)?;
        let by_processor = report.ratio(case, to, Sample::per_processor_second);
        Some(Target { what, good: Good::AtLeast, wanted, measured, by_processor })
    };
    let most = |what, wanted, measured: Option<f64>| {
        let (good, by_processor) = (Good::AtMost, None);
        Some(Target { what, good, wanted, measured: measured?, by_processor })
    };
    let lost = |case| report.kept(case).map(|kept| (INCREMENTS.saturating_sub(kept)) as f64);
    let commands = report.median(Read, |sample| sample.commands);
    let memory = report.memory.map(|memory| memory.node_bytes - memory.state_bytes);
    let lines = [
        rate("read at the owner, of the floor", 0.88, Read, Floor),
        most("Redis commands per read at the owner", 0.02, commands),
        rate("write at the owner, of the floor", 0.52, Write, Floor),
        rate("write at the owner, of one bare EVALSHA", 1.0, Write, FredEvalsha),
        most("increments lost through one process", 0.0, lost(Hammer)),
        rate("one session, of one Lua increment per request", 1.0, Hammer, LuaHammer),
        most("increments lost through two processes", 0.0, lost(HammerTwo)),
        rate("one session through two, of one Lua increment", 0.4, HammerTwo, LuaHammer),
        most("bytes per resident session besides its state", SESSION_BYTES, memory),
    ];
    lines.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_says_by_how_much_it_is_missed() {
        let target = Target {
            what: "speed",
            good: Good::AtLeast,
            wanted: 0.5,
            measured: 0.4,
            by_processor: Some(0.45),
        };
        assert_eq!(target.to_string(), "| speed | ≥ 0.50 | 0.40 | **missed**, -20 % | 0.45 |");
        let target =
            Target { good: Good::AtMost, wanted: 0.0, measured: 0.0, by_processor: None, ..target };
        assert_eq!(target.to_string(), "| speed | ≤ 0 | 0 | met |  |");
    }
}
