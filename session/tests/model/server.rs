//! The server of the model: small copyable states, each step carried out by the real [`Spec`].
//!
//! A state is turned into a `Spec`, the step is done there, and the result is turned back; since few states of the
//! server differ, every step is done once and remembered. Times are ticks from now on, so a state does not age.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use understudy_runtime::ids::{Incarnation, NodeId, NodeName};
use understudy_runtime::lease::table::{LeaseTable, RenewReply};
use understudy_session::record::{
    Change, Fence, Locator, OpId, RecentOps, Record, Seal, SecretHash, Token,
};
use understudy_session::spec::{Spec, Stored};
use understudy_session::store::{
    ClaimReply, RestoreReply, ValidateReply, Write as StoreWrite, WriteReply,
};

use crate::rules::{Rule, Rules};

/// Ticks of a lease.
pub(crate) const LEASE: u8 = 2;
/// Nodes of the model.
pub(crate) const NODES: usize = 2;
/// No server at all, for a table that is empty.
pub(crate) const NO_SERVER: u8 = 99;

const NOW: u64 = 1_000_000_000;
const TICK: u64 = 10_000;

/// Who claimed: the nonce in the high bits, the node in the low ones, plus one; 0: nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Owner(pub(crate) u8);

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 & 3 {
            0 => f.write_str("nobody"),
            node => write!(f, "{}.{}", ["A", "B", "C"][usize::from(node) - 1], self.0 >> 2),
        }
    }
}

impl Owner {
    pub(crate) fn new(node: usize, nonce: u8) -> Self {
        Self(nonce << 2 | (node as u8 + 1))
    }

    fn token(self) -> Option<Token> {
        let node = (self.0 & 3).checked_sub(1)?;
        Some(Token::from_text(&format!("{}|{:016x}", node_id(node.into()), self.0 >> 2)))
    }

    fn of(token: Option<&Token>) -> Self {
        let Some(token) = token else { return Self(0) };
        let (node, nonce) = token.as_str().rsplit_once('|').unwrap();
        let node = (0..NODES).find(|i| node_id(*i).to_string() == node).unwrap();
        Self::new(node, u8::from_str_radix(nonce, 16).unwrap())
    }
}

/// What a session holds: each write adds one to a counter of its own, so that a write that is lost, or made twice,
/// shows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Content {
    pub(crate) version: u8,
    /// Two bits per write.
    pub(crate) counts: u8,
    /// The latest write plus one; 0: none.
    pub(crate) last: u8,
}

impl Content {
    pub(crate) fn count(self, write: u8) -> u8 {
        self.counts >> (2 * write) & 3
    }

    pub(crate) fn with(self, write: u8) -> Self {
        let count = (self.count(write) + 1).min(3);
        let counts = self.counts & !(3 << (2 * write)) | count << (2 * write);
        Self { version: self.version + 1, counts, last: write + 1 }
    }

    /// The writes that are in, as bits.
    pub(crate) fn writes(self) -> u8 {
        (0..4).filter(|w| self.count(*w) > 0).map(|w| 1 << w).sum()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = (0..4).map(|w| (w, self.count(w))).filter(|(_, count)| *count > 0);
        write!(f, "v{} {:?}", self.version, counts.collect::<BTreeMap<_, _>>())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct FenceBits {
    pub(crate) owner: Owner,
    pub(crate) epoch: u8,
}

impl fmt::Debug for FenceBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} e{}", self.owner, self.epoch)
    }
}

/// A copy of the session: in the store, or at a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Image {
    pub(crate) fence: FenceBits,
    pub(crate) content: Content,
}

