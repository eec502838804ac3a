//! Names that are not options but may be met: from elsewhere, from Kubernetes, from other products, mistyped.

use super::registry::{PREFIX, registry};

/// Names that platforms and other products use, and the option each is taken for, with a warning.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("CLUSTER_ENABLED", "UNDERSTUDY_CLUSTER_ENABLED"),
    ("REDIS_URL", "UNDERSTUDY_REDIS_URL"),
    ("REDIS_OPTIONS", "UNDERSTUDY_REDIS_OPTIONS"),
    ("DATABASE_URL", "UNDERSTUDY_DATABASE_URL"),
    ("EXTERNAL_URL", "UNDERSTUDY_HTTP_EXTERNAL_URL"),
    ("PORT", "UNDERSTUDY_HTTP_BIND"),
];

/// Names that were given up, or that people bring from other products, with what to use instead.
const REPLACED: &[(&str, &str)] = &[
    ("ADMIN_PASSWORD", "UNDERSTUDY_ADMIN_TOKEN"),
    ("ADMIN_PORT", "UNDERSTUDY_ADMIN_BIND"),
    ("CLUSTER_NODE_ID", "UNDERSTUDY_NODE_ID"),
    ("DATABASE_POOL_SIZE", "UNDERSTUDY_DATABASE_POOL_MAX"),
    ("DB_URL", "UNDERSTUDY_DATABASE_URL"),
    ("EXTERNAL_URL", "UNDERSTUDY_HTTP_EXTERNAL_URL"),
    ("HTTP_PORT", "UNDERSTUDY_HTTP_BIND"),
    ("HTTP_REVERSE_PROXY", "UNDERSTUDY_HTTP_TRUSTED_PROXIES"),
    ("JOBS_HISTORY_DAYS", "UNDERSTUDY_JOBS_HISTORY_S"),
    ("LEADER_TIME_TO_LIVE_MINUTES", "UNDERSTUDY_LEADER_TTL_MS"),
    ("LEADER_TTL_MINUTES", "UNDERSTUDY_LEADER_TTL_MS"),
    ("LISTEN", "UNDERSTUDY_HTTP_BIND"),
    ("LOG_LEVEL", "UNDERSTUDY_LOG_FILTER"),
    ("NODE_PRIMARY_LEADER", "UNDERSTUDY_LEADER_PRIORITY"),
    ("PORT", "UNDERSTUDY_HTTP_BIND"),
    ("REDIS_HOST", "UNDERSTUDY_REDIS_URL"),
    ("REDIS_PORT", "UNDERSTUDY_REDIS_URL"),
    ("REDIS_SCOPE", "UNDERSTUDY_CLUSTER_NAME"),
    ("REDIS_USE_SSL", "UNDERSTUDY_REDIS_TLS"),
    ("SERVER_ID", "UNDERSTUDY_NODE_ID"),
    ("SESSION_SECRETS", "UNDERSTUDY_SESSION_SECRET"),
    ("SESSION_TIMEOUT", "UNDERSTUDY_SESSION_IDLE_S"),
    ("TRUST_PROXY", "UNDERSTUDY_HTTP_TRUSTED_PROXIES"),
];

/// What the command line of the same program reads: where a node is, and as whom it is asked. Nodes pass them over, so
/// that both may be set in one environment.
const OF_COMMAND_LINE: [&str; 3] =
    ["UNDERSTUDY_ADMIN_URL", "UNDERSTUDY_TOKEN", "UNDERSTUDY_TOKEN_FILE"];

/// Tells whether a variable belongs to the command line.
pub(super) fn is_of_command_line(name: &str) -> bool {
    OF_COMMAND_LINE.contains(&name)
}

/// Returns what to use instead of a name that was given up or comes from another product.
pub(super) fn replacement(name: &str) -> Option<&'static str> {
    let bare = name.strip_prefix(PREFIX)?;
    REPLACED.iter().find(|(old, _)| *old == bare).map(|(_, new)| *new)
}

