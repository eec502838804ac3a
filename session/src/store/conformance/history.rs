//! Random histories: the store must answer as the specification does, step by step.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use understudy_runtime::clock::SystemClock;
use understudy_runtime::ids::NodeId;

use super::Fixture;
use super::bench::{Bench, LONG, blank, ms, node, set};
use crate::record::{Change, Fence, Locator, OpId, RecentOps, Record, Token};
use crate::spec::apply;
use crate::store::memory::MemoryStore;
use crate::store::{ClaimReply, End, ReadReply, SharedStore, ValidateReply, Write, WriteReply};

/// Sessions of one history; few, so that the steps meet.
const SESSIONS: usize = 3;

/// One random step, worked out before it is done so that it can be done twice.
#[derive(Debug, Clone)]
enum Step {
    Create(Record),
    Claim(Token, Option<u64>),
    Read,
    Write(Fence, u64, OpId, Change, Box<Record>),
    Validate(Fence, u64),
    Restore(Box<Record>),
    Revoke,
    Release(Fence),
    Touch,
    Sweep,
    Renew(NodeId),
    Drop(NodeId),
}

/// The store as each step reaches it, and the specification in its place.
struct Side<'a> {
    store: SharedStore,
    leases: Arc<dyn understudy_runtime::lease::LeaseStore>,
    fixture: &'a dyn Fixture,
}

pub(super) async fn compare(bench: &Bench<'_>, seed: u64, steps: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let memory =
        MemoryStore::new(SystemClock::shared(), bench.fixture.lease(), bench.fixture.touch_slack());
    let fixture = bench.fixture;
    let store = Side { store: bench.store.clone(), leases: bench.leases.clone(), fixture };
    let spec = Side { store: Arc::new(memory.clone()), leases: Arc::new(memory), fixture };
    let nodes = ["a", "b", "c"].map(node);
    // The specification has one table of leases: all sessions must look at the same.
    let first = bench.locator().await;
    let mut locators = vec![first];
    for _ in 1..SESSIONS {
        locators.push(bench.locator_beside(first).await);
    }
    let mut tellers = vec![Teller::default(); SESSIONS];
    for number in 0..steps {
        let at = random.random_range(0..SESSIONS);
        let teller = &mut tellers[at];
        let step = teller.step(&nodes, &mut random);
        let given = store.carry_out(locators[at], &step).await;
        let wanted = spec.carry_out(locators[at], &step).await;
        assert_eq!(given, wanted, "step {number} of seed {seed}: {step:?}");
        teller.hear(&step, &wanted, spec.store.read(locators[at]).await.ok());
        if wanted == "revoked" && random.random_bool(0.5) {
            // Nothing more happens to it: begin another one in its place.
            locators[at] = bench.locator_beside(first).await;
            *teller = Teller::default();
        }
    }
}

/// What the nodes of a history believe about one session: sometimes what was true a while ago.
#[derive(Debug, Clone, Default)]
struct Teller {
    known: Vec<Record>,
}

impl Teller {
    fn step(&self, nodes: &[NodeId], random: &mut StdRng) -> Step {
        let own = nodes[random.random_range(0..nodes.len())].clone();
        let token = Token::from_text(&format!("{own}|{:016x}", random.random::<u64>()));
        // Mostly what is newest, now and then something older.
        let back = if random.random_bool(0.75) { 0 } else { random.random_range(0..8) };
        let known = self.known.iter().rev().nth(back).or(self.known.last()).cloned();
        let copy = known.unwrap_or_else(|| Record { owner: Some(token.clone()), ..blank(&own) });
        let fence =
            Fence { token: copy.owner.clone().unwrap_or_else(|| token.clone()), epoch: copy.epoch };
        match random.random_range(0..21_u8) {
            0..=1 => Step::Create(Record { owner: Some(token), ..blank(&own) }),
            2..=4 => Step::Claim(token, random.random_bool(0.5).then_some(copy.version)),
            5..=6 => Step::Read,
            7..=11 => write_step(copy, fence, random),
            12 => Step::Validate(fence, near(copy.version, random)),
            13 => {
                let version = near(copy.version + 1, random);
                Step::Restore(Box::new(Record { version, ..copy }))
            }
            14 if random.random_bool(0.3) => Step::Revoke,
            14..=15 => Step::Release(fence),
            16 => Step::Touch,
            17 => Step::Sweep,
            18..=19 => Step::Renew(own),
            _ => Step::Drop(own),
        }
    }

    fn hear(&mut self, step: &Step, answer: &str, now: Option<ReadReply>) {
        let changed = answer.starts_with("Claimed") || answer.starts_with("Written");
        if (changed || matches!(step, Step::Create(_) | Step::Restore(_)))
            && let Some(ReadReply::Found(record)) = now
        {
            self.known.push(*record);
        }
    }
}

