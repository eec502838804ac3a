//! Looks through the states of the model: all of them, nearest first, or along random walks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use crate::rules::Setup;
use crate::server::Servers;
use crate::world::{Steps, World};

/// What was found.
#[derive(Debug)]
pub(crate) struct Report {
    /// Different states that were seen.
    pub(crate) states: usize,
    /// Whether those are all there are.
    pub(crate) complete: bool,
    /// A way to a state that must not be.
    pub(crate) found: Option<Counterexample>,
    /// What happened in some state, as bits of [`World::sights`].
    pub(crate) sights: u8,
}

#[derive(Debug)]
pub(crate) struct Counterexample {
    pub(crate) what: &'static str,
    pub(crate) trace: Vec<String>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} after {} steps:", self.what, self.trace.len())?;
        for (i, step) in self.trace.iter().enumerate() {
            writeln!(f, "  {:2}. {step}", i + 1)?;
        }
        Ok(())
    }
}

/// Looks at the nearest `limit` states; the first counterexample is a shortest one.
pub(crate) fn nearest(setup: &Setup, limit: usize) -> Report {
    let mut servers = Servers::default();
    let mut steps = Steps::new();
    let start = World::start(setup);
    let mut queue: Vec<(World, u32)> = vec![(start, 0)];
    let mut seen: HashMap<World, (), Quick> = HashMap::default();
    seen.insert(start, ());
    let mut sights = 0;
    let mut at = 0;
    while at < queue.len() && queue.len() < limit {
        let (world, _) = queue[at];
        steps.clear();
        world.steps(setup, &mut servers, &mut steps);
        for (event, next) in &steps {
            if let Some(what) = next.wrong(setup, &world) {
                let mut trace = trace(setup, &mut servers, &queue, at);
                trace.push(event.to_string());
                let found = Some(Counterexample { what, trace });
                return Report { states: queue.len(), complete: false, found, sights };
            }
            if let Entry::Vacant(place) = seen.entry(*next) {
                place.insert(());
                sights |= next.sights();
                queue.push((*next, at as u32));
            }
        }
        at += 1;
    }
    Report { states: queue.len(), complete: at == queue.len(), found: None, sights }
}

fn trace(
    setup: &Setup,
    servers: &mut Servers,
    queue: &[(World, u32)],
    mut at: usize,
) -> Vec<String> {
    let mut trace = Vec::new();
    while at != 0 {
        let before = queue[at].1 as usize;
        let mut steps = Steps::new();
        queue[before].0.steps(setup, servers, &mut steps);
        let step = steps.iter().find(|(_, next)| *next == queue[at].0);
        trace.extend(step.map(|(event, _)| event.to_string()));
        at = before;
    }
    trace.reverse();
    trace
}

/// Goes `walks` random ways of at most `length` steps each; the same `seed` goes the same ways.
pub(crate) fn walks(setup: &Setup, walks: usize, length: usize, seed: u64) -> Report {
    let mut servers = Servers::default();
    let mut random = Random(seed | 1);
    let mut steps = Steps::new();
    let mut report = Report { states: 0, complete: false, found: None, sights: 0 };
    for _ in 0..walks {
        let mut world = World::start(setup);
        let mut trace = Vec::new();
        for _ in 0..length {
            steps.clear();
            world.steps(setup, &mut servers, &mut steps);
            let Some((event, next)) = random.pick(&steps) else {
                break;
            };
            trace.push(*event);
            report.states += 1;
            if let Some(what) = next.wrong(setup, &world) {
                let trace = trace.iter().map(ToString::to_string).collect();
                report.found = Some(shortened(setup, &mut servers, Counterexample { what, trace }));
                return report;
            }
            world = *next;
            report.sights |= world.sights();
        }
    }
    report
}

/// Leaves out what the counterexample does not need.
fn shortened(setup: &Setup, servers: &mut Servers, mut found: Counterexample) -> Counterexample {
    let mut length = found.trace.len() / 2;
    while length > 0 {
        let mut from = 0;
        while from < found.trace.len() {
            let mut trace = found.trace.clone();
            trace.drain(from..(from + length).min(trace.len()));
            match replayed(setup, servers, &trace) {
                Some(shorter) => found = shorter,
                None => from += length,
            }
        }
        length /= 2;
    }
    found
}

/// Goes a way again; `None` if it cannot be gone, or nothing is wrong on it.
fn replayed(setup: &Setup, servers: &mut Servers, trace: &[String]) -> Option<Counterexample> {
    let mut world = World::start(setup);
    for (i, event) in trace.iter().enumerate() {
        let mut steps = Steps::new();
        world.steps(setup, servers, &mut steps);
        let (_, next) = steps.iter().find(|(at, _)| at.to_string() == *event)?;
        if let Some(what) = next.wrong(setup, &world) {
            return Some(Counterexample { what, trace: trace[..=i].to_vec() });
        }
        world = *next;
    }
    None
}

/// A xorshift generator: quick, and the same everywhere.
struct Random(u64);

impl Random {
    /// Picks one of the steps, rarely the ones that use up a walk.
    fn pick<'a, T>(
        &mut self,
        steps: &'a [(crate::world::Event, T)],
    ) -> Option<&'a (crate::world::Event, T)> {
        let total: u64 = steps.iter().map(|(event, _)| event.weight()).sum();
        let mut left = self.next().checked_rem(total)?;
        steps.iter().find(|(event, _)| match left.checked_sub(event.weight()) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        })
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

type Quick = BuildHasherDefault<QuickHasher>;

/// Multiplies and rotates: states need spreading, not protection.
#[derive(Default)]
struct QuickHasher(u64);

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, i: u8) {
        self.write_u64(i.into());
    }

    fn write_isize(&mut self, i: isize) {
        self.write_u64(i as u64);
    }

    fn write_u64(&mut self, i: u64) {
        self.0 = (self.0.rotate_left(5) ^ i).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}
