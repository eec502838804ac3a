//! What the made-up API tells of nodes, of the leader, of options and of people.

use serde_json::{Value, json};

use super::{Asked, HOSTILE, Mood};

const LIVES: [(&str, &str); 3] = [
    ("hamlet", "hamlet#5f0c9a1e77d2b413"),
    ("horatio", "horatio#0a94d7c31b6e28ff"),
    ("ophelia", "ophelia#b7e2118c905d4a36"),
];

/// The id of a node with which life of it.
pub(super) fn life(name: &str) -> &'static str {
    LIVES.iter().find(|(known, _)| *known == name).map_or(LIVES[0].1, |(_, life)| life)
}

pub(super) fn told(asked: &Asked<'_>, now_ms: i64) -> Option<Value> {
    Some(match asked.path {
        "/v1/about" => about(asked.mood, now_ms),
        "/v1/whoami" => {
            json!({ "name": "mary", "role": asked.role, "open": asked.mood == Mood::Open })
        }
        "/v1/nodes" => {
            json!({ "nodes": [node("hamlet", now_ms), node("horatio", now_ms), node("ophelia", now_ms)] })
        }
        "/v1/nodes/hamlet" | "/v1/nodes/horatio" | "/v1/nodes/ophelia" => one(asked.path, now_ms),
        "/v1/nodes/horatio/safe-to-stop" => json!({
            "node": "horatio", "safe": true, "reasons": [],
            "notes": ["Two other nodes serve.", "209 sessions are resident on it and are read again elsewhere."],
        }),
        "/v1/config" => config(),
        "/v1/config/drift" => drift(),
        "/v1/leader" => leader(now_ms),
        "/v1/leader/history" => json!({ "terms": terms(now_ms) }),
        "/v1/cluster/rolling-restart" => json!({ "run": 4_790, "state": "running", "nodes": [
            { "node": "ophelia", "state": "back", "since_ms": now_ms - 61_000 },
            { "node": "horatio", "state": "draining", "since_ms": now_ms - 9_000 },
            { "node": "hamlet", "state": "waiting", "since_ms": now_ms - 120_000 },
        ] }),
        "/v1/problems" => problems(now_ms),
        "/v1/diag" => diag(),
        "/v1/diag/tasks" => doing(now_ms),
        "/v1/migrations" => migrations(now_ms),
        "/v1/settings" => settings(now_ms),
        "/v1/maintenance" => json!({
            "mode": "read_only", "message": "We are moving to a new database until 14:00. You can look at everything.",
            "retry_after_s": 600, "by": "mary", "why": "database move", "at_ms": now_ms - 1_200_000,
            "until_ms": now_ms + 2_400_000, "bypass": true,
            "nodes": { "ophelia": { "mode": "full", "message": "", "by": "john", "why": "disk", "at_ms": now_ms - 90_000 } },
        }),
        "/v1/locks" => json!({ "locks": [
            { "name": "invoices/2026-11", "token": 812, "node": life("hamlet"), "acquired_ms": now_ms - 42_000, "remaining_ms": 18_000 },
            { "name": "import", "token": 3, "node": life("ophelia"), "acquired_ms": now_ms - 3_000, "remaining_ms": 27_000 },
        ] }),
        "/v1/caches" => caches(),
        path if path.starts_with("/v1/files") => return files(path, now_ms),
        "/v1/requests" => requests(),
        "/v1/users/online" => json!({
            "users": [
                { "user": "yorick", "seen_ms": now_ms - 4_000 }, { "user": "a/b", "seen_ms": now_ms - 90_000 },
            ],
            "next": null, "within_s": 300, "total": 2, "guests": 41,
        }),
        "/v1/sessions" | "/v1/sessions/count" => sessions(asked, now_ms),
        path if path.starts_with("/v1/sessions/9f86") => session(0, now_ms),
        "/v1/audit" => audit(now_ms),
        "/v1/tokens" => tokens(now_ms),
        _ => return None,
    })
}

