//! Sessions of a whole cluster: exact under parallel requests, the same on every node, over when they end.
//!
//! What must hold on every kind of Redis runs on every kind, as `sessions::<stage>::<test>`; the tests of one stage share
//! a cluster. The central ones run with sessions in PostgreSQL too. What concerns a node or its options alone has a cluster
//! of its own.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod sessions {
    mod affinity;
    mod cookie;
    mod identity;
    mod kin;
    mod logout;
    mod others;
    mod porting;
    mod privacy;
    mod readymade;
    mod realtime;
    mod recent;
    mod releases;
    mod residency;
    mod rotation;
    mod shared_files;
    mod stage;
    mod survival;
    mod timeouts;
    #[macro_use]
    mod topologies;
    mod updates;
    mod users;
    mod visitor;

    on_every_stage!(
        identity::d13_an_unknown_or_forged_cookie_is_never_adopted,
        identity::s5_the_old_cookie_is_dead_everywhere_once_the_login_is_answered,
        logout::d3_a_request_in_flight_never_undoes_a_logout,
        logout::s8_a_logout_counts_everywhere_once_it_is_answered,
        realtime::t11_a_page_misses_nothing_when_its_node_dies,
        rotation::d13_requests_under_way_survive_a_rotation,
        survival::s1_a_login_outlives_its_node,
        updates::appended_items_all_have_a_place_of_their_own,
        updates::d2_parallel_writes_of_different_keys_are_all_kept_in_few_scripts,
        updates::t3_a_counter_is_exact_without_stickiness,
        updates::updates_by_a_closure_from_three_nodes_are_exact,
    );

    in_the_database!(
        identity::s5_the_old_cookie_is_dead_everywhere_once_the_login_is_answered,
        logout::d3_a_request_in_flight_never_undoes_a_logout,
        logout::s8_a_logout_counts_everywhere_once_it_is_answered,
        updates::d2_parallel_writes_of_different_keys_are_all_kept_in_few_scripts,
        updates::t3_a_counter_is_exact_without_stickiness,
    );
}
