//! What the made-up API tells of jobs and their runs.

use serde_json::{Value, json};

use super::Asked;
use super::cluster::life;

pub(super) fn told(asked: &Asked<'_>, now_ms: i64) -> Option<Value> {
    Some(match asked.path {
        "/v1/jobs" => {
            json!({ "jobs": NAMES.map(|name| job(name, now_ms)), "next": "weekly-report" })
        }
        "/v1/jobs-due" => due(now_ms),
        "/v1/scheduler" => scheduler(now_ms),
        "/v1/runs" | "/v1/tasks" => {
            let count = if asked.query.contains("limit=5") && !asked.query.contains("limit=50") {
                5
            } else {
                50
            };
            let runs: Vec<Value> =
                (0..count).map(|number| run(4_812 - number, asked.query, now_ms)).collect();
            json!({ "runs": runs, "next": 4_762 })
        }
        path => return of_one(path, now_ms),
    })
}

fn of_one(path: &str, now_ms: i64) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').skip(2).collect();
    Some(match parts[..] {
        ["jobs", name] if NAMES.contains(&name) => {
            let mut told = job(name, now_ms);
            told["cursors"] = json!([{ "scope": "", "last_fire_ms": now_ms - 60_000, "next_fire_ms": now_ms + 1_000 }]);
            told["runs"] = json!([]);
            told
        }
        ["jobs", _, "preview"] => preview(now_ms),
        ["jobs", name, "explain"] => explained(name, now_ms),
        ["runs", "4812"] => {
            let mut told = run(4_812, "", now_ms);
            told["attempts"] = json!([]);
            told
        }
        ["runs", "4811"] => {
            let mut told = run(4_811, "", now_ms);
            told["params"] = json!({ "to": "gertrude@elsinore.dk", "kind": "reminder" });
            told["attempts"] = json!([attempt(1, now_ms)]);
            told
        }
        ["runs", id, "progress"] => {
            json!({ "run": 4_812, "state": "running", "attempt": 1, "progress": progress(id, now_ms) })
        }
        ["runs", "4812", "errors"] => {
            json!({ "run": 4_812, "state": "running", "error": null, "attempts": [] })
        }
        ["runs", _, "errors"] => {
            json!({ "run": 4_811, "state": "failed", "error": "no route", "attempts": [attempt(1, now_ms), attempt(2, now_ms)] })
        }
        ["runs", id, "log"] => log(id, now_ms),
        _ => return None,
    })
}

const NAMES: [&str; 7] = [
    "cache-warmup",
    "import-orders",
    "nightly-report",
    "purge-carts",
    "send-reminders",
    "sync-stock",
    "weekly-report",
];

/// In words and as it is stored; how the last run ended; whether it is paused, and enabled.
fn history(name: &str) -> (&'static str, Value, &'static str, bool, bool) {
    match name {
        "cache-warmup" => (
            "every 30 s",
            json!({ "kind": "every", "every_ms": 30_000, "anchor_ms": 0 }),
            "completed",
            false,
            true,
        ),
        "import-orders" => (
            "every 5 minutes from 06:00 to 22:59 every day, Europe/Copenhagen",
            json!({ "kind": "cron", "expression": "*/5 6-22 * * *", "time_zone": "Europe/Copenhagen" }),
            "running",
            false,
            true,
        ),
        "nightly-report" => (
            "at 02:30 every day, Europe/Copenhagen",
            json!({ "kind": "cron", "expression": "30 2 * * *", "time_zone": "Europe/Copenhagen" }),
            "failed",
            false,
            true,
        ),
        "purge-carts" => (
            "10 min after the run before has ended",
            json!({ "kind": "after", "delay_ms": 600_000 }),
            "completed",
            true,
            true,
        ),
        "send-reminders" => {
            ("when it is started", json!({ "kind": "manual" }), "retrying", false, true)
        }
        "sync-stock" => (
            "every 15 minutes",
            json!({ "kind": "cron", "expression": "*/15 * * * *" }),
            "lost",
            false,
            false,
        ),
        _ => (
            "at 06:00 on Monday, Europe/Copenhagen",
            json!({ "kind": "cron", "expression": "0 6 * * mon", "time_zone": "Europe/Copenhagen" }),
            "",
            false,
            true,
        ),
    }
}

