//! A server, its replica, two nodes that read its log, and who asks and changes there, a step at a time.

use std::time::Duration;

use super::server::{Entry, News, Part, Server, Taken};
use super::weather::{KINDS, PAUSES, Slow, Weather};
use super::{Random, Rule, Rules};
use crate::cache::{BOUND, HOLD, LONGEST_CHANGE};

/// How old a value may be that is given.
const MOST: u64 = ms(BOUND);
/// How long the right to load lasts. Loading itself takes as long as it likes.
const LEASE: u64 = 6_000;
/// A hold that is shorter than a change may take.
const SHORT_HOLD: u64 = 1_000;
/// How long the server keeps a value.
const LIVES: u64 = 20_000;
/// How long the server remembers that the tag was forgotten: longer than a value lives that somebody loads just then.
const KEPT: u64 = LIVES + LEASE + 9_000;
/// The same, where it is too short.
const SHORT_KEPT: u64 = 1_000;
/// How many entries of the log are read at a time, and how far behind a node may be.
const ENTRIES: (usize, u64) = (1, 8);

const fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// How often something was seen that the rules are about.
#[derive(Debug, Default)]
pub(super) struct Sights {
    pub(super) given: u64,
    pub(super) from_memory: u64,
    pub(super) from_server: u64,
    pub(super) refused: u64,
    pub(super) blocked: u64,
    pub(super) died: u64,
    pub(super) cleared: u64,
    pub(super) tagged: u64,
}

impl Sights {
    pub(super) fn add(&mut self, more: &Self) {
        let Self { given, from_memory, from_server, refused, blocked, died, cleared, tagged } =
            self;
        *given += more.given;
        *from_memory += more.from_memory;
        *from_server += more.from_server;
        *refused += more.refused;
        *blocked += more.blocked;
        *died += more.died;
        *cleared += more.cleared;
        *tagged += more.tagged;
    }
}

#[derive(Debug, Default)]
struct Node {
    /// All that was forgotten before is out of memory; 0 before the log was read.
    fresh: u64,
    /// Up to where it has read the log: of which life, and the last entry.
    place: (u64, u64),
    memory: Option<u64>,
    /// Who loads: a number, and since when.
    flight: Option<(u64, u64)>,
    /// The number of the last one that may load during a change; 0 when there was none.
    unkept: u64,
    look: Look,
    /// What was forgotten here, before that was answered.
    own: u64,
}

impl Node {
    fn forget(&mut self) {
        self.memory = None;
        self.flight = None;
    }

    /// Forgets what was forgotten like this here.
    fn forget_by(&mut self, by: By, rules: Rules) {
        match by {
            By::Tag if !rules.has(Rule::TagFlights) => self.memory = None,
            By::Key | By::Tag | By::All => self.forget(),
        }
    }

    /// Forgets what the log tells; of a tag, and of everything, half of it, and says by what the rest is to be forgotten.
    fn hears(&mut self, news: &News, rules: Rules) -> Option<By> {
        let by = match news {
            News::Anew { .. } => By::All,
            News::Follow { entries, .. } => match entries.first()? {
                Entry::Key => By::Key,
                Entry::Tag => By::Tag,
                Entry::All => By::All,
                Entry::Other => return None,
            },
        };
        match by {
            By::Key => {
                self.forget();
                return None;
            }
            By::Tag if !rules.has(Rule::TagHeard) => return None,
            By::Tag if !rules.has(Rule::TagFlights) => {}
            By::Tag | By::All if rules.has(Rule::FlightsFirst) => self.flight = None,
            By::Tag | By::All => self.memory = None,
        }
        Some(by)
    }

    fn forgets_rest(&mut self, by: By, rules: Rules) {
        let memory_is_left = rules.has(Rule::FlightsFirst);
        let flights_stay = by == By::Tag && !rules.has(Rule::TagFlights);
        if memory_is_left || flights_stay {
            self.memory = None;
        } else {
            self.flight = None;
        }
    }

    /// Has read the log up to here, with a look that began then.
    fn has_read(&mut self, (asked, now): (u64, u64), news: &News, rules: Rules) {
        let read_all = match *news {
            News::Anew { life, last } => {
                self.place = (life, last);
                true
            }
            News::Follow { upto, newest, .. } => {
                self.place.1 = upto;
                upto >= newest
            }
        };
        if read_all || !rules.has(Rule::AllRead) {
            self.fresh = if rules.has(Rule::FreshBefore) { asked } else { now };
        }
    }
}

