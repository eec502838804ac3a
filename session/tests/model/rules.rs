//! The rules of the protocol that can be left out one by one, and what else a run of the checker is about.

/// One rule; leaving it out must give a counterexample, or it would not be needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Rule {
    /// R1: a write enters only behind the record's own token and epoch.
    Fence,
    /// R2: a token has a nonce; without it the epoch alone is compared.
    Nonce,
    /// R3: a live lease of the owner refuses a claim.
    LeaseRespected,
    /// R4: a lease is trusted from the time its renewal was sent, not answered.
    LeaseFromSend,
    /// R5: after a gap of the lease, a copy is not trusted until it is validated.
    Gap,
    /// R5: the validation after a gap counts only at the server that renewed the lease.
    GapNamesServer,
    /// R6: after a change of server, a copy is not trusted until it is validated.
    ServerChange,
    /// R7: a changed server lets nobody claim for the length of a lease.
    Grace,
    /// R10: the old server has stopped before the new one begins.
    OnePrimary,
    /// The owner puts back what a changed server lost.
    Restore,
    /// The owner puts its session back also when a changed server lost its very claim.
    RestoreLostClaim,
    /// A node settles only after it has put back what it owns.
    RestoreBeforeSettle,
    /// The grace ends early only when every known node has settled.
    SettleAwaitsAll,
    /// A word that a node has settled counts only at the server it was meant for.
    SettleNamesServer,
    /// A write whose outcome is unknown is repeated only where it surely is not in, or is recognised.
    RepeatNeedsProof,
    /// A claim after a change of server loads the whole record, even if its version is known.
    LoadAfterServerChange,
    /// R12: while a change is on its way, an owner answers no reads: the store may show it to others already.
    ReadsAwaitChanges,
}

/// A set of rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rules(u32);

impl Rules {
    /// All rules.
    pub(crate) const ALL: Self = Self(u32::MAX);

    /// The same without one.
    pub(crate) const fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u32))
    }

    /// Whether the rule holds.
    pub(crate) const fn has(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u32) != 0
    }
}

/// What a change of server does to the store's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// There is none.
    Never,
    /// A replica takes over, which knows any earlier state.
    ToReplica,
    /// The server starts again and knows nothing.
    ToEmpty,
}

/// How a run begins: at the beginning, or at a state that can be reached from there but lies far away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// A owns the session, both nodes hold their leases.
    Owned,
    /// The server has just changed, and lost an acknowledged write of A, which still owns the session.
    WriteLost,
    /// The server has just changed, and lost the claim of A with an acknowledged write; the record is nobody's.
    ClaimLost,
    /// The same for a second time, and the word of A that it was settled after the first change is still on its way.
    StillSettling,
    /// The server changed and lost a write of A, whose lease ran out; then B made an acknowledged write and gave the
    /// session up. A has not noticed any of it.
    Rewritten,
}

/// One run of the checker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) rules: Rules,
    pub(crate) start: Start,
    pub(crate) change: Change,
    /// How many nodes may crash.
    pub(crate) crashes: u8,
    /// How many requests may be given up by their sender and still arrive later.
    pub(crate) timeouts: u8,
    /// How many writes each node makes.
    pub(crate) writes: u8,
    /// How many claims succeed.
    pub(crate) claims: u8,
    /// Whether a write is answered only once the replica has it.
    pub(crate) wait_for_replica: bool,
    /// Whether a node may hand the session over of its own accord.
    pub(crate) release: bool,
    /// Whether an owner that may only claim puts its copy into the store first, for others to find.
    pub(crate) deposit: bool,
    /// Whether a node claims after each gap of its lease, also where a validation would do.
    pub(crate) claim_after_gap: bool,
    /// The one kind of violation that is looked for: how its name begins. Empty: any.
    pub(crate) only: &'static str,
}

impl Setup {
    /// All rules, no change of server, nothing fails but time.
    pub(crate) const CALM: Self = Self {
        rules: Rules::ALL,
        start: Start::Owned,
        change: Change::Never,
        crashes: 0,
        timeouts: 0,
        writes: 1,
        claims: 1,
        wait_for_replica: false,
        release: false,
        deposit: false,
        claim_after_gap: false,
        only: "",
    };

    /// The same with one rule left out.
    pub(crate) const fn without(mut self, rule: Rule) -> Self {
        self.rules = self.rules.without(rule);
        self
    }
}
