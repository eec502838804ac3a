//! The SQL of keeping in the database what is in Redis.

use understudy_runtime::database::Backend;

use super::register::alive;
use super::{STORED, placeholders};

/// How much longer than until its deadline an end is kept, ms: the clocks of Redis and of the database may differ.
const CLOCKS_DIFFER_MS: u64 = 3_600_000;

/// The statements of the archive.
#[derive(Debug)]
pub(in super::super) struct ArchiveStatements {
    /// Keeps a session as it is, unless it was ended or a later version is there. Parameters: locator, all columns of a record,
    /// began, absolute deadline, latest access, public id. Changes one row when it is allowed, and gives its `version`.
    pub(in super::super) put: String,
    /// Keeps that a session was ended, whether it is there or not. Parameters: locator, for how long at least.
    pub(in super::super) end: String,
    /// Parameter: locator. Gives `version` and `revoked_until_ms`.
    pub(in super::super) state: &'static str,
    /// Sessions of a user that live. Parameters: slack, user. Gives `locator` and `created_ms`.
    pub(in super::super) of_user: String,
    /// Sessions that live, by the beginning of a public id. Parameters: slack, the beginning, the end of the range of those. Gives
    /// `locator`.
    pub(in super::super) find: String,
    /// Takes away what has been over for long. Parameters: for how long in ms, limit.
    pub(in super::super) purge: String,
}

impl ArchiveStatements {
    pub(super) fn new(backend: Backend) -> Self {
        let now = backend.now_ms();
        Self {
            put: put(),
            end: end(now),
            state: "SELECT version, revoked_until_ms FROM us_session WHERE locator = $1",
            of_user: format!(
                "SELECT s.locator, s.created_ms FROM us_session s WHERE s.user_name = $2 AND {}",
                alive(backend, "$1")
            ),
            find: format!(
                "SELECT s.locator FROM us_session s WHERE s.public_id >= $2 AND s.public_id < $3 AND {} \
                 ORDER BY s.public_id LIMIT 10",
                alive(backend, "$1")
            ),
            // The clock in a subquery is read once, so that the index can be used.
            purge: format!(
                "DELETE FROM us_session WHERE locator IN (SELECT locator FROM us_session \
                 WHERE ends_ms <= (SELECT {now}) - $1 ORDER BY ends_ms LIMIT $2{})",
                backend.skip_locked()
            ),
        }
    }
}

/// A version that is there already is written again: a claim and an access make no new one.
fn put() -> String {
    let taken = STORED.split(", ").filter(|column| *column != "epoch");
    let taken: Vec<String> = taken.map(|column| format!("{column} = excluded.{column}")).collect();
    format!(
        "INSERT INTO us_session (locator, {STORED}, created_ms, absolute_ms, last_access_ms, public_id) \
         VALUES ({}) ON CONFLICT (locator) DO UPDATE SET {}, created_ms = excluded.created_ms, \
         absolute_ms = excluded.absolute_ms, public_id = excluded.public_id, {}, {} \
         WHERE us_session.revoked_until_ms IS NULL AND (us_session.version < excluded.version \
         OR us_session.version = excluded.version AND us_session.epoch <= excluded.epoch) \
         RETURNING version",
        placeholders(19),
        taken.join(", "),
        greater("epoch"),
        greater("last_access_ms"),
    )
}

/// The secret of a session that was ended is not kept, nor what it held.
fn end(now: &str) -> String {
    format!(
        "INSERT INTO us_session (locator, epoch, version, created_ms, absolute_ms, last_access_ms, idle_ms, secret, \
         attributes, recent, unknown, revoked_until_ms) \
         SELECT $1, 0, 0, t.now_ms, t.now_ms, t.now_ms, 0, '', '{{}}', '{{}}', '{{}}', t.now_ms + $2 \
         FROM (SELECT {now} AS now_ms) t WHERE true \
         ON CONFLICT (locator) DO UPDATE SET revoked_until_ms = CASE \
         WHEN us_session.revoked_until_ms IS NOT NULL THEN us_session.revoked_until_ms \
         WHEN us_session.absolute_ms + {CLOCKS_DIFFER_MS} > excluded.revoked_until_ms \
         THEN us_session.absolute_ms + {CLOCKS_DIFFER_MS} ELSE excluded.revoked_until_ms END, \
         attributes = '{{}}', recent = '{{}}', unknown = '{{}}', secret = '', previous_secret = NULL, \
         previous_until_ms = NULL, user_name = NULL, seal = NULL, owner = NULL, owner_node = NULL"
    )
}

/// The SQL of a column that only grows.
fn greater(column: &str) -> String {
    format!(
        "{column} = CASE WHEN us_session.{column} > excluded.{column} THEN us_session.{column} \
         ELSE excluded.{column} END"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_a_record_is_taken_once() {
        let put = put();
        for column in STORED.split(", ") {
            assert_eq!(put.matches(&format!(" {column} = ")).count(), 1, "{column}: {put}");
        }
        assert!(!put.contains("$20") && put.contains("$19"), "{put}");
    }
}
