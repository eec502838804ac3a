//! Terms of leaders.

use super::bench::{Bench, node};
use super::on_both;
use crate::leader::Inauguration as _;

on_both!(
    epochs_grow_and_one_lease_gives_one_epoch,
    nodes_that_are_inaugurated_at_once_get_epochs_of_their_own,
    a_term_ends_when_it_is_said_or_when_the_next_begins,
    a_term_whose_end_was_noted_late_ends_before_the_next_begins,
    a_database_from_a_backup_goes_on_from_the_greatest_epoch_it_knows,
    it_is_known_when_nobody_led,
);

async fn epochs_grow_and_one_lease_gives_one_epoch(bench: Bench) {
    let begin =
        async |name: &str, lease: &str| bench.store.inaugurate(&node(name), lease).await.unwrap();
    assert_eq!(begin("a", "1").await, 1);
    assert_eq!(begin("a", "1").await, 1);
    assert_eq!(begin("b", "1").await, 2);
    assert_eq!(begin("b", "2").await, 3);
    assert_eq!(begin("a", "1").await, 4);
    assert_eq!(bench.store.terms(10).await.unwrap().len(), 4);
    assert_eq!(bench.store.terms(1).await.unwrap()[0].epoch, 4);
}

async fn nodes_that_are_inaugurated_at_once_get_epochs_of_their_own(bench: Bench) {
    let begun = (0..8).map(|number| {
        let store = bench.store.clone();
        async move { store.inaugurate(&node(&format!("n{number}")), "x").await.unwrap() }
    });
    let mut epochs = futures_util::future::join_all(begun).await;
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=8).collect::<Vec<_>>());
    assert_eq!(bench.count("us_leader_history WHERE ended_ms IS NULL").await, 1);
}

async fn a_term_ends_when_it_is_said_or_when_the_next_begins(bench: Bench) {
    let first = bench.lead("a").await;
    assert!(bench.store.see_term(first).await.unwrap());
    bench.store.end_term(first, "stepped_down").await.unwrap();
    assert!(!bench.store.see_term(first).await.unwrap());
    let ended = bench.store.terms(1).await.unwrap().remove(0);
    assert_eq!(ended.reason.as_deref(), Some("stepped_down"));
    let second = bench.lead("b").await;
    bench.lead("c").await;
    assert!(!bench.store.see_term(second).await.unwrap());
    bench.store.end_term(second, "too late").await.unwrap();
    let terms = bench.store.terms(10).await.unwrap();
    assert_eq!(terms[1].reason.as_deref(), Some("superseded"));
    assert_eq!(terms[1].ended_ms, Some(terms[0].started_ms));
    assert_eq!((terms[2].ended_ms, terms[0].ended_ms), (ended.ended_ms, None));
}

async fn a_term_whose_end_was_noted_late_ends_before_the_next_begins(bench: Bench) {
    let early = bench.lead("a").await;
    bench.store.end_term(early, "stepped_down").await.unwrap();
    let late = bench.lead("b").await;
    bench.store.end_term(late, "resigned").await.unwrap();
    // As if it had been noted while the next one was about to begin; of the one before that nothing is known to be wrong.
    bench.sql("UPDATE us_leader_history SET ended_ms = ended_ms + 60000").await;
    bench.lead("c").await;
    let terms = bench.store.terms(10).await.unwrap();
    assert_eq!(terms[1].ended_ms, Some(terms[0].started_ms));
    assert_eq!(terms[1].reason.as_deref(), Some("resigned"));
    assert!(terms[2].ended_ms > terms[1].ended_ms, "{terms:?}");
}

async fn a_database_from_a_backup_goes_on_from_the_greatest_epoch_it_knows(bench: Bench) {
    bench.lead("a").await;
    let sql =
        "INSERT INTO us_leader_history (epoch, node, started_ms, seen_ms) VALUES (900, 'z', 1, 1)";
    bench.sql(sql).await;
    assert_eq!(bench.lead("b").await, 901);
    bench.sql("DELETE FROM us_leader_history").await;
    assert_eq!(bench.lead("c").await, 902);
}

async fn it_is_known_when_nobody_led(bench: Bench) {
    bench.sql(
        "INSERT INTO us_leader_history (epoch, node, started_ms, seen_ms, ended_ms, reason) VALUES \
         (1, 'a', 1000, 1500, 2000, 'stepped_down'), (2, 'b', 2000, 2500, 4000, 'superseded'), \
         (3, 'c', 4000, 5000, 6000, 'self_fenced'), (4, 'd', 6500, 7000, NULL, NULL)",
    )
    .await;
    let gaps = bench.store.leaderless().await.unwrap();
    assert_eq!(gaps, [(6_000, 6_500), (2_500, 4_000), (i64::MIN, 1_000)]);
}
