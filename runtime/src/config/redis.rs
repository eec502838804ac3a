//! How to reach Redis: `REDIS_*`.

mod address;
mod options;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use self::address::{Address, Kind};
use super::effective::masked_url;
use super::reader::{Reader, flag};
use crate::secret::Secret;

const URL: &str = "UNDERSTUDY_REDIS_URL";
const MODE: &str = "UNDERSTUDY_REDIS_MODE";

/// How to reach one Redis, Sentinel or Cluster.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `REDIS_URL`, `REDIS_MODE`, `REDIS_TLS`, `REDIS_USERNAME`, `REDIS_PASSWORD`, `REDIS_DB`, `REDIS_OPTIONS` put together.
    pub targets: RedisTarget,
    /// `REDIS_SENTINEL_PASSWORD`: for the Sentinels themselves.
    pub sentinel_password: Option<Secret<String>>,
    /// User name for the Sentinels themselves, from `sentinelUsername` in the URL.
    pub sentinel_username: Option<String>,
    /// `REDIS_TLS_CA_FILE`: PEM file to trust in place of the system's authorities.
    pub tls_ca_file: Option<PathBuf>,
    /// `REDIS_TLS_CERT_FILE`: PEM file with this node's certificate; comes with a key.
    pub tls_cert_file: Option<PathBuf>,
    /// `REDIS_TLS_KEY_FILE`: PEM file with the key of that certificate.
    pub tls_key_file: Option<PathBuf>,
    /// `REDIS_POOL_SIZE`: connections for data; at least 1.
    pub pool_size: usize,
    /// `REDIS_CONNECT_TIMEOUT_MS`.
    pub connect_timeout: Duration,
    /// `REDIS_COMMAND_TIMEOUT_MS`.
    pub command_timeout: Duration,
    /// `REDIS_RECONNECT_MIN_MS`: the first pause between attempts, which never end.
    pub reconnect_min: Duration,
    /// `REDIS_RECONNECT_MAX_MS`: the longest pause between attempts.
    pub reconnect_max: Duration,
}

/// What to connect to, and as whom.
#[derive(Debug, Clone)]
pub struct RedisTarget {
    /// What the hosts are.
    pub topology: Topology,
    /// Host (name, IPv4, or IPv6 without brackets) and port; at least one. The Sentinels if there are any.
    pub hosts: Vec<(String, u16)>,
    /// Whether to speak TLS, to the Sentinels too.
    pub tls: bool,
    /// The numbered database; always 0 on a Cluster.
    pub db: u8,
    /// ACL user.
    pub username: Option<String>,
    /// Password, of the user if there is one.
    pub password: Option<Secret<String>>,
}

/// What kind of Redis there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Standalone,
    /// Sentinels that know which server is the primary.
    Sentinel {
        /// The name under which they know it.
        service: String,
    },
    /// Redis Cluster.
    Cluster,
    /// To be found out by asking: standalone or Cluster.
    Auto,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    url: Option<String>,
    mode: Option<String>,
    options: Option<String>,
    username: Option<String>,
    password: Option<String>,
    db: Option<String>,
    sentinel_name: Option<String>,
    sentinel_password: Option<String>,
    tls: Option<String>,
    tls_ca_file: Option<String>,
    tls_cert_file: Option<String>,
    tls_key_file: Option<String>,
    pool_size: Option<String>,
    connect_timeout_ms: Option<String>,
    command_timeout_ms: Option<String>,
    reconnect_min_ms: Option<String>,
    reconnect_max_ms: Option<String>,
}

/// `REDIS_MODE`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Auto,
    Standalone,
    Sentinel,
    Cluster,
}

/// The section once read: settings that hold for any Redis, and the address of the first.
#[derive(Debug)]
pub(super) struct RedisSection {
    /// What `REDIS_URL` leads to.
    pub(super) main: Option<RedisConfig>,
    mode: Mode,
    /// As whom to connect where the address does not say.
    defaults: Address,
    settings: RedisConfig,
}

impl RedisSection {
    pub(super) fn read(read: &mut Reader) -> Self {
        let mut raw: Raw = read.section("REDIS_");
        read.show_masked(
            "UNDERSTUDY_REDIS_OPTIONS",
            stars(&raw.options),
            raw.options.as_deref(),
        );
        options::merge(read, &mut raw);
        let url = raw.url.take();
        read.show_masked(
            URL,
            &url.as_deref().map(masked).unwrap_or_default(),
            url.as_deref(),
        );
        let mut section = Self {
            main: None,
            mode: read.choice(
                MODE,
                raw.mode.as_deref(),
                &[
                    ("auto", Mode::Auto),
                    ("standalone", Mode::Standalone),
                    ("sentinel", Mode::Sentinel),
                    ("cluster", Mode::Cluster),
                ],
            ),
            defaults: defaults(read, &mut raw),
            settings: settings(read, &raw),
        };
        section.main = url.and_then(|url| section.config(read, URL, &url));
        section
    }

