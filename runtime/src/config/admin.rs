//! The administration listener: `ADMIN_*`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::reader::Reader;
use crate::secret::Secret;

/// The administration listener. At least one token is there unless it listens on loopback only.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// `ADMIN_BIND`: where it listens; none when it is `off`.
    pub bind: Option<SocketAddr>,
    /// `ADMIN_TOKEN`: may do everything.
    pub token: Option<Secret<String>>,
    /// `ADMIN_OPERATOR_TOKEN`: may run the node.
    pub operator_token: Option<Secret<String>>,
    /// `ADMIN_VIEWER_TOKEN`: may look.
    pub viewer_token: Option<Secret<String>>,
    /// `ADMIN_AUDIT_DAYS`: how long entries of the audit log are kept.
    pub audit_keep: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    bind: Option<String>,
    token: Option<String>,
    operator_token: Option<String>,
    viewer_token: Option<String>,
    audit_days: Option<String>,
}

impl AdminConfig {
    pub(super) fn read(read: &mut Reader) -> Self {
        let raw: Raw = read.section("ADMIN_");
        Self {
            bind: read.parsed(
                "UNDERSTUDY_ADMIN_BIND",
                raw.bind.as_deref(),
                "an address and a port, such as 127.0.0.1:9090, or off",
                |text| {
                    if text == "off" { Some(None) } else { text.parse().ok().map(Some) }
                },
            ),
            token: token(read, "UNDERSTUDY_ADMIN_TOKEN", raw.token),
            operator_token: token(read, "UNDERSTUDY_ADMIN_OPERATOR_TOKEN", raw.operator_token),
            viewer_token: token(read, "UNDERSTUDY_ADMIN_VIEWER_TOKEN", raw.viewer_token),
            audit_keep: Duration::from_hours(
                24 * read.number::<u64>(
                    "UNDERSTUDY_ADMIN_AUDIT_DAYS",
                    raw.audit_days.as_deref(),
                    1..=36_500,
                ),
            ),
        }
    }

    /// Returns each token that is set, with its variable.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("UNDERSTUDY_ADMIN_TOKEN", &self.token),
            ("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", &self.operator_token),
            ("UNDERSTUDY_ADMIN_VIEWER_TOKEN", &self.viewer_token),
        ]
        .into_iter()
        .filter_map(|(name, token)| Some((name, token.as_ref()?.expose().as_str())))
    }
}

fn token(read: &mut Reader, name: &'static str, given: Option<String>) -> Option<Secret<String>> {
    // Anything else could not be sent in a header.
    if given.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
        read.problem(name, "must consist of printable ASCII characters without blanks");
    }
    if given.as_ref().is_some_and(|token| token.len() < 16) {
        read.warn(format!("{name} is short; 16 characters or more cannot be guessed"));
    }
    read.secret(name, given)
}
