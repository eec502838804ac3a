//! What the console can show and do, as a list that is compared with the API and with the command line.

use std::sync::LazyLock;

use super::deeds::deeds;

/// An operation of the admin API that a page shows the answer of, or that can be asked for from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Action {
    /// The operation of the API, such as `nodes.drain`.
    pub operation: &'static str,
    /// The page, as its path below `/console/`; `overview` is `/console` itself, and `every page` is on all of them.
    pub page: &'static str,
}

/// What pages show.
const SHOWN: &[(&str, &[&str])] = &[
    ("every page", &["whoami.show", "events.watch"]),
    ("overview", &["about.show", "sessions.count"]),
    ("nodes", &["nodes.list", "cluster.restart_show"]),
    ("nodes/{name}", &["nodes.show", "nodes.safe_to_stop"]),
    ("nodes/{name}/config", &["config.show"]),
    ("nodes/{name}/tasks", &["diag.tasks"]),
    ("migrations", &["migrations.list"]),
    ("log", &["logs.tail"]),
    ("config", &["config.drift"]),
    ("leader", &["leader.show", "leader.history"]),
    ("jobs", &["jobs.list", "jobs.due", "scheduler.show"]),
    ("jobs/{name}", &["jobs.show", "jobs.preview", "jobs.explain", "schedules.preview"]),
    ("runs", &["runs.list", "tasks.list"]),
    ("runs/{id}", &["runs.show", "runs.progress", "runs.log", "runs.errors"]),
    ("sessions", &["sessions.list", "users.online"]),
    ("sessions/{id}", &["sessions.show"]),
    ("settings", &["settings.list"]),
    ("maintenance", &["maintenance.show"]),
    ("problems", &["problems.list"]),
    ("problems/doctor", &["diag.run"]),
    ("actors", &["actors.list", "actors.slow", "actors.show"]),
    ("requests", &["requests.list"]),
    ("files", &["files.spaces", "files.list", "files.orphans"]),
    ("locks", &["locks.list"]),
    ("caches", &["caches.list"]),
    ("audit", &["audit.list"]),
    ("tokens", &["tokens.list"]),
];

static ACTIONS: LazyLock<Vec<Action>> = LazyLock::new(|| {
    let shown = SHOWN.iter().flat_map(|(page, operations)| {
        operations.iter().map(|operation| Action { operation, page })
    });
    let done = deeds().map(|deed| Action { operation: deed.id, page: deed.page });
    let mut actions: Vec<Action> = shown.chain(done).collect();
    actions.sort_unstable();
    actions
});

/// Every operation of the admin API that the console shows or asks for, with the page; by operation.
#[must_use]
pub fn actions() -> &'static [Action] {
    &ACTIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_listed_once() {
        for pair in actions().windows(2) {
            assert_ne!(pair[0].operation, pair[1].operation);
        }
    }

    /// Those of the contract that have a page.
    #[test]
    fn what_the_contract_gives_to_the_console_is_there() {
        let contract = "about.show whoami.show events.watch nodes.list nodes.show nodes.drain nodes.undrain \
            nodes.restart nodes.safe_to_stop nodes.maintenance_on nodes.maintenance_off nodes.resume config.show \
            config.drift settings.list settings.set settings.reset maintenance.show maintenance.set \
            maintenance.bypass problems.list diag.run diag.tasks logs.tail migrations.list requests.list requests.cancel audit.list tokens.list \
            tokens.create tokens.revoke locks.list locks.clear cluster.restart cluster.restart_show leader.show \
            leader.history leader.step_down leader.drill leader.freeze leader.unfreeze jobs.list jobs.show \
            jobs.put jobs.delete jobs.pause jobs.resume jobs.enable jobs.disable jobs.revert jobs.run \
            jobs.backfill jobs.cancel jobs.explain jobs.preview schedules.preview jobs.due runs.list tasks.list \
            runs.show runs.progress runs.log runs.errors runs.cancel runs.retry scheduler.show scheduler.pause \
            scheduler.resume scheduler.jobs_enabled sessions.list sessions.count sessions.show sessions.end \
            sessions.end_others sessions.end_user sessions.end_all actors.list actors.slow actors.show actors.stop \
            users.online caches.list caches.clear_all caches.clear caches.forget files.spaces files.list \
            files.delete files.orphans files.gc";
        let mut wanted: Vec<&str> = contract.split_whitespace().collect();
        wanted.sort_unstable();
        let listed: Vec<&str> = actions().iter().map(|action| action.operation).collect();
        assert_eq!(listed, wanted);
    }
}
