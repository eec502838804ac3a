use super::tests_support::*;
use super::*;

fn value(name: &str) -> LeaseValue {
    LeaseValue::new(node(name), 1)
}

fn held_by(name: &str, remaining: u64) -> Held {
    Held { holder: Some(value(name)), remaining: Some(Duration::from_millis(remaining)) }
}

/// One node, told what happens at which millisecond.
struct One {
    leadership: Leadership,
    sleeps_until: u64,
}

impl One {
    fn new(name: &str) -> Self {
        Self { leadership: Leadership::new(rules(name, 0), 7, at(0)), sleeps_until: 0 }
    }

    fn with_priority(name: &str, priority: i32) -> Self {
        Self { leadership: Leadership::new(rules(name, priority), 7, at(0)), sleeps_until: 0 }
    }

    fn step(&mut self, now: u64, event: Event) -> Vec<Action> {
        let mut actions = self.leadership.step(at(now), event);
        let Some(Action::SleepUntil(until)) = actions.pop() else { panic!("it sleeps in the end") };
        // Never too early, as a timer.
        self.sleeps_until = until.as_nanos().div_ceil(1_000_000);
        actions
    }

    fn phase(&self) -> LeaderPhase {
        self.leadership.phase()
    }

    fn bid(&mut self, now: u64, event: Event) -> LeaseValue {
        match self.step(now, event).as_slice() {
            [Action::Bid(value)] => value.clone(),
            other => panic!("a bid, not {other:?}"),
        }
    }

    /// Wins the lease with a bid sent at `sent` and answered 10 ms later, is inaugurated 10 ms after that.
    fn lead(&mut self, sent: u64, epoch: u64) -> LeaseValue {
        assert_eq!(self.step(sent, Event::Woke), [Action::Peek]);
        let own = self.bid(sent, Event::Peeked(None));
        let won =
            Event::BidAnswered { value: own.clone(), sent_at: at(sent), answer: Acquire::Won };
        assert_eq!(self.step(sent + 10, won), [Action::Inaugurate(own.clone())]);
        assert_eq!(self.phase(), LeaderPhase::Acquired);
        let inaugurated = Event::Inaugurated { value: own.clone(), epoch };
        assert_eq!(self.step(sent + 20, inaugurated), []);
        assert_eq!((self.phase(), self.leadership.epoch()), (LeaderPhase::Leading, Some(epoch)));
        own
    }

    /// A standby that saw `name` hold the lease at `now` for another `remaining` ms.
    fn watching(&mut self, now: u64, name: &str, remaining: u64) {
        assert_eq!(self.step(now, Event::Woke), [Action::Peek]);
        let actions = self.step(now, Event::Peeked(Some(held_by(name, remaining))));
        assert!(matches!(actions.as_slice(), [] | [Action::RequestHandOver(_)]), "{actions:?}");
    }

    fn renewed(&mut self, now: u64, own: &LeaseValue, sent: u64, answer: Renewal) -> Vec<Action> {
        self.step(now, Event::RenewAnswered { value: own.clone(), sent_at: at(sent), answer })
    }
}

fn release(value: &LeaseValue) -> Action {
    Action::Release { value: value.clone(), successor: None }
}

fn end_term(epoch: u64, reason: EndReason) -> Action {
    Action::EndTerm { epoch, reason }
}

#[test]
fn trust_counts_from_when_the_bid_was_sent_and_ends_a_margin_before_the_lease() {
    let mut one = One::new("a");
    one.lead(1_000, 4);
    assert_eq!(one.leadership.trusted_until(), Some(at(1_000 + TTL - MARGIN)));
    assert_eq!(one.sleeps_until, 1_000 + TTL / 3, "until the next renewal");
}

#[test]
fn an_answer_that_comes_after_the_trust_it_could_give_is_worth_nothing() {
    let mut one = One::new("a");
    one.step(0, Event::Woke);
    let own = one.bid(0, Event::Peeked(None));
    let won = Event::BidAnswered { value: own.clone(), sent_at: at(0), answer: Acquire::Won };
    assert_eq!(one.step(TTL - MARGIN, won), [release(&own)]);
    assert_eq!(one.phase(), LeaderPhase::Standby);
}