/// The lease table. Deadlines in ticks from now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Table {
    pub(crate) server: u8,
    pub(crate) grace: u8,
    pub(crate) leases: [u8; NODES],
    /// Bits by node.
    pub(crate) settled: u8,
    /// Bits by node.
    pub(crate) awaited: u8,
    pub(crate) contributed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Server {
    pub(crate) id: u8,
    pub(crate) record: Option<Image>,
    pub(crate) table: Table,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Step {
    Renew { node: u8 },
    Settle { node: u8, awaited: u8, server: u8 },
    Claim { node: u8, nonce: u8, known: Option<u8> },
    Write { fence: FenceBits, seen: Content, write: u8 },
    Validate { fence: FenceBits, version: u8, server: u8 },
    Restore { image: Image },
    Release { fence: FenceBits },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Answer {
    Renewed { server: u8, continuous: bool },
    Claimed { fence: FenceBits, version: u8, content: Option<Content> },
    Owned,
    Grace,
    Written(u8),
    Duplicate(u8),
    Valid,
    Missing,
    Fenced,
    Regressed,
    Conflict,
    OtherServer,
    Restored,
    Refused,
    Done,
}

impl Step {
    /// Forgets what the sender does not need to understand the answer.
    pub(crate) fn kind(self) -> Self {
        let fence = FenceBits::default();
        match self {
            Self::Claim { node, .. } => Self::Claim { node, nonce: 0, known: None },
            Self::Write { write, seen, .. } => Self::Write { fence, seen, write },
            Self::Validate { .. } => Self::Validate { fence, version: 0, server: 0 },
            Self::Restore { .. } => Self::Restore { image: Image::default() },
            Self::Release { .. } => Self::Release { fence },
            Self::Renew { .. } | Self::Settle { .. } => self,
        }
    }
}

impl Server {
    pub(crate) fn tick(&mut self) {
        let table = &mut self.table;
        table.grace = table.grace.saturating_sub(1);
        for lease in &mut table.leases {
            *lease = lease.saturating_sub(1);
        }
        if table.grace == 0 {
            // What nobody looks at any more must not keep states apart.
            (table.settled, table.awaited) = (0, 0);
        }
    }
}

/// Carries steps out and remembers them.
#[derive(Default)]
pub(crate) struct Servers {
    done: HashMap<(Server, Step), (Server, Answer)>,
}

impl Servers {
    pub(crate) fn step(&mut self, rules: Rules, server: Server, step: Step) -> (Server, Answer) {
        *self.done.entry((server, step)).or_insert_with(|| run(rules, server, step))
    }
}

fn run(rules: Rules, mut server: Server, step: Step) -> (Server, Answer) {
    if !rules.has(Rule::Grace) {
        (server.table.server, server.table.grace) = (server.id, 0);
    }
    let leases = server.table.leases;
    if let Step::Claim { node, .. } = step
        && !rules.has(Rule::LeaseRespected)
    {
        let own = leases[usize::from(node)];
        server.table.leases = [0; NODES];
        server.table.leases[usize::from(node)] = own;
    }
    let mut spec = to_spec(server);
    let answer = carry_out(&mut spec, rules, server, step);
    let mut after = from_spec(&spec, server.id);
    if !rules.has(Rule::LeaseRespected) && matches!(step, Step::Claim { .. }) {
        after.table.leases = leases;
    }
    (after, answer)
}

fn carry_out(spec: &mut Spec, rules: Rules, server: Server, step: Step) -> Answer {
    let id = server_name(server.id);
    match step {
        Step::Renew { node } => {
            let ttl = u64::from(LEASE) * TICK;
            match spec.leases.renew(&id, &node_id(node.into()), ttl, NOW) {
                RenewReply::Renewed { continuous } => {
                    Answer::Renewed { server: server.id, continuous }
                }
                RenewReply::Evicted => unreachable!("nobody evicts"),
            }
        }
        Step::Settle { node, awaited, server: meant } => {
            let named = if rules.has(Rule::SettleNamesServer) { meant } else { server.id };
            let awaited: Vec<NodeId> =
                (0..NODES).filter(|i| awaited >> i & 1 == 1).map(node_id).collect();
            let node = node_id(node.into());
            let _ = spec.leases.settle(&server_name(named), &node, &awaited, NOW);
            Answer::Done
        }
        Step::Claim { node, nonce, known } => {
            claim_answer(spec, Owner::new(node.into(), nonce), known)
        }
        Step::Write { seen, write, .. } if !rules.has(Rule::Fence) => {
            unfenced_answer(spec, server, seen, write)
        }
        Step::Write { fence, seen, write } => {
            write_answer(spec, seen_fence(rules, server, fence), seen, write)
        }
        Step::Validate { server: meant, .. }
            if meant != server.id && rules.has(Rule::GapNamesServer) =>
        {
            Answer::OtherServer
        }
        Step::Validate { fence, version, .. } => {
            validation_answer(spec, seen_fence(rules, server, fence), version)
        }
        Step::Restore { image } => match spec.restore(LOCATOR, &to_record(image), NOW) {
            RestoreReply::Restored => Answer::Restored,
            RestoreReply::Refused => Answer::Refused,
            RestoreReply::Revoked => unreachable!("nothing ends it"),
        },
        Step::Release { fence } => {
            spec.release(LOCATOR, &to_fence(seen_fence(rules, server, fence)));
            Answer::Done
        }
    }
}

fn claim_answer(spec: &mut Spec, owner: Owner, known: Option<u8>) -> Answer {
    let token = owner.token().unwrap();
    match spec.claim(LOCATOR, &token, known.map(u64::from), NOW) {
        ClaimReply::Claimed { epoch, version, record, .. } => Answer::Claimed {
            fence: FenceBits { owner, epoch: epoch as u8 },
            version: version as u8,
            content: record.map(|record| content_of(&record)),
        },
        ClaimReply::Owned { .. } => Answer::Owned,
        ClaimReply::Grace { .. } => Answer::Grace,
        ClaimReply::Missing => Answer::Missing,
        ClaimReply::Revoked | ClaimReply::Expired => unreachable!("nothing ends it"),
    }
}

fn validation_answer(spec: &Spec, fence: FenceBits, version: u8) -> Answer {
    match spec.validate(LOCATOR, &to_fence(fence), version.into(), NOW) {
        ValidateReply::Valid { .. } => Answer::Valid,
        ValidateReply::Missing => Answer::Missing,
        ValidateReply::Fenced => Answer::Fenced,
        ValidateReply::Regressed { .. } => Answer::Regressed,
        ValidateReply::Conflict { .. } => Answer::Conflict,
        ValidateReply::Revoked => unreachable!("nothing ends it"),
    }
}

/// What a store does that keeps a record as one value and looks at nothing.
fn unfenced_answer(spec: &mut Spec, server: Server, seen: Content, write: u8) -> Answer {
    let Some(Image { fence, content }) = server.record else { return Answer::Missing };
    let content = Content { version: content.version + 1, ..seen.with(write) };
    let record = to_record(Image { fence, content });
    spec.sessions.insert(LOCATOR, Stored::Live(Box::new(record)));
    Answer::Written(content.version)
}

fn write_answer(spec: &mut Spec, fence: FenceBits, seen: Content, write: u8) -> Answer {
    let count = seen.with(write).count(write);
    let set = vec![(write_name(write), Arc::from(count.to_string()))];
    let change = Change { set, ..Change::default() };
    // Only stores that keep a record as one value look at it.
    let after = to_record(Image::default());
    let sent = StoreWrite {
        locator: LOCATOR,
        fence: &to_fence(fence),
        base_version: seen.version.into(),
        op_id: OpId(write.into()),
        change: &change,
        after: &after,
    };
    match spec.write(sent, NOW) {
        WriteReply::Written { version, .. } => Answer::Written(version as u8),
        WriteReply::Duplicate { version } => Answer::Duplicate(version as u8),
        WriteReply::Missing => Answer::Missing,
        WriteReply::Fenced => Answer::Fenced,
        WriteReply::Regressed { .. } => Answer::Regressed,
        WriteReply::Conflict { .. } => Answer::Conflict,
        WriteReply::Revoked => unreachable!("nothing ends it"),
    }
}

/// The fence that the server compares when a rule is left out: with no fence anything is right, with no nonce the
/// number of the epoch is enough.
fn seen_fence(rules: Rules, server: Server, fence: FenceBits) -> FenceBits {
    match server.record {
        Some(record) if !rules.has(Rule::Fence) => record.fence,
        Some(record) if !rules.has(Rule::Nonce) && record.fence.epoch == fence.epoch => {
            record.fence
        }
        _ => fence,
    }
}

const LOCATOR: Locator = Locator::from_bytes([7; 16]);

pub(crate) fn node_id(node: usize) -> NodeId {
    let name: NodeName = ["a", "b", "c"][node].parse().unwrap();
    NodeId::new(name, Incarnation::from_u64(node as u64))
}

fn server_name(server: u8) -> String {
    format!("server-{server}")
}

fn write_name(write: u8) -> Arc<str> {
    Arc::from(format!("write-{write}"))
}

/// The fence as the store knows it.
fn to_fence(fence: FenceBits) -> Fence {
    let token = fence.owner.token().unwrap_or_else(|| Token::from_text("nobody"));
    Fence { token, epoch: fence.epoch.into() }
}

fn to_record(image: Image) -> Record {
    let attributes = (0..4)
        .filter(|w| image.content.count(*w) > 0)
        .map(|w| (write_name(w), Arc::from(image.content.count(w).to_string())))
        .collect();
    Record {
        owner: image.fence.owner.token(),
        epoch: image.fence.epoch.into(),
        version: image.content.version.into(),
        last_op: image.content.last.checked_sub(1).map(|op| OpId(op.into())),
        created_ms: 0,
        absolute_ms: u64::MAX,
        last_access_ms: NOW,
        idle_ms: u64::MAX,
        user: None,
        secret: SecretHash([0; 32]),
        previous_secret: None,
        attributes: Arc::new(attributes),
        recent: RecentOps::default(),
        unknown: BTreeMap::new(),
        seal: Seal::Open,
    }
}

fn content_of(record: &Record) -> Content {
    let counts = (0..4).map(|w| {
        let count: u8 = record.attributes.get(&write_name(w)).map_or(0, |c| c.parse().unwrap());
        count << (2 * w)
    });
    Content {
        version: record.version as u8,
        counts: counts.sum(),
        last: record.last_op.map_or(0, |op| op.0 as u8 + 1),
    }
}

/// The lease table as it is written down.
#[derive(Serialize, Deserialize)]
struct WrittenTable {
    server_id: Option<String>,
    grace_until_ms: u64,
    nodes: BTreeMap<NodeId, WrittenLease>,
    settled: BTreeSet<NodeId>,
    awaited: BTreeSet<NodeId>,
    contributed: bool,
}

#[derive(Serialize, Deserialize)]
enum WrittenLease {
    Until(u64),
    Evicted,
}

fn to_spec(server: Server) -> Spec {
    let table = server.table;
    let bits = |mask: u8| (0..NODES).filter(move |i| mask >> i & 1 == 1).map(node_id).collect();
    let leases = (0..NODES)
        .filter(|i| table.leases[*i] > 0)
        .map(|i| (node_id(i), WrittenLease::Until(NOW + u64::from(table.leases[i]) * TICK)));
    let written = WrittenTable {
        server_id: (table.server != NO_SERVER).then(|| server_name(table.server)),
        grace_until_ms: NOW + u64::from(table.grace) * TICK,
        nodes: leases.collect(),
        settled: bits(table.settled),
        awaited: bits(table.awaited),
        contributed: table.contributed,
    };
    let leases: LeaseTable =
        serde_json::from_value(serde_json::to_value(written).unwrap()).unwrap();
    let mut spec = Spec::new(&server_name(server.id), u64::from(LEASE) * TICK, 0);
    spec.leases = leases;
    if let Some(image) = server.record {
        spec.sessions.insert(LOCATOR, Stored::Live(Box::new(to_record(image))));
    }
    spec
}

fn from_spec(spec: &Spec, id: u8) -> Server {
    let written: WrittenTable =
        serde_json::from_value(serde_json::to_value(&spec.leases).unwrap()).unwrap();
    let mask = |set: &BTreeSet<NodeId>| {
        (0..NODES).filter(|i| set.contains(&node_id(*i))).map(|i| 1_u8 << i).sum()
    };
    let mut leases = [0; NODES];
    for (i, lease) in leases.iter_mut().enumerate() {
        let left = spec.leases.live_for(&node_id(i), NOW).unwrap_or(0);
        *lease = (left / TICK) as u8;
    }
    let record = match spec.sessions.get(&LOCATOR) {
        Some(Stored::Live(record)) => Some(Image {
            fence: FenceBits { owner: Owner::of(record.owner.as_ref()), epoch: record.epoch as u8 },
            content: content_of(record),
        }),
        Some(Stored::Ended(_)) | None => None,
    };
    let server = written
        .server_id
        .map_or(NO_SERVER, |name| name.trim_start_matches("server-").parse().unwrap());
    let grace = (spec.leases.grace_remaining(NOW) / TICK) as u8;
    let mut table = Table {
        server,
        grace,
        leases,
        settled: mask(&written.settled),
        awaited: mask(&written.awaited),
        contributed: written.contributed,
    };
    if grace == 0 {
        (table.settled, table.awaited) = (0, 0);
    }
    Server { id, record, table }
}
