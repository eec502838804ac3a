//! Finds out whether a server is alone or part of a Cluster, when the options do not say.

use std::time::Duration;

use fred::interfaces::ClientLike;
use fred::types::config::TlsConfig;
use fred::types::{ClusterHash, CustomCommand};

use super::{ConnectError, settings};
use crate::config::{RedisConfig, Topology};

const PAUSE: Duration = Duration::from_millis(500);

/// Asks the hosts in turn until one answers.
pub(super) async fn topology(
    config: &RedisConfig,
    tls: Option<&TlsConfig>,
) -> Result<Topology, ConnectError> {
    let mut told = String::new();
    loop {
        for host in &config.targets.hosts {
            match ask(config, host, tls).await {
                Ok(info) => return judge(&info, config.targets.hosts.len()),
                Err(error) => {
                    let reason = error.to_string();
                    if reason != told {
                        tracing::warn!(redis.host = %host.0, redis.port = host.1, %reason, "redis does not answer yet");
                        told = reason;
                    }
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(
    config: &RedisConfig,
    host: &(String, u16),
    tls: Option<&TlsConfig>,
) -> Result<String, fred::error::Error> {
    let client = settings::probe(config, host, tls);
    let task = client.init().await?;
    let command = CustomCommand::new_static("INFO", ClusterHash::Random, false);
    // No section: the servers that know only one at a time are still in use.
    let info: Result<String, _> = client.custom::<String, &str>(command, vec![]).await;
    task.abort();
    info
}

fn judge(info: &str, hosts: usize) -> Result<Topology, ConnectError> {
    let value = |name: &str| {
        (info.lines()).find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    if value("redis_mode") == Some("sentinel") {
        return Err(ConnectError::Options(
            "UNDERSTUDY_REDIS_URL points at a Sentinel; set UNDERSTUDY_REDIS_MODE=sentinel"
                .to_owned(),
        ));
    }
    if value("cluster_enabled") == Some("1") {
        return Ok(Topology::Cluster);
    }
    if hosts > 1 {
        return Err(ConnectError::Options(
            "UNDERSTUDY_REDIS_URL names several hosts, but the first that answers is not part of a Cluster".to_owned(),
        ));
    }
    Ok(Topology::Standalone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k2_the_kind_of_server_is_read_from_its_own_words() {
        assert_eq!(
            judge("redis_mode:standalone\r\ncluster_enabled:0\r\n", 1).unwrap(),
            Topology::Standalone
        );
        assert_eq!(
            judge("redis_mode:cluster\r\ncluster_enabled:1\r\n", 3).unwrap(),
            Topology::Cluster
        );
        for (info, hosts, named) in [
            ("redis_mode:sentinel\r\n", 1, "REDIS_MODE=sentinel"),
            ("redis_mode:standalone\r\ncluster_enabled:0\r\n", 2, "several hosts"),
        ] {
            let error = judge(info, hosts).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