#[test]
fn a_leader_renews_and_its_trust_grows_with_each_answer() {
    let mut one = One::new("a");
    let own = one.lead(0, 1);
    assert_eq!(one.step(2_000, Event::Woke), [Action::Renew(own.clone())]);
    assert_eq!(one.step(2_500, Event::Woke), [], "one at a time");
    assert_eq!(one.renewed(2_900, &own, 2_000, Renewal::Renewed), []);
    assert_eq!(one.leadership.trusted_until(), Some(at(2_000 + TTL - MARGIN)));
    assert_eq!(one.sleeps_until, 4_000);
    assert_eq!(one.step(4_000, Event::Woke), [Action::Renew(own.clone())]);
    assert_eq!(one.step(4_100, Event::Failed), []);
    assert_eq!(one.sleeps_until, 4_200, "tried again soon");
    assert_eq!(one.step(4_200, Event::Woke), [Action::Renew(own.clone())]);
    one.renewed(4_210, &own, 4_200, Renewal::Reasserted);
    assert_eq!(one.leadership.trusted_until(), Some(at(4_200 + TTL - MARGIN)));
}

#[test]
fn a_leader_without_an_answer_steps_down_by_itself_at_its_deadline() {
    let mut one = One::new("a");
    let own = one.lead(0, 1);
    one.step(2_000, Event::Woke);
    one.step(3_000, Event::Failed);
    let deadline = TTL - MARGIN;
    one.step(deadline - 1, Event::Woke);
    assert_eq!(one.sleeps_until, deadline);
    let ended = [
        Action::StepDown(EndReason::SelfFenced),
        release(&own),
        end_term(1, EndReason::SelfFenced),
    ];
    assert_eq!(one.step(deadline, Event::Woke), ended);
    assert_eq!((one.phase(), one.leadership.epoch()), (LeaderPhase::Fenced, None));
    assert_eq!(one.renewed(deadline + 1, &own, 3_100, Renewal::Renewed), [], "too late");
    assert_eq!(one.phase(), LeaderPhase::Fenced);
    one.step(deadline + 5, Event::Released { value: own, released: false });
    assert_eq!(one.phase(), LeaderPhase::Standby);
}

#[test]
fn a_renewal_that_is_answered_after_the_deadline_does_not_bring_the_term_back() {
    let mut one = One::new("a");
    let own = one.lead(0, 1);
    one.step(2_000, Event::Woke);
    let late = one.renewed(TTL, &own, 2_000, Renewal::Reasserted);
    assert_eq!(late[..2], [Action::StepDown(EndReason::SelfFenced), release(&own)]);
    assert_eq!(late.last(), Some(&release(&own)), "it may have put the lease back after all");
    assert_eq!(one.leadership.trusted_until(), None);
}

#[test]
fn a_lease_that_is_another_nodes_is_lost_at_once_and_nothing_is_released() {
    let mut one = One::new("a");
    let own = one.lead(0, 1);
    one.step(2_000, Event::Woke);
    let lost = Renewal::Lost { holder: Some(value("b")) };
    let ended = [Action::StepDown(EndReason::LostLease), end_term(1, EndReason::LostLease)];
    assert_eq!(one.renewed(2_010, &own, 2_000, lost)[..2], ended);
    assert_eq!(one.leadership.holder(at(2_010)).unwrap().0, node("b"));
}

#[test]
fn a_standby_looks_again_after_a_third_and_bids_when_the_lease_ran_out() {
    let mut one = One::new("a");
    one.watching(0, "b", 5_000);
    assert_eq!(one.sleeps_until, 2_000);
    one.watching(2_000, "b", 1_000);
    assert!((3_000..=3_250).contains(&one.sleeps_until), "{}", one.sleeps_until);
    assert_eq!(one.leadership.holder(at(2_999)).unwrap(), (node("b"), at(3_000)));
    assert_eq!(one.leadership.holder(at(3_000)), None);
    let now = one.sleeps_until;
    let own = one.bid(now, Event::Woke);
    assert_eq!(own.node(), &node("a"));
    // Another was faster.
    let answer = Acquire::Held(held_by("c", TTL));
    assert_eq!(
        one.step(now + 5, Event::BidAnswered { value: own, sent_at: at(now), answer }),
        [Action::RequestHandOver(value("c"))]
    );
    assert_eq!(one.leadership.holder(at(now + 5)).unwrap().0, node("c"));
}

