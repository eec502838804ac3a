//! Definitions and cursors: what a change of a job does to its due times.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::*;
use super::bench::{Bench, id, moment, name, parallel, rare, room, seconds, taker};
use super::on_both;
use crate::plan::plan;
use crate::run::RunState;
use crate::spec::{JobSpec, Overlap, Placement, Schedule};

on_both!(
    due_times_before_a_change_or_a_removal_are_not_silently_gone,
    migrations_are_applied_once,
    a_new_job_is_due_from_now_on,
    an_edited_schedule_counts_from_now_on_and_any_other_edit_keeps_the_cursor,
    what_was_due_during_a_pause_never_starts,
    a_job_that_catches_up_keeps_its_cursor_through_a_pause,
    catching_up_can_be_switched_during_a_pause,
    a_job_that_is_switched_off_notes_its_due_times,
    an_edit_stands_before_the_program_until_it_is_reset,
    an_older_program_does_not_undo_a_newer_one,
    jobs_that_no_file_names_go,
    a_removed_job_drops_what_waits_and_never_uses_a_revision_twice,
    an_edit_of_what_was_changed_meanwhile_is_refused,
    nodes_that_make_the_same_job_at_once_agree,
    a_job_for_every_node_has_a_cursor_for_each,
    a_pause_does_not_let_a_job_run_beside_itself,
);

fn after(job: &str, delay: Duration) -> JobSpec {
    JobSpec::new(name(job), Schedule::After { delay })
}

async fn migrations_are_applied_once(bench: Bench) {
    let mode = understudy_runtime::config::MigrateMode::Auto;
    let again = bench.store.database().migrate(mode, &migrations(), &|_| {}).await.unwrap();
    assert_eq!(again.applied.len(), 0);
    assert_eq!(bench.count("us_job").await, 0);
}

async fn a_new_job_is_due_from_now_on(bench: Bench) {
    let before = bench.now().await;
    let report = bench.store.sync(&[seconds("job")], Origin::Code, &[]).await.unwrap();
    assert_eq!(report.defined, [name("job")]);
    let cursor = bench.cursor("job", "").await;
    let after = bench.now().await;
    assert!((before..=after).contains(&cursor.last_ms));
    assert_eq!(cursor.next_ms, Some(cursor.last_ms.div_euclid(1_000) * 1_000 + 1_000));
    assert_eq!(cursor.revision, 1);
    let again = bench.store.sync(&[seconds("job")], Origin::Code, &[]).await.unwrap();
    assert_eq!(again, SyncReport::default());
    assert_eq!(bench.cursor("job", "").await, cursor);
}

async fn an_edited_schedule_counts_from_now_on_and_any_other_edit_keeps_the_cursor(bench: Bench) {
    bench.job(seconds("job")).await;
    let old = bench.cursor("job", "").await;
    let mut edited = seconds("job");
    edited.priority = 5;
    let revision = bench.store.define(edited.clone(), Origin::Api, "ann", None).await.unwrap();
    let kept = bench.cursor("job", "").await;
    assert_eq!((kept.last_ms, kept.next_ms), (old.last_ms, old.next_ms));
    assert_eq!((kept.revision, revision), (old.revision + 1, old.revision + 1));
    let before = bench.now().await;
    edited.schedule = Schedule::Every { every: Duration::from_secs(7), anchor_ms: 0 };
    bench.store.define(edited, Origin::Api, "ann", None).await.unwrap();
    let moved = bench.cursor("job", "").await;
    assert!(moved.last_ms >= before && moved.next_ms.is_some_and(|next| next > before));
    assert_eq!(moved.revision, revision + 1);
    assert_eq!(bench.planned("job").await.map(|(plan, _)| plan.starts.len()), None);
}

