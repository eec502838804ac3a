//! All of `REDIS_*` put together, once for `REDIS_URL` and once for each other address.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::address::{Address, Kind};
use super::{RedisConfig, RedisTarget, Topology, options};
use crate::config::effective::masked_url;
use crate::config::reader::{Reader, flag};
use crate::secret::Secret;

const URL: &str = "UNDERSTUDY_REDIS_URL";
const MODE: &str = "UNDERSTUDY_REDIS_MODE";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) url: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) options: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) db: Option<String>,
    pub(super) sentinel_name: Option<String>,
    pub(super) sentinel_password: Option<String>,
    pub(super) tls: Option<String>,
    pub(super) tls_ca_file: Option<String>,
    pub(super) tls_cert_file: Option<String>,
    pub(super) tls_key_file: Option<String>,
    pub(super) pool_size: Option<String>,
    pub(super) connect_timeout_ms: Option<String>,
    pub(super) command_timeout_ms: Option<String>,
    pub(super) reconnect_min_ms: Option<String>,
    pub(super) reconnect_max_ms: Option<String>,
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
pub(in crate::config) struct RedisSection {
    /// What `REDIS_URL` leads to.
    pub(in crate::config) main: Option<RedisConfig>,
    mode: Mode,
    /// As whom to connect where the address does not say.
    defaults: Address,
    settings: RedisConfig,
}

impl RedisSection {
    pub(in crate::config) fn read(read: &mut Reader) -> Self {
        let mut raw: Raw = read.section("REDIS_");
        read.show_masked("UNDERSTUDY_REDIS_OPTIONS", stars(&raw.options), raw.options.as_deref());
        options::merge(read, &mut raw);
        let url = raw.url.take();
        read.show_masked(URL, &url.as_deref().map(masked).unwrap_or_default(), url.as_deref());
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
    pub(in crate::config) fn other(
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
            read.problem(name, "has a sentinelServiceName, but the scheme is not redis-sentinel");
        }
        let db = address.db.or(self.defaults.db).unwrap_or(0);
        if topology == Topology::Cluster && db != 0 {
            read.problem(name, "asks for a numbered database, which a Redis Cluster does not have");
        }
        let port = if is_sentinel { 26_379 } else { 6_379 };
        let hosts = address.hosts.into_iter().map(|(host, given)| (host, given.unwrap_or(port)));
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
        let named = address.service.clone().or_else(|| self.defaults.service.clone());
        let is_named = named.is_some();
        let sentinel =
            || Topology::Sentinel { service: named.unwrap_or_else(|| "mymaster".to_owned()) };
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
        report_difference(read, "UNDERSTUDY_REDIS_USERNAME", &known.username, &address.username);
        report_difference(read, "UNDERSTUDY_REDIS_PASSWORD", &known.password, &address.password);
        report_difference(read, "UNDERSTUDY_REDIS_DB", &known.db, &address.db);
        report_difference(read, "UNDERSTUDY_REDIS_SENTINEL_NAME", &known.service, &address.service);
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
    let db =
        read.parsed("UNDERSTUDY_REDIS_DB", raw.db.as_deref(), number, |text| text.parse().ok());
    let tls = read.parsed("UNDERSTUDY_REDIS_TLS", raw.tls.as_deref(), "true or false", flag);
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
        username: read.optional("UNDERSTUDY_REDIS_USERNAME", username, "a user name", |text| {
            Some(text.to_owned())
        }),
        password: read
            .secret("UNDERSTUDY_REDIS_PASSWORD", raw.password.take())
            .map(|password| password.expose().clone()),
        ..Address::default()
    }
}

/// Reads what holds for any Redis; the target is filled in for each address.
fn settings(read: &mut Reader, raw: &Raw) -> RedisConfig {
    let [connect_timeout, command_timeout, reconnect_min, reconnect_max] = times(read, raw);
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
        sentinel_password: read
            .secret("UNDERSTUDY_REDIS_SENTINEL_PASSWORD", raw.sentinel_password.clone()),
        tls_ca_file: file(read, "UNDERSTUDY_REDIS_TLS_CA_FILE", raw.tls_ca_file.as_deref()),
        tls_cert_file: file(read, "UNDERSTUDY_REDIS_TLS_CERT_FILE", raw.tls_cert_file.as_deref()),
        tls_key_file: file(read, "UNDERSTUDY_REDIS_TLS_KEY_FILE", raw.tls_key_file.as_deref()),
        pool_size: read.number("UNDERSTUDY_REDIS_POOL_SIZE", raw.pool_size.as_deref(), 1..=256),
        connect_timeout,
        command_timeout,
        reconnect_min,
        reconnect_max,
    };
    if config.tls_cert_file.is_some() != config.tls_key_file.is_some() {
        read.problem(
            "UNDERSTUDY_REDIS_TLS_CERT_FILE",
            "and UNDERSTUDY_REDIS_TLS_KEY_FILE belong together; set both or none",
        );
    }
    config
}

fn times(read: &mut Reader, raw: &Raw) -> [Duration; 4] {
    [
        ("UNDERSTUDY_REDIS_CONNECT_TIMEOUT_MS", &raw.connect_timeout_ms, 10..=60_000),
        ("UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS", &raw.command_timeout_ms, 10..=60_000),
        ("UNDERSTUDY_REDIS_RECONNECT_MIN_MS", &raw.reconnect_min_ms, 1..=60_000),
        ("UNDERSTUDY_REDIS_RECONNECT_MAX_MS", &raw.reconnect_max_ms, 1..=600_000),
    ]
    .map(|(name, given, range)| read.millis(name, given.as_deref(), range))
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