/// Tells whether Kubernetes put a variable there: for a Service called `understudy-redis` it sets
/// `UNDERSTUDY_REDIS_PORT=tcp://10.0.0.11:6379`, `..._SERVICE_HOST`, `..._PORT_6379_TCP_ADDR` and more.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let is_address =
        value.starts_with("tcp://") || value.starts_with("udp://") || value.starts_with("sctp://");
    if name.ends_with("_PORT") && is_address {
        return true;
    }
    if name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") {
        return true;
    }
    name.rsplit_once("_PORT_").is_some_and(|(_, rest)| is_port_and_protocol(rest))
        || name.strip_suffix("_PORT").is_some_and(|name| {
            name.rsplit_once("_PORT_").is_some_and(|(_, rest)| is_port_and_protocol(rest))
        })
}

/// `6379_TCP`, `6379_TCP_ADDR`, `6379_TCP_PROTO`
fn is_port_and_protocol(text: &str) -> bool {
    let mut parts = text.split('_');
    parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
        && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
        && matches!(parts.next(), None | Some("ADDR" | "PROTO"))
}

/// Returns the option whose name looks most like this one, if any is near enough to be meant.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let limit = (name.len() - PREFIX.len()).div_ceil(4).min(4);
    let name = name.to_ascii_uppercase();
    registry()
        .iter()
        .map(|variable| (distance(&name, variable.name), variable.name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Counts the letters to insert, drop, change or swap with their neighbour that make `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::registry;
    use super::*;

    #[test]
    fn a_mistyped_name_finds_the_one_that_was_meant() {
        for (typed, meant) in [
            ("UNDERSTUDY_REDSI_URL", Some("UNDERSTUDY_REDIS_URL")),
            ("UNDERSTUDY_SESSION_IDLE", Some("UNDERSTUDY_SESSION_IDLE_S")),
            ("UNDERSTUDY_http_bind", Some("UNDERSTUDY_HTTP_BIND")),
            ("UNDERSTUDY_CLUSTER_ENABLE", Some("UNDERSTUDY_CLUSTER_ENABLED")),
            ("UNDERSTUDY_COLOUR_OF_THE_SKY", None),
            ("UNDERSTUDY_", None),
        ] {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
    }

    #[test]
    fn every_alias_and_replacement_leads_to_an_option() {
        for (old, new) in ALIASES.iter().chain(REPLACED) {
            assert!(registry::find(new).is_some(), "{old} leads to {new}");
            let full = format!("{PREFIX}{old}");
            assert!(
                replacement(&full).is_none() || registry::find(&full).is_none(),
                "{full} is an option"
            );
        }
    }

    #[test]
    fn what_the_command_line_reads_is_no_option_of_a_node() {
        for name in OF_COMMAND_LINE {
            assert!(registry::find(name).is_none() && replacement(name).is_none(), "{name}");
            assert!(is_of_command_line(name));
        }
        assert!(!is_of_command_line("UNDERSTUDY_ADMIN_TOKEN"));
    }

    #[test]
    fn what_kubernetes_sets_is_told_from_mistakes() {
        for (name, value) in [
            ("UNDERSTUDY_PORT", "tcp://10.0.0.11:80"),
            ("UNDERSTUDY_REDIS_PORT", "tcp://10.0.0.11:6379"),
            ("UNDERSTUDY_REDIS_SERVICE_HOST", "10.0.0.11"),
            ("UNDERSTUDY_REDIS_SERVICE_PORT", "6379"),
            ("UNDERSTUDY_REDIS_SERVICE_PORT_CLIENT", "6379"),
            ("UNDERSTUDY_REDIS_PORT_6379_TCP", "tcp://10.0.0.11:6379"),
            ("UNDERSTUDY_REDIS_PORT_6379_TCP_PROTO", "tcp"),
            ("UNDERSTUDY_REDIS_PORT_6379_TCP_PORT", "6379"),
            ("UNDERSTUDY_REDIS_PORT_6379_TCP_ADDR", "10.0.0.11"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
        for (name, value) in [
            ("UNDERSTUDY_REDIS_PORT", "6379"),
            ("UNDERSTUDY_REDIS_HOST", "10.0.0.11"),
            ("UNDERSTUDY_REDIS_PORT_TCP", "x"),
        ] {
            assert!(!is_service_link(name, value), "{name}");
        }
    }
}