async fn what_was_due_during_a_pause_never_starts(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(seconds("job")).await;
    bench.store.pause(&name("job"), "ann", "holiday").await.unwrap();
    // A leader decides some of it; of the rest nobody has thought yet when it is resumed.
    bench.rewind("job", 10_000).await;
    let (plan, definition) = bench.planned("job").await.unwrap();
    assert!(plan.starts.is_empty());
    bench.claim(epoch, vec![(plan.clone(), definition)]).await;
    let decided = bench.outcomes("job").await.len();
    assert_eq!(decided, plan.decisions.len());
    bench.rewind("job", 3_000).await;
    let began = bench.cursor("job", "").await.last_ms;
    bench.store.resume(&name("job"), "bob").await.unwrap();
    let resumed = bench.cursor("job", "").await;
    let seconds = resumed.last_ms.div_euclid(1_000) - began.div_euclid(1_000);
    assert!(seconds >= 3);
    let outcomes = bench.outcomes("job").await;
    assert_eq!(i64::try_from(outcomes.len() - decided).unwrap(), seconds);
    assert!(outcomes.iter().all(|outcome| outcome == "paused"), "{outcomes:?}");
    assert_eq!(resumed.next_ms, Some((resumed.last_ms.div_euclid(1_000) + 1) * 1_000));
    let row = bench.store.job(&name("job")).await.unwrap().unwrap();
    assert_eq!((row.paused, row.changed_by.as_str()), (None, "bob"));
}

async fn a_job_that_catches_up_keeps_its_cursor_through_a_pause(bench: Bench) {
    let mut spec = seconds("job");
    (spec.catch_up_on_resume, spec.misfire) = (true, crate::spec::Misfire::FireAll { max: 100 });
    bench.job(spec).await;
    bench.store.pause(&name("job"), "ann", "holiday").await.unwrap();
    bench.rewind("job", 10_000).await;
    let paused = bench.cursor("job", "").await;
    assert_eq!((paused.next_ms, bench.planned("job").await.is_none()), (None, true));
    bench.store.resume(&name("job"), "ann").await.unwrap();
    let resumed = bench.cursor("job", "").await;
    assert_eq!(resumed.last_ms, paused.last_ms);
    assert!(resumed.next_ms.is_some_and(|next| next <= paused.last_ms + 1_000));
    let (plan, _) = bench.planned("job").await.unwrap();
    assert!(plan.starts.len() >= 10 && plan.decisions.is_empty(), "{plan:?}");
    assert_eq!(bench.outcomes("job").await, [""; 0]);
}

async fn catching_up_can_be_switched_during_a_pause(bench: Bench) {
    bench.job(seconds("job")).await;
    bench.store.pause(&name("job"), "ann", "why").await.unwrap();
    assert!(bench.cursor("job", "").await.next_ms.is_some());
    let mut spec = seconds("job");
    for catches_up in [true, false] {
        spec.catch_up_on_resume = catches_up;
        bench.store.define(spec.clone(), Origin::Api, "ann", None).await.unwrap();
        assert_eq!(bench.cursor("job", "").await.next_ms.is_none(), catches_up);
    }
}

async fn a_job_that_is_switched_off_notes_its_due_times(bench: Bench) {
    let epoch = bench.lead("a").await;
    bench.job(seconds("job")).await;
    bench.store.enable(&name("job"), "ann", false).await.unwrap();
    bench.rewind("job", 2_000).await;
    let plan = bench.planned_after("job", 2_000).await;
    bench.claim(epoch, vec![plan]).await;
    assert_eq!(bench.outcomes("job").await, ["disabled"; 2]);
    bench.rewind("job", 3_000).await;
    let off_ms = bench.now().await;
    bench.store.enable(&name("job"), "ann", true).await.unwrap();
    let (plan, _) = bench.planned_after("job", 1_000).await;
    assert!(plan.starts.len() == 1 && plan.starts[0].fire_ms > off_ms, "{plan:?}");
    assert!(bench.outcomes("job").await.len() >= 5);
    assert!(matches!(
        bench.store.enable(&name("none"), "ann", true).await,
        Err(DefinitionError::Unknown)
    ));
}

async fn an_edit_stands_before_the_program_until_it_is_reset(bench: Bench) {
    let program = seconds("job");
    bench.store.sync(std::slice::from_ref(&program), Origin::Code, &[]).await.unwrap();
    let mut edit = program.clone();
    edit.description = "mine".to_owned();
    for _ in 0..2 {
        edit.priority += 1;
        bench.store.define(edit.clone(), Origin::Api, "ann", None).await.unwrap();
    }
    let mut newer = program.clone();
    newer.priority = 9;
    let report = bench.store.sync(std::slice::from_ref(&newer), Origin::Code, &[]).await.unwrap();
    assert_eq!((report.edited.len(), report.defined.len()), (1, 0));
    let row = bench.store.job(&name("job")).await.unwrap().unwrap();
    assert_eq!((row.spec, row.origin, row.edited), (edit, Origin::Code, true));
    let cursor = bench.cursor("job", "").await;
    bench.store.reset(&name("job"), "ann").await.unwrap();
    let row = bench.store.job(&name("job")).await.unwrap().unwrap();
    assert_eq!((row.spec, row.edited, row.origin), (newer, false, Origin::Code));
    let after = bench.cursor("job", "").await;
    assert_eq!((after.last_ms, after.revision), (cursor.last_ms, cursor.revision + 1));
    let same = bench.store.reset(&name("job"), "ann").await.unwrap();
    assert_eq!(same, after.revision);
}

