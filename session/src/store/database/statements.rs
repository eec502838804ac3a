//! The SQL of the store, spelled out once for each backend.
//!
//! The database's clock is read by each statement itself. Conditions say what the rules of the protocol say, so that
//! a statement changes one row when the rules allow the step and none when they do not; which rule it was is found
//! out afterwards, off the fast path.

pub(super) mod archive;
pub(super) mod expiry;
pub(super) mod register;

use sea_orm::{Statement, Value};
use understudy_runtime::database::Backend;

use super::row::{self, COLUMNS};
use crate::record::{Change, KnownKeys, Record};
use crate::store::{StoreError, Write};
use archive::ArchiveStatements;
use expiry::ExpiryStatements;
use register::RegisterStatements;

/// All statements whose text does not depend on what is written.
#[derive(Debug)]
pub(super) struct Statements {
    backend: Backend,
    /// Parameters: locator, all columns of a record, lifetime, public id. Gives `created_ms`.
    pub(super) create: String,
    /// Claims what no other node owns. Parameters: locator, owner, its node, public id, slack. Gives the record, `now_ms`.
    pub(super) claim_free: String,
    /// Looks at a session and the lease of its owner, without locks. Parameter: locator. Gives the record,
    /// `owner_node`, `lease_ms` (null: none) and `now_ms`.
    pub(super) look: String,
    /// Locks a session. Parameter: locator. Gives `owner_node`.
    pub(super) lock_session: String,
    /// Locks a lease. Parameter: node.
    pub(super) lock_lease: String,
    /// Claims whatever stands there. Parameters and columns as of `claim_free`, without the slack.
    pub(super) take: String,
    /// Parameter: locator. Gives the record.
    pub(super) read: String,
    /// Waits for a claim that is under way. Parameter: locator. Gives the record's numbers and `now_ms`.
    pub(super) validate: String,
    /// Parameters: locator, all columns of a record. Changes one row when it is allowed.
    pub(super) restore: String,
    /// Parameters: locator, how long the tombstone stands. Gives `owner`.
    pub(super) revoke: String,
    /// Parameters: locator, owner, epoch. Changes one row when the fence holds.
    pub(super) release: String,
    /// Notes an access, unless the session is over. Parameters: locator, slack.
    pub(super) touch: String,
    /// What the sweep does.
    pub(super) expiry: ExpiryStatements,
    /// Rolls, pages and counts.
    pub(super) register: RegisterStatements,
    /// A second place of sessions that are in Redis.
    pub(super) archive: ArchiveStatements,
}

impl Statements {
    pub(super) fn new(backend: Backend, known: &KnownKeys) -> Self {
        let (now, can_open) = (backend.now_ms(), can_open(known));
        let touched = touched(backend);
        let claim = format!(
            "UPDATE us_session SET owner = $2, owner_node = $3, public_id = $4, epoch = epoch + 1, \
             last_access_ms = {touched} WHERE locator = $1 AND revoked_until_ms IS NULL"
        );
        let claimed = format!("RETURNING {COLUMNS}, {now} AS now_ms");
        Self {
            backend,
            create: format!(
                "INSERT INTO us_session (locator, {STORED}, created_ms, absolute_ms, last_access_ms, public_id) \
                 SELECT {}, t.now_ms, t.now_ms + $16, t.now_ms, $17 FROM (SELECT {now} AS now_ms) t WHERE true \
                 ON CONFLICT (locator) DO NOTHING RETURNING created_ms",
                placeholders(15)
            ),
            claim_free: format!(
                "{claim} AND (owner_node IS NULL OR owner_node IN ($3, '{NOBODY}')) AND {can_open} \
                 AND absolute_ms > {now} AND last_access_ms + idle_ms + $5 > {now} {claimed}"
            ),
            look: look(now),
            lock_session: format!(
                "SELECT owner_node FROM us_session WHERE locator = $1{}",
                backend.for_update()
            ),
            lock_lease: lock_lease(backend),
            take: format!("{claim} {claimed}"),
            read: format!("SELECT {COLUMNS} FROM us_session WHERE locator = $1"),
            validate: format!(
                "SELECT owner, epoch, version, revoked_until_ms, last_access_ms, {now} AS now_ms \
                 FROM us_session WHERE locator = $1{}",
                backend.for_share()
            ),
            restore: format!(
                "UPDATE us_session SET ({STORED}, created_ms, absolute_ms, last_access_ms) = ({}) \
                 WHERE locator = $1 AND revoked_until_ms IS NULL AND owner = $2 AND epoch = $4 AND version < $5",
                placeholders(18).trim_start_matches("$1, ")
            ),
            revoke: format!(
                "UPDATE us_session SET revoked_until_ms = COALESCE(revoked_until_ms, {now} + $2), \
                 attributes = '{{}}', recent = '{{}}', unknown = '{{}}', secret = '', previous_secret = NULL, \
                 previous_until_ms = NULL, user_name = NULL, seal = NULL WHERE locator = $1 RETURNING owner"
            ),
            release: format!(
                "UPDATE us_session SET owner = NULL, \
                 owner_node = CASE WHEN seal IS NULL THEN NULL ELSE '{NOBODY}' END \
                 WHERE locator = $1 AND owner = $2 AND epoch = $3 AND revoked_until_ms IS NULL"
            ),
            touch: format!(
                "UPDATE us_session SET last_access_ms = {now} \
                 WHERE locator = $1 AND revoked_until_ms IS NULL AND last_access_ms < {now} \
                 AND absolute_ms > {now} AND last_access_ms + idle_ms + $2 > {now}"
            ),
            expiry: ExpiryStatements::new(backend),
            register: RegisterStatements::new(backend),
            archive: ArchiveStatements::new(backend),
        }
    }

