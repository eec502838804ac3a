//! The SQL of the sweep.

use sea_orm::{Statement, Value};
use understudy_runtime::database::Backend;

use super::placeholders_from;
use crate::store::{EndReason, Estate};

/// The statements whose text does not depend on what is swept.
#[derive(Debug)]
pub(in super::super) struct ExpiryStatements {
    /// Locks sessions and tombstones that are over. Parameters: slack, limit. Gives `locator`.
    pub(in super::super) over: String,
    /// Hands out what is to be told and keeps it. Parameters: for how long, limit. Gives a row of `us_session_expired`.
    pub(in super::super) hand_out: String,
    /// The same, and keeps nothing. Parameter: limit.
    pub(in super::super) hand_out_for_good: String,
    /// Parameter: locator.
    pub(in super::super) acknowledge: &'static str,
    /// Reads what a session held. Parameter: locator.
    pub(in super::super) last_state: &'static str,
}

impl ExpiryStatements {
    pub(super) fn new(backend: Backend) -> Self {
        let now = backend.now_ms();
        Self {
            over: over(backend),
            hand_out: format!(
                "UPDATE us_session_expired SET hand_out_ms = {now} + $1, handed_out = handed_out + 1 \
                 WHERE locator IN ({}) RETURNING {EXPIRED}, handed_out",
                untold(backend, "$2")
            ),
            hand_out_for_good: format!(
                "DELETE FROM us_session_expired WHERE locator IN ({}) \
                 RETURNING {EXPIRED}, handed_out + 1 AS handed_out",
                untold(backend, "$1")
            ),
            acknowledge: "DELETE FROM us_session_expired WHERE locator = $1",
            last_state: "SELECT attributes, seal FROM us_session_expired \
                         WHERE locator = $1 AND attributes IS NOT NULL",
        }
    }
}

/// What there is to tell.
const EXPIRED: &str = "locator, user_name, reason, created_ms, ended_ms";

/// The SQL of finding what is over. The clock in a subquery is read once, so that the index can be used. The index leaves
/// the slack out; what it finds too early is sorted out by the second condition.
fn over(backend: Backend) -> String {
    let now = backend.now_ms();
    format!(
        "SELECT locator FROM us_session \
         WHERE ends_ms <= (SELECT {now}) AND (revoked_until_ms IS NOT NULL OR absolute_ms <= {now} \
         OR last_access_ms + idle_ms + $1 <= {now}) ORDER BY ends_ms LIMIT $2{}",
        backend.skip_locked()
    )
}

/// The SQL of finding what may be handed out, each to one caller.
fn untold(backend: Backend, limit: &str) -> String {
    format!(
        "SELECT locator FROM us_session_expired WHERE hand_out_ms <= {} ORDER BY hand_out_ms \
         LIMIT {limit}{}",
        backend.now_ms(),
        backend.skip_locked()
    )
}

/// What is noted of sessions that are over.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Obituary {
    /// Why they are over, unless they ran out of time.
    pub(in super::super) reason: Option<EndReason>,
    /// Whether what they held is kept.
    pub(in super::super) estate: Estate,
}

impl Obituary {
    /// The SQL of the reason, and of the time of the end.
    fn why_and_when(self) -> [String; 2] {
        if let Some(reason) = self.reason {
            return [format!("'{}'", reason.as_str()), "now_ms".to_owned()];
        }
        let why = "CASE WHEN is_absolute THEN 'absolute' ELSE 'idle' END";
        let when = "CASE WHEN (CASE WHEN is_absolute THEN absolute_ms ELSE idle_until_ms END) > now_ms \
                    THEN now_ms WHEN is_absolute THEN absolute_ms ELSE idle_until_ms END";
        [why.to_owned(), when.to_owned()]
    }

    /// The SQL of what they held, and of the key it is sealed under.
    const fn held(self) -> &'static str {
        match self.estate {
            Estate::Kept => "attributes, seal",
            Estate::Dropped => "NULL, NULL",
        }
    }
}

/// Makes the statement that notes what there is to tell of sessions that are over; [`Expired`] says the same. Of
/// tombstones there is nothing to tell, nor of children.
///
/// [`Expired`]: crate::store::Expired
pub(in super::super) fn note_expired(
    backend: Backend,
    obituary: Obituary,
    slack: Value,
    locators: &[String],
) -> Statement {
    let now = backend.now_ms();
    let ([why, when], held) = (obituary.why_and_when(), obituary.held());
    let sql = format!(
        "INSERT INTO us_session_expired ({EXPIRED}, attributes, seal, hand_out_ms, handed_out) \
         SELECT locator, user_name, {why}, created_ms, {when}, {held}, now_ms, 0 FROM (\
         SELECT o.*, (absolute_ms <= idle_until_ms AND absolute_ms <= now_ms) \
         OR now_ms < last_access_ms + idle_ms AS is_absolute FROM (\
         SELECT s.locator, s.user_name, s.attributes, s.seal, \
         s.created_ms, s.absolute_ms, s.last_access_ms, s.idle_ms, \
         s.last_access_ms + s.idle_ms + $1 AS idle_until_ms, t.now_ms \
         FROM us_session s, (SELECT {now} AS now_ms) t \
         WHERE s.revoked_until_ms IS NULL AND s.unknown NOT LIKE '%\"pa\":%' AND s.locator IN ({})) o) e WHERE true \
         ON CONFLICT (locator) DO NOTHING",
        placeholders_from(2, locators.len())
    );
    backend.statement(&sql, with_locators(vec![slack], locators))
}

/// Makes the statement that removes sessions and tombstones.
pub(in super::super) fn remove(backend: Backend, locators: &[String]) -> Statement {
    let marks = placeholders_from(1, locators.len());
    let sql = format!("DELETE FROM us_session WHERE locator IN ({marks})");
    backend.statement(&sql, with_locators(Vec::new(), locators))
}

pub(super) fn with_locators(mut values: Vec<Value>, locators: &[String]) -> Vec<Value> {
    values.extend(locators.iter().map(|locator| locator.clone().into()));
    values
}
