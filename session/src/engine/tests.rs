//! The machine stepped by hand: every reply a store or a peer can give, and what the clients are told.

use std::collections::BTreeMap;

use tokio::sync::oneshot;
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;
use understudy_runtime::lease::LeaseStamp;

use super::*;
use crate::record::{Attributes, RecentOps, Seal, SecretHash};
use crate::state::{Op, Task, Traced};
use crate::store::{
    ClaimReply, End, RestoreReply, RevokeReply, StoreError, ValidateReply, WriteReply,
};

const SECRET: SecretHash = SecretHash([1; 32]);
const LIMITS: Limits = Limits { attribute_bytes: 1_000, session_bytes: 10_000, pack_above: 0 };

struct Bench {
    engine: Engine,
    now_ms: u64,
    lease: Option<LeaseStamp>,
    last_access_ms: u64,
}

fn stamp(generation: u64, rid_epoch: u64) -> LeaseStamp {
    LeaseStamp { generation, rid_epoch }
}

fn at(ms: u64) -> BootInstant {
    BootInstant::from_nanos(ms * 1_000_000)
}

fn node(name: &str) -> NodeId {
    NodeId::begin(name.parse().unwrap())
}

fn record(version: u64, n: i64) -> Record {
    Record {
        owner: None,
        epoch: 4,
        version,
        last_op: None,
        created_ms: 0,
        absolute_ms: 1_000_000,
        last_access_ms: 0,
        idle_ms: 60_000,
        user: None,
        secret: SECRET,
        previous_secret: None,
        attributes: Arc::new(Attributes::from([("n".into(), n.to_string().into())])),
        recent: RecentOps::default(),
        unknown: BTreeMap::new(),
        seal: Seal::Open,
    }
}

impl Bench {
    fn new() -> Self {
        let engine = Engine::new(node("a"), LIMITS);
        Self { engine, now_ms: 1_000, lease: Some(stamp(1, 1)), last_access_ms: 1_000 }
    }

    /// Owns the session at version 7 with `n` = 5.
    fn owner() -> Self {
        let mut bench = Self::new();
        let view = bench.job(Work::View);
        bench.claimed(record(7, 5));
        assert!(matches!(bench.step(), Step::Rest));
        assert!(matches!(answered(view), Some(Ok(Reply::View(_)))));
        bench
    }

    fn moment(&self) -> Moment {
        Moment {
            now: at(self.now_ms),
            lease: self.lease,
            last_access: at(self.last_access_ms),
            seen_version: 0,
            patience: STORE_PATIENCE,
        }
    }

    fn sent(&self) -> Sent {
        Sent { at: at(self.now_ms), lease: self.lease }
    }

    fn step(&mut self) -> Step {
        let step = self.engine.next(self.moment());
        for (job, answer) in self.engine.take_answers() {
            for reply in job.replies {
                drop(reply.send(answer.clone()));
            }
        }
        step
    }

    fn job(&mut self, work: Work) -> Receiver<Answer> {
        self.submit(work, None)
    }

    fn submit(&mut self, work: Work, peer: Option<Trace>) -> Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        self.engine.submit(Job {
            work,
            replies: vec![reply],
            deadline: at(self.now_ms + 6_000),
            submitted: at(self.now_ms),
            from_peer: peer.is_some(),
            trace: peer,
            sent: 0,
            span: tracing::Span::none(),
        });
        answer
    }

    fn increment(&mut self, by: i64) -> Receiver<Answer> {
        self.job(increment(by, None))
    }

    fn claimed(&mut self, record: Record) {
        let Step::Claim { token, .. } = self.step() else { panic!("a claim is due") };
        let version = record.version;
        let record = Some(Box::new(Record { owner: Some(token.clone()), epoch: 5, ..record }));
        let reply = ClaimReply::Claimed { epoch: 5, version, now_ms: 500, record };
        let (sent, moment) = (self.sent(), self.moment());
        self.engine.on_claim(token, Ok(reply), sent, moment);
    }

    fn claim_answers(&mut self, reply: Result<ClaimReply, StoreError>) {
        let Step::Claim { token, .. } = self.step() else { panic!("a claim is due") };
        let (sent, moment) = (self.sent(), self.moment());
        self.engine.on_claim(token, reply, sent, moment);
    }

    fn write_answers(&mut self, reply: Result<WriteReply, StoreError>) {
        let (sent, moment) = (self.sent(), self.moment());
        self.engine.on_write(reply, sent, moment);
    }

    fn written(&mut self) {
        let Step::Write { held, .. } = self.step() else { panic!("a write is due") };
        self.write_answers(Ok(WriteReply::Written { version: held.version + 1, now_ms: 500 }));
        self.step();
    }

    /// The copy is put back, or that is refused.
    fn refused_or(&mut self, reply: RestoreReply) {
        let Step::Restore(_) = self.step() else { panic!("the copy may be the only one") };
        let moment = self.moment();
        self.engine.on_restore(Ok(reply), moment);
    }

    fn owned_by(&self, name: &NodeId, remaining_ms: u64) -> ClaimReply {
        let record = Box::new(Record { owner: Some(Token::new(name)), ..record(7, 5) });
        ClaimReply::Owned { node: name.clone(), remaining_ms, now_ms: 500, record }
    }
}