async fn an_older_program_does_not_undo_a_newer_one(bench: Bench) {
    let (old, mut new) = (seconds("job"), seconds("job"));
    new.priority = 1;
    let sync = async |spec: &JobSpec, living: &[(String, String)]| {
        bench.store.sync(std::slice::from_ref(spec), Origin::Code, living).await.unwrap()
    };
    sync(&old, &[]).await;
    assert_eq!(sync(&new, &[("job".to_owned(), old.fingerprint())]).await.defined.len(), 1);
    let living = [("job".to_owned(), new.fingerprint())];
    assert_eq!(sync(&old, &living).await.older, [name("job")]);
    assert_eq!(bench.definition("job").await.spec, new);
    // All have gone back to it.
    assert_eq!(sync(&old, &[]).await.defined.len(), 1);
    assert_eq!(bench.definition("job").await.spec, old);
}

async fn jobs_that_no_file_names_go(bench: Bench) {
    let specs = [rare("one"), rare("two"), rare("three")];
    bench.store.sync(&specs, Origin::File, &[]).await.unwrap();
    bench.store.sync(&[rare("code")], Origin::Code, &[]).await.unwrap();
    let living = [("two".to_owned(), String::new())];
    let report = bench.store.sync(&specs[..1], Origin::File, &living).await.unwrap();
    assert_eq!(report.removed, [name("three")]);
    let left: Vec<_> = bench
        .store
        .jobs("", 10, false)
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.spec.name)
        .collect();
    assert_eq!(left, [name("code"), name("one"), name("two")]);
    assert_eq!(bench.store.jobs("one", 10, false).await.unwrap().len(), 1);
    assert_eq!(bench.store.jobs("", 10, true).await.unwrap(), []);
}

async fn a_removed_job_drops_what_waits_and_never_uses_a_revision_twice(bench: Bench) {
    bench.store.sync(&[rare("code")], Origin::Code, &[]).await.unwrap();
    let refused = bench.store.remove(&name("code"), "ann").await;
    assert!(matches!(refused, Err(DefinitionError::NotYours("the program"))), "{refused:?}");
    let old = bench.job(parallel("job")).await;
    bench.task("job", None).await.unwrap();
    let running = bench.take(taker("a", 1, &["job"])).await.remove(0);
    let waiting = bench.task("job", None).await.unwrap().run;
    bench.store.remove(&name("job"), "ann").await.unwrap();
    assert_eq!(bench.run(waiting).await.state, RunState::Cancelled);
    assert_eq!(bench.run(running.id).await.cancel_by.as_deref(), Some("ann"));
    assert_eq!(bench.end(&running, "a", RunState::Cancelled).await, Finished::Done);
    assert!(bench.store.job(&name("job")).await.unwrap().is_none());
    // Others may have the old one in memory under its revision.
    let new = bench.job(seconds("job")).await;
    assert!(new.revision > old.revision);
    let cursor = bench.cursor("job", "").await;
    let wanted = [(&cursor.job, cursor.revision)];
    let found = bench.store.definitions_of(wanted.into_iter()).await.unwrap();
    assert_eq!(found[0].spec, seconds("job"));
}

async fn an_edit_of_what_was_changed_meanwhile_is_refused(bench: Bench) {
    let define =
        async |revision| bench.store.define(rare("job"), Origin::Api, "ann", revision).await;
    assert!(matches!(define(Some(3)).await, Err(DefinitionError::Changed(0))));
    let revision = define(Some(0)).await.unwrap();
    assert!(
        matches!(define(Some(0)).await, Err(DefinitionError::Changed(found)) if found == revision)
    );
    assert_eq!(define(Some(revision)).await.unwrap(), revision + 1);
    let mut wrong = rare("job");
    wrong.priority = 1_000;
    let refused = bench.store.define(wrong, Origin::Api, "ann", None).await;
    assert!(matches!(refused, Err(DefinitionError::Invalid(_))), "{refused:?}");
}

