//! The list of nodes: how it is asked for, and what it says.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::MembershipSpec;
use super::note::Note;
use super::record::{Entry, Member, MemberRecord};
use crate::clock::BootInstant;
use crate::ids::NodeId;
use crate::redis::{Arg, Redis, RedisError, Reply, Script};

static HEARTBEAT: LazyLock<Script> =
    LazyLock::new(|| Script::even_when_full("membership.heartbeat", include_str!("heartbeat.lua")));

static LOOK: LazyLock<Script> =
    LazyLock::new(|| Script::even_when_full("membership.look", include_str!("look.lua")));

/// The list as it was last read.
pub(super) struct View {
    pub(super) read_at: BootInstant,
    /// The server's time of the reading, ms; 0: never.
    pub(super) now_ms: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) members: Arc<Vec<Member>>,
    /// Of processes that did not get in, also those that count no more.
    pub(super) notes: Vec<Note>,
    /// Who has this node's name, if it is somebody else.
    pub(super) rival: Option<String>,
}

impl View {
    pub(super) fn nobody() -> Self {
        Self {
            read_at: BootInstant::default(),
            now_ms: 0,
            entries: Vec::new(),
            members: Arc::default(),
            notes: Vec::new(),
            rival: None,
        }
    }

    /// Whether the list that each other living node knew when it reported is younger than this node's first report.
    /// Judged as of the reading: a list that cannot be read any more makes nobody die.
    pub(super) fn knows_me(&self, joined_ms: u64, ttl: Duration, own: &NodeId) -> bool {
        let dead = |entry: &Entry| self.now_ms.saturating_sub(entry.seen_ms) >= millis(ttl);
        let others = self.entries.iter().filter(|entry| entry.record.id != *own);
        self.now_ms > 0 && others.into_iter().all(|entry| entry.view_ms >= joined_ms || dead(entry))
    }
}

pub(super) fn members(
    entries: &[Entry],
    now_ms: u64,
    elapsed: Duration,
    spec: &MembershipSpec,
    own: &NodeId,
) -> Vec<Member> {
    let ttl_ms = millis(spec.ttl);
    let each = entries.iter().map(|entry| {
        let age_ms = now_ms.saturating_sub(entry.seen_ms) + millis(elapsed);
        let live = age_ms < ttl_ms || entry.record.id == *own;
        Member { record: entry.record.clone(), age_ms, live }
    });
    each.collect()
}

/// The answer to one report.
pub(super) enum Report {
    Listed(View),
    Held(Entry),
}

pub(super) async fn report(
    redis: &Redis,
    key: &str,
    record: &MemberRecord,
    view_ms: u64,
    spec: &MembershipSpec,
) -> Result<Report, RedisError> {
    let json =
        serde_json::to_string(record).map_err(|error| RedisError::Protocol(error.to_string()))?;
    let args = vec![
        Arg::from(record.id.name().as_str()),
        Arg::from(record.id.to_string()),
        Arg::from(millis(spec.ttl).to_string()),
        Arg::from(view_ms.to_string()),
        Arg::from(json),
    ];
    let sent_at = spec.clock.now();
    let reply = redis.call(&HEARTBEAT, vec![key.to_owned()], args).await?;
    read_report(reply, record, sent_at, spec)
        .ok_or_else(|| RedisError::Protocol("the answer of membership.heartbeat".to_owned()))
}

/// Reads who is there but for the lives of this name, without joining; and who holds the name, as
/// `membership.heartbeat` would find it.
pub(super) async fn look(
    redis: &Redis,
    key: &str,
    own: &NodeId,
    ttl: Duration,
) -> Result<(Vec<Member>, Option<Entry>), RedisError> {
    let reply = redis.call(&LOOK, vec![key.to_owned()], Vec::new()).await?;
    let (now_ms, entries) = read_look(reply)
        .ok_or_else(|| RedisError::Protocol("the answer of membership.look".to_owned()))?;
    let age_ms = |entry: &Entry| now_ms.saturating_sub(entry.seen_ms);
    let (same, others): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| entry.record.id.name() == own.name());
    let holds = |entry: &Entry| entry.record.id != *own && age_ms(entry) < millis(ttl);
    let members = others.into_iter().map(|entry| {
        let age_ms = age_ms(&entry);
        Member { record: entry.record, age_ms, live: age_ms < millis(ttl) }
    });
    Ok((members.collect(), same.into_iter().find(holds)))
}

fn read_look(reply: Reply) -> Option<(u64, Vec<Entry>)> {
    let Reply::Array(row) = reply else { return None };
    let [now, list] = <[Reply; 2]>::try_from(row).ok()?;
    let Reply::Array(fields) = list else { return None };
    let values = fields.iter().skip(1).step_by(2).filter_map(Reply::as_str);
    Some((now.as_u64()?, values.filter_map(|value| Entry::parse(&value)).collect()))
}

fn read_report(
    reply: Reply,
    own: &MemberRecord,
    sent_at: BootInstant,
    spec: &MembershipSpec,
) -> Option<Report> {
    let Reply::Array(row) = reply else { return None };
    let [status, now, list] = <[Reply; 3]>::try_from(row).ok()?;
    let now_ms = now.as_u64()?;
    if status.as_str()? == "HELD" {
        return Entry::parse(&list.as_str()?).map(Report::Held);
    }
    let Reply::Array(fields) = list else { return None };
    let values: Vec<_> = fields.iter().skip(1).step_by(2).filter_map(Reply::as_str).collect();
    // An entry of a version that this one cannot read is nobody; it must not keep this node from working.
    let mut entries: Vec<Entry> = values.iter().filter_map(|value| Entry::parse(value)).collect();
    let notes = values.iter().filter_map(|value| Note::parse(value)).collect();
    entries.sort_by(|a, b| a.record.id.cmp(&b.record.id));
    let members = Arc::new(members(&entries, now_ms, Duration::ZERO, spec, &own.id));
    Some(Report::Listed(View { read_at: sent_at, now_ms, entries, members, notes, rival: None }))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