/// What something is forgotten by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Key,
    Tag,
    All,
}

/// A look into the log.
#[derive(Debug, Default)]
enum Look {
    #[default]
    None,
    /// It is under way to the server.
    Asked(u64),
    /// The answer is under way.
    Answered(u64, News),
    /// One of two steps of forgetting what it tells is done.
    Half(u64, News, By),
}

/// Somebody who asks for the value.
#[derive(Debug)]
struct Ask {
    node: usize,
    /// The least that may be given, by what was known when this began.
    least: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    First,
    Second {
        fresh: u64,
        found: Option<u64>,
    },
    Third {
        fresh: u64,
        found: Option<u64>,
    },
    /// It is not in memory.
    Boards,
    /// Another one loads it.
    Waits {
        number: u64,
    },
    Takes {
        number: u64,
    },
    /// Is about to read what there is; the word is that of a lease.
    Loads {
        number: u64,
        word: Option<u64>,
    },
    Loaded {
        number: u64,
        word: Option<u64>,
        version: u64,
    },
    /// Has it, and the answer of the server is under way.
    Lands {
        number: u64,
        version: u64,
        kept: bool,
    },
}

impl Stage {
    /// The flight that ends with whoever is at this stage.
    fn leads(self) -> Option<u64> {
        match self {
            Self::Takes { number }
            | Self::Loads { number, .. }
            | Self::Loaded { number, .. }
            | Self::Lands { number, .. } => Some(number),
            Self::First
            | Self::Second { .. }
            | Self::Third { .. }
            | Self::Boards
            | Self::Waits { .. } => None,
        }
    }
}

/// A change around which the value is forgotten, or after which it is.
#[derive(Debug)]
struct Change {
    node: usize,
    word: u64,
    asked: u64,
    replied: u64,
    version: u64,
    /// A server took over that does not know of it: it counts from its end on.
    exposed: bool,
    by: By,
    doing: Doing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Begins,
    Begun,
    Commits,
    Ends,
    Returns {
        told: bool,
    },
    /// It was made without being told before.
    Forgets,
}

