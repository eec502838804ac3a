//! The tables about jobs, in Markdown.

use std::fmt;

use super::{Floor, Registered, SameSecond, Sustained, Tasks};

/// All measurements of jobs.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct JobsReport {
    /// One INSERT per due time: over one connection, over a pool, all in one statement.
    pub floors: Vec<Floor>,
    /// 1,000 jobs of one due time, by placement.
    pub same_second: Vec<SameSecond>,
    /// Jobs that run every second.
    pub sustained: Vec<Sustained>,
    /// Jobs that are not due: few, many.
    pub registered: Vec<Registered>,
    /// Tasks, by room.
    pub tasks: Vec<Tasks>,
}

impl JobsReport {
    /// A time for 1,000 as multiples of that of the first two floors.
    fn times(&self, thousand_ms: f64) -> String {
        let ratio = |floor: &Floor| format!("{:.1}", thousand_ms / floor.thousand_ms);
        self.ratios(ratio)
    }

    /// A rate as parts of that of the first two floors.
    fn parts(&self, rate: f64) -> String {
        self.ratios(|floor| format!("{:.2}", rate / floor.rate()))
    }

    fn ratios(&self, ratio: impl Fn(&Floor) -> String) -> String {
        let [one, pool, ..] = &self.floors[..] else { return "- | -".to_owned() };
        format!("{} | {}", ratio(one), ratio(pool))
    }

    fn at_once(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| 1,000 jobs due at once | started p50 ms | p99 | ended p50 | all ended | of INSERTs over one connection \
             | over 20 | node CPU µs each | PostgreSQL CPU µs each |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for due in &self.same_second {
            writeln!(
                f,
                "| placement `{}` | {:.0} | {:.0} | {:.0} | {:.0} | {} | {:.0} | {:.0} |",
                due.placement,
                due.start_p50_ms,
                due.start_p99_ms,
                due.end_p50_ms,
                due.all_ended_ms,
                self.times(due.all_ended_ms),
                due.node_us,
                due.postgres_us
            )?;
        }
        for floor in &self.floors {
            writeln!(
                f,
                "| floor: {} | | | | {:.0} | {} | | {:.0} |",
                floor.what,
                floor.thousand_ms,
                self.times(floor.thousand_ms),
                floor.postgres_us
            )?;
        }
        Ok(())
    }

    fn sustained(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| due per second | runs/s | of INSERTs over one connection | over 20 | skipped/s | started p50 ms | p99 \
             | node CPU µs each | PostgreSQL CPU µs each | transactions each |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for line in &self.sustained {
            writeln!(
                f,
                "| {} | {:.0} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} |",
                line.wanted,
                line.ended,
                self.parts(line.ended),
                line.skipped,
                line.start_p50_ms,
                line.start_p99_ms,
                line.node_us,
                line.postgres_us,
                line.transactions
            )?;
        }
        Ok(())
    }

    fn registered(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| jobs registered | node CPU ms per s | PostgreSQL CPU ms per s | transactions/s | node memory MB | probe \
             started p50 ms | max | nobody leads after a step-down, ms | probe started max | `GET /v1/jobs` ms \
             | `GET /v1/jobs-due` ms |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for line in &self.registered {
            writeln!(
                f,
                "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} |",
                line.jobs,
                line.node_ms,
                line.postgres_ms,
                line.transactions,
                line.resident as f64 / 1e6,
                line.start_p50_ms,
                line.start_max_ms,
                line.take_over.gap_ms,
                line.take_over.start_max_ms,
                line.page_ms,
                line.due_ms
            )?;
        }
        Ok(())
    }

    fn tasks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| tasks, at most at once | into the queue/s | of INSERTs over one connection | over 20 | carried out/s \
             | of INSERTs over one connection | over 20 | node CPU µs each | PostgreSQL CPU µs each |\n\
             |--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for line in &self.tasks {
            writeln!(
                f,
                "| {} | {:.0} | {} | {:.0} | {} | {:.0} | {:.0} |",
                line.room,
                line.enqueued,
                self.parts(line.enqueued),
                line.ended,
                self.parts(line.ended),
                line.node_us,
                line.postgres_us
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for JobsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at_once(f)?;
        self.sustained(f)?;
        self.registered(f)?;
        self.tasks(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_floors_of_the_same_run() {
        let floor = |thousand_ms| Floor { what: String::new(), thousand_ms, postgres_us: 0.0 };
        let floors = vec![floor(200.0), floor(100.0), floor(5.0)];
        let report = JobsReport { floors, ..JobsReport::default() };
        assert_eq!(report.times(500.0), "2.5 | 5.0");
        assert_eq!(report.parts(1_000.0), "0.20 | 0.10");
        assert_eq!(JobsReport::default().times(1.0), "- | -");
    }
}
