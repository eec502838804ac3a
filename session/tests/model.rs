//! Looks for a way to break the session protocol: every order of steps of two nodes, a store that may change its
//! identity and forget, and messages that take any time or arrive after nobody waits for them any more.
//!
//! What is checked is what runs: the store is [`understudy_session::spec::Spec`], a node decides with the functions
//! of [`understudy_session::ownership`] and of the lease's trust. With all rules nothing may be found; with any one
//! rule left out something must be, or the rule would not be needed (or this model would not see). The shortest way
//! to it is printed, see it with `cargo test -p understudy-session --test model -- --nocapture`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "all of it is test code")]
#![expect(clippy::wildcard_enum_match_arm, reason = "most answers fit few questions")]

#[path = "model/explore.rs"]
mod explore;
#[path = "model/hear.rs"]
mod hear;
#[path = "model/lease.rs"]
mod lease;
#[path = "model/node.rs"]
mod node;
#[path = "model/rules.rs"]
mod rules;
#[path = "model/server.rs"]
mod server;
#[path = "model/world.rs"]
mod world;

use explore::{Report, nearest, walks};
use rules::{Change, Rule, Setup, Start};
use world::{KEPT, OPENED_EARLY, TAKEN_OVER};

/// States that a run looks at when not all can be looked at; a second or two without optimisation.
const MANY: usize = 150_000;

/// All that can go wrong at once; far too much to look at everything.
const STORMY: Setup =
    Setup { crashes: 1, timeouts: 1, writes: 2, claims: 3, release: true, ..Setup::CALM };

#[test]
fn the_full_protocol_has_no_stale_read_and_no_lost_write() {
    let report = sound(nearest(&Setup { release: true, ..Setup::CALM }, 1_000_000));
    assert!(report.complete, "every state was seen");
    assert_ne!(report.sights & TAKEN_OVER, 0);
}

#[test]
fn a_node_may_crash() {
    let setup = Setup { crashes: 1, ..Setup::CALM };
    let report = sound(nearest(&setup, 1_000_000));
    assert!(report.complete, "every state was seen");
    assert_ne!(report.sights & TAKEN_OVER, 0);
}

#[test]
fn a_request_may_arrive_after_it_was_given_up() {
    sound(nearest(&Setup { timeouts: 1, ..Setup::CALM }, MANY));
    sound(walks(&STORMY, 5_000, 100, 1));
}

#[test]
fn a_replica_may_take_over() {
    let setup = Setup { change: Change::ToReplica, ..STORMY };
    sound(nearest(&Setup { change: Change::ToReplica, ..Setup::CALM }, MANY));
    let report = sound(walks(&setup, 8_000, 100, 2));
    assert_eq!(report.sights, TAKEN_OVER | KEPT | OPENED_EARLY);
}

#[test]
fn a_server_may_start_again_empty_and_owners_put_their_sessions_back() {
    let setup = Setup { change: Change::ToEmpty, ..STORMY };
    sound(nearest(&Setup { change: Change::ToEmpty, ..Setup::CALM }, MANY));
    let report = sound(walks(&setup, 8_000, 100, 3));
    assert_eq!(report.sights, TAKEN_OVER | KEPT | OPENED_EARLY);
}

#[test]
fn a_changed_server_that_lost_a_write_or_a_claim_gets_it_back() {
    for start in [Start::WriteLost, Start::ClaimLost] {
        let report = sound(nearest(&Setup { start, writes: 0, ..Setup::CALM }, MANY));
        assert_ne!(report.sights & KEPT, 0, "{start:?}");
        sound(walks(&Setup { start, ..STORMY }, 2_000, 80, 4));
    }
}

#[test]
fn a_server_may_change_while_nodes_still_settle_after_the_last_change() {
    let setup = Setup { start: Start::StillSettling, ..Setup::CALM };
    let report = sound(nearest(&setup, MANY));
    assert_ne!(report.sights & OPENED_EARLY, 0);
    sound(walks(&Setup { start: Start::StillSettling, ..STORMY }, 2_000, 80, 5));
}

#[test]
fn a_node_may_come_back_to_a_history_without_its_writes() {
    let setup = Setup { start: Start::Rewritten, claims: 2, ..Setup::CALM };
    let report = sound(nearest(&setup, 1_000_000));
    assert!(report.complete, "every state was seen");
}

#[test]
fn a_write_that_the_replica_has_is_never_lost() {
    let setup = Setup { change: Change::ToReplica, wait_for_replica: true, ..Setup::CALM };
    sound(nearest(&setup, MANY));
    sound(walks(
        &Setup { wait_for_replica: true, change: Change::ToReplica, ..STORMY },
        4_000,
        100,
        6,
    ));
}