#[test]
fn a_lease_that_vanished_early_is_not_taken_for_one_time_to_live() {
    let mut one = One::new("a");
    one.watching(0, "b", 5_000);
    assert_eq!(one.step(2_000, Event::Woke), [Action::Peek]);
    one.step(2_000, Event::Peeked(None));
    assert_eq!(one.leadership.holder(at(2_000)), None);
    for now in [4_000, 6_000] {
        // Also past the end that was seen: the leader may have renewed after that.
        assert_eq!(one.sleeps_until, now);
        assert_eq!(one.step(now, Event::Woke), [Action::Peek]);
        one.step(now, Event::Peeked(None));
    }
    assert_eq!(one.sleeps_until, 2_000 + TTL);
    one.bid(2_000 + TTL, Event::Woke);
}

#[test]
fn a_lease_that_was_put_back_is_the_leaders_again() {
    let mut one = One::new("a");
    one.watching(0, "b", 5_000);
    one.step(2_000, Event::Woke);
    one.step(2_000, Event::Peeked(None));
    one.watching(4_000, "b", 5_500);
    one.watching(6_000, "b", 3_500);
    one.watching(8_000, "b", 1_500);
    assert!((9_500..=9_750).contains(&one.sleeps_until));
    let now = one.sleeps_until;
    one.bid(now, Event::Woke);
}

#[test]
fn after_a_lost_connection_an_expected_end_proves_nothing() {
    let mut one = One::new("a");
    one.watching(0, "b", 5_000);
    one.watching(2_000, "b", 1_000);
    // At this moment the store restarts empty; the leader may have renewed a moment before.
    assert_eq!(one.step(2_500, Event::Reconnected), [Action::Peek]);
    one.step(2_500, Event::Peeked(None));
    let mut now = one.sleeps_until;
    while now < 2_500 + TTL {
        assert_eq!(one.step(now, Event::Woke), [Action::Peek]);
        one.step(now, Event::Peeked(None));
        now = one.sleeps_until;
    }
    one.bid(now, Event::Woke);
}

#[test]
fn a_store_that_was_away_for_longer_than_any_lease_is_free_when_it_is_back() {
    let mut one = One::new("a");
    one.watching(0, "b", 5_000);
    let mut now = 2_000;
    while now < 2_000 + TTL {
        assert_eq!(one.step(now, Event::Woke), [Action::Peek], "{now}");
        one.step(now, Event::Failed);
        assert!(one.sleeps_until <= now + 100 && one.sleeps_until > now);
        now = one.sleeps_until;
    }
    let own = one.bid(now, Event::Woke);
    one.step(now, Event::Failed);
    assert_eq!(one.bid(now + 20_000, Event::Reconnected), own);
}

#[test]
fn a_release_wakes_a_standby_within_50_ms_and_the_one_it_is_for_first() {
    for (successor, window) in
        [(None, 0..=50), (Some(node("a")), 0..=50), (Some(node("c")), 300..=350)]
    {
        let mut one = One::new("a");
        one.watching(0, "b", 5_000);
        one.step(1_000, Event::ReleaseHeard { value: value("b"), successor });
        assert!(window.contains(&(one.sleeps_until - 1_000)), "{}", one.sleeps_until);
        assert_eq!(one.leadership.holder(at(1_000)), None);
        let now = one.sleeps_until + 1;
        one.bid(now, Event::Woke);
    }
}

#[test]
fn a_release_that_is_no_news_any_more_frees_the_lease_after_a_time_to_live() {
    let mut one = One::new("a");
    one.watching(0, "b", 5_000);
    one.step(500, Event::StepDown(Some(Duration::from_millis(1_500))));
    one.step(1_000, Event::ReleaseHeard { value: value("b"), successor: None });
    assert!(never_bids_before(&mut one, 2_000, 1_000 + TTL));
}

#[test]
fn an_answer_from_before_the_release_does_not_undo_the_message() {
    let mut one = One::new("a");
    one.watching(0, "b", 5_000);
    assert_eq!(one.step(2_000, Event::Woke), [Action::Peek]);
    one.step(2_001, Event::ReleaseHeard { value: value("b"), successor: None });
    one.step(2_002, Event::Peeked(Some(held_by("b", 5_000))));
    assert!(one.sleeps_until <= 2_060, "{}", one.sleeps_until);
    let now = one.sleeps_until + 1;
    one.bid(now, Event::Woke);
}

