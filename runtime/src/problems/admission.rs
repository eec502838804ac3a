//! Whether a node may stay that has just joined: not with a session secret that most of the others do not know, and, where
//! operators want it so, not with other options than most of them.
//!
//! It is asked by the newcomer itself: those who are there already go on. It is asked twice: of those who are there, before
//! the database is brought up to date and before the node joins, so that one that must not stay has changed nothing; and
//! once it has joined, before anything of its own begins. Of two that start at the same time the earlier one stays. Who must
//! go leaves a note, see [`Note`]. Whether its name is free is looked at before the first of them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::options::{Comparing, Options, differences};
use crate::config::{Config, DriftPolicy};
use crate::ids::NodeId;
use crate::membership::{Member, MemberRecord, MemberState, Note, NoteKind};
use crate::service::NodeContext;

/// How long to wait for somebody who can say which options differ, and between two attempts.
const ASK_LIMIT: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(300);
/// How long saying farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// So many nodes are named.
const NAMED: usize = 5;

/// Why a node must not be here.
#[derive(Debug)]
pub(crate) struct Refusal {
    kind: NoteKind,
    /// In words that read after "it was refused: ".
    why: String,
    /// What an operator must put right, in one line.
    pub(crate) told: String,
}

impl Refusal {
    /// What the others read of it.
    pub(crate) fn note(&self, own: &MemberRecord) -> Note {
        Note::about(own, self.kind, self.why.as_str())
    }
}

/// Finds out whether this node may stay; a node that may not has left when this returns.
///
/// # Errors
/// What an operator must put right, in one line.
pub(crate) async fn check(node: &NodeContext, options: &Options) -> Result<(), String> {
    let (own, members) = (node.membership.own(), node.membership.members());
    let judged = judge(&own, &members, (&node.config, options.comparing())).await;
    let Err(refusal) = judged else { return Ok(()) };
    leave(node, &refusal.note(&own)).await;
    Err(refusal.told)
}

/// Judges whether a node with this record may be among these.
///
/// # Errors
/// Why it may not.
pub(crate) async fn judge(
    own: &MemberRecord,
    members: &[Member],
    (config, comparing): (&Config, &Comparing),
) -> Result<(), Refusal> {
    let others = counted(members, own);
    if let Some(strangers) = strangers(own, &others) {
        let why = format!(
            "its session secret has no key in common with that of {}",
            names(strangers.iter().map(|record| &record.id))
        );
        let told = format!(
            "UNDERSTUDY_SESSION_SECRET: this node must not join: {why}, so each would log out the users of the \
             other; give all nodes the same secret"
        );
        return Err(Refusal { kind: NoteKind::WrongSecret, why, told });
    }
    let Some(majority) = outvoted(own, &others) else { return Ok(()) };
    if config.cluster.config_drift == DriftPolicy::Warn {
        return Ok(());
    }
    let which = differing(comparing, &majority).await;
    if which.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let which = match which {
        Some(options) => options.join(", "),
        None => "which ones could not be asked".to_owned(),
    };
    let why = format!("its options differ from those of {}: {which}", names(majority.iter()));
    let told = format!(
        "UNDERSTUDY_CLUSTER_CONFIG_DRIFT=refuse: this node must not join: {why}; give all nodes the same options"
    );
    Err(Refusal { kind: NoteKind::ConfigDrift, why, told })
}

/// Gives the others who have a say: those who are done with starting, and those who began to before this one.
fn counted<'a>(members: &'a [Member], own: &MemberRecord) -> Vec<&'a MemberRecord> {
    let earlier = |record: &MemberRecord| {
        (record.started_ms, &record.id).cmp(&(own.started_ms, &own.id)) == Ordering::Less
    };
    let living = members.iter().filter(|member| member.live && member.record.id != own.id);
    let records = living.map(|member| &member.record);
    records.filter(|record| record.state != MemberState::Starting || earlier(record)).collect()
}

/// Gives those who know none of this node's keys, if they are more than those who know one.
fn strangers<'a>(own: &MemberRecord, others: &[&'a MemberRecord]) -> Option<Vec<&'a MemberRecord>> {
    if own.secret_keys.is_empty() {
        return None;
    }
    let with_keys = others.iter().filter(|record| !record.secret_keys.is_empty());
    let (friends, strangers): (Vec<&MemberRecord>, Vec<&MemberRecord>) =
        with_keys.copied().partition(|record| knows_one_of(record, own));
    (strangers.len() > friends.len()).then_some(strangers)
}

/// Whether two nodes have a key in common.
pub(super) fn knows_one_of(one: &MemberRecord, other: &MemberRecord) -> bool {
    one.secret_keys.iter().any(|key| other.secret_keys.contains(key))
}

/// Gives the nodes whose options are those of most of the others, unless this node's are as frequent.
fn outvoted(own: &MemberRecord, others: &[&MemberRecord]) -> Option<Vec<NodeId>> {
    let mut by_hash: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for record in others.iter().filter(|record| !record.config_hash.is_empty()) {
        by_hash.entry(&record.config_hash).or_default().push(record.id.clone());
    }
    let agreeing = by_hash.get(own.config_hash.as_str()).map_or(0, Vec::len);
    let majority = by_hash.into_values().max_by_key(Vec::len)?;
    (majority.len() > agreeing).then_some(majority)
}