fn files(path: &str, now_ms: i64) -> Option<Value> {
    Some(match path {
        "/v1/files" => json!({ "next": null, "spaces": [
            { "name": "avatars", "files": 1_204, "bytes": 81_204_992 },
            { "name": "annual reports", "files": 1, "bytes": 0 },
        ] }),
        "/v1/files/avatars" => json!({ "space": "avatars", "next": "yorick", "files": [
            { "space": "avatars", "name": "claudius", "content_type": "application/octet-stream", "bytes": 48_211, "sha256": "00", "version": "1", "created_ms": now_ms - 7_200_000,
              "verdict": { "state": "infected", "reason": "Eicar-Test-Signature", "at_ms": now_ms - 7_199_000 } },
            { "space": "avatars", "name": "gertrude", "content_type": "image/png", "bytes": 811, "sha256": "00", "version": "3", "created_ms": now_ms - 90_000,
              "verdict": { "state": "waiting", "reason": "the scanner does not answer", "at_ms": now_ms - 30_000 } },
            { "space": "avatars", "name": "yorick", "content_type": "image/png", "bytes": 3, "sha256": "00", "version": "2", "created_ms": now_ms - 4_000,
              "verdict": { "state": "clean", "reason": null, "at_ms": now_ms - 3_000 } },
        ] }),
        "/v1/files-orphans" => json!({
            "rules": [
                { "space": "avatars", "unused_seconds": 86_400, "sharing": "shared", "max_bytes": null, "max_files": 10_000 },
            ],
            "orphans": [
                { "space": "avatars", "name": "rosencrantz", "bytes": 48_211, "unused_ms": now_ms - 172_800_000 },
            ],
            "next": null,
        }),
        _ => return None,
    })
}

fn about(mood: Mood, now_ms: i64) -> Value {
    let down = mood == Mood::Down;
    let reasons = if down {
        json!([
            { "code": "redis", "detail": "no answer from 10.0.0.5:6379 for 14 s" },
            { "code": "database", "detail": "no connection for 12 s" },
        ])
    } else {
        json!([])
    };
    let health = if mood == Mood::Busy { "degraded" } else { "ready" };
    json!({
        "name": "understudy", "version": "0.1.0", "node": life("hamlet"), "cluster": "elsinore", "pid": 4_211,
        "started_ms": now_ms - 273_600_000, "uptime_seconds": 273_600, "phase": "running", "ready": !down,
        "reasons": reasons, "warnings": [],
        "services": [
            { "name": "sessions", "health": "ready" },
            { "name": "jobs", "health": health, "reason": "the clock of this node is 1.4 s off" },
        ],
    })
}

fn node(name: &str, now_ms: i64) -> Value {
    let (state, version, age, live) = match name {
        "hamlet" => ("ready", "0.1.0", 212, true),
        "horatio" => ("draining", "0.1.0", 640, true),
        _ => ("ready", "0.1.1", 318, true),
    };
    json!({
        "live": live, "age_ms": age, "this": name == "hamlet",
        "record": {
            "id": life(name), "host": format!("{name}.elsinore.dk"), "pid": 4_211, "started_ms": now_ms - 273_600_000,
            "version": version, "public_addr": "10.0.0.11:8080", "admin_addr": "127.0.0.1:9090", "state": state,
            "labels": if name == "ophelia" { json!({ "zone": "b", "disk": "fast" }) } else { json!({ "zone": "a" }) },
            "config_hash": "0c7e9d5512ab4401", "secret_keys": [],
        },
    })
}