fn write_step(copy: Record, fence: Fence, random: &mut StdRng) -> Step {
    let mut change = set(["n", "m", ""][random.random_range(0..3)], "1");
    if random.random_bool(0.3) {
        change.remove.push("m".into());
        change.user = Some(random.random_bool(0.5).then(|| "somebody".into()));
        change.previous_secret = Some(random.random_bool(0.5).then_some((copy.secret, 12)));
        change.recent = Some(RecentOps { since_version: copy.version, ..RecentOps::default() });
    }
    let op_id = match copy.last_op {
        Some(op_id) if random.random_bool(0.15) => op_id,
        _ => OpId(random.random()),
    };
    let base = near(copy.version, random);
    let mut after = copy;
    apply(&mut after, &change);
    after.version = base + 1;
    after.last_op = Some(op_id);
    Step::Write(fence, base, op_id, change, Box::new(after))
}

/// The version, or now and then one beside it.
fn near(version: u64, random: &mut StdRng) -> u64 {
    match random.random_range(0..10_u8) {
        0 => version + 1,
        1 => version.saturating_sub(1),
        _ => version,
    }
}

impl Side<'_> {
    /// Does the step; gives the answer without times, as text.
    async fn carry_out(&self, locator: Locator, step: &Step) -> String {
        let store = &self.store;
        let bucket = self.fixture.bucket(locator);
        match step {
            Step::Create(record) => {
                let reply = store.create(locator, record, ms(LONG)).await;
                format!("{:?}", reply.expect("create answers")).split(' ').take(1).collect()
            }
            Step::Claim(token, known) => {
                let reply = store.claim(locator, token, *known).await.expect("claim answers");
                timeless_claim(reply)
            }
            Step::Read => match store.read(locator).await.expect("read answers") {
                ReadReply::Found(record) => format!("{:?}", timeless(&record)),
                other @ (ReadReply::Missing | ReadReply::Revoked) => format!("{other:?}"),
            },
            Step::Write(fence, base_version, op_id, change, after) => {
                let (base_version, op_id) = (*base_version, *op_id);
                let write = Write { locator, fence, base_version, op_id, change, after };
                match store.write(write).await.expect("write answers") {
                    WriteReply::Written { version, .. } => format!("Written {version}"),
                    other => format!("{other:?}"),
                }
            }
            Step::Validate(fence, version) => {
                match store.validate(locator, fence, *version).await.expect("validate answers") {
                    ValidateReply::Valid { .. } => "Valid".into(),
                    other => format!("{other:?}"),
                }
            }
            Step::Restore(record) => {
                format!("{:?}", store.restore(locator, record).await.expect("restore answers"))
            }
            Step::Revoke => {
                store.revoke(locator, End::Asked).await.expect("revoke answers");
                "revoked".into()
            }
            Step::Release(fence) => {
                format!("released {}", store.release(locator, fence).await.expect("it answers"))
            }
            Step::Touch => format!("{:?}", store.touch(locator).await.expect("touch answers")),
            Step::Sweep => self.sweep(locator).await,
            Step::Renew(node) => {
                let renewed = self.leases.renew(bucket, node, LONG).await.expect("renew answers");
                format!("renewed {} {}", renewed.continuous, renewed.evicted)
            }
            Step::Drop(node) => {
                self.leases.drop_node(bucket, node).await.expect("drop_node answers");
                "dropped".into()
            }
        }
    }

    /// Sweeps until nothing is due; tells what concerns this session.
    async fn sweep(&self, locator: Locator) -> String {
        let bucket = self.fixture.bucket(locator);
        let mut own = Vec::new();
        loop {
            let swept = self.store.sweep(bucket, 100, Some(LONG)).await.expect("sweep answers");
            let told = swept.expired.iter().filter(|expired| expired.locator == locator);
            own.extend(told.map(|told| (told.reason, told.user.clone(), told.again)));
            if !swept.more {
                return format!("swept {own:?}");
            }
        }
    }
}

fn timeless(record: &Record) -> Record {
    Record { created_ms: 0, last_access_ms: 0, absolute_ms: 0, ..record.clone() }
}

fn timeless_claim(reply: ClaimReply) -> String {
    match reply {
        ClaimReply::Claimed { epoch, version, record, .. } => {
            format!("Claimed {epoch} {version} {:?}", record.map(|record| timeless(&record)))
        }
        ClaimReply::Owned { node, record, remaining_ms, .. } => {
            assert!(Duration::from_millis(remaining_ms) <= LONG, "{remaining_ms} ms remain");
            format!("Owned by {node}: {:?}", timeless(&record))
        }
        other @ (ClaimReply::Grace { .. }
        | ClaimReply::Missing
        | ClaimReply::Revoked
        | ClaimReply::Expired) => format!("{other:?}"),
    }
}
