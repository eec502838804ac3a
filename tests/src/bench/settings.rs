//! What options that keep sessions safer, or smaller, cost a write: each beside a cluster that lacks only that, in turn.
//!
//! Two clusters run at a time, of one node each; whatever disturbs one of them disturbs the other. A write is either an
//! increment or the change of a text of 2 KB, as the option concerns numbers of writes or their length.

use std::fmt;
use std::time::Duration;

use super::case::{CLIENTS, session};
use super::jobs::costs::{postgres_time, postmaster};
use super::load::{Line, Load, Totals, Visitor};
use super::meter::Meter;
use super::peers::WORKERS;
use super::report::{Sample, median};
use super::run::Options;
use super::stage::{Site, site};
use crate::{Cluster, Topology};

/// Bytes of the text.
const TEXT: usize = 2_000;
/// Makes a text that packs about as well as what applications keep.
const WORDS: [&str; 16] = [
    "order", "state", "sent", "price", "basket", "street", "number", "article", "name", "count",
    "colour", "blue", "small", "first", "true", "date",
];

/// What a client writes again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Increment,
    Text,
}

/// A setting that costs something.
#[derive(Debug)]
struct Setting {
    what: &'static str,
    write: Write,
    topology: Topology,
    variables: &'static [(&'static str, &'static str)],
}

const KEY: (&str, &str) =
    ("UNDERSTUDY_SESSION_ENCRYPTION_KEYS", "bench:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");

const SETTINGS: [Setting; 6] = [
    Setting {
        what: "encrypted, increment",
        write: Write::Increment,
        topology: Topology::Standalone,
        variables: &[KEY],
    },
    Setting {
        what: "encrypted, 2 KB",
        write: Write::Text,
        topology: Topology::Standalone,
        variables: &[KEY],
    },
    Setting {
        what: "compressed, 2 KB",
        write: Write::Text,
        topology: Topology::Standalone,
        variables: &[("UNDERSTUDY_SESSION_COMPRESS_ABOVE_BYTES", "1024")],
    },
    Setting {
        what: "`write_behind`, increment",
        write: Write::Increment,
        topology: Topology::Standalone,
        variables: &[("UNDERSTUDY_SESSION_PERSIST", "write_behind")],
    },
    Setting {
        what: "`write_through`, increment",
        write: Write::Increment,
        topology: Topology::Standalone,
        variables: &[("UNDERSTUDY_SESSION_PERSIST", "write_through")],
    },
    Setting {
        what: "`replicated`, increment",
        write: Write::Increment,
        topology: Topology::Sentinel,
        variables: &[("UNDERSTUDY_SESSION_DURABILITY", "replicated")],
    },
];

/// One measurement of one cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Look {
    sample: Sample,
    /// Processor time of PostgreSQL per write, µs.
    database_us: f64,
}

impl Look {
    /// Processor time of all processes per write, µs.
    fn all_us(&self) -> f64 {
        let Sample { server_us, redis_us, client_us, .. } = self.sample;
        (server_us + redis_us + client_us + self.database_us).max(0.001)
    }
}

/// What a setting costs: measurements with it beside those without, by round.
#[derive(Debug, Clone, PartialEq)]
struct Costs {
    what: &'static str,
    rounds: Vec<(Look, Look)>,
}

/// What all of them cost; shown as a table in Markdown.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingsReport(Vec<Costs>);

/// Measures each in as many rounds as the options say; `progress` is told each measurement.
pub async fn measure(options: &Options, mut progress: impl FnMut(String)) -> SettingsReport {
    let mut all = Vec::new();
    for topology in [Topology::Standalone, Topology::Sentinel] {
        let mut plain = Ground::start(topology, &[], options).await;
        for setting in SETTINGS.iter().filter(|setting| setting.topology == topology) {
            let mut other = Ground::start(topology, setting.variables, options).await;
            let costs = compare(setting, &mut plain, &mut other, options).await;
            progress(format!("settings: {costs}"));
            all.push(costs);
        }
    }
    SettingsReport(all)
}

/// In turn, every other round the other way round.
async fn compare(
    setting: &Setting,
    plain: &mut Ground,
    other: &mut Ground,
    options: &Options,
) -> Costs {
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        rounds.push(if round % 2 == 0 {
            let without = plain.look(setting.write, options).await;
            (other.look(setting.write, options).await, without)
        } else {
            let with = other.look(setting.write, options).await;
            (with, plain.look(setting.write, options).await)
        });
    }
    Costs { what: setting.what, rounds }
}

/// A cluster of one node.
struct Ground {
    cluster: Cluster,
    meter: Meter,
    postmaster: u32,
}