fn one(path: &str, now_ms: i64) -> Value {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut told = node(name, now_ms);
    let drained = json!({ "by": "mary", "why": "new disk", "at_ms": now_ms - 340_000 });
    told["node"] = json!(name);
    told["detail"] = json!({
        "phase": "running", "ready": name != "horatio",
        "drained": if name == "horatio" { drained } else { Value::Null },
        "reasons": if name == "horatio" { json!([{ "code": "drained", "detail": "by mary: new disk" }]) } else { json!([]) },
        "services": [
            { "name": "sessions", "health": "ready" }, { "name": "jobs", "health": "degraded", "reason": "the clock of this node is 1.4 s off" },
            { "name": "console", "health": "ready" },
        ],
        "uptime_seconds": 273_600, "rss_bytes": 48_300_000, "open_files": 118, "cpu_seconds": 812, "requests_under_way": 7,
        "redis": { "connected": true, "rtt_ms": 0.4 }, "database": { "up": true },
        "pauses": { "count": 3, "longest_ms": 412, "last_ms": now_ms - 7_200_000 }, "version": "0.1.0", "settings_revision": 14,
    });
    told
}

fn config() -> Value {
    let names = [
        ("UNDERSTUDY_ADMIN_BIND", "127.0.0.1:9090", "environment"),
        ("UNDERSTUDY_ADMIN_TOKEN", "******", "environment"),
        ("UNDERSTUDY_CLUSTER_ENABLED", "true", "environment"),
        ("UNDERSTUDY_CLUSTER_NAME", "elsinore", "file"),
        ("UNDERSTUDY_HTTP_BODY_LIMIT_BYTES", "1048576", "default"),
        (
            "UNDERSTUDY_HTTP_TRUSTED_PROXIES",
            "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
            "default",
        ),
        ("UNDERSTUDY_JOBS_TIMEZONE", "Europe/Copenhagen", "environment"),
        ("UNDERSTUDY_LEADER_TTL_MS", "5000", "default"),
        ("UNDERSTUDY_NODE_ID", "hamlet", "environment"),
        ("UNDERSTUDY_SESSION_IDLE_TIMEOUT_S", "1800", "default"),
    ];
    let options: serde_json::Map<String, Value> =
        names.iter().map(|(name, value, _)| ((*name).to_owned(), json!(value))).collect();
    let sources: serde_json::Map<String, Value> =
        names.iter().map(|(name, _, source)| ((*name).to_owned(), json!(source))).collect();
    json!({ "node": "hamlet", "fingerprint": "0c7e9d5512ab4401", "options": options, "sources": sources,
        "node_local": ["UNDERSTUDY_NODE_ID"] })
}

fn drift() -> Value {
    json!({
        "drift": true, "unreachable": ["horatio"],
        "fingerprints": { "hamlet": "0c7e9d5512ab4401", "horatio": "0c7e9d5512ab4401", "ophelia": "9917aa02c4b0e1f3" },
        "differences": [
            { "option": "UNDERSTUDY_SESSION_IDLE_TIMEOUT_S", "values": { "hamlet": "1800", "horatio": "1800", "ophelia": "900" } },
            { "option": "UNDERSTUDY_SESSION_KEY", "values": { "hamlet": "****** 4f0a91c2", "horatio": "****** 4f0a91c2", "ophelia": "****** 77d01b3e" } },
        ],
    })
}

fn leader(now_ms: i64) -> Value {
    json!({
        "leaderNodeId": "hamlet", "leaderNodeUuid": life("hamlet"), "currentNodeId": "hamlet", "currentNodeUuid": life("hamlet"),
        "leader": true, "epoch": 41, "token": 41, "since_ms": now_ms - 11_040_000, "expires_in_ms": 4_120, "state": "leading",
        "state_since_ms": now_ms - 11_040_000, "eligible": true, "priority": 10, "maintenance": false, "frozen": true,
        "hold_until_ms": null, "trouble": null,
    })
}

fn terms(now_ms: i64) -> Vec<Value> {
    let ends = [
        ("hamlet", 184, None, Some(900), 0),
        ("ophelia", 402, Some("stepped_down"), Some(220), 0),
        ("hamlet", 1_300, Some("superseded"), Some(5_400_000), 2),
        ("horatio", 700, Some("self_fenced"), Some(4_100), 0),
        ("hamlet", 260, Some("resigned"), None, 0),
    ];
    let mut until = now_ms;
    let mut terms = Vec::new();
    for (place, (node, minutes, reason, gap, _)) in ends.into_iter().enumerate() {
        let started = until - minutes * 60_000;
        let ended = reason.map(|_| until);
        terms.push(json!({
            "epoch": 41 - i64::try_from(place).unwrap_or_default(), "node": life(node), "started_ms": started, "seen_ms": until,
            "ended_ms": ended, "reason": reason, "gap_ms": gap,
        }));
        until = started - gap.unwrap_or_default();
    }
    terms
}

