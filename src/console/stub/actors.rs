//! What the made-up API tells of actors.

use serde_json::{Value, json};

use super::Asked;

const INSTEAD: &str = "drain the node, or restart it";

pub(super) fn told(asked: &Asked<'_>, now_ms: i64) -> Option<Value> {
    Some(match asked.path {
        "/v1/actors" => json!({
            "actors": actors(), "unreachable": ["banquo"],
            "tasks": [
                { "node": "hamlet", "name": "settings", "running": 1, "restarts": 0 },
                { "node": "horatio", "name": "settings", "running": 1, "restarts": 2 },
                { "node": "hamlet", "name": "problems", "running": 1, "restarts": 0 },
            ],
        }),
        "/v1/actors/slow" => json!({ "slow": slow(now_ms), "unreachable": ["banquo"] }),
        path if path.starts_with("/v1/actors/session/9f86") => json!({
            "type": "session", "id": "9f86d0818884c7d659a2feaa0c55ad00", "node": "hamlet", "unreachable": null,
            "actor": { "owns": true, "version": 17, "epoch": 3, "waiting": 2, "changing": true, "age_ms": 91_000, "idle_ms": 40 },
            "session": {
                "id": "9f86d0818884c7d659a2feaa0c55ad00", "user": "yorick", "owner": "hamlet#5f0c9a1e77d2b413", "epoch": 3,
                "created_ms": now_ms - 7_200_000, "changed_ms": now_ms - 40, "expires_ms": now_ms + 1_500_000, "bytes": 812,
                "version": 17, "lease": { "node": "hamlet#5f0c9a1e77d2b413", "live": true },
            },
        }),
        "/v1/actors/lease/hamlet" => json!({
            "id": "hamlet", "node": "hamlet", "type": "lease", "meaning": "Renews the leases", "live": 1, "waiting": 0,
            "waiting_max": 0, "handled": 81_204, "p50_ms": 0.4, "p99_ms": 3.1, "max_ms": 9.8, "restarts": 0,
            "instead": INSTEAD, "slow": slow(now_ms),
        }),
        _ => return None,
    })
}

fn actors() -> Vec<Value> {
    let one = |(of, meaning): (&str, &str), node: &str, (live, waiting): (i64, i64), p99: f64| {
        json!({
            "type": of, "node": node, "meaning": meaning, "live": live, "waiting": waiting, "waiting_max": waiting / 3,
            "handled": 41_200 + live, "p50_ms": p99 / 4.0, "p99_ms": p99, "max_ms": p99 * 3.0,
            "restarts": live % 2, "instead": if of == "session" { Value::Null } else { json!(INSTEAD) },
        })
    };
    let (lease, session) = (
        ("lease", "Renews the leases"),
        ("session", "Owns one session, or knows the node that does"),
    );
    vec![
        one(lease, "hamlet", (1, 0), 0.8),
        one(lease, "horatio", (1, 0), 14.2),
        one(session, "hamlet", (412, 31), 4.7),
        one(session, "horatio", (209, 0), 1_840.0),
    ]
}

fn slow(now_ms: i64) -> Vec<Value> {
    let one = |(of, message): (&str, &str), node: &str, took: f64, actor: Value| json!({ "type": of, "message": message, "node": node, "took_ms": took, "at_ms": now_ms - 61_000, "actor": actor });
    vec![
        one(("session", "change"), "horatio", 1_903.4, json!("9f86d0818884")),
        one(("bus", "session.forward"), "hamlet", 640.0, Value::Null),
        one(("session", "view"), "hamlet", 88.123, json!("9f86d0818885")),
    ]
}
