//! A node of the model: it does what the session actor does, and takes its decisions from the same functions.

use std::sync::LazyLock;

use understudy_runtime::lease::LeaseStamp;
use understudy_session::ownership::{
    AfterValidate, AfterWrite, Held, Standing, after_validate, after_write,
};
use understudy_session::record::{Fence, Token};
use understudy_session::store::{ValidateReply, WriteReply};

use crate::lease::{self, Lease};
use crate::rules::{Change, Rule, Setup};
use crate::server::{Answer, Image, LEASE, NODES, Server, Servers, Step};
use crate::world::{Event, Steps, World};

/// Whether a stamp taken earlier is still that of the lease; once it is not it never will be again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stamp {
    pub same_generation: bool,
    pub same_server: bool,
}

impl Stamp {
    pub const NOW: Self = Self { same_generation: true, same_server: true };

    pub fn to_lease(self) -> LeaseStamp {
        LeaseStamp {
            generation: u64::from(self.same_generation),
            rid_epoch: u64::from(self.same_server),
        }
    }

    fn age(&mut self, gap: bool, other_server: bool) {
        self.same_generation &= !gap;
        self.same_server &= !other_server;
    }
}

/// A copy that the node claimed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Copy {
    pub image: Image,
    pub stamp: Stamp,
    /// The store was found to know less: put this copy back.
    pub repair: bool,
}

/// A write that a client waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Pending {
    pub write: u8,
    /// Version that it was sent upon.
    pub base: u8,
    /// It was sent once and may be in.
    pub unknown: bool,
}

/// The one request about the session that is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    None,
    Sent { step: Step, stamp: Stamp },
    Answered { step: Step, stamp: Stamp, answer: Answer },
}

/// The renewal that is on its way; `age` in ticks since it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Renewal {
    None,
    Sent { age: u8 },
    Answered { age: u8, server: u8, continuous: bool },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    pub alive: bool,
    pub lease: Lease,
    pub renewal: Renewal,
    /// A change of server was noticed and the node has not said yet that it is done with it.
    pub unsettled: bool,
    /// Server that it settles with; on its way.
    pub settling: Option<u8>,
    pub held: Option<Copy>,
    pub pending: Option<Pending>,
    pub message: Message,
    pub writes: u8,
}

impl Node {
    pub fn leased(image: Option<Image>) -> Self {
        Self {
            alive: true,
            lease: Lease { left: LEASE, server: 0 },
            renewal: Renewal::None,
            unsettled: false,
            settling: None,
            held: image.map(|image| Copy { image, stamp: Stamp::NOW, repair: false }),
            pending: None,
            message: Message::None,
            writes: 0,
        }
    }

    pub fn crashed() -> Self {
        let lease = Lease { left: 0, server: 0 };
        Self { alive: false, lease, ..Self::leased(None) }
    }

    pub fn tick(&mut self) {
        self.lease.left = self.lease.left.saturating_sub(1);
        if let Renewal::Sent { age } | Renewal::Answered { age, .. } = &mut self.renewal {
            *age = (*age + 1).min(LEASE);
        }
    }

    /// The request got no answer: whether it was carried out is unknown.
    pub fn give_up(&mut self) {
        self.message = Message::None;
        if let Some(pending) = &mut self.pending {
            pending.unknown = true;
        }
    }

    /// Whether it would answer a read from memory now.
    pub fn is_trusted(&self) -> bool {
        self.standing() == Some(Standing::Trusted)
    }

    fn standing(&self) -> Option<Standing> {
        self.held.map(|copy| standing(copy.stamp, self.current().is_some()))
    }

    fn current(&self) -> Option<LeaseStamp> {
        (self.lease.left > 0).then_some(Stamp::NOW.to_lease())
    }

    fn drop_copy(&mut self) {
        self.held = None;
    }

    fn drop_write(&mut self) {
        self.pending = None;
    }
}

/// What the session actor makes of a copy; asked so often that the few answers are kept.
fn standing(stamp: Stamp, leased: bool) -> Standing {
    static STANDINGS: LazyLock<[Standing; 8]> = LazyLock::new(|| {
        std::array::from_fn(|bits| {
            let stamp =
                Stamp { same_generation: bits & 1 != 0, same_server: bits & 2 != 0 };
            held(stamp).standing((bits & 4 != 0).then(|| Stamp::NOW.to_lease()))
        })
    });
    let bits = [stamp.same_generation, stamp.same_server, leased];
    STANDINGS[bits.iter().rev().fold(0, |sum, bit| sum << 1 | usize::from(*bit))]
}