#[test]
fn a_late_message_of_an_old_term_means_nothing() {
    let mut one = One::new("a");
    one.watching(0, "b", 5_000);
    one.watching(2_000, "c", 5_000);
    one.step(2_100, Event::ReleaseHeard { value: value("b"), successor: None });
    assert_eq!(one.leadership.holder(at(2_100)).unwrap().0, node("c"));
    assert_eq!(one.step(4_000, Event::Woke), [Action::Peek]);
}

#[test]
fn a_bid_that_nobody_in_particular_outbid_is_made_again_soon() {
    let mut one = One::new("a");
    one.step(0, Event::Woke);
    let own = one.bid(0, Event::Peeked(None));
    let answer = Acquire::Held(Held::default());
    one.step(10, Event::BidAnswered { value: own, sent_at: at(0), answer });
    let now = one.sleeps_until;
    assert!((110..=361).contains(&now), "{now}");
    one.bid(now, Event::Woke);
}

#[test]
fn a_bid_whose_answer_was_lost_is_made_again_under_its_value() {
    let mut one = One::new("a");
    one.step(0, Event::Woke);
    let own = one.bid(0, Event::Peeked(None));
    one.step(1_000, Event::Failed);
    let now = one.sleeps_until;
    assert_eq!(one.bid(now, Event::Woke), own);
    let won = Event::BidAnswered { value: own, sent_at: at(now), answer: Acquire::Won };
    one.step(now + 1, won);
    assert_eq!(one.leadership.trusted_until(), Some(at(now + TTL - MARGIN)));
}

#[test]
fn what_an_own_lost_step_left_behind_is_cleared_away() {
    let mut one = One::new("a");
    one.step(0, Event::Woke);
    // A release of this process that never arrived.
    let old = LeaseValue::new(node("a"), 99);
    let held = Held { holder: Some(old.clone()), remaining: Some(Duration::from_millis(4_000)) };
    assert_eq!(one.step(1, Event::Peeked(Some(held))), [release(&old)]);
    one.step(5, Event::Released { value: old, released: true });
    let now = one.sleeps_until + 1;
    assert!(now <= 60);
    one.bid(now, Event::Woke);
}

#[test]
fn a_stale_epoch_ends_the_term_and_keeps_the_node_back() {
    let mut one = One::new("a");
    let own = one.lead(0, 5);
    assert_eq!(one.step(100, Event::StaleEpoch(4)), [], "a claim of an earlier term");
    let ended = [
        Action::StepDown(EndReason::StaleEpoch),
        release(&own),
        end_term(5, EndReason::StaleEpoch),
    ];
    assert_eq!(one.step(200, Event::StaleEpoch(5)), ended);
    assert_eq!(one.phase(), LeaderPhase::Fenced);
    one.step(210, Event::Released { value: own, released: true });
    let hold = ms(one.leadership.hold_until().unwrap());
    assert!((200 + TTL..=200 + TTL + TTL / 3).contains(&hold), "{hold}");
    assert!(never_bids_before(&mut one, 211, hold));
}

/// Lets it look at a lease that nobody has; whether its first bid comes at `until` or up to 1 s later.
fn never_bids_before(one: &mut One, from: u64, until: u64) -> bool {
    let mut now = from;
    loop {
        let actions = one.step(now, Event::Woke);
        let bids = actions.iter().any(|action| matches!(action, Action::Bid(_)));
        if bids {
            return (until..until + 1_000).contains(&now);
        }
        if actions == [Action::Peek] {
            one.step(now, Event::Peeked(None));
        }
        if now > until + 10_000 {
            return false;
        }
        now = one.sleeps_until.max(now + 1);
    }
}

#[test]
fn a_node_that_may_not_lead_never_bids_and_gives_up_what_it_has() {
    type Set = fn(bool) -> Event;
    let marks: [Set; 2] = [|on| Event::Eligible(!on), Event::Maintenance];
    for mark in marks {
        let mut one = One::new("a");
        let own = one.lead(0, 1);
        let ended = one.step(100, mark(true));
        assert_eq!(ended[..2], [Action::StepDown(EndReason::SteppedDown), release(&own)]);
        one.step(110, Event::Released { value: own, released: true });
        let mut now = one.sleeps_until;
        while now < 30_000 {
            assert_eq!(one.step(now, Event::Woke), [Action::Peek]);
            one.step(now, Event::Peeked(None));
            now = one.sleeps_until;
        }
        one.bid(now, mark(false));
    }
}

