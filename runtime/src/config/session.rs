//! Sessions and their cookie: `SESSION_*`.

mod cookie;
mod files;
mod persistence;
mod placement;
mod users;

use std::time::Duration;

use serde::Deserialize;

use super::reader::{Reader, one_of, whole, word};
use super::redis::RedisSection;
use super::{EncryptionConfig, ExternalUrl, RedisConfig, encryption};
use crate::secret::Secret;

pub use files::FilesConfig;
pub use persistence::{Durability, PersistConfig, PersistMode};
pub use placement::PlacementConfig;
pub use users::{MaxPolicy, UserConfig};

/// Sessions and their cookie.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// `SESSION_STORE`: where sessions are kept.
    pub store: StoreKind,
    /// `SESSION_REDIS_URL`, else the same as `REDIS_URL`; always there when the store is Redis.
    pub redis: Option<RedisConfig>,
    /// What is kept of sessions beside Redis, and when a change of one is acknowledged.
    pub persist: PersistConfig,
    /// `SESSION_IDLE_S`: how long a session lives without a request.
    pub idle: Duration,
    /// `SESSION_ABSOLUTE_S`: how long a session lives at most.
    pub absolute: Duration,
    /// `SESSION_TOUCH_S`: how often at most a request that changes nothing is written down; may be below a second.
    pub touch: Duration,
    /// `SESSION_LONG_IDLE_S`: how long a session may live without a request when its login asks for longer.
    pub long_idle: Duration,
    /// `SESSION_LONG_ABSOLUTE_S`: how long a session may live at most when its login asks for longer.
    pub long_absolute: Duration,
    /// `SESSION_COOKIE_NAME` in full, with its `__Host-` prefix if it has one.
    pub cookie_name: String,
    /// `SESSION_COOKIE_SECURE`, with `auto` already decided by the external URL.
    pub cookie_secure: bool,
    /// `SESSION_COOKIE_SAMESITE`.
    pub cookie_samesite: SameSite,
    /// `SESSION_COOKIE_DOMAIN`; none binds the cookie to the very host.
    pub cookie_domain: Option<String>,
    /// `SESSION_COOKIE_PATH`.
    pub cookie_path: String,
    /// `SESSION_SECRET`: the first signs, all verify; empty only in embedded mode.
    pub secret: Vec<Secret<String>>,
    /// `SESSION_ENCRYPTION_KEYS`: what seals the contents of sessions in their store.
    pub encryption: EncryptionConfig,
    /// `SESSION_MAX_BYTES`: the largest session.
    pub max_bytes: usize,
    /// `SESSION_MAX_ATTRIBUTE_BYTES`: the largest single value.
    pub max_attribute_bytes: usize,
    /// `SESSION_COMPRESS_ABOVE_BYTES`: values of more are packed in their store; 0: none is.
    pub compress_above: usize,
    /// `SESSION_PASSIVATE_AFTER_MS`: when an unused session leaves memory.
    pub passivate_after: Duration,
    /// `SESSION_ACTORS_MAX`: most sessions in memory.
    pub actors_max: usize,
    /// `SESSION_WAIT_MS`: how long a write waits for an owner that is silent.
    pub wait: Duration,
    /// How much may be in the temporary files of a session.
    pub files: FilesConfig,
    /// At which node a session is, and how balancers are told.
    pub placement: PlacementConfig,
    /// How many sessions a user may have, and how often a login may fail.
    pub users: UserConfig,
}

/// Where sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Redis; only in a cluster.
    Redis,
    /// The database.
    Database,
    /// This process; gone with it. Only in embedded mode.
    Memory,
}

/// The `SameSite` attribute of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Sent when the user follows a link to here.
    Lax,
    /// Sent by pages from here only.
    Strict,
    /// Always sent; the cookie is `Secure`.
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    store: Option<String>,
    redis_url: Option<String>,
    persist: Option<String>,
    persist_interval_ms: Option<String>,
    durability: Option<String>,
    idle_s: Option<String>,
    absolute_s: Option<String>,
    touch_s: Option<String>,
    long_idle_s: Option<String>,
    long_absolute_s: Option<String>,
    cookie_name: Option<String>,
    cookie_secure: Option<String>,
    cookie_samesite: Option<String>,
    cookie_domain: Option<String>,
    cookie_path: Option<String>,
    secret: Option<String>,
    encryption_keys: Option<String>,
    max_bytes: Option<String>,
    max_attribute_bytes: Option<String>,
    compress_above_bytes: Option<String>,
    passivate_after_ms: Option<String>,
    actors_max: Option<String>,
    wait_ms: Option<String>,
    max_file_bytes: Option<String>,
    max_files_bytes: Option<String>,
    affinity_cookie: Option<String>,
    moves_per_minute: Option<String>,
    max_per_user: Option<String>,
    max_policy: Option<String>,
    lockout_attempts: Option<String>,
    lockout_s: Option<String>,
}

/// What sessions take from other sections.
pub(super) struct Surroundings<'a> {
    pub(super) in_cluster: bool,
    pub(super) external_url: Option<&'a ExternalUrl>,
    pub(super) redis: &'a RedisSection,
}

