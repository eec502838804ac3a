//! What a write changes, and when it is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::bench::{Bench, LONG, blank, node, set};
use crate::record::{Change, KeyId, Mark, OpId, RecentOps, Record, Seal, SecretHash};
use crate::state::Outcome;
use crate::store::{ValidateReply, Write, WriteReply};

pub(super) async fn a_write_changes_only_what_it_names(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    let both = Change {
        set: vec![("one".into(), "1".into()), ("two".into(), "2".into())],
        ..Change::default()
    };
    bench.written(&mut owned, &both).await;
    let change = Change { remove: vec!["one".into(), "never there".into()], ..set("three", "3") };
    bench.written(&mut owned, &change).await;
    let stored = bench.found(owned.locator).await;
    let names: Vec<&str> = stored.attributes.keys().map(AsRef::as_ref).collect();
    assert_eq!(names, ["three", "two"]);
    assert_eq!(stored, owned.record);
}

pub(super) async fn a_repeated_write_is_recognised(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    let before = owned.clone();
    let change = set("n", "1");
    let op_id = bench.written(&mut owned, &change).await;
    let reply = bench.write(&before, &change, op_id).await;
    assert_eq!(reply, WriteReply::Duplicate { version: 2 }, "sent again as it was");
    assert_eq!(bench.found(owned.locator).await, owned.record, "nothing was changed");
    // Only the latest write is remembered: an older one is refused by its version, never made again.
    bench.written(&mut owned, &set("n", "2")).await;
    let reply = bench.write(&before, &change, op_id).await;
    assert_eq!(reply, WriteReply::Conflict { version: 3 });
}

pub(super) async fn a_repeated_write_is_recognised_after_another_claim(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    let before = owned.clone();
    let op_id = bench.written(&mut owned, &set("n", "1")).await;
    bench.claimed(owned.locator, &node("b")).await;
    let reply = bench.write(&before, &set("n", "1"), op_id).await;
    assert_eq!(reply, WriteReply::Duplicate { version: 2 }, "it is in, whoever owns it now");
}

pub(super) async fn a_write_upon_another_version_is_refused(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    let before = owned.clone();
    bench.written(&mut owned, &set("n", "1")).await;
    let reply = bench.write(&before, &set("n", "2"), OpId::random()).await;
    assert_eq!(reply, WriteReply::Conflict { version: 2 });
    let mut ahead = owned.clone();
    ahead.record.version = 9;
    let reply = bench.write(&ahead, &set("n", "3"), OpId::random()).await;
    assert_eq!(reply, WriteReply::Regressed { version: 2 });
    assert_eq!(bench.found(owned.locator).await, owned.record, "nothing was changed");
}

pub(super) async fn a_write_is_an_access(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    let created_ms = owned.record.last_access_ms;
    let step = bench.fixture.touch_slack() / 4 + Duration::from_millis(10);
    bench.fixture.pass(step).await;
    bench.written(&mut owned, &set("n", "1")).await;
    let noted_ms = owned.record.last_access_ms - created_ms;
    assert!(
        u128::from(noted_ms) >= step.as_millis(),
        "a write is an access, noted after a quarter of the slack at the latest"
    );
}

pub(super) async fn every_field_can_be_changed_and_taken_away(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    let entries = vec![(OpId(3), 2, Outcome::Number(-1)), (OpId(u64::MAX), 2, Outcome::Done)];
    let change = Change {
        user: Some(Some("Zoë \"x\" 'y' {b}".into())),
        secret: Some(SecretHash([1; 32])),
        previous_secret: Some(Some((SecretHash([7; 32]), 12_345))),
        absolute_ms: Some(owned.record.absolute_ms + 1_000),
        idle_ms: Some(owned.record.idle_ms + 1),
        recent: Some(RecentOps { since_version: 1, entries, sealed: None }),
        ..Change::default()
    };
    bench.written(&mut owned, &change).await;
    assert_eq!(bench.found(owned.locator).await, owned.record);
    let change = Change {
        user: Some(None),
        previous_secret: Some(None),
        recent: Some(RecentOps { since_version: 2, ..RecentOps::default() }),
        ..Change::default()
    };
    bench.written(&mut owned, &change).await;
    assert_eq!(bench.found(owned.locator).await, owned.record);
    assert_eq!(owned.record.user, None);
}