#[test]
fn a_step_down_holds_for_as_long_as_it_was_said() {
    for (hold, end) in [(None, 1_000 + TTL), (Some(Duration::from_secs(60)), 61_000)] {
        let mut one = One::new("a");
        let own = one.lead(0, 1);
        let ended = [
            Action::StepDown(EndReason::SteppedDown),
            release(&own),
            end_term(1, EndReason::SteppedDown),
        ];
        assert_eq!(one.step(1_000, Event::StepDown(hold)), ended);
        assert_eq!(one.phase(), LeaderPhase::Resigning);
        one.step(1_010, Event::Released { value: own, released: true });
        assert_eq!(one.phase(), LeaderPhase::Standby);
        assert!(never_bids_before(&mut one, 1_011, end));
    }
}

#[test]
fn a_bid_that_wins_after_the_node_was_held_back_is_given_up() {
    let mut one = One::new("a");
    one.step(0, Event::Woke);
    let own = one.bid(0, Event::Peeked(None));
    assert_eq!(one.step(5, Event::StepDown(None)), []);
    let won = Event::BidAnswered { value: own.clone(), sent_at: at(0), answer: Acquire::Won };
    assert_eq!(one.step(10, won), [release(&own)]);
    assert_eq!(one.leadership.trusted_until(), None);
}

#[test]
fn the_database_has_one_time_to_live_to_count_a_term() {
    let mut one = One::new("a");
    one.step(0, Event::Woke);
    let own = one.bid(0, Event::Peeked(None));
    one.step(0, Event::BidAnswered { value: own.clone(), sent_at: at(0), answer: Acquire::Won });
    one.step(10, Event::InaugurationFailed { value: own.clone() });
    assert_eq!(one.sleeps_until, 310);
    assert_eq!(one.step(310, Event::Woke), [Action::Inaugurate(own.clone())]);
    assert_eq!(one.step(2_000, Event::Woke), [Action::Renew(own.clone())], "meanwhile it renews");
    one.renewed(2_010, &own, 2_000, Renewal::Renewed);
    one.step(4_000, Event::Woke);
    one.renewed(4_010, &own, 4_000, Renewal::Renewed);
    assert_eq!(one.sleeps_until, TTL);
    let ended = one.step(TTL, Event::Woke);
    let tail = [Action::StepDown(EndReason::DatabaseAway), release(&own)];
    assert_eq!(ended[ended.len() - 2..], tail);
    let late = Event::Inaugurated { value: own, epoch: 9 };
    assert_eq!(one.step(TTL + 5, late), [end_term(9, EndReason::DatabaseAway)]);
    assert!(ms(one.leadership.hold_until().unwrap()) >= 2 * TTL);
}

#[test]
fn resigning_is_for_good() {
    let mut one = One::new("a");
    let own = one.lead(0, 1);
    let ended =
        [Action::StepDown(EndReason::Resigned), release(&own), end_term(1, EndReason::Resigned)];
    assert_eq!(one.step(100, Event::Resign), ended);
    assert_eq!(one.step(101, Event::Resign), [], "said twice");
    one.step(110, Event::Released { value: own, released: true });
    assert_eq!(one.phase(), LeaderPhase::Stopped);
    for event in [Event::Woke, Event::Reconnected, Event::Eligible(true), Event::Failed] {
        assert_eq!(one.step(60_000, event), []);
    }
    let mut standby = One::new("b");
    standby.step(0, Event::Woke);
    assert_eq!(standby.step(1, Event::Resign), []);
    assert_eq!(standby.phase(), LeaderPhase::Stopped);
    let mut bidder = One::new("c");
    bidder.step(0, Event::Woke);
    let own = bidder.bid(0, Event::Peeked(None));
    assert_eq!(bidder.step(1, Event::Resign), [release(&own)], "it may win");
}

#[test]
fn a_node_that_begins_in_maintenance_does_not_bid() {
    let rules = rules("a", 0);
    let mut state = Leadership::new(rules, 7, at(0)).marked(true, false);
    let actions = state.step(at(0), Event::Woke);
    assert!(!actions.iter().any(|action| matches!(action, Action::Bid(_))), "{actions:?}");
}

