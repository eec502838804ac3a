//! What operations do to a session: works out the next record, the change to send and the answers, without I/O.
//!
//! Many operations become one change (group commit). Nothing here is applied before the store has it: the plan is
//! made on a copy, and [`crate::engine`] publishes the copy once the write is acknowledged.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use subtle::ConstantTimeEq as _;

use crate::record::{Change, Mark, OpId, RecentOps, Record, Seal, SecretHash};
use crate::schema;

#[cfg(test)]
mod tests;

/// How long the text is by which what hangs on a session under one user is told from that of another.
const SCOPE_CHARS: usize = 16;
/// How many operations of other nodes a record lists before the oldest are dropped.
const RECENT: usize = 32;

/// What an operation answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done; nothing to tell.
    Done,
    /// Whether something was there.
    Flag(bool),
    /// The new number.
    Number(i64),
    /// The new length.
    Length(u64),
    /// The attribute is not what the operation needs; nothing was changed.
    Rejected(Rejection),
}

/// Why an operation changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The attribute holds another kind of value, or the number would overflow.
    WrongType,
    /// The attribute is not what the caller saw: run the update again.
    Changed,
    /// The attribute or the session would become too large.
    TooLarge,
    /// The secret of the request opens the session no more (it logged in or out meanwhile).
    StaleSecret,
}

/// One operation on a session, as it may travel to the owner.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Sets an attribute to a JSON text.
    Set {
        /// Attribute.
        name: String,
        /// JSON text.
        value: String,
        /// The newest [schema] of it that whoever asks knows: a value of a newer one is not overwritten. One of
        /// an older version of this program says nothing, and knows the first.
        #[serde(default = "first_schema", skip_serializing_if = "is_first_schema")]
        knows: u32,
    },
    /// Removes an attribute; answers whether it was there.
    Remove {
        /// Attribute.
        name: String,
    },
    /// Adds to an attribute that is an integer (absent: 0); answers the new number.
    Increment {
        /// Attribute.
        name: String,
        /// What to add.
        by: i64,
    },
    /// Appends to an attribute that is an array (absent: empty); answers the new length.
    Append {
        /// Attribute.
        name: String,
        /// JSON text.
        item: String,
    },
    /// Replaces an attribute if it still is what the caller saw, to the letter.
    CompareAndSet {
        /// Attribute.
        name: String,
        /// What the caller saw; `None`: absent.
        seen: Option<String>,
        /// JSON text to set.
        value: String,
    },
    /// Removes all attributes.
    Clear,
    /// Replaces the secret and names the user. The old secret is dead at once (OWASP ASVS 7.2.4).
    Login {
        /// Who.
        user: String,
        /// Hash of the new secret, base64url.
        secret: String,
        /// The session's life starts anew, ms.
        lifetime_ms: u64,
        /// How long it lives without a request from now on, ms; as before when a node of an older version asks. One of an older
        /// version that owns the session passes over this and the next.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idle_ms: Option<u64>,
        /// Whether the cookie outlives the browser.
        #[serde(default)]
        lasting: bool,
    },
    /// Replaces the secret; the old one opens the session a little longer, for requests already on their way.
    Rotate {
        /// Hash of the new secret, base64url.
        secret: String,
        /// How long the old one stays, ms.
        keep_ms: u64,
        /// The user has shown again who they are. An owner of an older version passes over it.
        #[serde(default)]
        authenticates: bool,
    },
}

fn first_schema() -> u32 {
    schema::FIRST
}

fn is_first_schema(version: &u32) -> bool {
    *version == schema::FIRST
}

/// A function that works out an attribute's next JSON text from its present one.
pub type UpdateFn = Box<dyn FnMut(Option<&str>) -> Result<String, Rejection> + Send>;

/// What is asked of the owner in one go.
pub enum Task {
    /// An operation that can travel.
    Op(Op),
    /// An update that runs inside the owning actor; cannot travel.
    Update {
        /// Attribute.
        name: String,
        /// The update.
        update: UpdateFn,
    },
}

impl fmt::Debug for Task {
    /// Shows the kind only: names and values of attributes do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Op(_) => "Op(..)",
            Self::Update { .. } => "Update(..)",
        })
    }
}

