//! All codes of problems, what each means and what helps: what `docs/problems.md` is checked against.

/// A kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its code.
    pub code: &'static str,
    /// How bad it is: one word, or two when that depends.
    pub severity: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What helps.
    pub fix: &'static str,
}

/// Returns all kinds that Understudy itself tells of. Services of an application may tell of others.
#[must_use]
pub fn catalogue() -> &'static [Entry] {
    CATALOGUE
}

const fn entry(
    code: &'static str,
    severity: &'static str,
    meaning: &'static str,
    fix: &'static str,
) -> Entry {
    Entry { code, severity, meaning, fix }
}

#[rustfmt::skip] // one line each: this is a table
static CATALOGUE: &[Entry] = &[
    entry("not_ready", "critical", "A node is not ready, so balancers send it nothing. The text has the codes of its reasons.", "`GET /health/ready` on its admin port gives each reason in full."),
    entry("service_degraded", "warning", "A service of a node works, but something about it does not. The text says what.", "Do what the text says; the log of the node says more."),
    entry("check_sick", "critical", "A health check of the application fails (`Node::health`), and so its node is not ready.", "Ask those who wrote the check; the text is its diagnosis."),
    entry("check_degraded", "warning", "A health check of the application says that something is not as it should be; the node stays ready.", "Ask those who wrote the check; the text is its diagnosis."),
    entry("config_warning", "warning", "An option is odd, or has a name from elsewhere.", "Change it as the text says; [configuration](configuration.md) has all options."),
    entry("log_followed", "info", "Admins can follow the log of nodes from elsewhere: the setting `log_tail` is on. The text says until when.", "Nothing: it ends by itself. `DELETE /v1/settings/log_tail` ends it now."),

    entry("config_drift", "warning, critical with `refuse`", "Options that should be the same on all nodes are not. The text has their names and the nodes that go together, never values.", "Give all nodes the same options and restart those that differ. `GET /v1/config/drift` shows the values, secrets by a mark."),
    entry("version_skew", "info, warning after 10 min", "Nodes of different versions work together: an upgrade that is under way, or was left half-way.", "Restart the nodes of the older version with the newer one."),
    entry("wrong_secret", "critical", "Living nodes have no session key in common, so each logs out the users of the other.", "Give all nodes the same `UNDERSTUDY_SESSION_SECRET`; a new one goes in first beside the old one."),
    entry("duplicate_node", "warning, critical when the name was taken from a living node", "A process did not start because a living one has its name: who, from where and when is told for 10 min. Or a node stood still and lost its name to another.", "Give every node a name of its own (`UNDERSTUDY_NODE_ID`), or stop the process that should not run."),
    entry("refused_node", "critical", "A process did not start because its session secret, or with `UNDERSTUDY_CLUSTER_CONFIG_DRIFT=refuse` its options, are not those of the others. Told for 10 min.", "Give it the secret and the options of the others and start it again. To change an option under `refuse`, stop all nodes first."),
    entry("node_lost", "warning", "A node fell silent and has not said that it leaves. Told for 24 h, unless a node of its name comes back.", "Look why it died or cannot reach Redis, and start it again."),
    entry("node_paused", "warning", "A process stood still for longer than half of `UNDERSTUDY_CLUSTER_NODE_TTL_MS`. Told for 10 min.", "Look for memory that is swapped, a processor quota that is used up, or a machine that was suspended."),
    entry("clock_skew", "warning", "The clock of a node and that of Redis or of the database differ by more than 500 ms. Leases do not depend on it; times in logs, in the audit log and of sessions do.", "Let a time server (chrony, systemd-timesyncd) keep the clocks of all machines."),

    entry("redis_away", "critical", "A node is not connected to Redis.", "Start Redis, or mend the network between; nodes connect again by themselves."),
    entry("redis_too_old", "critical", "Redis is older than version 6.", "Use Redis 7 or newer, or Valkey."),
    entry("redis_evicts", "critical", "Redis evicts keys when it is full: sessions would vanish.", "Set `maxmemory-policy` to `noeviction`."),
    entry("redis_forgets", "warning", "Redis keeps nothing on disk and has no replica: a restart loses what neither a living node nor the database holds.", "Set `appendonly` to `yes`, add a replica, or keep sessions in the database as well (`UNDERSTUDY_SESSION_PERSIST`): with `write_through` nothing of them is lost."),
    entry("redis_splits", "warning", "Redis has replicas but acknowledges writes without them: an old primary that is cut off would go on.", "Set `min-replicas-to-write` to 1, and `min-replicas-max-lag` below the time after which Sentinel takes a server for dead."),
    entry("redis_unreplicated", "critical", "The session store acknowledges no change: `UNDERSTUDY_SESSION_DURABILITY` is `replicated`, and Redis has no replica.", "Add a replica, or set `UNDERSTUDY_SESSION_DURABILITY` to `stored`."),

    entry("database_away", "critical", "A node gets no answer from the database.", "Start PostgreSQL, or mend the network between; nodes connect again by themselves."),
    entry("sessions_unsaved", "warning", "Sessions in Redis have not been brought to the database for ten intervals, at least 30 s. With `write_behind` a loss of Redis would cost their latest changes.", "Look at the database, and in the log for sessions that it refuses."),
    entry("database_pools_too_large", "warning", "The pools of all nodes together may open more connections than PostgreSQL has room for.", "Lower `UNDERSTUDY_DATABASE_POOL_MAX`, or raise `max_connections`; the text has the numbers."),
    entry("cache_outbox_stuck", "warning", "What a transaction changed has not been told to the cache for 10 s, so nodes may give its old value. The text names up to three regions that cannot be told.", "Look at Redis and the database: it is told as soon as both answer. `DELETE /v1/caches` empties the cache at once."),
    entry("cache_bridge_lost", "warning", "Tables have the trigger of the cache, and a node cannot listen to it: it looks once a second instead.", "Look whether PostgreSQL has room for connections, and whether a pooler before it lets nobody `LISTEN`; nodes try again by themselves."),

    entry("no_leader", "critical, warning when an operator froze it", "Nobody leads, so no job starts at its due time.", "`GET /v1/leader` says why; let at least one ready node be eligible, and unfreeze the lead."),
    entry("leader_loop", "warning", "The lead changed more than three times within 10 min.", "Look for pauses of nodes, a slow Redis, or a `UNDERSTUDY_LEADER_TTL_MS` that is too short; `GET /v1/leader/history` has the reasons."),
    entry("time_zone_data_differ", "warning", "Nodes have different time zone data, so a new leader may reckon other due times.", "Run the same version on all nodes."),
    entry("handler_missing", "warning", "A job is due soon and no living node has its handler, or the labels that it asks for.", "Start a node that has them, or disable the job."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    fn rows() -> Vec<String> {
        let problems = catalogue().iter().map(|Entry { code, severity, meaning, fix }| {
            format!("| `{code}` | {severity} | {meaning} | {fix} |")
        });
        let checks = crate::doctor::titles().into_iter();
        let checks = checks.map(|(code, title, fix)| format!("| `{code}` | {title} | {fix} |"));
        problems.chain(checks).collect()
    }

    #[test]
    fn h7_the_page_and_the_code_know_the_same_problems_and_checks() {
        let page = std::fs::read_to_string(Path::new(ROOT).join("docs/problems.md")).unwrap();
        let on_page: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let rows = rows();
        for row in &rows {
            assert!(on_page.contains(&row.as_str()), "docs/problems.md lacks the line\n{row}");
        }
        assert_eq!(
            on_page.len(),
            rows.len(),
            "docs/problems.md has lines that the code does not know"
        );
    }

    #[test]
    fn every_code_that_the_code_tells_is_in_the_catalogue_and_the_other_way_round() {
        let known: BTreeSet<&str> = catalogue().iter().map(|entry| entry.code).collect();
        assert_eq!(known.len(), catalogue().len(), "a code stands twice");
        let mut told = BTreeSet::new();
        for folder in ["runtime/src", "session/src", "scheduler/src", "src"] {
            for file in sources(&Path::new(ROOT).join(folder)) {
                let text = std::fs::read_to_string(&file).unwrap();
                // What tests make up stands behind.
                let text = text.split("#[cfg(test)]").next().unwrap_or_default();
                told.extend(codes(text));
            }
        }
        let known: BTreeSet<String> = known.into_iter().map(str::to_owned).collect();
        assert_eq!(told, known);
    }

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| {
                let is_test = path.file_stem().is_some_and(|name| name == "tests");
                match path.extension().is_some_and(|end| end == "rs") {
                    _ if is_test => Vec::new(),
                    true => vec![path],
                    false if path.is_dir() => sources(&path),
                    false => Vec::new(),
                }
            })
            .collect()
    }

    /// Finds the codes in `Finding::new(severity, "code", ...)` and in the `known(...)` of constants.
    fn codes(text: &str) -> Vec<String> {
        let places = ["Finding::new(", "Finding = known("];
        let begins = places
            .iter()
            .flat_map(|place| text.match_indices(place).map(|(at, place)| at + place.len()));
        let code = |begin: usize| {
            let arguments = &text[begin..];
            let (_, rest) = arguments.split_once('"')?;
            let (code, _) = rest.split_once('"')?;
            Some(code.to_owned())
        };
        begins.filter_map(code).collect()
    }
}
