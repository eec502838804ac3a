//! Several leaderships against one lease, with whatever may go wrong, drawn at random from a seed.
//!
//! What must hold:
//!
//! 1. **As long as the store loses nothing**, no two nodes trust their lease at the same moment, whatever is lost, late
//!    or paused besides.
//! 2. **When the store loses the lease, but nobody is paused and no message is lost**, the living leader stays: no two
//!    trust at once, and no term begins.
//! 3. **With both**, two nodes trust at once only if the store lost the lease less than a time to live ago, and either
//!    a pause or a lost message, less than a time to live before that loss or since, kept the holder from putting it back
//!    or the other from seeing it; or the lost lease was so young that the other had not looked since it was taken, and
//!    was about to bid for the one before.
//! 4. When all is calm again, one node leads within four times to live.

use std::collections::BTreeMap;

use super::tests_support::*;
use super::*;

#[test]
fn no_two_trust_at_once_as_long_as_the_store_forgets_nothing() {
    for seed in 0..300 {
        let faults = Faults { pauses: true, losses: true, forgets: false };
        let mut world = World::new(seed, 2 + (seed % 2) as usize, faults);
        world.run(at(120_000));
        assert!(world.overlaps.is_empty(), "seed {seed}: {:?}", world.overlaps);
        world.calm_down(seed);
    }
}

#[test]
fn a_living_leader_stays_when_the_store_forgets() {
    for seed in 0..300 {
        let mut world = World::new(seed, 2 + (seed % 2) as usize, Faults::default());
        for node in 0..world.nodes.len() {
            world.step(node, Event::Frozen(true)); // priorities would change the leader
        }
        world.run(at(10_000));
        let terms = world.terms;
        assert_eq!(terms, 1, "seed {seed}");
        world.faults.forgets = true;
        world.run(at(120_000));
        assert!(world.forgotten.len() > 3, "seed {seed}: it was tried");
        assert!(world.overlaps.is_empty(), "seed {seed}: {:?}", world.overlaps);
        assert_eq!(world.terms, terms, "seed {seed}: no other term");
    }
}

#[test]
fn two_trust_at_once_only_when_forgetting_meets_a_pause_or_a_lost_message() {
    let mut overlaps = 0;
    for seed in 0..300 {
        let faults = Faults { pauses: true, losses: true, forgets: true };
        let mut world = World::new(seed, 2 + (seed % 2) as usize, faults);
        world.run(at(120_000));
        overlaps += world.overlaps.len();
        for overlap in &world.overlaps {
            assert!(world.is_excused(*overlap), "seed {seed}: at {}", ms(*overlap));
        }
        world.calm_down(seed);
    }
    assert!(overlaps > 0, "or this shows nothing");
}

#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    pauses: bool,
    losses: bool,
    forgets: bool,
}

struct World {
    now: BootInstant,
    dice: StdRng,
    faults: Faults,
    nodes: Vec<Node>,
    /// The lease, and when it ends.
    lease: Option<(LeaseValue, BootInstant)>,
    agenda: BTreeMap<(BootInstant, u64), Item>,
    sequence: u64,
    terms: u64,
    forgotten: Vec<BootInstant>,
    disturbed: Vec<BootInstant>,
    taken: Vec<BootInstant>,
    overlaps: Vec<BootInstant>,
}

struct Node {
    leadership: Leadership,
    wakes_at: BootInstant,
    paused_until: BootInstant,
}

enum Item {
    Wake(usize),
    /// An action of a node reaches the store; sent at, and over which connection.
    Arrive(usize, Action, BootInstant, usize),
    Tell(usize, Event),
    Ask {
        from: usize,
        holder: LeaseValue,
    },
    Fault,
}

impl World {
    fn new(seed: u64, count: usize, faults: Faults) -> Self {
        let names = ["a", "b", "c"];
        let start = at(1_000);
        let node = |index: usize| Node {
            leadership: Leadership::new(
                rules(names[index], i32::try_from(index % 2).unwrap()),
                seed * 10 + index as u64,
                start,
            ),
            wakes_at: start,
            paused_until: start,
        };
        let mut world = Self {
            now: start,
            dice: StdRng::seed_from_u64(seed),
            faults,
            nodes: (0..count).map(node).collect(),
            lease: None,
            agenda: BTreeMap::new(),
            sequence: 0,
            terms: 0,
            forgotten: Vec::new(),
            disturbed: Vec::new(),
            taken: Vec::new(),
            overlaps: Vec::new(),
        };
        for index in 0..count {
            world.plan(start, Item::Wake(index));
        }
        world.plan(start, Item::Fault);
        world
    }

    fn plan(&mut self, when: BootInstant, item: Item) {
        self.sequence += 1;
        self.agenda.insert((when, self.sequence), item);
    }