/// A copy as the session actor keeps it. Its decisions look at the stamp only; the store compares fence and version.
fn held(stamp: Stamp) -> Held {
    static NOBODY: LazyLock<Fence> =
        LazyLock::new(|| Fence { token: Token::from_text("a|0"), epoch: 1 });
    Held { fence: NOBODY.clone(), stamp: stamp.to_lease(), version: 0 }
}

impl World {
    pub fn lease_steps(&self, setup: &Setup, servers: &mut Servers, i: usize, out: &mut Steps) {
        let node = self.nodes[i];
        let n = i as u8;
        match node.renewal {
            Renewal::None => {
                let mut next = *self;
                next.nodes[i].renewal = Renewal::Sent { age: 0 };
                out.push((Event::LeaseSends(n), next));
            }
            Renewal::Sent { age } => self.at_servers(i, |server, old| {
                let (server, answer) = servers.step(setup.rules, server, Step::Renew { node: n });
                let Answer::Renewed { server: id, continuous } = answer else { return };
                let mut next = *self;
                next.put(server, old);
                next.nodes[i].renewal = Renewal::Answered { age, server: id, continuous };
                out.push((Event::LeaseArrives(n, old), next));
            }),
            Renewal::Answered { age, server, continuous } => {
                let mut next = *self;
                let age = if setup.rules.has(Rule::LeaseFromSend) { age } else { 0 };
                let answer = lease::Renewal { age, server, continuous };
                let change = lease::renewed(node.lease, answer);
                let (gap, other) = (change.gap, change.other_server);
                let lease = Lease { left: change.left, server };
                next.nodes[i].hear_lease(setup, lease, (gap, other));
                if gap && usize::from(next.guardian) == i + 1 {
                    next.guardian = 0;
                }
                out.push((Event::LeaseHears(n, gap, other), next));
            }
        }
        self.settle_steps(setup, servers, i, out);
    }

    fn settle_steps(&self, setup: &Setup, servers: &mut Servers, i: usize, out: &mut Steps) {
        let node = self.nodes[i];
        let n = i as u8;
        if let Some(meant) = node.settling {
            let others = (1_u8 << NODES) - 1 - (1 << i);
            let awaited = if setup.rules.has(Rule::SettleAwaitsAll) { others } else { 0 };
            let step = Step::Settle { node: n, awaited, server: meant };
            let mut next = *self;
            next.server = servers.step(setup.rules, self.server, step).0;
            next.nodes[i].settling = None;
            out.push((Event::SettleArrives(n), next));
            return;
        }
        let done = node.held.is_none_or(|copy| copy.stamp.same_server)
            || !setup.rules.has(Rule::RestoreBeforeSettle);
        if node.unsettled && done && node.lease.left > 0 {
            let mut next = *self;
            next.nodes[i].unsettled = false;
            next.nodes[i].settling = Some(node.lease.server);
            out.push((Event::Settles(n), next));
        }
    }

    pub fn session_steps(&self, setup: &Setup, servers: &mut Servers, i: usize, out: &mut Steps) {
        match self.nodes[i].message {
            Message::None => self.send_steps(setup, i, out),
            Message::Sent { step, stamp } => self.at_servers(i, |server, old| {
                let is_claim = matches!(step, Step::Claim { .. });
                if is_claim && self.claims >= setup.claims {
                    return;
                }
                let (server, answer) = servers.step(setup.rules, server, step);
                let mut next = *self;
                next.put(server, old);
                next.claims += u8::from(matches!(answer, Answer::Claimed { .. }));
                next.nodes[i].message = Message::Answered { step, stamp, answer };
                out.push((Event::Arrives(i as u8, step, old), next));
            }),
            Message::Answered { step, stamp, answer } => {
                let mut next = *self;
                if self.waits_for_replica(setup, step, answer) {
                    return;
                }
                let written = next.nodes[i].hear(setup, (step, stamp, answer));
                next.acknowledged |= written.map_or(0, |write| 1 << write);
                out.push((Event::Hears(i as u8, self.nodes[i].message), next));
            }
        }
    }

    /// With a replica to wait for, an answer to a write comes only once the write cannot get lost.
    fn waits_for_replica(&self, setup: &Setup, step: Step, answer: Answer) -> bool {
        let Step::Write { write, .. } = step else { return false };
        let written = matches!(answer, Answer::Written(_) | Answer::Duplicate(_));
        let safe = match (setup.change, self.changed, self.replica) {
            (Change::ToReplica, true, _) => self.server.record,
            (Change::ToReplica, false, Some(replica)) => replica.record,
            _ => return false,
        };
        setup.wait_for_replica
            && written
            && safe.is_none_or(|record| record.content.count(write) == 0)
    }