    /// Reads the address of another Redis, `SESSION_REDIS_URL`; all other settings are the same.
    pub(super) fn other(
        &self,
        read: &mut Reader,
        name: &'static str,
        given: Option<&str>,
    ) -> Option<RedisConfig> {
        read.show_masked(name, &given.map(masked).unwrap_or_default(), given);
        self.config(read, name, given?)
    }

    fn config(&self, read: &mut Reader, name: &'static str, text: &str) -> Option<RedisConfig> {
        let address = match Address::parse(text) {
            Ok(address) => address,
            Err(wrong) => {
                read.problem(name, wrong);
                return None;
            }
        };
        if name == URL {
            self.report_contradictions(read, &address);
        }
        let Some(topology) = self.topology(&address) else {
            read.problem(name, "says something else than UNDERSTUDY_REDIS_MODE: a scheme and several hosts leave no choice");
            return None;
        };
        let is_sentinel = matches!(topology, Topology::Sentinel { .. });
        if !is_sentinel && address.service.is_some() {
            read.problem(
                name,
                "has a sentinelServiceName, but the scheme is not redis-sentinel",
            );
        }
        let db = address.db.or(self.defaults.db).unwrap_or(0);
        if topology == Topology::Cluster && db != 0 {
            read.problem(
                name,
                "asks for a numbered database, which a Redis Cluster does not have",
            );
        }
        let port = if is_sentinel { 26_379 } else { 6_379 };
        let hosts = address
            .hosts
            .into_iter()
            .map(|(host, given)| (host, given.unwrap_or(port)));
        let password = address.password.or_else(|| self.defaults.password.clone());
        let sentinel_password = address.sentinel_password.map(Secret::new);
        Some(RedisConfig {
            targets: RedisTarget {
                topology,
                hosts: hosts.collect(),
                tls: address.tls == Some(true) || self.defaults.tls == Some(true),
                db,
                username: address.username.or_else(|| self.defaults.username.clone()),
                password: password.map(Secret::new),
            },
            sentinel_password: sentinel_password.or(self.settings.sentinel_password.clone()),
            sentinel_username: address.sentinel_username,
            ..self.settings.clone()
        })
    }

    /// None when the scheme and `REDIS_MODE` do not go together.
    fn topology(&self, address: &Address) -> Option<Topology> {
        let named = address
            .service
            .clone()
            .or_else(|| self.defaults.service.clone());
        let is_named = named.is_some();
        let sentinel = || Topology::Sentinel {
            service: named.unwrap_or_else(|| "mymaster".to_owned()),
        };
        match (self.mode, address.kind) {
            (Mode::Auto | Mode::Sentinel, Some(Kind::Sentinel)) => Some(sentinel()),
            (Mode::Auto | Mode::Cluster, Some(Kind::Cluster)) => Some(Topology::Cluster),
            // A list of hosts says nothing itself, but who names a primary has Sentinels.
            (Mode::Auto, None) if is_named => Some(sentinel()),
            (Mode::Auto, Some(Kind::Server) | None) => Some(Topology::Auto),
            (Mode::Sentinel, Some(Kind::Server) | None) => Some(sentinel()),
            (Mode::Cluster, Some(Kind::Server) | None) => Some(Topology::Cluster),
            (Mode::Standalone, Some(Kind::Server) | None) if address.hosts.len() == 1 => {
                Some(Topology::Standalone)
            }
            (Mode::Standalone, _)
            | (Mode::Sentinel, Some(Kind::Cluster))
            | (Mode::Cluster, Some(Kind::Sentinel)) => None,
        }
    }

    /// The address and a variable of its own may say the same thing twice, but not different things.
    fn report_contradictions(&self, read: &mut Reader, address: &Address) {
        let known = &self.defaults;
        report_difference(
            read,
            "UNDERSTUDY_REDIS_USERNAME",
            &known.username,
            &address.username,
        );
        report_difference(
            read,
            "UNDERSTUDY_REDIS_PASSWORD",
            &known.password,
            &address.password,
        );
        report_difference(read, "UNDERSTUDY_REDIS_DB", &known.db, &address.db);
        report_difference(
            read,
            "UNDERSTUDY_REDIS_SENTINEL_NAME",
            &known.service,
            &address.service,
        );
        report_difference(
            read,
            "UNDERSTUDY_REDIS_TLS",
            &known.tls.filter(|tls| !tls),
            &address.tls,
        );
    }
}