    fn wait(&mut self, least: u64, most: u64) -> BootInstant {
        self.now + Duration::from_millis(self.dice.random_range(least..=most))
    }

    fn is_lost(&mut self) -> bool {
        let lost = self.faults.losses && self.dice.random_range(0..25) == 0;
        if lost {
            self.disturbed.push(self.now);
        }
        lost
    }

    fn run(&mut self, until: BootInstant) {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= until
        {
            let ((now, _), item) = entry.remove_entry();
            self.now = now;
            self.happens(item);
            let trusting =
                |node: &&Node| node.leadership.trusted_until().is_some_and(|end| now < end);
            if self.nodes.iter().filter(trusting).count() > 1 {
                self.overlaps.push(now);
            }
        }
    }

    fn happens(&mut self, item: Item) {
        let whom = match &item {
            Item::Wake(node) | Item::Tell(node, _) => Some(*node),
            Item::Ask { holder, .. } => {
                self.nodes.iter().position(|node| node.leadership.rules().node_id == *holder.node())
            }
            Item::Arrive(..) | Item::Fault => None,
        };
        if let Some(paused_until) = whom.map(|node| self.nodes[node].paused_until)
            && self.now < paused_until
        {
            return self.plan(paused_until, item);
        }
        match item {
            Item::Wake(node) if self.nodes[node].wakes_at <= self.now => {
                self.step(node, Event::Woke);
            }
            Item::Wake(_) => {} // it was woken before
            Item::Tell(node, event) => self.step(node, event),
            Item::Arrive(node, action, sent_at, restarts) => {
                self.arrives(node, action, sent_at, restarts);
            }
            Item::Ask { from, holder } => {
                let (asker, whom) = (self.nodes[from].leadership.rules().clone(), whom.unwrap());
                let event =
                    Event::HandOverRequested { from: asker.node_id, priority: asker.priority };
                let answer = self.step_and_answer(whom, event);
                let when = self.wait(1, 5);
                if !self.is_lost() {
                    self.plan(when, Item::Tell(from, Event::HandOverAnswered { holder, answer }));
                }
            }
            Item::Fault => self.fault(),
        }
    }

    fn step(&mut self, node: usize, event: Event) {
        self.step_and_answer(node, event);
    }

    fn step_and_answer(&mut self, node: usize, event: Event) -> Option<HandOverAnswer> {
        let actions = self.nodes[node].leadership.step(self.now, event);
        let mut answer = None;
        for action in actions {
            match action {
                Action::SleepUntil(until) => {
                    let until = until.max(self.now + Duration::from_micros(100));
                    self.nodes[node].wakes_at = until;
                    self.plan(until, Item::Wake(node));
                }
                Action::Inaugurate(value) => {
                    self.terms += 1;
                    let (epoch, when) = (self.terms, self.wait(2, 40));
                    self.plan(when, Item::Tell(node, Event::Inaugurated { value, epoch }));
                }
                Action::RequestHandOver(holder) => {
                    let when = self.wait(1, 5);
                    if !self.is_lost() {
                        self.plan(when, Item::Ask { from: node, holder });
                    }
                }
                Action::AnswerHandOver(given) => answer = Some(given),
                Action::StepDown(_) | Action::EndTerm { .. } => {}
                action @ (Action::Peek
                | Action::Bid(_)
                | Action::Renew(_)
                | Action::Release { .. }) => {
                    // In the order in which they were sent: one connection.
                    let (when, restarts) = (self.now + Duration::from_millis(5), self.restarts());
                    if self.is_lost() {
                        self.no_answer(node, action, self.now);
                    } else {
                        self.plan(when, Item::Arrive(node, action, self.now, restarts));
                    }
                }
            }
        }
        answer
    }

    fn restarts(&self) -> usize {
        self.forgotten.len()
    }

    fn no_answer(&mut self, node: usize, action: Action, sent_at: BootInstant) {
        let event = if let Action::Release { value, .. } = action {
            Event::Released { value, released: false }
        } else {
            Event::Failed
        };
        self.plan(sent_at + Duration::from_millis(1_000), Item::Tell(node, event));
    }