async fn nodes_that_make_the_same_job_at_once_agree(bench: Bench) {
    let made = (0..6).map(|priority| {
        let mut spec = rare("job");
        spec.priority = priority;
        let store = bench.store.clone();
        async move { store.sync(&[spec], Origin::Code, &[]).await.unwrap() }
    });
    futures_util::future::join_all(made).await;
    let (definition, cursor) = (bench.definition("job").await, bench.cursor("job", "").await);
    assert_eq!((definition.revision, cursor.revision), (6, 6));
    assert_eq!(bench.count("us_job_definition").await, 6);
}

async fn a_job_for_every_node_has_a_cursor_for_each(bench: Bench) {
    let mut spec = seconds("job");
    spec.placement = Placement::Every;
    bench.store.define(spec.clone(), Origin::Code, "test", None).await.unwrap();
    bench.store.meet_jobs("a").await.unwrap();
    assert_eq!(bench.cursor("job", "").await.next_ms, None);
    let first = bench.cursor("job", "a").await;
    assert!(first.next_ms.is_some());
    bench.store.pause(&name("job"), "ann", "why").await.unwrap();
    let paused = bench.cursor("job", "a").await;
    assert_eq!(bench.cursor("job", "").await.next_ms, None);
    assert!(paused.next_ms.is_some() && paused.revision > first.revision);
    bench.rewind("job", 5_000).await;
    bench.store.resume(&name("job"), "ann").await.unwrap();
    let (definition, cursor) = (bench.definition("job").await, bench.cursor("job", "a").await);
    assert!(plan(&definition, &cursor, moment(cursor.last_ms + 900)).is_none());
    let outcomes = bench.outcomes("job").await;
    assert!(outcomes.len() >= 5 && outcomes.iter().all(|one| one == "paused"), "{outcomes:?}");
    // Back to the leader.
    spec.placement = Placement::Leader;
    bench.store.define(spec, Origin::Code, "test", None).await.unwrap();
    assert_eq!(bench.count("us_job_cursor").await, 1);
    assert!(bench.cursor("job", "").await.next_ms.is_some());
}

async fn a_pause_does_not_let_a_job_run_beside_itself(bench: Bench) {
    let epoch = bench.lead("a").await;
    let mut spec = after("job", Duration::from_secs(60));
    spec.overlap = Overlap::Allow { max: 5 };
    bench.job(spec).await;
    bench.sql("UPDATE us_job_cursor SET next_fire_ms = last_fire_ms + 1").await;
    let plan = bench.planned("job").await.unwrap();
    let claimant = Claimant { node: id("a"), epoch: Some(epoch), room: room(1, &["job"]) };
    let outcome = bench.store.claim(claimant, vec![plan], BTreeSet::new(), 0).await.unwrap();
    assert_eq!(bench.cursor("job", "").await.next_ms, None);
    bench.store.pause(&name("job"), "ann", "why").await.unwrap();
    bench.store.resume(&name("job"), "ann").await.unwrap();
    assert_eq!(bench.cursor("job", "").await.next_ms, None);
    bench.end(&outcome.started[0], "a", RunState::Completed).await;
    let ended = bench.run(outcome.started[0].id).await.finished_ms.unwrap();
    let next = bench.cursor("job", "").await.next_ms.unwrap();
    assert!((ended + 60_000..ended + 65_000).contains(&next));
}

async fn due_times_before_a_change_or_a_removal_are_not_silently_gone(bench: Bench) {
    let every = |seconds| Schedule::Every { every: Duration::from_secs(seconds), anchor_ms: 0 };
    let define = async |seconds| {
        let spec = JobSpec::new(name("job"), every(seconds));
        bench.store.define(spec, Origin::Api, "ann", None).await.unwrap();
    };
    define(1).await;
    assert_eq!(bench.outcomes("job").await, [""; 0]);
    bench.rewind("job", 3_000).await;
    define(2).await;
    assert_eq!(bench.outcomes("job").await, ["superseded"; 3]);
    bench.rewind("job", 4_000).await;
    bench.store.remove(&name("job"), "ann").await.unwrap();
    assert_eq!(bench.outcomes("job").await, ["superseded"; 5]);
}
