//! What Redis has of a region with one key that carries one tag, and what its scripts do (`cache/*.lua`), in plain Rust.

use std::collections::VecDeque;

use super::{Rule, Rules};

/// Of which life of the server something is, how often the region had been cleared by then, and which version the tag had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Of {
    life: u64,
    clears: u64,
    tag: u64,
}

/// An entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The key that is looked at.
    Key,
    /// Another one.
    Other,
    /// The tag that the key carries.
    Tag,
    /// All of them.
    All,
}

/// Which part of a change is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it: it is made.
    Once,
    /// It begins: nothing is stored until it ends, or until then.
    Begin { until: u64 },
    /// It was made.
    End,
}

/// What becomes of somebody who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Held(u64),
    Lease,
    Busy,
    Blocked,
}

/// What the log tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// These entries, up to a number; the newest there is has another one.
    Follow { entries: Vec<Entry>, upto: u64, newest: u64 },
    /// Not all is there that came: of this life, up to here.
    Anew { life: u64, last: u64 },
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    of: Of,
    word: u64,
    until: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    of: Of,
    version: u64,
    until: u64,
}

/// The server. Times are milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) life: u64,
    clears: u64,
    seq: u64,
    log: VecDeque<(u64, Entry)>,
    value: Option<Stored>,
    /// The version of the tag, and until when it is remembered; 0 when it never was forgotten.
    tag: (u64, u64),
    lease: Option<Lease>,
    /// The changes under way, by the words of those who make them.
    writers: Vec<u64>,
    blocked_until: u64,
}

impl Server {
    pub(super) fn new(life: u64) -> Self {
        Self {
            life,
            clears: 0,
            seq: 0,
            log: VecDeque::new(),
            value: None,
            tag: (0, 0),
            lease: None,
            writers: Vec::new(),
            blocked_until: 0,
        }
    }

    fn of(&self, now: u64) -> Of {
        let (version, until) = self.tag;
        let tag = if now < until { version } else { 0 };
        Of { life: self.life, clears: self.clears, tag }
    }

    fn is_of_now(&self, of: Of, now: u64, rules: Rules) -> bool {
        let here = self.of(now);
        (of.life == here.life || !rules.has(Rule::Life))
            && (of.clears == here.clears || !rules.has(Rule::Generation))
            && (of.tag == here.tag || !rules.has(Rule::TagVersion))
    }

    /// What is given of the value, if anything is.
    pub(super) fn value(&self, now: u64, rules: Rules) -> Option<u64> {
        let stored = self.value.filter(|stored| now < stored.until)?;
        self.is_of_now(stored.of, now, rules).then_some(stored.version)
    }

    /// Whether this change is under way as far as this server knows.
    pub(super) fn knows(&self, word: u64, now: u64) -> bool {
        now < self.blocked_until && self.writers.contains(&word)
    }

    pub(super) fn take(&mut self, word: u64, (now, until): (u64, u64), rules: Rules) -> Taken {
        if let Some(version) = self.value(now, rules) {
            return Taken::Held(version);
        }
        let is_blocked = !self.writers.is_empty() && now < self.blocked_until;
        if is_blocked && rules.has(Rule::Blocked) {
            return Taken::Blocked;
        }
        let right = self.lease.filter(|lease| now < lease.until);
        if right.is_some_and(|lease| self.is_of_now(lease.of, now, rules)) {
            return Taken::Busy;
        }
        self.lease = Some(Lease { of: self.of(now), word, until });
        Taken::Lease
    }

    /// Stores what was loaded, until then.
    pub(super) fn fill(
        &mut self,
        word: u64,
        version: u64,
        (now, until): (u64, u64),
        rules: Rules,
    ) -> bool {
        let right = self.lease.filter(|lease| now < lease.until);
        let Some(lease) = right.filter(|lease| self.is_of_now(lease.of, now, rules)) else {
            return false;
        };
        if lease.word != word && rules.has(Rule::Word) {
            return false;
        }
        self.lease = None;
        self.value = Some(Stored { of: self.of(now), version, until });
        true
    }

    pub(super) fn forget(&mut self, part: Part, word: u64, now: u64, rules: Rules) {
        self.value = None;
        if rules.has(Rule::TakenAway) {
            self.lease = None;
        }
        match part {
            Part::Once => {}
            Part::Begin { until } => {
                if self.blocked_until <= now {
                    self.writers.clear();
                }
                self.writers.push(word);
                self.blocked_until = until;
            }
            Part::End if rules.has(Rule::OwnBlock) => self.writers.retain(|writer| *writer != word),
            Part::End => self.writers.clear(),
        }
        self.note(Entry::Key);
    }

    pub(super) fn forget_other(&mut self) {
        self.note(Entry::Other);
    }

    /// Gives the tag another version, which is remembered until then.
    pub(super) fn forget_tag(&mut self, until: u64) {
        self.note(Entry::Tag);
        self.tag = (self.seq, until);
    }

    pub(super) fn clear(&mut self) {
        self.clears += 1;
        self.note(Entry::All);
    }

    fn note(&mut self, entry: Entry) {
        self.seq += 1;
        self.log.push_back((self.seq, entry));
    }

    /// Cuts the log to its last entry.
    pub(super) fn trim(&mut self) {
        let most = self.log.len().min(1);
        self.log.drain(..self.log.len() - most);
    }

    /// Tells what came after a place: so many entries at most, and none to who is further behind than that.
    pub(super) fn news(
        &self,
        (life, last): (u64, u64),
        (most, behind): (usize, u64),
        rules: Rules,
    ) -> News {
        let anew = News::Anew { life: self.life, last: self.seq };
        let is_other = life != self.life && rules.has(Rule::Life);
        if is_other || last > self.seq || self.seq - last > behind {
            return anew;
        }
        let newer: Vec<(u64, Entry)> =
            self.log.iter().filter(|(number, _)| *number > last).take(most).copied().collect();
        let first = newer.first().map_or(self.seq + 1, |(number, _)| *number);
        if first != last + 1 && rules.has(Rule::Gap) {
            return anew;
        }
        let upto = newer.last().map_or(self.seq, |(number, _)| *number);
        let entries = newer.into_iter().map(|(_, entry)| entry).collect();
        News::Follow { entries, upto, newest: self.seq }
    }
}