fn job(name: &str, now_ms: i64) -> Value {
    let (words, schedule, last, paused, enabled) = history(name);
    let pause = json!({ "since_ms": now_ms - 4_000_000, "by": "john", "why": "the shop is closed for stocktaking until Monday" });
    json!({
        "name": name, "words": words, "origin": if name == "sync-stock" { "api" } else { "code" }, "edited": name == "nightly-report", "revision": 7,
        "enabled": enabled, "paused": if paused { pause } else { Value::Null }, "created_ms": now_ms - 9_000_000_000_i64,
        "changed_ms": now_ms - 86_400_000, "changed_by": "mary",
        "last_fire_ms": now_ms - 240_000, "next_fire_ms": if name == "send-reminders" { Value::Null } else { json!(now_ms + 312_000) },
        "last_state": if last.is_empty() { Value::Null } else { json!(last) },
        "spec": {
            "name": name, "handler": name, "description": format!("Does what {name} says, for all shops of the kingdom"), "schedule": schedule,
            "params": null, "placement": "leader", "misfire": { "policy": "fire_once" }, "overlap": { "policy": "skip" },
            "retry": { "retries": 3, "delay_ms": 10_000, "backoff": "exponential", "max_delay_ms": 86_400_000, "jitter_percent": 0 },
            "on_orphan": { "policy": "retry", "max": 3 }, "on_lease_loss": "cancel", "priority": 0, "timeout_ms": 900_000,
            "then": if name == "import-orders" { json!(["sync-stock"]) } else { json!([]) }, "on_failure": "skip", "catch_up_on_resume": false,
        },
    })
}

fn due(now_ms: i64) -> Value {
    let due: Vec<Value> = [
        (9, 0),
        (39, 0),
        (69, 0),
        (312, 1),
        (900, 5),
        (1_800, 3),
        (2_700, 5),
        (3_300, 2),
    ]
    .iter()
    .map(|(seconds, which)| {
        json!({ "job": NAMES[*which], "fire_ms": now_ms + seconds * 1_000, "in_ms": seconds * 1_000,
                "enabled": *which != 5, "paused": *which == 3 })
    })
    .collect();
    json!({ "now_ms": now_ms, "due": due })
}

fn scheduler(now_ms: i64) -> Value {
    let switch = |value: &str| json!({ "value": value, "by": "mary", "why": "stocktaking", "at_ms": now_ms - 600_000 });
    json!({
        "now_ms": now_ms, "leaderless": false, "leaderNodeId": "hamlet", "paused": true,
        "switches": { "pause": switch("paused"), "jobs_enabled": switch("all"), "frozen": switch("frozen") },
        "maintenance": [{ "node": "ophelia", "by": "john", "why": "disk", "at_ms": now_ms - 90_000 }],
        "nodes": [], "tzdb": "2026a", "runs": { "running": 4, "queued": 11, "retrying": 2 },
    })
}

