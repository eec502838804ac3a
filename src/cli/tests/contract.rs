//! The verbs are those of the contract: every operation has one, under the words that were agreed on.

use std::collections::BTreeMap;

use super::super::{Kind, Place, verbs};

/// Operation, method and path, words.
const CONTRACT: &[(&str, &str, &str)] = &[
    ("about.show", "GET /v1/about", "about"),
    ("whoami.show", "GET /v1/whoami", "whoami"),
    ("openapi.show", "GET /v1/openapi.json", "openapi"),
    ("events.watch", "GET /v1/events", "watch"),
    ("nodes.list", "GET /v1/nodes", "nodes"),
    ("nodes.show", "GET /v1/nodes/{name}", "node show"),
    ("nodes.drain", "POST /v1/nodes/{name}/drain", "node drain"),
    ("nodes.undrain", "POST /v1/nodes/{name}/undrain", "node undrain"),
    ("nodes.restart", "POST /v1/nodes/{name}/restart", "node restart"),
    ("nodes.safe_to_stop", "GET /v1/nodes/{name}/safe-to-stop", "node safe-to-stop"),
    ("nodes.maintenance_on", "POST /v1/nodes/{name}/maintenance", "node maintenance"),
    ("nodes.maintenance_off", "DELETE /v1/nodes/{name}/maintenance", "node maintenance-off"),
    ("nodes.resume", "POST /v1/nodes/{name}/resume", "node resume"),
    ("config.show", "GET /v1/config", "config show"),
    ("config.drift", "GET /v1/config/drift", "config diff"),
    ("settings.list", "GET /v1/settings", "settings"),
    ("settings.set", "PUT /v1/settings/{name}", "settings set"),
    ("settings.reset", "DELETE /v1/settings/{name}", "settings reset"),
    ("maintenance.show", "GET /v1/maintenance", "maintenance"),
    ("maintenance.set", "PUT /v1/maintenance", "maintenance set"),
    ("maintenance.bypass", "POST /v1/maintenance/bypass", "maintenance bypass"),
    ("problems.list", "GET /v1/problems", "problems"),
    ("diag.run", "GET /v1/diag", "doctor"),
    ("diag.tasks", "GET /v1/diag/tasks", "diag tasks"),
    ("logs.tail", "GET /v1/logs/tail", "log tail"),
    ("migrations.list", "GET /v1/migrations", "migrations"),
    ("migrations.apply", "POST /v1/migrations/apply", "migrate"),
    ("requests.list", "GET /v1/requests", "requests"),
    ("requests.cancel", "DELETE /v1/requests/{id}", "requests cancel"),
    ("actors.list", "GET /v1/actors", "actors"),
    ("actors.slow", "GET /v1/actors/slow", "actors top"),
    ("actors.show", "GET /v1/actors/{type}/{id}", "actors show"),
    ("actors.stop", "POST /v1/actors/{type}/{id}/stop", "actors stop"),
    ("caches.list", "GET /v1/caches", "caches"),
    ("caches.clear_all", "DELETE /v1/caches", "caches clear-all"),
    ("caches.clear", "DELETE /v1/caches/{region}", "caches clear"),
    ("caches.forget", "DELETE /v1/caches/{region}/{key*}", "caches forget"),
    ("audit.list", "GET /v1/audit", "audit"),
    ("tokens.list", "GET /v1/tokens", "token list"),
    ("tokens.create", "POST /v1/tokens", "token create"),
    ("tokens.revoke", "DELETE /v1/tokens/{id}", "token revoke"),
    ("locks.list", "GET /v1/locks", "locks"),
    ("locks.clear", "DELETE /v1/locks/{name*}", "locks clear"),
    ("cluster.restart", "POST /v1/cluster/rolling-restart", "cluster restart"),
    ("cluster.restart_show", "GET /v1/cluster/rolling-restart", "cluster restart-status"),
    ("definitions.export", "GET /v1/definitions", "export"),
    ("definitions.import", "PUT /v1/definitions", "import"),
    ("metrics.show", "GET /metrics", "metrics"),
    ("leader.show", "GET /v1/leader", "leader show"),
    ("leader.history", "GET /v1/leader/history", "leader history"),
    ("leader.step_down", "POST /v1/leader/step-down", "leader step-down"),
    ("leader.drill", "POST /v1/leader/drill", "leader drill"),
    ("leader.freeze", "POST /v1/leader/freeze", "leader freeze"),
    ("leader.unfreeze", "POST /v1/leader/unfreeze", "leader unfreeze"),
    ("jobs.list", "GET /v1/jobs", "jobs"),
    ("jobs.due", "GET /v1/jobs-due", "jobs due"),
    ("jobs.show", "GET /v1/jobs/{name}", "job show"),
    ("jobs.put", "PUT /v1/jobs/{name}", "job put"),
    ("jobs.delete", "DELETE /v1/jobs/{name}", "job delete"),
    ("jobs.pause", "POST /v1/jobs/{name}/pause", "job pause"),
    ("jobs.resume", "POST /v1/jobs/{name}/resume", "job resume"),
    ("jobs.enable", "POST /v1/jobs/{name}/enable", "job enable"),
    ("jobs.disable", "POST /v1/jobs/{name}/disable", "job disable"),
    ("jobs.revert", "POST /v1/jobs/{name}/revert", "job revert"),
    ("jobs.run", "POST /v1/jobs/{name}/run", "job run"),
    ("jobs.backfill", "POST /v1/jobs/{name}/backfill", "job backfill"),
    ("jobs.cancel", "POST /v1/jobs/{name}/cancel", "job cancel"),
    ("jobs.explain", "GET /v1/jobs/{name}/explain", "job explain"),
    ("jobs.preview", "GET /v1/jobs/{name}/preview", "job preview"),
    ("schedules.preview", "POST /v1/jobs/preview", "job preview-schedule"),
    ("runs.list", "GET /v1/runs", "runs"),
    ("tasks.list", "GET /v1/tasks", "tasks"),
    ("runs.show", "GET /v1/runs/{id}", "run show"),
    ("runs.progress", "GET /v1/runs/{id}/progress", "run progress"),
    ("runs.log", "GET /v1/runs/{id}/log", "run log"),
    ("runs.errors", "GET /v1/runs/{id}/errors", "run errors"),
    ("runs.cancel", "POST /v1/runs/{id}/cancel", "run cancel"),
    ("runs.retry", "POST /v1/runs/{id}/retry", "run retry"),
    ("scheduler.show", "GET /v1/scheduler", "scheduler"),
    ("scheduler.pause", "POST /v1/scheduler/pause", "scheduler pause"),
    ("scheduler.resume", "POST /v1/scheduler/resume", "scheduler resume"),
    ("scheduler.jobs_enabled", "PUT /v1/scheduler/jobs-enabled", "scheduler jobs-enabled"),
    ("sessions.list", "GET /v1/sessions", "sessions"),
    ("sessions.count", "GET /v1/sessions/count", "sessions count"),
    ("users.online", "GET /v1/users/online", "sessions online"),
    ("sessions.show", "GET /v1/sessions/{id}", "session show"),
    ("sessions.end", "DELETE /v1/sessions/{id}", "session end"),
    ("sessions.end_others", "DELETE /v1/sessions/{id}/others", "session end-others"),
    ("sessions.end_user", "DELETE /v1/users/{user}/sessions", "sessions end-user"),
    ("sessions.end_all", "POST /v1/sessions/end-all", "sessions end-all"),
    ("files.spaces", "GET /v1/files", "files"),
    ("files.list", "GET /v1/files/{space}", "files list"),
    ("files.show", "GET /v1/files/{space}/{name}", "files show"),
    ("files.delete", "DELETE /v1/files/{space}/{name}", "files delete"),
    ("files.check", "POST /v1/files/{space}/{name}/check", "files check"),
    ("files.put", "PUT /v1/files/{space}/{name}", "files put"),
    ("files.get", "GET /v1/files/{space}/{name}/content", "files get"),
    ("files.verify", "POST /v1/files-verify", "files verify"),
    ("files.orphans", "GET /v1/files-orphans", "files orphans"),
    ("files.keys", "GET /v1/files-keys", "files keys"),
    ("files.gc", "POST /v1/files-orphans/collect", "files gc"),
];

