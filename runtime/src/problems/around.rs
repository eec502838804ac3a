//! What a node sees of the others in the list of nodes. Pure: the same list gives the same findings, in the same words on
//! every node, so that they can be told as one.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Sighting;
use super::admission::knows_one_of;
use crate::finding::{Finding, Severity};
use crate::membership::{Member, MemberRecord, Note, NoteKind};

/// Versions that differ for longer than this are no rolling upgrade any more.
const UPGRADE: Duration = Duration::from_secs(600);
/// A node that is silent for longer is not missed any more.
const MISSED_MS: u64 = 24 * 3_600_000;
/// So many of a kind are named.
pub(super) const NAMED: usize = 5;

/// Finds different versions among living nodes; `since` is how long this node has seen them.
pub(super) fn version_skew(living: &[&MemberRecord], since: Duration) -> Option<Finding> {
    let mut by_version: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in living {
        by_version.entry(&record.version).or_default().push(record.id.name().as_str());
    }
    if by_version.len() < 2 {
        return None;
    }
    let versions = by_version.iter().map(|(version, nodes)| format!("{version} ({})", few(nodes)));
    let versions: Vec<String> = versions.collect();
    let text = format!("nodes of different versions work together: {}", versions.join(", "));
    let severity = if since > UPGRADE { Severity::Warning } else { Severity::Info };
    let fix = "finish the upgrade: restart the nodes of the older version with the newer one";
    Some(Finding::new(severity, "version_skew", text, fix))
}

/// Finds living nodes that cannot read each other's cookies.
pub(super) fn wrong_secret(living: &[&MemberRecord]) -> Option<Finding> {
    let with_keys: Vec<&&MemberRecord> =
        living.iter().filter(|record| !record.secret_keys.is_empty()).collect();
    let mut pairs = Vec::new();
    for (place, one) in with_keys.iter().enumerate() {
        for other in with_keys[place + 1..].iter().filter(|other| !knows_one_of(one, other)) {
            pairs.push(format!("{} and {}", one.id.name().as_str(), other.id.name().as_str()));
        }
    }
    if pairs.is_empty() {
        return None;
    }
    let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
    let text = format!(
        "nodes have no session key in common, so each logs out the users of the other: {}",
        few(&pairs)
    );
    let fix = "give all nodes the same UNDERSTUDY_SESSION_SECRET and restart those that differ";
    Some(Finding::new(Severity::Critical, "wrong_secret", text, fix))
}

/// Finds nodes that fell silent without a farewell.
pub(super) fn lost(members: &[Member], now_ms: u64) -> Vec<Sighting> {
    let silent = members.iter().filter(|member| !member.live && member.age_ms < MISSED_MS);
    let sighting = |member: &Member| {
        let record = &member.record;
        let text = format!(
            "{} (process {} on {}) is silent and has not said that it leaves",
            record.id.name().as_str(),
            record.pid,
            record.host
        );
        let fix = "look why it died or cannot reach Redis, and start it again; it is forgotten after 24 hours";
        Sighting {
            finding: Finding::new(Severity::Warning, "node_lost", text, fix),
            since_ms: Some(now_ms.saturating_sub(member.age_ms)),
        }
    };
    silent.map(sighting).collect()
}

/// Tells of processes that did not get in.
pub(super) fn refused(notes: &[Note]) -> Vec<Sighting> {
    notes.iter().map(refusal).collect()
}

fn refusal(note: &Note) -> Sighting {
    let Note { kind, node, host, pid, why, at_ms } = note;
    let text = format!("process {pid} on {host} was refused as {node} at {}: {why}", utc(*at_ms));
    let finding = match kind {
        NoteKind::DuplicateNode => Finding::new(
            Severity::Warning,
            "duplicate_node",
            text,
            "give every node a name of its own (UNDERSTUDY_NODE_ID), or stop the process that should not run",
        ),
        NoteKind::WrongSecret => Finding::new(
            Severity::Critical,
            "refused_node",
            text,
            "give it the UNDERSTUDY_SESSION_SECRET of the other nodes and start it again",
        ),
        NoteKind::ConfigDrift => Finding::new(
            Severity::Critical,
            "refused_node",
            text,
            "give it the options of the other nodes and start it again; to change an option, stop all nodes first",
        ),
    };
    Sighting { finding, since_ms: Some(*at_ms) }
}

/// Tells that this node's name was taken while it stood still.
pub(super) fn rival(own: &str, rival: &str) -> Finding {
    Finding::new(
        Severity::Critical,
        "duplicate_node",
        format!("the name {own} was taken by {rival} while this process stood still"),
        "stop one of the two, or give every node a name of its own (UNDERSTUDY_NODE_ID)",
    )
}

