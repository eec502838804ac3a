//! Translates our options into those of the client library.

use std::time::Duration;

use fred::clients::{Client, WithOptions};
use fred::interfaces::ClientLike;
use fred::types::RespVersion;
use fred::types::config::{
    ClusterDiscoveryPolicy, Config, ConnectionConfig, Options, PerformanceConfig, ReconnectPolicy,
    Server, ServerConfig, TcpConfig, TlsConfig, TlsHostMapping,
};

use super::{ConnectError, tls};
use crate::config::{RedisConfig, RedisTarget, Topology};

/// How many messages may wait for a subscriber that is slow; what comes then is lost, and the subscriber told so.
pub(super) const INBOX: usize = 4096;

/// When a client tries to connect for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstAttempt {
    /// At once; a client that does not succeed ends.
    AtOnce,
    /// After the pause that lies between attempts, and then for ever.
    AfterAPause,
}

/// All that is needed to make a client, as often as one is needed.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    config: Config,
    connection: ConnectionConfig,
    performance: PerformanceConfig,
    policy: ReconnectPolicy,
    options: Options,
    /// The Sentinels, each as a server of its own.
    pub(super) sentinels: Option<(String, Vec<Config>)>,
}

impl Settings {
    pub(super) fn new(
        config: &RedisConfig,
        topology: &Topology,
        tls: Option<TlsConfig>,
    ) -> Result<Self, ConnectError> {
        let target = &config.targets;
        let server = server(config, topology)?;
        let fred = Config {
            username: target.username.clone(),
            password: target.password.as_ref().map(|password| password.expose().clone()),
            database: (target.db > 0).then_some(target.db),
            version: RespVersion::RESP3,
            server,
            tls,
            ..Config::default()
        };
        let sentinels = match topology {
            Topology::Sentinel { service } => {
                Some((service.clone(), sentinel_configs(config, &fred)))
            }
            Topology::Standalone | Topology::Cluster | Topology::Auto => None,
        };
        Ok(Self {
            connection: connection(config),
            performance: PerformanceConfig {
                default_command_timeout: config.command_timeout,
                ..PerformanceConfig::default()
            },
            policy: policy(config),
            options: Options {
                // Sent once, since a silent second attempt could come after the next command of the same caller.
                max_attempts: Some(1),
                timeout: Some(config.command_timeout),
                fail_fast: true,
                ..Options::default()
            },
            config: fred,
            sentinels,
        })
    }

    /// Leaves room for many messages; costs some megabytes per client, so only for one that subscribes.
    pub(super) fn with_inbox(mut self) -> Self {
        self.performance.broadcast_channel_capacity = INBOX;
        self
    }

    /// Follows no redirection of a Cluster: what is sent together then stays together. The client learns by it where a slot is
    /// all the same, so that the next attempt goes there.
    pub(super) fn without_redirections(mut self) -> Self {
        self.connection.max_redirections = 0;
        self
    }

    /// Makes a client that is not connected yet.
    pub(super) fn client(&self, attempt: FirstAttempt) -> Client {
        self.client_to(Config { fail_fast: attempt == FirstAttempt::AtOnce, ..self.config.clone() })
    }

    pub(super) fn client_to(&self, config: Config) -> Client {
        Client::new(
            config,
            Some(self.performance.clone()),
            Some(self.connection.clone()),
            Some(self.policy.clone()),
        )
    }

    /// Makes the form of a client that ordinary commands use.
    pub(super) fn commands(&self, client: &Client) -> WithOptions<Client> {
        client.with_options(&self.options)
    }

    /// Returns whom to ask whether anybody is there.
    pub(super) fn hosts(&self) -> Vec<Server> {
        self.config.server.hosts()
    }
}

/// Makes the TLS part, if TLS is on.
pub(super) fn tls_config(config: &RedisConfig) -> Result<Option<TlsConfig>, ConnectError> {
    if !config.targets.tls {
        return Ok(None);
    }
    let by_address =
        config.targets.hosts.iter().any(|(host, _)| host.parse::<std::net::IpAddr>().is_ok());
    Ok(Some(TlsConfig {
        connector: tls::connector(config)?,
        // The nodes of a Cluster tell each other's addresses; certificates usually name the host one connected to.
        hostnames: if by_address { TlsHostMapping::None } else { TlsHostMapping::DefaultHost },
    }))
}

/// Makes a client for one question to one host; fails instead of trying again.
pub(super) fn probe(config: &RedisConfig, host: &(String, u16), tls: Option<&TlsConfig>) -> Client {
    let RedisTarget { username, password, .. } = &config.targets;
    let fred = Config {
        fail_fast: true,
        username: username.clone(),
        password: password.as_ref().map(|password| password.expose().clone()),
        // The oldest dialect: what is on the other side is not known yet.
        version: RespVersion::RESP2,
        server: ServerConfig::Centralized { server: Server::new(host.0.clone(), host.1) },
        tls: tls.cloned(),
        ..Config::default()
    };
    let performance = PerformanceConfig {
        default_command_timeout: config.connect_timeout,
        ..PerformanceConfig::default()
    };
    Client::new(fred, Some(performance), Some(connection(config)), None)
}

fn server(config: &RedisConfig, topology: &Topology) -> Result<ServerConfig, ConnectError> {
    let hosts: Vec<Server> = (config.targets.hosts.iter())
        .map(|(host, port)| Server::new(host.clone(), *port))
        .collect();
    let Some(first) = hosts.first().cloned() else {
        return Err(ConnectError::Options("UNDERSTUDY_REDIS_URL names no host".to_owned()));
    };
    match topology {
        Topology::Standalone | Topology::Auto if hosts.len() > 1 => Err(ConnectError::Options(
            "UNDERSTUDY_REDIS_URL names several hosts, which are neither Sentinels nor a Cluster"
                .to_owned(),
        )),
        Topology::Standalone | Topology::Auto => Ok(ServerConfig::Centralized { server: first }),
        Topology::Cluster => {
            Ok(ServerConfig::Clustered { hosts, policy: ClusterDiscoveryPolicy::UseCache })
        }
        Topology::Sentinel { service } => Ok(ServerConfig::Sentinel {
            hosts,
            service_name: service.clone(),
            username: config.sentinel_username.clone(),
            password: sentinel_password(config),
        }),
    }
}

fn sentinel_configs(config: &RedisConfig, base: &Config) -> Vec<Config> {
    let each = config.targets.hosts.iter().map(|(host, port)| Config {
        server: ServerConfig::Centralized { server: Server::new(host.clone(), *port) },
        username: config.sentinel_username.clone(),
        password: sentinel_password(config),
        database: None,
        ..base.clone()
    });
    each.collect()
}

fn sentinel_password(config: &RedisConfig) -> Option<String> {
    config.sentinel_password.as_ref().map(|password| password.expose().clone())
}

fn connection(config: &RedisConfig) -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: config.connect_timeout,
        internal_command_timeout: config.connect_timeout,
        max_command_attempts: 1,
        // Unlimited, because the library forgets to flush after it has refused a command for being full; we count.
        max_command_buffer_len: 0,
        // Whether the Cluster as a whole is fine is not asked: half of it should serve its half of the keys.
        disable_cluster_health_check: true,
        reconnect_on_auth_error: true,
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    }
}

fn policy(config: &RedisConfig) -> ReconnectPolicy {
    let min = millis(config.reconnect_min).max(1);
    let mut policy =
        ReconnectPolicy::new_exponential(0, min, millis(config.reconnect_max).max(min), 2);
    policy.set_jitter(min);
    policy
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