    /// Makes a statement of one of the texts.
    pub(super) fn with(&self, sql: &str, values: Vec<Value>) -> Statement {
        self.backend.statement(sql, values)
    }

    /// Makes the statement of one fenced write: it changes the row only when nothing speaks against it, and gives
    /// `version` and `now_ms`. Only what the write changes is sent.
    pub(super) fn write(&self, write: &Write<'_>) -> Result<Statement, StoreError> {
        let fence = write.fence;
        let mut values: Vec<Value> = vec![
            write.locator.to_string().into(),
            fence.token.as_str().to_owned().into(),
            row::number(fence.epoch),
            row::number(write.base_version),
            write.op_id.to_text().into(),
        ];
        let mut sets = String::new();
        for (column, value) in changed(write.change, write.after)? {
            values.push(value);
            sets.push_str(&format!(", {column} = ${}", values.len()));
        }
        let now = self.backend.now_ms();
        let sql = format!(
            "UPDATE us_session SET version = version + 1, last_op = $5, last_access_ms = {}{sets} \
             WHERE locator = $1 AND owner = $2 AND epoch = $3 AND version = $4 \
             AND revoked_until_ms IS NULL AND (last_op IS NULL OR last_op <> $5) \
             RETURNING version, {now} AS now_ms",
            touched(self.backend)
        );
        Ok(self.backend.statement(&sql, values))
    }
}

fn look(now: &str) -> String {
    let columns = format!("s.{}", COLUMNS.replace(", ", ", s."));
    format!(
        "SELECT {columns}, s.owner_node, {now} AS now_ms, \
         CASE WHEN l.dead THEN NULL ELSE l.deadline_ms END AS lease_ms \
         FROM us_session s LEFT JOIN us_node_lease l ON l.node = s.owner_node WHERE s.locator = $1"
    )
}

fn lock_lease(backend: Backend) -> String {
    format!("SELECT node FROM us_node_lease WHERE node = $1{}", backend.for_update())
}

/// The columns that the store takes from a record as they are; the order of [`stored_values`].
const STORED: &str = "owner, owner_node, epoch, version, last_op, idle_ms, user_name, secret, previous_secret, \
     previous_until_ms, attributes, recent, unknown, seal";

/// The `owner_node` of a sealed session that nobody owns; no node is called so. See [`super::schema`].
pub(super) const NOBODY: &str = "-";

/// The condition that a session is not sealed, or under one of these keys. Their names need no quoting.
fn can_open(known: &KnownKeys) -> String {
    let names: Vec<String> = known.ids().iter().map(|id| format!("'{id}'")).collect();
    if names.is_empty() {
        return "seal IS NULL".to_owned();
    }
    format!("(seal IS NULL OR seal IN ({}))", names.join(", "))
}

/// Gives the values for [`STORED`].
pub(super) fn stored_values(record: &Record) -> Result<Vec<Value>, StoreError> {
    let [owner, owner_node] = row::owner(record.owner.as_ref());
    let [previous_secret, previous_until_ms] = row::previous(record.previous_secret);
    Ok(vec![
        owner,
        owner_node,
        row::number(record.epoch),
        row::number(record.version),
        record.last_op.map(|op| op.to_text()).into(),
        row::time(record.idle_ms),
        record.user.as_deref().map(str::to_owned).into(),
        record.secret.to_text().into(),
        previous_secret,
        previous_until_ms,
        row::attributes(&record.attributes, &record.seal)?,
        row::json(&record.recent)?.into(),
        row::json(&record.unknown)?.into(),
        row::key(&record.seal),
    ])
}

/// Gives the columns that a change touches, with their values after it.
fn changed(change: &Change, after: &Record) -> Result<Vec<(&'static str, Value)>, StoreError> {
    let mut columns = Vec::new();
    if !change.set.is_empty() || !change.remove.is_empty() || change.seal.is_some() {
        columns.push(("attributes", row::attributes(&after.attributes, &after.seal)?));
    }
    if let Some(seal) = &change.seal {
        columns.push(("seal", row::key(seal)));
    }
    if let Some(user) = &change.user {
        columns.push(("user_name", user.as_deref().map(str::to_owned).into()));
    }
    if let Some(secret) = change.secret {
        columns.push(("secret", secret.to_text().into()));
    }
    if let Some(secret) = change.previous_secret {
        let [text, until] = row::previous(secret);
        columns.extend([("previous_secret", text), ("previous_until_ms", until)]);
    }
    if let Some(absolute_ms) = change.absolute_ms {
        columns.push(("absolute_ms", row::time(absolute_ms)));
    }
    if let Some(idle_ms) = change.idle_ms {
        columns.push(("idle_ms", row::time(idle_ms)));
    }
    if let Some(recent) = &change.recent {
        columns.push(("recent", row::json(recent)?.into()));
    }
    if !change.marks.is_empty() {
        columns.push(("unknown", row::json(&after.unknown)?.into()));
    }
    Ok(columns)
}

/// The SQL of the latest access being now; it never goes back.
fn touched(backend: Backend) -> String {
    let now = backend.now_ms();
    format!("CASE WHEN last_access_ms < {now} THEN {now} ELSE last_access_ms END")
}

/// Gives `$1, $2, ...`.
fn placeholders(count: usize) -> String {
    placeholders_from(1, count)
}

/// Gives so many, beginning with this number.
fn placeholders_from(first: usize, count: usize) -> String {
    let all: Vec<String> = (first..first + count).map(|number| format!("${number}")).collect();
    all.join(", ")
}
