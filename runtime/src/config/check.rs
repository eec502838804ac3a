//! Rules that more than one option takes part in.

use std::time::Duration;

use super::reader::Reader;
use super::{Config, DatabaseUrl, Durability, PersistMode, StoreKind};

/// Writes down every contradiction between options.
pub(super) fn check(config: &Config, read: &mut Reader) {
    if config.cluster.enabled {
        cluster(config, read);
    } else if config.session.store == StoreKind::Redis {
        // Without leases two such nodes would overwrite each other's sessions.
        read.problem("UNDERSTUDY_SESSION_STORE", "redis needs UNDERSTUDY_CLUSTER_ENABLED=true");
    }
    listeners(config, read);
    sessions(config, read);
    persistence(config, read);
    leases(config, read);
    leader(config, read);
    jobs(config, read);
    drain(config, read);
    pools(config, read);
}

fn cluster(config: &Config, read: &mut Reader) {
    let mut require = |present: bool, name: &str, what: &str| {
        // One that is there and wrong is told as such, not as missing.
        if !present && !read.has_problem(name) {
            read.problem(name, format!("is required with UNDERSTUDY_CLUSTER_ENABLED=true: {what}"));
        }
    };
    require(config.redis.is_some(), "UNDERSTUDY_REDIS_URL", "such as redis://host:6379");
    require(
        matches!(config.database.url, DatabaseUrl::Postgres(_)),
        "UNDERSTUDY_DATABASE_URL",
        "PostgreSQL, such as postgres://user:password@host/name",
    );
    require(
        !config.session.secret.is_empty(),
        "UNDERSTUDY_SESSION_SECRET",
        "the same on every node; `openssl rand -base64 48` makes one",
    );
    require(
        config.http.external_url.is_some(),
        "UNDERSTUDY_HTTP_EXTERNAL_URL",
        "how browsers reach the cluster, such as https://shop.example",
    );
    if config.session.store == StoreKind::Memory {
        read.problem("UNDERSTUDY_SESSION_STORE", "memory cannot be shared; use redis or database");
    }
}

fn listeners(config: &Config, read: &mut Reader) {
    let Some(admin) = config.admin.bind else {
        return;
    };
    if !admin.ip().is_loopback() && config.admin.tokens().next().is_none() {
        read.problem(
            "UNDERSTUDY_ADMIN_TOKEN",
            "is required because UNDERSTUDY_ADMIN_BIND is not a loopback address",
        );
    }
    if admin == config.http.bind && admin.port() != 0 {
        read.problem("UNDERSTUDY_ADMIN_BIND", "must differ from UNDERSTUDY_HTTP_BIND");
    }
    // The same token with two roles would leave open which of them counts.
    let tokens: Vec<_> = config.admin.tokens().collect();
    for (number, (name, token)) in tokens.iter().enumerate() {
        if let Some((other, _)) = tokens[..number].iter().find(|(_, other)| other == token) {
            read.problem(name, format!("must differ from {other}"));
        }
    }
}

fn sessions(config: &Config, read: &mut Reader) {
    let session = &config.session;
    if session.touch > session.idle {
        read.problem(
            "UNDERSTUDY_SESSION_TOUCH_S",
            "must not exceed UNDERSTUDY_SESSION_IDLE_S, or sessions in use would run out",
        );
    }
    if session.idle > session.absolute {
        read.problem(
            "UNDERSTUDY_SESSION_IDLE_S",
            "must not exceed UNDERSTUDY_SESSION_ABSOLUTE_S, the longest life of a session",
        );
    }
    if session.max_attribute_bytes > session.max_bytes {
        read.problem(
            "UNDERSTUDY_SESSION_MAX_ATTRIBUTE_BYTES",
            "must not exceed UNDERSTUDY_SESSION_MAX_BYTES",
        );
    }
    if session.wait >= config.http.request_timeout {
        read.warn(
            "UNDERSTUDY_SESSION_WAIT_MS is not below UNDERSTUDY_HTTP_REQUEST_TIMEOUT_S: \
             a request is given up before its session is free",
        );
    }
    if config.cluster.enabled && session.wait < config.cluster.node_ttl {
        read.warn(
            "UNDERSTUDY_SESSION_WAIT_MS is below UNDERSTUDY_CLUSTER_NODE_TTL_MS: when a node dies, \
             writes to its sessions are answered 503 until its lease is over",
        );
    }
}

