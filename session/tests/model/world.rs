//! The whole model: two nodes, one session, one server that may change, and messages that take any time.
//!
//! A node that is paused is a node whose next step comes late, so pauses need no step of their own. Each node has
//! two conversations at once, as the program does: its lease, and its one request about the session (rule R9).

use std::fmt;

use crate::node::{Message, Node, Stamp};
use crate::rules::{Change, Rule, Setup, Start};
use crate::server::{
    Content, FenceBits, Image, LEASE, NO_SERVER, NODES, Owner, Server, Servers, Step, Table,
};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) server: Server,
    /// What the replica will know when it takes over.
    pub(crate) replica: Option<Server>,
    /// The server before, when it goes on answering.
    pub(crate) old: Option<Server>,
    pub(crate) nodes: [Node; NODES],
    /// A request that its sender gave up, and that still may arrive.
    pub(crate) ghost: Option<Step>,
    /// Writes that clients were told are done, as bits.
    pub(crate) acknowledged: u8,
    /// The node that owned the session when the server changed, plus one, as long as it holds on to it without a gap:
    /// nothing acknowledged may be lost. 0: nobody.
    pub(crate) guardian: u8,
    pub(crate) claims: u8,
    pub(crate) crashes: u8,
    pub(crate) timeouts: u8,
    pub(crate) changed: bool,
}

/// What happens in a step; for traces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Tick,
    ReplicaSynced,
    ServerChanged,
    Crash(u8),
    GivenUp(u8),
    GhostArrives(Step),
    Sends(u8, Step),
    Arrives(u8, Step, bool),
    Hears(u8, Message),
    LeaseArrives(u8, bool),
    LeaseHears(u8, bool, bool),
    Settles(u8),
    SettleArrives(u8),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |node: u8| ["A", "B", "C"][usize::from(node)];
        let at = |old: bool| if old { " at the OLD server" } else { "" };
        match *self {
            Self::Tick => f.write_str("time passes"),
            Self::ReplicaSynced => f.write_str("the replica stops here"),
            Self::ServerChanged => f.write_str("THE SERVER CHANGES"),
            Self::Crash(n) => write!(f, "{} crashes", name(n)),
            Self::GivenUp(n) => write!(f, "{} gives its request up", name(n)),
            Self::GhostArrives(step) => write!(f, "given up, yet it arrives: {step:?}"),
            Self::Sends(n, step) => write!(f, "{} sends {step:?}", name(n)),
            Self::Arrives(n, step, old) => {
                write!(f, "{} of {} arrives{}", kind(step), name(n), at(old))
            }
            Self::Hears(n, message) => {
                let Message::Answered { step, stamp, answer } = message else { return Ok(()) };
                let late = if stamp == Stamp::NOW { "" } else { ", under another lease" };
                write!(f, "{} hears of its {}: {answer:?}{late}", name(n), kind(step))
            }
            Self::LeaseArrives(n, old) => write!(f, "Renew of {} arrives{}", name(n), at(old)),
            Self::LeaseHears(n, gap, other) => {
                let gap = if gap { ", there was a gap" } else { "" };
                let other = if other { ", the server is another" } else { "" };
                write!(f, "{} hears that it is renewed{gap}{other}", name(n))
            }
            Self::Settles(n) => write!(f, "{} sends Settle", name(n)),
            Self::SettleArrives(n) => write!(f, "Settle of {} arrives", name(n)),
        }
    }
}

fn kind(step: Step) -> String {
    format!("{step:?}").split(' ').next().unwrap_or_default().to_owned()
}

impl Event {
    /// How likely a random walk takes it, relative to others: what uses the walk up comes seldom.
    pub(crate) fn weight(self) -> u64 {
        match self {
            Self::Tick => 3,
            Self::ServerChanged | Self::ReplicaSynced => 2,
            Self::Crash(_) | Self::GivenUp(_) => 1,
            Self::Sends(_, Step::Release { .. }) => 3,
            Self::Sends(..) | Self::Arrives(..) | Self::Hears(..) => 30,
            Self::GhostArrives(_) | Self::LeaseArrives(..) => 12,
            Self::LeaseHears(..) | Self::Settles(_) | Self::SettleArrives(_) => 20,
        }
    }
}

/// Where the steps of one state are collected.
pub(crate) type Steps = Vec<(Event, World)>;