pub(super) struct World {
    rules: Rules,
    random: Random,
    weather: Weather,
    now: u64,
    /// What there is to load; it only grows.
    truth: u64,
    server: Server,
    replica: Server,
    /// The last number that was given to anything.
    numbers: u64,
    nodes: [Node; 2],
    asks: Vec<Ask>,
    changes: Vec<Change>,
    /// From when on which version is the least, in the order of time.
    due: Vec<(u64, u64)>,
    pub(super) sights: Sights,
    /// What must not be.
    pub(super) broken: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, rules: Rules) -> Self {
        let (server, mut random) = (Server::new(1), Random::of(seed));
        Self {
            rules,
            weather: Weather::of(&mut random),
            random,
            now: 100_000,
            truth: 1,
            replica: server.clone(),
            server,
            numbers: 1,
            nodes: [Node::default(), Node::default()],
            asks: Vec::new(),
            changes: Vec::new(),
            due: Vec::new(),
            sights: Sights::default(),
            broken: None,
        }
    }

    pub(super) fn step(&mut self) {
        let drawn = self.random.below(self.weather.ends[KINDS - 1]);
        match self.weather.ends.iter().position(|end| drawn < *end) {
            Some(0) => self.ask(),
            Some(1) => self.go_on_asking(),
            Some(2) => self.look(),
            Some(3) => self.change(),
            Some(4) => self.go_on_changing(),
            Some(5) => self.now += PAUSES[self.random.at(self.weather.pauses)],
            Some(6) => self.replica = self.server.clone(),
            Some(7) => self.take_over(self.replica.clone()),
            Some(8) => self.take_over(Server::new(0)),
            Some(9) => self.server.trim(),
            Some(10) => self.server.forget_other(),
            _ => self.server.clear(),
        }
        self.judge();
    }

    /// Finds what is old, though nobody asks for it just now.
    fn judge(&mut self) {
        let newest = self.due.last().map_or(0, |(_, version)| *version);
        let stored = self.server.value(self.now, self.rules).filter(|version| *version < newest);
        let due = self.least_due();
        let mut old = stored.map(|version| format!("the server holds {version}, not {newest}"));
        for (number, seat) in self.nodes.iter().enumerate() {
            let least = due.max(seat.own);
            let is_trusted = self.trusts(seat.fresh) || !self.rules.has(Rule::Trust);
            let memory = seat.memory.filter(|version| is_trusted && *version < least);
            if let Some(version) = memory.or_else(|| self.joined(seat, least)) {
                old = Some(format!("node {number} would give {version}, not {least}"));
            }
        }
        if self.broken.is_none() {
            self.broken = old;
        }
    }

    /// What somebody would be given who waited for whoever loads, if it is less than this.
    fn joined(&self, seat: &Node, least: u64) -> Option<u64> {
        let (listed, _) = seat.flight.filter(|flight| self.joins(seat, *flight))?;
        let loaded = self.asks.iter().filter_map(|ask| match ask.stage {
            Stage::Loaded { number, version, .. } | Stage::Lands { number, version, .. } => {
                (number == listed).then_some(version)
            }
            Stage::First
            | Stage::Second { .. }
            | Stage::Third { .. }
            | Stage::Boards
            | Stage::Waits { .. }
            | Stage::Takes { .. }
            | Stage::Loads { .. } => None,
        });
        loaded.min().filter(|version| *version < least)
    }

    /// Whether something takes longer this time.
    fn stalls(&mut self, slow: Slow) -> bool {
        self.weather.slow == slow && !self.random.one_in(12)
    }

    /// The least that may be given of what was forgotten by now.
    fn least_due(&self) -> u64 {
        let due = self.due.iter().rev().find(|(at, _)| self.now - at > MOST);
        due.map_or(0, |(_, version)| *version)
    }

    /// Whether a load that began then is waited for: for long only if a change would take it from the list.
    fn joins(&self, seat: &Node, (number, began): (u64, u64)) -> bool {
        let has_right = seat.unkept != number || !self.rules.has(Rule::Unkept);
        let would_be_gone = self.trusts(seat.fresh) && has_right;
        would_be_gone || self.now - began <= MOST || !self.rules.has(Rule::Join)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Says from now on: nothing older than this is given, `BOUND` from now.
    fn is_due(&mut self, version: u64) {
        let least = self.due.last().map_or(0, |(_, version)| *version);
        self.due.push((self.now, version.max(least)));
    }

    /// Another server takes the place of this one.
    fn take_over(&mut self, server: Server) {
        self.server = server;
        self.server.life = self.number();
        for change in &mut self.changes {
            let is_told = matches!(change.doing, Doing::Begun | Doing::Commits);
            if is_told && !self.server.knows(change.word, self.now) {
                change.exposed = true;
            }
        }
    }

    fn look(&mut self) {
        let node = self.random.at(self.nodes.len());
        let is_slow = match self.nodes[node].look {
            Look::Answered(..) => self.stalls(Slow::Hearing),
            Look::Half(..) => self.stalls(Slow::Forgetting),
            Look::None | Look::Asked(_) => false,
        };
        if is_slow {
            return;
        }
        let is_lost = self.random.one_in(10);
        let (now, rules) = (self.now, self.rules);
        let seat = &mut self.nodes[node];
        seat.look = match std::mem::take(&mut seat.look) {
            Look::None => Look::Asked(now),
            Look::Asked(_) | Look::Answered(..) if is_lost => Look::None,
            Look::Asked(asked) => {
                Look::Answered(asked, self.server.news(seat.place, ENTRIES, rules))
            }
            Look::Answered(asked, news) => {
                self.sights.cleared += u64::from(matches!(news, News::Anew { .. }));
                if let Some(by) = seat.hears(&news, rules) {
                    Look::Half(asked, news, by)
                } else {
                    seat.has_read((asked, now), &news, rules);
                    Look::None
                }
            }
            Look::Half(asked, news, by) => {
                seat.forgets_rest(by, rules);
                seat.has_read((asked, now), &news, rules);
                Look::None
            }
        };
    }

    fn trusts(&self, fresh: u64) -> bool {
        fresh > 0 && self.now - fresh <= MOST
    }

    fn ask(&mut self) {
        if self.asks.len() >= 5 {
            return;
        }
        let node = self.random.at(self.nodes.len());
        let least = self.least_due().max(self.nodes[node].own);
        self.asks.push(Ask { node, least, stage: Stage::First });
    }

    fn go_on_asking(&mut self) {
        if self.asks.is_empty() {
            return;
        }
        let which = self.random.at(self.asks.len());
        let Ask { node, stage, .. } = self.asks[which];
        let is_slow = matches!(stage, Stage::Second { .. }) && self.stalls(Slow::Peeking)
            || matches!(stage, Stage::Lands { .. }) && self.stalls(Slow::Forgetting);
        if is_slow {
            return;
        }
        if self.random.one_in(30) {
            // Whoever asked goes away.
            self.asks.swap_remove(which);
            self.end_flight(node, stage, None);
            return;
        }
        let next = match stage {
            Stage::First => self.peek_first(node),
            Stage::Second { fresh, found } => self.peek_second(node, fresh, found),
            Stage::Third { fresh, found: Some(version) }
                if self.trusts(fresh) || !self.rules.has(Rule::Trust) =>
            {
                self.sights.from_memory += 1;
                let ask = self.asks.swap_remove(which);
                self.give(&ask, version);
                return;
            }
            Stage::Third { .. } | Stage::Boards => self.board(node),
            Stage::Waits { .. } => return,
            Stage::Takes { number } => self.take(node, number),
            Stage::Loads { number, word } => Stage::Loaded { number, word, version: self.truth },
            Stage::Loaded { number, word, version } => self.fill(number, word, version),
            Stage::Lands { version, kept, .. } => {
                let ask = self.asks.swap_remove(which);
                self.give(&ask, version);
                self.end_flight(node, stage, Some((version, kept)));
                return;
            }
        };
        self.asks[which].stage = next;
    }

    /// First up to when memory is trusted, then what is in it.
    fn peek_first(&self, node: usize) -> Stage {
        let seat = &self.nodes[node];
        if self.rules.has(Rule::Order) {
            Stage::Second { fresh: seat.fresh, found: None }
        } else {
            Stage::Second { fresh: 0, found: seat.memory }
        }
    }

    fn peek_second(&self, node: usize, fresh: u64, found: Option<u64>) -> Stage {
        let seat = &self.nodes[node];
        if self.rules.has(Rule::Order) {
            Stage::Third { fresh, found: seat.memory }
        } else {
            Stage::Third { fresh: seat.fresh, found }
        }
    }

    fn board(&mut self, node: usize) -> Stage {
        if let Some(flight) = self.nodes[node].flight
            && self.joins(&self.nodes[node], flight)
        {
            return Stage::Waits { number: flight.0 };
        }
        let number = self.number();
        self.nodes[node].flight = Some((number, self.now));
        Stage::Takes { number }
    }

    fn take(&mut self, node: usize, number: u64) -> Stage {
        let word = self.number();
        let is_lost = self.random.one_in(10);
        if !self.trusts(self.nodes[node].fresh) {
            return self.loads_unkept(node, number);
        }
        match self.server.take(word, (self.now, self.now + LEASE), self.rules) {
            Taken::Held(version) if !is_lost => {
                self.sights.from_server += 1;
                Stage::Lands { number, version, kept: true }
            }
            Taken::Lease if !is_lost => Stage::Loads { number, word: Some(word) },
            Taken::Blocked => {
                self.sights.blocked += 1;
                self.loads_unkept(node, number)
            }
            Taken::Busy if !is_lost => Stage::Loads { number, word: None },
            Taken::Held(_) | Taken::Lease | Taken::Busy => self.loads_unkept(node, number),
        }
    }

    /// Is about to load, during a change maybe.
    fn loads_unkept(&mut self, node: usize, number: u64) -> Stage {
        let seat = &mut self.nodes[node];
        if seat.flight.is_some_and(|(listed, _)| listed == number) {
            seat.unkept = number;
        }
        Stage::Loads { number, word: None }
    }

    fn fill(&mut self, number: u64, word: Option<u64>, version: u64) -> Stage {
        let is_lost = self.random.one_in(10);
        let (times, rules) = ((self.now, self.now + LIVES), self.rules);
        let stored = word.is_some_and(|word| self.server.fill(word, version, times, rules));
        self.sights.refused += u64::from(word.is_some() && !stored);
        let kept = stored && !is_lost || !self.rules.has(Rule::Refused);
        Stage::Lands { number, version, kept }
    }

    /// A flight lands, with a version that may be kept; or whoever led it went away.
    fn end_flight(&mut self, node: usize, stage: Stage, landed: Option<(u64, bool)>) {
        let Some(number) = stage.leads() else { return };
        let seat = &mut self.nodes[node];
        let is_listed = seat.flight.is_some_and(|(listed, _)| listed == number);
        if let Some((version, true)) = landed
            && (is_listed || !self.rules.has(Rule::Permit))
        {
            seat.memory = Some(version);
        }
        if is_listed {
            seat.flight = None;
        }
        let (mut told, mut others) = (Vec::new(), Vec::new());
        for mut ask in self.asks.drain(..) {
            if ask.stage != (Stage::Waits { number }) {
                others.push(ask);
            } else if landed.is_some() {
                told.push(ask);
            } else {
                ask.stage = Stage::Boards;
                others.push(ask);
            }
        }
        self.asks = others;
        if let Some((version, _)) = landed {
            told.iter().for_each(|ask| self.give(ask, version));
        }
    }

    fn give(&mut self, ask: &Ask, version: u64) {
        self.sights.given += 1;
        if version < ask.least {
            let (node, least) = (ask.node, ask.least);
            self.broken.get_or_insert(format!("node {node} gives {version}, not {least}"));
        }
    }

    fn change(&mut self) {
        if self.changes.len() >= 3 {
            return;
        }
        let (node, word) = (self.random.at(self.nodes.len()), self.number());
        let mut version = 0;
        let doing = if self.random.one_in(3) {
            self.truth += 1;
            version = self.truth;
            Doing::Forgets
        } else {
            Doing::Begins
        };
        let by = if doing == Doing::Forgets && self.weather.tagged {
            [By::Key, By::Tag, By::All][self.random.at(3)]
        } else {
            By::Key
        };
        let (asked, replied) = (self.now, self.now);
        let change = Change { node, word, asked, replied, version, exposed: false, by, doing };
        self.changes.push(change);
    }

    fn go_on_changing(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        let which = self.random.at(self.changes.len());
        let is_slow = match self.changes[which].doing {
            Doing::Begun => self.stalls(Slow::Telling),
            Doing::Commits => self.stalls(Slow::Changing),
            Doing::Begins | Doing::Ends | Doing::Returns { .. } | Doing::Forgets => false,
        };
        if is_slow {
            return;
        }
        let mut change = self.changes.swap_remove(which);
        let dies = match change.doing {
            Doing::Begins => self.random.one_in(10),
            Doing::Begun | Doing::Commits => self.random.one_in(6),
            Doing::Ends | Doing::Forgets => self.random.one_in(2),
            Doing::Returns { .. } => false,
        };
        let goes_on = !dies && self.makes(&mut change);
        if goes_on {
            self.changes.push(change);
            return;
        }
        self.sights.died += u64::from(dies);
        // However it ends, also by being dropped.
        if self.rules.has(Rule::Own) {
            self.nodes[change.node].forget_by(change.by, self.rules);
        }
    }

    /// The next step of a change; false when it was the last.
    fn makes(&mut self, change: &mut Change) -> bool {
        let (now, rules, word) = (self.now, self.rules, change.word);
        change.doing = match change.doing {
            Doing::Begins => {
                if rules.has(Rule::Begins) {
                    let hold = if rules.has(Rule::Hold) { ms(HOLD) } else { SHORT_HOLD };
                    self.server.forget(Part::Begin { until: now + hold }, word, now, rules);
                }
                Doing::Begun
            }
            Doing::Begun => {
                change.replied = now;
                Doing::Commits
            }
            Doing::Commits => {
                let since = if rules.has(Rule::Asked) { change.asked } else { change.replied };
                if now - since > ms(LONGEST_CHANGE) && rules.has(Rule::Deadline) {
                    return false;
                }
                self.truth += 1;
                change.version = self.truth;
                if !change.exposed {
                    self.is_due(change.version);
                }
                Doing::Ends
            }
            Doing::Ends => {
                let told = !self.random.one_in(8);
                if told {
                    self.server.forget(Part::End, word, now, rules);
                    self.is_due(change.version);
                }
                Doing::Returns { told }
            }
            Doing::Forgets => {
                self.forget_at_server(change.by, word);
                self.is_due(change.version);
                Doing::Returns { told: true }
            }
            Doing::Returns { told } => {
                if told || !change.exposed {
                    let seat = &mut self.nodes[change.node];
                    seat.own = seat.own.max(change.version);
                }
                return false;
            }
        };
        true
    }

    /// Tells that something has changed.
    fn forget_at_server(&mut self, by: By, word: u64) {
        let (now, rules) = (self.now, self.rules);
        self.sights.tagged += u64::from(by != By::Key);
        match by {
            By::Key => self.server.forget(Part::Once, word, now, rules),
            By::Tag => {
                let kept = if rules.has(Rule::TagKept) { KEPT } else { SHORT_KEPT };
                self.server.forget_tag(now + kept);
            }
            By::All => self.server.clear(),
        }
    }
}