/// What is said of sessions in Redis must not be said of others: an operator would think it counts.
fn persistence(config: &Config, read: &mut Reader) {
    const NEEDS_REDIS: &str = "needs UNDERSTUDY_SESSION_STORE=redis; the other stores keep each change where it belongs \
                               before it is acknowledged";
    let persist = &config.session.persist;
    if config.session.store != StoreKind::Redis {
        if persist.mode != PersistMode::Off {
            read.problem("UNDERSTUDY_SESSION_PERSIST", NEEDS_REDIS);
        }
        // Sessions in the database are in the database.
        let is_so = persist.durability == Durability::Database
            && config.session.store == StoreKind::Database;
        if persist.durability != Durability::Stored && !is_so {
            read.problem("UNDERSTUDY_SESSION_DURABILITY", NEEDS_REDIS);
        }
    } else if persist.durability == Durability::Database
        && persist.mode != PersistMode::WriteThrough
    {
        read.problem(
            "UNDERSTUDY_SESSION_DURABILITY",
            "database needs UNDERSTUDY_SESSION_PERSIST=write_through",
        );
    }
}

fn leases(config: &Config, read: &mut Reader) {
    let ttl = config.cluster.node_ttl;
    if config.cluster.heartbeat * 3 > ttl {
        read.problem(
            "UNDERSTUDY_CLUSTER_NODE_TTL_MS",
            "must be at least three times UNDERSTUDY_CLUSTER_HEARTBEAT_MS",
        );
    }
    // A lease is renewed every third of its time and trusted until a margin before its end: a renewal that takes
    // longer than what is between could succeed and still come too late.
    let margin = (ttl / 20).max(Duration::from_millis(200));
    if let Some(redis) = &config.redis
        && redis.command_timeout > (ttl - ttl / 3).saturating_sub(margin)
    {
        read.problem(
            "UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS",
            "is too long for UNDERSTUDY_CLUSTER_NODE_TTL_MS; a third of it leaves room for a second try",
        );
    }
}

fn leader(config: &Config, read: &mut Reader) {
    let leader = &config.leader;
    if leader.renew * 2 >= leader.ttl {
        read.problem(
            "UNDERSTUDY_LEADER_RENEW_MS",
            "must be less than half of UNDERSTUDY_LEADER_TTL_MS, so that one lost renewal costs nothing",
        );
    } else if leader.renew + leader.margin >= leader.ttl {
        read.problem(
            "UNDERSTUDY_LEADER_MARGIN_MS",
            "is too long: with UNDERSTUDY_LEADER_RENEW_MS it must be less than UNDERSTUDY_LEADER_TTL_MS, \
             or the leader would stop before it renews",
        );
    }
    if !config.cluster.enabled && !leader.eligible {
        read.warn(
            "UNDERSTUDY_LEADER_ELIGIBLE=false on a node without a cluster: nobody leads, \
             and no job starts at its due time",
        );
    }
}

fn jobs(config: &Config, read: &mut Reader) {
    let jobs = &config.jobs;
    if jobs.stale_after < jobs.alive * 3 {
        read.problem(
            "UNDERSTUDY_JOBS_STALE_AFTER_MS",
            "must be at least three times UNDERSTUDY_JOBS_ALIVE_MS, or runs that go on would be taken for lost",
        );
    }
    if jobs.misfire_grace < jobs.misfire_after {
        read.problem(
            "UNDERSTUDY_JOBS_MISFIRE_WINDOW_S",
            "must not be below UNDERSTUDY_JOBS_MISFIRE_AFTER_MS, or no missed due time could be made up for",
        );
    }
    if jobs.misfire_after < jobs.tick {
        read.warn(
            "UNDERSTUDY_JOBS_MISFIRE_AFTER_MS is below UNDERSTUDY_JOBS_TICK_MS: \
             a due time can count as missed although nothing is wrong",
        );
    }
}

/// How long an orchestrator lets a node drain is not known here. But a node that waits longer for balancers to look away
/// than it gives requests to finish is surely not meant: most of that time would be gone before it begins to finish.
fn drain(config: &Config, read: &mut Reader) {
    if config.ops.drain_delay > config.ops.drain_timeout {
        read.problem(
            "UNDERSTUDY_OPS_DRAIN_DELAY_MS",
            "must not exceed UNDERSTUDY_OPS_DRAIN_TIMEOUT_MS; lower it to what balancers need to look away, or raise \
             the other to what the slowest request may take",
        );
    }
}

fn pools(config: &Config, read: &mut Reader) {
    if config.database.pool_min > config.database.pool_max {
        read.problem(
            "UNDERSTUDY_DATABASE_POOL_MIN",
            "must not exceed UNDERSTUDY_DATABASE_POOL_MAX",
        );
    }
    if let Some(redis) = &config.redis
        && redis.reconnect_min > redis.reconnect_max
    {
        read.problem(
            "UNDERSTUDY_REDIS_RECONNECT_MIN_MS",
            "must not exceed UNDERSTUDY_REDIS_RECONNECT_MAX_MS",
        );
    }
}