impl Ground {
    async fn start(
        topology: Topology,
        variables: &[(&'static str, &'static str)],
        options: &Options,
    ) -> Self {
        let mut builder = Cluster::builder().nodes(1).redis(topology);
        builder = builder.env("UNDERSTUDY_HTTP_WORKERS", &WORKERS.to_string());
        for (name, value) in &options.environment {
            builder = builder.env(name, value);
        }
        for (name, value) in variables {
            builder = builder.env(name, value);
        }
        let cluster = builder.start().await;
        let meter = Meter::connect(cluster.redis.primary_port()).await;
        Self {
            meter: meter.expect("Redis was started a moment ago"),
            postmaster: postmaster(&cluster.postgres),
            cluster,
        }
    }

    async fn look(&mut self, write: Write, options: &Options) -> Look {
        let site = site(&self.cluster.nodes[0]);
        let load = Load::begin(visitors(site, write).await, u64::MAX, options.threads);
        tokio::time::sleep(options.warm_up).await;
        let database = postgres_time(self.postmaster);
        let begun = self.meter.begin(&[site.pid]).await;
        begun.expect("Redis runs as long as the cluster");
        let before = load.look();
        tokio::time::sleep(options.measured).await;
        let totals = load.look().since(before);
        let costs = self.meter.end().await.expect("Redis runs as long as the cluster");
        let database = postgres_time(self.postmaster).saturating_sub(database);
        load.stop().await;
        Look { sample: Sample::new(totals, costs), database_us: each(database, totals) }
    }
}

fn each(time: Duration, totals: Totals) -> f64 {
    time.as_secs_f64() * 1e6 / (totals.answered + totals.refused).max(1) as f64
}

/// Clients with new sessions. A text is changed with every write, since one that stays what it is would not be written.
async fn visitors(site: Site, write: Write) -> Vec<Visitor> {
    let lines = match write {
        Write::Increment => vec!["POST /incr".to_owned()],
        Write::Text => (0..2).map(|_| format!("POST /set?k=text&v={}", text())).collect(),
    };
    let mut visitors = Vec::new();
    for _ in 0..CLIENTS {
        let cookie = session(site).await;
        let line = |line: &String| Line::new(site.address, line, Some(&cookie));
        visitors.push(lines.iter().map(line).collect());
    }
    visitors
}

fn text() -> String {
    let mut text = String::new();
    while text.len() < TEXT {
        text += WORDS[rand::random::<u32>() as usize % WORDS.len()];
        text += "+";
    }
    text.truncate(TEXT);
    text
}

impl Costs {
    fn median(&self, figure: impl Fn(&Look, &Look) -> f64) -> f64 {
        let figures = self.rounds.iter().map(|(with, without)| figure(with, without));
        median(figures.collect()).unwrap_or(0.0)
    }

    fn refused(&self) -> u64 {
        self.rounds.iter().map(|(with, without)| with.sample.refused + without.sample.refused).sum()
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {} | {:.0} | {:.0} | {:.2} | {:.2} | {:.1} | {:.2} | {:.1} | {:.1} | {:.1} | {:.4} | {} |",
            self.what,
            self.median(|with, _| with.sample.rate),
            self.median(|_, without| without.sample.rate),
            self.median(|with, without| with.sample.rate / without.sample.rate.max(0.001)),
            self.median(|with, without| without.all_us() / with.all_us()),
            self.median(|with, _| with.sample.server_us),
            self.median(|with, without| with.sample.server_us / without.sample.server_us.max(0.001)),
            self.median(|with, _| with.sample.redis_us),
            self.median(|_, without| without.sample.redis_us),
            self.median(|with, _| with.database_us),
            self.median(|with, _| with.sample.commands),
            self.refused()
        )
    }
}

impl fmt::Display for SettingsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| write, 64 sessions | writes/s | without | of that | by CPU | server CPU µs | of that without \
             | Redis CPU µs | without | PostgreSQL CPU µs | Redis commands | refused |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for costs in &self.0 {
            writeln!(f, "{costs}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_compared_within_a_round() {
        // The machine is ten times slower in the second round.
        let look = |rate: f64, database_us: f64| {
            let sample = Sample { rate, server_us: 100_000.0 / rate, ..Sample::default() };
            Look { sample, database_us }
        };
        let rounds =
            vec![(look(500.0, 100.0), look(1_000.0, 0.0)), (look(50.0, 1_000.0), look(100.0, 0.0))];
        let shown = Costs { what: "sealed", rounds }.to_string();
        assert!(
            shown.starts_with("| sealed | 275 | 550 | 0.50 | 0.33 | 1100.0 | 2.00 |"),
            "{shown}"
        );
        assert!(shown.ends_with("| 550.0 | 0.0000 | 0 |"), "{shown}");
    }

    #[test]
    fn two_texts_differ() {
        assert_eq!(text().len(), TEXT);
        assert_ne!(text(), text());
    }
}