fn increment(by: i64, remote: Option<OpId>) -> Work {
    Work::Ask(Ask {
        secret: SECRET,
        task: Task::Op(Op::Increment { name: "n".into(), by }),
        remote,
    })
}

fn answered(mut receiver: Receiver<Answer>) -> Option<Answer> {
    match receiver.try_recv() {
        Ok(answer) => Some(answer),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Closed) => panic!("a job was dropped without an answer"),
    }
}

fn number(receiver: Receiver<Answer>) -> i64 {
    match answered(receiver) {
        Some(Ok(Reply::Done(Outcome::Number(number), _))) => number,
        other => panic!("{other:?}"),
    }
}

fn refusal(receiver: Receiver<Answer>) -> Refusal {
    match answered(receiver) {
        Some(Err(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn away() -> StoreError {
    StoreError::Unavailable("test".into())
}

#[test]
fn what_arrives_during_a_write_becomes_the_next_one() {
    let mut bench = Bench::owner();
    let first = bench.increment(1);
    let Step::Write { held, .. } = bench.step() else { panic!() };
    let others: Vec<_> = (0..10).map(|_| bench.increment(1)).collect();
    assert!(matches!(bench.step(), Step::Rest), "one write at a time");
    bench.write_answers(Ok(WriteReply::Written { version: held.version + 1, now_ms: 500 }));
    let Step::Write { change, after, .. } = bench.step() else { panic!() };
    assert_eq!(number(first), 6);
    assert_eq!((change.set.len(), &*after.attributes["n"]), (1, "16"));
    bench.write_answers(Ok(WriteReply::Written { version: 9, now_ms: 500 }));
    bench.step();
    assert_eq!(others.into_iter().map(number).collect::<Vec<_>>(), (7..=16).collect::<Vec<_>>());
}

#[test]
fn s7_a_session_that_somebody_ended_is_over_after_the_step_under_way() {
    let mut bench = Bench::owner();
    bench.engine.hear_end();
    let late = bench.increment(1);
    assert!(matches!(bench.step(), Step::Rest));
    assert_eq!(refusal(late), Refusal::Ended);
    assert!(matches!(bench.engine.role(), Role::Ended), "and no copy is kept to be put back");
    // In the middle of a write: what is in is told so, what comes after it is refused.
    let mut bench = Bench::owner();
    let (first, _) = (bench.increment(1), bench.step());
    let second = bench.increment(1);
    bench.engine.hear_end();
    assert!(matches!(bench.step(), Step::Rest));
    bench.write_answers(Ok(WriteReply::Written { version: 8, now_ms: 500 }));
    bench.step();
    assert_eq!((number(first), refusal(second)), (6, Refusal::Ended));
    // In the middle of a claim that came before the end.
    let mut bench = Bench::new();
    let view = bench.job(Work::View);
    let Step::Claim { token, .. } = bench.step() else { panic!("a claim is due") };
    bench.engine.hear_end();
    let reply = ClaimReply::Claimed {
        epoch: 5,
        version: 7,
        now_ms: 500,
        record: Some(Box::new(record(7, 5))),
    };
    let (sent, moment) = (bench.sent(), bench.moment());
    bench.engine.on_claim(token, Ok(reply), sent, moment);
    assert!(matches!(bench.step(), Step::Rest));
    assert_eq!(refusal(view), Refusal::Ended);
    bench.engine.want_check();
    assert!(matches!(bench.step(), Step::Rest), "it is not put back either");
}

#[test]
fn nobody_is_told_before_the_store_has_it() {
    let mut bench = Bench::owner();
    let waiting = bench.increment(1);
    bench.step();
    assert!(answered(waiting).is_none());
    let Role::Owner(owned) = bench.engine.role() else { panic!() };
    assert_eq!(owned.record.version, 7, "what readers see is what is durable");
}

#[test]
fn a_write_without_a_reply_is_sent_again_with_the_same_id() {
    let mut bench = Bench::owner();
    let waiting = bench.increment(1);
    let Step::Write { op_id: first, .. } = bench.step() else { panic!() };
    bench.write_answers(Err(away()));
    assert!(matches!(bench.step(), Step::Wait(_)));
    bench.now_ms += 30;
    let Step::Write { op_id: second, .. } = bench.step() else { panic!() };
    assert_eq!(first, second);
    bench.write_answers(Ok(WriteReply::Duplicate { version: 8 }));
    bench.step();
    assert_eq!(number(waiting), 6);
}

#[test]
fn a_store_that_stays_away_is_told_to_the_client_within_a_second() {
    let mut bench = Bench::owner();
    let waiting = bench.increment(1);
    bench.step();
    bench.now_ms += 790;
    bench.write_answers(Err(away()));
    bench.now_ms += 30;
    bench.step();
    bench.write_answers(Err(away()));
    bench.step();
    assert_eq!(refusal(waiting), Refusal::Unavailable);
    let _next = bench.increment(1);
    bench.now_ms += 30;
    let Step::Claim { token, known_version: Some(7) } = bench.step() else {
        panic!("the late write is fenced by a new token")
    };
    let reply = ClaimReply::Claimed { epoch: 6, version: 7, now_ms: 500, record: None };
    let (sent, moment) = (bench.sent(), bench.moment());
    bench.engine.on_claim(token.clone(), Ok(reply), sent, moment);
    let Step::Write { held, after, .. } = bench.step() else { panic!("the copy still counts") };
    assert_eq!((held.fence.epoch, &after.owner, after.epoch), (6, &Some(token), 6));
}

#[test]
fn a_reply_that_comes_under_another_lease_is_not_believed() {
    let mut bench = Bench::owner();
    let waiting = bench.increment(1);
    let Step::Write { op_id, .. } = bench.step() else { panic!() };
    bench.lease = Some(stamp(2, 1)); // the lease had a gap meanwhile
    bench.write_answers(Ok(WriteReply::Written { version: 8, now_ms: 500 }));
    let landed = Record { last_op: Some(op_id), ..record(8, 6) };
    bench.claimed(landed);
    bench.step();
    assert_eq!(number(waiting), 6);
}

#[test]
fn a_fenced_write_was_not_carried_out_and_is_not_repeated() {
    let mut bench = Bench::owner();
    let waiting = bench.increment(1);
    bench.step();
    bench.write_answers(Ok(WriteReply::Fenced));
    bench.refused_or(RestoreReply::Refused);
    bench.step();
    assert_eq!(refusal(waiting), Refusal::Conflict);
    assert!(matches!(bench.engine.role(), Role::Unknown(None)), "the copy is dropped");
}

#[test]
fn a_write_that_may_be_in_is_not_called_lost_when_another_node_owns_the_session() {
    let mut bench = Bench::owner();
    let waiting = bench.increment(1);
    bench.step();
    bench.write_answers(Err(away()));
    bench.now_ms += 30;
    bench.step();
    bench.write_answers(Ok(WriteReply::Fenced));
    bench.refused_or(RestoreReply::Refused);
    bench.step();
    assert_eq!(refusal(waiting), Refusal::OutcomeUnknown);
}

#[test]
fn another_server_needs_a_validation_and_a_gap_a_claim() {
    for (lease, known) in [(stamp(2, 1), Some(7)), (stamp(2, 2), None)] {
        let mut bench = Bench::owner();
        bench.lease = Some(lease);
        let _view = bench.job(Work::View);
        let Step::Claim { known_version, .. } = bench.step() else {
            panic!("others may have claimed")
        };
        assert_eq!(known_version, known, "a version tells contents apart at one server only");
    }
    let mut bench = Bench::owner();
    bench.lease = Some(stamp(1, 2));
    let _view = bench.job(Work::View);
    assert!(matches!(bench.step(), Step::Validate(_)));
}

#[test]
fn after_a_gap_and_another_server_the_copy_is_put_in_before_it_is_claimed() {
    let mut bench = Bench::owner();
    bench.lease = Some(stamp(2, 2));
    bench.engine.want_check();
    let Step::Restore(_) = bench.step() else { panic!() };
    let moment = bench.moment();
    bench.engine.on_restore(Ok(RestoreReply::Restored), moment);
    assert!(matches!(bench.step(), Step::Rest));
    let _view = bench.job(Work::View);
    assert!(matches!(bench.step(), Step::Claim { known_version: None, .. }));
}

#[test]
fn a_claim_that_the_store_forgot_does_not_cost_the_only_copy() {
    let mut bench = Bench::owner();
    let waiting = bench.increment(1);
    bench.step();
    bench.write_answers(Ok(WriteReply::Fenced)); // no gap: nobody can have claimed
    bench.refused_or(RestoreReply::Restored);
    bench.written();
    assert_eq!(number(waiting), 6);
}

#[test]
fn without_a_lease_nothing_is_read_and_the_wait_is_bounded() {
    let mut bench = Bench::owner();
    bench.lease = None;
    let view = bench.job(Work::View);
    assert!(matches!(bench.step(), Step::Wait(_)));
    bench.now_ms += 800;
    assert!(matches!(bench.step(), Step::Rest));
    assert_eq!(refusal(view), Refusal::Unavailable);
}

#[test]
fn an_emptied_store_gets_the_copy_back() {
    let mut bench = Bench::owner();
    bench.lease = Some(stamp(1, 2));
    bench.engine.want_check();
    let Step::Validate(_) = bench.step() else { panic!() };
    let (sent, moment) = (bench.sent(), bench.moment());
    bench.engine.on_validate(Ok(ValidateReply::Missing), sent, moment);
    let Step::Restore(copy) = bench.step() else { panic!() };
    assert_eq!(copy.version, 7);
    bench.engine.on_restore(Ok(RestoreReply::Restored), moment);
    let waiting = bench.increment(1);
    bench.written();
    assert_eq!(number(waiting), 6);
}

#[test]
fn an_outage_does_not_make_the_owner_forget_what_the_store_may_lose() {
    let mut bench = Bench::owner();
    let waiting = bench.increment(1);
    bench.step();
    bench.now_ms += 900;
    bench.write_answers(Err(away()));
    bench.step();
    assert_eq!(refusal(waiting), Refusal::Unavailable);
    bench.lease = None;
    let view = bench.job(Work::View);
    bench.now_ms += 900;
    bench.step();
    assert_eq!(refusal(view), Refusal::Unavailable);
    bench.lease = Some(stamp(2, 2));
    let view = bench.job(Work::View);
    bench.engine.want_check();
    for failed in [true, false] {
        let Step::Restore(copy) = bench.step() else { panic!("put back before anything else") };
        assert_eq!((copy.version, &*copy.attributes["n"]), (7, "5"));
        assert!(!bench.engine.is_confirmed());
        let moment = bench.moment();
        let reply = if failed { Err(away()) } else { Ok(RestoreReply::Restored) };
        bench.engine.on_restore(reply, moment);
        bench.now_ms += 30;
    }
    assert!(bench.engine.is_confirmed(), "although somebody waits for the grace to end");
    bench.claimed(record(7, 5));
    bench.step();
    assert!(matches!(answered(view), Some(Ok(Reply::View(_)))));
}

#[test]
fn a_session_that_is_gone_for_good_is_not_put_back() {
    let mut bench = Bench::owner();
    let waiting = bench.increment(1);
    bench.step();
    bench.write_answers(Ok(WriteReply::Missing));
    let Step::Restore(_) = bench.step() else { panic!() };
    let moment = bench.moment();
    bench.engine.on_restore(Ok(RestoreReply::Refused), moment);
    bench.claim_answers(Ok(ClaimReply::Missing));
    bench.step();
    assert_eq!(refusal(waiting), Refusal::Ended);
}

#[test]
fn a_logout_waits_for_what_came_before_and_stops_what_comes_after() {
    let mut bench = Bench::owner();
    let before = bench.increment(1);
    bench.step();
    let logout = bench.job(Work::Revoke(Some(SECRET)));
    let after = bench.increment(1);
    bench.write_answers(Ok(WriteReply::Written { version: 8, now_ms: 500 }));
    assert!(matches!(bench.step(), Step::Revoke(End::Asked)));
    assert_eq!(number(before), 6);
    let moment = bench.moment();
    bench.engine.on_revoke(Ok(RevokeReply::Revoked { owner: None }), moment);
    bench.step();
    assert!(matches!(answered(logout), Some(Ok(Reply::Revoked))));
    assert_eq!(refusal(after), Refusal::Ended);
}

#[test]
fn a_logout_that_the_store_did_not_answer_is_tried_again_and_then_refused() {
    for back in [true, false] {
        let mut bench = Bench::owner();
        let logout = bench.job(Work::Revoke(Some(SECRET)));
        assert!(matches!(bench.step(), Step::Revoke(End::Asked)));
        let moment = bench.moment();
        bench.engine.on_revoke(Err(away()), moment);
        assert!(matches!(bench.step(), Step::Wait(_)), "it is not forgotten");
        bench.now_ms += if back { 30 } else { 650 };
        bench.last_access_ms = bench.now_ms;
        if back {
            // It may be over already, so nobody is shown the copy before the store was asked.
            bench.claimed(record(7, 5));
            assert!(matches!(bench.step(), Step::Revoke(End::Asked)));
            let moment = bench.moment();
            bench.engine.on_revoke(Ok(RevokeReply::Revoked { owner: None }), moment);
            bench.step();
            assert!(matches!(answered(logout), Some(Ok(Reply::Revoked))));
        } else {
            bench.claim_answers(Err(away()));
            bench.now_ms += 60;
            bench.claim_answers(Err(away()));
            bench.step();
            assert_eq!(refusal(logout), Refusal::Unavailable);
        }
    }
}

#[test]
fn a_refusal_after_an_attempt_without_reply_does_not_claim_that_nothing_happened() {
    let mut bench = Bench::owner();
    let waiting = bench.increment(1);
    bench.step();
    bench.write_answers(Err(away()));
    bench.now_ms += 30;
    bench.step();
    bench.write_answers(Err(StoreError::Refused("full".into())));
    bench.step();
    assert_eq!(refusal(waiting), Refusal::OutcomeUnknown);
}

#[test]
fn a_wrong_secret_ends_nothing() {
    let mut bench = Bench::owner();
    let logout = bench.job(Work::Revoke(Some(SecretHash([9; 32]))));
    assert!(matches!(bench.step(), Step::Rest));
    assert_eq!(refusal(logout), Refusal::Ended);
    assert!(matches!(bench.engine.role(), Role::Owner(_)));
}

#[test]
fn an_idle_session_ends_unless_another_node_noted_an_access() {
    for (last_access_ms, over) in [(100_000, true), (450_000, false)] {
        let mut bench = Bench::owner();
        bench.now_ms = 400_000;
        let view = bench.job(Work::View);
        let Step::Validate(_) = bench.step() else { panic!() };
        let (sent, moment) = (bench.sent(), bench.moment());
        let reply = ValidateReply::Valid { last_access_ms, now_ms: 455_000 };
        let access = bench.engine.on_validate(Ok(reply), sent, moment).unwrap();
        bench.last_access_ms = access.as_nanos() / 1_000_000;
        if over {
            assert!(matches!(bench.step(), Step::Revoke(End::OutOfTime)));
            bench.engine.on_revoke(Ok(RevokeReply::Revoked { owner: None }), moment);
            bench.step();
            assert_eq!(refusal(view), Refusal::Ended);
        } else {
            assert!(matches!(bench.step(), Step::Rest));
            assert!(matches!(answered(view), Some(Ok(Reply::View(_)))));
        }
    }
}

#[test]
fn the_absolute_end_comes_whatever_happens() {
    let mut bench = Bench::owner();
    bench.now_ms = 1_001_000;
    bench.last_access_ms = bench.now_ms;
    let _view = bench.job(Work::View);
    assert!(matches!(bench.step(), Step::Revoke(End::OutOfTime)));
}

#[test]
fn an_operation_goes_to_the_owner_and_waits_for_its_lease_when_it_is_gone() {
    let mut bench = Bench::new();
    let other = node("b");
    let waiting = bench.increment(1);
    let reply = bench.owned_by(&other, 3_000);
    bench.claim_answers(Ok(reply));
    let Step::Forward { node, job, .. } = bench.step() else { panic!() };
    bench.engine.on_forward(node, job, Forwarded::NotDelivered);
    // It may only have lost a connection, so it is asked again soon, then less often, and not after the end of its lease.
    let mut remaining_ms = 900;
    for pause_ms in [50, 100, 200, 400, 152] {
        let reply = bench.owned_by(&other, remaining_ms);
        bench.claim_answers(Ok(reply));
        let Step::Wait(until) = bench.step() else { panic!("its lease is still live") };
        assert_eq!(until, at(bench.now_ms + pause_ms));
        bench.now_ms += pause_ms;
        bench.last_access_ms = bench.now_ms;
        remaining_ms = remaining_ms.saturating_sub(pause_ms);
        if remaining_ms > 0 {
            let Step::Forward { node, job, .. } = bench.step() else { panic!("it may listen now") };
            bench.engine.on_forward(node, job, Forwarded::NotDelivered);
        }
    }
    bench.claimed(record(7, 5));
    bench.written();
    assert_eq!(number(waiting), 6);
}

#[test]
fn an_operation_whose_answer_was_lost_is_looked_up_after_the_takeover() {
    let trail = |id, since_version| RecentOps {
        since_version,
        entries: vec![(id, 8, Outcome::Number(6))],
        sealed: None,
    };
    for (applied, since_version, expected) in
        [(true, 6, Ok(6)), (false, 6, Ok(7)), (false, 20, Err(Refusal::OutcomeUnknown))]
    {
        let mut bench = Bench::new();
        let waiting = bench.increment(1);
        let reply = bench.owned_by(&node("b"), 3_000);
        bench.claim_answers(Ok(reply));
        let Step::Forward { node, job, .. } = bench.step() else { panic!() };
        let id = job.trace.unwrap().id;
        bench.engine.on_forward(node, job, Forwarded::NoAnswer);
        let listed = if applied { id } else { OpId(1) };
        bench.claimed(Record { recent: trail(listed, since_version), ..record(8, 6) });
        if let Step::Write { .. } = bench.step() {
            bench.write_answers(Ok(WriteReply::Written { version: 9, now_ms: 500 }));
            bench.step();
        }
        match expected {
            Ok(n) => assert_eq!(number(waiting), n),
            Err(expected) => assert_eq!(refusal(waiting), expected),
        }
    }
}

#[test]
fn a_peer_that_asks_twice_is_answered_twice_and_served_once() {
    let mut bench = Bench::owner();
    let trace = Trace { id: OpId(77), known_version: 7, uncertain: false };
    let first = bench.submit(increment(1, Some(trace.id)), Some(trace));
    let Step::Write { held, .. } = bench.step() else { panic!() };
    let again = Some(Trace { uncertain: true, ..trace });
    let second = bench.submit(increment(1, Some(trace.id)), again);
    bench.write_answers(Ok(WriteReply::Written { version: held.version + 1, now_ms: 500 }));
    bench.step();
    let third = bench.submit(increment(1, Some(trace.id)), again);
    bench.step();
    assert_eq!([first, second, third].map(number), [6, 6, 6]);
}

#[test]
fn a_peer_is_sent_away_when_another_node_owns_the_session() {
    let mut bench = Bench::new();
    let trace = Trace { id: OpId(77), known_version: 7, uncertain: false };
    let waiting = bench.submit(increment(1, Some(trace.id)), Some(trace));
    let reply = bench.owned_by(&node("b"), 3_000);
    bench.claim_answers(Ok(reply));
    assert!(matches!(bench.step(), Step::Rest));
    assert_eq!(refusal(waiting), Refusal::NotOwner);
}

#[test]
fn a_look_at_a_session_elsewhere_is_answered_from_the_claim() {
    let mut bench = Bench::new();
    let view = bench.job(Work::View);
    let reply = bench.owned_by(&node("b"), 3_000);
    bench.claim_answers(Ok(reply));
    assert!(matches!(bench.step(), Step::Rest));
    let Some(Ok(Reply::View(view))) = answered(view) else { panic!() };
    assert_eq!((view.record.version, view.owner.is_some()), (7, true));
}

#[test]
fn c3_a_session_is_given_away_only_when_it_is_here_beyond_doubt_and_nothing_is_under_way() {
    let elsewhere = Bench::new();
    assert!(!elsewhere.engine.may_part(&elsewhere.moment()), "it is not known whose it is");
    let mut bench = Bench::owner();
    assert!(bench.engine.may_part(&bench.moment()));
    for lease in [None, Some(stamp(2, 1)), Some(stamp(1, 2))] {
        let moment = Moment { lease, ..bench.moment() };
        assert!(!bench.engine.may_part(&moment), "the copy is not sure: {lease:?}");
    }
    let waiting = bench.increment(1);
    assert!(!bench.engine.may_part(&bench.moment()), "somebody waits");
    assert!(matches!(bench.step(), Step::Write { .. }));
    assert!(!bench.engine.may_part(&bench.moment()), "a write is under way");
    drop(waiting);
}

#[test]
fn a_look_that_came_after_the_claim_was_sent_is_not_answered_from_it() {
    let (mut bench, owner) = (Bench::new(), node("b"));
    let early = bench.job(Work::View);
    let Step::Claim { token, .. } = bench.step() else { panic!("a claim is due") };
    let sent = bench.sent();
    // Somebody else writes through the owner, is told, and then asks here: the claim shows the state before.
    bench.now_ms += 1;
    let late = bench.job(Work::View);
    let (reply, moment) = (bench.owned_by(&owner, 3_000), bench.moment());
    bench.engine.on_claim(token, Ok(reply), sent, moment);
    assert!(matches!(bench.step(), Step::Claim { .. }), "another look is taken");
    assert!(matches!(answered(early), Some(Ok(Reply::View(_)))));
    assert!(answered(late).is_none());
}

#[test]
fn while_the_lease_of_a_silent_owner_is_waited_out_changes_wait_and_looks_do_not() {
    let (mut bench, owner) = (Bench::new(), node("b"));
    let change = bench.increment(1);
    bench.claim_answers(Ok(bench.owned_by(&owner, 3_000)));
    let Step::Forward { node: to, job, .. } = bench.step() else { panic!("the owner is asked") };
    bench.engine.on_forward(to, job, Forwarded::NotDelivered);
    bench.claim_answers(Ok(bench.owned_by(&owner, 40)));
    assert!(matches!(bench.step(), Step::Wait(until) if until == at(bench.now_ms + 42)));
    assert!(matches!(bench.engine.role(), Role::Elsewhere { .. }), "readers go to the store");
    bench.now_ms += 10;
    let look = bench.job(Work::View);
    bench.claim_answers(Ok(bench.owned_by(&owner, 30)));
    assert!(matches!(bench.step(), Step::Wait(until) if until == at(bench.now_ms + 32)));
    assert!(matches!(answered(look), Some(Ok(Reply::View(_)))));
    bench.now_ms += 32;
    bench.claimed(record(7, 5));
    bench.written();
    assert_eq!(number(change), 6);
}

#[test]
fn c3_an_owner_that_gave_the_session_away_sends_back_what_the_new_one_had_sent_before() {
    let (mut bench, other) = (Bench::owner(), node("b"));
    bench.engine.leave_to(other.clone(), at(bench.now_ms + 1_000));
    let trace = Trace { id: OpId::random(), known_version: 7, uncertain: false };
    let early = bench.submit(increment(1, None), Some(trace));
    assert!(matches!(bench.step(), Step::Rest), "it is not claimed again for that");
    assert!(matches!(answered(early), Some(Err(Refusal::NotOwner))));
    // What is asked here goes there; when nobody has come for it by then, it is claimed.
    let _change = bench.increment(1);
    let Step::Forward { node: to, .. } = bench.step() else { panic!("the new owner is asked") };
    assert_eq!(to, other);
    bench.now_ms += 1_000;
    let _late = bench.increment(1);
    assert!(matches!(bench.step(), Step::Claim { .. }));
}

#[test]
fn an_owner_that_lives_and_did_not_answer_is_asked_again_under_the_same_id() {
    let (mut bench, owner) = (Bench::new(), node("b"));
    let _waiting = bench.increment(1);
    bench.claim_answers(Ok(bench.owned_by(&owner, 3_000)));
    let Step::Forward { node: to, job, limit } = bench.step() else { panic!("it is asked") };
    assert_eq!(limit, SHORTEST_FORWARD, "the message may have been lost");
    let first = job.trace.unwrap();
    bench.now_ms += 300;
    bench.engine.on_forward(to, job, Forwarded::NoAnswer);
    bench.claim_answers(Ok(bench.owned_by(&owner, 2_900)));
    let Step::Forward { node: to, job, limit } = bench.step() else { panic!("asked again") };
    assert_eq!(job.trace, Some(Trace { uncertain: true, ..first }));
    assert_eq!(limit, 2 * SHORTEST_FORWARD, "or it is slow");
    // With its lease nearly over nothing more is sent to it.
    bench.now_ms += 1_000;
    bench.engine.on_forward(to, job, Forwarded::NoAnswer);
    bench.claim_answers(Ok(bench.owned_by(&owner, 20)));
    assert!(matches!(bench.step(), Step::Wait(until) if until == at(bench.now_ms + 22)));
}

#[test]
fn an_operation_that_was_carried_out_nowhere_goes_by_the_latest_version_that_was_seen() {
    let (mut bench, owner) = (Bench::new(), node("b"));
    let _waiting = bench.increment(1);
    bench.claim_answers(Ok(bench.owned_by(&owner, 3_000)));
    let mut moment = bench.moment();
    moment.seen_version = 40;
    let Step::Forward { node: to, job, .. } = bench.engine.next(moment) else { panic!("asked") };
    assert_eq!(job.trace.unwrap().known_version, 40);
    bench.engine.on_forward(to, job, Forwarded::NotDelivered);
    bench.claim_answers(Ok(bench.owned_by(&owner, 3_000)));
    bench.now_ms += 50;
    let mut moment = bench.moment();
    moment.seen_version = 50;
    let Step::Forward { node: to, job, .. } = bench.engine.next(moment) else { panic!("asked") };
    assert_eq!(job.trace.unwrap().known_version, 50, "it was not delivered");
    bench.engine.on_forward(to, job, Forwarded::NoAnswer);
    bench.claim_answers(Ok(bench.owned_by(&owner, 3_000)));
    let mut moment = bench.moment();
    moment.seen_version = 60;
    let Step::Forward { job, .. } = bench.engine.next(moment) else { panic!("asked again") };
    assert_eq!(job.trace.unwrap().known_version, 50, "it may have made any version since");
}

#[test]
fn a_late_copy_of_an_operation_that_was_carried_out_is_answered_and_not_run_again() {
    let id = OpId(77);
    let recent =
        RecentOps { since_version: 0, entries: vec![(id, 7, Outcome::Number(5))], sealed: None };
    let mut bench = Bench::new();
    // A copy from before its sender had to ask again: it does not say that it may be in.
    let trace = Trace { id, known_version: 6, uncertain: false };
    let late = bench.submit(increment(1, Some(id)), Some(trace));
    bench.claimed(Record { recent, ..record(7, 5) });
    assert!(matches!(bench.step(), Step::Rest), "nothing is written");
    assert_eq!(number(late), 5);
}

#[test]
fn an_operation_that_was_sent_elsewhere_in_vain_is_listed_when_it_is_run_here() {
    let (mut bench, owner) = (Bench::new(), node("b"));
    let waiting = bench.increment(1);
    bench.claim_answers(Ok(bench.owned_by(&owner, 3_000)));
    let Step::Forward { node: to, job, .. } = bench.step() else { panic!("asked") };
    let id = job.trace.unwrap().id;
    bench.engine.on_forward(to, job, Forwarded::NoAnswer);
    bench.claimed(record(7, 5));
    let Step::Write { after, .. } = bench.step() else { panic!("it is not in the record") };
    assert_eq!(after.recent.look_up(id, 7), Traced::Applied(Outcome::Number(6)));
    bench.write_answers(Ok(WriteReply::Written { version: 8, now_ms: 500 }));
    bench.step();
    assert_eq!(number(waiting), 6);
}

#[test]
fn a_write_without_an_answer_is_settled_by_the_record_of_the_node_that_took_over() {
    for (version, is_last, expected) in [
        (8, true, Ok(6)),
        (7, false, Err(Refusal::Conflict)),
        (9, false, Err(Refusal::OutcomeUnknown)),
    ] {
        let mut bench = Bench::owner();
        let waiting = bench.increment(1);
        let Step::Write { op_id, .. } = bench.step() else { panic!("a write is due") };
        bench.write_answers(Err(away()));
        bench.lease = Some(stamp(2, 1)); // a gap: another node may have claimed
        bench.now_ms += 30;
        bench.last_access_ms = bench.now_ms;
        let ClaimReply::Owned { node, mut record, remaining_ms, now_ms } =
            bench.owned_by(&node("b"), 3_000)
        else {
            panic!("it is owned")
        };
        record.version = version;
        record.last_op = is_last.then_some(op_id);
        bench.claim_answers(Ok(ClaimReply::Owned { node, record, remaining_ms, now_ms }));
        bench.step();
        match expected {
            Ok(n) => assert_eq!(number(waiting), n),
            Err(expected) => assert_eq!(refusal(waiting), expected, "version {version}"),
        }
    }
}

#[test]
fn who_cannot_outlast_another_attempt_at_a_silent_store_is_told_at_once() {
    let mut bench = Bench::new();
    let waiting = bench.increment(1);
    let Step::Claim { token, .. } = bench.step() else { panic!("a claim is due") };
    let sent = bench.sent();
    bench.now_ms += 500;
    let (moment, late) = (bench.moment(), bench.increment(1));
    bench.engine.on_claim(token, Err(away()), sent, moment);
    bench.step();
    assert_eq!(refusal(waiting), Refusal::Unavailable);
    assert!(answered(late).is_none(), "this one has time left");
}

#[test]
fn while_the_grace_lasts_a_request_waits_and_is_not_logged_out() {
    let mut bench = Bench::new();
    let view = bench.job(Work::View);
    bench.claim_answers(Ok(ClaimReply::Grace { remaining_ms: 2_500 }));
    let Step::Wait(until) = bench.step() else { panic!() };
    assert!(until <= at(bench.now_ms + 50), "the grace may end early");
    assert!(answered(view).is_none());
}

#[test]
fn a_request_waits_no_longer_than_its_deadline() {
    let mut bench = Bench::new();
    let view = bench.job(Work::View);
    bench.claim_answers(Ok(ClaimReply::Grace { remaining_ms: 60_000 }));
    bench.now_ms += 6_000;
    bench.step();
    assert_eq!(refusal(view), Refusal::Busy);
}

#[test]
fn what_cannot_be_read_is_said_so_and_left_alone() {
    let mut bench = Bench::new();
    let view = bench.job(Work::View);
    bench.claim_answers(Err(StoreError::Unreadable("field `e`".into())));
    bench.step();
    assert_eq!(refusal(view), Refusal::Unreadable);
}

#[test]
fn an_end_without_an_answer_is_brought_about_although_nobody_waits_any_more() {
    let mut bench = Bench::owner();
    let logout = bench.job(Work::Revoke(Some(SECRET)));
    assert!(matches!(bench.step(), Step::Revoke(End::Asked)));
    bench.now_ms += 650;
    bench.last_access_ms = bench.now_ms;
    let moment = bench.moment();
    bench.engine.on_revoke(Err(away()), moment);
    bench.now_ms += 60;
    bench.claim_answers(Err(away()));
    bench.step();
    assert_eq!(refusal(logout), Refusal::Unavailable);
    assert!(!bench.engine.is_idle(), "it may still arrive at the store");
    // What comes next finds the session over, and not the copy that was here.
    let look = bench.job(Work::View);
    bench.now_ms += 30;
    bench.last_access_ms = bench.now_ms;
    bench.claimed(record(7, 5));
    assert!(matches!(bench.step(), Step::Revoke(End::Asked)));
    let moment = bench.moment();
    bench.engine.on_revoke(Ok(RevokeReply::Revoked { owner: None }), moment);
    bench.step();
    assert_eq!(refusal(look), Refusal::Ended);
    assert!(bench.engine.is_idle());
    assert!(matches!(bench.engine.role(), Role::Ended));
}

#[test]
fn an_end_without_an_answer_does_not_end_what_was_begun_anew_elsewhere() {
    let mut bench = Bench::owner();
    let _logout = bench.job(Work::Revoke(Some(SECRET)));
    assert!(matches!(bench.step(), Step::Revoke(End::Asked)));
    let moment = bench.moment();
    bench.engine.on_revoke(Err(away()), moment);
    let look = bench.job(Work::View);
    bench.now_ms += 900;
    bench.last_access_ms = bench.now_ms;
    bench.claimed(Record { secret: SecretHash([2; 32]), ..record(8, 5) });
    assert!(matches!(bench.step(), Step::Rest), "another login replaced the secret");
    assert!(matches!(answered(look), Some(Ok(Reply::View(_)))));
    assert!(bench.engine.is_idle());
}

#[test]
fn after_an_attempt_without_an_answer_a_refusal_leaves_no_copy_to_read() {
    let mut bench = Bench::owner();
    let waiting = bench.increment(1);
    bench.step();
    bench.write_answers(Err(away()));
    bench.now_ms += 30;
    bench.step();
    bench.write_answers(Err(StoreError::Refused("OOM".into())));
    assert!(!matches!(bench.engine.role(), Role::Owner(_)), "the first attempt may be in");
    bench.step();
    assert_eq!(refusal(waiting), Refusal::OutcomeUnknown);
}

#[test]
fn a_change_is_on_its_way_from_its_sending_until_its_answer() {
    let mut bench = Bench::owner();
    assert!(!bench.engine.is_changing());
    let _waiting = bench.increment(1);
    assert!(matches!(bench.step(), Step::Write { .. }));
    assert!(bench.engine.is_changing());
    bench.write_answers(Err(away()));
    assert!(bench.engine.is_changing(), "it may be in");
    bench.now_ms += 30;
    bench.written();
    assert!(!bench.engine.is_changing());
    let _logout = bench.job(Work::Revoke(Some(SECRET)));
    assert!(matches!(bench.step(), Step::Revoke(End::Asked)));
    assert!(bench.engine.is_changing(), "others may see the end before this node is told");
}