/// Asks the majority in which options it differs; nothing when nobody answers.
async fn differing(options: &Comparing, majority: &[NodeId]) -> Option<Vec<String>> {
    let begun = Instant::now();
    while begun.elapsed() < ASK_LIMIT {
        for node in majority {
            if let Ok(theirs) = options.of(node).await {
                let both = [("this", options.here()), ("other", theirs)];
                let both = both.map(|(name, options)| (name.to_owned(), options));
                let found = differences(&BTreeMap::from(both));
                return Some(found.into_iter().map(|difference| difference.option).collect());
            }
        }
        sleep(ASK_EVERY).await;
    }
    None
}

/// Tells the others, and leaves nothing that they would have to wait for.
async fn leave(node: &NodeContext, note: &Note) {
    let farewell = async {
        node.membership.leave_note(note).await;
        node.lease.release().await;
        node.membership.leave().await;
    };
    if timeout(FAREWELL, Box::pin(farewell)).await.is_err() {
        tracing::info!("what this node leaves in Redis runs out by itself");
    }
}

/// Names nodes, a few of them at most.
fn names<'a>(nodes: impl ExactSizeIterator<Item = &'a NodeId>) -> String {
    let more = nodes.len().saturating_sub(NAMED);
    let named: Vec<&str> = nodes.take(NAMED).map(|node| node.name().as_str()).collect();
    let named = named.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Incarnation;
    use crate::membership::record_for_test;

    fn record(name: &str, keys: &[&str], hash: &str) -> MemberRecord {
        let id = NodeId::new(name.parse().unwrap(), Incarnation::from_u64(1));
        MemberRecord {
            secret_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            config_hash: hash.to_owned(),
            state: MemberState::Ready,
            ..record_for_test(id)
        }
    }

    fn strange(own: &[&str], others: &[&[&str]]) -> Option<usize> {
        let others: Vec<_> = others.iter().map(|keys| record("o", keys, "")).collect();
        strangers(&record("own", own, ""), &others.iter().collect::<Vec<_>>()).map(|it| it.len())
    }

    #[test]
    fn g5_a_secret_that_most_others_do_not_know_is_refused() {
        assert_eq!(strange(&["k1"], &[]), None, "nobody is there");
        assert_eq!(strange(&["k1"], &[&["k1"], &["k0", "k1"]]), None);
        assert_eq!(strange(&["k2", "k1"], &[&["k1"], &["k1"]]), None, "a rotation");
        assert_eq!(strange(&["k2"], &[&["k1"]]), Some(1));
        assert_eq!(strange(&["k2"], &[&["k1"], &["k1"]]), Some(2));
        assert_eq!(strange(&["k1"], &[&["k1"], &["k2"]]), None, "one that got in keeps nobody out");
        assert_eq!(strange(&[], &[&["k1"]]), None, "without keys there is nothing to compare");
        assert_eq!(strange(&["k1"], &[&[]]), None);
    }

    #[test]
    fn g1_other_options_than_most_are_found() {
        let vote = |own: &str, others: &[&str]| {
            let others: Vec<_> = others.iter().map(|hash| record("o", &[], hash)).collect();
            outvoted(&record("own", &[], own), &others.iter().collect::<Vec<_>>())
                .map(|it| it.len())
        };
        assert_eq!(vote("x", &[]), None);
        assert_eq!(vote("x", &["x", "x"]), None);
        assert_eq!(vote("x", &["y"]), Some(1));
        assert_eq!(vote("x", &["y", "x", "y"]), Some(2));
        assert_eq!(vote("x", &["y", "x"]), None, "as many say this as that");
        assert_eq!(vote("x", &[""]), None, "an old program tells nothing");
    }

    #[test]
    fn g1_of_two_that_start_at_once_the_earlier_one_stays() {
        let member = |name: &str, state, started_ms| {
            let record = MemberRecord { state, started_ms, ..record(name, &[], "") };
            Member { record, age_ms: 0, live: true }
        };
        let own = member("b", MemberState::Starting, 100);
        let members = [
            member("a", MemberState::Starting, 99),
            own.clone(),
            member("c", MemberState::Starting, 101),
            member("d", MemberState::Ready, 200),
            Member { live: false, ..member("e", MemberState::Ready, 1) },
        ];
        let found = counted(&members, &own.record);
        let found: Vec<&str> = found.iter().map(|record| record.id.name().as_str()).collect();
        assert_eq!(found, ["a", "d"]);
    }

    #[test]
    fn many_nodes_are_not_all_named() {
        let ids: Vec<_> = (0..7).map(|n| record(&format!("n{n}"), &[], "").id).collect();
        assert_eq!(names(ids[..2].iter()), "n0, n1");
        assert_eq!(names(ids.iter()), "n0, n1, n2, n3, n4 and 2 more");
    }
}