impl World {
    pub(crate) fn start(setup: &Setup) -> Self {
        let fence = FenceBits { owner: Owner::new(0, 0), epoch: 1 };
        let image = Image { fence, content: Content::default() };
        let table = Table {
            server: 0,
            grace: 0,
            leases: [LEASE; NODES],
            settled: 0,
            awaited: 0,
            contributed: false,
        };
        let mut world = Self {
            server: Server { id: 0, record: Some(image), table },
            replica: None,
            old: None,
            nodes: [Node::leased(Some(image)), Node::leased(None)],
            ghost: None,
            acknowledged: 0,
            guardian: 0,
            claims: 0,
            crashes: 0,
            timeouts: 0,
            changed: false,
        };
        world.begin_at(setup.start);
        world
    }

    fn begin_at(&mut self, start: Start) {
        let written = |write, fence| {
            let content = Content::default().with(write);
            Some(Image { fence, content })
        };
        let first = FenceBits { owner: Owner::new(0, 0), epoch: 1 };
        let nobody = |epoch| FenceBits { owner: Owner::default(), epoch };
        let [a, b] = &mut self.nodes;
        self.server.id = 1;
        self.changed = true;
        match start {
            Start::Owned => {
                self.server.id = 0;
                self.changed = false;
            }
            Start::WriteLost => {
                *a = Node::leased(written(0, first));
                (self.acknowledged, self.guardian) = (1, 1);
            }
            Start::ClaimLost | Start::StillSettling => {
                let second = FenceBits { owner: Owner::new(0, 1), epoch: 2 };
                *a = Node::leased(written(0, second));
                let lost = Image { fence: nobody(1), content: Content::default() };
                self.server.record = Some(lost);
                (self.acknowledged, self.guardian) = (1, 1);
            }
            Start::Rewritten => {
                *a = Node::leased(written(0, first));
                a.lease.left = 0;
                b.lease.server = 1;
                b.writes = 1;
                self.server.record = written(2, nobody(2));
                (self.server.table.server, self.server.table.leases) = (1, [0, LEASE]);
                self.acknowledged = 1 << 2;
            }
        }
        a.writes = a.held.map_or(0, |copy| copy.image.content.version);
        if start == Start::StillSettling {
            a.lease.server = 1;
            b.lease.server = 1;
            a.settling = Some(1);
            self.server.id = 2;
            self.server.table.server = 1;
        }
    }

    /// Gives every state that can be next, or what is wrong with this one.
    pub(crate) fn steps(&self, setup: &Setup, servers: &mut Servers, out: &mut Steps) {
        self.time(out);
        self.change(setup, out);
        if let Some(step) = self.ghost {
            let mut next = *self;
            next.ghost = None;
            next.server = servers.step(setup.rules, self.server, step).0;
            next.claims += u8::from(next.server_claimed(self));
            out.push((Event::GhostArrives(step), next));
        }
        for i in 0..NODES {
            if self.nodes[i].alive {
                self.fail(setup, i, out);
                self.lease_steps(setup, servers, i, out);
                self.session_steps(setup, servers, i, out);
            }
        }
    }

    fn time(&self, out: &mut Steps) {
        let mut next = *self;
        next.server.tick();
        if self.server.table.grace == 1 {
            // The grace ran its full length: an owner that has put nothing back by now was too slow.
            next.guardian = 0;
        }
        for server in [&mut next.replica, &mut next.old].into_iter().flatten() {
            server.tick();
        }
        for (i, node) in next.nodes.iter_mut().enumerate() {
            node.tick();
            if node.lease.left == 0 && usize::from(next.guardian) == i + 1 {
                next.guardian = 0;
            }
        }
        if next != *self {
            out.push((Event::Tick, next));
        }
    }

    fn change(&self, setup: &Setup, out: &mut Steps) {
        if self.changed || setup.change == Change::Never {
            return;
        }
        if setup.change == Change::ToReplica && self.replica.is_none() {
            out.push((Event::ReplicaSynced, Self { replica: Some(self.server), ..*self }));
            return;
        }
        let mut next = *self;
        next.changed = true;
        next.replica = None;
        next.server = self.replica.unwrap_or(self.server);
        if setup.change == Change::ToEmpty {
            next.server.record = None;
            next.server.table.server = NO_SERVER;
        }
        // What a changed server makes of its old table does not matter, it is cleared at the first touch; but without
        // the grace the leases in it go on.
        next.server.id = self.server.id + 1;
        let owns = |node: &Node| {
            let fence = |image: Option<Image>| image.map(|image| image.fence);
            node.is_trusted() && fence(node.held.map(|h| h.image)) == fence(self.server.record)
        };
        let holder = self.nodes.iter().position(owns);
        next.guardian = holder.map_or(0, |i| i as u8 + 1);
        if !setup.rules.has(Rule::OnePrimary) {
            next.old = Some(self.server);
        }
        out.push((Event::ServerChanged, next));
    }