#[test]
fn every_operation_of_the_contract_has_its_verb_and_there_are_no_others() {
    let expected: BTreeMap<&str, (String, &str)> = CONTRACT
        .iter()
        .map(|(id, request, words)| (*id, ((*request).to_owned(), *words)))
        .collect();
    let there: BTreeMap<&str, (String, &str)> = verbs()
        .map(|verb| (verb.operation, (format!("{} {}", verb.method, verb.path), verb.words)))
        .collect();
    assert_eq!(there, expected);
    assert_eq!(verbs().count(), CONTRACT.len(), "no operation has two verbs");
}

#[test]
fn what_is_special_about_a_verb_suits_its_request() {
    use super::super::verb::Manner;
    for verb in verbs::all() {
        let method = match verb.manner {
            Manner::Plain => verb.method,
            Manner::Events
            | Manner::LogTail
            | Manner::RunLog
            | Manner::Doctor
            | Manner::Options
            | Manner::Download => "GET",
            Manner::Waits(_) | Manner::Schedule | Manner::Verify => "POST",
            Manner::Document | Manner::Definition | Manner::Upload => "PUT",
        };
        assert_eq!(verb.method, method, "{}", verb.words);
        assert!(
            verb.asks.is_empty() || verb.method != "GET",
            "{}: looking destroys nothing",
            verb.words
        );
        assert!(verb.pages.is_empty() || verb.method == "GET", "{}", verb.words);
    }
}

#[test]
fn words_are_unique_and_so_are_the_names_within_a_verb() {
    let mut words: Vec<_> = verbs().map(|verb| verb.words).collect();
    words.sort_unstable();
    let all = words.len();
    words.dedup();
    assert_eq!(words.len(), all);
    for verb in verbs() {
        let mut names: Vec<_> = verb.parameters.iter().map(|parameter| parameter.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), verb.parameters.len(), "{}", verb.words);
        for parameter in verb.parameters {
            assert!(
                parameter.place != Place::Body || verb.method != "GET",
                "{}: a GET has no body",
                verb.words
            );
            assert!(
                parameter.kind != Kind::Flag || parameter.place == Place::Query,
                "{}",
                verb.words
            );
        }
    }
}
