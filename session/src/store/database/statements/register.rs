//! The SQL of rolls, pages and counts.

use sea_orm::Statement;
use understudy_runtime::database::Backend;

use super::expiry::with_locators;
use super::placeholders_from;

/// The statements whose text does not depend on what is asked for.
#[derive(Debug)]
pub(in super::super) struct RegisterStatements {
    /// Lets one at a time change the roll of a user; empty where only one writes at all. Parameter: user.
    pub(in super::super) lock: &'static str,
    /// Parameter: user. Gives `locator`, `at_ms`, `progress`, the oldest first.
    pub(in super::super) places: &'static str,
    /// The same, and sessions that are the user's by their record and have no place, because a node of an older version
    /// logged them in.
    pub(in super::super) roll: &'static str,
    /// Gives the session a place, or its place another time. Parameters: user, locator. Gives `at_ms`.
    pub(in super::super) enroll: String,
    /// Parameters: user, locator. Changes one row, unless the place is gone or condemned.
    pub(in super::super) confirm: &'static str,
    /// Condemns a place. Parameters: user, locator.
    pub(in super::super) condemn: &'static str,
    /// Condemns all but one. Parameters: user, the locator that is spared (empty: none).
    pub(in super::super) condemn_all: &'static str,
    /// Strikes a place off. Parameters: user, locator, time, progress.
    pub(in super::super) strike: &'static str,
    /// Reads sessions behind a public id. Parameters: public id, slack, limit. Gives a [`glimpse`].
    pub(in super::super) page: String,
    /// Parameters: the beginning of a public id, the end of the range of those. Gives `locator`.
    pub(in super::super) find: &'static str,
    /// Gives `sessions` and `users`.
    pub(in super::super) count: String,
    /// Reads users by when a session of theirs was used, the latest first. Parameters: slack, since how long ago, when the last
    /// one of the page before was seen, who that was, limit. Gives `user_name` and `seen_ms`.
    pub(in super::super) online: String,
    /// Counts them, and sessions without a user. Parameters: slack, since how long ago. Gives `users` and `guests`.
    pub(in super::super) count_online: String,
    /// Gives `now_ms`.
    pub(in super::super) now: String,
    /// Some sessions without a public id. Gives `locator`.
    pub(in super::super) nameless: &'static str,
    /// Gives a session its public id. Parameters: locator, id.
    pub(in super::super) name: &'static str,
}