#[test]
fn an_owner_that_may_only_claim_may_put_its_copy_down_for_others() {
    for change in [Change::ToReplica, Change::ToEmpty] {
        sound(walks(&Setup { change, deposit: true, ..STORMY }, 4_000, 100, 7));
    }
}

#[test]
fn a_claim_after_a_gap_is_as_good_as_a_validation() {
    let setup = Setup { claim_after_gap: true, claims: 3, ..Setup::CALM };
    sound(nearest(&setup, MANY));
    for change in [Change::ToReplica, Change::ToEmpty] {
        sound(walks(&Setup { change, claim_after_gap: true, ..STORMY }, 4_000, 100, 8));
    }
}

#[test]
fn without_the_fence_an_acknowledged_write_is_lost() {
    broken("LOST", Setup::CALM.without(Rule::Fence));
}

#[test]
fn without_the_nonce_an_owner_takes_the_claim_of_another_for_its_own() {
    broken("STALE", at(Start::ClaimLost).without(Rule::Nonce));
}

#[test]
fn without_respect_for_leases_two_nodes_own_a_session() {
    broken("TWO OWNERS", Setup::CALM.without(Rule::LeaseRespected));
}

#[test]
fn without_counting_a_lease_from_its_sending_a_slow_answer_outlives_it() {
    broken("STALE", Setup::CALM.without(Rule::LeaseFromSend));
}

#[test]
fn without_the_gap_rule_an_owner_that_was_paused_answers_from_an_old_copy() {
    broken("STALE", Setup::CALM.without(Rule::Gap));
}

#[test]
fn without_naming_the_server_a_validation_after_a_gap_is_taken_by_one_that_forgot_the_claim() {
    let setup = Setup { change: Change::ToReplica, writes: 0, ..Setup::CALM };
    broken("TWO OWNERS", setup.without(Rule::GapNamesServer));
}

#[test]
fn without_validation_after_a_server_change_a_lost_claim_is_never_noticed() {
    broken("STALE", at(Start::ClaimLost).without(Rule::ServerChange));
}

#[test]
fn without_the_grace_a_session_is_claimed_from_a_living_owner() {
    broken("STALE", at(Start::ClaimLost).without(Rule::Grace));
}

#[test]
fn without_stopping_the_old_server_first_it_hands_out_leases_beside_the_new_one() {
    let setup = Setup { change: Change::ToReplica, ..Setup::CALM };
    broken("STALE", setup.without(Rule::OnePrimary));
}

#[test]
fn without_restore_a_write_is_lost_although_its_owner_lives() {
    broken("LOST", at(Start::WriteLost).without(Rule::Restore));
}

#[test]
fn without_restore_of_lost_claims_a_write_is_lost_although_its_owner_lives() {
    broken("LOST", at(Start::ClaimLost).without(Rule::RestoreLostClaim));
}

#[test]
fn without_restoring_before_settling_the_grace_ends_too_early_for_the_owner() {
    broken("LOST", at(Start::ClaimLost).without(Rule::RestoreBeforeSettle));
}

#[test]
fn without_awaiting_all_known_nodes_the_grace_ends_while_one_still_trusts_the_old_server() {
    broken("STALE", at(Start::ClaimLost).without(Rule::SettleAwaitsAll));
}

#[test]
fn without_naming_the_server_a_late_settlement_ends_the_grace_of_the_next() {
    broken("STALE", at(Start::StillSettling).without(Rule::SettleNamesServer));
}

#[test]
fn without_proof_that_it_is_missing_a_repeated_write_is_made_twice() {
    broken("TWICE", Setup { claims: 2, ..Setup::CALM }.without(Rule::RepeatNeedsProof));
}

#[test]
fn without_loading_after_a_server_change_an_equal_version_hides_another_content() {
    broken("STALE", at(Start::Rewritten).without(Rule::LoadAfterServerChange));
}

#[test]
fn without_waiting_for_changes_under_way_an_owner_goes_back_behind_what_others_were_shown() {
    broken("BEHIND", Setup::CALM.without(Rule::ReadsAwaitChanges));
}

fn at(start: Start) -> Setup {
    Setup { start, ..Setup::CALM }
}

/// Nothing may be found.
fn sound(report: Report) -> Report {
    if let Some(found) = report.found {
        panic!("{found}");
    }
    let all = if report.complete { "all" } else { "not all" };
    println!("nothing wrong in {} states or steps, {all} there are", report.states);
    report
}

/// Something must be found, of the kind whose name begins so.
fn broken(only: &'static str, setup: Setup) {
    let report = nearest(&Setup { only, ..setup }, 400_000);
    let found =
        report.found.expect("a counterexample: the rule is not needed, or the model is blind");
    println!("in {} states: {found}", report.states);
}
