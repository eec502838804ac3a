//! What every session store must pass before it may serve a cluster: run it against your own.
//!
//! The suite calls a store as many nodes would, and compares the answers with what [`SessionStore`](super::SessionStore) promises; long
//! random histories are compared with [`crate::spec`], step by step. It needs no node and no network of its own.
//! A [`Fixture`] says how to reach the store and how its time passes.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use understudy_runtime::clock::SystemClock;
//! use understudy_runtime::lease::LeaseStore;
//! use understudy_session::store::SharedStore;
//! use understudy_session::store::conformance::{self, Fixture};
//! use understudy_session::store::memory::MemoryStore;
//!
//! const LEASE: Duration = Duration::from_millis(50);
//! const SLACK: Duration = Duration::from_millis(20);
//!
//! #[derive(Debug)]
//! struct MyStore(MemoryStore);
//!
//! #[async_trait::async_trait]
//! impl Fixture for MyStore {
//!     fn store(&self) -> SharedStore {
//!         Arc::new(self.0.clone())
//!     }
//!     fn leases(&self) -> Arc<dyn LeaseStore> {
//!         Arc::new(self.0.clone())
//!     }
//!     fn lease(&self) -> Duration {
//!         LEASE
//!     }
//!     fn touch_slack(&self) -> Duration {
//!         SLACK
//!     }
//! }
//!
//! # async fn run_it() {
//! let store = MemoryStore::new(SystemClock::shared(), LEASE, SLACK);
//! conformance::run(&MyStore(store)).await; // panics, naming the case and what was answered
//! # }
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run_it());
//! ```

#![expect(clippy::wildcard_enum_match_arm, reason = "any other answer is wrong, also a new one")]

mod bench;
mod contents;
mod ends;
mod expiry;
mod history;
mod logins;
mod online;
mod ownership;
mod races;
mod recovery;
mod register;
mod writes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use understudy_runtime::ids::Bucket;
use understudy_runtime::lease::LeaseStore;

use super::SharedStore;
use crate::record::Locator;
use bench::Bench;

/// Seeds of the random histories of [`run`].
const SEEDS: [u64; 3] = [1, 2, 3];
/// Steps of each of them.
const STEPS: usize = 600;

/// A store to be examined. It may hold other sessions; every case uses locators and nodes of its own.
#[async_trait]
pub trait Fixture: Send + Sync + fmt::Debug {
    /// Gives the store.
    fn store(&self) -> SharedStore;

    /// Gives the leases that the store looks at when a session is claimed.
    fn leases(&self) -> Arc<dyn LeaseStore>;

    /// Says how long node leases last in this store, and so the grace after a change of identity.
    fn lease(&self) -> Duration;

    /// Says how much longer than its idle limit a session lives, because accesses are noted late.
    fn touch_slack(&self) -> Duration;

    /// Says in which bucket a session lies.
    fn bucket(&self, locator: Locator) -> Bucket {
        let _ = locator;
        Bucket(0)
    }

    /// Lets so much of the store's time pass: really, or by moving a clock that the store was given.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Says whether the store keeps how contents are sealed, as it must; a layer that seals them itself does not.
    fn keeps_seals(&self) -> bool {
        true
    }

    /// Gives the store another identity, as a restart or a failover does, and says what it still knows. `None`, and
    /// nothing happens, when that cannot be done; the cases about it are left out then.
    async fn change_identity(&self) -> Option<Remembered> {
        None
    }
}

/// What a store still knows after a change of its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// All of it.
    Everything,
    /// Nothing.
    Nothing,
}

type Case = for<'a> fn(&'a Bench<'a>) -> BoxFuture<'a, ()>;

macro_rules! cases {
    ($($room:ident :: { $($name:ident),+ $(,)? }),+ $(,)?) => {
        &[$($((stringify!($name), |bench| Box::pin($room::$name(bench)))),+),+]
    };
}