    fn send_steps(&self, setup: &Setup, i: usize, out: &mut Steps) {
        let node = self.nodes[i];
        let mut send = |change: &dyn Fn(&mut Node), step: Step| {
            let mut next = *self;
            change(&mut next.nodes[i]);
            next.nodes[i].message = Message::Sent { step, stamp: Stamp::NOW };
            if matches!(step, Step::Release { .. }) && usize::from(next.guardian) == i + 1 {
                next.guardian = 0;
            }
            out.push((Event::Sends(i as u8, step), next));
        };
        let claim = |known| Step::Claim { node: i as u8, nonce: self.claims + 1, known };
        let Some(copy) = node.held else {
            if node.lease.left > 0 && self.claims < setup.claims {
                send(&|_| {}, claim(None));
            }
            return;
        };
        let (fence, version) = (copy.image.fence, copy.image.content.version);
        match standing(copy.stamp, node.lease.left > 0) {
            Standing::Lapsed => {}
            Standing::Trusted | Standing::Validate
                if copy.repair && copy.stamp.same_generation =>
            {
                send(&|_| {}, Step::Restore { image: copy.image });
            }
            Standing::Trusted => {
                if let Some(pending) = node.pending {
                    send(&|_| {}, copy.write(pending.write));
                    return;
                }
                if node.writes < setup.writes {
                    let write = 2 * i as u8 + node.writes;
                    let begin = |node: &mut Node| {
                        node.writes += 1;
                        node.pending = Some(Pending { write, base: version, unknown: false });
                    };
                    send(&begin, copy.write(write));
                }
                if setup.release {
                    send(&Node::drop_copy, Step::Release { fence });
                }
            }
            Standing::Validate => {
                let server = match copy.stamp.same_generation {
                    // No gap: nobody else can have claimed at any server.
                    true => self.server.id,
                    false => node.lease.server,
                };
                send(&|_| {}, Step::Validate { fence, version, server });
            }
            Standing::Claim => {
                if self.claims < setup.claims {
                    let known = !setup.rules.has(Rule::LoadAfterServerChange);
                    send(&|_| {}, claim(known.then_some(version)));
                }
            }
        }
    }

    /// Runs `step` for each server that may receive a request of node `i`.
    fn at_servers(&self, i: usize, mut step: impl FnMut(Server, bool)) {
        step(self.server, false);
        if let Some(old) = self.old
            && self.nodes[i].lease.server == old.id
        {
            step(old, true);
        }
    }

    fn put(&mut self, server: Server, old: bool) {
        if old {
            self.old = Some(server);
        } else {
            self.server = server;
        }
    }
}

impl Copy {
    fn write(self, write: u8) -> Step {
        let content = self.image.content;
        let count = content.count(write) + 1;
        Step::Write { fence: self.image.fence, base: content.version, write, count }
    }
}

impl Node {
    fn hear_lease(&mut self, setup: &Setup, lease: Lease, (gap, other): (bool, bool)) {
        self.renewal = Renewal::None;
        self.lease = lease;
        self.unsettled |= other;
        let gap = gap && setup.rules.has(Rule::Gap);
        let other = other && setup.rules.has(Rule::ServerChange);
        if let Some(copy) = &mut self.held {
            copy.stamp.age(gap, other);
        }
        if let Message::Sent { stamp, .. } | Message::Answered { stamp, .. } = &mut self.message {
            stamp.age(gap, other);
        }
    }

    /// Takes an answer; gives the write that is acknowledged by it.
    fn hear(&mut self, setup: &Setup, (step, stamp, answer): (Step, Stamp, Answer)) -> Option<u8> {
        self.message = Message::None;
        match step {
            Step::Claim { .. } => self.hear_claim(setup, stamp, answer),
            Step::Write { write, count, .. } => return self.hear_write(setup, (write, count), answer),
            Step::Validate { .. } => self.hear_validation(setup, stamp, answer),
            Step::Restore { .. } => self.hear_restore(stamp, answer),
            Step::Renew { .. } | Step::Settle { .. } | Step::Release { .. } => {}
        }
        None
    }