impl RegisterStatements {
    pub(super) fn new(backend: Backend) -> Self {
        let now = backend.now_ms();
        Self {
            lock: match backend {
                Backend::Sqlite => "",
                // Held until the transaction ends. Users of the same sum wait for each other, which does no harm.
                Backend::Postgres => {
                    "SELECT pg_advisory_xact_lock(hashtextextended('us_session_user ' || $1, 0))"
                }
            },
            places: "SELECT locator, at_ms, progress FROM us_session_user WHERE user_name = $1 \
                     ORDER BY at_ms, locator",
            roll: "SELECT locator, at_ms, progress FROM us_session_user WHERE user_name = $1 \
                   UNION ALL SELECT s.locator, s.created_ms AS at_ms, 'stands' AS progress \
                   FROM us_session s WHERE s.user_name = $1 AND s.revoked_until_ms IS NULL \
                   AND NOT EXISTS (SELECT 1 FROM us_session_user u \
                   WHERE u.user_name = $1 AND u.locator = s.locator) \
                   ORDER BY at_ms, locator",
            enroll: format!(
                "INSERT INTO us_session_user (user_name, locator, at_ms, progress) \
                 SELECT $1, $2, t.now_ms, 'begun' FROM (SELECT {now} AS now_ms) t WHERE true \
                 ON CONFLICT (user_name, locator) DO UPDATE SET at_ms = excluded.at_ms RETURNING at_ms"
            ),
            confirm: "UPDATE us_session_user SET progress = 'stands' \
                      WHERE user_name = $1 AND locator = $2 AND progress <> 'condemned'",
            condemn: "UPDATE us_session_user SET progress = 'condemned' \
                      WHERE user_name = $1 AND locator = $2",
            condemn_all: "UPDATE us_session_user SET progress = 'condemned' \
                          WHERE user_name = $1 AND locator <> $2",
            strike: "DELETE FROM us_session_user WHERE user_name = $1 AND locator = $2 \
                     AND at_ms = $3 AND progress = $4",
            page: format!(
                "{} WHERE s.public_id > $1 AND {} ORDER BY s.public_id LIMIT $3",
                glimpse(backend),
                alive(backend, "$2")
            ),
            find: "SELECT locator FROM us_session WHERE public_id >= $1 AND public_id < $2 \
                   AND revoked_until_ms IS NULL ORDER BY public_id LIMIT 10",
            count: format!(
                "SELECT count(*) AS sessions, count(user_name) AS named, \
                 count(DISTINCT user_name) AS users FROM us_session s WHERE {}",
                alive(backend, "$1")
            ),
            online: format!(
                "SELECT user_name, seen_ms FROM (\
                 SELECT s.user_name, max(s.last_access_ms) AS seen_ms FROM us_session s \
                 WHERE s.user_name IS NOT NULL AND {} GROUP BY s.user_name) o \
                 WHERE seen_ms < $3 OR (seen_ms = $3 AND user_name > $4) \
                 ORDER BY seen_ms DESC, user_name LIMIT $5",
                used(backend)
            ),
            count_online: format!(
                "SELECT count(DISTINCT s.user_name) AS users, \
                 count(CASE WHEN s.user_name IS NULL AND s.unknown NOT LIKE '%\"pa\":%' THEN 1 END) \
                 AS guests FROM us_session s WHERE {}",
                used(backend)
            ),
            now: format!("SELECT {now} AS now_ms"),
            nameless: "SELECT locator FROM us_session WHERE public_id IS NULL LIMIT 1000",
            name: "UPDATE us_session SET public_id = $2 WHERE locator = $1",
        }
    }
}

/// The condition that a session lives.
pub(super) fn alive(backend: Backend, slack: &str) -> String {
    let now = backend.now_ms();
    format!(
        "s.revoked_until_ms IS NULL AND s.absolute_ms > {now} \
         AND s.last_access_ms + s.idle_ms + {slack} > {now}"
    )
}

/// The condition that a session lives and was used lately. The clock in a subquery is read once, so that the index can be
/// used.
fn used(backend: Backend) -> String {
    let (now, alive) = (backend.now_ms(), alive(backend, "$1"));
    format!("s.last_access_ms >= (SELECT {now}) - $2 AND {alive}")
}

/// The SQL of what operators see of a session, with the time and the lease of its owner.
fn glimpse(backend: Backend) -> String {
    let bytes = match backend {
        Backend::Sqlite => "length(CAST(s.attributes AS blob))",
        Backend::Postgres => "CAST(octet_length(s.attributes) AS bigint)",
    };
    format!(
        "SELECT s.locator, s.user_name, s.owner, s.epoch, s.version, s.created_ms, s.last_access_ms, \
         s.absolute_ms, s.idle_ms, {bytes} AS bytes, s.public_id, {} AS now_ms, \
         CASE WHEN l.dead THEN NULL ELSE l.deadline_ms END AS lease_ms \
         FROM us_session s LEFT JOIN us_node_lease l ON l.node = s.owner_node",
        backend.now_ms()
    )
}

/// Makes the statement that looks at sessions; those that are over are left out.
pub(in super::super) fn look(
    backend: Backend,
    slack: sea_orm::Value,
    locators: &[String],
) -> Statement {
    let marks = placeholders_from(2, locators.len());
    let (glimpse, alive) = (glimpse(backend), alive(backend, "$1"));
    let sql = format!("{glimpse} WHERE s.locator IN ({marks}) AND {alive}");
    backend.statement(&sql, with_locators(vec![slack], locators))
}

/// Makes the statement that takes sessions that are over off all rolls.
pub(in super::super) fn take_off_rolls(backend: Backend, locators: &[String]) -> Statement {
    let marks = placeholders_from(1, locators.len());
    let sql = format!("DELETE FROM us_session_user WHERE locator IN ({marks})");
    backend.statement(&sql, with_locators(Vec::new(), locators))
}
