//! Operations on plain records.

use std::collections::BTreeMap;

use super::*;

const LIMITS: Limits = Limits { attribute_bytes: 64, session_bytes: 256, pack_above: 0 };
const SECRET: SecretHash = SecretHash([1; 32]);

fn record(attributes: &[(&str, &str)]) -> Record {
    Record {
        owner: None,
        epoch: 1,
        version: 7,
        last_op: None,
        created_ms: 0,
        absolute_ms: 1_000_000,
        last_access_ms: 0,
        idle_ms: 1_000,
        user: None,
        secret: SECRET,
        previous_secret: None,
        attributes: Arc::new(attributes.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect()),
        recent: RecentOps::default(),
        unknown: BTreeMap::new(),
        seal: Seal::Open,
    }
}

#[test]
fn x6_the_first_change_of_an_outdated_record_renews_all_of_it() {
    let increment = || vec![Op::Increment { name: "n".into(), by: 1 }];
    let outdated = Record { seal: Seal::Outdated, ..record(&[("n", "1"), ("m", "2")]) };
    let (change, after) = run(&outdated, increment()).write.unwrap();
    assert!(change.seal.is_some());
    assert_eq!(after.seal, Seal::Open, "the next change does not again");
    let (change, _) = run(&after, increment()).write.unwrap();
    assert_eq!(change.seal, None);
    assert!(run(&outdated, vec![set("n", "1")]).write.is_none());
}

fn run(record: &Record, ops: Vec<Op>) -> Plan {
    let mut asks: Vec<Ask> = ops
        .into_iter()
        .map(|op| Ask { secret: SECRET, task: Task::Op(op), remote: None })
        .collect();
    plan(record, &mut asks.iter_mut().collect::<Vec<_>>(), &LIMITS, 10)
}

/// Sets an attribute as somebody does who knows its first schema.
fn set(name: &str, value: &str) -> Op {
    Op::Set { name: name.into(), value: value.into(), knows: 1 }
}

fn increment(by: i64) -> Op {
    Op::Increment { name: "n".into(), by }
}

#[test]
fn many_increments_become_one_change() {
    let plan = run(&record(&[]), vec![increment(1), increment(2), increment(-5)]);
    assert_eq!(plan.outcomes, [Outcome::Number(1), Outcome::Number(3), Outcome::Number(-2)]);
    let (change, after) = plan.write.unwrap();
    assert_eq!(change.set, [("n".into(), "-2".into())]);
    assert_eq!(after.version, 8);
}

#[test]
fn an_operation_that_fails_leaves_the_others_alone() {
    let plan = run(&record(&[("n", "\"x\"")]), vec![increment(1), set("m", "1")]);
    assert_eq!(plan.outcomes, [Outcome::Rejected(Rejection::WrongType), Outcome::Done]);
    assert_eq!(plan.write.unwrap().0.set.len(), 1);
}

#[test]
fn nothing_changed_means_nothing_to_write() {
    let plan = run(
        &record(&[("n", "9223372036854775807")]),
        vec![increment(1), Op::Remove { name: "m".into() }],
    );
    assert_eq!(plan.outcomes, [Outcome::Rejected(Rejection::WrongType), Outcome::Flag(false)]);
    assert!(plan.write.is_none());
}

#[test]
fn s11_a_value_that_is_set_to_what_it_is_needs_no_write() {
    let before = record(&[("n", "1")]);
    let plan = run(&before, vec![set("n", "1"), increment(0)]);
    assert_eq!(plan.outcomes, [Outcome::Done, Outcome::Number(1)]);
    assert!(plan.write.is_none());
    // Not the value before the write counts, but the one that is there when its turn comes.
    let plan = run(&before, vec![increment(1), set("n", "1")]);
    let (change, after) = plan.write.unwrap();
    assert_eq!(change.set, [("n".into(), "1".into())]);
    assert_eq!(after.attributes["n"], "1".into());
}