/// A task with what is needed to judge it.
#[derive(Debug)]
pub struct Ask {
    /// Hash of the secret that the request presented.
    pub secret: SecretHash,
    /// What to do.
    pub task: Task,
    /// Set when it came from another node, which may have to ask for the answer again.
    pub remote: Option<OpId>,
}

/// Bounds on what a session may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one attribute's JSON text.
    pub attribute_bytes: usize,
    /// Bytes of all names and JSON texts together.
    pub session_bytes: usize,
    /// JSON texts of more bytes are packed in their store, see [`crate::store::sealed`]; 0: none is.
    pub pack_above: usize,
}

impl Limits {
    fn packs(&self, text: &str) -> bool {
        self.pack_above > 0 && text.len() > self.pack_above
    }
}

/// A planned write, or none if nothing changes.
#[derive(Debug)]
pub struct Plan {
    /// Answers, in the order of the asks.
    pub outcomes: Vec<Outcome>,
    /// The change and the record after it; `None` when every operation left the session as it was.
    pub write: Option<(Change, Record)>,
}

/// Works out what `asks`, one after the other, do to `record`; `now_ms` is the store's clock.
pub fn plan(record: &Record, asks: &mut [&mut Ask], limits: &Limits, now_ms: u64) -> Plan {
    let mut draft =
        Draft { after: record.clone(), change: Change::default(), limits, now_ms, dirty: false };
    let version = record.version.saturating_add(1);
    let mut outcomes = Vec::with_capacity(asks.len());
    let mut listed = Vec::new();
    for ask in asks {
        let outcome = draft.run(ask);
        if let Some(id) = ask.remote {
            listed.push((id, version, outcome.clone()));
        }
        outcomes.push(outcome);
    }
    if !draft.dirty {
        return Plan { outcomes, write: None };
    }
    draft.after.version = version;
    draft.list_recent(listed, version);
    draft.choose_form();
    Plan { outcomes, write: Some((draft.change, draft.after)) }
}

/// Says whether `presented` opens the session at `now_ms`, in time that does not depend on how much of it is right.
#[must_use]
pub fn opens(record: &Record, presented: &SecretHash, now_ms: u64) -> bool {
    let current = record.secret.0.ct_eq(&presented.0);
    let previous = record.previous_secret.as_ref().map_or_else(
        || subtle::Choice::from(0),
        |(hash, until)| {
            hash.0.ct_eq(&presented.0) & subtle::Choice::from(u8::from(now_ms < *until))
        },
    );
    bool::from(current | previous)
}

struct Draft<'a> {
    after: Record,
    change: Change,
    limits: &'a Limits,
    now_ms: u64,
    dirty: bool,
}