fn run(id: i64, query: &str, now_ms: i64) -> Value {
    let wrong = query.contains("failed%2Cdead");
    let state = match (id, wrong) {
        (4_812, false) => "running",
        (_, true) => ["failed", "dead", "lost"][usize::try_from(id % 3).unwrap_or_default()],
        _ => match id % 13 {
            1 => "failed",
            5 => "skipped",
            8 => "lost",
            _ => "completed",
        },
    };
    let started = now_ms - (4_813 - id) * 300_000 + 240;
    let running = state == "running";
    let took = 4_000 + (id * 7_919) % 41_000;
    json!({
        "id": id, "job": NAMES[usize::try_from(id % 5).unwrap_or_default()], "fire_key": "x", "fire_ms": started - 240 - (id % 7) * 3,
        "cause": if id % 9 == 0 { "manual" } else { "schedule" }, "state": state, "attempt": if state == "failed" { 4 } else { 1 },
        "orphaned": 0, "placement": "leader", "handler": "import-orders", "priority": 0, "epoch": 41,
        "node": if state == "skipped" { Value::Null } else { json!(life(["hamlet", "ophelia"][usize::try_from(id % 2).unwrap_or_default()])) },
        "queued_ms": started - 200, "not_before_ms": started - 240, "started_ms": if state == "skipped" { Value::Null } else { json!(started) },
        "heartbeat_ms": now_ms - 700, "cancel_ms": null, "cancel_by": null,
        "finished_ms": if running { Value::Null } else { json!(started + took) },
        "error": if matches!(state, "failed" | "lost" | "dead") {
            json!("the mail server answered 554: transaction failed, because the recipient's mailbox is full")
        } else { Value::Null },
    })
}

fn attempt(number: i64, now_ms: i64) -> Value {
    json!({ "attempt": number, "node": life("ophelia"), "started_ms": now_ms - 80_000, "ended_ms": now_ms - 70_000,
        "outcome": "failed", "error": "the mail server answered 554: transaction failed\n  caused by: connection reset by peer" })
}

fn progress(id: &str, now_ms: i64) -> Value {
    if id != "4812" {
        return Value::Null;
    }
    json!({ "stages": [
        { "name": "download", "total": 3, "done": 3, "failed": 0, "started_ms": now_ms - 61_000, "ended_ms": now_ms - 52_000 },
        { "name": "check", "done": 1_204, "failed": 0, "started_ms": now_ms - 52_000, "ended_ms": now_ms - 40_000 },
        { "name": "import", "total": 1_204, "done": 611, "failed": 2, "item": "order 2026-11-26/000611", "started_ms": now_ms - 40_000 },
    ] })
}

fn log(id: &str, now_ms: i64) -> Value {
    let texts = [
        "asked for orders since 06:00",
        "1,204 orders",
        "order 17 has no address: left out",
        "database is slow, going on",
        "batch written",
    ];
    let levels = ["debug", "info", "warn", "info", "error"];
    let lines: Vec<Value> = (1..=60)
        .map(|seq: i64| {
            let which = usize::try_from(seq % 5).unwrap_or_default();
            json!({ "attempt": 1, "seq": seq, "at_ms": now_ms - (61 - seq) * 900, "level": levels[which], "line": texts[which] })
        })
        .collect();
    json!({ "run": 4_812, "lines": lines, "next": "1:60", "ended": id != "4812" })
}

pub(super) fn preview(now_ms: i64) -> Value {
    let day = 86_400_000;
    let fires: Vec<Value> = (1..=20)
        .map(|number| {
            let mut fire = json!({ "at_ms": now_ms + number * day, "fire_at": "x", "skipped": number == 4,
                "local": format!("2026-11-{:02}T02:30:00+01:00[Europe/Copenhagen]", 10 + number) });
            if number == 4 {
                fire["note"] = json!("clocks go forward at 02:00: skipped");
            }
            fire
        })
        .collect();
    json!({ "words": "at 02:30 every day, Europe/Copenhagen", "zone": "Europe/Copenhagen", "fires": fires })
}

fn explained(name: &str, now_ms: i64) -> Value {
    json!({
        "job": name, "at_ms": now_ms - 3_600_000, "at": "x", "verdict": "decided", "text": "paused: stocktaking (mary)",
        "runs": [], "previous_ms": now_ms - 86_400_000, "next_ms": now_ms + 3_600_000,
        "decisions": [{ "job": name, "from_ms": now_ms - 3_600_000, "to_ms": now_ms - 3_600_000, "fires": 1, "outcome": "paused",
            "reason": "stocktaking", "epoch": 41, "at_ms": now_ms - 3_600_000 }],
        "term": { "epoch": 41, "node": life("hamlet"), "started_ms": now_ms - 11_040_000, "seen_ms": now_ms, "ended_ms": null, "reason": null },
    })
}