#[test]
fn set_after_remove_and_remove_after_set_cancel_out() {
    let set = |value: &str| set("a", value);
    let remove = || Op::Remove { name: "a".into() };
    let (change, after) = run(&record(&[("a", "1")]), vec![remove(), set("2")]).write.unwrap();
    assert_eq!((change.set.len(), change.remove.len()), (1, 0));
    assert_eq!(&*after.attributes["a"], "2");
    let (change, after) = run(&record(&[("a", "1")]), vec![set("2"), remove()]).write.unwrap();
    assert_eq!((change.set.len(), change.remove.len()), (0, 1));
    assert!(after.attributes.is_empty());
}

#[test]
fn append_keeps_the_array_as_it_was_written() {
    let append = |item: &str| Op::Append { name: "a".into(), item: item.into() };
    let plan = run(&record(&[("a", "[ 1.50 ]")]), vec![append("{\"b\":2}")]);
    assert_eq!(plan.outcomes, [Outcome::Length(2)]);
    assert_eq!(&*plan.write.unwrap().1.attributes["a"], "[ 1.50 ,{\"b\":2}]");
    assert_eq!(
        run(&record(&[]), vec![append("1"), append("2")]).outcomes,
        [Outcome::Length(1), Outcome::Length(2)]
    );
    assert_eq!(
        run(&record(&[("a", "{}")]), vec![append("1")]).outcomes,
        [Outcome::Rejected(Rejection::WrongType)]
    );
}

#[test]
fn limits_hold_for_one_attribute_and_for_all() {
    let set = |name: &str, bytes: usize| set(name, &"1".repeat(bytes));
    assert_eq!(
        run(&record(&[]), vec![set("a", 65)]).outcomes,
        [Outcome::Rejected(Rejection::TooLarge)]
    );
    let many = run(&record(&[]), ["a", "b", "c", "d"].map(|name| set(name, 63)).to_vec());
    assert!(
        many.outcomes.iter().all(|outcome| *outcome == Outcome::Done),
        "4 x 64 bytes fit in 256"
    );
    let full = many.write.unwrap().1;
    assert_eq!(run(&full, vec![set("e", 1)]).outcomes, [Outcome::Rejected(Rejection::TooLarge)]);
    assert_eq!(
        run(&full, vec![set("a", 62)]).outcomes,
        [Outcome::Done],
        "replacing counts the old value out"
    );
}

#[test]
fn login_kills_the_old_secret_at_once_and_only_the_current_one_may_log_in() {
    let login = |to: u8| Op::Login {
        user: "ada".into(),
        secret: SecretHash([to; 32]).to_text(),
        lifetime_ms: 500,
        idle_ms: None,
        lasting: false,
    };
    let plan = run(&record(&[]), vec![login(2), login(3), increment(1)]);
    let stale = Outcome::Rejected(Rejection::StaleSecret);
    assert_eq!(plan.outcomes, [Outcome::Done, stale.clone(), stale]);
    let after = plan.write.unwrap().1;
    assert_eq!((after.user.as_deref(), after.absolute_ms), (Some("ada"), 510));
    assert!(!opens(&after, &SECRET, 10));
    assert!(opens(&after, &SecretHash([2; 32]), 10));
}

#[test]
fn s16_only_the_login_of_another_user_changes_the_scope_of_what_hangs_on_a_session() {
    let login = |from: &Record, user: &str, secret: u8| {
        let op = Op::Login {
            user: user.into(),
            secret: SecretHash([secret; 32]).to_text(),
            lifetime_ms: 500,
            idle_ms: None,
            lasting: false,
        };
        let mut ask = Ask { secret: from.secret, task: Task::Op(op), remote: None };
        plan(from, &mut [&mut ask], &LIMITS, 10).write.unwrap().1
    };
    let visitor = record(&[("a", "1")]);
    let ada = login(&visitor, "ada", 2);
    let again = login(&ada, "ada", 3);
    assert_eq!([visitor.scope(), ada.scope(), again.scope()], ["", "", ""]);
    let bob = login(&again, "bob", 4);
    let back = login(&bob, "ada", 5);
    assert!(bob.attributes.is_empty() && !bob.scope().is_empty());
    assert_ne!(bob.scope(), back.scope(), "what was left is not shown again");
    assert_eq!(login(&back, "ada", 6).scope(), back.scope());
}