impl SessionConfig {
    pub(super) fn read(read: &mut Reader, around: &Surroundings<'_>) -> Self {
        let raw: Raw = read.section("SESSION_");
        let other =
            around.redis.other(read, "UNDERSTUDY_SESSION_REDIS_URL", raw.redis_url.as_deref());
        let idle = read.seconds("UNDERSTUDY_SESSION_IDLE_S", raw.idle_s.as_deref(), 1..=31_536_000);
        let (cookie, users) = (cookie::read(read, &raw, around), users::read(read, &raw));
        let placement = placement::read(read, &raw, &cookie);
        let (long_idle, long_absolute) = long(read, &raw);
        let files = files::read(read, &raw);
        Self {
            store: store(read, raw.store.as_deref(), around.in_cluster),
            redis: other.or_else(|| around.redis.main.clone()),
            persist: persistence::read(read, &raw),
            idle,
            absolute: read.seconds(
                "UNDERSTUDY_SESSION_ABSOLUTE_S",
                raw.absolute_s.as_deref(),
                1..=315_360_000,
            ),
            touch: touch(read, raw.touch_s.as_deref(), idle),
            long_idle,
            long_absolute,
            cookie_name: cookie.name,
            cookie_secure: cookie.secure,
            cookie_samesite: cookie.samesite,
            cookie_domain: cookie.domain,
            cookie_path: cookie.path,
            secret: secrets(read, "UNDERSTUDY_SESSION_SECRET", raw.secret),
            encryption: encryption::read(
                read,
                "UNDERSTUDY_SESSION_ENCRYPTION_KEYS",
                raw.encryption_keys,
            ),
            max_bytes: bytes(read, "UNDERSTUDY_SESSION_MAX_BYTES", raw.max_bytes.as_deref(), 1_024),
            max_attribute_bytes: bytes(
                read,
                "UNDERSTUDY_SESSION_MAX_ATTRIBUTE_BYTES",
                raw.max_attribute_bytes.as_deref(),
                64,
            ),
            compress_above: bytes(
                read,
                "UNDERSTUDY_SESSION_COMPRESS_ABOVE_BYTES",
                raw.compress_above_bytes.as_deref(),
                0,
            ),
            passivate_after: read.millis(
                "UNDERSTUDY_SESSION_PASSIVATE_AFTER_MS",
                raw.passivate_after_ms.as_deref(),
                10..=86_400_000,
            ),
            actors_max: read.number(
                "UNDERSTUDY_SESSION_ACTORS_MAX",
                raw.actors_max.as_deref(),
                1..=100_000_000,
            ),
            wait: read.millis("UNDERSTUDY_SESSION_WAIT_MS", raw.wait_ms.as_deref(), 10..=600_000),
            files,
            placement,
            users,
        }
    }
}

/// Reads a size, up to the largest that Redis takes in one value.
fn bytes(read: &mut Reader, name: &'static str, given: Option<&str>, least: u64) -> usize {
    read.number(name, given, least..=536_870_912)
}

/// How long a session may live without a request, and at most, when its login asks for longer.
fn long(read: &mut Reader, raw: &Raw) -> (Duration, Duration) {
    const IDLE: &str = "UNDERSTUDY_SESSION_LONG_IDLE_S";
    const ABSOLUTE: &str = "UNDERSTUDY_SESSION_LONG_ABSOLUTE_S";
    let idle = read.seconds(IDLE, raw.long_idle_s.as_deref(), 1..=31_536_000);
    let absolute = read.seconds(ABSOLUTE, raw.long_absolute_s.as_deref(), 1..=315_360_000);
    (idle, absolute)
}

fn store(read: &mut Reader, given: Option<&str>, in_cluster: bool) -> StoreKind {
    const NAME: &str = "UNDERSTUDY_SESSION_STORE";
    let words = [
        ("redis", StoreKind::Redis),
        ("database", StoreKind::Database),
        ("memory", StoreKind::Memory),
    ];
    let usual = if in_cluster { StoreKind::Redis } else { StoreKind::Database };
    let store =
        read.optional(NAME, given, &one_of(&words), |text| word(text, &words)).unwrap_or(usual);
    if let Some((shown, _)) = words.iter().find(|(_, kind)| *kind == store) {
        read.show(NAME, shown);
    }
    store
}

fn touch(read: &mut Reader, given: Option<&str>, idle: Duration) -> Duration {
    const NAME: &str = "UNDERSTUDY_SESSION_TOUCH_S";
    let expected = "a whole number of seconds from 1 to 31536000";
    let touch = read
        .optional(NAME, given, expected, |text| {
            whole(text, &(1..=31_536_000)).map(Duration::from_secs)
        })
        .unwrap_or(idle / 6);
    read.show(NAME, &touch.as_secs_f64().to_string());
    touch
}

/// What stands in examples on the web, and in ours.
const EXAMPLES: [&str; 7] = [
    "changeme",
    "change-me",
    "change_me",
    "replace-me",
    "your-secret",
    "your_secret",
    "at-least-32-random-characters",
];

/// Whether a secret is one of those that everybody knows.
pub(crate) fn is_example(secret: &str) -> bool {
    let secret = secret.to_ascii_lowercase();
    EXAMPLES.iter().any(|example| secret.contains(example))
}

/// Reads a list of secrets that sign.
pub(super) fn secrets(
    read: &mut Reader,
    name: &'static str,
    given: Option<String>,
) -> Vec<Secret<String>> {
    let given = read.secret(name, given);
    // A file may hold one per line.
    let parts = given.iter().flat_map(|text| text.expose().split([',', '\n']));
    let parts: Vec<&str> = parts.map(str::trim).filter(|part| !part.is_empty()).collect();
    if given.is_some() && parts.is_empty() {
        read.problem(name, "holds no secret");
    }
    if parts.iter().any(|part| part.len() < 32) {
        read.problem(
            name,
            "must hold 32 bytes or more in each part; `openssl rand -base64 48` makes one",
        );
    }
    if parts.iter().any(|part| is_example(part)) {
        read.problem(
            name,
            "is an example that everybody knows; `openssl rand -base64 48` makes one of your own",
        );
    }
    parts.into_iter().map(|part| Secret::new(part.to_owned())).collect()
}