impl Draft<'_> {
    fn run(&mut self, ask: &mut Ask) -> Outcome {
        if !opens(&self.after, &ask.secret, self.now_ms) {
            return Outcome::Rejected(Rejection::StaleSecret);
        }
        let secret = ask.secret;
        let done = match &mut ask.task {
            Task::Update { name, update } => {
                let next = update(self.after.attributes.get(name.as_str()).map(|text| &**text));
                next.and_then(|text| self.set(name, text)).map(|()| Outcome::Done)
            }
            Task::Op(op) => self.run_op(op, secret),
        };
        done.unwrap_or_else(Outcome::Rejected)
    }

    fn run_op(&mut self, op: &Op, presented: SecretHash) -> Result<Outcome, Rejection> {
        match op {
            Op::Set { name, value, knows } => {
                let present = self.after.attributes.get(name.as_str());
                if present.is_some_and(|text| schema::version_of(text) > *knows) {
                    return Err(Rejection::WrongType); // who asks finds out why
                }
                self.set(name, value.clone()).map(|()| Outcome::Done)
            }
            Op::Remove { name } => Ok(Outcome::Flag(self.remove(name))),
            Op::Increment { name, by } => {
                let number = match self.after.attributes.get(name.as_str()) {
                    Some(text) => text.parse::<i64>().map_err(|_| Rejection::WrongType)?,
                    None => 0,
                };
                let next = number.checked_add(*by).ok_or(Rejection::WrongType)?;
                self.set(name, next.to_string()).map(|()| Outcome::Number(next))
            }
            Op::Append { name, item } => {
                let (text, length) =
                    appended(self.after.attributes.get(name.as_str()).map(|t| &**t), item)?;
                self.set(name, text).map(|()| Outcome::Length(length))
            }
            Op::CompareAndSet { name, seen, value } => {
                if self.after.attributes.get(name.as_str()).map(|text| &**text) != seen.as_deref() {
                    return Err(Rejection::Changed);
                }
                self.set(name, value.clone()).map(|()| Outcome::Done)
            }
            Op::Clear => {
                let names: Vec<Arc<str>> = self.after.attributes.keys().cloned().collect();
                for name in &names {
                    self.remove(name);
                }
                Ok(Outcome::Flag(!names.is_empty()))
            }
            Op::Login { user, secret, lifetime_ms, idle_ms, lasting } => {
                self.login(user, secret, presented)?;
                self.live(*lifetime_ms, *idle_ms, *lasting);
                Ok(Outcome::Done)
            }
            Op::Rotate { secret, keep_ms, authenticates } => {
                self.rotate(secret, self.now_ms.saturating_add(*keep_ms), presented)?;
                if *authenticates {
                    self.mark(Mark::Authenticated, self.now_ms.to_string());
                }
                Ok(Outcome::Done)
            }
        }
    }

    fn set(&mut self, name: &str, text: String) -> Result<(), Rejection> {
        if text.len() > self.limits.attribute_bytes {
            return Err(Rejection::TooLarge);
        }
        let old = self.after.attributes.get(name).map_or(0, |old| old.len() + name.len());
        if size(&self.after) - old + name.len() + text.len() > self.limits.session_bytes {
            return Err(Rejection::TooLarge);
        }
        if self.after.attributes.get(name).is_some_and(|old| **old == *text) {
            return Ok(()); // only changes are written
        }
        let (name, text): (Arc<str>, Arc<str>) = (name.into(), text.into());
        Arc::make_mut(&mut self.after.attributes).insert(Arc::clone(&name), Arc::clone(&text));
        self.change.remove.retain(|removed| *removed != name);
        match self.change.set.iter_mut().find(|(set, _)| *set == name) {
            Some(entry) => entry.1 = text,
            None => self.change.set.push((name, text)),
        }
        self.dirty = true;
        Ok(())
    }

    /// Has all contents go with this change when the store is to have them in another form from then on: as this node writes, or
    /// packed because of the first large value.
    fn choose_form(&mut self) {
        let limits = self.limits;
        let is_large = match self.after.seal {
            Seal::Outdated => self.after.attributes.values().any(|text| limits.packs(text)),
            Seal::Open if self.change.set.iter().any(|(_, text)| limits.packs(text)) => true,
            Seal::Open | Seal::Packed | Seal::Under(_) => return,
        };
        self.after.seal = if is_large { Seal::Packed } else { Seal::Open };
        self.change.seal = Some(self.after.seal.clone());
    }

    fn remove(&mut self, name: &str) -> bool {
        let Some((name, _)) = Arc::make_mut(&mut self.after.attributes).remove_entry(name) else {
            return false;
        };
        self.change.set.retain(|(set, _)| *set != name);
        self.change.remove.push(name);
        self.dirty = true;
        true
    }

    fn login(&mut self, user: &str, secret: &str, presented: SecretHash) -> Result<(), Rejection> {
        self.replace_secret(secret, None, presented)?;
        if self.after.user.as_deref().is_some_and(|before| before != user) {
            let names: Vec<Arc<str>> = self.after.attributes.keys().cloned().collect();
            for name in &names {
                self.remove(name); // what one user kept is not for the next
            }
            // Nor what hangs on the session. No two logins have the same secret, of which this is a part of the hash.
            self.mark(Mark::Scope, secret.chars().take(SCOPE_CHARS).collect());
        }
        let user: Arc<str> = user.into();
        self.after.user = Some(Arc::clone(&user));
        self.change.user = Some(Some(user));
        self.mark(Mark::Authenticated, self.now_ms.to_string());
        Ok(())
    }

    /// Begins a new life of the session.
    fn live(&mut self, lifetime_ms: u64, idle_ms: Option<u64>, lasting: bool) {
        self.after.absolute_ms = self.now_ms.saturating_add(lifetime_ms);
        self.change.absolute_ms = Some(self.after.absolute_ms);
        if let Some(idle_ms) = idle_ms.filter(|idle_ms| *idle_ms != self.after.idle_ms) {
            self.after.idle_ms = idle_ms;
            self.change.idle_ms = Some(idle_ms);
        }
        if lasting != self.after.is_lasting() {
            self.mark(Mark::Lasting, u8::from(lasting).to_string());
        }
    }

    fn mark(&mut self, mark: Mark, text: String) {
        self.after.unknown.insert(mark.field().to_owned(), text.clone());
        self.change.marks.retain(|(other, _)| *other != mark);
        self.change.marks.push((mark, text));
        self.dirty = true;
    }

    fn rotate(
        &mut self,
        secret: &str,
        until_ms: u64,
        presented: SecretHash,
    ) -> Result<(), Rejection> {
        // A time that is over already would be nothing but something to keep.
        let old = Some((self.after.secret, until_ms)).filter(|(_, until)| *until > self.now_ms);
        self.replace_secret(secret, old, presented)
    }

    /// Only a request with the *current* secret may replace it: of two that race, one wins.
    fn replace_secret(
        &mut self,
        secret: &str,
        previous: Option<(SecretHash, u64)>,
        presented: SecretHash,
    ) -> Result<(), Rejection> {
        if presented != self.after.secret {
            return Err(Rejection::StaleSecret);
        }
        let secret = SecretHash::from_text(secret).ok_or(Rejection::WrongType)?;
        self.after.secret = secret;
        self.after.previous_secret = previous;
        self.change.secret = Some(secret);
        self.change.previous_secret = Some(previous);
        self.dirty = true;
        Ok(())
    }

    /// Lists the operations of other nodes, so that whoever takes over knows what became of them. An answer can be under
    /// way for as long as its asker waits, and other nodes write meanwhile.
    fn list_recent(&mut self, listed: Vec<(OpId, u64, Outcome)>, version: u64) {
        let recent = &mut self.after.recent;
        if listed.is_empty() {
            return; // nothing is left out, and nothing has to go: the list need not be sent again
        }
        // Whole versions go, oldest first, and never the last two: a write that lost its answer is one of those.
        let last_two = version.saturating_sub(2);
        while recent.entries.len() > RECENT {
            let Some(oldest) = recent.entries.first().map(|(_, made, _)| *made) else { break };
            if oldest > last_two {
                break;
            }
            recent.entries.retain(|(_, made, _)| *made > oldest);
            recent.since_version = recent.since_version.max(oldest);
        }
        recent.entries.extend(listed);
        self.change.recent = Some(recent.clone());
    }
}

