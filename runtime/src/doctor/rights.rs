//! Checks of what this node may do at Redis: all that it needs, and not much more.

use std::sync::LazyLock;

use super::redis::{Server, no_answer, setting};
use super::{Check, Outcome, Patient, over};
use crate::redis::{Arg, Redis, RedisError, Script};

/// What nobody needs who keeps sessions in Redis.
const NEEDLESS: [&str; 3] = ["flushall", "config", "keys"];

static PROBE: LazyLock<Script> =
    LazyLock::new(|| Script::even_when_full("doctor.probe", include_str!("probe.lua")));

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "redis_write",
        title: "Redis takes and gives back",
        fix: "the text says what Redis refuses: free memory, let it have its replicas, or give the user the right",
        run: |patient| Box::pin(write(patient)),
    },
    Check {
        code: "redis_acl",
        title: "Rights at Redis",
        fix: "make a user with ~us:* &us:* +@all -@dangerous +info, and with Sentinel also +role",
        run: |patient| Box::pin(rights(patient)),
    },
];

/// Sets, reads and deletes a key of its own with the commands that scripts of the product use.
async fn write(patient: &Patient) -> Outcome {
    let node = patient.node();
    if patient.redis.is_empty() {
        return Outcome::skipped("a node without a cluster has no Redis");
    }
    let mut found = Vec::new();
    for server in &patient.redis {
        let word = format!("{:016x}", rand::random::<u64>());
        let key = node.keys.probe(&node.node_id);
        let args = vec![Arg::from(word.clone())];
        let outcome = match server.redis.call(&PROBE, vec![key], args).await {
            Ok(reply) if reply.as_string().as_deref() == Some(word.as_str()) => {
                Outcome::ok("a key was written, read and deleted")
            }
            Ok(_) => Outcome::critical("what was read is not what was written"),
            Err(error) => Outcome::critical(error.to_string()),
        };
        found.push((server.name, outcome));
    }
    over(found.into_iter())
}

async fn rights(patient: &Patient) -> Outcome {
    if patient.redis.is_empty() {
        return Outcome::skipped("a node without a cluster has no Redis");
    }
    let mut found = Vec::new();
    for server in &patient.redis {
        found.push((server.name, rights_at(server).await));
    }
    over(found.into_iter())
}

/// Nothing dangerous is tried out: the server is asked what the user may, and reading a setting tells whether he may ask.
async fn rights_at(server: &Server) -> Outcome {
    let who = match server.redis.command("ACL", vec!["WHOAMI"]).await {
        Ok(reply) => reply.as_string().unwrap_or_else(|| "default".to_owned()),
        Err(RedisError::Unavailable(_)) => return no_answer(),
        // A server without users, or one that does not tell.
        Err(RedisError::Rejected(_) | RedisError::Protocol(_)) => "this user".to_owned(),
    };
    if setting(&server.redis, "maxmemory").await.is_none() {
        return Outcome::ok(format!("{who} may not change settings"));
    }
    let mut may = vec!["config"];
    for command in NEEDLESS.into_iter().filter(|command| *command != "config") {
        if may_run(&server.redis, &who, command).await {
            may.push(command);
        }
    }
    may.sort_unstable();
    Outcome::warning(format!("{who} may do more than it needs: {}", may.join(", ")))
}

/// Asks the server whether a user may run a command; it is not run. A server that cannot tell counts as yes, since whoever
/// may ask for this may do everything.
async fn may_run(redis: &Redis, who: &str, command: &str) -> bool {
    let mut arguments = vec!["DRYRUN", who, command];
    if command == "keys" {
        arguments.push("us:*");
    }
    match redis.command("ACL", arguments).await {
        Ok(answer) => answer.as_string().is_some_and(|answer| answer == "OK"),
        Err(_) => true,
    }
}