/// Tells that the log of nodes can be followed from elsewhere, until when by the database's clock.
pub(super) fn log_is_followed(until_ms: Option<i64>) -> Finding {
    let until = until_ms.and_then(|ms| u64::try_from(ms).ok()).map(utc);
    let until = until.map_or_else(String::new, |until| format!(", until {until}"));
    Finding::new(
        Severity::Info,
        "log_followed",
        format!("admins can follow the log of all nodes from elsewhere (log_tail){until}"),
        "it ends by itself; DELETE /v1/settings/log_tail ends it now",
    )
}

/// Names a few, and says how many more there are.
pub(super) fn few(names: &[&str]) -> String {
    let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Writes a time for people, to the second.
pub(super) fn utc(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| format!("{ms} ms"), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Incarnation, NodeId};
    use crate::membership::record_for_test;

    fn record(name: &str, version: &str, keys: &[&str]) -> MemberRecord {
        let id = NodeId::new(name.parse().unwrap(), Incarnation::from_u64(1));
        MemberRecord {
            version: version.to_owned(),
            secret_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            ..record_for_test(id)
        }
    }

    #[test]
    fn h7_different_versions_are_news_first_and_a_warning_later() {
        let nodes =
            [record("a", "1.0.0", &[]), record("b", "1.0.0", &[]), record("c", "1.1.0", &[])];
        let nodes: Vec<&MemberRecord> = nodes.iter().collect();
        assert_eq!(version_skew(&nodes[..2], Duration::ZERO), None);
        let early = version_skew(&nodes, Duration::from_secs(599)).unwrap();
        assert_eq!(early.severity, Severity::Info);
        assert!(early.text.ends_with("1.0.0 (a, b), 1.1.0 (c)"), "{}", early.text);
        let late = version_skew(&nodes, Duration::from_secs(601)).unwrap();
        assert_eq!((late.severity, late.text), (Severity::Warning, early.text), "the words stay");
    }

    #[test]
    fn g5_nodes_without_a_common_key_are_named_in_pairs() {
        let [a, b, c] = [["k1", "k0"], ["k2", "k1"], ["k3", "k2"]];
        let nodes = [record("a", "1", &a), record("b", "1", &b), record("c", "1", &c)];
        let nodes: Vec<&MemberRecord> = nodes.iter().collect();
        assert_eq!(wrong_secret(&nodes[..2]), None);
        let found = wrong_secret(&nodes).unwrap();
        assert!(found.text.ends_with(": a and c"), "{}", found.text);
        let alone = [record("a", "1", &[]), record("b", "1", &["k"])];
        assert_eq!(wrong_secret(&alone.iter().collect::<Vec<_>>()), None);
    }

    #[test]
    fn h7_who_fell_silent_is_missed_for_a_day() {
        let member = |age_ms, live| Member { record: record("a", "1", &[]), age_ms, live };
        assert_eq!(lost(&[member(900, true)], 10_000), []);
        let found = lost(&[member(4_000, false)], 10_000);
        assert_eq!(found[0].since_ms, Some(6_000));
        assert!(found[0].finding.text.contains("a (process 42 on host-1)"));
        assert_eq!(lost(&[member(MISSED_MS, false)], 10_000), []);
    }

    #[test]
    fn u14_that_the_log_can_be_followed_is_told_with_its_end() {
        let text = |until_ms| log_is_followed(until_ms).text.into_owned();
        assert!(
            text(Some(1_000)).ends_with(", until 1970-01-01T00:00:01Z"),
            "{}",
            text(Some(1_000))
        );
        assert!(text(None).ends_with("(log_tail)"), "{}", text(None));
    }

    #[test]
    fn t9_a_refused_process_is_told_with_its_place_and_its_time() {
        let note = Note {
            kind: NoteKind::DuplicateNode,
            node: "web-1".to_owned(),
            host: "h2".to_owned(),
            pid: 7,
            why: "process 42 on h1 has the name and is alive".to_owned(),
            at_ms: 1_767_225_600_999,
        };
        let found = refused(std::slice::from_ref(&note));
        assert_eq!(
            found[0].finding.text,
            "process 7 on h2 was refused as web-1 at 2026-01-01T00:00:00Z: process 42 on h1 has the name and is alive"
        );
        assert_eq!(
            (found[0].finding.code.as_ref(), found[0].since_ms),
            ("duplicate_node", Some(note.at_ms))
        );
        let secret = refused(&[Note { kind: NoteKind::WrongSecret, ..note }]);
        assert_eq!(secret[0].finding.code, "refused_node");
        assert!(secret[0].finding.fix.contains("UNDERSTUDY_SESSION_SECRET"));
    }
}