    fn fail(&self, setup: &Setup, i: usize, out: &mut Steps) {
        let node = self.nodes[i];
        if self.crashes < setup.crashes {
            let mut next = *self;
            next.crashes += 1;
            if let Message::Sent { step, .. } = node.message
                && self.ghost.is_none()
            {
                next.ghost = Some(step);
            }
            next.nodes[i] = Node::crashed();
            next.guardian = if usize::from(self.guardian) == i + 1 { 0 } else { self.guardian };
            out.push((Event::Crash(i as u8), next));
        }
        if self.timeouts < setup.timeouts && self.ghost.is_none() && node.message != Message::None {
            let mut next = *self;
            next.timeouts += 1;
            if let Message::Sent { step, .. } = node.message {
                next.ghost = Some(step);
            }
            next.nodes[i].give_up();
            out.push((Event::GivenUp(i as u8), next));
        }
    }

    /// Whether the step to this state was a claim that succeeded.
    fn server_claimed(&self, before: &Self) -> bool {
        let epoch = |world: &Self| world.server.record.map_or(0, |r| r.fence.epoch);
        epoch(self) > epoch(before)
    }

    /// Says what this state, reached from `before`, does that it must not.
    pub(crate) fn wrong(&self, setup: &Setup, before: &Self) -> Option<&'static str> {
        let stored = self.server.record.map_or(0, |r| r.content.writes());
        let lost = self.acknowledged & !stored;
        let had = before.server.record.map_or(0, |r| r.content.writes());
        let same_server = self.server.id == before.server.id;
        let counts = self.server.record.map_or(0, |r| r.content.counts);
        let known = |node: &Node| node.held.map_or(0, |copy| copy.image.content.writes());
        let trusted = || self.nodes.iter().filter(|node| node.is_trusted());
        let missed = |node| self.acknowledged & stored & !known(node) != 0;
        let waits =
            |node: &Node| node.pending.is_some() && setup.rules.has(Rule::ReadsAwaitChanges);
        let behind = |node: &Node| !waits(node) && stored & !known(node) != 0;
        let guardian = self.guardian.checked_sub(1).map(|i| &self.nodes[usize::from(i)]);
        let replicated = setup.wait_for_replica && setup.change == Change::ToReplica;
        let violations = [
            ("STALE READ: an owner answers without an acknowledged write", trusted().any(missed)),
            (
                "BEHIND: an owner answers without a write that others were shown",
                !self.changed && trusted().any(behind),
            ),
            ("TWO OWNERS answer from memory at once", trusted().count() > 1),
            ("TWICE: a write was repeated that was in", counts & 0b1010_1010 != 0),
            ("LOST an acknowledged write, by the same server", !self.changed && lost != 0),
            ("LOST an acknowledged write that the replica had", replicated && lost != 0),
            (
                "LOST an acknowledged write that was in the store a step ago",
                same_server && before.acknowledged & had & !stored != 0,
            ),
            (
                "LOST an acknowledged write although its owner lives",
                guardian.is_some_and(|node| lost & !known(node) != 0),
            ),
        ];
        let is_wrong = |(what, is): &&(&str, bool)| *is && what.starts_with(setup.only);
        violations.iter().find(is_wrong).map(|(what, _)| *what)
    }

    /// Says what of interest this state shows, so that a test can tell that it was not all for nothing.
    pub(crate) fn sights(&self) -> u8 {
        let stored = self.server.record.map_or(0, |r| r.content.writes());
        let owner = self.server.record.map_or(0, |r| r.fence.owner.0 & 3);
        let acknowledged = self.acknowledged & stored != 0;
        let early = self.changed && self.server.table.contributed && self.server.table.grace == 0;
        let from_first = self.acknowledged & stored & 0b11 != 0;
        let sights = [
            (from_first && owner == 2, TAKEN_OVER),
            (self.changed && acknowledged, KEPT),
            (early && owner == 2 && self.guardian == 0, OPENED_EARLY),
        ];
        sights.iter().filter(|(seen, _)| *seen).map(|(_, sight)| sight).sum()
    }
}

/// The second node owns the session, with an acknowledged write in it.
pub(crate) const TAKEN_OVER: u8 = 1;
/// An acknowledged write is there after the server changed.
pub(crate) const KEPT: u8 = 2;
/// All nodes settled, and then the second one got the session.
pub(crate) const OPENED_EARLY: u8 = 4;
