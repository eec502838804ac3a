//! A node of the model: it does what the session actor does, and takes its decisions from the same functions.

use std::sync::LazyLock;

use understudy_runtime::lease::LeaseStamp;
use understudy_session::ownership::{Held, Standing};
use understudy_session::record::{Fence, Token};

use crate::lease::{self, Lease};
use crate::rules::{Change, Rule, Setup};
use crate::server::{Answer, Image, LEASE, NODES, Server, Servers, Step};
use crate::world::{Event, Steps, World};

/// Whether a stamp taken earlier is still that of the lease; once it is not it never will be again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Stamp {
    pub(crate) same_generation: bool,
    pub(crate) same_server: bool,
}

impl Stamp {
    pub(crate) const NOW: Self = Self { same_generation: true, same_server: true };

    pub(crate) fn to_lease(self) -> LeaseStamp {
        LeaseStamp {
            generation: u64::from(self.same_generation),
            rid_epoch: u64::from(self.same_server),
        }
    }

    pub(crate) fn age(&mut self, gap: bool, other_server: bool) {
        self.same_generation &= !gap;
        self.same_server &= !other_server;
    }
}

/// A copy that the node claimed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Copy {
    pub(crate) image: Image,
    pub(crate) stamp: Stamp,
    /// The store was found to know less: put this copy back.
    pub(crate) repair: bool,
}

/// A write that a client waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pending {
    pub(crate) write: u8,
    /// Version that it was sent upon.
    pub(crate) base: u8,
    /// It was sent once and may be in.
    pub(crate) unknown: bool,
}

/// The one request about the session that is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Message {
    None,
    Sent { step: Step, stamp: Stamp },
    Answered { step: Step, stamp: Stamp, answer: Answer },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Node {
    pub(crate) alive: bool,
    pub(crate) lease: Lease,
    /// The answer to a renewal, on its way. Sending and arriving are one step: what is sent earlier only makes the
    /// node trust its lease less.
    pub(crate) renewal: Option<lease::Renewal>,
    /// A change of server was noticed and the node has not said yet that it is done with it.
    pub(crate) unsettled: bool,
    /// Server that it settles with; on its way.
    pub(crate) settling: Option<u8>,
    pub(crate) held: Option<Copy>,
    pub(crate) pending: Option<Pending>,
    pub(crate) message: Message,
    pub(crate) writes: u8,
}

impl Node {
    pub(crate) fn leased(image: Option<Image>) -> Self {
        Self {
            alive: true,
            lease: Lease { left: LEASE, server: 0 },
            renewal: None,
            unsettled: false,
            settling: None,
            held: image.map(|image| Copy { image, stamp: Stamp::NOW, repair: false }),
            pending: None,
            message: Message::None,
            writes: 0,
        }
    }

    pub(crate) fn crashed() -> Self {
        let lease = Lease { left: 0, server: 0 };
        Self { alive: false, lease, ..Self::leased(None) }
    }

    pub(crate) fn tick(&mut self) {
        self.lease.left = self.lease.left.saturating_sub(1);
        if let Some(renewal) = &mut self.renewal {
            renewal.age = (renewal.age + 1).min(LEASE);
        }
    }

    /// The request got no answer: whether it was carried out is unknown.
    pub(crate) fn give_up(&mut self) {
        self.message = Message::None;
        if let Some(pending) = &mut self.pending {
            pending.unknown = true;
        }
    }

    /// Whether it would answer a read from memory now.
    pub(crate) fn is_trusted(&self) -> bool {
        self.standing() == Some(Standing::Trusted)
    }

    fn standing(&self) -> Option<Standing> {
        self.held.map(|copy| standing(copy.stamp, self.current().is_some()))
    }

    pub(crate) fn current(&self) -> Option<LeaseStamp> {
        (self.lease.left > 0).then_some(Stamp::NOW.to_lease())
    }

    pub(crate) fn drop_copy(&mut self) {
        self.held = None;
    }

    pub(crate) fn drop_write(&mut self) {
        self.pending = None;
    }
}

/// What the session actor makes of a copy; asked so often that the few answers are kept.
fn standing(stamp: Stamp, leased: bool) -> Standing {
    static STANDINGS: LazyLock<[Standing; 8]> = LazyLock::new(|| {
        std::array::from_fn(|bits| {
            let stamp = Stamp { same_generation: bits & 1 != 0, same_server: bits & 2 != 0 };
            held(stamp).standing((bits & 4 != 0).then(|| Stamp::NOW.to_lease()))
        })
    });
    let bits = [stamp.same_generation, stamp.same_server, leased];
    STANDINGS[bits.iter().rev().fold(0, |sum, bit| sum << 1 | usize::from(*bit))]
}

/// A copy as the session actor keeps it. Its decisions look at the stamp only; the store compares fence and version.
pub(crate) fn held(stamp: Stamp) -> Held {
    static NOBODY: LazyLock<Fence> =
        LazyLock::new(|| Fence { token: Token::from_text("a|0"), epoch: 1 });
    Held { fence: NOBODY.clone(), stamp: stamp.to_lease(), version: 0 }
}

impl World {
    pub(crate) fn lease_steps(
        &self,
        setup: &Setup,
        servers: &mut Servers,
        i: usize,
        out: &mut Steps,
    ) {
        let node = self.nodes[i];
        let n = i as u8;
        let Some(mut answer) = node.renewal else {
            self.at_servers(i, |server, old| {
                let (server, answer) = servers.step(setup.rules, server, Step::Renew { node: n });
                let Answer::Renewed { server: id, continuous } = answer else {
                    return;
                };
                let mut next = *self;
                next.put(server, old);
                next.nodes[i].renewal = Some(lease::Renewal { age: 0, server: id, continuous });
                out.push((Event::LeaseArrives(n, old), next));
            });
            return self.settle_steps(setup, servers, i, out);
        };
        if !setup.rules.has(Rule::LeaseFromSend) {
            answer.age = 0;
        }
        let mut next = *self;
        let change = lease::renewed(node.lease, answer);
        next.nodes[i].hear_lease(setup, answer.server, change);
        if change.gap && usize::from(next.guardian) == i + 1 {
            next.guardian = 0;
        }
        out.push((Event::LeaseHears(n, change.gap, change.other_server), next));
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

    pub(crate) fn session_steps(
        &self,
        setup: &Setup,
        servers: &mut Servers,
        i: usize,
        out: &mut Steps,
    ) {
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
                next.nodes[i].message = Message::Answered { step: step.kind(), stamp, answer };
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
        let Step::Write { write, .. } = step else {
            return false;
        };
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
        match copy.standing(setup, node.lease.left > 0) {
            Standing::Lapsed => {}
            Standing::Trusted | Standing::Validate if copy.repair && copy.stamp.same_generation => {
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
                if setup.deposit {
                    send(&|_| {}, Step::Restore { image: copy.image });
                }
                if self.claims < setup.claims {
                    let known =
                        copy.stamp.same_server || !setup.rules.has(Rule::LoadAfterServerChange);
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
    /// The standing as the run has it: as the session actor sees it, but for what the run leaves out.
    fn standing(self, setup: &Setup, leased: bool) -> Standing {
        let only_gap = leased && !self.stamp.same_generation && self.stamp.same_server;
        match only_gap {
            true if !setup.rules.has(Rule::GapNamesServer) => Standing::Validate,
            true if setup.claim_after_gap => Standing::Claim,
            _ => standing(self.stamp, leased),
        }
    }

    fn write(self, write: u8) -> Step {
        Step::Write { fence: self.image.fence, seen: self.image.content, write }
    }
}