#[test]
fn a_holder_gives_way_only_to_a_higher_priority_and_not_too_often() {
    let ask = |one: &mut One, now, priority| {
        let actions = one.step(now, Event::HandOverRequested { from: node("b"), priority });
        let Some(Action::AnswerHandOver(answer)) =
            actions.iter().find(|action| matches!(action, Action::AnswerHandOver(_)))
        else {
            panic!("an answer, not {actions:?}")
        };
        (*answer, actions.len())
    };
    let not_now = |retry_after_ms| HandOverAnswer::NotNow { retry_after_ms };
    let mut one = One::with_priority("a", 5);
    assert_eq!(ask(&mut one, 0, 9).0, not_now(10_000), "it does not lead");
    let mut one = One::with_priority("a", 5);
    let own = one.lead(0, 1);
    assert_eq!(ask(&mut one, 1_000, 5).0, HandOverAnswer::Never);
    assert_eq!(ask(&mut one, 1_010, 6).0, not_now(9_000), "its term is young");
    for now in [2_000, 4_000, 6_000, 8_000, 10_000] {
        one.step(now, Event::Woke);
        one.renewed(now + 1, &own, now, Renewal::Renewed);
    }
    one.step(10_005, Event::Frozen(true));
    assert_eq!(ask(&mut one, 10_020, 6).0, not_now(10_000), "frozen, for who knows how long");
    one.step(10_025, Event::Frozen(false));
    let actions = one.step(10_030, Event::HandOverRequested { from: node("b"), priority: 6 });
    let for_b = Action::Release { value: own.clone(), successor: Some(node("b")) };
    let agreed = [
        Action::AnswerHandOver(HandOverAnswer::Agreed),
        Action::StepDown(EndReason::HandedOver),
        for_b,
        end_term(1, EndReason::HandedOver),
    ];
    assert_eq!(actions, agreed);
    one.step(10_040, Event::Released { value: own, released: true });
    // The other did not take it: this node leads again, and keeps it for a minute.
    let now = one.sleeps_until.max(10_030 + TTL + 100);
    let own = one.bid(now, Event::Woke);
    one.step(
        now,
        Event::BidAnswered { value: own.clone(), sent_at: at(now), answer: Acquire::Won },
    );
    one.step(now, Event::Inaugurated { value: own, epoch: 2 });
    assert_eq!(ask(&mut one, now + 1, 6).0, not_now(10_030 + 60_000 - now - 1));
}

#[test]
fn a_standby_asks_once_and_again_only_when_it_was_told_so() {
    let asked = |one: &mut One, now| {
        let actions = one.step(now, Event::Woke);
        assert_eq!(actions, [Action::Peek]);
        let seen = one.step(now, Event::Peeked(Some(held_by("b", 200_000))));
        seen == [Action::RequestHandOver(value("b"))]
    };
    let answered = |answer| Event::HandOverAnswered { holder: value("b"), answer };
    let mut one = One::with_priority("a", 9);
    assert!(asked(&mut one, 0));
    one.step(1, answered(Some(HandOverAnswer::NotNow { retry_after_ms: 3_000 })));
    assert!(!asked(&mut one, 2_000));
    assert!(asked(&mut one, 4_000));
    one.step(4_001, answered(Some(HandOverAnswer::Never)));
    assert!(!asked(&mut one, 100_000));
    let mut frozen = One::with_priority("a", 9);
    frozen.step(0, Event::Frozen(true));
    frozen.step(1, Event::Peeked(Some(held_by("b", 200_000))));
    assert!(!asked(&mut frozen, 2_001));
    let mut silent = One::with_priority("a", 9);
    assert!(asked(&mut silent, 0));
    silent.step(1, answered(None));
    assert!(!asked(&mut silent, 9_000) && asked(&mut silent, 11_000));
}

#[test]
fn time_without_a_leader_is_counted_by_leader_and_standby() {
    let seconds =
        |one: &One, from: u64, to: u64| one.leadership.leaderless(at(from), at(to)).as_millis();
    let mut standby = One::new("a");
    assert_eq!(seconds(&standby, 0, 500), 500, "it has not looked");
    standby.watching(500, "b", 1_000);
    assert_eq!(seconds(&standby, 500, 1_400), 0);
    assert_eq!(seconds(&standby, 1_400, 1_700), 200, "the lease ended in between");
    let mut leader = One::new("a");
    leader.lead(0, 1);
    assert_eq!(seconds(&leader, 20, 1_000), 0);
    assert_eq!(seconds(&leader, 5_000, 6_000), 600, "trust ended at 5400");
}