fn problems(now_ms: i64) -> Value {
    json!({ "checked_ms": now_ms - 800, "unreachable": ["horatio"], "problems": [
        { "code": "config_drift", "severity": "critical", "node": "ophelia", "since_ms": now_ms - 340_000,
          "text": "ophelia is set up differently: UNDERSTUDY_SESSION_KEY and one more", "fix": "Give it the options of the others and restart it; the page Configuration shows them." },
        { "code": "version_skew", "severity": "warning", "node": null, "since_ms": now_ms - 900_000,
          "text": "Nodes run different versions: 0.1.0 on two, 0.1.1 on one", "fix": "Finish the upgrade, or roll it back." },
        { "code": "clock_offset", "severity": "warning", "node": "hamlet", "since_ms": now_ms - 60_000,
          "text": "The clock of hamlet is 1.4 s ahead of the database's", "fix": "Start chrony or ntpd on its host." },
        { "code": "redis_persistence", "severity": "info", "node": null, "since_ms": now_ms - 86_400_000,
          "text": "Redis writes nothing to disk", "fix": "Set appendonly yes, if sessions should outlive a restart of Redis." },
    ] })
}

fn diag() -> Value {
    let checks = [
        ("redis_version", "Version of Redis", "ok", "7.0.15"),
        (
            "redis_eviction",
            "Eviction policy of Redis",
            "critical",
            "allkeys-lru: sessions vanish when memory is short",
        ),
        ("redis_tls", "TLS to Redis", "warning", "the connection is in the clear"),
        ("database_migrations", "Migrations", "ok", "all 14 are applied"),
        ("database_connections", "Budget of connections", "ok", "30 of 97"),
        ("clock", "Clock", "ok", "4 ms off"),
        (
            "balancer",
            "Public address through the balancer",
            "skipped",
            "UNDERSTUDY_HTTP_EXTERNAL_URL is not set",
        ),
    ];
    let checks: Vec<Value> = checks
        .iter()
        .map(|(code, title, result, text)| {
            json!({ "code": code, "title": title, "result": result, "text": text,
                "fix": "Set maxmemory-policy noeviction in redis.conf.", "took_ms": 3 })
        })
        .collect();
    json!({ "node": "hamlet", "checks": checks, "worst": "critical" })
}

fn doing(now_ms: i64) -> Value {
    json!({
        "node": "hamlet", "at_ms": now_ms,
        "tasks": [
            { "name": "readiness", "state": "runs", "since_ms": now_ms - 273_600_000, "restarts": 0, "last_stop": null },
            { "name": "settings", "state": "waits", "since_ms": now_ms - 800, "restarts": 3,
              "last_stop": { "why": "panicked", "at_ms": now_ms - 800 } },
            { "name": "admin-tokens", "state": "ended", "since_ms": now_ms - 9_000, "restarts": 0,
              "last_stop": { "why": "asked to", "at_ms": now_ms - 9_000 } },
        ],
        "threads": { "count": 2, "alive_tasks": 118, "queued": 4, "busy": [0.12, 0.97] },
        "requests": requests()["requests"], "blocked_workers": 1,
        "work": [
            { "kind": "run", "id": "4812", "of": "nightly-report", "since_ms": now_ms - 64_000 },
            { "kind": "copy", "id": "c-1", "of": "attachments", "since_ms": now_ms - 2_000 },
        ],
        "silent": ["files"],
        "locks": [{ "name": "invoices/2026-11", "token": 812, "trusted_ms": 8_200 }],
        "leases": { "buckets": 64, "held": 64, "shortest_ms": 2_140 },
        "pauses": { "count": 3, "longest_ms": 412, "last_ms": now_ms - 7_200_000 },
    })
}