    fn hear_claim(&mut self, setup: &Setup, stamp: Stamp, answer: Answer) {
        match answer {
            Answer::Claimed { fence, version, content } => {
                let content = content.or(self.held.map(|copy| copy.image.content));
                let Some(content) = content else { return };
                debug_assert_eq!(content.version, version);
                self.held = Some(Copy { image: Image { fence, content }, stamp, repair: false });
                if let Some(pending) = self.pending
                    && setup.rules.has(Rule::RepeatNeedsProof)
                {
                    let recognised = content.last == pending.write + 1;
                    if pending.unknown && !recognised && version != pending.base {
                        self.drop_write();
                    }
                }
            }
            Answer::Owned => {
                self.drop_copy();
                self.drop_write();
            }
            Answer::Missing => {
                self.drop_copy();
                self.drop_write();
            }
            _ => {}
        }
    }

    fn hear_write(
        &mut self,
        setup: &Setup,
        (write, count): (u8, u8),
        answer: Answer,
    ) -> Option<u8> {
        let reply = match answer {
            Answer::Written(version) => WriteReply::Written { version: version.into(), now_ms: 0 },
            Answer::Duplicate(version) => WriteReply::Duplicate { version: version.into() },
            Answer::Missing => WriteReply::Missing,
            Answer::Fenced => WriteReply::Fenced,
            Answer::Regressed => WriteReply::Regressed { version: 0 },
            Answer::Conflict => WriteReply::Conflict { version: 0 },
            _ => unreachable!("no answer to a write: {answer:?}"),
        };
        let mut copy = self.held?;
        match after_write(&held(copy.stamp), &reply, self.current()) {
            AfterWrite::Acknowledge { .. } => {
                // A repeated write may be in the copy already, when that was loaded since.
                let (Answer::Written(version) | Answer::Duplicate(version)) = answer else {
                    return None;
                };
                if version == copy.image.content.version + 1 {
                    copy.image.content = copy.image.content.with(write, count);
                    self.held = Some(copy);
                }
                self.drop_write();
                return Some(write);
            }
            AfterWrite::Resolve => self.give_up(),
            AfterWrite::Repair | AfterWrite::Missing => self.put_back(setup),
            AfterWrite::Reload => {
                self.give_up();
                self.drop_copy();
            }
            AfterWrite::Fenced if self.may_put_back_claim(setup) => self.put_back(setup),
            AfterWrite::Fenced | AfterWrite::Ended => {
                self.drop_copy();
                self.drop_write();
            }
        }
        None
    }

    fn hear_validation(&mut self, setup: &Setup, stamp: Stamp, answer: Answer) {
        let reply = match answer {
            Answer::Valid => ValidateReply::Valid { last_access_ms: 0, now_ms: 0 },
            Answer::Missing => ValidateReply::Missing,
            Answer::Fenced => ValidateReply::Fenced,
            Answer::Regressed => ValidateReply::Regressed { version: 0 },
            Answer::Conflict => ValidateReply::Conflict { version: 0 },
            // The renewal that is due next tells of the change.
            Answer::OtherServer => return,
            _ => unreachable!("no answer to a validation: {answer:?}"),
        };
        match after_validate(stamp.to_lease(), &reply, self.current()) {
            AfterValidate::Trust => {
                if let Some(copy) = &mut self.held {
                    copy.stamp = stamp;
                }
            }
            AfterValidate::Again => {}
            AfterValidate::Repair | AfterValidate::Missing => self.put_back(setup),
            AfterValidate::Fenced if self.may_put_back_claim(setup) => self.put_back(setup),
            AfterValidate::Reload | AfterValidate::Fenced | AfterValidate::Ended => {
                self.drop_copy();
            }
        }
    }

    fn hear_restore(&mut self, stamp: Stamp, answer: Answer) {
        match answer {
            Answer::Restored => {
                if let Some(copy) = &mut self.held {
                    copy.repair = false;
                    copy.stamp = stamp;
                }
            }
            _ => self.drop_copy(),
        }
    }

    /// Whether the store refuses perhaps only because it lost the claim itself: without a gap nobody else can have
    /// claimed. The store decides, by the epoch and the grace.
    fn may_put_back_claim(&self, setup: &Setup) -> bool {
        setup.rules.has(Rule::RestoreLostClaim)
            && self.held.is_some_and(|copy| copy.stamp.same_generation)
            && self.lease.left > 0
    }

    fn put_back(&mut self, setup: &Setup) {
        if !setup.rules.has(Rule::Restore) {
            self.drop_copy();
        } else if let Some(copy) = &mut self.held {
            copy.repair = true;
        }
    }
}