#[test]
fn rotation_lets_the_old_secret_live_for_a_moment() {
    let rotate =
        Op::Rotate { secret: SecretHash([2; 32]).to_text(), keep_ms: 100, authenticates: false };
    let plan = run(&record(&[]), vec![rotate, increment(1)]);
    assert_eq!(plan.outcomes, [Outcome::Done, Outcome::Number(1)]);
    let after = plan.write.unwrap().1;
    assert!(opens(&after, &SECRET, 109));
    assert!(!opens(&after, &SECRET, 110));
}

#[test]
fn an_operation_of_another_node_can_be_traced() {
    let mut ask = Ask { secret: SECRET, task: Task::Op(increment(4)), remote: Some(OpId(42)) };
    let (change, after) = plan(&record(&[]), &mut [&mut ask], &LIMITS, 10).write.unwrap();
    assert!(change.recent.is_some());
    assert_eq!(after.recent.look_up(OpId(42), 7), Traced::Applied(Outcome::Number(4)));
    assert_eq!(after.recent.look_up(OpId(43), 7), Traced::NotApplied);
    let mut record = after;
    for id in 100..200 {
        let mut ask = Ask { secret: SECRET, task: Task::Op(increment(1)), remote: Some(OpId(id)) };
        record = plan(&record, &mut [&mut ask], &LIMITS, 10).write.unwrap().1;
    }
    assert!(record.recent.entries.len() <= RECENT + 1);
    assert!(matches!(record.recent.look_up(OpId(199), 7), Traced::Applied(_)));
    assert_eq!(record.recent.look_up(OpId(42), 7), Traced::Unknown, "dropped long ago");
    let mut own = Ask { secret: SECRET, task: Task::Op(increment(1)), remote: None };
    let (change, after) = plan(&record, &mut [&mut own], &LIMITS, 10).write.unwrap();
    assert!(change.recent.is_none(), "a write of this node does not send the list again");
    assert_eq!(after.recent, record.recent);
    let since = record.recent.since_version;
    assert_eq!(record.recent.look_up(OpId(43), since), Traced::NotApplied);
    assert_eq!(record.recent.look_up(OpId(43), since - 1), Traced::Unknown);
}

#[test]
fn s3_a_login_sets_how_long_the_session_lives_and_a_later_one_takes_it_back() {
    let login = |from: &Record, idle_ms: Option<u64>, lasting: bool| {
        let op = Op::Login {
            user: "ada".into(),
            secret: SECRET.to_text(),
            lifetime_ms: 500,
            idle_ms,
            lasting,
        };
        run(from, vec![op]).write.unwrap()
    };
    let (change, long) = login(&record(&[]), Some(7_000), true);
    assert_eq!((long.idle_ms, long.is_lasting(), long.absolute_ms), (7_000, true, 510));
    assert_eq!(long.authenticated_ms(), Some(10));
    assert_eq!((change.idle_ms, change.marks.len()), (Some(7_000), 2));
    let (change, short) = login(&long, Some(1_000), false);
    assert_eq!((short.idle_ms, short.is_lasting(), change.marks.len()), (1_000, false, 2));
    let (change, same) = login(&short, None, false); // as a node of an older version asks
    assert_eq!((same.idle_ms, change.idle_ms, change.marks.len()), (1_000, None, 1));
}

#[test]
fn who_shows_again_who_they_are_gets_a_new_secret_and_keeps_the_rest() {
    let secret = SecretHash([2; 32]);
    let op = Op::Rotate { secret: secret.to_text(), keep_ms: 0, authenticates: true };
    let (change, after) = run(&record(&[("a", "1")]), vec![op]).write.unwrap();
    assert_eq!(after.authenticated_ms(), Some(10));
    assert!(opens(&after, &secret, 10) && !opens(&after, &SECRET, 10), "the old one is dead");
    assert_eq!((after.attributes.len(), after.absolute_ms), (1, 1_000_000));
    assert_eq!(change.previous_secret, Some(None));
}