fn report_difference<T: PartialEq>(
    read: &mut Reader,
    name: &'static str,
    variable: &Option<T>,
    address: &Option<T>,
) {
    if variable.is_some() && address.is_some() && variable != address {
        read.problem(name, format!("says something else than {URL}"));
    }
}

/// Reads what the address may leave open. Only what was really given counts: an address may say it, too.
fn defaults(read: &mut Reader, raw: &mut Raw) -> Address {
    let number = "a whole number from 0 to 255";
    let db = read.parsed("UNDERSTUDY_REDIS_DB", raw.db.as_deref(), number, |text| {
        text.parse().ok()
    });
    let tls = read.parsed(
        "UNDERSTUDY_REDIS_TLS",
        raw.tls.as_deref(),
        "true or false",
        flag,
    );
    let service = read.parsed(
        "UNDERSTUDY_REDIS_SENTINEL_NAME",
        raw.sentinel_name.as_deref(),
        "a name without blanks",
        |text| (!text.contains(char::is_whitespace)).then(|| text.to_owned()),
    );
    let username = raw.username.as_deref();
    Address {
        db: raw.db.is_some().then_some(db),
        tls: raw.tls.is_some().then_some(tls),
        service: raw.sentinel_name.is_some().then_some(service),
        username: read.optional(
            "UNDERSTUDY_REDIS_USERNAME",
            username,
            "a user name",
            |text| Some(text.to_owned()),
        ),
        password: read
            .secret("UNDERSTUDY_REDIS_PASSWORD", raw.password.take())
            .map(|password| password.expose().clone()),
        ..Address::default()
    }
}

/// Reads what holds for any Redis; the target is filled in for each address.
fn settings(read: &mut Reader, raw: &Raw) -> RedisConfig {
    let config = RedisConfig {
        targets: RedisTarget {
            topology: Topology::Auto,
            hosts: Vec::new(),
            tls: false,
            db: 0,
            username: None,
            password: None,
        },
        sentinel_username: None,
        sentinel_password: read.secret(
            "UNDERSTUDY_REDIS_SENTINEL_PASSWORD",
            raw.sentinel_password.clone(),
        ),
        tls_ca_file: file(
            read,
            "UNDERSTUDY_REDIS_TLS_CA_FILE",
            raw.tls_ca_file.as_deref(),
        ),
        tls_cert_file: file(
            read,
            "UNDERSTUDY_REDIS_TLS_CERT_FILE",
            raw.tls_cert_file.as_deref(),
        ),
        tls_key_file: file(
            read,
            "UNDERSTUDY_REDIS_TLS_KEY_FILE",
            raw.tls_key_file.as_deref(),
        ),
        pool_size: read.number(
            "UNDERSTUDY_REDIS_POOL_SIZE",
            raw.pool_size.as_deref(),
            1..=256,
        ),
        connect_timeout: read.millis(
            "UNDERSTUDY_REDIS_CONNECT_TIMEOUT_MS",
            raw.connect_timeout_ms.as_deref(),
            10..=60_000,
        ),
        command_timeout: read.millis(
            "UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS",
            raw.command_timeout_ms.as_deref(),
            10..=60_000,
        ),
        reconnect_min: read.millis(
            "UNDERSTUDY_REDIS_RECONNECT_MIN_MS",
            raw.reconnect_min_ms.as_deref(),
            1..=60_000,
        ),
        reconnect_max: read.millis(
            "UNDERSTUDY_REDIS_RECONNECT_MAX_MS",
            raw.reconnect_max_ms.as_deref(),
            1..=600_000,
        ),
    };
    if config.tls_cert_file.is_some() != config.tls_key_file.is_some() {
        read.problem(
            "UNDERSTUDY_REDIS_TLS_CERT_FILE",
            "and UNDERSTUDY_REDIS_TLS_KEY_FILE belong together; set both or none",
        );
    }
    config
}

fn file(read: &mut Reader, name: &'static str, given: Option<&str>) -> Option<PathBuf> {
    read.optional(name, given, "a file that can be read", |text| {
        std::fs::File::open(text).ok().map(|_| PathBuf::from(text))
    })
}

fn stars(secret: &Option<String>) -> &'static str {
    if secret.is_some() { "******" } else { "" }
}

/// Shows each part of a list without who logs in.
fn masked(text: &str) -> String {
    if text.contains('@') && text.contains(['[', ',']) {
        return stars(&Some(String::new())).to_owned(); // too many places to hide a password in
    }
    masked_url(text)
}