pub(super) async fn marks_are_written_and_kept(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    let marks = vec![(Mark::Authenticated, "1".to_owned()), (Mark::Lasting, "1".to_owned())];
    bench.written(&mut owned, &Change { marks, ..Change::default() }).await;
    let marks = vec![(Mark::Authenticated, "1764150000123".to_owned())];
    let idle_ms = Some(owned.record.idle_ms + 1);
    bench.written(&mut owned, &Change { marks, idle_ms, ..set("n", "1") }).await;
    let found = bench.claimed(owned.locator, &node("b")).await.record;
    assert_eq!((found.authenticated_ms(), found.is_lasting()), (Some(1_764_150_000_123), true));
    assert_eq!(found.unknown, owned.record.unknown);
}

/// A newer version of the program may keep more in a record; an older one must not lose it.
pub(super) async fn unknown_fields_are_kept(bench: &Bench<'_>) {
    let unknown = BTreeMap::from([
        ("zz".to_owned(), "from the future".to_owned()),
        ("z y".to_owned(), String::new()),
    ]);
    let record = Record { unknown: unknown.clone(), ..blank(&node("a")) };
    let mut owned = bench.session_like(&record, LONG).await;
    assert_eq!(owned.record.unknown, unknown);
    bench.written(&mut owned, &set("n", "1")).await;
    let mut owned = bench.claimed(owned.locator, &node("b")).await;
    assert_eq!(owned.record.unknown, unknown);
    bench.written(&mut owned, &set("n", "2")).await;
    assert_eq!(bench.found(owned.locator).await.unknown, unknown);
}

/// To the store these are texts like others; beside them it keeps under which key they are sealed.
pub(super) async fn sealed_contents_are_kept_beside_the_name_of_their_key(bench: &Bench<'_>) {
    if !bench.fixture.keeps_seals() {
        return;
    }
    let under = |id| Seal::Under(KeyId::new(id).expect("the name of a key"));
    let recent = |text: &str| RecentOps { sealed: Some(text.into()), ..RecentOps::default() };
    let attributes = [(Arc::from("n"), Arc::from("\"1.one.AAAA\""))];
    let record = Record {
        attributes: Arc::new(attributes.into()),
        recent: recent("1.one.BBBB"),
        seal: under("one"),
        ..blank(&node("a"))
    };
    let mut owned = bench.session_like(&record, LONG).await;
    assert_eq!(
        (&owned.record.attributes, &owned.record.recent),
        (&record.attributes, &record.recent)
    );
    assert_eq!(owned.record.seal, record.seal);
    bench.written(&mut owned, &set("m", "\"1.one.CCCC\"")).await;
    assert_eq!(bench.found(owned.locator).await, owned.record);
    let forms =
        [(under("2.two"), "\"1.2.two.DDDD\""), (Seal::Open, "1"), (under("3"), "\"1.3.EEEE\"")];
    for (seal, text) in forms {
        let set = ["m", "n"].map(|name| (name.into(), text.into())).to_vec();
        let recent = Some(recent(text));
        let change = Change { set, recent, seal: Some(seal), ..Change::default() };
        bench.written(&mut owned, &change).await;
        assert_eq!(bench.found(owned.locator).await, owned.record);
    }
    assert!(bench.store.release(owned.locator, &owned.fence).await.expect("release answers"));
    let released = bench.found(owned.locator).await;
    assert_eq!(released, Record { owner: None, ..owned.record });
}

pub(super) async fn a_validation_tells_who_is_up_to_date(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    bench.written(&mut owned, &set("n", "1")).await;
    let answers =
        [(1, ValidateReply::Conflict { version: 2 }), (3, ValidateReply::Regressed { version: 2 })];
    for (version, wanted) in answers {
        let reply = bench.store.validate(owned.locator, &owned.fence, version).await;
        assert_eq!(reply.expect("validate answers"), wanted, "version {version}");
    }
    let reply = bench.store.validate(owned.locator, &owned.fence, 2).await;
    match reply.expect("validate answers") {
        ValidateReply::Valid { last_access_ms, now_ms } => {
            assert_eq!(last_access_ms, owned.record.last_access_ms);
            assert!(now_ms >= last_access_ms, "the store's clock");
        }
        other => panic!("the copy is the same: {other:?}"),
    }
    assert_eq!(bench.found(owned.locator).await, owned.record, "a validation changes nothing");
    let after = owned.record.clone();
    let write = Write {
        locator: owned.locator,
        fence: &owned.fence,
        base_version: 2,
        op_id: OpId::random(),
        change: &Change::default(),
        after: &Record { version: 3, ..after },
    };
    let reply = bench.store.write(write).await.expect("write answers");
    assert!(matches!(reply, WriteReply::Written { version: 3, .. }), "no change: {reply:?}");
}