    fn arrives(&mut self, node: usize, action: Action, sent_at: BootInstant, restarts: usize) {
        if restarts != self.restarts() {
            // The connection broke on the way.
            return self.no_answer(node, action, sent_at);
        }
        let ttl = Duration::from_millis(TTL);
        let present = self.lease.take().filter(|(_, end)| self.now < *end);
        let held = present.as_ref().map(|(value, end)| Held {
            holder: Some(value.clone()),
            remaining: Some(end.saturating_duration_since(self.now)),
        });
        self.lease = present;
        let is =
            |value: &LeaseValue| held.as_ref().is_some_and(|h| h.holder.as_ref() == Some(value));
        let event = match action.clone() {
            Action::Peek => Event::Peeked(held),
            Action::Bid(value) => {
                let answer = match held.clone() {
                    Some(other) if !is(&value) => Acquire::Held(other),
                    _ => Acquire::Won,
                };
                if answer == Acquire::Won {
                    self.taken.push(self.now);
                    self.lease = Some((value.clone(), self.now + ttl));
                }
                Event::BidAnswered { value, sent_at, answer }
            }
            Action::Renew(value) => {
                let answer = match held.clone() {
                    Some(_) if is(&value) => Renewal::Renewed,
                    Some(other) => Renewal::Lost { holder: other.holder },
                    None => Renewal::Reasserted,
                };
                if !matches!(answer, Renewal::Lost { .. }) {
                    self.lease = Some((value.clone(), self.now + ttl));
                }
                Event::RenewAnswered { value, sent_at, answer }
            }
            Action::Release { value, successor } => {
                let released = is(&value);
                if released {
                    self.lease = None;
                    self.tell_others(node, &value, successor.as_ref());
                }
                Event::Released { value, released }
            }
            Action::Inaugurate(_)
            | Action::EndTerm { .. }
            | Action::StepDown(_)
            | Action::RequestHandOver(_)
            | Action::AnswerHandOver(_)
            | Action::SleepUntil(_) => panic!("the store cannot {action:?}"),
        };
        if self.is_lost() {
            self.no_answer(node, action, sent_at);
        } else {
            let when = self.wait(1, 20);
            self.plan(when, Item::Tell(node, event));
        }
    }

    fn tell_others(&mut self, node: usize, value: &LeaseValue, successor: Option<&NodeId>) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            if self.is_lost() {
                continue;
            }
            let when = self.wait(1, 20);
            let event = Event::ReleaseHeard { value: value.clone(), successor: successor.cloned() };
            self.plan(when, Item::Tell(other, event));
        }
    }

    fn fault(&mut self) {
        let when = self.wait(1_000, 8_000);
        self.plan(when, Item::Fault);
        let node = self.dice.random_range(0..self.nodes.len());
        match self.dice.random_range(0..4) {
            0 if self.faults.pauses => {
                self.nodes[node].paused_until = self.wait(100, 2 * TTL);
                // It disturbs from its beginning to its end.
                let mut moment = self.now;
                while moment <= self.nodes[node].paused_until {
                    self.disturbed.push(moment);
                    moment = moment + Duration::from_millis(500);
                }
            }
            1 if self.faults.pauses => {
                let event = match self.dice.random_range(0..3) {
                    0 => Event::StepDown(None),
                    1 => Event::StaleEpoch(self.terms),
                    _ => Event::DatabaseAway,
                };
                self.plan(self.now, Item::Tell(node, event));
            }
            2 if self.faults.forgets => self.forget(true),
            3 if self.faults.forgets => self.forget(false),
            _ => {}
        }
    }

    /// The store loses the lease: with a restart, which breaks all connections, or without anybody noticing.
    fn forget(&mut self, restart: bool) {
        self.lease = None;
        if restart {
            self.forgotten.push(self.now);
            for node in 0..self.nodes.len() {
                let when = self.wait(1, 60);
                self.plan(when, Item::Tell(node, Event::Reconnected));
            }
        } else {
            // What is under way still arrives.
            let on_the_way: Vec<_> = self.agenda.keys().copied().collect();
            self.forgotten.push(self.now);
            for key in on_the_way {
                if let Some(Item::Arrive(.., restarts)) = self.agenda.get_mut(&key) {
                    *restarts += 1;
                }
            }
        }
    }

    fn is_excused(&self, overlap: BootInstant) -> bool {
        let ttl = Duration::from_millis(TTL);
        let any = |moments: &[BootInstant], from: BootInstant, to: BootInstant| {
            moments.iter().any(|moment| from <= *moment && *moment <= to)
        };
        self.forgotten.iter().any(|forgotten| {
            let recent = *forgotten <= overlap && overlap < *forgotten + ttl;
            let between_looks = ttl / 3 + Duration::from_millis(250);
            recent
                && (any(&self.disturbed, forgotten.saturating_sub(ttl), overlap)
                    || any(&self.taken, forgotten.saturating_sub(between_looks), *forgotten))
        })
    }

    fn calm_down(&mut self, seed: u64) {
        self.faults = Faults::default();
        for node in 0..self.nodes.len() {
            self.step(node, Event::Frozen(true)); // a hand-over at this very moment would be none
        }
        let paused = self.nodes.iter().map(|node| node.paused_until).max().unwrap();
        let calm = self.now.max(paused) + Duration::from_millis(4 * TTL);
        self.run(calm);
        let leading = |node: &&Node| node.leadership.phase() == LeaderPhase::Leading;
        assert_eq!(self.nodes.iter().filter(leading).count(), 1, "seed {seed}: one leads");
    }
}