/// Bytes of all names and JSON texts of a session.
#[must_use]
pub fn size(record: &Record) -> usize {
    record.attributes.iter().map(|(name, text)| name.len() + text.len()).sum()
}

impl RecentOps {
    /// Says what became of the operation `id`, sent when its asker knew version `known_version`.
    #[must_use]
    pub fn look_up(&self, id: OpId, known_version: u64) -> Traced {
        if let Some((_, _, outcome)) = self.entries.iter().find(|(listed, _, _)| *listed == id) {
            return Traced::Applied(outcome.clone());
        }
        if self.since_version <= known_version { Traced::NotApplied } else { Traced::Unknown }
    }
}

/// What became of an operation whose answer was lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Traced {
    /// It is in, and this was its answer.
    Applied(Outcome),
    /// It surely is not in.
    NotApplied,
    /// Too much happened since to tell.
    Unknown,
}

/// Adds `item` to the JSON array `present`; gives the new text and length.
fn appended(present: Option<&str>, item: &str) -> Result<(String, u64), Rejection> {
    let Some(present) = present else {
        return Ok((format!("[{item}]"), 1));
    };
    let items: Vec<&RawValue> = serde_json::from_str(present).map_err(|_| Rejection::WrongType)?;
    let Some(open) = present.trim_end().strip_suffix(']') else {
        return Err(Rejection::WrongType);
    };
    let comma = if items.is_empty() { "" } else { "," };
    Ok((format!("{open}{comma}{item}]"), items.len() as u64 + 1))
}