const CASES: &[(&str, Case)] = cases![
    ownership::{
        a_new_session_is_owned_at_epoch_one,
        a_locator_is_given_out_once,
        a_claim_raises_the_epoch_and_fences_the_owner_before,
        a_node_may_claim_its_own_session_again,
        both_token_and_epoch_must_fit,
        a_live_lease_refuses_other_nodes,
        a_lease_that_ran_out_lets_others_claim,
        a_node_that_started_anew_is_another_node,
        a_release_lets_others_claim_at_once,
        a_release_behind_an_old_fence_does_nothing,
        a_claim_leaves_out_a_record_that_is_known,
        nothing_can_be_done_with_a_session_that_is_missing,
    },
    writes::{
        a_write_changes_only_what_it_names,
        a_repeated_write_is_recognised,
        a_repeated_write_is_recognised_after_another_claim,
        a_write_upon_another_version_is_refused,
        a_write_is_an_access,
        every_field_can_be_changed_and_taken_away,
        marks_are_written_and_kept,
        unknown_fields_are_kept,
        sealed_contents_are_kept_beside_the_name_of_their_key,
        a_validation_tells_who_is_up_to_date,
    },
    contents::{
        no_attribute_and_a_thousand,
        an_attribute_of_64_kibibytes,
        names_may_be_any_text,
        values_are_kept_to_the_letter,
    },
    ends::{
        a_revoked_session_refuses_everything,
        a_session_is_revoked_under_a_live_lease,
        an_unused_session_ends,
        a_claim_and_a_touch_are_accesses,
        a_session_ends_at_its_absolute_deadline,
        a_touch_never_goes_back,
    },
    expiry::{
        what_is_over_is_handed_out_once_and_nothing_else,
        a_session_that_lives_on_is_handed_out_when_it_is_over,
        an_absolute_end_is_told_as_one,
        a_session_that_was_ended_on_purpose_is_told_as_that,
        what_a_session_held_is_kept_until_its_end_was_told,
        what_its_owner_ends_out_of_time_is_told,
        what_is_acknowledged_is_gone_and_all_else_comes_again,
        nothing_is_kept_when_nobody_is_to_be_told,
        sweeps_at_once_hand_out_each_to_one_of_them,
        in_the_grace_nothing_is_swept,
        what_was_put_back_is_told_when_it_is_over,
    },
    recovery::{
        a_copy_of_what_has_ended_does_not_replace_what_began_after_it,
        an_owner_puts_back_a_newer_copy,
        outside_the_grace_nothing_else_is_put_back,
        a_changed_server_lets_nobody_claim_for_a_while,
        in_the_grace_owners_put_back_what_is_missing_or_older,
        a_copy_may_be_the_first_that_a_changed_server_hears,
        what_was_ended_while_it_was_missing_is_not_put_back,
        an_end_may_be_the_first_that_a_changed_server_hears,
        the_grace_ends_when_all_have_settled,
    },
    register::{
        a_place_stands_once_its_login_is_confirmed,
        no_more_get_a_place_than_may,
        the_oldest_beyond_the_number_are_condemned,
        of_many_logins_at_once_as_many_stand_as_may,
        all_are_condemned_also_those_under_way,
        all_but_one_are_condemned,
        a_place_is_struck_off_only_as_it_was_seen,
        what_is_over_leaves_the_roll,
        a_look_shows_what_a_session_is,
        pages_show_each_session_once,
        sessions_with_a_user_are_counted_apart,
        a_session_is_found_by_the_beginning_of_its_id,
        who_may_still_show_an_ended_session_is_told,
        what_is_put_back_is_on_the_roll,
    },
    online::{
        who_used_a_session_lately_is_online_until_the_last_one_ends,
        pages_show_all_who_are_online,
    },
    races::{
        only_one_of_many_creates_wins,
        only_the_last_of_many_claims_can_write,
        concurrent_writes_make_each_version_once,
        a_write_that_is_sent_many_times_enters_once,
        writes_of_many_sessions_at_once_are_answered_each_for_itself,
        nothing_is_written_after_a_revocation,
    },
];

/// Runs all cases, and then random histories; prints the name of each before it begins.
///
/// # Panics
/// When the store answers otherwise than it must; the last name printed is that of the case.
#[expect(clippy::print_stdout, reason = "shown by the test harness when a case fails")]
pub async fn run(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture);
    for (name, case) in CASES {
        println!("conformance: {name}");
        case(&bench).await;
    }
    for seed in SEEDS {
        println!("conformance: random history, seed {seed}");
        random_history(fixture, seed, STEPS).await;
        println!("conformance: random logins, seed {seed}");
        random_logins(fixture, seed, STEPS / 2, Duration::ZERO).await;
    }
}

/// Does `steps` random steps of logins, logouts and tidying up, with crashes at every place, and looks after each whether
/// every session that somebody can use is on the roll of its user. `leap` is how long time passes now and then: with more
/// than [`LEFT_ALONE_MS`](super::register::LEFT_ALONE_MS), the rolls must be exact in the end.
///
/// # Panics
/// When a session is missed; the message tells the seed and the step.
pub async fn random_logins(fixture: &dyn Fixture, seed: u64, steps: usize, leap: Duration) {
    logins::compare(fixture, seed, steps, leap).await;
}

/// Does `steps` random steps at the store and at the specification, and compares the answers; the same `seed` does the
/// same steps.
///
/// # Panics
/// When an answer differs; the message tells the seed, the number of the step, and both answers.
pub async fn random_history(fixture: &dyn Fixture, seed: u64, steps: usize) {
    history::compare(&Bench::new(fixture), seed, steps).await;
}
