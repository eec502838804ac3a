use super::*;

const TTL: Duration = Duration::from_secs(3);

fn at(ms: u64) -> BootInstant {
    BootInstant::from_nanos(ms * 1_000_000)
}

/// A reply of a server whose clock is one hour ahead of the boot clock, read when it was sent.
fn reply(server: &str, sent_ms: u64, continuous: bool) -> Renewed {
    Renewed {
        server_id: server.to_owned(),
        continuous,
        evicted: false,
        now_ms: 3_600_000 + sent_ms,
    }
}

fn held() -> LeaseTrust {
    let mut trust = LeaseTrust::new(TTL);
    let first = trust.on_reply(at(1000), &reply("s1", 1000, false), at(1010));
    assert!(first.gap && !first.rid_changed && !first.was_valid);
    assert_eq!(first.stamp, LeaseStamp { generation: 1, rid_epoch: 1 });
    trust
}

#[test]
fn r4_a_lease_counts_from_the_sending_less_the_margin() {
    let mut trust = held();
    let change = trust.on_reply(at(2000), &reply("s1", 2000, true), at(3700));
    assert_eq!(change.valid_until, Some(at(2000 + 3000 - 200)));
    assert!(!change.gap && change.was_valid);
    assert!(trust.current(at(4799)).is_some());
    assert!(trust.current(at(4800)).is_none());
}

#[test]
fn r5_a_reply_after_the_end_is_a_gap_even_if_the_store_saw_none() {
    let mut trust = held();
    let change = trust.on_reply(at(3700), &reply("s1", 3700, true), at(3800));
    assert!(change.gap && !change.was_valid);
    assert_eq!(change.stamp, LeaseStamp { generation: 2, rid_epoch: 1 });
}

#[test]
fn r5_a_lease_that_ran_out_at_the_store_is_a_gap_even_if_it_did_not_here() {
    let mut trust = held();
    let change = trust.on_reply(at(2000), &reply("s1", 2000, false), at(2010));
    assert!(change.gap && change.was_valid);
}

#[test]
fn r6_another_server_is_no_gap_by_itself() {
    let mut trust = held();
    let change = trust.on_reply(at(2000), &reply("s2", 2000, false), at(2010));
    assert!(change.rid_changed && !change.gap && change.was_valid);
    assert_eq!(change.stamp, LeaseStamp { generation: 1, rid_epoch: 2 });
    let again = trust.on_reply(at(3000), &reply("s2", 3000, true), at(3010));
    assert!(!again.rid_changed && !again.gap);
}

#[test]
fn a_reply_that_was_overtaken_changes_nothing() {
    let mut trust = held();
    let later = trust.on_reply(at(2000), &reply("s2", 2000, true), at(2010));
    let overtaken = trust.on_reply(at(1500), &reply("s1", 1500, true), at(2020));
    assert!(!overtaken.rid_changed && !overtaken.gap);
    assert_eq!(overtaken.stamp, later.stamp);
    assert_eq!(trust.server_id(), Some("s2"));
}

#[test]
fn a_step_of_the_stores_clock_is_a_gap() {
    let mut trust = held();
    let mut stepped = reply("s1", 2000, true);
    stepped.now_ms += 500;
    assert!(trust.on_reply(at(2000), &stepped, at(2010)).gap);
    assert_eq!(trust.offset_ms(), Some(3_600_000 + 500 - 5 + 1 - 1));
    let mut slow = reply("s1", 2500, true);
    slow.now_ms += 500 + 900; // within what a round trip of a second cannot exclude
    assert!(!trust.on_reply(at(2500), &slow, at(3500)).gap);
}

#[test]
fn an_evicted_node_never_holds_again() {
    let mut trust = held();
    let mut evicted = reply("s1", 2000, false);
    evicted.evicted = true;
    assert_eq!(trust.on_reply(at(2000), &evicted, at(2010)).valid_until, None);
    assert!(trust.is_over());
    trust.on_reply(at(2100), &reply("s1", 2100, true), at(2110));
    assert!(trust.current(at(2120)).is_none());
}

#[test]
fn r4_a_jump_of_the_wall_clock_drops_the_lease() {
    let mut watch = ClockWatch::default();
    let margin = Duration::from_millis(200);
    assert!(!watch.jumped(at(1000), 50_000, margin));
    assert!(!watch.jumped(at(2000), 51_150, margin));
    assert!(watch.jumped(at(3000), 53_000, margin));
    assert!(!watch.jumped(at(4000), 54_000, margin));
    assert!(watch.jumped(at(5000), 54_500, margin));
    let mut trust = held();
    let change = trust.on_clock_jump(at(1500));
    assert!(change.gap && change.valid_until.is_none() && trust.current(at(1500)).is_none());
}
