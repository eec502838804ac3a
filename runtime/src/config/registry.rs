//! All variables there are: their names, defaults and meanings, from which the page `docs/configuration.md` is checked.
//!
//! A default that is a plain value is the one the code parses, so it cannot differ from what is written here; those
//! that depend on other things are described in words.

/// What all names begin with.
pub(super) const PREFIX: &str = "UNDERSTUDY_";

/// One option of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// The full name, `UNDERSTUDY_HTTP_BIND`.
    pub name: &'static str,
    /// What holds when it is not set; empty when that is nothing.
    pub default: &'static str,
    /// What it is for.
    pub meaning: &'static str,
    /// Whether it may differ from node to node.
    pub node_local: bool,
    /// Whether its value is never shown, and may be given as a file.
    pub secret: bool,
}

/// Returns all options, in the order of the sections.
#[must_use]
pub fn registry() -> &'static [Variable] {
    VARIABLES
}

/// Finds an option by its full name.
pub(super) fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

const fn shared(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, node_local: false, secret: false }
}

const fn local(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, node_local: true, secret: false }
}

const fn secret(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, node_local: false, secret: true }
}

#[rustfmt::skip] // one line each: this is a table
static VARIABLES: &[Variable] = &[
    local("UNDERSTUDY_NODE_ID", "<hostname>-<port>", "Name of this node, unique in the cluster: 1 to 64 of `A-Z a-z 0-9 . _ -`."),
    local("UNDERSTUDY_NODE_LABELS", "", "What jobs may ask of the node they run on: `key=value,key=value`."),
    local("UNDERSTUDY_DATA_DIR", "./data", "Folder for files of this node, such as the SQLite file of embedded mode; created if missing."),
    local("UNDERSTUDY_WEB_ROOT", "", "Folder with a static web application, served in place of the built-in page."),
    local("UNDERSTUDY_ENV_FILE", "", "File with further variables, `KEY=VALUE` per line; the real environment wins."),

    local("UNDERSTUDY_HTTP_BIND", "0.0.0.0:8080", "Address and port of the public listener."),
    local("UNDERSTUDY_HTTP_WORKERS", "number of CPUs", "Threads that serve requests, 1 to 1024."),
    shared("UNDERSTUDY_HTTP_EXTERNAL_URL", "", "How browsers reach the application, `https://shop.example`. Required in a cluster."),
    shared("UNDERSTUDY_HTTP_HOSTS", "", "Host names answered, comma list without ports; empty answers any."),
    shared("UNDERSTUDY_HTTP_TRUSTED_PROXIES", "", "Addresses or CIDR blocks of proxies whose word on the client's address is taken, comma list."),
    shared("UNDERSTUDY_HTTP_BODY_LIMIT_BYTES", "10485760", "Largest request body."),
    shared("UNDERSTUDY_HTTP_KEEP_ALIVE_S", "75", "How long an idle connection stays open; must exceed the balancer's own limit."),
    shared("UNDERSTUDY_HTTP_REQUEST_TIMEOUT_S", "60", "How long a handler may take."),
    shared("UNDERSTUDY_HTTP_STALLED_READER_MS", "60000", "How long a client may take no byte of an answer before its connection is reset (Linux)."),
    shared("UNDERSTUDY_HTTP_CSRF", "true", "Refuse requests from other sites that could change something."),
    shared("UNDERSTUDY_HTTP_EXPOSE_NODE", "false", "Name the node in each answer, as `X-Understudy-Node`."),

    local("UNDERSTUDY_ADMIN_BIND", "127.0.0.1:9090", "Address and port of the administration listener; `off` for none."),
    secret("UNDERSTUDY_ADMIN_TOKEN", "", "Bearer token that may do everything. Some token is required unless the listener is on loopback."),
    secret("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", "", "Bearer token that may run the nodes."),
    secret("UNDERSTUDY_ADMIN_VIEWER_TOKEN", "", "Bearer token that may look."),
    shared("UNDERSTUDY_ADMIN_AUDIT_DAYS", "400", "How long entries of the audit log are kept, 1 to 36500."),

    shared("UNDERSTUDY_CLUSTER_ENABLED", "false", "Work together with other nodes; else this process is on its own (embedded mode)."),
    shared("UNDERSTUDY_CLUSTER_NAME", "understudy", "Keeps clusters on one Redis apart: 1 to 32 of `a-z 0-9 _ -`."),
    shared("UNDERSTUDY_CLUSTER_HEARTBEAT_MS", "1000", "How often a node reports that it lives."),
    shared("UNDERSTUDY_CLUSTER_NODE_TTL_MS", "3000", "How long a silent node keeps what it owns; at least three heartbeats."),
    shared("UNDERSTUDY_CLUSTER_BROADCAST_TIMEOUT_MS", "5000", "How long a message to all nodes waits for their answers."),
    shared("UNDERSTUDY_CLUSTER_CONFIG_DRIFT", "warn", "What a node does at its start whose options differ from those of the living majority: `warn`, or `refuse` to start."),

    secret("UNDERSTUDY_REDIS_URL", "", "URL, comma list or JSON array, see below. Required in a cluster."),
    shared("UNDERSTUDY_REDIS_MODE", "auto", "`auto`, `standalone`, `sentinel` or `cluster`; `auto` takes it from the URL or asks the server."),
    secret("UNDERSTUDY_REDIS_OPTIONS", "", "JSON object with options named as in ioredis, see below."),
    shared("UNDERSTUDY_REDIS_USERNAME", "", "ACL user."),
    secret("UNDERSTUDY_REDIS_PASSWORD", "", "Password."),
    shared("UNDERSTUDY_REDIS_DB", "0", "Numbered database, 0 to 255; 0 on a Redis Cluster."),
    shared("UNDERSTUDY_REDIS_SENTINEL_NAME", "mymaster", "Name under which the Sentinels know the primary."),
    secret("UNDERSTUDY_REDIS_SENTINEL_PASSWORD", "", "Password of the Sentinels themselves."),
    shared("UNDERSTUDY_REDIS_TLS", "false", "Speak TLS; the same as a `rediss` URL."),
    local("UNDERSTUDY_REDIS_TLS_CA_FILE", "", "PEM file with the authorities to trust; the system's if empty."),
    local("UNDERSTUDY_REDIS_TLS_CERT_FILE", "", "PEM file with this node's certificate."),
    local("UNDERSTUDY_REDIS_TLS_KEY_FILE", "", "PEM file with the key of that certificate."),
    shared("UNDERSTUDY_REDIS_POOL_SIZE", "8", "Connections for data, 1 to 256."),
    shared("UNDERSTUDY_REDIS_CONNECT_TIMEOUT_MS", "1000", "How long one attempt to connect may take."),
    shared("UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS", "500", "How long a command may take; well below the node's time to live. Who needs a session waits 700 ms for a Redis that is away, or a quarter more than this if it is less than 500."),
    shared("UNDERSTUDY_REDIS_RECONNECT_MIN_MS", "100", "First pause between attempts to connect, which never end."),
    shared("UNDERSTUDY_REDIS_RECONNECT_MAX_MS", "5000", "Longest pause between attempts to connect."),

    secret("UNDERSTUDY_DATABASE_URL", "SQLite file in the data folder", "`postgres://user:password@host/name` or `sqlite://path`. PostgreSQL is required in a cluster."),
    shared("UNDERSTUDY_DATABASE_POOL_MAX", "20", "Most connections of one node."),
    shared("UNDERSTUDY_DATABASE_POOL_MIN", "2", "Connections kept open."),
    shared("UNDERSTUDY_DATABASE_ACQUIRE_TIMEOUT_MS", "10000", "How long to wait for a free connection."),
    shared("UNDERSTUDY_DATABASE_IDLE_S", "600", "When an unused connection is closed."),
    shared("UNDERSTUDY_DATABASE_MAX_LIFETIME_S", "1800", "When a connection is replaced."),
    shared("UNDERSTUDY_DATABASE_MIGRATE", "auto", "`auto` brings the schema up to date, `wait` waits until someone has, `off` refuses an old one."),

    shared("UNDERSTUDY_SESSION_STORE", "redis in a cluster, else database", "Where sessions are kept: `redis`, `database` or `memory`."),
    secret("UNDERSTUDY_SESSION_REDIS_URL", "same as UNDERSTUDY_REDIS_URL", "Another Redis for sessions."),
    shared("UNDERSTUDY_SESSION_PERSIST", "off", "Whether sessions in Redis are kept in the database as well: `off`, `write_behind` (a little later) or `write_through` (before a change is acknowledged)."),
    shared("UNDERSTUDY_SESSION_PERSIST_INTERVAL_MS", "2000", "How often what the database does not have yet of sessions is brought there, 50 to 60000."),
    shared("UNDERSTUDY_SESSION_DURABILITY", "stored", "Who must have a change of a session before it is acknowledged: `stored` the store, `replicated` a replica of Redis too, `database` the database too, which takes `write_through`."),
    shared("UNDERSTUDY_SESSION_IDLE_S", "1800", "How long a session lives without a request."),
    shared("UNDERSTUDY_SESSION_ABSOLUTE_S", "43200", "How long a session lives at most."),
    shared("UNDERSTUDY_SESSION_TOUCH_S", "a sixth of UNDERSTUDY_SESSION_IDLE_S", "How often at most a request that changes nothing is written down."),
    shared("UNDERSTUDY_SESSION_LONG_IDLE_S", "604800", "How long a session may live without a request when its login asks for longer."),
    shared("UNDERSTUDY_SESSION_LONG_ABSOLUTE_S", "2592000", "How long a session may live at most when its login asks for longer."),
    shared("UNDERSTUDY_SESSION_COOKIE_NAME", "__Host-usid, or usid where that is not allowed", "Name of the cookie, prefix included."),
    shared("UNDERSTUDY_SESSION_COOKIE_SECURE", "auto", "`true`, `false`, or `auto`: when the external URL is https."),
    shared("UNDERSTUDY_SESSION_COOKIE_SAMESITE", "lax", "`lax`, `strict` or `none`."),
    shared("UNDERSTUDY_SESSION_COOKIE_DOMAIN", "", "Domain of the cookie; none binds it to the very host."),
    shared("UNDERSTUDY_SESSION_COOKIE_PATH", "/", "Path of the cookie."),
    secret("UNDERSTUDY_SESSION_SECRET", "", "Comma list of at least 32 bytes each: the first signs, all verify. Required in a cluster."),
    secret("UNDERSTUDY_SESSION_ENCRYPTION_KEYS", "", "Comma list of `name:key`, 32 bytes in base64 each, that seal the contents of sessions in their store: the first seals, all open; with `plain` in its place nothing more is sealed."),
    shared("UNDERSTUDY_SESSION_MAX_BYTES", "1048576", "Largest session."),
    shared("UNDERSTUDY_SESSION_MAX_ATTRIBUTE_BYTES", "65536", "Largest single value in a session."),
    shared("UNDERSTUDY_SESSION_COMPRESS_ABOVE_BYTES", "0", "Values of more bytes are compressed in their store; 0 for none."),
    shared("UNDERSTUDY_SESSION_MAX_FILE_BYTES", "10485760", "Largest temporary file of a session."),
    shared("UNDERSTUDY_SESSION_MAX_FILES_BYTES", "52428800", "All temporary files of one session together."),
    shared("UNDERSTUDY_SESSION_PASSIVATE_AFTER_MS", "30000", "When an unused session leaves memory."),
    shared("UNDERSTUDY_SESSION_ACTORS_MAX", "100000", "Most sessions in the memory of one node."),
    shared("UNDERSTUDY_SESSION_WAIT_MS", "6000", "How long a write waits for an owner that is silent, before it is answered 503."),
    shared("UNDERSTUDY_SESSION_MOVES_PER_MINUTE", "2", "How often at most one session moves to the node that its requests come to, 0 to 600; 0 for never."),
    shared("UNDERSTUDY_SESSION_AFFINITY_COOKIE", "", "Name of a second cookie that tells balancers which node owns the session; none is set without."),
    shared("UNDERSTUDY_SESSION_MAX_PER_USER", "0", "Most sessions of one user; 0 for any number."),
    shared("UNDERSTUDY_SESSION_MAX_POLICY", "oldest", "What happens to a login beyond that: `oldest` ends the session that logged in longest ago, `reject` refuses the login, `notify` tells the application."),
    shared("UNDERSTUDY_SESSION_LOCKOUT_ATTEMPTS", "5", "How often a user may fail to log in from one address, where the application asks the lockout; 0 for any number."),
    shared("UNDERSTUDY_SESSION_LOCKOUT_S", "900", "For how long failures to log in are counted, and a user is locked out after too many."),

    local("UNDERSTUDY_LEADER_ELIGIBLE", "true", "Whether this node may lead."),
    local("UNDERSTUDY_LEADER_PRIORITY", "0", "Of several nodes that want to lead, the highest does: 0 to 1000. Takes nothing from a living leader."),
    shared("UNDERSTUDY_LEADER_TTL_MS", "5000", "How long a silent leader keeps its place, 1000 to 300000."),
    shared("UNDERSTUDY_LEADER_RENEW_MS", "a third of UNDERSTUDY_LEADER_TTL_MS", "How often the leader renews; less than half of the time to live."),
    shared("UNDERSTUDY_LEADER_MARGIN_MS", "a tenth of UNDERSTUDY_LEADER_TTL_MS, at least 500", "How long before the end of its time a leader that cannot renew stops by itself."),
    secret("UNDERSTUDY_LEADER_REDIS_URL", "same as UNDERSTUDY_REDIS_URL", "Another Redis for the leader's lease."),
    shared("UNDERSTUDY_LEADER_MIN_REPLICAS", "0", "How many replicas of Redis must know a new leader before it begins, 0 to 10."),
    shared("UNDERSTUDY_LEADER_FALLBACK", "off", "What happens while Redis is away: `off` nobody leads, `database` the nodes elect through the database."),

    shared("UNDERSTUDY_JOBS_ENABLED", "all", "Which jobs start, until an operator says otherwise: `all`, `none`, or a comma list of job names. Counts when the cluster first starts."),
    local("UNDERSTUDY_JOBS_FILE", "", "File with jobs that need no program of their own, `jobs.toml`."),
    local("UNDERSTUDY_JOBS_CONCURRENCY", "10", "Most jobs at once on this node, 1 to 10000."),
    local("UNDERSTUDY_JOBS_THREADS", "number of CPUs", "Threads that run jobs, 1 to 1024."),
    shared("UNDERSTUDY_JOBS_TICK_MS", "1000", "How often at least the leader looks for jobs that are due."),
    shared("UNDERSTUDY_JOBS_ALIVE_MS", "5000", "How often a node reports that its runs go on."),
    shared("UNDERSTUDY_JOBS_STALE_AFTER_MS", "30000", "When a run without a report counts as lost; at least three reports."),
    shared("UNDERSTUDY_JOBS_MISFIRE_AFTER_MS", "2000", "How late a job may start before its due time counts as missed."),
    shared("UNDERSTUDY_JOBS_MISFIRE_WINDOW_S", "3600", "How long a missed due time can be made up for."),
    shared("UNDERSTUDY_JOBS_TIMEZONE", "UTC", "Time zone of schedules that name none, such as `Europe/Oslo`."),
    shared("UNDERSTUDY_JOBS_HISTORY_S", "604800", "How long runs that have ended are kept."),
    shared("UNDERSTUDY_JOBS_HISTORY_MAX_PER_JOB", "10000", "Most runs kept of one job."),
    shared("UNDERSTUDY_JOBS_CLEANUP_BATCH", "10000", "Most rows deleted in one step of cleaning up."),
    shared("UNDERSTUDY_JOBS_SHUTDOWN_GRACE_MS", "10000", "How long runs may take to finish when their node stops."),

    shared("UNDERSTUDY_FILES_STORE", "database", "Where the contents of files that all nodes see go: `database`, `folder` or `s3`. Those that are elsewhere are still read."),
    local("UNDERSTUDY_FILES_DIR", "", "Folder that all nodes share, for `folder`; an absolute path."),
    shared("UNDERSTUDY_FILES_DIR_MARK", "true", "Whether the first node makes a folder that is new that of the cluster; `false`: only one into which somebody has put the file `.understudy-store`."),
    shared("UNDERSTUDY_FILES_MAX_FILE_BYTES", "104857600", "Largest file. Uploads are bounded by UNDERSTUDY_HTTP_BODY_LIMIT_BYTES too."),
    shared("UNDERSTUDY_FILES_MAX_SPACE_BYTES", "10737418240", "All files of one space together."),
    local("UNDERSTUDY_FILES_UPLOAD_MEMORY_BYTES", "268435456", "How much of files that are being written this node holds in memory, from 16777216: two pieces for each upload, three where it is encrypted; those that come then wait."),
    secret("UNDERSTUDY_FILES_SIGNING_KEYS", "", "Comma list of at least 32 bytes each that sign links to files: the first signs, all verify. Without any those of UNDERSTUDY_SESSION_SECRET do."),
    secret("UNDERSTUDY_FILES_ENCRYPTION_KEYS", "", "Comma list of `name:key`, 32 bytes in base64 each, under which nodes encrypt the contents of files: the first encrypts new ones, all open; with `plain` in its place only those are encrypted of which the application wants it."),
    shared("UNDERSTUDY_FILES_API", "false", "Offer users that are logged in files of their own under `/api/files`; for the ready-made node."),
    shared("UNDERSTUDY_FILES_API_MAX_USER_BYTES", "1073741824", "All files of one user there together."),
    shared("UNDERSTUDY_FILES_S3_BUCKET", "", "Bucket, for `s3`."),
    shared("UNDERSTUDY_FILES_S3_ENDPOINT", "", "Address of the server, such as `https://s3.example.com`; that of AWS when not set."),
    shared("UNDERSTUDY_FILES_S3_REGION", "us-east-1", "Its region."),
    shared("UNDERSTUDY_FILES_S3_PREFIX", "files", "What the names of all objects begin with."),
    shared("UNDERSTUDY_FILES_S3_ACCESS_KEY", "", "Id of the key; without one the role of the machine is used."),
    secret("UNDERSTUDY_FILES_S3_SECRET_KEY", "", "The key."),
    shared("UNDERSTUDY_FILES_S3_PATH_STYLE", "true", "The bucket is named in the path, as most servers want it; `false`: in the host."),
    shared("UNDERSTUDY_FILES_S3_ENCRYPTION", "", "How the server encrypts what it is given: `aes256`, or `kms:` and the id or ARN of a key; as the bucket has it when not set."),
    shared("UNDERSTUDY_FILES_S3_REQUEST_TIMEOUT_MS", "50000", "How long one request may take, 100 to 600000."),
    local("UNDERSTUDY_FILES_CACHE_DIR", "", "Folder on a disk of this node alone in which it keeps what it has read of files; an absolute path. Nothing is kept when not set."),
    shared("UNDERSTUDY_FILES_CACHE_MAX_BYTES", "1073741824", "How much of files a node keeps there, from 67108864."),

    shared("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "5000", "How long a stopping node goes on accepting after it has said it is not ready."),
    shared("UNDERSTUDY_OPS_DRAIN_TIMEOUT_MS", "30000", "How long requests may then take to finish, and open streams once more."),
    shared("UNDERSTUDY_OPS_DRAIN_MODE", "passive_lb", "How the balancer learns of it: `passive_lb` from answers 503, `active_lb` from `/health/ready`."),
    shared("UNDERSTUDY_OPS_READY_REQUIRES", "database,redis", "Without what the node is not ready: comma list, or `none`."),
    shared("UNDERSTUDY_OPS_RETRY_AFTER_S", "60", "What `Retry-After` says when the node cannot serve a request."),

    shared("UNDERSTUDY_LOG_FILTER", "info", "What is logged: `info`, or `warn,understudy_session=debug`."),
    local("UNDERSTUDY_LOG_FORMAT", "text on a terminal, else json", "`json` or `text`."),
    shared("UNDERSTUDY_LOG_SESSION_HASH", "true", "Name the session in log lines, by a hash."),

    shared("UNDERSTUDY_METRICS_ENABLED", "true", "Serve metrics on the administration port."),
    shared("UNDERSTUDY_METRICS_PUBLIC", "false", "Serve them on the public port too."),

    local("UNDERSTUDY_TRACES_ENDPOINT", "", "Address of a collector of OTLP over HTTP, `http://collector:4318`; nothing is exported without."),
    shared("UNDERSTUDY_TRACES_SAMPLE", "1.0", "Share of requests and of runs that is traced when the caller has not decided, 0 to 1."),
    secret("UNDERSTUDY_TRACES_HEADERS", "", "What is sent to the collector along with spans: `name=value,name=value`."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::HashSet;

    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

    fn row(variable: &Variable) -> String {
        // Values as they are typed; what is described in words stays words.
        let default = match variable.default {
            "" => "-".to_owned(),
            words if words.contains(' ') => words.to_owned(),
            value => format!("`{value}`"),
        };
        let marks = match (variable.node_local, variable.secret) {
            (true, true) => "L, F",
            (true, false) => "L",
            (false, true) => "F",
            (false, false) => "",
        };
        format!("| `{}` | {default} | {} | {marks} |", variable.name, variable.meaning)
    }

    #[test]
    fn g9_the_page_and_the_code_know_the_same_variables_and_defaults() {
        let page = std::fs::read_to_string(PAGE).expect("docs/configuration.md is there");
        let on_page: BTreeMap<&str, &str> = page
            .lines()
            .filter(|line| line.starts_with("| `UNDERSTUDY_"))
            .map(|line| (line.split('`').nth(1).expect("a name in backticks"), line))
            .collect();
        for variable in registry() {
            let expected = row(variable);
            assert_eq!(
                on_page.get(variable.name).copied(),
                Some(expected.as_str()),
                "write:\n{expected}"
            );
        }
        for name in on_page.keys() {
            assert!(find(name).is_some(), "{name} is on the page but not in the code");
        }
    }

    #[test]
    fn names_are_unique_and_cannot_be_mistaken_for_those_kubernetes_sets() {
        let names: HashSet<_> = registry().iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), registry().len());
        for name in names {
            assert!(name.starts_with(PREFIX), "{name}");
            assert!(!name.ends_with("_PORT") && !name.ends_with("_HOST"), "{name}");
        }
    }
}