fn migrations(now_ms: i64) -> Value {
    json!({ "program": "0.1.0", "waits": false, "pending": 1, "migrations": [
        { "name": "runtime_0001_node_leases", "state": "applied", "applied_ms": now_ms - 9_000_000_000_i64, "program": "0.1.0" },
        { "name": "runtime_0005_files", "state": "pending", "applied_ms": null, "program": null },
        { "name": "session_0009_future", "state": "unknown", "applied_ms": now_ms - 60_000, "program": "0.2.0" },
    ] })
}

/// Lines of a log, as events.
pub(super) fn log(mood: Mood) -> String {
    let texts = match mood {
        Mood::Hostile => [HOSTILE, HOSTILE, HOSTILE],
        Mood::Busy | Mood::Empty | Mood::Old | Mood::Down | Mood::Open => [
            "node has started node.id=hamlet#5f0c9a1e77d2b413",
            "a lease was lost: it was not renewed in time duration_ms=3120 | task.run{task.name=lease}",
            "the database cannot be reached",
        ],
    };
    let levels = ["info", "warn", "error"];
    let lines = texts.iter().zip(levels).enumerate().map(|(number, (text, level))| {
        let data = json!({
            "number": number, "at": "2026-11-25T02:30:00.412Z", "level": level,
            "target": "understudy_runtime::lease", "text": text,
        });
        format!("event: line\ndata: {data}\n\n")
    });
    format!("retry: 2000\n: following\n\n{}", lines.collect::<String>())
}

fn settings(now_ms: i64) -> Value {
    json!({ "revision": 14, "settings": [
        { "name": "log_filter", "value": "info,understudy=debug", "default": "info", "by": "mary", "why": "watching a slow job",
          "at_ms": now_ms - 300_000, "until_ms": now_ms + 600_000, "meaning": "What is logged, per module" },
        { "name": "log_tail", "value": "on", "default": "off", "by": "mary", "why": "watching a slow job", "role": "admin",
          "at_ms": now_ms - 300_000, "until_ms": now_ms + 600_000, "meaning": "Whether admins can follow the log lines of nodes from elsewhere" },
        { "name": "retry_after_s", "value": "5", "default": "5", "by": null, "why": null, "at_ms": null, "until_ms": null,
          "meaning": "When clients are told to come back that cannot be served now" },
        { "name": "slow_request_ms", "value": "2000", "default": "2000", "by": null, "why": null, "at_ms": null, "until_ms": null,
          "meaning": "Requests that take longer are logged" },
        { "name": "maintenance", "value": "off", "default": "off", "by": null, "why": null, "at_ms": null, "until_ms": null,
          "role": "operator", "resource": "/v1/maintenance", "meaning": "Whether the public port serves everybody, readers only, or nobody" },
    ] })
}

fn caches() -> Value {
    json!({ "caches": [
        { "region": "prices", "node": "hamlet", "entries": 4_211, "bytes": 3_120_444, "max_bytes": 16_777_216, "memory": 912_004, "redis": 4_019,
          "loaded": 812, "unkept": 3, "stale": 2, "background": { "under_way": 1, "done": 96, "put_off": 4, "failed": 2, "no_room": 0 }, "evicted": 0, "forgotten": 611, "cleared": 1, "trusted": true, "age_ms": 210 },
        { "region": "prices", "node": "ophelia", "entries": 0, "bytes": 0, "max_bytes": 16_777_216, "memory": 0, "redis": 0,
          "loaded": 0, "unkept": 42, "stale": 0, "background": { "under_way": 0, "done": 0, "put_off": 0, "failed": 0, "no_room": 0 }, "evicted": 0, "forgotten": 0, "cleared": 1, "trusted": false, "age_ms": 14_200 },
    ], "unreachable": ["horatio"] })
}