#[test]
fn operations_of_an_older_node_are_read_as_they_were_meant() {
    let secret = SECRET.to_text();
    let text = format!(r#"{{"login":{{"user":"ada","secret":"{secret}","lifetime_ms":5}}}}"#);
    let op: Op = serde_json::from_str(&text).unwrap();
    assert!(matches!(op, Op::Login { idle_ms: None, lasting: false, .. }));
    let text = format!(r#"{{"rotate":{{"secret":"{secret}","keep_ms":5}}}}"#);
    let op: Op = serde_json::from_str(&text).unwrap();
    assert!(matches!(op, Op::Rotate { authenticates: false, .. }));
}

#[test]
fn a_value_of_a_newer_schema_is_not_overwritten_by_who_does_not_know_it() {
    let newer = "\"us:schema/3 {}\"";
    let as_one_who_knows = |knows: u32| Op::Set { name: "a".into(), value: "2".into(), knows };
    for knows in [1, 2] {
        let plan = run(&record(&[("a", newer)]), vec![as_one_who_knows(knows)]);
        assert_eq!(plan.outcomes, [Outcome::Rejected(Rejection::WrongType)]);
        assert!(plan.write.is_none());
    }
    for knows in [3, 4] {
        let plan = run(&record(&[("a", newer)]), vec![as_one_who_knows(knows)]);
        assert_eq!(plan.outcomes, [Outcome::Done]);
    }
    for op in [increment(1), Op::Append { name: "n".into(), item: "1".into() }] {
        let plan = run(&record(&[("n", newer)]), vec![op]);
        assert_eq!(plan.outcomes, [Outcome::Rejected(Rejection::WrongType)]);
    }
    let plan = run(&record(&[("a", newer)]), vec![Op::Remove { name: "a".into() }]);
    assert_eq!(plan.outcomes, [Outcome::Flag(true)], "to remove it is no mistake");
}

#[test]
fn nodes_of_the_version_before_understand_an_operation_that_names_no_schema() {
    let plain = serde_json::to_string(&set("a", "1")).unwrap();
    assert_eq!(plain, "{\"set\":{\"name\":\"a\",\"value\":\"1\"}}");
    assert_eq!(serde_json::from_str::<Op>(&plain).unwrap(), set("a", "1"));
    let newer = Op::Set { name: "a".into(), value: "1".into(), knows: 2 };
    let sent = serde_json::to_string(&newer).unwrap();
    assert_eq!(serde_json::from_str::<Op>(&sent).unwrap(), newer);
}

#[test]
fn the_first_large_value_has_all_of_the_session_written_in_the_packed_form() {
    let limits = Limits { pack_above: 10, ..LIMITS };
    let set_on = |record: &Record, value: &str| {
        let task = Task::Op(set("a", value));
        let mut ask = Ask { secret: SECRET, task, remote: None };
        plan(record, &mut [&mut ask], &limits, 10).write.unwrap()
    };
    let small = record(&[("b", "1")]);
    let (change, after) = set_on(&small, "1234567890");
    assert_eq!((change.seal, after.seal), (None, Seal::Open));
    let (change, after) = set_on(&small, "12345678901");
    assert_eq!((change.seal, &after.seal), (Some(Seal::Packed), &Seal::Packed));
    let (change, after) = set_on(&after, "123456789012");
    assert_eq!((change.seal, &after.seal), (None, &Seal::Packed), "once is enough");
    let outdated = |values: &[(&str, &str)]| Record { seal: Seal::Outdated, ..record(values) };
    let (change, _) = set_on(&outdated(&[("b", "1")]), "1");
    assert_eq!(change.seal, Some(Seal::Open));
    let (change, _) = set_on(&outdated(&[("b", "12345678901")]), "1");
    assert_eq!(change.seal, Some(Seal::Packed), "all of it is looked at");
}