fn requests() -> Value {
    json!({ "node": "hamlet", "requests": [
        { "id": "r-8f2a", "method": "POST", "path": "/api/orders/2211/pay", "age_ms": 8_214, "client": "203.0.113.9" },
        { "id": "r-90bb", "method": "GET", "path": "/reports/yearly?format=pdf&all=true", "age_ms": 1_120, "client": "198.51.100.77" },
    ] })
}

fn sessions(asked: &Asked<'_>, now_ms: i64) -> Value {
    if asked.path.ends_with("count") {
        return json!({ "sessions": 1_204, "named": 387, "anonymous": 785, "children": 32, "users": 311, "residents": { "hamlet": 412, "horatio": 209, "ophelia": 583 } });
    }
    if asked.query.contains("user=nobody") {
        return json!({ "sessions": [], "next": null, "total": 0 });
    }
    let sessions: Vec<Value> = (0..8).map(|number| session(number, now_ms)).collect();
    json!({ "sessions": sessions, "next": "9f86d0818884c7d659a2feaa0c55ad07", "total": 1_204 })
}

fn session(number: i64, now_ms: i64) -> Value {
    let user = ["yorick", "gertrude@elsinore.dk", "", "claudius"]
        [usize::try_from(number % 4).unwrap_or_default()];
    json!({
        "id": format!("9f86d0818884c7d659a2feaa0c55ad{number:02x}"), "user": if user.is_empty() { Value::Null } else { json!(user) },
        "owner": life("hamlet"), "epoch": 3 + number, "created_ms": now_ms - 7_200_000, "changed_ms": now_ms - 4_000 * (number + 1),
        "expires_ms": now_ms + 1_500_000, "bytes": 812 * (number + 1), "version": 17,
        "lease": { "node": life(if number % 3 == 0 { "ophelia" } else { "hamlet" }), "live": number != 5 },
    })
}

fn audit(now_ms: i64) -> Value {
    let entry = |id: i64,
                 (by, role, action): (&str, &str, &str),
                 (outcome, status): (&str, i64),
                 note: Value| {
        json!({ "id": id, "at_ms": now_ms - (920 - id) * 61_000, "by": by, "role": role, "action": action, "method": "POST",
            "path": "/v1/x", "target": "horatio", "outcome": outcome, "status": status, "address": "10.0.0.77",
            "request_id": "01J9ZK3X", "node": life("hamlet"), "note": note })
    };
    json!({ "entries": [
        entry(919, ("mary", "operator", "nodes.drain"), ("done", 200), json!("new disk")),
        entry(918, ("john", "viewer", "jobs.run"), ("refused", 403), Value::Null),
        entry(917, ("mary", "operator", "leader.freeze"), ("done", 200), json!("until the disk is in")),
        entry(916, ("deploy", "operator", "cluster.restart"), ("failed", 503), Value::Null),
        entry(915, ("", "", "whoami.show"), ("refused", 401), Value::Null),
    ], "next": 915 })
}

fn tokens(now_ms: i64) -> Value {
    json!({ "tokens": [
        { "id": "t1", "name": "mary", "role": "admin", "created_ms": now_ms - 86_400_000, "created_by": "ADMIN_TOKEN",
          "expires_ms": now_ms + 2_592_000_000_i64, "used_ms": now_ms - 1_000, "revoked_ms": null },
        { "id": "t2", "name": "grafana", "role": "viewer", "created_ms": now_ms - 9_000_000, "created_by": "mary",
          "expires_ms": null, "used_ms": null, "revoked_ms": null },
        { "id": "t3", "name": "intern", "role": "support", "created_ms": now_ms - 99_000_000, "created_by": "mary",
          "expires_ms": now_ms - 1_000_000, "used_ms": now_ms - 9_000_000, "revoked_ms": null },
        { "id": "t4", "name": "old-deploy", "role": "operator", "created_ms": now_ms - 999_000_000, "created_by": "mary",
          "expires_ms": null, "used_ms": null, "revoked_ms": now_ms - 1_000 },
    ] })
}
